"""Bench of pen_datapath: whole layers, with the memories around it played by Python."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.design import BoolArray, Conv, IntArray
from sim import golden
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.cases import DATAPATHS
from sim.cocotb.stimulus import (
    completed_words,
    cycles_per_pass,
    join,
    map_words,
    pass_times,
    random_maps,
    steps_by_window,
)

CASE = DATAPATHS[os.environ.get("PEN_CASE", "engine")]
LAYERS, FILTERS, GROUPS, OUT_PIXELS = CASE.layers, CASE.filters, CASE.groups, CASE.out_pixels
PIXELS = LAYERS.pixels


@dataclass(frozen=True)
class Pass:
    """One group of filters in one window."""

    group: int
    window: int
    last_use: bool
    steps: int


class Testbench:
    """Runs one layer after another: `begin` brings its memories, `run` its passes."""

    def __init__(self, dut: Any, seed: int, pass_pause: float = 0.0, beat_pause: float = 0.0) -> None:
        self.dut, self.pass_pause = dut, pauses(pass_pause, seed)
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.acc_bits = parameter("AccBits")
        self.counter = CycleCounter(dut)
        self.scoreboard = Scoreboard()
        fields = ("group", "lane", "last_lane", "word", "last_word", "data")
        self.monitor = StreamMonitor(
            *(dut.clk_i, dut.beat_valid_o, dut.beat_ready_i),
            {name: getattr(dut, f"beat_{name}_o") for name in fields},
            *(self.scoreboard.check, pauses(beat_pause, seed + 1)),
        )
        self.layer: Conv = LAYERS.layers[0]
        self.entries: list[tuple[int, int, int]] = []
        self.map_memory: dict[int, list[int]] = {}
        self.weight_memory: list[list[int]] = []  # (address, lane)
        self.bias: list[int] = []  # by tag
        self.shift: list[int] = []
        self.passes: deque[Pass] = deque()
        self.taken: list[tuple[int, Pass]] = []  # with their cycles
        self.freed = 0
        self.ring = 0
        self._answers: deque[tuple[int, int]] = deque([(0, 0)] * 2)  # of the memories, for this cycle and the next
        self._entry: tuple[int, int, int] | None = None
        self._tag = 0

    # -- a layer ------------------------------------------------------------------------------------------------------
    async def begin(self, index: int, *, absent: float = 0.0) -> None:
        """Load layer `index` with a random input map, whose channels are absent with this probability, and start it."""
        self.layer = layer = LAYERS.layers[index]
        maps = random_maps(layer, 3, int(self.rng.integers(1000)))[[int(self.rng.integers(3))]]
        present = (self.rng.random(layer.input.channels) >= absent) & layer.kept_taps.any(axis=(1, 2))
        maps[:, ~present] = 0
        self._memories(maps[0], present)
        self._tag = 0
        self._expect(index, golden.step(layer, maps).output[0])
        self._list_passes(index, present)
        self._configure(index)
        self.dut.start_i.value = 1
        await self._cycle(idle=True)
        self.dut.start_i.value = 0

    def _memories(self, maps: IntArray, present: BoolArray) -> None:
        """Maps by channel, whole or in rings; weights by group, kept taps only."""
        layer, words = self.layer, -(-self.layer.input.pixels // PIXELS)
        size = CASE.ring or words
        self.ring = int(self.rng.integers(CASE.ring or 20))
        kept = layer.kept_taps.reshape(layer.input.channels, -1)
        first = np.cumsum(kept.sum(axis=1)) - kept.sum(axis=1)
        self.entries, self.map_memory = [], {}
        for channel in np.flatnonzero(present).tolist():
            base = channel * size
            self.entries.append((base, int(first[channel]), join(kept[channel].tolist(), 1)))
            for index, word in enumerate(map_words(maps[channel], PIXELS)):
                place = (index + self.ring) % CASE.ring if CASE.ring else index + self.ring
                self.map_memory[base + place] = word
        groups = -(-layer.filters // FILTERS)
        rows = np.zeros((groups * FILTERS, int(kept.sum())), np.int64)
        rows[: layer.filters] = layer.weights[:, layer.kept_taps]
        self.weight_memory = rows.reshape(groups, FILTERS, -1).transpose(0, 2, 1).reshape(-1, FILTERS).tolist()
        padded = np.zeros((2, groups * FILTERS), np.int64)
        padded[0, : layer.filters] = layer.bias
        padded[1, : layer.filters] = 0 if layer.shift is None else layer.shift
        self.bias = [join(row, self.acc_bits) for row in padded[0].reshape(groups, FILTERS).tolist()]
        self.shift = [join(row, 5) for row in padded[1].reshape(groups, FILTERS).tolist()]

    def _expect(self, index: int, outputs: IntArray) -> None:
        """Beats of `outputs` (filters, height, width), in order of passes."""
        layer, done = self.layer, completed_words(LAYERS.geometries[index], OUT_PIXELS)
        groups = -(-layer.filters // FILTERS)
        data_bits = len(self.dut.beat_data_o)
        windows = range(LAYERS.geometries[index].windows)
        order = [(g, w) for g in range(groups) for w in windows]
        if GROUPS > 1:
            order.sort(key=lambda item: item[1])
        for group, window in order:
            lanes = min(FILTERS, layer.filters - group * FILTERS)
            for word in [word for word, (at, _) in enumerate(done) if at == window]:
                for lane in range(lanes):
                    output = outputs[group * FILTERS + lane]
                    data = join(map_words(output, OUT_PIXELS)[word], 8)
                    if layer.shift is None:
                        data = int(output[0, 0]) & ((1 << data_bits) - 1)
                    beat = {"group": group if GROUPS > 1 else 0, "lane": lane, "last_lane": int(lane == lanes - 1)}
                    beat |= {"word": word, "last_word": int(word == len(done) - 1), "data": data}
                    self.scoreboard.expect([beat])

    def _list_passes(self, index: int, present: BoolArray) -> None:
        """All passes in order, with the cycles that their taps take."""
        layer, geometry = self.layer, LAYERS.geometries[index]
        groups = -(-layer.filters // FILTERS)
        walked = steps_by_window(geometry, present)
        order = [(g, w) for g in range(groups) for w in range(geometry.windows)]
        if GROUPS > 1:
            order.sort(key=lambda item: item[1])
        self.passes.extend(Pass(g, w, GROUPS == 1 or g == groups - 1, walked[w]) for g, w in order)

    def _configure(self, index: int) -> None:
        dut, layer, geometry = self.dut, self.layer, LAYERS.geometries[index]
        (lane_y, lane_x), (step_y, step_x) = geometry.lanes, geometry.steps
        raw, (limit_y, limit_x) = layer.shift is None, geometry.limits
        for name, value in {
            "height": layer.input.height,
            "width": layer.input.width,
            "lane_y": join(lane_y, LAYERS.coord_bits),
            "lane_x": join(lane_x, LAYERS.coord_bits),
            "step_y": step_y,
            "step_x": step_x,
            "windows": geometry.windows,
            "last_tap": len(geometry.taps) - 1,
            "tap_base": LAYERS.tap_bases[index],
            "signed": int(layer.input_format.signed),
            "limit_y": limit_y,
            "limit_x": limit_x,
            "log_stride": geometry.log_stride,
            "log_pool": geometry.log_pool,
            "last_pixel": geometry.out_pixels - 1,
            "low": 0 if raw else layer.output_format.low,
            "high": 0 if raw else layer.output_format.high,
            "raw": int(raw),
            "entries": len(self.entries),
        }.items():
            getattr(dut, f"{name}_i").value = value

    # -- cycles -------------------------------------------------------------------------------------------------------
    async def _cycle(self, *, idle: bool = False) -> None:
        """One cycle of all memories; offers the next pass if its window is there."""
        dut, now = self.dut, self.counter.now
        if self._entry is not None:
            dut.entry_map_i.value, dut.entry_weight_i.value, dut.entry_taps_i.value = self._entry
            self._entry = None
        dut.window_i.value, dut.weights_i.value = self._answers.popleft()
        dut.bias_i.value, dut.shift_i.value = self.bias[self._tag], self.shift[self._tag]
        dut.pass_valid_i.value = 0
        await FallingEdge(dut.clk_i)
        self._answers.append(self._answer())
        self._tag = int(dut.drain_tag_o.value) % len(self.bias)  # a ROM answers one cycle later
        if int(dut.entry_read_o.value) and self.entries:
            self._entry = self.entries[int(dut.entry_addr_o.value)]
        self.freed += int(dut.window_free_o.value)
        offer = bool(self.passes) and not idle and bool(int(dut.window_valid_o.value)) and not next(self.pass_pause)
        if offer:
            # In the cycle in which the window is valid, as who instantiates it does it.
            item = self.passes[0]
            dut.pass_valid_i.value, dut.pass_last_use_i.value = 1, int(item.last_use)
            dut.pass_weight_i.value = item.group * (len(self.weight_memory) // len(self.bias))
            dut.pass_ring_i.value, dut.pass_tag_i.value = self.ring, item.group % (1 << parameter("TagBits"))
            dut.pass_group_i.value = item.group if GROUPS > 1 else 0
            dut.pass_last_lane_i.value = min(FILTERS, self.layer.filters - item.group * FILTERS) - 1
            assert int(dut.window_last_o.value) == (item.window == int(dut.windows_i.value) - 1)
            if int(dut.pass_ready_o.value):
                self.taken.append((now, self.passes.popleft()))
        await RisingEdge(dut.clk_i)

    def _answer(self) -> tuple[int, int]:
        """What the memories will say to the addresses of this cycle; anything to none."""
        dut = self.dut
        if not int(dut.op_valid_o.value):
            return int(self.rng.integers(1 << 8 * min(PIXELS, 4))), int(self.rng.integers(1 << 8 * FILTERS))
        empty = [0] * PIXELS
        mask, offset = int(dut.op_mask_o.value), int(dut.op_offset_o.value)
        words = [self.map_memory.get(int(word.value), empty) for word in (dut.op_word0_o, dut.op_word1_o)]
        lanes = (words[0] + words[1])[offset : offset + PIXELS]
        window = join([value if mask >> lane & 1 else 0 for lane, value in enumerate(lanes)], 8)
        if not mask:
            return window, int(self.rng.integers(1 << 8 * FILTERS))
        return window, join(self.weight_memory[int(dut.op_weight_o.value)], 8)

    async def run(self) -> None:
        """Until all passes are taken and all beats have come."""
        while self.passes or self.scoreboard.expected:
            await self._cycle()


@cocotb.test(timeout_time=1000, timeout_unit="us")
@cocotb.parametrize(pass_pause=[0.0, 0.6], beat_pause=[0.0, 0.6])
async def layers_equal_the_golden_model(dut: Any, pass_pause: float, beat_pause: float) -> None:
    """One after another, with all channels, some, and none present."""
    await start(dut, dut.start_i, dut.pass_valid_i)
    bench = Testbench(dut, 1, pass_pause, beat_pause)
    for absent in (0.0, 0.5, 1.0):
        for index in range(len(LAYERS.layers)):
            await bench.begin(index, absent=absent)
            windows = sum(item.last_use for item in bench.passes)
            bench.freed = 0
            await bench.run()
            assert bench.freed == windows, "not every window is given back once"
    bench.scoreboard.finish()


@cocotb.test(timeout_time=1000, timeout_unit="us")
async def passes_take_their_steps_or_the_drain(dut: Any) -> None:
    """A cycle per channel and tap that reaches; Pixels + 10 cycles where that is more; both occur."""
    await start(dut, dut.start_i, dut.pass_valid_i)
    bench = Testbench(dut, 2)
    intervals: set[int] = set()
    for index, geometry in enumerate(LAYERS.geometries):
        for absent in (0.0, 0.6):
            begin = bench.counter.now
            await bench.begin(index, absent=absent)
            bench.taken.clear()
            passes = [(item.steps, item.last_use) for item in bench.passes]
            await bench.run()
            times = [at for at, _ in bench.taken]
            assert times == [taken for taken, _ in pass_times(PIXELS, len(geometry.taps), passes, begin)]
            intervals |= {after - at for at, after in pairwise(times)}
    assert min(intervals) < cycles_per_pass(PIXELS) < max(intervals)


@cocotb.test(timeout_time=1000, timeout_unit="us")
async def reset_in_mid_layer_leaves_nothing_behind(dut: Any) -> None:
    """After reset no step, no beat, no window; the next layer is right."""
    await start(dut, dut.start_i, dut.pass_valid_i)
    bench = Testbench(dut, 3, beat_pause=0.8)
    await bench.begin(0)
    for _ in range(150):
        await bench._cycle()
    assert bench.taken
    bench.monitor.stop()
    dut.pass_valid_i.value = 0
    await reset(dut, 3)
    for _ in range(20):
        await FallingEdge(dut.clk_i)
        assert not any(int(getattr(dut, f"{name}_o").value) for name in ("window_valid", "op_valid", "beat_valid"))
        await RisingEdge(dut.clk_i)
    bench = Testbench(dut, 4)
    for index in range(len(LAYERS.layers)):
        await bench.begin(index)
        await bench.run()
    bench.scoreboard.finish()
