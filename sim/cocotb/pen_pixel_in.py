"""Bench of pen_pixel_in."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import IntArray
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamDriver, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import join, map_words


class Testbench:
    """Frames of pixels in, words of one channel out; errors are compared with where `tlast` was sent."""

    def __init__(self, dut: Any, seed: int, pixel_pause: float = 0.0, row_pause: float = 0.0) -> None:
        self.dut, self.rng = dut, np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.channels, self.frame, self.pixels = (parameter(n) for n in ("Channels", "FramePixels", "Pixels"))
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()
        self.taken = 0  # pixels
        self.wrong: set[int] = set()  # pixels with, or without, a `tlast` that should be otherwise
        self.error_at: int | None = None  # cycle of the next pulse
        self.beats: list[int] = []
        pixel = {"pixel": dut.pixel_i, "last": dut.pixel_last_i}
        row = {"channel": dut.row_channel_o, "word": dut.row_word_o, "data": dut.row_data_o}
        clock = dut.clk_i
        self.driver = StreamDriver(*(clock, dut.pixel_valid_i, dut.pixel_ready_o, pixel, pauses(pixel_pause, seed + 1)))
        self.watch = StreamMonitor(clock, dut.pixel_valid_i, dut.pixel_ready_o, pixel, self._took)
        self.monitor = StreamMonitor(
            *(clock, dut.row_valid_o, dut.row_ready_i, row, self._row, pauses(row_pause, seed + 2))
        )
        cocotb.start_soon(self._errors())
        self.sent = 0

    def _took(self, _: object) -> None:
        if self.taken in self.wrong:
            self.error_at = self.counter.now + 1
        self.taken += 1

    def _row(self, beat: dict[str, int]) -> None:
        self.beats.append(self.counter.now)
        self.scoreboard.check(beat)

    async def _errors(self) -> None:
        while True:
            await RisingEdge(self.dut.clk_i)
            expected = self.error_at == self.counter.now
            await FallingEdge(self.dut.clk_i)
            assert int(self.dut.frame_error_o.value) == expected, f"frame_error_o is {not expected}"

    def send(self, frames: int, wrong: tuple[int, ...] = ()) -> None:
        """Random frames, of which these pixels have a wrong `tlast`."""
        self.wrong |= {self.sent + pixel for pixel in wrong}
        for _ in range(frames):
            maps: IntArray = self.rng.integers(0, 256, (self.channels, self.frame))
            self.driver.send(
                {
                    "pixel": join(maps[:, pixel].tolist(), 8),
                    "last": int((pixel == self.frame - 1) != (self.sent + pixel in self.wrong)),
                }
                for pixel in range(self.frame)
            )
            self.sent += self.frame
            words = [map_words(channel, self.pixels) for channel in maps]
            self.scoreboard.expect(
                {"channel": channel, "word": word, "data": join(words[channel][word], 8)}
                for word in range(len(words[0]))
                for channel in range(self.channels)
            )

    async def run(self) -> None:
        """Until all words have come."""
        await self.driver.wait()
        while self.scoreboard.expected:
            await RisingEdge(self.dut.clk_i)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(pixel_pause=[0.0, 0.5], row_pause=[0.0, 0.5])
async def pixels_become_words_of_a_channel(dut: Any, pixel_pause: float, row_pause: float) -> None:
    """Frames one after another; the last word of each is filled with zeros."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 1, pixel_pause, row_pause)
    bench.send(8)
    await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_word_takes_its_pixels_or_its_channels(dut: Any) -> None:
    """Whichever is more; the first channel leaves in the cycle after the word's last pixel."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 2)
    begin = bench.counter.now  # the first pixel is offered in this cycle
    bench.send(5)
    await bench.run()
    sizes = [min(bench.pixels, bench.frame - pixel) for pixel in range(0, bench.frame, bench.pixels)] * 5
    complete = begin + sizes[0] - 1
    expected = []
    for size in [*sizes[1:], 0]:
        expected += [complete + 1 + channel for channel in range(bench.channels)]
        complete += max(size, bench.channels)
    assert bench.beats == expected


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_misplaced_last_is_told_and_steers_nothing(dut: Any) -> None:
    """A missing one, an early one; the frames stay where they are."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 3, pixel_pause=0.3)
    bench.send(6, wrong=(bench.frame - 1, 2 * bench.frame, 3 * bench.frame + bench.frame // 2))
    await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_in_mid_frame_begins_a_new_one(dut: Any) -> None:
    """What had come of the frame is forgotten, words that wait for the receiver too."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 4, row_pause=0.9)
    bench.send(3)
    for _ in range(bench.frame + bench.pixels // 2 + 1):
        await RisingEdge(dut.clk_i)
    bench.driver.stop()
    bench.watch.stop()
    bench.monitor.stop()
    await reset(dut, 2)
    dut.row_ready_i.value = 0
    await FallingEdge(dut.clk_i)
    assert not int(dut.row_valid_o.value)
    await RisingEdge(dut.clk_i)
    bench = Testbench(dut, 5)
    bench.send(3)
    await bench.run()
    bench.scoreboard.finish()
