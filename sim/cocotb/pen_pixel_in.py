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
    """Frames of pixels in, words of one channel and marks out; pulses are compared with the lengths that were sent."""

    def __init__(
        self, dut: Any, seed: int, pixel_pause: float = 0.0, row_pause: float = 0.0, mark_pause: float = 0.0
    ) -> None:
        self.dut, self.rng = dut, np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.channels, self.frame, self.pixels = (parameter(n) for n in ("Channels", "FramePixels", "Pixels"))
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()
        self.marks = Scoreboard()
        self.taken = 0  # beats
        self.wrong: dict[int, str] = {}  # beats whose `tlast` is wrong, and the pulse that tells it
        self.pulse = (-1, "")  # cycle and name of the next one
        self.beats: list[int] = []
        pixel = {"pixel": dut.pixel_i, "last": dut.pixel_last_i}
        row = {"channel": dut.row_channel_o, "word": dut.row_word_o, "data": dut.row_data_o}
        clock = dut.clk_i
        self.driver = StreamDriver(*(clock, dut.pixel_valid_i, dut.pixel_ready_o, pixel, pauses(pixel_pause, seed + 1)))
        self.watch = StreamMonitor(clock, dut.pixel_valid_i, dut.pixel_ready_o, pixel, self._took)
        self.monitor = StreamMonitor(
            *(clock, dut.row_valid_o, dut.row_ready_i, row, self._row, pauses(row_pause, seed + 2))
        )
        marks = (clock, dut.mark_valid_o, dut.mark_ready_i, dut.mark_bad_o, self.marks.check)
        self.mark_monitor = StreamMonitor(*marks, pauses(mark_pause, seed + 3))
        self._task = cocotb.start_soon(self._pulses())
        self.sent = 0

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self._task.cancel()
        for part in (self.driver, self.watch, self.monitor, self.mark_monitor):
            part.stop()

    def _took(self, _: object) -> None:
        if self.taken in self.wrong:
            self.pulse = (self.counter.now + 1, self.wrong[self.taken])
        self.taken += 1

    def _row(self, beat: dict[str, int]) -> None:
        self.beats.append(self.counter.now)
        self.scoreboard.check(beat)

    async def _pulses(self) -> None:
        while True:
            await RisingEdge(self.dut.clk_i)
            now = self.counter.now
            await FallingEdge(self.dut.clk_i)
            for name, signal in (("short", self.dut.short_o), ("long", self.dut.long_o)):
                expected = self.pulse == (now, name)
                assert int(signal.value) == expected, f"{name}_o is {not expected}"

    def send(self, frames: int, beats: int | None = None) -> None:
        """Random frames, with so many beats up to TLAST; None: as many as they have pixels."""
        beats = self.frame if beats is None else beats
        for _ in range(frames):
            sent: IntArray = self.rng.integers(0, 256, (self.channels, beats))
            self.driver.send(
                {"pixel": join(sent[:, beat].tolist(), 8), "last": int(beat == beats - 1)} for beat in range(beats)
            )
            if beats != self.frame:
                self.wrong[self.sent + min(beats, self.frame) - 1] = "short" if beats < self.frame else "long"
            self.sent += beats
            maps = np.zeros((self.channels, self.frame), np.int64)
            maps[:, :beats] = sent[:, : self.frame]
            words = [map_words(channel, self.pixels) for channel in maps]
            self.scoreboard.expect(
                {"channel": channel, "word": word, "data": join(words[channel][word], 8)}
                for word in range(len(words[0]))
                for channel in range(self.channels)
            )
            self.marks.expect([int(beats != self.frame)])

    async def run(self) -> None:
        """Until all words and marks have come."""
        await self.driver.wait()
        while self.scoreboard.expected or self.marks.expected:
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


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(pixel_pause=[0.0, 0.4], mark_pause=[0.0, 0.95])
async def short_and_long_frames_are_marked_and_the_next_are_whole(
    dut: Any, pixel_pause: float, mark_pause: float
) -> None:
    """Of all lengths, one beat up to two frames, each alone between good frames and one behind the other."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 3, pixel_pause, row_pause=0.2, mark_pause=mark_pause)
    lengths = sorted({1, bench.frame // 2 + 1, bench.frame - 1, bench.frame + 1, 2 * bench.frame, 2 * bench.frame + 1})
    for beats in lengths:
        if beats:
            bench.send(1, beats)
            bench.send(1)
    for beats in bench.rng.integers(1, 2 * bench.frame + 3, 12).tolist():
        bench.send(1, beats)
    bench.send(2)
    await bench.run()
    bench.scoreboard.finish()
    bench.marks.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def missing_pixels_take_a_cycle_each(dut: Any) -> None:
    """The beat after a short frame is taken when its zeros are in, that after a long one in the next cycle."""
    await start(dut, dut.pixel_valid_i)
    bench = Testbench(dut, 6)
    taken: list[int] = []
    watch = (dut.pixel_valid_i, dut.pixel_ready_o, dut.pixel_i, lambda _: taken.append(bench.counter.now))
    StreamMonitor(dut.clk_i, *watch)
    bench.send(1, 1)
    bench.send(1, 2 * bench.frame)
    bench.send(1)
    await bench.run()
    if (bench.frame % bench.pixels or bench.pixels) >= bench.channels:  # no pixel waits for its word
        assert taken == [0, *range(bench.frame, 4 * bench.frame)]
    dropped = taken[1 + bench.frame : 1 + 2 * bench.frame]
    assert dropped == list(range(dropped[0], dropped[0] + bench.frame)), "surplus beats wait for nothing"


async def _forget(dut: Any, bench: Testbench) -> None:
    """Reset; nothing is offered any more."""
    bench.stop()
    await reset(dut, 2)
    dut.row_ready_i.value = dut.mark_ready_i.value = 0
    await FallingEdge(dut.clk_i)
    assert not int(dut.row_valid_o.value)
    assert not int(dut.mark_valid_o.value)
    await RisingEdge(dut.clk_i)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_in_mid_frame_begins_a_new_one(dut: Any) -> None:
    """What had come of the frame is forgotten, words and marks that wait too, and that a frame was short or long."""
    await start(dut, dut.pixel_valid_i)
    for beats in (None, 1, 3 * parameter("FramePixels")):
        bench = Testbench(dut, 4, row_pause=0.9, mark_pause=0.9)
        bench.send(3, beats)
        for _ in range(bench.frame + bench.pixels // 2 + 1):
            await RisingEdge(dut.clk_i)
        await _forget(dut, bench)
    bench = Testbench(dut, 5)
    bench.send(3)
    await bench.run()
    bench.scoreboard.finish()
