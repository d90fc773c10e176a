"""Bench of pen_requant."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import parameter, pauses, start

LATENCY = 2  # cycles with enable_i
BOUNDS = [(-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (2, 5, 8)] + [(0, (1 << bits) - 1) for bits in (2, 7, 8)]


def requantised(total: int, shift: int, low: int, high: int) -> int:
    """The contract, in rationals: Python's round() is half-even."""
    return max(low, min(high, round(Fraction(total, 1 << shift))))


class Testbench:
    """Streams sums through and compares what comes out `LATENCY` enabled cycles later."""

    def __init__(self, dut: Any, low: int, high: int, pause: float = 0.0, seed: int = 0) -> None:
        self.dut, self.low, self.high, self.pause = dut, low, high, pauses(pause, seed)
        self.pipeline: deque[tuple[int, int]] = deque()  # sums and shifts that were taken and have not come out
        self.checked = 0
        dut._log.info("pauses from seed %d", seed)
        dut.low_i.value, dut.high_i.value = low, high

    async def put(self, total: int, shift: int) -> None:
        """One more sum, after some cycles in which nothing moves."""
        dut = self.dut
        while next(self.pause):
            dut.enable_i.value, dut.sum_i.value, dut.shift_i.value = 0, ~total, 31 - shift
            await self._compare()
        dut.enable_i.value, dut.sum_i.value, dut.shift_i.value = 1, total, shift
        await self._compare()
        self.pipeline.append((total, shift))
        if len(self.pipeline) > LATENCY:
            self.pipeline.popleft()

    async def _compare(self) -> None:
        """The oldest sum is at the output, and stays while nothing moves."""
        await FallingEdge(self.dut.clk_i)
        if len(self.pipeline) == LATENCY:
            total, shift = self.pipeline[0]
            value = int(self.dut.value_o.value)
            wanted = requantised(total, shift, self.low, self.high)
            assert value == wanted & 0xFF, f"{total} * 2**-{shift} in {self.low}..{self.high}: {value}, not {wanted}"
            self.checked += 1
        await RisingEdge(self.dut.clk_i)


@cocotb.test()
@cocotb.parametrize(bounds=BOUNDS, pause=[0.0, 0.4])
async def values_are_rounded_half_to_even_and_saturate(dut: Any, bounds: tuple[int, int], pause: float) -> None:
    """Random sums of all sizes, ties and their neighbours, ends of the accumulator; all shifts."""
    await start(dut, dut.enable_i)
    bench = Testbench(dut, *bounds, pause, seed=5)
    bits = parameter("AccBits")
    rng = np.random.default_rng(6)
    ends = [-(1 << bits - 1), (1 << bits - 1) - 1, 0, 1, -1]
    for shift in range(32):
        for total in ends:
            await bench.put(total, shift)
        for _ in range(8):
            near = int(rng.integers(bounds[0] - 3, bounds[1] + 4))  # about an end of the range, or inside
            for around in (-1, 0, 1):  # the tie above `near`, and its neighbours
                total = (near << shift) + (1 << shift >> 1) + around
                if ends[0] <= total <= ends[1]:
                    await bench.put(total, shift)
            await bench.put(int(rng.integers(ends[0], ends[1] + 1)) >> int(rng.integers(bits)), shift)
    assert bench.checked > 300


@cocotb.test()
async def every_sum_of_ten_bits(dut: Any) -> None:
    """Exhaustive for the shifts that leave something of them."""
    await start(dut, dut.enable_i)
    bench = Testbench(dut, -128, 127)
    for shift in range(12):
        for total in range(-512, 512):
            await bench.put(total, shift)
