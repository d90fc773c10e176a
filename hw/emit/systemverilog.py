"""Writes an accelerator: library modules, generated top and registers, tables, weight image, manifest."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from hw import image
from hw.design import Design
from hw.emit.bits import index_bits
from hw.emit.host import host_description
from hw.emit.program import Program
from hw.emit.project import projects
from hw.emit.registers import registers
from hw.emit.stage import Stage, head_stages


@dataclass(frozen=True)
class Link:
    """A row stream: `channels` channels of a map in `words` words of `pixels` pixels."""

    channels: int
    words: int
    pixels: int


def emit(design: Design, folder: Path) -> None:
    """Write `design` to `folder`, replacing what an earlier call left there; nothing half-written stays behind.

    The folder holds then ``rtl/*.sv``, ``rtl/mem/*.hex``, ``rtl/files.f`` (sources in an order that every tool reads,
    relative to rtl/), projects for Vivado (``rtl/vivado.tcl``) and FuseSoC (``rtl/<name>.core``), ``weights.bin``,
    ``manifest.json`` and ``driver.json`` (for the host). The same design gives the same bytes.
    """
    texts = sources(design)
    weights = image.build(design)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".emit-") as name:
        aside = Path(name)
        for path, text in texts.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(text)
        (aside / "weights.bin").write_bytes(weights)
        (aside / "manifest.json").write_text(image.manifest(design, weights).to_json())
        (aside / "driver.json").write_text(host_description(design))
        if (folder / "rtl").exists():
            shutil.rmtree(folder / "rtl")
        for entry in ("rtl", "weights.bin", "manifest.json", "driver.json"):
            (aside / entry).replace(folder / entry)


def sources(design: Design) -> dict[str, str]:
    """Every text of the accelerator's rtl folder, by path below `folder` of `emit`."""
    stages, program = head_stages(design), Program(design)
    tables = [t for stage in stages for t in stage.tables.values()] + list(program.tables.values())
    library = {
        entry.name: entry.read_text()
        for entry in sorted((files("hw") / "rtl").iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sv")
    }
    generated = registers(design) | {
        f"{design.name}_probed.sv": _top(design, stages, program, probed=True),
        f"{design.name}.sv": _top(design, stages, program, probed=False),
    }
    texts = {f"rtl/{name}": text for name, text in {**library, **generated}.items()}
    texts |= {f"rtl/mem/{t.name}.hex": t.hexadecimal() for t in tables}
    names = (*library, *generated)
    texts["rtl/files.f"] = "".join(f"{name}\n" for name in names)
    synthesised = [name for name in names if name != f"{design.name}_probed.sv"]
    beside = projects(design.name, synthesised, [f"mem/{t.name}.hex" for t in tables])
    return texts | {f"rtl/{name}": text for name, text in beside.items()}


def _top(design: Design, stages: tuple[Stage, ...], program: Program, *, probed: bool) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - RTL
    template = environment.from_string((files("hw") / "emit" / "top.sv.j2").read_text())
    geometries = [*(stage.geometry for stage in stages), program.geometries[0]]
    return template.render(
        name=design.name,
        probed=probed,
        index_bits=index_bits,
        channels=design.input.channels,
        frame_pixels=design.input.pixels,
        links=[Link(g.layer.input.channels, g.words, g.pixels) for g in geometries],
        stages=stages,
        program=program,
        steps=len(design.tail),
        classes=design.classes,
        step_names=[layer.name for layer in design.tail],
        acc_bits=program.acc_bits,
        logit_bits=32 if program.acc_bits <= 32 else 64,
        bus_bytes=design.engine.bus_bytes,
        predict_lanes=design.engine.predictor_lanes,
    )
