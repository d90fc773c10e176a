"""Bench of pen_conv_stage: whole frames, against the golden model."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import IntArray
from sim import golden
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamDriver, StreamMonitor, pauses, reset, start
from sim.cocotb.cases import FULL_STAGES, STAGES
from sim.cocotb.stimulus import completed_words, join, map_words, pass_times, random_maps, steps_by_window

STAGE = (STAGES | FULL_STAGES)[os.environ.get("PEN_CASE", "groups")]
LAYER, GEOMETRY = STAGE.layer, STAGE.geometry

Beat = dict[str, int]


class Testbench:
    """Frames in as a stage before would send them, frames out as the next one takes them."""

    def __init__(self, dut: Any, seed: int, in_pause: float = 0.0, out_pause: float = 0.0) -> None:
        self.dut, self.seed, self.rng = dut, seed, np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()
        self.beats: list[int] = []
        row_in = {"channel": dut.row_channel_i, "word": dut.row_word_i, "data": dut.row_data_i}
        row_out = {"channel": dut.row_channel_o, "word": dut.row_word_o, "data": dut.row_data_o}
        clock = dut.clk_i
        self.driver = StreamDriver(clock, dut.row_valid_i, dut.row_ready_o, row_in, pauses(in_pause, seed + 1))
        self.monitor = StreamMonitor(
            *(clock, dut.row_valid_o, dut.row_ready_i, row_out, self._take, pauses(out_pause, seed + 2))
        )

    def _take(self, beat: Beat) -> None:
        self.beats.append(self.counter.now)
        self.scoreboard.check(beat)

    def send(self, frames: int) -> None:
        """Random frames, and what must come of them."""
        for maps in random_maps(LAYER, frames, self.seed):
            self.driver.send(self._arriving(maps))
            self.scoreboard.expect(self._leaving(golden.step(LAYER, maps[None]).output[0]))

    def _arriving(self, maps: IntArray) -> list[Beat]:
        """Words in order, up to `before` at once for a group of channels before the next group."""
        words = [map_words(channel, GEOMETRY.pixels) for channel in maps]
        channels, first, beats = len(maps), 0, list[Beat]()
        size = int(self.rng.integers(1, channels + 1))
        while first < GEOMETRY.words:
            burst = min(int(self.rng.integers(1, STAGE.before + 1)), GEOMETRY.words - first)
            for group in range(0, channels, size):
                beats += [
                    {"channel": channel, "word": word, "data": join(words[channel][word], 8)}
                    for word in range(first, first + burst)
                    for channel in range(group, min(group + size, channels))
                ]
            first += burst
        return beats

    @staticmethod
    def _leaving(outputs: IntArray) -> list[Beat]:
        """Window by window, group by group, word by word, filter by filter."""
        words = [map_words(channel, STAGE.out_pixels) for channel in outputs]
        done = completed_words(GEOMETRY, STAGE.out_pixels)
        return [
            {"channel": channel, "word": word, "data": join(words[channel][word], 8)}
            for window in range(GEOMETRY.windows)
            for group in range(0, LAYER.filters, STAGE.lane_filters)
            for word in [word for word, (at, _) in enumerate(done) if at == window]
            for channel in range(group, min(group + STAGE.lane_filters, LAYER.filters))
        ]

    async def run(self) -> None:
        """Until all frames are in and out."""
        await self.driver.wait()
        while self.scoreboard.expected:
            await RisingEdge(self.dut.clk_i)


@cocotb.test(timeout_time=2000, timeout_unit="us")
@cocotb.parametrize(in_pause=[0.0, 0.5], out_pause=[0.0, 0.5])
async def frames_equal_the_golden_model(dut: Any, in_pause: float, out_pause: float) -> None:
    """One frame after another without a gap; bubbles and back-pressure."""
    await start(dut, dut.row_valid_i)
    bench = Testbench(dut, 1, in_pause, out_pause)
    bench.send(6)
    await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def a_slow_sender_is_waited_for(dut: Any) -> None:
    """Words come long after the stage could use them: no window is computed before its last word is in."""
    await start(dut, dut.row_valid_i)
    bench = Testbench(dut, 5, in_pause=0.97)
    bench.send(2)
    await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def a_slow_receiver_stops_the_sender(dut: Any) -> None:
    """Nobody takes for long: the ring fills, nothing is lost."""
    await start(dut, dut.row_valid_i)
    bench = Testbench(dut, 2, out_pause=0.97)
    bench.send(2)
    await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def frames_take_the_cycles_of_their_passes(dut: Any) -> None:
    """In steady state: what pen_datapath needs for them, nothing for the ring and the ends of frames."""
    await start(dut, dut.row_valid_i)
    bench, frames = Testbench(dut, 3), 5
    bench.send(frames)
    await bench.run()
    per_frame = len(bench.beats) // frames
    ends = bench.beats[per_frame - 1 :: per_frame]
    steps = steps_by_window(GEOMETRY) * frames
    passes = [(cycles, group == STAGE.groups - 1) for cycles in steps for group in range(STAGE.groups)]
    times = pass_times(GEOMETRY.pixels, len(GEOMETRY.taps), passes, begin=0)
    expected = [end for _, end in times[len(times) // frames - 1 :: len(times) // frames]]
    dut._log.info("last beats of frames at %s, last passes at %s", ends, expected)
    assert [after - at for at, after in pairwise(ends)] == [after - at for at, after in pairwise(expected)]


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def reset_in_mid_frame_begins_a_new_one(dut: Any) -> None:
    """After reset nothing is offered, and the next frame is right."""
    await start(dut, dut.row_valid_i)
    for wait in (1, 60, 150, 333):
        bench = Testbench(dut, wait, out_pause=0.5)
        bench.send(3)
        for _ in range(wait):
            await RisingEdge(dut.clk_i)
        bench.driver.stop()
        bench.monitor.stop()
        await reset(dut, 2)
        dut.row_ready_i.value = 0
        await FallingEdge(dut.clk_i)
        assert not int(dut.row_valid_o.value)
        await RisingEdge(dut.clk_i)
    bench = Testbench(dut, 4)
    bench.send(2)
    await bench.run()
    bench.scoreboard.finish()
