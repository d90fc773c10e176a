"""Bench of pen_bank: words written lane by lane into one half while weights of the other, or pinned ones, are read."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import IntArray
from sim.cocotb.bench import parameter, start
from sim.cocotb.stimulus import join, split

LATENCY = 2
TURNS = 6
PINNED_SEED = 7


def pinned(lanes: int, rows: int) -> IntArray:
    """The table of pinned weights, (rows, lanes)."""
    weights: IntArray = np.random.default_rng(PINNED_SEED).integers(-128, 128, (rows, lanes))
    return weights


def pinned_table(lanes: int, rows: int) -> str:
    """The same as the text of its file."""
    return "".join(f"{join(row, 8):0{2 * lanes}x}\n" for row in pinned(lanes, rows).tolist())


class Testbench:
    """Contents (half, lane, byte) as they should be, and random traffic on both ports."""

    def __init__(self, dut: Any, seed: int, pause: float) -> None:
        self.dut, self.pause = dut, pause
        self.lanes, self.bus, self.words = (parameter(name) for name in ("Filters", "BusBytes", "RecordWords"))
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.pinned = pinned(self.lanes, parameter("PinnedRows"))
        self.contents = np.zeros((2, self.lanes, self.words * self.bus), np.int64)
        self.due: deque[tuple[int, list[int]]] = deque()
        self.now = 0

    async def fill(self, half: int, read: bool) -> None:
        """Write all words of `half` in random order; with `read`, read random bytes of the other half meanwhile."""
        new: IntArray = self.rng.integers(-128, 128, self.contents[half].shape)
        places = [(lane, word) for lane in range(self.lanes) for word in range(self.words)]
        self.rng.shuffle(places)
        while places:
            write = self.rng.random() >= self.pause
            lane, word = places.pop() if write else (int(self.rng.integers(self.lanes)), 0)
            part = slice(word * self.bus, (word + 1) * self.bus)
            self.dut.write_i.value = write
            self.dut.write_lane_i.value, self.dut.write_word_i.value = lane, half * self.words + word
            self.dut.write_data_i.value = join(new[lane, part].tolist(), 8)
            self._read(1 - half, read and self.rng.random() >= self.pause)
            await self._cycle()
        self.contents[half] = new

    def _read(self, half: int, read: bool) -> None:
        self.dut.read_i.value = read
        if self.rng.random() < 0.3:
            address = int(self.rng.integers(len(self.pinned)))
            self.dut.read_pinned_i.value, self.dut.read_addr_i.value = 1, address
            expected = self.pinned[address]
        else:
            byte = int(self.rng.integers(self.words * self.bus))
            address = half * self.words * self.bus + byte
            self.dut.read_pinned_i.value, self.dut.read_addr_i.value = 0, address
            expected = self.contents[half, :, byte]
        if read:
            self.due.append((self.now + LATENCY, expected.tolist()))

    async def _cycle(self) -> None:
        await FallingEdge(self.dut.clk_i)
        if self.due and self.due[0][0] == self.now:
            weights = split(int(self.dut.weights_o.value), 8, self.lanes, signed=True)
            assert weights == self.due.popleft()[1]
        await RisingEdge(self.dut.clk_i)
        self.now += 1

    async def finish(self) -> None:
        """Let the last reads come out."""
        self.dut.write_i.value, self.dut.read_i.value = 0, 0
        for _ in range(LATENCY):
            await self._cycle()
        assert not self.due


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def weights_come_from_the_half_that_is_not_written(dut: Any, pause: float) -> None:
    """Every weight of all lanes at one address, 2 cycles after it was asked for."""
    await start(dut, dut.write_i, dut.read_i)
    bench = Testbench(dut, 1, pause)
    for turn in range(TURNS):
        await bench.fill(turn % 2, read=turn > 0)
    await bench.finish()
