"""Bench of the multiplier array, pen_array, and so of its lanes, pen_mac and pen_mult."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, cycles, parameter, reset, start
from sim.cocotb.stimulus import join, split

LATENCY = 3  # cycles from the last products to `done_o`


class Testbench:
    """Feeds sums of random length; a monitor compares what `done_o` announces with the sums that Python makes."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut = dut
        self.filters, self.pixels, self.acc_bits = parameter("Filters"), parameter("Pixels"), parameter("AccBits")
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.expected: deque[tuple[int, list[int]]] = deque()  # cycle of `done_o`, sums of filter 0's pixels and so on
        self.task = cocotb.start_soon(self._monitor())

    async def _monitor(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            due = bool(self.expected) and self.expected[0][0] == self.counter.now
            assert int(self.dut.done_o.value) == due, f"cycle {self.counter.now}: done_o is {not due}"
            if due:
                _, sums = self.expected.popleft()
                lanes = self.filters * self.pixels
                assert split(int(self.dut.sums_o.value), self.acc_bits, lanes, signed=True) == sums
            await RisingEdge(self.dut.clk_i)

    async def feed(self, length: int, *, signed: bool, extreme: bool = False, bubbles: float = 0.0) -> None:
        """One sum of `length` products per lane; returns just after the edge that takes the last ones."""
        low, high = (-128, 127) if signed else (0, 255)
        windows = self.rng.integers(low, high + 1, (length, self.pixels))
        weights = self.rng.integers(-128, 128, (length, self.filters))
        if extreme:
            windows[:], weights[:] = (low if signed else high), -128
        for step in range(length):
            while self.rng.random() < bubbles:
                await self._cycle(valid=0)
            if step == length - 1:
                self.expected.append((self.counter.now + LATENCY, (weights.T @ windows).ravel().tolist()))
            await self._cycle(
                valid=1,
                first=int(step == 0),
                last=int(step == length - 1),
                signed=int(signed),
                window=join(windows[step], 8),
                weights=join(weights[step], 8),
            )

    async def _cycle(
        self, *, valid: int, first: int = 1, last: int = 1, signed: int = 1, window: int = 0, weights: int = 0
    ) -> None:
        dut = self.dut
        dut.valid_i.value, dut.first_i.value, dut.last_i.value, dut.signed_i.value = valid, first, last, signed
        dut.window_i.value, dut.weights_i.value = window, weights
        await RisingEdge(dut.clk_i)
        dut.valid_i.value = 0

    async def finish(self) -> None:
        """Everything expected has come."""
        await cycles(self.dut, LATENCY + 2)
        assert not self.expected


@cocotb.test()
@cocotb.parametrize(bubbles=[0.0, 0.4], signed=[False, True])
async def sums_are_exact(dut: Any, bubbles: float, signed: bool) -> None:
    """Sums of 1 to 20 products, one right after the other or with bubbles; both kinds of activations."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=1)
    for _ in range(40):
        await bench.feed(int(bench.rng.integers(1, 21)), signed=signed, bubbles=bubbles)
    await bench.finish()


@cocotb.test()
async def the_largest_sums_fit(dut: Any) -> None:
    """As many of the largest products of either sign as the accumulator can hold."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=2)
    longest = ((1 << (parameter("AccBits") - 1)) - 1) // (128 * 255)
    for signed in (False, True):
        await bench.feed(min(longest, 200), signed=signed, extreme=True)
    await bench.finish()


@cocotb.test()
async def reset_in_mid_sum_announces_nothing(dut: Any) -> None:
    """A sum that reset has cut off is not announced; the next one is right."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=3)
    await bench.feed(5, signed=False)
    bench.expected.clear()  # its announcement is due in three cycles, but reset comes first
    await reset(dut, 3)
    await bench.feed(7, signed=True)
    await bench.finish()
