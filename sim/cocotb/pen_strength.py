"""Bench of pen_strength: words of several channels that alternate, and the sums of their absolute values."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, Scoreboard, cycles, parameter, pauses, reset, start
from sim.cocotb.stimulus import join
from sim.cocotb.strobes import Strobes

LATENCY = 2  # cycles from a channel's last word to its strength
Map = tuple[int, list[list[int]]]  # channel, words of pixels


class Testbench:
    """Maps in, word by word on `Depth` running sums; strengths compared with the cycle they are due in."""

    def __init__(self, dut: Any, seed: int, *, signed: bool = False) -> None:
        self.dut, self.signed = dut, signed
        self.pixels, self.depth = parameter("Pixels"), parameter("Depth")
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()
        payload = {"channel": dut.channel_o, "strength": dut.strength_o}
        Strobes(dut, self.counter, dut.valid_o, payload, lambda now, word: self.scoreboard.check((now, word)))
        dut.signed_i.value = signed

    def maps(self, count: int, longest: int) -> list[Map]:
        """Random maps of up to `longest` words, some blank, some of the largest values only."""
        low, high = (-128, 127) if self.signed else (0, 255)

        def pixel(kind: int) -> int:
            return (low if self.signed else high) if kind == 0 else 0 if kind == 1 else self.rng.randint(low, high)

        def words(kind: int) -> list[list[int]]:
            return [[pixel(kind) for _ in range(self.pixels)] for _ in range(self.rng.randint(1, longest))]

        return [(self.rng.getrandbits(parameter("ChannelBits")), words(self.rng.randrange(6))) for _ in range(count)]

    async def feed(self, maps: list[Map], pause: float) -> None:
        """Send `maps`, up to `Depth` at a time in random alternation."""
        dut, waiting, pausing = self.dut, list(maps), pauses(pause, 5)
        places: list[tuple[int, list[list[int]], int] | None] = [None] * self.depth  # channel, all words, words sent
        while waiting or any(places):
            dut.valid_i.value = 0
            dut.first_i.value, dut.last_i.value = 1, 1  # junk: nothing may look at these without valid
            if next(pausing):
                await RisingEdge(dut.clk_i)
                continue
            index = self.rng.choice([i for i, place in enumerate(places) if place or waiting])
            channel, words, sent = places[index] or (*waiting.pop(0), 0)
            last = sent == len(words) - 1
            places[index] = None if last else (channel, words, sent + 1)
            dut.valid_i.value, dut.index_i.value, dut.channel_i.value = 1, index, channel
            dut.word_i.value = join(words[sent], 8)
            dut.first_i.value, dut.last_i.value = sent == 0, last
            await FallingEdge(dut.clk_i)
            if last:
                strength = sum(abs(value) for word in words for value in word)
                self.scoreboard.expect([(self.counter.now + LATENCY, {"channel": channel, "strength": strength})])
            await RisingEdge(dut.clk_i)
        dut.valid_i.value = 0

    async def finish(self) -> None:
        """All strengths have come."""
        await cycles(self.dut, LATENCY + 2)
        self.scoreboard.finish()


@cocotb.test()
@cocotb.parametrize(signed=[False, True], pause=[0.0, 0.5])
async def strengths_are_exact_and_on_time(dut: Any, signed: bool, pause: float) -> None:
    """Maps of 1 to 9 words, running sums in alternation; each strength 2 cycles after its last word."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=1, signed=signed)
    await bench.feed(bench.maps(60, 9), pause)
    await bench.finish()


@cocotb.test()
async def the_largest_map_fits(dut: Any) -> None:
    """As many of the largest pixels as StrengthBits is made for."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=2, signed=True)
    words = ((1 << parameter("StrengthBits")) - 1) // (128 * bench.pixels)
    await bench.feed([(0, [[-128] * bench.pixels] * words)], 0.0)
    await bench.finish()


@cocotb.test()
async def reset_in_mid_map_announces_nothing(dut: Any) -> None:
    """A strength that is due when reset comes is not announced; the next map starts afresh."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, seed=3)
    await bench.feed(bench.maps(1, 4), 0.0)
    bench.scoreboard.expected.clear()  # its strength is due in two cycles, but reset comes first
    await reset(dut, 3)
    await bench.feed(bench.maps(5, 4), 0.0)
    await bench.finish()
