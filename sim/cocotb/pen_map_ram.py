"""Bench of pen_map_ram."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, cycles, parameter, start
from sim.cocotb.stimulus import join, split

LATENCY = 2  # cycles from an address to its window


class Testbench:
    """Reads and writes every cycle if it likes; a copy of the words in Python says what windows must hold."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut, self.pixels, self.words = dut, parameter("Pixels"), parameter("Words")
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.memory: dict[int, list[int]] = {}
        self.counter = CycleCounter(dut)
        self.expected: deque[tuple[int, list[int]]] = deque()
        cocotb.start_soon(self._monitor())

    async def _monitor(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            if self.expected and self.expected[0][0] == self.counter.now:
                window = split(int(self.dut.window_o.value), 8, self.pixels)
                assert window == self.expected.popleft()[1], f"cycle {self.counter.now}"

    async def cycle(self, write: int | None = None, read: tuple[int, int, int, list[int]] | None = None) -> None:
        """One cycle: a random word to address `write`; a window from `read` = (word0, word1, offset, mask)."""
        dut = self.dut
        word0, word1, offset, mask = read or (0, 1, 0, [1] * self.pixels)
        dut.read_i.value, dut.word0_i.value, dut.word1_i.value = int(read is not None), word0, word1
        dut.offset_i.value, dut.mask_i.value = offset, join(mask, 1)
        if read is not None:
            both = self.memory[word0] + self.memory.get(word1, [0] * self.pixels)
            window = [value if lane else 0 for value, lane in zip(both[offset:], mask, strict=False)]
            self.expected.append((self.counter.now + LATENCY, window))
        dut.write_i.value = int(write is not None)
        if write is not None:
            word = self.rng.integers(0, 256, self.pixels).tolist()
            dut.waddr_i.value, dut.wdata_i.value = write, join(word, 8)
            self.memory[write] = word
        await RisingEdge(dut.clk_i)
        dut.read_i.value = dut.write_i.value = 0

    def random_read(self) -> tuple[int, int, int, list[int]]:
        """Any word and any that lies in the other bank."""
        word0 = int(self.rng.integers(self.words))
        word1 = int(self.rng.choice([w for w in range(self.words) if (w ^ word0) & 1]))
        offset = int(self.rng.integers(self.pixels))
        return word0, word1, offset, self.rng.integers(0, 2, self.pixels).tolist()

    async def fill(self) -> None:
        """Write every word."""
        for word in range(self.words):
            await self.cycle(write=word)

    async def finish(self) -> None:
        """Everything expected has come."""
        await cycles(self.dut, LATENCY + 1)
        assert not self.expected


@cocotb.test()
@cocotb.parametrize(bubbles=[0.0, 0.4])
async def windows_come_two_cycles_later(dut: Any, bubbles: float) -> None:
    """Random words, offsets and masks, while other words are written."""
    await start(dut, dut.read_i, dut.write_i)
    bench = Testbench(dut, seed=1)
    await bench.fill()
    for _ in range(400):
        read = bench.random_read() if bench.rng.random() >= bubbles else None
        write: int | None = int(bench.rng.integers(bench.words))
        if read is not None and write in read[:2]:
            write = None  # what a read finds of a word that is being written is not defined
        await bench.cycle(write if bench.rng.random() >= bubbles else None, read)
    await bench.finish()


@cocotb.test()
async def a_write_is_seen_by_the_next_cycle(dut: Any) -> None:
    """Every word, read right after it was written, from its first pixel and from its last."""
    await start(dut, dut.read_i, dut.write_i)
    bench = Testbench(dut, seed=2)
    await bench.fill()
    for word in range(bench.words - 1):
        await bench.cycle(write=word)
        await bench.cycle(read=(word, word + 1, 0, [1] * bench.pixels))
        await bench.cycle(write=word + 1)
        await bench.cycle(read=(word, word + 1, bench.pixels - 1, [1] * bench.pixels))
    await bench.finish()


@cocotb.test()
async def a_ring_is_read_across_its_end(dut: Any) -> None:
    """The word that continues the last one is the first, where a caller keeps a ring of an even number of words."""
    await start(dut, dut.read_i, dut.write_i)
    bench = Testbench(dut, seed=3)
    await bench.fill()
    ring = bench.words & ~1
    for offset in range(bench.pixels):
        await bench.cycle(read=(ring - 1, 0, offset, [1] * bench.pixels))
    await bench.finish()


@cocotb.test()
async def masked_lanes_are_zero_whatever_lies_there(dut: Any) -> None:
    """Words that were never written hold anything; a mask keeps it out."""
    await start(dut, dut.read_i, dut.write_i)
    bench = Testbench(dut, seed=4)
    await bench.cycle(write=0)
    for offset in range(bench.pixels):
        inside = bench.pixels - offset
        await bench.cycle(read=(0, 1, offset, [1] * inside + [0] * offset))
    await bench.finish()
