"""Boards, and the engine and head that suit a network on one: as fast as fits, or as small as a target allows.

The choice is made at the keep ratios that are expected: head stages are made just fast enough to keep pace with the
engine when it computes its usual share of filters, so that no multiplier waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np
from numpy.typing import NDArray

from flow.errors import UserError
from hw.design import (
    MAX_MULTIPLIERS,
    ClassPredictor,
    Design,
    IntArray,
    Lanes,
    LinearPredictor,
    LowRankPredictor,
    PathPredictor,
    Predictor,
    Source,
)
from hw.emit.geometry import Geometry
from hw.emit.maps import Maps
from hw.image import layout
from hw.resources import Estimate, resources
from sim.cycles import CycleModel, Masks, Walk
from sim.memory import Dram, dram

PIXELS = (1, 2, 4, 8, 16, 32, 64)
USABLE = 0.9  # of multipliers and memories; beyond that placement becomes slow, and clocks fall
RAM36, ULTRA = 36 * 1024, 288 * 1024  # bits of a block


@dataclass(frozen=True)
class Board:
    """What an accelerator finds there: `multipliers`, `memory_bits` on chip, a clock in MHz that is assumed, and
    external memory by its name in `sim.memory.DRAMS`, of which a port of `port_bytes` can be had.
    """

    name: str
    part: str
    clock_mhz: float
    multipliers: int
    memory_bits: int
    memory: str
    port_bytes: int

    @property
    def dram(self) -> Dram:
        """The external memory beside the accelerator's clock."""
        return dram(self.memory, self.clock_mhz)

    @property
    def bandwidth(self) -> float:
        """Bytes per second through the port, at best."""
        return min(self.dram.bandwidth, self.port_bytes * self.clock_mhz * 1e6)

    def shares(self, design: Design) -> dict[str, float]:
        """The parts of the board's multipliers and memory that `design` takes; up to `USABLE` of each fit."""
        needs = resources(design)
        return {
            "multipliers": needs.multipliers / self.multipliers,
            "memory": needs.memory_bits / self.memory_bits,
        }

    def __str__(self) -> str:
        return f"{self.name} ({self.part})"


# Counts of multipliers and memories are those of the parts' data sheets (Lattice FPGA-DS-02012, AMD DS190, DS987, DS891
# and DS965); UltraRAM counts as memory. Clocks are assumed: none of these has run on a board yet.
_BOARDS = (
    Board("ecp5-85f", "LFE5U-85F with SDRAM x16", 70, 156, 208 * 18 * 1024, "SDRAM-133 x16", 4),
    Board("zynq-7020", "XC7Z020", 100, 220, 140 * RAM36, "DDR3-1066 x32", 8),
    Board("kv260", "XCK26", 200, 1248, 144 * RAM36 + 64 * ULTRA, "DDR4-2400 x64", 16),
    Board("zcu104", "XCZU7EV", 200, 1728, 312 * RAM36 + 96 * ULTRA, "DDR4-2400 x64", 16),
    Board("zcu102", "XCZU9EG", 200, 2520, 912 * RAM36, "DDR4-2400 x64", 16),
    Board("alveo-u50", "XCU50", 250, 5952, 1344 * RAM36 + 640 * ULTRA, "HBM2 x64", 32),
)
BOARDS = {board.name: board for board in _BOARDS}


def board(name: str) -> Board:
    """The board called `name`; UserError that lists the names."""
    if name not in BOARDS:
        raise UserError(f"no board '{name}'; accepted: {', '.join(BOARDS)}")
    return BOARDS[name]


# -- how long layers take, roughly -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Work:
    """A layer on an array of some width: a pass takes `steps` (windows,), and completes `words` (windows,) a filter."""

    steps: NDArray[np.float64]
    words: IntArray

    @staticmethod
    def of(geometry: Geometry, present: float) -> _Work:
        """With a share of the input's channels `present`."""
        walk = Walk.of(geometry, geometry.pixels)
        steps = np.maximum(1, walk.steps.sum(axis=1, dtype=np.int64) * present)[walk.window_class]
        return _Work(steps, np.diff(walk.first_word).astype(np.int64))

    def cycles(self, filters: float, lanes: int) -> float:
        """Of `filters` filters, `lanes` at a time: each pass works, or drains the one before."""
        groups = np.ceil(filters / lanes)
        return float(groups * np.maximum(self.steps, self.words * min(lanes, filters)).sum())


@dataclass(frozen=True, eq=False)
class Expected:
    """A design and what is expected of its lazy layers: `keep`, filters by layer name."""

    design: Design
    keep: Mapping[str, int]
    board: Board

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """Share of the channels that come into each layer of the tail."""
        kept = [self.keep.get(layer.name, layer.filters) / layer.filters for layer in self.design.tail]
        return (1.0, *kept[:-1])

    @cache  # noqa: B019 - lives as long as the choice
    def stage(self, index: int, pixels: int) -> _Work:
        """Head stage `index` with so many pixel lanes."""
        return _Work.of(Geometry(self.design.head[index], pixels), 1.0)

    @cache  # noqa: B019
    def step(self, index: int, pixels: int) -> _Work:
        """Layer `index` of the tail with so many pixel lanes."""
        quartered = Maps(self.design, pixels).reads_quarters(index)
        return _Work.of(Geometry(self.design.tail[index], pixels, quartered), self.shares[index])

    @cached_property
    def fetches(self) -> tuple[float, ...]:
        """Cycles that each layer's weights take on their way, at least."""
        per_cycle = self.board.bandwidth / (self.board.clock_mhz * 1e6)
        fetched = []
        for layer, share, record in zip(self.design.tail, self.shares, layout(self.design), strict=True):
            filters = self.keep.get(layer.name, layer.filters) - len(layer.pinned)
            fetched.append(max(0, filters) * record.stride * share / per_cycle)
        return tuple(fetched)

    def fits(self, design: Design) -> bool:
        """Whether the board has multipliers and memory for it."""
        if _array_multipliers(design) > USABLE * self.board.multipliers:
            return False
        needs = self._needs(design)
        limits = USABLE * self.board.multipliers, USABLE * self.board.memory_bits
        return needs.multipliers <= limits[0] and needs.memory_bits <= limits[1]

    def _needs(self, design: Design) -> Estimate:
        key = _lanes(design)
        if key not in self._known:
            self._known[key] = resources(design)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[Lanes | None, ...], Estimate]:
        return {}

    def engine_cycles(self, lanes: Lanes) -> float:
        """Of a frame on the engine."""
        return sum(
            max(self.step(i, lanes.pixels).cycles(self.keep.get(layer.name, layer.filters), lanes.filters), fetch)
            for i, (layer, fetch) in enumerate(zip(self.design.tail, self.fetches, strict=True))
        )

    def stage_cycles(self, design: Design) -> float:
        """Of a frame in the slowest head stage of `design`; 0 without a head."""
        stages = [(i, x.filters, x.lanes) for i, x in enumerate(design.head) if x.lanes is not None]
        return max((self.stage(i, lanes.pixels).cycles(n, lanes.filters) for i, n, lanes in stages), default=0.0)

    def smallest_stage(self, index: int, cycles: float) -> Lanes | None:
        """The fewest multipliers with which head stage `index` takes no more cycles for a frame."""
        layer, found = self.design.head[index], []
        for pixels in PIXELS:
            took = partial(self.stage(index, pixels).cycles, layer.filters)
            lanes = _least(took, cycles, min(layer.filters, MAX_MULTIPLIERS // pixels))
            if lanes is not None:
                found.append(Lanes(lanes, pixels))
        return min(found, key=lambda lanes: (lanes.multipliers, lanes.pixels), default=None)

    def engines(self, cycles: float) -> list[Lanes]:
        """For every width in pixels the fewest lanes with which the engine takes no more cycles for a frame.

        The fewest multipliers come first; more pixels and fewer filters want less memory for weights.
        """
        most, found = max(layer.filters for layer in self.design.tail), []
        for pixels in PIXELS:
            limit = min(most, MAX_MULTIPLIERS // pixels)
            lanes = _least(lambda n: self.engine_cycles(Lanes(n, pixels)), cycles, limit)  # noqa: B023 - called at once
            if lanes is not None:
                found.append(Lanes(lanes, pixels))
        return sorted(found, key=lambda lanes: (lanes.multipliers, lanes.pixels))

    def smallest(
        self, engine_cycles: float, stage_cycles: float, fits: Callable[[Design], bool] = lambda _: True
    ) -> Design | None:
        """The design of fewest multipliers that `fits` and whose engine and every head stage take no more cycles."""
        stages = [self.smallest_stage(index, stage_cycles) for index in range(len(self.design.head))]
        if None in stages:
            return None
        head = tuple(replace(layer, lanes=lanes) for layer, lanes in zip(self.design.head, stages, strict=True))
        engine = self.design.engine
        sized = (replace(self.design, head=head, engine=replace(engine, lanes=x)) for x in self.engines(engine_cycles))
        return next((design for design in sized if fits(design)), None)


def _least(took: Callable[[int], float], cycles: float, most: int) -> int | None:
    """The fewest lanes, up to `most`, that took no more `cycles`; None if even the most do."""
    if took(most) > cycles:
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if took(middle) <= cycles else (middle + 1, high)
    return low


# -- the choice --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Target:
    """What is asked for: at least `frames_per_second`, or at most `latency` seconds; neither: as fast as fits."""

    frames_per_second: float | None = None
    latency: float | None = None

    def reached(self, choice: Choice) -> bool:
        """Whether `choice` does what is asked for."""
        if self.frames_per_second is not None:
            return choice.frames_per_second >= self.frames_per_second
        return self.latency is None or choice.latency <= self.latency

    def __str__(self) -> str:
        if self.frames_per_second is not None:
            return f"{self.frames_per_second:g} frames per second"
        return f"{1e3 * (self.latency or 0):g} ms for a frame"


@dataclass(frozen=True, eq=False)
class Choice:
    """`design` on `board`, and what the cycle model expects: frames per second, seconds for one frame alone."""

    board: Board
    design: Design
    frames_per_second: float
    latency: float
    multipliers: int
    memory_bits: int

    def __str__(self) -> str:
        engine = self.design.engine
        stages = [f"{x.name} {x.lanes.filters} x {x.lanes.pixels}" for x in self.design.head if x.lanes is not None]
        built = ", ".join([f"engine {engine.lanes.filters} x {engine.lanes.pixels}", *stages])
        return (
            f"{self.board}: {built}; {self.multipliers} of {self.board.multipliers} multipliers, "
            f"{self.memory_bits / 8192:,.0f} of {self.board.memory_bits / 8192:,.0f} KiB on chip; expected at "
            f"{self.board.clock_mhz:g} MHz: {self.frames_per_second:,.0f} frames/s, {1e3 * self.latency:.3g} ms alone"
        )


FRAMES, SEED = 4, 1  # of the masks that expectations are made from
SLACK = 0.98  # what a target is tightened by where the cycle model finds it missed
ATTEMPTS = 12
PRECISION = 1.02  # of the fastest size, in cycles


def choose(design: Design, keep: Mapping[str, int], on: Board, target: Target | None = None) -> Choice:
    """Engine lanes, bus and head lanes for `design` on a board, everything else as it is.

    `keep` are the filters that lazy layers are expected to compute, by name. With a target the fewest multipliers that
    reach it, else as fast as fits. UserError where the network does not fit the board, or misses the target there.
    """
    target = target or Target()
    engine = replace(design.engine, bus_bytes=on.port_bytes, outstanding=max(8, design.engine.outstanding))
    expected = Expected(replace(design, engine=engine), keep, on)
    for candidate in _aimed(expected, target):
        found = _judged(candidate, keep, on)
        if target.reached(found):
            return found
    fastest = _fastest(expected)
    if fastest is None:
        smallest = expected.smallest(np.inf, np.inf)
        assert smallest is not None  # nothing is too slow
        least = resources(smallest)
        raise UserError(
            f"'{design.name}' does not fit {on}: at its smallest it takes {least.multipliers:,} multipliers and "
            f"{least.memory_bits / 8192:,.0f} KiB on chip; accepted: up to {USABLE * on.multipliers:,.0f} and "
            f"{USABLE * on.memory_bits / 8192:,.0f} KiB, {USABLE:.0%} of what the board has"
        )
    best = _judged(fastest, keep, on)
    if not target.reached(best):
        raise UserError(
            f"'{design.name}' does not reach {target} on {on}; accepted there: up to "
            f"{best.frames_per_second:,.0f} frames per second, from {1e3 * best.latency:.3g} ms for one frame"
        )
    return best


def _aimed(expected: Expected, target: Target) -> Iterator[Design]:
    """The smallest designs that should reach the target, which the cycle model may find missed: larger and larger ones.

    One frame alone passes head and engine one after the other, so that of a latency the head is given a part.
    """
    clock = expected.board.clock_mhz * 1e6
    for attempt in range(ATTEMPTS):
        found = None
        if target.frames_per_second is not None:
            cycles = clock / target.frames_per_second * SLACK**attempt
            found = expected.smallest(cycles, cycles, expected.fits)
        elif target.latency is not None:
            cycles = clock * target.latency * SLACK**attempt
            parts = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6) if expected.design.head else (0.0,)
            designs = [expected.smallest((1 - part) * cycles, part * cycles, expected.fits) for part in parts]
            found = min((x for x in designs if x is not None), key=_array_multipliers, default=None)
        if found is None:
            return
        yield found


def _fastest(expected: Expected) -> Design | None:
    """The design of most frames per second that fits the board; None if none does."""
    fits = expected.smallest(np.inf, np.inf, expected.fits)
    if fits is None:
        return None
    enough = max(expected.engine_cycles(fits.engine.lanes), expected.stage_cycles(fits))
    short = enough / (expected.board.multipliers * 8)  # cycles, fewer than any board can do
    while enough / short > PRECISION:
        middle = float(np.sqrt(enough * short))
        found = expected.smallest(middle, middle, expected.fits)
        if found is not None:
            fits, enough = found, middle
        else:
            short = middle
    return fits


def _judged(design: Design, keep: Mapping[str, int], on: Board) -> Choice:
    """What the cycle model expects of `design`."""
    model, masks = CycleModel(design, on.dram), Masks.drawn(design, keep, FRAMES, SEED)
    clock, needs = on.clock_mhz * 1e6, resources(design)
    return Choice(
        on,
        design,
        frames_per_second=clock / model.stream(masks).interval,
        latency=float(np.mean(model.alone(masks).latency)) / clock,
        multipliers=needs.multipliers,
        memory_bits=needs.memory_bits,
    )


def _lanes(design: Design) -> tuple[Lanes | None, ...]:
    return (design.engine.lanes, *(layer.lanes for layer in design.head))


def _array_multipliers(design: Design) -> int:
    return sum(lanes.multipliers for lanes in _lanes(design) if lanes is not None)


# -- before predictors are fitted --------------------------------------------------------------------------------------
def sketch(dense: Design, lazy: Mapping[str, Wanted]) -> Design:
    """`dense` with the layers in `lazy` lazy, whose predictors have the size of those to come, and random contents."""
    tail = []
    for layer in dense.tail:
        if (wanted := lazy.get(layer.name)) is not None:
            layer = replace(layer, pinned=tuple(range(wanted.pinned)))
            if wanted.keep is not None:
                predictor = _blank(wanted.kind, layer.input.channels, layer.filters, wanted.rank, wanted.classes)
                layer = replace(layer, source=Source.LAZY, predictor=predictor, keep=wanted.keep)
        tail.append(layer)
    return replace(dense, tail=tuple(tail))


@dataclass(frozen=True)
class Wanted:
    """What is known of an engine layer: how many filters are `pinned`, and if it is lazy how many it is to `keep` and
    what kind of predictor it will have, with its `rank` or number of `classes`.
    """

    pinned: int = 0
    keep: int | None = None
    kind: str = "linear"
    rank: int = 1
    classes: int = 1


def _blank(kind: str, channels: int, filters: int, rank: int, classes: int) -> Predictor:
    rng, none = np.random.default_rng(SEED), np.zeros(filters, np.int64)
    match kind:
        case "low_rank":
            rank = min(rank, filters)
            first, second = rng.integers(-128, 128, (channels, rank)), rng.integers(-128, 128, (rank, filters))
            return LowRankPredictor(first, np.zeros(rank, np.int64), 8, 16, second, none)
        case "paths":
            return PathPredictor(rng.random((channels, filters)) < 0.5, np.zeros(channels, np.int64), none)
        case "classes":
            return ClassPredictor(rng.random((classes, filters)) < 0.5)
        case _:
            return LinearPredictor(rng.integers(-128, 128, (channels, filters)), none)
