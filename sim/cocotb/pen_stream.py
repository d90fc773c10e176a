"""Bench of the two modules that only pass a stream on: pen_fifo and pen_skid."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, Scoreboard, StreamDriver, StreamMonitor, parameter, pauses, reset, start

WORDS = 300
FIFO = "PEN_Depth" in os.environ  # else the skid register


class Testbench:
    """Words in at one side, compared at the other."""

    def __init__(self, dut: Any, send_pause: float = 0.0, take_pause: float = 0.0) -> None:
        self.dut = dut
        self.width = parameter("Width")
        self.scoreboard = Scoreboard()
        self.times: list[int] = []
        self.counter = CycleCounter(dut)
        clock = dut.clk_i
        self.driver = StreamDriver(clock, dut.valid_i, dut.ready_o, dut.data_i, pauses(send_pause, 1))
        self.monitor = StreamMonitor(clock, dut.valid_o, dut.ready_i, dut.data_o, self._take, pauses(take_pause, 2))

    def _take(self, word: int) -> None:
        self.times.append(self.counter.now)
        self.scoreboard.check(word)

    def words(self, count: int, seed: int = 3) -> list[int]:
        """Random words of the module's width."""
        rng = random.Random(seed)  # noqa: S311 - stimulus
        return [rng.getrandbits(self.width) for _ in range(count)]

    async def run(self, words: list[int]) -> None:
        """Send `words` and see all of them come."""
        self.scoreboard.expect(words)
        self.driver.send(words)
        await self.driver.wait()
        for _ in range(50 * (2 + len(words) // 10)):
            if not self.scoreboard.expected:
                break
            await RisingEdge(self.dut.clk_i)
        self.scoreboard.finish()


@cocotb.test()
@cocotb.parametrize(send_pause=[0.0, 0.5], take_pause=[0.0, 0.5])
async def words_pass_in_order(dut: Any, send_pause: float, take_pause: float) -> None:
    """Random words, with bubbles and back-pressure, each on and off."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, send_pause, take_pause)
    await bench.run(bench.words(WORDS))


@cocotb.test()
async def a_word_takes_one_cycle_and_the_stream_one_each(dut: Any) -> None:
    """Latency 1; full throughput, except in a queue of one place, which empties before it fills again."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut)
    sent = bench.counter.now  # the first word is offered in this cycle
    await bench.run(bench.words(20))
    pace = 2 if FIFO and parameter("Depth") == 1 else 1
    first = bench.times[0]
    assert first == sent + 1, f"the first word came after {first - sent} cycles"
    assert bench.times == [first + pace * i for i in range(20)]


@cocotb.test()
async def a_stalled_receiver_fills_the_storage(dut: Any) -> None:
    """`ready_o` falls when, and only when, all places are taken."""
    await start(dut, dut.valid_i)
    places = parameter("Depth") if FIFO else 2
    dut.ready_i.value = 0
    driver = StreamDriver(dut.clk_i, dut.valid_i, dut.ready_o, dut.data_i)
    driver.send([1] * (places + 3))
    for taken in range(places + 2):
        await FallingEdge(dut.clk_i)
        assert int(dut.ready_o.value) == (taken < places), f"{taken} words in {places} places"
        if FIFO:
            assert int(dut.level_o.value) == min(taken, places)
        await RisingEdge(dut.clk_i)


@cocotb.test()
async def reset_in_mid_stream_forgets_what_is_stored(dut: Any) -> None:
    """After reset nothing is offered, and new words pass as if there had been none before."""
    await start(dut, dut.valid_i)
    bench = Testbench(dut, take_pause=0.9)
    bench.scoreboard.expect(bench.words(WORDS))
    bench.driver.send(bench.words(WORDS))
    for _ in range(25):
        await RisingEdge(dut.clk_i)
    bench.driver.stop()
    bench.monitor.stop()
    await reset(dut, 2)
    dut.ready_i.value = 0
    await FallingEdge(dut.clk_i)
    assert not int(dut.valid_o.value)
    assert int(dut.ready_o.value)
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, 0.3, 0.3)
    await after.run(after.words(50, seed=9))


@cocotb.test(skip="PEN_BREAK" not in os.environ)  # run alone, by the test that expects it to fail
async def withdraw_an_offer(dut: Any) -> None:
    """Breaks the sender's rule; the module's assertion must end the simulation."""
    await start(dut, dut.valid_i)
    dut.ready_i.value = 0
    dut.data_i.value = 0
    dut.valid_i.value = 1
    for _ in range(10):
        await RisingEdge(dut.clk_i)
    dut.valid_i.value = 0
    for _ in range(3):
        await RisingEdge(dut.clk_i)
