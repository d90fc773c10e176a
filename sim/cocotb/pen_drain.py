"""Bench of pen_drain."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import IntArray, IntFormat
from hw.emit.geometry import QUARTERS, Geometry, quarter_words
from sim import golden
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamMonitor, pauses, reset, start
from sim.cocotb.cases import DRAINS
from sim.cocotb.stimulus import completed_words, join, map_words, quartered_words

CASE = DRAINS[os.environ.get("PEN_CASE", "engine")]
PIXELS, OUT_PIXELS, FILTERS, GROUPS = CASE.maps.pixels, CASE.out_pixels, CASE.filters, CASE.groups
DATA_BITS = max(8 * OUT_PIXELS, CASE.acc_bits)
LATENCY = 5  # cycles from a load to the beat of a word that the pass's first pixel completes
PER_PASS = PIXELS + 4  # cycles from a load to the next

Beat = dict[str, int]


def leaves_in_quarters(geometry: Geometry) -> bool:
    """Whether the case's maps of this geometry are left in quarters."""
    output = geometry.layer.output
    return CASE.quarters and output.height % 2 == 0 and output.width % 2 == 0


@dataclass(frozen=True)
class Pass:
    """One load; `sums` and `addends` are (FILTERS, PIXELS)."""

    group: int
    last_lane: int
    y: int
    x: int
    sums: IntArray
    addends: IntArray
    bias: IntArray
    shift: IntArray


class Testbench:
    """Loads passes as soon as there is room, or later; expects the beats of maps that numpy makes."""

    def __init__(self, dut: Any, seed: int, load_pause: float = 0.0, beat_pause: float = 0.0) -> None:
        self.dut, self.load_pause = dut, pauses(load_pause, seed)
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.passes: deque[Pass] = deque()
        self.maps = 0
        self.loads: list[int] = []
        self.beats: list[int] = []
        self.scoreboard = Scoreboard()
        fields = ("group", "lane", "last_lane", "word", "last_word", "data")
        self.payload = {name: getattr(dut, f"beat_{name}_o") for name in fields}
        self.monitor = StreamMonitor(
            *(dut.clk_i, dut.beat_valid_o, dut.beat_ready_i, self.payload, self._take, pauses(beat_pause, seed + 1))
        )

    def _take(self, beat: Beat) -> None:
        self.beats.append(self.counter.now)
        self.scoreboard.check(beat)

    # -- stimulus -----------------------------------------------------------------------------------------------------
    def add_map(self, geometry: Geometry) -> None:
        """One map of every group, window by window: its passes and its beats."""
        layer, shape, rng = geometry.layer, geometry.layer.input, self.rng
        self._configure(geometry, layer.output_format)
        bound = 1 << (CASE.acc_bits - 2)
        total = geometry.windows * PIXELS  # lanes beyond the map hold anything
        sums = rng.integers(-bound, bound, (GROUPS, FILTERS, max(total, shape.pixels)))
        bias = rng.integers(-bound // 2, bound // 2, (GROUPS, FILTERS))
        shift = rng.integers(max(0, CASE.acc_bits - 12), CASE.acc_bits - 7, (GROUPS, FILTERS))
        last_lane = rng.integers(0, FILTERS, GROUPS)
        addends, added = self._residual(sums.shape, shift)
        quartered = leaves_in_quarters(geometry)
        to_words = quartered_words if quartered else map_words
        words = [
            [
                to_words(filter_map, OUT_PIXELS)
                for filter_map in self._outputs(geometry, sums[g] + added[g], bias[g], shift[g])
            ]
            for g in range(GROUPS)
        ]
        done = completed_words(geometry, OUT_PIXELS, quartered=quartered)
        for window in range(geometry.windows):
            y, x = divmod(window * PIXELS, shape.width)
            lanes = slice(window * PIXELS, (window + 1) * PIXELS)
            for g in range(GROUPS):
                self.passes.append(
                    Pass(g, int(last_lane[g]), y, x, sums[g][:, lanes], addends[g][:, lanes], bias[g], shift[g])
                )
                self.scoreboard.expect(
                    self._beat(g, lane, int(last_lane[g]), word, len(done), join(words[g][lane][word], 8))
                    for _, word in sorted((lane, word) for word, (at, lane) in enumerate(done) if at == window)
                    for lane in range(last_lane[g] + 1)
                )

    def _residual(self, shape: tuple[int, ...], shift: IntArray) -> tuple[IntArray, IntArray]:
        """What is added to sums of `shape` (GROUPS, FILTERS, pixels): as pixels, and at the scale of the sums."""
        dut, rng = self.dut, self.rng
        adds, signed = CASE.residual and self.maps % 3 != 2, bool(self.maps % 2)
        self.maps += 1
        addends = rng.integers(-128 if signed else 0, 128 if signed else 256, shape)
        less = int(shift.min() - rng.integers(0, 5))
        dut.add_i.value, dut.add_signed_i.value, dut.add_less_i.value = int(adds), int(signed), less % 32
        return addends, (addends << (shift - less)[:, :, None]) * int(adds)

    @staticmethod
    def _beat(group: int, lane: int, last_lane: int, word: int, words: int, data: int) -> Beat:
        beat = {"group": group, "lane": lane, "last_lane": int(lane == last_lane)}
        return beat | {"word": word, "last_word": int(word == words - 1), "data": data}

    @staticmethod
    def _outputs(geometry: Geometry, sums: IntArray, bias: IntArray, shift: IntArray) -> IntArray:
        """(FILTERS, height, width) of the output maps for sums (FILTERS, flat input map)."""
        layer, shape = geometry.layer, geometry.layer.input
        grid = sums[:, : shape.pixels].reshape(FILTERS, shape.height, shape.width) + bias[:, None, None]
        grid = grid[:, :: layer.stride, :: layer.stride][:, : layer.grid[0], : layer.grid[1]]
        maps = golden.requantise(grid[None], shift, layer.output_format)
        outputs: IntArray = golden.max_pool(maps, layer.pool_size)[0]
        return outputs

    def _configure(self, geometry: Geometry, out: IntFormat, *, raw: bool = False) -> None:
        dut = self.dut
        dut.width_i.value = geometry.layer.input.width
        dut.limit_y_i.value, dut.limit_x_i.value = (1, 1) if raw else geometry.limits
        dut.log_stride_i.value, dut.log_pool_i.value = geometry.log_stride, geometry.log_pool
        quartered = not raw and leaves_in_quarters(geometry)
        dut.last_pixel_i.value = 0 if raw else geometry.out_pixels // (QUARTERS if quartered else 1) - 1
        dut.quartered_i.value = int(quartered)
        dut.quarter_words_i.value = quarter_words(geometry.layer.output, OUT_PIXELS) if quartered else 0
        dut.low_i.value, dut.high_i.value, dut.raw_i.value = out.low, out.high, int(raw)

    def add_raw(self, geometry: Geometry) -> None:
        """Maps of a single pixel whose exact sums leave."""
        self._configure(geometry, IntFormat(8, False, 0), raw=True)
        self.dut.add_i.value = 0
        bound = 1 << (CASE.acc_bits - 2)
        for g in range(GROUPS):
            sums = self.rng.integers(-bound, bound, (FILTERS, PIXELS))
            bias = self.rng.integers(-bound, bound, FILTERS)
            self.passes.append(Pass(g, FILTERS - 1, 0, 0, sums, sums, bias, np.zeros(FILTERS, np.int64)))
            for lane in range(FILTERS):
                data = int(sums[lane, 0] + bias[lane]) & ((1 << DATA_BITS) - 1)
                self.scoreboard.expect([self._beat(g, lane, FILTERS - 1, 0, 1, data)])

    # -- running ------------------------------------------------------------------------------------------------------
    async def load(self, count: int) -> None:
        """Load passes in cycles with room; bias and shift are there from the next cycle until there is room again.

        Shifts are there from the load on where something may be added, which is itself there with the load only.
        """
        dut = self.dut
        await FallingEdge(dut.clk_i)
        while count:
            self._junk()
            while next(self.load_pause):
                await FallingEdge(dut.clk_i)
            # In the very cycle that shows room: the module does not look at a load before the edge.
            item, count = self.passes.popleft(), count - 1
            self.loads.append(self.counter.now)
            dut.load_i.value = 1
            dut.sums_i.value = join(item.sums.ravel().tolist(), CASE.acc_bits)
            dut.addends_i.value = join((item.addends & 0xFF).ravel().tolist(), 8)
            if CASE.residual:
                dut.shift_i.value = join(item.shift.tolist(), 5)
            dut.load_group_i.value, dut.load_last_lane_i.value = item.group, item.last_lane
            dut.load_y_i.value, dut.load_x_i.value = item.y, item.x
            await RisingEdge(dut.clk_i)
            dut.load_i.value = 0
            dut.bias_i.value, dut.shift_i.value = join(item.bias.tolist(), CASE.acc_bits), join(item.shift.tolist(), 5)
            await FallingEdge(dut.clk_i)
            while not int(dut.room_o.value):
                await FallingEdge(dut.clk_i)
        self._junk()
        await RisingEdge(dut.clk_i)

    def _junk(self) -> None:
        self.dut.bias_i.value = int(self.rng.integers(1 << (FILTERS * CASE.acc_bits) % 60))
        self.dut.shift_i.value = int(self.rng.integers(1 << 5 * FILTERS))
        self.dut.addends_i.value = int(self.rng.integers(1 << (8 * FILTERS * PIXELS) % 60))

    async def run(self) -> None:
        """Until all passes are loaded and all beats have come."""
        await self.load(len(self.passes))
        while self.scoreboard.expected:
            await RisingEdge(self.dut.clk_i)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(load_pause=[0.0, 0.5], beat_pause=[0.0, 0.7])
async def sums_become_words(dut: Any, load_pause: float, beat_pause: float) -> None:
    """Maps one after another, of all geometries."""
    await start(dut, dut.load_i)
    bench = Testbench(dut, 1, load_pause, beat_pause)
    for geometry in CASE.maps.geometries:
        for _ in range(2):  # a second map begins as if there had been none before
            bench.add_map(geometry)
            await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(beat_pause=[0.0, 0.7])
async def raw_sums_leave_exactly(dut: Any, beat_pause: float) -> None:
    """Logits: sign-extended, one per lane."""
    await start(dut, dut.load_i)
    bench = Testbench(dut, 2, 0.0, beat_pause)
    for _ in range(5):
        bench.add_raw(CASE.maps.geometries[0])
        await bench.run()
    bench.scoreboard.finish()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def a_word_comes_five_cycles_after_its_pixel(dut: Any) -> None:
    """A pass's pixels follow each other in cycles of their own, and passes every Pixels + 4 cycles."""
    await start(dut, dut.load_i)
    bench = Testbench(dut, 3)
    geometry = CASE.maps.geometries[0]
    bench.add_map(geometry)
    window, lane = min(completed_words(geometry, OUT_PIXELS, quartered=leaves_in_quarters(geometry)))
    await bench.run()
    assert bench.beats[0] == bench.loads[window * GROUPS] + LATENCY + lane
    # Words of the first window come before the next pass is loaded, so nothing has stalled up to here.
    assert bench.loads[1] == bench.loads[0] + PER_PASS


@cocotb.test(timeout_time=500, timeout_unit="us")
async def a_busy_output_stalls_without_loss(dut: Any) -> None:
    """With nobody to take beats there is no room for a pass that completes a second word; later all is there."""
    await start(dut, dut.load_i)
    bench = Testbench(dut, 4)
    bench.monitor.stop()
    dut.beat_ready_i.value = 0
    bench.add_map(CASE.maps.geometries[0])
    task = cocotb.start_soon(bench.run())
    for _ in range(40 * PER_PASS):
        await RisingEdge(dut.clk_i)
    assert bench.passes, "all passes were loaded although no beat was taken"
    await FallingEdge(dut.clk_i)
    assert not int(dut.room_o.value)
    assert int(dut.beat_valid_o.value)
    await RisingEdge(dut.clk_i)
    StreamMonitor(dut.clk_i, dut.beat_valid_o, dut.beat_ready_i, bench.payload, bench._take, pauses(0.3, 5))
    await task
    bench.scoreboard.finish()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_in_mid_map_forgets_it(dut: Any) -> None:
    """After reset there is room and no beat; the next map is right."""
    await start(dut, dut.load_i)
    bench = Testbench(dut, 6, beat_pause=0.8)
    bench.add_map(CASE.maps.geometries[0])
    await bench.load(2)
    bench.monitor.stop()
    await reset(dut, 2)
    dut.beat_ready_i.value = 0
    await FallingEdge(dut.clk_i)
    assert int(dut.room_o.value)
    assert not int(dut.beat_valid_o.value)
    await RisingEdge(dut.clk_i)
    bench = Testbench(dut, 7)
    bench.add_map(CASE.maps.geometries[-1])
    await bench.run()
    bench.scoreboard.finish()
