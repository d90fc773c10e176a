"""Bench of pen_window."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw.emit.geometry import Geometry
from sim.cocotb.bench import CycleCounter, reset, start
from sim.cocotb.cases import WINDOWS
from sim.cocotb.stimulus import join

LAYERS = WINDOWS[os.environ.get("PEN_CASE", "four_lanes")]


@dataclass(frozen=True)
class Window:
    """What the contract says of one window."""

    y: int
    x: int
    last: bool
    masks: list[int]  # by tap: the lanes that are on the map, and stay there
    pixels: list[int]  # by tap: where the window of inputs starts

    @property
    def reach(self) -> int:
        """Taps that are on the map in any lane, as a mask."""
        return sum(1 << tap for tap, mask in enumerate(self.masks) if mask)


def windows_of(geometry: Geometry) -> list[Window]:
    """All windows of a layer, by looking at every lane and tap."""
    shape, lanes = geometry.layer.input, geometry.pixels
    (kh, kw), (top, left) = geometry.layer.kernel, geometry.layer.pad
    taps = [(y - top, x - left) for y in range(kh) for x in range(kw)]
    found = []
    for index in range(geometry.windows):
        places = [divmod(index * lanes + lane, shape.width) for lane in range(lanes)]
        masks = [
            join([y < shape.height and 0 <= y + dy < shape.height and 0 <= x + dx < shape.width for y, x in places], 1)
            for dy, dx in taps
        ]
        pixels = [index * lanes + dy * shape.width + dx for dy, dx in taps]
        found.append(Window(*places[0], index == geometry.windows - 1, masks, pixels))
    return found


class Testbench:
    """Takes windows, looks taps up in those it holds, and gives them back, at random moments or as fast as it can."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut = dut
        self.rng = np.random.default_rng(seed)
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.windows: list[Window] = []
        self.next = 0  # window to be taken
        self.taken: deque[tuple[int, Window]] = deque()  # with their halves

    async def begin(self, layer: int) -> None:
        """Configure `layer` and start it."""
        dut, geometry = self.dut, LAYERS.geometries[layer]
        shape, bits = geometry.layer.input, LAYERS.coord_bits
        dut.height_i.value, dut.width_i.value = shape.height, shape.width
        (lane_y, lane_x), (step_y, step_x) = geometry.lanes, geometry.steps
        dut.lane_y_i.value, dut.lane_x_i.value = join(lane_y, bits), join(lane_x, bits)
        dut.step_y_i.value, dut.step_x_i.value = step_y, step_x
        dut.windows_i.value = geometry.windows
        dut.last_tap_i.value, dut.tap_base_i.value = len(geometry.taps) - 1, LAYERS.tap_bases[layer]
        self.windows, self.next = windows_of(geometry), 0
        dut.start_i.value = 1
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0

    async def cycle(self, take: float = 1.0, release: float = 1.0) -> bool:
        """One cycle in which an offered window is taken, and the oldest one given back, with these probabilities."""
        dut, rng = self.dut, self.rng
        give = bool(self.taken) and rng.random() < release
        dut.release_i.value = int(give)
        looked = None
        if self.taken:
            half, window = self.taken[rng.integers(len(self.taken))]
            tap = int(rng.integers(len(window.masks)))
            looked = window.masks[tap], window.pixels[tap]
            dut.lookup_half_i.value, dut.lookup_tap_i.value = half, tap
        dut.take_i.value = 0
        await FallingEdge(dut.clk_i)
        if looked is not None:
            found = int(dut.lookup_mask_o.value), dut.lookup_pixel_o.value.to_signed()
            assert found == looked, f"lookup {found}, wanted {looked}"
        took = bool(int(dut.valid_o.value)) and rng.random() < take
        if took:
            # Late in the cycle, as the module decides nothing in the same cycle on what is taken.
            dut.take_i.value = 1
            window = self.windows[self.next]
            offered = (int(dut.y_o.value), int(dut.x_o.value), bool(int(dut.last_o.value)), int(dut.reach_o.value))
            wanted = (window.y, window.x, window.last, window.reach)
            assert offered == wanted, f"window {self.next}: {offered} is offered, wanted {wanted}"
            self.next = (self.next + 1) % len(self.windows)
        if give:
            self.taken.popleft()
        if took:
            self.taken.append((int(dut.half_o.value), window))
        await RisingEdge(dut.clk_i)
        return took

    async def take(self, count: int, take: float = 1.0, release: float = 1.0) -> None:
        """Take `count` windows and give all back."""
        while count:
            count -= await self.cycle(take, release)
        await self.drain()

    async def drain(self) -> None:
        """Give back what is held."""
        while self.taken:
            await self.cycle(take=0.0)
        self.dut.take_i.value = self.dut.release_i.value = 0


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(take=[1.0, 0.1], release=[1.0, 0.1])
async def windows_come_in_order_and_start_over(dut: Any, take: float, release: float) -> None:
    """Every layer more than twice around, layers after each other; users that are quick or slow."""
    await start(dut, dut.start_i, dut.take_i, dut.release_i)
    bench = Testbench(dut, seed=1)
    for layer in range(len(LAYERS.layers)):
        await bench.begin(layer)
        await bench.take(2 * len(bench.windows) + 3, take, release)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def preparing_costs_a_cycle_per_tap_and_three(dut: Any) -> None:
    """From the start to the first window one more; nothing is prepared further than two ahead."""
    await start(dut, dut.start_i, dut.take_i, dut.release_i)
    bench = Testbench(dut, seed=2)
    for layer, geometry in enumerate(LAYERS.geometries):
        begin = bench.counter.now
        await bench.begin(layer)
        cost = len(geometry.taps) + 3
        times: list[int] = []
        while len(times) < 6:
            now = bench.counter.now
            if await bench.cycle():
                times.append(now - begin)
        assert times == [cost + 1 + i * cost for i in range(6)]
        await bench.drain()
        for _ in range(3 * cost):  # both halves fill, and that is all
            await bench.cycle(take=0.0)
        for window in range(4):  # one is there, the other follows at once
            now = bench.counter.now
            while not await bench.cycle(release=0.0 if window == 0 else 1.0):
                pass
            if window < 2:
                assert bench.counter.now == now + 1
        await bench.drain()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def a_start_in_mid_preparation_forgets_the_old_layer(dut: Any) -> None:
    """At any moment at which nothing is taken, the next layer may begin."""
    await start(dut, dut.start_i, dut.take_i, dut.release_i)
    bench = Testbench(dut, seed=3)
    for wait in range(2, 22):
        await bench.begin(wait % len(LAYERS.layers))
        for _ in range(wait):
            await bench.cycle(take=0.0)
    await bench.take(5)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_in_mid_preparation_offers_nothing(dut: Any) -> None:
    """After reset no window comes before a start."""
    await start(dut, dut.start_i, dut.take_i, dut.release_i)
    bench = Testbench(dut, seed=4)
    await bench.begin(0)
    for _ in range(len(LAYERS.geometries[0].taps)):
        await bench.cycle(take=0.0)
    await reset(dut, 2)
    for _ in range(40):
        await FallingEdge(dut.clk_i)
        assert not int(dut.valid_o.value)
        await RisingEdge(dut.clk_i)
    await bench.begin(0)
    await bench.take(5)
