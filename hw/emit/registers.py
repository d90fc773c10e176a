"""The control port: SystemRDL from the design, PeakRDL's register block from that, and a module with plain ports."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from peakrdl_regblock import RegblockExporter
from peakrdl_regblock.cpuif.passthrough import PassthroughCpuif
from peakrdl_regblock.udps import ALL_UDPS
from systemrdl.compiler import RDLCompiler

from hw.design import Design, DesignError
from hw.registers import CLASSES_AT, ERRORS, LAYER_STRIDE, LAYERS_AT

VERSION = 1  # of the register map
ADDRESS_BITS = 12
LAYERS_MAX = ((1 << ADDRESS_BITS) - LAYERS_AT) // LAYER_STRIDE
FILTERS_MAX = (1 << 16) - 1  # what KEEP can say


@dataclass(frozen=True)
class LayerRegisters:
    """What the templates say about one tail layer."""

    name: str
    address: int
    filters: int
    keep: int
    mode: int
    threshold: int  # as an unsigned number


def registers(design: Design) -> dict[str, str]:
    """The sources of module ``<design.name>_registers``, as texts by file name, in an order that tools can read.

    The text depends on the design alone. Raises `DesignError` for a tail that the register map cannot hold.
    """
    block = f"{design.name}_registers_block"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / f"{block}.rdl"
        source.write_text(description(design))
        compiler = RDLCompiler()
        for definition in ALL_UDPS:
            compiler.register_udp(definition)
        compiler.compile_file(str(source))
        RegblockExporter().export(
            compiler.elaborate().top,
            str(folder),
            cpuif_cls=PassthroughCpuif,  # pen_axil is the port: between its registers, decoding fits into a cycle
            retime_read_fanin=True,  # and so does reading
            address_width=ADDRESS_BITS,
            reuse_hwif_typedefs=False,  # struct names by path, not by a hash
            default_reset_activelow=True,
            err_if_bad_addr=True,
        )
        generated = {path: (folder / path).read_text() for path in (f"{block}_pkg.sv", f"{block}.sv")}
    return {**generated, f"{design.name}_registers.sv": _render("registers.sv.j2", design)}


def description(design: Design) -> str:
    """The register map of `design` in SystemRDL."""
    return _render("registers.rdl.j2", design)


def _render(template: str, design: Design) -> str:
    """The template `template` of hw/regs, filled in for `design`."""
    if len(design.tail) > LAYERS_MAX:
        raise DesignError(
            f"design '{design.name}': {len(design.tail)} layers on the engine; accepted: up to {LAYERS_MAX}"
        )
    for layer in design.tail:
        if layer.filters > FILTERS_MAX:
            raise DesignError(f"layer '{layer.name}': {layer.filters} filters; accepted: up to {FILTERS_MAX}")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - RTL
    text = (files("hw") / "regs" / template).read_text()
    return environment.from_string(text).render(
        name=design.name,
        version=VERSION,
        errors=[str(flag.name).lower() for flag in ERRORS],
        bus_bytes=design.engine.bus_bytes,
        timeout=design.engine.timeout,
        classes=design.classes,
        class_words=[min(32, design.classes - first) for first in range(0, design.classes, 32)],
        classes_at=CLASSES_AT,
        fingerprint_low=design.fingerprint & 0xFFFF_FFFF,
        fingerprint_high=design.fingerprint >> 32,
        layers=[
            LayerRegisters(
                name="".join(c if c.isprintable() and c not in '"\\' else "_" for c in layer.name),  # inside quotes
                address=LAYERS_AT + index * LAYER_STRIDE,
                filters=layer.filters,
                keep=layer.selection.keep,
                mode=layer.selection.mode.code,
                threshold=layer.selection.threshold & 0xFFFF_FFFF,
            )
            for index, layer in enumerate(design.tail)
        ],
    )
