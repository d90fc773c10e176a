"""Bench of pen_check: commands of one to many words, right ones and spoilt ones, and the cycle of the verdict."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.crc import advance, border, check_words
from sim.cocotb.bench import CycleCounter, cycles, parameter, reset, start

LATENCY = 5  # from the last word to the verdict


class Testbench:
    """Sends commands and knows which of them must be told, and when."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0) -> None:
        self.dut, self.pause = dut, pause
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        self.bits, self.bus = parameter("Bits"), parameter("BusBytes")
        self.counter = CycleCounter(dut)
        self.told: list[int] = []  # cycles
        self.expected: list[int] = []
        self.task = cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            if int(self.dut.error_o.value):
                self.told.append(self.counter.now)

    def block(self, words: int, place: int) -> bytes:
        """Random words that are right at `place`."""
        check = self.bits // 8
        data = self.rng.randbytes(words * self.bus - check)
        state = advance(border(place, self.bits)[None], np.frombuffer(data, np.uint8)[None], self.bits)
        found = check_words(state, border(place + words, self.bits)[None], self.bits)
        return data + int(found[0]).to_bytes(4, "little")[:check]

    async def send(self, data: bytes, place: int, *, bad: bool, ignore: bool = False) -> None:
        """A command of these words, said to lie at `place`."""
        dut, words = self.dut, len(data) // self.bus
        for index in range(words):
            while self.rng.random() < self.pause:
                dut.valid_i.value = 0
                dut.data_i.value, dut.last_i.value = self.rng.getrandbits(8 * self.bus), self.rng.getrandbits(1)
                await RisingEdge(dut.clk_i)
            dut.valid_i.value, dut.last_i.value = 1, index == words - 1
            dut.ignore_i.value = ignore if index == words - 1 else self.rng.getrandbits(1)
            mask = (1 << self.bits) - 1
            dut.word_i.value = place & mask if index == 0 else self.rng.getrandbits(self.bits)
            dut.data_i.value = int.from_bytes(data[index * self.bus :][: self.bus], "little")
            if index == words - 1 and bad and not ignore:
                self.expected.append(self.counter.now + LATENCY)
            await RisingEdge(dut.clk_i)
        dut.valid_i.value = 0

    async def finish(self) -> None:
        """All verdicts have come as expected."""
        await cycles(self.dut, LATENCY + 2)
        assert self.told == self.expected


async def _start(dut: Any) -> None:
    await start(dut, dut.valid_i)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def right_words_pass_and_others_do_not(dut: Any, pause: float) -> None:
    """Runs of one to many blocks without a gap; single bits, bursts and places that are wrong."""
    await _start(dut)
    bench = Testbench(dut, 1, pause)
    least = -(-bench.bits // 8 // bench.bus)
    for turn in range(60):
        place, data = bench.rng.getrandbits(20), b""
        for _ in range(bench.rng.randint(1, 4)):
            data += bench.block(bench.rng.randint(least, 12), place + len(data) // bench.bus)
        match turn % 4:
            case 0 | 1:
                await bench.send(data, place, bad=False)
            case 2:  # a burst of wrong bits, no longer than the code
                at = bench.rng.randrange(8 * len(data))
                length = min(bench.rng.randint(1, bench.bits), 8 * len(data) - at)
                burst = (bench.rng.getrandbits(length) | 1 | 1 << length - 1) << at
                spoilt = (int.from_bytes(data, "little") ^ burst).to_bytes(len(data), "little")
                await bench.send(spoilt, place, bad=True)
            case _:
                await bench.send(data, place + bench.rng.randint(1, (1 << bench.bits) - 1), bad=True)
    await bench.finish()


@cocotb.test()
async def every_bit_is_looked_at(dut: Any) -> None:
    """Each bit of a command's words flipped, one after the other."""
    await _start(dut)
    bench = Testbench(dut, 2)
    data = bench.block(3, 7)
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        await bench.send(bytes(spoilt), 7, bad=True)
    await bench.send(data, 7, bad=False)
    await bench.send(bytes(len(data)), 7, bad=True)
    await bench.finish()


@cocotb.test()
async def what_is_ignored_spoils_nothing_behind_it(dut: Any) -> None:
    """Commands that are ignored at their end, and resets in mid-command."""
    await _start(dut)
    bench = Testbench(dut, 3)
    for _ in range(10):
        await bench.send(bench.rng.randbytes(4 * bench.bus), 3, bad=True, ignore=True)
        await bench.send(bench.block(4, 9), 9, bad=False)
    await bench.finish()
    dut.valid_i.value, dut.last_i.value = 1, 0
    await cycles(dut, 2)
    dut.valid_i.value = 0
    await reset(dut, 1)
    await bench.send(bench.block(4, 9), 9, bad=False)
    await bench.send(bench.rng.randbytes(4 * bench.bus), 9, bad=True)
    await bench.finish()
