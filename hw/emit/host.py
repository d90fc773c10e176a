"""What a host needs to know of an accelerator, as JSON: formats, layers, and registers, read out of their SystemRDL.

`sw.driver` reads it; nothing else of Penstock has to be installed there.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from systemrdl.compiler import RDLCompiler
from systemrdl.node import FieldNode, RegNode

from hw.design import Design
from hw.emit.registers import description

VERSION = 1  # of this description


def host_description(design: Design) -> str:
    """The content of ``driver.json``; the same design gives the same text."""
    content = {
        "version": VERSION,
        "design": design.name,
        "fingerprint": f"{design.fingerprint:016x}",
        "input": {
            "channels": design.input.channels,
            "height": design.input.height,
            "width": design.input.width,
            "bits": design.input_format.bits,
            "signed": design.input_format.signed,
            "exponent": design.input_format.exponent,
        },
        "outputs": {
            "number": design.outputs,
            "bytes": 4 if design.tail[-1].accumulator_bits <= 32 else 8,
            "exponent": design.output_format.exponent,
        },
        "bus_bytes": design.engine.bus_bytes,
        "classes": design.classes,
        "layers": [
            {"name": layer.name, "filters": layer.filters, "lazy": layer.lazy, "pinned": len(layer.pinned)}
            for layer in design.tail
        ],
        "registers": _registers(design),
    }
    return json.dumps(content, indent=1) + "\n"


def _registers(design: Design) -> dict[str, dict[str, object]]:
    """Address of every register by path ("CONTROL", "layer0.KEEP"), and the lowest and highest bit of its fields."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "registers.rdl"
        source.write_text(description(design))
        compiler = RDLCompiler()
        compiler.compile_file(str(source))
        block = compiler.elaborate().top
    result: dict[str, dict[str, object]] = {}
    for node in block.descendants(unroll=True):
        if isinstance(node, RegNode):
            fields = {
                field.inst_name: [field.low, field.high] for field in node.fields() if isinstance(field, FieldNode)
            }
            result[node.get_rel_path(block)] = {"address": node.absolute_address, "fields": fields}
    return result
