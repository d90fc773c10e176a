"""Bench of pen_tape: layers that record, play back, or do both over the same entries."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import parameter, pauses, reset, start
from sim.cocotb.stimulus import join, split

LATENCY = 2  # cycles from a start or a take to the entry
Entry = list[int]  # a word of every lane


class Testbench:
    """Layers one after another; `tape` is what the entries hold."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut = dut
        self.lanes, self.pixels, self.entries = parameter("Filters"), parameter("Pixels"), parameter("Entries")
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.tape: dict[int, Entry] = {}

    async def layer(self, *, record: int | None, play: int | None, count: int, pause: float) -> None:
        """`count` entries recorded from `record` on and played from `play` on; each recorded after it was taken."""
        dut = self.dut
        dut.start_i.value = 1
        dut.write_base_i.value, dut.read_base_i.value = record or 0, play or 0
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        dut.write_base_i.value, dut.read_base_i.value = self.rng.randrange(self.entries), 0  # read at the start only
        waits = pauses(pause, self.rng.getrandbits(8))
        for place in range(count):
            for _ in range(LATENCY - 1):
                await RisingEdge(dut.clk_i)
            if play is not None:
                await FallingEdge(dut.clk_i)
                words = split(int(dut.words_o.value), 8 * self.pixels, self.lanes)
                assert words == self.tape[play + place], f"entry {play + place}"
                dut.take_i.value = 1
                await RisingEdge(dut.clk_i)
                dut.take_i.value = 0
            if record is not None:
                await self._record(record + place, waits)

    async def _record(self, entry: int, waits: Any) -> None:
        """The beats of one entry, with pauses."""
        dut, last = self.dut, self.lanes - 1
        self.tape[entry] = [self.rng.getrandbits(8 * self.pixels) for _ in range(self.lanes)]
        for lane, word in enumerate(self.tape[entry]):
            while next(waits):
                dut.record_last_i.value = 1  # junk: nothing may look at it without a beat
                await RisingEdge(dut.clk_i)
            dut.record_i.value, dut.record_lane_i.value, dut.record_last_i.value = 1, lane, int(lane == last)
            dut.record_word_i.value = join([word], 8 * self.pixels)
            await RisingEdge(dut.clk_i)
            dut.record_i.value = 0


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def what_was_recorded_is_played_back(dut: Any, pause: float) -> None:
    """From any entry on, more than once, while others are recorded, and recorded over."""
    await start(dut, dut.start_i, dut.record_i, dut.take_i)
    bench = Testbench(dut, 1)
    half = bench.entries // 2
    await bench.layer(record=0, play=None, count=half, pause=pause)
    await bench.layer(record=half, play=0, count=half, pause=pause)
    await bench.layer(record=None, play=0, count=half, pause=pause)
    for _ in range(3):
        await bench.layer(record=0, play=0, count=bench.entries - 1, pause=pause)
    await bench.layer(record=None, play=1, count=bench.entries - 2, pause=pause)


@cocotb.test()
async def a_reset_leaves_the_next_layer_right(dut: Any) -> None:
    """A layer that was cut off does not move the places of the next one."""
    await start(dut, dut.start_i, dut.record_i, dut.take_i)
    bench = Testbench(dut, 2)
    await bench.layer(record=0, play=None, count=3, pause=0.0)
    await reset(dut, 2)
    await bench.layer(record=1, play=None, count=4, pause=0.3)
    await bench.layer(record=None, play=1, count=4, pause=0.0)
