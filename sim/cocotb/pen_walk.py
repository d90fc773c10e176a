"""Bench of pen_walk."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, parameter, reset, start

FROM_ISSUE = 1  # cycles from a step's issue to `op_*`
FROM_PRIME = 4  # from `prime_i` to the first cycle that takes a pass


@dataclass(frozen=True)
class Entry:
    """A channel of the list."""

    map: int
    weight: int
    taps: int


@dataclass(frozen=True)
class Pass:
    """A pass, and by tap what a lookup in its window answers: (mask, pixel)."""

    window: int
    release: bool
    reach: int
    weight: int
    ring: int
    lookups: list[tuple[int, int]]


@dataclass(frozen=True)
class Step:
    """What one cycle of a pass sends to the memories; nothing matters of a step whose lanes are all masked."""

    first: bool
    last: bool
    mask: int
    word0: int
    word1: int
    offset: int
    weight: int


class Testbench:
    """Plays the channel list, the windows and the drain; compares every step with those that Python walks."""

    def __init__(self, dut: Any, seed: int, pass_pause: float = 0.0, room_pause: float = 0.0) -> None:
        self.dut, self.pass_pause, self.room_pause = dut, pass_pause, room_pause
        self.pixels, self.max_taps, self.ring = parameter("Pixels"), parameter("MaxTaps"), parameter("RingWords")
        self.word_bits, self.weight_bits = parameter("WordBits"), parameter("WeightBits")
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.entries: list[Entry] = []
        self.passes: deque[Pass] = deque()
        self.offered: Pass | None = None
        self.read: Entry | None = None  # what the list's memory answers in this cycle
        self.held: dict[int, Pass] = {}  # by half: the window it holds
        self.expected: deque[tuple[Step, Pass]] = deque()
        self.times: list[int] = []  # of steps, as they come out
        self.taken: list[int] = []  # cycles that took a pass
        self.ended: dict[int, int] = {}  # cycles that issued the last step of a pass, with its window's half

    # -- stimulus -----------------------------------------------------------------------------------------------------
    def random_entries(self, count: int) -> list[Entry]:
        """Channels, some of them without any kept tap."""
        taps = self.rng.integers(0, 1 << self.max_taps, count) * (self.rng.random(count) < 0.8)
        size = self.ring or 16
        return [
            Entry(index * size % (1 << self.word_bits), int(self.rng.integers(100)), int(mask))
            for index, mask in enumerate(taps)
        ]

    def random_passes(self, windows: int, groups: int) -> list[Pass]:
        """Every window `groups` times."""
        passes = []
        for window in range(windows):
            masks = self.rng.integers(0, 1 << self.pixels, self.max_taps) * (self.rng.random(self.max_taps) < 0.7)
            pixels = self.rng.integers(-3 * self.pixels, 8 * self.pixels, self.max_taps)
            lookups = [(int(mask), int(pixel)) for mask, pixel in zip(masks, pixels, strict=True)]
            reach = sum(1 << tap for tap, mask in enumerate(masks) if mask)
            ring = int(self.rng.integers(self.ring or 16))
            passes += [Pass(window, g == groups - 1, reach, 17 * g, ring, lookups) for g in range(groups)]
        return passes

    def steps(self, item: Pass) -> list[Step]:
        """The walk of one pass: kept taps that reach anything, by channel; one empty step where there are none."""
        walked: list[tuple[Entry, int | None]] = []
        for entry in self.entries:
            taps: Sequence[int | None] = [t for t in range(self.max_taps) if entry.taps & item.reach & (1 << t)]
            walked += [(entry, tap) for tap in taps or (None,)]
        walked = walked or [(Entry(0, 0, 0), None)]
        found = []
        for index, (entry, tap) in enumerate(walked):
            ends = index == 0, index == len(walked) - 1
            if tap is None:
                found.append(Step(*ends, 0, 0, 0, 0, 0))
                continue
            mask, pixel = item.lookups[tap]
            word = pixel // self.pixels + item.ring
            word0, word1 = (word % self.ring, (word + 1) % self.ring) if self.ring else (word, word + 1)
            rank = (entry.taps & ((1 << tap) - 1)).bit_count()
            found.append(
                Step(
                    *ends,
                    mask,
                    (entry.map + word0) % (1 << self.word_bits),
                    (entry.map + word1) % (1 << self.word_bits),
                    pixel % self.pixels,
                    (entry.weight + item.weight + rank) % (1 << self.weight_bits),
                )
            )
        return found

    # -- one cycle ----------------------------------------------------------------------------------------------------
    async def prime(self, entries: list[Entry]) -> None:
        """A new list; nothing may be in flight."""
        self.entries = entries
        self.dut.entries_i.value = len(entries)
        self.dut.prime_i.value = 1
        await self.cycle()
        self.dut.prime_i.value = 0

    async def cycle(self, room: bool = True) -> None:
        """Offer a pass and room, answer list and lookups, compare what comes out."""
        dut = self.dut
        if self.read is not None:
            dut.entry_map_i.value, dut.entry_weight_i.value = self.read.map, self.read.weight
            dut.entry_taps_i.value, self.read = self.read.taps, None
        self._offer()
        dut.pass_valid_i.value = int(self.offered is not None)
        dut.room_i.value = int(room and self.rng.random() >= self.room_pause)
        await FallingEdge(dut.clk_i)
        now = self.counter.now
        if int(dut.entry_read_o.value) and self.entries:
            self.read = self.entries[int(dut.entry_addr_o.value)]
        half = self.held.get(int(dut.lookup_half_o.value))
        if half is not None:
            dut.lookup_mask_i.value, dut.lookup_pixel_i.value = half.lookups[int(dut.lookup_tap_o.value)]
        if int(dut.last_issue_o.value):
            assert int(dut.room_i.value), "the last step does not wait for room"
            self.ended[now] = int(dut.lookup_half_o.value)
        self._compare(now)
        if int(dut.release_o.value):
            assert now - 1 in self.ended, "a window is released at another time than its last step asks for it"
            self.held.pop(self.ended[now - 1])
        if self.offered is not None and int(dut.pass_ready_o.value):
            self.expected.extend((step, self.offered) for step in self.steps(self.offered))
            self.taken.append(now)
            self.offered = None
        await RisingEdge(dut.clk_i)

    def _offer(self) -> None:
        """Offer the next pass if its window has a place: two are held at most, as pen_window holds them."""
        if self.offered is not None or not self.passes or self.rng.random() < self.pass_pause:
            return
        item, half, dut = self.passes[0], self.passes[0].window % 2, self.dut
        if half in self.held and self.held[half].window != item.window:
            return
        self.offered = self.held[half] = self.passes.popleft()
        dut.pass_half_i.value, dut.pass_release_i.value = half, int(item.release)
        dut.pass_reach_i.value, dut.pass_weight_i.value, dut.pass_ring_i.value = item.reach, item.weight, item.ring

    def _compare(self, now: int) -> None:
        dut = self.dut
        if not int(dut.op_valid_o.value):
            return
        assert self.expected, "a step of no pass"
        self.times.append(now)
        step, item = self.expected.popleft()
        found = Step(
            bool(int(dut.op_first_o.value)),
            bool(int(dut.op_last_o.value)),
            int(dut.op_mask_o.value),
            *((int(dut.op_word0_o.value), int(dut.op_word1_o.value)) if step.mask else (0, 0)),
            *((int(dut.op_offset_o.value), int(dut.op_weight_o.value)) if step.mask else (0, 0)),
        )
        assert found == step, f"{found}, wanted {step} of {item}"
        if step.last:
            assert now - FROM_ISSUE in self.ended, "the last step comes at another time than announced"

    async def run(self) -> None:
        """Until all passes are walked."""
        while self.passes or self.offered or self.expected:
            await self.cycle()
        assert not self.held, "a window is not given back"


SIGNALS = ("prime_i", "pass_valid_i", "room_i")


async def started(dut: Any, seed: int, pass_pause: float = 0.0, room_pause: float = 0.0) -> Testbench:
    """A reset module and its bench."""
    await start(dut, *(getattr(dut, name) for name in SIGNALS))
    return Testbench(dut, seed, pass_pause, room_pause)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(pass_pause=[0.0, 0.5], room_pause=[0.0, 0.8])
async def passes_walk_kept_taps_that_reach(dut: Any, pass_pause: float, room_pause: float) -> None:
    """Lists of any length, none included, one after another; channels with no tap, taps that reach nothing."""
    bench = await started(dut, 1, pass_pause, room_pause)
    for entries, groups in ((5, 1), (0, 2), (1, 3), (2, 1), (7, 2)):
        await bench.prime(bench.random_entries(entries))
        bench.passes.extend(bench.random_passes(6, groups))
        await bench.run()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def passes_follow_without_a_gap(dut: Any) -> None:
    """One step per cycle, the last of a pass and the first of the next included."""
    bench = await started(dut, 2)
    begin = bench.counter.now
    await bench.prime(bench.random_entries(6))  # 6 steps or more, so a window's successor has time to come
    bench.passes.extend(bench.random_passes(5, 2))
    await bench.run()
    assert bench.taken[0] == begin + FROM_PRIME
    assert bench.times[0] == bench.taken[0] + 1 + FROM_ISSUE  # issued in the cycle after the pass was taken
    assert all(b == a + 1 for a, b in pairwise(bench.times)), bench.times


@cocotb.test(timeout_time=500, timeout_unit="us")
async def only_the_last_step_waits_for_room(dut: Any) -> None:
    """Without room a pass goes on to its last step, and no further."""
    bench = await started(dut, 3)
    await bench.prime(bench.random_entries(4))
    bench.passes.extend(bench.random_passes(1, 2))
    await bench.cycle()
    steps = len(bench.steps(bench.passes[-1]))
    for _ in range(30 + steps):
        await bench.cycle(room=False)
    assert len(bench.times) == steps - 1
    assert len(bench.expected) == 1
    now = bench.counter.now
    await bench.cycle()
    assert set(bench.ended) == {now}
    await bench.run()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_in_mid_pass_issues_nothing_more(dut: Any) -> None:
    """After reset no pass is taken before the list is primed again."""
    bench = await started(dut, 4)
    await bench.prime(bench.random_entries(5))
    bench.passes.extend(bench.random_passes(2, 1))
    for _ in range(FROM_PRIME + 4):
        await bench.cycle()
    await reset(dut, 3)
    bench = Testbench(dut, 5)
    bench.passes.extend(bench.random_passes(3, 1))
    for _ in range(10):
        await bench.cycle()
    assert not bench.taken
    await bench.prime(bench.random_entries(3))
    await bench.run()
