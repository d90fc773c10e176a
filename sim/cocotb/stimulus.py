"""Random stimulus for benches: seeded numbers, small layers, feature maps. Nothing here needs a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hw.design import BoolArray, Conv, IntArray, IntFormat, Lanes, Layer, MapShape, Place, Source
from hw.emit.bits import table
from hw.emit.geometry import Geometry
from hw.emit.stage import MIN_ACC_BITS
from sim import golden


def join(values: Sequence[int], bits: int) -> int:
    """A packed array as one number: element i in bits i * `bits` and up, two's complement."""
    return sum((int(value) & ((1 << bits) - 1)) << i * bits for i, value in enumerate(values))


def split(word: int, bits: int, count: int, *, signed: bool = False) -> list[int]:
    """The `count` elements of a packed array, the reverse of `join`."""
    values = [word >> i * bits & ((1 << bits) - 1) for i in range(count)]
    return [value - (value >> (bits - 1) << bits) for value in values] if signed else values


def random_conv(
    seed: int,
    *,
    channels: int,
    size: tuple[int, int],
    filters: int,
    lanes: Lanes,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    pool: int = 1,
    signed: tuple[bool, bool] = (False, False),
    kept: float = 1.0,
) -> Conv:
    """A convolution with random weights, of which a share `kept` of the taps is not pruned.

    `signed` is that of input and output. Biases and shifts are such that the outputs use their range and some saturate.
    """
    rng = np.random.default_rng(seed)
    taps = rng.random((channels, *kernel)) < kept
    layer = Conv(
        name=f"conv{seed}",
        input=MapShape(channels, *size),
        input_format=IntFormat(8, signed[0], 0),
        weights=rng.integers(-128, 128, (filters, channels, *kernel)) * taps,
        weight_bits=8,
        bias=np.zeros(filters, np.int64),
        output_format=IntFormat(8, signed[1], 0),
        shift=np.zeros(filters, np.int64),
        place=Place.HEAD,
        source=Source.RESIDENT,
        taps=taps,
        lanes=lanes,
        strides=stride,
        padding=padding,
        pool=pool,
    )
    peak = np.abs(golden.accumulate(layer, random_maps(layer, 4, seed))).max(axis=(0, 2, 3)) + 1
    bias = np.rint(rng.normal(0, 0.2, filters) * peak).astype(np.int64)
    shift = np.ceil(np.log2(peak / layer.output_format.high)) + rng.integers(-2, 1, filters)
    return replace(layer, bias=bias, shift=np.clip(shift, 0, 31).astype(np.int64))


def random_maps(layer: Layer, frames: int, seed: int) -> IntArray:
    """Input maps (frames, channels, height, width) of `layer`: dense, sparse, and at both ends of the range in turn."""
    rng = np.random.default_rng(seed)
    number, shape = layer.input_format, layer.input
    maps = rng.integers(number.low, number.high + 1, (frames, shape.channels, shape.height, shape.width))
    maps[1::3] *= rng.random(maps[1::3].shape) < 0.2
    maps[2::3] = np.where(maps[2::3] > (number.low + number.high) // 2, number.high, number.low)
    return maps


def map_words(channel: IntArray, pixels: int) -> list[list[int]]:
    """One channel's map (height, width) as words of `pixels` pixels, the last filled with zeros."""
    flat = channel.ravel().tolist()
    flat += [0] * (-len(flat) % pixels)
    return [flat[i : i + pixels] for i in range(0, len(flat), pixels)]


def quarters(channel: IntArray) -> list[IntArray]:
    """The quarters of one channel's map (height, width): of its even and odd rows and columns."""
    return [channel[row::2, column::2] for row in range(2) for column in range(2)]


def quartered_words(channel: IntArray, pixels: int) -> list[list[int]]:
    """One channel's map (height, width) in quarters, each as `map_words`."""
    return [word for quarter in quarters(channel) for word in map_words(quarter, pixels)]


def completed_words(geometry: Geometry, out_pixels: int, *, quartered: bool = False) -> list[tuple[int, int]]:
    """For each output word of `out_pixels` pixels, the window and the lane that bring the last pixel that it needs.

    With `quartered` the words of one quarter of the output after another.
    """
    layer, out = geometry.layer, geometry.layer.output
    places = np.arange(out.pixels).reshape(out.height, out.width)
    words = [
        part.ravel()[i : i + out_pixels]
        for part in (quarters(places) if quartered else [places])
        for i in range(0, part.size, out_pixels)
    ]
    found = []
    for word in words:
        row, column = divmod(int(word[-1]), out.width)
        y, x = (((n + 1) * layer.pool_size - 1) * geometry.stride for n in (row, column))
        found.append(divmod(y * geometry.width + x, geometry.pixels))
    return found


def steps_by_window(geometry: Geometry, present: BoolArray | None = None) -> list[int]:
    """Steps of a pass in each window: kept taps of present channels that reach the map, at least one per channel."""
    shape, lanes = geometry.layer.input, geometry.pixels
    present = np.ones(shape.channels, np.bool_) if present is None else present
    found = []
    for window in range(geometry.windows):
        places = [divmod(p, shape.width) for p in range(window * lanes, min((window + 1) * lanes, shape.pixels))]
        reach = [
            any(0 <= y + dy < shape.height and 0 <= x + dx < shape.width for y, x in places)
            for dy, dx, _ in geometry.taps
        ]
        taps = (geometry.layer.kept_taps.reshape(shape.channels, -1) & np.array(reach)).sum(axis=1)
        found.append(int(np.maximum(taps[present], 1).sum()) or 1)
    return found


def cycles_per_pass(pixels: int) -> int:
    """Cycles between the last steps of two passes, at least: as long as the drain needs for `pixels` lanes."""
    return pixels + 10


def pass_times(pixels: int, taps: int, passes: Sequence[tuple[int, bool]], begin: int) -> list[tuple[int, int]]:
    """When pen_datapath takes and ends passes, if nothing outside holds them up; `begin` is the cycle of `start_i`.

    `passes` are (steps, last use of the window). A pass ends a cycle per step after it was taken, but not before the
    drain has room. The next is taken in that cycle, if its window is prepared: that takes a cycle per tap and three
    more, in one of two places.
    """
    times: list[tuple[int, int]] = []
    end = begin - cycles_per_pass(pixels)  # of the pass before
    filled = [begin + 1]  # when the preparation of a window begins
    released: list[int] = []
    for steps, last_use in passes:
        taken = max(filled[len(released)] + taps + 3, end)
        end = max(taken + steps, end + cycles_per_pass(pixels))
        times.append((taken, end))
        if len(filled) == len(released) + 1:
            free = released[-1] + 1 if released else 0
            filled.append(max(filled[-1] + taps + 3, free))
        if last_use:
            released.append(end + 1)
    return times


@dataclass(frozen=True)
class LayerSet:
    """Layers that take turns on one instance of the compute path, and the parameters that suit them all."""

    layers: tuple[Conv, ...]
    pixels: int

    @cached_property
    def geometries(self) -> tuple[Geometry, ...]:
        """Of every layer, on these lanes."""
        return tuple(Geometry(layer, self.pixels) for layer in self.layers)

    @property
    def coord_bits(self) -> int:
        """For every row and column that occurs."""
        return max(g.coord_bits for g in self.geometries)

    @property
    def pixel_bits(self) -> int:
        """For every place in a flat map that occurs."""
        return max(g.pixel_bits for g in self.geometries)

    @property
    def acc_bits(self) -> int:
        """For every sum."""
        return max(MIN_ACC_BITS, *(layer.accumulator_bits for layer in self.layers))

    @property
    def max_taps(self) -> int:
        """Of the layer with the most."""
        return max(len(g.taps) for g in self.geometries)

    @property
    def tap_bases(self) -> list[int]:
        """Where each layer's taps begin in the table."""
        sizes = [len(g.taps) for g in self.geometries]
        return [sum(sizes[:i]) for i in range(len(sizes))]

    @property
    def tap_depth(self) -> int:
        """Words of the tap table."""
        return sum(len(g.taps) for g in self.geometries)

    @property
    def tap_table(self) -> str:
        """Contents of the tap table."""
        words = [word for g in self.geometries for word in g.tap_words(self.coord_bits, self.pixel_bits)]
        return table("taps", words).hexadecimal()
