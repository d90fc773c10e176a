"""Bench of pen_present: finished channels in, the list of present ones and the runs of words to fetch out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from hw.emit.bits import field, pack, table
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamDriver, StreamMonitor, parameter, pauses, reset, start

BUS_BYTES = 4
EVENT_CYCLES = 2


@dataclass(frozen=True)
class Channel:
    """A row of the channel table; `first` and `end` are the bus words of a record that hold its weights."""

    map: int
    weight: int
    taps: int
    first: int
    end: int
    row: int
    theta: int


def layers(channels: int, seed: int = 1) -> tuple[list[Channel], list[Channel]]:
    """Two layers of `channels` channels, whose 0 to 9 weights follow each other in a record, byte by byte."""
    rng = random.Random(seed)  # noqa: S311 - stimulus

    def layer() -> list[Channel]:
        rows, byte = [], 0
        for _ in range(channels):
            taps = rng.choice([0, 1, 0x1FF, rng.getrandbits(9)])
            end = byte + taps.bit_count()
            words = (byte // BUS_BYTES, -(-end // BUS_BYTES))
            rows.append(
                Channel(rng.getrandbits(6), byte, taps, *words, rng.getrandbits(5), rng.choice([0, 1, 2000, 4095]))
            )
            byte = end
        return rows

    return layer(), layer()


def parameters(channels: int, gap_words: int, *, boolean: bool = False) -> dict[str, int]:
    """Of an instance that holds `layers(channels)`; the second one looks at thetas if there are `boolean` ones."""
    widths = {"WordBits": 6, "WeightBits": 8, "RunBits": 7, "TableBits": 5, "MaxTaps": 9}
    return {
        "IndexBits": channels.bit_length(),
        "StrengthBits": 12,
        **widths,
        "GapWords": gap_words,
        "MaxChannels": channels,
        "TableDepth": 2 * channels,
        "Boolean": int(boolean),
    }


def channel_table(channels: int, *, boolean: bool = False) -> str:
    """Contents of its ROM."""
    rows = [c for layer in layers(channels) for c in layer]
    widths = (6, 8, 9, 7, 7, 5, 12 if boolean else 1)
    words = [(c.map, c.weight, c.taps, c.first, c.end, c.row, c.theta if boolean else 0) for c in rows]
    return table("channels", [pack(map(field, word, widths)) for word in words]).hexadecimal()


def runs(present: list[Channel], gap_words: int) -> list[tuple[int, int]]:
    """The words that hold weights of `present` and short gaps between them, as maximal runs [first, end)."""
    words = sorted({word for channel in present for word in range(channel.first, channel.end)})
    parts = [list(words[:1])] if words else []
    for before, word in pairwise(words):
        if word - before - 1 > gap_words:
            parts.append([])
        parts[-1].append(word)
    return [(part[0], part[-1] + 1) for part in parts]


class Testbench:
    """One list is built from random strengths while the one before is read and compared."""

    def __init__(self, dut: Any, seed: int, event_pause: float = 0.0, predict_pause: float = 0.0) -> None:
        self.dut, self.channels, self.boolean = dut, parameter("MaxChannels"), bool(parameter("Boolean"))
        self.layers = layers(self.channels)
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()  # of the predictor
        self.event_times: list[int] = []
        events = {"channel": dut.event_channel_i, "strength": dut.event_strength_i}
        ports = (dut.clk_i, dut.event_valid_i, dut.event_ready_o, events)
        self.driver = StreamDriver(*ports, pauses(event_pause, 3))
        self.watch = StreamMonitor(*ports, lambda _: self.event_times.append(self.counter.now))
        predict = {"strength": dut.predict_strength_o, "row": dut.predict_row_o}
        ports = (dut.clk_i, dut.predict_valid_o, dut.predict_ready_i, predict)
        self.predict = StreamMonitor(*ports, self.scoreboard.check, pauses(predict_pause, 4))

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        for part in (self.driver, self.watch, self.predict):
            part.stop()

    async def _pulse(self, signal: Any) -> None:
        signal.value = 1
        await RisingEdge(self.dut.clk_i)
        signal.value = 0

    def _offer(self, which: int, density: float) -> list[Channel]:
        """Send the events of layer `which`, channels being present with probability `density`; gives those that are."""
        present = []
        for index, channel in enumerate(self.layers[which]):
            strength = self.rng.randint(1, 4095) if self.rng.random() < density else 0
            self.driver.send([{"channel": index, "strength": strength}])
            if strength:
                present.append(channel)
            if which and self.boolean:
                if strength > channel.theta:
                    self.scoreboard.expect([{"strength": 1, "row": channel.row}])
            elif strength:
                self.scoreboard.expect([{"strength": strength, "row": channel.row}])
        return present

    async def build(self, which: int, density: float) -> list[Channel]:
        """Clear, fill and wait; gives the channels of layer `which` that must be in the list."""
        await self._pulse(self.dut.clear_i)
        self.dut.channel_base_i.value = which * self.channels
        self.dut.boolean_i.value = which and self.boolean
        present = self._offer(which, density)
        await self.driver.wait()
        self.scoreboard.finish()
        return [channel for channel in present if channel.taps]

    async def swap(self) -> None:
        """Make the list that was built the one to read."""
        await self._pulse(self.dut.swap_i)

    async def read(self, present: list[Channel]) -> None:
        """Compare the whole list with `present`, in random order."""
        dut = self.dut
        await FallingEdge(dut.clk_i)
        expected = runs(present, parameter("GapWords"))
        assert int(dut.entries_o.value) == len(present)
        assert int(dut.runs_o.value) == len(expected)
        await RisingEdge(dut.clk_i)
        for index in self.rng.sample(range(len(present)), len(present)):
            dut.entry_read_i.value, dut.entry_addr_i.value = 1, index
            dut.run_read_i.value, dut.run_addr_i.value = index < len(expected), index
            await RisingEdge(dut.clk_i)
            dut.entry_read_i.value, dut.run_read_i.value = 0, 0
            await FallingEdge(dut.clk_i)
            channel = present[index]
            entry = (dut.entry_map_o, dut.entry_weight_o, dut.entry_taps_o)
            assert [int(x.value) for x in entry] == [channel.map, channel.weight, channel.taps]
            if index < len(expected):
                assert (int(dut.run_first_o.value), int(dut.run_end_o.value)) == expected[index]
            await RisingEdge(dut.clk_i)


async def _start(dut: Any) -> None:
    await start(dut, dut.clear_i, dut.swap_i, dut.event_valid_i, dut.entry_read_i, dut.run_read_i)


@cocotb.test()
@cocotb.parametrize(event_pause=[0.0, 0.5], predict_pause=[0.0, 0.7])
async def lists_and_runs_are_right(dut: Any, event_pause: float, predict_pause: float) -> None:
    """Lists of both layers in turn, from empty to full; each read while the next is built."""
    await _start(dut)
    bench = Testbench(dut, 1, event_pause, predict_pause)
    present: list[Channel] = []
    for turn, density in enumerate((0.5, 1.0, 0.0, 0.2, 0.8, 0.5, 1.0)):
        reader = cocotb.start_soon(bench.read(present)) if turn else None
        present = await bench.build(turn % 2, density)
        if reader is not None:
            await reader
        await bench.swap()
    await bench.read(present)


@cocotb.test()
async def an_event_takes_two_cycles(dut: Any) -> None:
    """Present or absent, as long as the predictor is ready."""
    await _start(dut)
    bench = Testbench(dut, 2)
    await bench.build(0, 0.5)
    first = bench.event_times[0]
    assert bench.event_times == [first + EVENT_CYCLES * i for i in range(bench.channels)]


@cocotb.test()
async def reset_in_mid_list_leaves_nothing_behind(dut: Any) -> None:
    """An event that was looked up when reset came is forgotten; the next list is right."""
    await _start(dut)
    bench = Testbench(dut, 3, predict_pause=0.9)
    task = cocotb.start_soon(bench.build(0, 1.0))
    for _ in range(7):
        await RisingEdge(dut.clk_i)
    task.cancel()
    bench.stop()
    await reset(dut, 2)
    dut.predict_ready_i.value = 1
    await FallingEdge(dut.clk_i)
    assert not int(dut.predict_valid_o.value)
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, 4)
    present = await after.build(1, 0.6)
    await after.swap()
    await after.read(present)


@cocotb.test()
async def absent_channels_do_not_wait_for_the_predictor(dut: Any) -> None:
    """It never becomes ready, and their events take two cycles all the same."""
    await _start(dut)
    bench = Testbench(dut, 5, predict_pause=1.0)
    await bench.build(0, 0.0)
    first = bench.event_times[0]
    assert bench.event_times == [first + EVENT_CYCLES * i for i in range(bench.channels)]
