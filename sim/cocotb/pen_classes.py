"""Bench of pen_classes: bits of wanted classes in, an event for each of them out."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, Scoreboard, StreamMonitor, parameter, pauses, reset, start


class Testbench:
    """The receiver of the events."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0) -> None:
        self.dut, self.classes, self.table_bits = dut, parameter("Classes"), parameter("TableBits")
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.rows = Scoreboard()
        stream = (dut.clk_i, dut.event_valid_o, dut.event_ready_i, dut.event_row_o)
        self.monitor = StreamMonitor(*stream, self.rows.check, pauses(pause, 3))

    async def tell(self, wanted: int) -> int:
        """Start with the bits `wanted`, compare, and give the cycles from start to idle."""
        dut, mask = self.dut, (1 << self.table_bits) - 1
        base, stride = self.rng.randint(0, mask), self.rng.randint(0, mask)
        self.rows.expect([(base + c * stride) & mask for c in range(self.classes) if wanted >> c & 1])
        begun = self.counter.now
        dut.start_i.value, dut.classes_i.value = 1, wanted
        dut.row_base_i.value, dut.row_stride_i.value = base, stride
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        # All is read at the start.
        dut.classes_i.value, dut.row_base_i.value = self.rng.getrandbits(self.classes), self.rng.randint(0, mask)
        dut.row_stride_i.value = self.rng.randint(0, mask)
        await FallingEdge(dut.clk_i)
        while not int(dut.idle_o.value):
            await FallingEdge(dut.clk_i)
        cycles = self.counter.now - begun
        await RisingEdge(dut.clk_i)
        self.rows.finish()
        return cycles


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.6])
async def wanted_classes_are_told(dut: Any, pause: float) -> None:
    """None, all, each one alone, and random sets; one cycle for every class up to the last that is wanted."""
    await start(dut, dut.start_i)
    bench = Testbench(dut, 1, pause)
    sets = [0, (1 << bench.classes) - 1, *(1 << c for c in range(bench.classes))]
    sets += [bench.rng.getrandbits(bench.classes) for _ in range(40)]
    for wanted in sets:
        cycles = await bench.tell(wanted)
        assert pause or cycles == 1 + wanted.bit_length()


@cocotb.test()
async def reset_forgets_the_classes(dut: Any) -> None:
    """Nothing is offered afterwards, and the next set is told."""
    await start(dut, dut.start_i, dut.event_ready_i)
    dut.start_i.value, dut.classes_i.value = 1, (1 << parameter("Classes")) - 1
    await RisingEdge(dut.clk_i)
    dut.start_i.value = 0
    await RisingEdge(dut.clk_i)
    await reset(dut, 1)
    await FallingEdge(dut.clk_i)
    assert int(dut.idle_o.value)
    assert not int(dut.event_valid_o.value)
    await RisingEdge(dut.clk_i)
    await Testbench(dut, 2).tell(1)
