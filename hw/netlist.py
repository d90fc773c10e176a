"""What a mapped netlist takes of a device, in all and by block of the accelerator, read from the JSON of Yosys."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """Cells of a device.

    `luts` compute; `memory_luts` are memory (distributed RAM, shift registers). `carries` are carry cells: of 2 bits on
    ECP5, 4 on 7-series, 8 on UltraScale+. `multipliers` are DSP blocks. `block_rams` are block memories of 18 kbit; one
    of 36 kbit counts as two.
    """

    luts: int = 0
    carries: int = 0
    ffs: int = 0
    multipliers: int = 0
    block_rams: int = 0
    memory_luts: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(getattr(self, x.name) + getattr(other, x.name) for x in fields(self)))

    def __bool__(self) -> bool:
        return self != Resources()


Weights = Mapping[str, Resources]
"""What one cell of a type counts as."""

_LUT, _FF, _CARRY = Resources(luts=1), Resources(ffs=1), Resources(carries=1)

ECP5: Weights = {
    "LUT4": _LUT,
    "CCU2C": _CARRY,
    "TRELLIS_FF": _FF,
    "MULT18X18D": Resources(multipliers=1),
    "DP16KD": Resources(block_rams=1),
    "PDPW16KD": Resources(block_rams=1),
    "TRELLIS_DPR16X4": Resources(memory_luts=4),
}

XILINX: Weights = {
    **dict.fromkeys((f"LUT{inputs}" for inputs in range(1, 7)), _LUT),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), _FF),
    **dict.fromkeys(("CARRY4", "CARRY8"), _CARRY),
    **dict.fromkeys(("DSP48E1", "DSP48E2"), Resources(multipliers=1)),
    **dict.fromkeys(("RAMB18E1", "RAMB18E2"), Resources(block_rams=1)),
    **dict.fromkeys(("RAMB36E1", "RAMB36E2"), Resources(block_rams=2)),
    **dict.fromkeys(("SRL16E", "SRLC32E"), Resources(memory_luts=1)),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D"), Resources(memory_luts=2)),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D"), Resources(memory_luts=4)),
    **dict.fromkeys(("RAM32M16", "RAM64M8", "RAM256X1D"), Resources(memory_luts=8)),
}

FREE = re.compile(r"PFUMX|L6MUX21|MUXF[789]|INV|[IO]?BUFG?|GND|VCC|\$scopeinfo")
"""Parts of a LUT's or a slice's surroundings, pads, clock buffers: nothing that runs out."""


@dataclass(frozen=True)
class Block:
    """A part of the accelerator: an instance below the top, those of the engine one by one."""

    name: str
    resources: Resources


@dataclass(frozen=True)
class Netlist:
    """Counts of a mapped design. `others` are cells that no field of `Resources` stands for, by type."""

    blocks: tuple[Block, ...]
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def resources(self) -> Resources:
        """Of all blocks."""
        return sum((block.resources for block in self.blocks), Resources())


def read(file: Path, top: str, weights: Weights, instance: str) -> Netlist:
    """The cells of module `top` in a netlist of Yosys that belong to `instance`; what is outside of it is left out.

    A cell belongs to the instance whose signal it is named after. Raises ValueError for a file that is no such netlist.
    """
    try:
        cells = json.loads(file.read_text())["modules"][top]["cells"]
    except (KeyError, ValueError) as error:
        raise ValueError(f"'{file}' is not a netlist of '{top}'") from error
    blocks: dict[str, Resources] = {}
    others: Counter[str] = Counter()
    for name, cell in cells.items():
        path = name.lstrip("\\").split(".")
        if path[0] != instance:
            continue
        kind = cell["type"]
        if kind in weights:
            owner = block(path[1:])
            blocks[owner] = blocks.get(owner, Resources()) + weights[kind]
        elif not FREE.fullmatch(kind):
            others[kind] += 1
    return Netlist(tuple(Block(name, blocks[name]) for name in sorted(blocks)), dict(sorted(others.items())))


def block(path: list[str]) -> str:
    """The block of a name `path` below the accelerator: "u_stage0", "u_engine.u_predict", or "" for the top itself.

    The last component is the cell itself.
    """
    instances = [part for part in path[:-1] if part.startswith("u_")]
    depth = 2 if instances[:1] == ["u_engine"] else 1
    return ".".join(instances[:depth])
