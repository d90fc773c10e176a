"""The resource model: multipliers and memories of an accelerator, read from its `Design` before any synthesis.

Whether a memory becomes block RAM, LUT RAM or logic is a matter of the tool's costs; here they are those of Yosys for
ECP5, so that synthesis can be held to the model (tests/test_synthesis.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import or_

from hw.design import Design
from hw.emit.bits import Table, clog2, index_bits
from hw.emit.geometry import QUARTERS
from hw.emit.program import Program
from hw.emit.stage import Stage, head_stages

MULTIPLIER_BITS = 18  # of each operand of a DSP block


class MemoryKind(StrEnum):
    """What a memory's module asks for."""

    RAM = "ram"
    """pen_ram: written, read a cycle later; block RAM, or LUT RAM where that is cheaper."""
    ROM = "rom"
    """pen_rom: a table; block RAM, or logic."""
    LUT_RAM = "lut_ram"
    """pen_lutram and the queues: read in the same cycle."""


SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))  # width, depth of a block RAM of 18 kbit
BLOCK_COST, LUT_RAM_COST = 128, 4  # of Yosys: a block; LUT RAM of 16 words of 4 bits
ROM_BITS_PER_COST = 16  # and of a table in logic


@dataclass(frozen=True)
class Memory:
    """`depth` words of `width` bits (of a table: those that vary); `name` is the instance's path in the accelerator."""

    name: str
    width: int
    depth: int
    kind: MemoryKind

    @property
    def bits(self) -> int:
        """Width x depth."""
        return self.width * self.depth

    @property
    def block_rams(self) -> int:
        """Block RAMs of 18 kbit that it becomes; 0 where something else is cheaper."""
        blocks = min(-(-self.width // width) * -(-self.depth // depth) for width, depth in SHAPES)
        if self.kind is MemoryKind.RAM:
            # LUT RAM also needs multiplexers where it is deeper than 16 words, which decides where costs are equal.
            elsewhere = LUT_RAM_COST * -(-self.width // 4) * -(-self.depth // 16) + (self.depth > 16)
        elif self.kind is MemoryKind.ROM:
            elsewhere = -(-self.bits // ROM_BITS_PER_COST)
        else:
            elsewhere = 0
        return blocks if elsewhere > blocks * BLOCK_COST else 0


@dataclass(frozen=True)
class Estimate:
    """What the design takes: multipliers, and memories that are instances of the library's memory modules."""

    multipliers: int
    memories: tuple[Memory, ...]

    @property
    def memory_bits(self) -> int:
        """Of all memories."""
        return sum(memory.bits for memory in self.memories)

    @property
    def block_rams(self) -> int:
        """Of 18 kbit."""
        return sum(memory.block_rams for memory in self.memories)


def resources(design: Design) -> Estimate:
    """The multipliers and memories of `design`."""
    program, stages = Program(design), head_stages(design)
    memories = [memory for index, stage in enumerate(stages) for memory in _stage(stage, f"u_stage{index}")]
    multipliers = sum(stage.lane_filters * stage.geometry.pixels for stage in stages)
    return Estimate(multipliers + _engine_multipliers(program), (*memories, *_engine(program)))


def _engine_multipliers(program: Program) -> int:
    """Of the array, of the predictor (wide strengths take two blocks), and one for the address of a filter's record.

    Another addresses the tail's input where a channel's words are no power of two.
    """
    words, channels = program.geometries[0].words, program.steps[0].input.channels
    operand = max(program.strength_bits + 1, program.hidden_bits) if program.hidden_words else program.strength_bits
    blocks = -(-operand // MULTIPLIER_BITS)
    spread = words & (words - 1) != 0 and channels > 2
    return program.design.engine.lanes.multipliers + program.predict_lanes * blocks + 1 + int(spread)


def _engine(program: Program) -> list[Memory]:
    engine, steps = program.design.engine, program.steps
    pixels, lanes = program.pixels, engine.lanes.filters
    in_words = program.geometries[0].words * steps[0].input.channels
    in_channels = index_bits(steps[0].input.channels)
    channels = index_bits(max(program.channel_sizes))
    run_bits = clog2(program.record_words) + 1
    tag_bits = 1 + index_bits(lanes) + index_bits(program.record_words)
    score_words = max(1, *(program.score_words(step) for step in steps)) + program.hidden_words
    entry_bits = program.word_bits + program.byte_bits + program.max_taps
    ram, lut_ram = MemoryKind.RAM, MemoryKind.LUT_RAM
    tables = {
        "ProgramFile": "u_program",
        "TapFile": "u_datapath.u_window.u_taps",
        "ChannelFile": "u_present.u_channels",
        "FilterFile": "u_fetch.u_filters",
        "PredictFile": "u_predict.u_table",
        "BiasFile": "u_predict.u_bias",
        "BarredFile": "u_barred",
        "OrderFile": "u_order",
        "PinnedFile": "u_bank.u_pinned",
    }
    found = [
        *(_rom(tables[name], table) for name, table in program.tables.items()),
        *_map_ram("u_in.u_map", pixels, 2 * in_words),
        Memory("u_in.u_strengths", program.strength_bits, 2 << in_channels, ram),
        Memory("u_in.u_strength.u_sums", program.strength_bits, steps[0].input.channels, lut_ram),
        *_map_ram("u_maps", pixels, program.map_words),
        Memory("gen_store.u_store", program.strength_bits, _store_words(program), ram),
        *(
            Memory(f"gen_tape.u_tape.gen_lane[{lane}].u_ram", 8 * pixels, program.maps.tape_entries, ram)
            for lane in range(lanes)
        ),
        Memory("u_strength.u_sums", program.strength_bits, lanes, lut_ram),
        Memory("u_events", program.index_bits + program.strength_bits, 2 * lanes + 3, lut_ram),
        Memory("u_present.u_list", entry_bits, 2 << channels, ram),
        Memory("u_present.u_runs", 2 * run_bits, 2 << channels, ram),
        Memory("u_predict.u_scores", program.predict_lanes * program.score_bits, score_words, ram),
        Memory("u_chosen", program.index_bits, max(program.filter_sizes) - 1, lut_ram),
        Memory("u_read.u_open", tag_bits + run_bits, 4 * engine.outstanding + 15, lut_ram),
        *(
            Memory(f"u_bank.gen_lane[{lane}].u_ram", 8 * engine.bus_bytes, 2 * program.record_words, ram)
            for lane in range(lanes)
        ),
        *_datapath(
            *(lanes, pixels, pixels, 1, program.pixel_bits, program.max_taps, _widest(program)),
            parts=QUARTERS if program.maps.quarters else 1,
        ),
    ]
    return [Memory(f"u_engine.{m.name}", m.width, m.depth, m.kind) for m in found if m.depth > 0]


def _store_words(program: Program) -> int:
    """Strengths that are kept of the map memory's regions."""
    return program.maps.regions << index_bits(max(program.filter_sizes)) if program.maps.replays else 0


def _widest(program: Program) -> int:
    return max(step.output.width for step in program.steps)


def _stage(stage: Stage, name: str) -> list[Memory]:
    geometry = stage.geometry
    tables = {
        "TapFile": "u_datapath.u_window.u_taps",
        "ChannelFile": "u_channels",
        "WeightFile": "u_weights",
        "FilterFile": "u_filters",
    }
    found = [
        *(_rom(tables[file], table) for file, table in stage.tables.items()),
        *_map_ram("u_map", geometry.pixels, stage.layer.input.channels * stage.ring_words),
        *_datapath(
            stage.lane_filters,
            geometry.pixels,
            stage.out_pixels,
            stage.groups,
            geometry.pixel_bits,
            len(geometry.taps),
            stage.layer.output.width,
        ),
    ]
    return [Memory(f"{name}.{m.name}", m.width, m.depth, m.kind) for m in found]


def _rom(name: str, table: Table) -> Memory:
    varying = reduce(or_, (word ^ table.words[0] for word in table.words), 0).bit_count()
    return Memory(name, varying, table.depth, MemoryKind.ROM)


def _map_ram(name: str, pixels: int, words: int) -> list[Memory]:
    return [Memory(f"{name}.{bank}", 8 * pixels, -(-words // 2), MemoryKind.RAM) for bank in ("u_even", "u_odd")]


def _datapath(
    filters: int, pixels: int, out_pixels: int, groups: int, pixel_bits: int, taps: int, pool_width: int, parts: int = 1
) -> list[Memory]:
    kind = MemoryKind.LUT_RAM
    columns = groups << index_bits(pool_width)
    lookup = Memory("u_datapath.u_window.u_lookup", pixels + pixel_bits, 2 << index_bits(taps), kind)
    drains = [f"u_datapath.u_drain.gen_pool[{f}]" for f in range(filters)]
    return [
        lookup,
        *(Memory(f"{drain}.u_pool", 8, columns, kind) for drain in drains),
        *(Memory(f"{drain}.u_word", 8 * out_pixels, groups * parts, kind) for drain in drains),
    ]
