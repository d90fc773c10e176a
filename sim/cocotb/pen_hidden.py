"""Bench of pen_hidden: hidden sums in a memory, their rounded values out as events; the predictor is a model."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, Scoreboard, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import join

EVENT_CYCLES = 3  # from one event to the next of the same word
WORD_CYCLES = 4  # from the read of a word to its first event


class Testbench:
    """The memory of sums, and the predictor: it is not idle for some cycles after each event."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0, busy: int = 0) -> None:
        names = ("Lanes", "ScoreBits", "HiddenBits", "TableBits")
        self.lanes, self.bits, self.hidden, self.table_bits = (parameter(name) for name in names)
        self.dut, self.busy, self.exact = dut, busy, not pause
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.sums: list[int] = []
        self.word = 0
        self.events = Scoreboard()
        self.times: list[int] = []
        event = {"operand": dut.event_operand_o, "row": dut.event_row_o}
        stream = (dut.clk_i, dut.event_valid_o, dut.event_ready_i, event)
        self.monitor = StreamMonitor(*stream, self._event, pauses(pause, 3))
        self.memory = cocotb.start_soon(self._memory())

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.monitor.stop()
        self.memory.cancel()

    def _event(self, event: dict[str, int]) -> None:
        self.events.check(event)
        self.times.append(self.counter.now)

    async def _memory(self) -> None:
        dut, left = self.dut, 0
        while True:
            dut.predict_idle_i.value = left == 0
            await FallingEdge(dut.clk_i)
            read = int(dut.score_read_o.value)
            if read:
                assert left == 0, "sums are read while the predictor is at work"
                index = int(dut.score_word_o.value) - self.word
                lanes = self.sums[index * self.lanes : (index + 1) * self.lanes]
            taken = int(dut.event_valid_o.value) and int(dut.event_ready_i.value)
            await RisingEdge(dut.clk_i)
            left = self.busy if taken else max(0, left - 1)
            junk = self.rng.getrandbits(self.bits * self.lanes)
            dut.score_i.value = join(lanes + [0] * (self.lanes - len(lanes)), self.bits) if read else junk

    def draw(self, rank: int, shift: int) -> list[int]:
        """Sums of some kind: over the whole range, halves exactly, both ends, around the bounds of hidden values."""
        low, high = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        edge = 1 << (self.hidden - 1 + shift)
        kind = self.rng.randrange(4)
        if kind == 0:
            return [self.rng.randint(low, high) for _ in range(rank)]
        if kind == 1 and shift:
            values = [(2 * self.rng.randint(-9, 9) + 1) << (shift - 1) for _ in range(rank)]
        elif kind == 2:
            values = [self.rng.choice([low, high, 0, -1]) for _ in range(rank)]
        else:
            values = [self.rng.choice([-1, 1]) * edge + self.rng.randint(-2, 2) for _ in range(rank)]
        return [min(max(value, low), high) for value in values]

    def value(self, total: int, shift: int) -> int:
        """What becomes of a sum; Python rounds fractions half to even."""
        bound = 1 << (self.hidden - 1)
        return min(max(round(Fraction(total, 1 << shift)), -bound), bound - 1)

    async def run(self, rank: int, shift: int) -> None:
        """Turn `rank` sums into events and compare, with their times where the predictor does not hold them."""
        dut, mask = self.dut, (1 << self.table_bits) - 1
        self.sums, self.word = self.draw(rank, shift), self.rng.randint(0, 8)
        base, stride = self.rng.randint(0, mask), self.rng.randint(1, 5)
        values = [self.value(total, shift) & ((1 << self.hidden) - 1) for total in self.sums]
        rows = [(base + index * stride) & mask for index in range(rank)]
        self.events.expect([{"operand": value, "row": row} for value, row in zip(values, rows, strict=True)])
        self.times.clear()
        for _ in range(self.busy):
            await RisingEdge(dut.clk_i)
        begun = self.counter.now
        dut.start_i.value, dut.word_i.value, dut.rank_i.value, dut.shift_i.value = 1, self.word, rank, shift
        dut.row_base_i.value, dut.row_stride_i.value = base, stride
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        await FallingEdge(dut.clk_i)
        while not int(dut.idle_o.value):
            await FallingEdge(dut.clk_i)
        ended = self.counter.now
        await RisingEdge(dut.clk_i)
        self.events.finish()
        assert ended == self.times[-1] + 1
        if self.exact:
            expected, now = [], begun + 1
            for index in range(rank):
                now += EVENT_CYCLES if index % self.lanes else WORD_CYCLES
                expected.append(now)
                if index % self.lanes == self.lanes - 1:
                    now += 1 + self.busy  # read again when the predictor is idle
            assert self.times == expected


async def _start(dut: Any) -> None:
    await start(dut, dut.start_i, dut.predict_idle_i)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.6], busy=[0, 7])
async def sums_become_events(dut: Any, pause: float, busy: int) -> None:
    """Of every rank up to three words and a bit, with every shift."""
    await _start(dut)
    bench = Testbench(dut, 1, pause, busy)
    for turn in range(64):
        await bench.run(1 + turn % min(3 * bench.lanes + 1, 31), turn % 32)


@cocotb.test()
async def reset_makes_it_idle(dut: Any) -> None:
    """In every state; no event is offered afterwards, and the next values are right."""
    await _start(dut)
    for length in range(1, 9):
        bench = Testbench(dut, length, 0.3, 2)
        task = cocotb.start_soon(bench.run(5, 3))
        for _ in range(length):
            await RisingEdge(dut.clk_i)
        task.cancel()
        bench.stop()
        dut.start_i.value = 0
        await reset(dut, 1)
        await FallingEdge(dut.clk_i)
        assert int(dut.idle_o.value)
        assert not int(dut.event_valid_o.value)
        await RisingEdge(dut.clk_i)
    await Testbench(dut, 20).run(4, 2)
