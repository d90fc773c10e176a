"""Bench of pen_tail_in: frames in as row streams, their strengths and windows read back, two frames deep."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import IntArray
from sim.cocotb.bench import CycleCounter, StreamDriver, StreamMonitor, cycles, parameter, pauses, reset, start
from sim.cocotb.stimulus import join, split

SETTLE = 4  # cycles from a frame's last word to `frame_valid_o`
WINDOW_LATENCY = 2
WAIT = 2000  # cycles after which a frame that does not come is missed


class Testbench:
    """Frames (channels, words, pixels) are sent; a reader takes them in order and looks at everything they left."""

    def __init__(self, dut: Any, seed: int, row_pause: float = 0.0) -> None:
        self.dut = dut
        self.channels, self.words, self.pixels = (parameter(name) for name in ("Channels", "Words", "Pixels"))
        self.signed = bool(parameter("InSigned"))
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.taken: list[int] = []  # cycles of row handshakes
        self.waiting: deque[IntArray] = deque()
        self.frames_read = 0
        rows = {"channel": dut.row_channel_i, "word": dut.row_word_i, "data": dut.row_data_i}
        ports = (dut.clk_i, dut.row_valid_i, dut.row_ready_o, rows)
        self.driver = StreamDriver(*ports, pauses(row_pause, 3))
        self.monitor = StreamMonitor(*ports, lambda _: self.taken.append(self.counter.now))

    def send(self, count: int) -> None:
        """Queue random frames, channel after channel or in alternation."""
        low, high = (-128, 128) if self.signed else (0, 256)
        for index in range(count):
            frame = self.rng.integers(low, high, (self.channels, self.words, self.pixels))
            frame *= self.rng.random((self.channels, 1, 1)) < 0.8
            places = [(c, w) for c in range(self.channels) for w in range(self.words)]
            if index % 2:
                places.sort(key=lambda place: (place[1], place[0]))
            self.driver.send({"channel": c, "word": w, "data": join(frame[c, w], 8)} for c, w in places)
            self.waiting.append(frame)

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.driver.stop()
        self.monitor.stop()

    async def frame(self) -> IntArray:
        """Wait for the next frame; returns just after a falling edge of the cycle in which it is there."""
        for _ in range(WAIT):
            await FallingEdge(self.dut.clk_i)
            if int(self.dut.frame_valid_o.value):
                expected = self.frames_read % 2 * self.channels * self.words
                assert int(self.dut.frame_base_o.value) == expected
                return self.waiting.popleft()
        raise AssertionError(f"no frame in {WAIT} cycles")

    async def read(self, frame: IntArray, windows: int) -> None:
        """Compare all strengths and some random windows of `frame`, and give it back."""
        dut = self.dut
        await RisingEdge(dut.clk_i)
        for channel in self.rng.permutation(self.channels).tolist():
            dut.strength_channel_i.value = channel
            await RisingEdge(dut.clk_i)
            await FallingEdge(dut.clk_i)
            assert int(dut.strength_o.value) == np.abs(frame[channel]).sum(), f"strength of channel {channel}"
            await RisingEdge(dut.clk_i)
        await self._windows(frame, windows)
        dut.frame_done_i.value = 1
        await RisingEdge(dut.clk_i)
        dut.frame_done_i.value = 0
        self.frames_read += 1

    async def _windows(self, frame: IntArray, count: int) -> None:
        """One random window per cycle; what is not of this frame is masked."""
        dut, total = self.dut, self.channels * self.words
        base, flat = self.frames_read % 2 * total, frame.reshape(total, self.pixels)
        due: deque[tuple[int, list[int]]] = deque()
        for step in range(count + WINDOW_LATENCY):
            dut.read_i.value = step < count
            if step < count:
                word0 = int(self.rng.integers(total))
                others = [word for word in range(total) if (word - word0) % 2] or [word0 + 1]
                word1 = int(self.rng.choice(others))
                offset, mask = int(self.rng.integers(self.pixels)), self.rng.random(self.pixels) < 0.8
                mask[self.pixels - offset :] &= word1 < total
                both = np.concatenate([flat[word0], flat[word1 % total]])
                due.append((step + WINDOW_LATENCY, (both[offset : offset + self.pixels] * mask).tolist()))
                dut.word0_i.value, dut.word1_i.value = base + word0, (base + word1) % (2 * total)
                dut.offset_i.value, dut.mask_i.value = offset, join(mask.tolist(), 1)
            await FallingEdge(dut.clk_i)
            if due and due[0][0] == step:
                window = split(int(dut.window_o.value), 8, self.pixels, signed=self.signed)
                assert window == due.popleft()[1]
            await RisingEdge(dut.clk_i)

    async def finish(self) -> None:
        """Nothing is left: no frame that nobody sent."""
        await cycles(self.dut, SETTLE + 2)
        await FallingEdge(self.dut.clk_i)
        assert not self.waiting
        assert not int(self.dut.frame_valid_o.value)


async def _start(dut: Any) -> None:
    await start(dut, dut.row_valid_i, dut.frame_done_i, dut.read_i)


@cocotb.test()
@cocotb.parametrize(row_pause=[0.0, 0.4], hold=[0, 40])
async def frames_are_read_while_the_next_come(dut: Any, row_pause: float, hold: int) -> None:
    """Strengths and windows of ten frames; the reader is quick, or keeps each for a while."""
    await _start(dut)
    bench = Testbench(dut, seed=1, row_pause=row_pause)
    bench.send(10)
    for _ in range(10):
        frame = await bench.frame()
        await cycles(dut, int(bench.rng.integers(hold + 1)))
        await bench.read(frame, windows=20)
    await bench.finish()


@cocotb.test()
async def two_frames_fit_and_the_third_waits(dut: Any) -> None:
    """`frame_valid_o` rises 4 cycles after a last word; `row_ready_o` stays low until a buffer is given back."""
    await _start(dut)
    bench = Testbench(dut, seed=2)
    size = bench.channels * bench.words
    bench.send(3)
    await bench.frame()
    assert bench.counter.now == bench.taken[size - 1] + SETTLE
    await cycles(dut, 4 * size)
    await FallingEdge(dut.clk_i)
    assert not int(dut.row_ready_o.value)
    assert len(bench.taken) == 2 * size
    assert bench.taken == list(range(bench.taken[0], bench.taken[0] + 2 * size)), "a word per cycle"
    await RisingEdge(dut.clk_i)
    dut.frame_done_i.value = 1
    given_back = bench.counter.now
    await RisingEdge(dut.clk_i)
    dut.frame_done_i.value = 0
    bench.frames_read = 1
    for _ in range(2):
        await bench.read(await bench.frame(), windows=8)
    assert bench.taken[2 * size] == given_back + 1
    await bench.finish()


@cocotb.test()
async def reset_in_mid_frame_empties_both_buffers(dut: Any) -> None:
    """After reset no frame is there, not even one that was complete; new ones start in the first buffer."""
    await _start(dut)
    bench = Testbench(dut, seed=3)
    bench.send(2)
    await cycles(dut, bench.channels * bench.words + 2)
    bench.stop()
    await reset(dut, 2)
    await FallingEdge(dut.clk_i)
    assert not int(dut.frame_valid_o.value)
    assert int(dut.row_ready_o.value)
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, seed=4)
    after.send(3)
    for _ in range(3):
        await after.read(await after.frame(), windows=8)
    await after.finish()
