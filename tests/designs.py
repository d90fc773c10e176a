"""Designs and frames for tests: random valid ones, and the default recipe's network with random weights.

Everything is a function of its seed. The random designs are small (about `MAX_CYCLES` cycles a frame at most), and
their shifts are set by what the layers see, so that outputs are neither all zero nor all saturated.
"""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np

from hw.control import Control
from hw.design import (
    THRESHOLD_BITS,
    BoolArray,
    ClassPredictor,
    Conv,
    Dense,
    Design,
    DesignError,
    Engine,
    IntArray,
    IntFormat,
    Lanes,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    MapShape,
    Mode,
    PathPredictor,
    Place,
    Residual,
    Source,
)
from hw.emit import emit
from hw.emit.maps import Maps
from sim import golden
from sim.verilated import build

LOGITS = IntFormat(48, True, 0)  # wide enough for every accumulator that a design may have
MAX_CYCLES = 30_000  # estimate of a frame's cycles; the RTL has overheads on top
CALIBRATION_FRAMES = 12


ROOT = Path(__file__).parent.parent


# -- RTL --------------------------------------------------------------------------------------------------------------
def built(design: Design) -> tuple[Path, Path]:
    """The folder of the emitted `design` and the library of its RTL; under build/, so that both are used again.

    Tests in several processes share them: they take turns, and a file that is right already is left alone.
    """
    folder = ROOT / "build" / "tests" / "designs" / design.name
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as turn, TemporaryDirectory(dir=folder.parent) as aside:
        fcntl.flock(turn, fcntl.LOCK_EX)
        emit(design, Path(aside))
        for file in [file for file in Path(aside).rglob("*") if file.is_file()]:
            target = folder / file.relative_to(aside)
            if not target.exists() or target.read_bytes() != file.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
        return folder, build(folder / "rtl", folder / "verilated", f"{design.name}_probed")


# -- frames -----------------------------------------------------------------------------------------------------------
def random_frames(design: Design, count: int, seed: int) -> IntArray:
    """`count` frames (count, c, h, w), of kinds that take turns: dense, sparse, absent channels, extremes, blank."""
    return _frames(design.input, design.input_format, count, np.random.default_rng(seed))


def _frames(shape: MapShape, number: IntFormat, count: int, rng: np.random.Generator) -> IntArray:
    size = (shape.channels, shape.height, shape.width)
    frames = [_frame(index % 7, size, number, rng) for index in range(count)]
    return np.stack(frames) if frames else np.zeros((0, *size), np.int64)


def _frame(kind: int, size: tuple[int, int, int], number: IntFormat, rng: np.random.Generator) -> IntArray:
    uniform: IntArray = rng.integers(number.low, number.high + 1, size)
    match kind:
        case 0:
            return uniform
        case 1:  # a few pixels
            return uniform * (rng.random(size) < 0.15)
        case 2:  # about half of the channels are all zero
            return uniform * (rng.random((size[0], 1, 1)) < 0.5)
        case 3:  # both ends of the range and zero
            return rng.choice(np.array([number.low, number.high, 0]), size)
        case 4:
            return np.full(size, number.high, np.int64)
        case 5:  # the lowest value everywhere, which for unsigned numbers is a blank frame
            return np.full(size, number.low, np.int64)
        case _:  # small values
            return uniform // max(1, number.magnitude // 2)


# -- parts of a design ------------------------------------------------------------------------------------------------
def random_format(rng: np.random.Generator, signed: bool | None = None) -> IntFormat:
    """2 to 8 bits, more often 8 than any other."""
    bits = 8 if rng.random() < 0.4 else int(rng.integers(2, 9))
    return IntFormat(bits, bool(rng.random() < 0.4) if signed is None else signed, -int(rng.integers(0, 9)))


def random_taps(rng: np.random.Generator, shape: tuple[int, int, int]) -> BoolArray:
    """Kept columns (c, kh, kw): often all, else some removed, maybe with whole channels or kernel positions."""
    taps = np.ones(shape, np.bool_)
    if rng.random() < 0.4:
        taps &= rng.random(shape) < 0.7
        if rng.random() < 0.5:
            taps &= rng.random((shape[0], 1, 1)) < 0.7
        if rng.random() < 0.3:
            taps &= rng.random((1, *shape[1:])) < 0.7
    if not taps.any():
        taps.flat[rng.integers(taps.size)] = True
    return taps


def random_predictor(rng: np.random.Generator, layer: Layer) -> LinearPredictor:
    """Mostly with scores far apart, sometimes with so few values that ties are the rule."""
    span = int(rng.choice([1, 2, 30, 128]))
    weights = rng.integers(-span, span, (layer.input.channels, layer.filters), endpoint=False)
    bias = rng.integers(-span, span + 1, layer.filters) * (1 if span < 3 else max(1, layer.strength_high // 4))
    return LinearPredictor(weights, bias)


def _random_weights(rng: np.random.Generator, bits: int, taps: BoolArray, filters: int) -> IntArray:
    """(filters, c, kh, kw), over the whole range or bell-shaped; zero where a tap is removed."""
    bound, size = 1 << (bits - 1), (filters, *taps.shape)
    if rng.random() < 0.3:
        weights = rng.integers(-bound, bound, size)
    else:
        weights = np.clip(np.rint(rng.normal(0, bound / 2.5, size)), -bound, bound - 1).astype(np.int64)
    return weights * taps


def same_padding(size: tuple[int, int], kernel: tuple[int, int], stride: int) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) with which the output has ceil(size / stride) rows and columns; the odd one last."""
    total = [max(0, (-(-n // stride) - 1) * stride + k - n) for n, k in zip(size, kernel, strict=True)]
    return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)


def calibrated(layer: Layer, maps: IntArray, rng: np.random.Generator, dead: float = 0.15) -> Layer:
    """`layer` with biases and shifts for which its outputs on `maps` (n, c, h, w) use their range.

    Shifts are per filter or shared, and about as large as fits the range, so some outputs saturate. A share `dead` of
    the filters is biased towards the lower end of the output: channels of zeros where that is a ReLU.
    """
    sums = golden.accumulate(replace(layer, bias=np.zeros(layer.filters, np.int64)), maps)
    peak = np.abs(sums).max(axis=(0, 2, 3))
    bias = np.rint(rng.normal(0, 0.2, layer.filters) * peak).astype(np.int64)
    bias = np.where(rng.random(layer.filters) < dead, -peak - 1, bias)
    largest = np.maximum(1, np.quantile(np.abs(sums + bias[:, None, None]), 0.97, axis=(0, 2, 3)))
    shift = np.ceil(np.log2(largest / layer.output_format.high))
    shift = np.maximum(0, shift + rng.integers(-1, 2, layer.filters) if rng.random() < 0.5 else np.median(shift))
    return replace(layer, bias=bias, shift=np.broadcast_to(shift, layer.filters).astype(np.int64))


def engine_cycles(layer: Layer, lanes: Lanes) -> int:
    """A rough count of a layer's cycles on `lanes`, for tests that must stay small."""
    rows, columns = layer.grid
    groups, windows = -(-layer.filters // lanes.filters), -(-rows * columns // lanes.pixels)
    return int(layer.kept_taps.sum()) * groups * windows


# -- random designs ---------------------------------------------------------------------------------------------------
def random_design(seed: int) -> Design:
    """A small valid design: 0 to 3 head stages, 1 to 4 engine layers, any padding, pruning, laziness and so on."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            design = _try_random_design(rng, f"random_{seed}")
        except DesignError:  # a pool larger than its map, say: draw again
            continue
        if _cycles(design) <= MAX_CYCLES and _lively(design, random_frames(design, CALIBRATION_FRAMES, seed)):
            return design


def _cycles(design: Design) -> int:
    stages = sum(engine_cycles(layer, layer.lanes) for layer in design.head if layer.lanes is not None)
    program = sum(
        engine_cycles(layer, design.engine.lanes) + layer.weights.size // design.engine.bus_bytes
        for layer in design.tail
    )
    return stages + program


def _lively(design: Design, frames: IntArray) -> bool:
    """Whether every layer's outputs on `frames` are not nearly all zero, nor nearly all at an end of their range."""
    for layer, trace in zip(design.layers, golden.run(design, frames).layers, strict=True):
        ends = (trace.output == layer.output_format.low) | (trace.output == layer.output_format.high)
        if (trace.output != 0).mean() < 0.05 or (ends & (trace.output != 0)).mean() > 0.8:
            return False
    return True


def random_strided_design(seed: int) -> Design:
    """A random design with maps in quarters on the engine: what layers of stride 2 read, and they only."""
    rng = np.random.default_rng([seed, 2])
    while True:
        try:
            design = _try_random_design(rng, f"strided_{seed}", strided=True)
        except DesignError:
            continue
        maps = Maps(design, design.engine.lanes.pixels)
        if not maps.quarters or _cycles(design) > MAX_CYCLES:
            continue
        if _lively(design, random_frames(design, CALIBRATION_FRAMES, seed)):
            return design


def _try_random_design(rng: np.random.Generator, name: str, *, strided: bool = False) -> Design:
    """With `strided` nothing streams, sides are even, and most layers are of stride 2."""
    sides = rng.integers(4, 14, 2) if rng.random() < 0.85 else rng.integers(1, 14, 2)
    if strided:
        sides = 2 * rng.integers(2, 12, 2)
    shape = MapShape(int(rng.integers(1, 7)), int(sides[0]), int(sides[1]))
    number = random_format(rng)
    transport = np.random.default_rng(crc32(name.encode()))  # apart: what is fetched along changes no network
    engine = Engine(
        lanes=_random_lanes(rng),
        bus_bytes=int(rng.choice([4, 4, 8, 16])),
        predictor_lanes=int(rng.choice([1, 2, 4, 8])),
        outstanding=int(rng.choice([1, 2, 4, 8])),
        max_burst=int(rng.choice([1, 4, 16, 64, 256])),
        gap_words=int(transport.choice([0, 1, 4])),
        join_words=int(transport.choice([0, 1, 64])),
        crc_bits=int(transport.choice([0, 0, 8, 16, 32])),
        crc_block=int(transport.choice([1, 20, 100])),
    )
    choices = np.random.default_rng(crc32(f"{name} choices".encode()))  # apart too
    classes = int(choices.integers(1, 40))
    maps = _frames(shape, number, CALIBRATION_FRAMES, rng)
    layers: list[Layer] = []
    current, current_format = shape, number
    places = [Place.HEAD] * int(rng.integers(0, 4)) + [Place.ENGINE] * int(rng.choice(4, p=[0.1, 0.3, 0.35, 0.25]))
    if strided:
        places = [Place.ENGINE] * int(rng.integers(2, 5))
    for index, place in enumerate(places):
        layer = _random_layer(rng, f"layer{index}", current, current_format, place, 0.6 if strided else 0.25)
        layer = calibrated(layer, maps, rng)
        if layer.lazy:
            layer = _random_choice(choices, layer, golden.strength(maps), classes)
        layers.append(layer)
        current, current_format = layer.output, layer.output_format
        maps = golden.step(layer, maps).output
    layers.append(_random_last(rng, current, current_format))
    head = sum(place is Place.HEAD for place in places)
    layers[head:] = [_maybe_pinned(transport, layer, layer is layers[-1]) for layer in layers[head:]]
    return Design(name, shape, number, tuple(layers[:head]), tuple(layers[head:]), engine)


def random_residual_design(seed: int) -> Design:
    """A random design with residual blocks on the engine, behind up to two head stages; see `_try_residual_design`."""
    rng = np.random.default_rng([seed, 1])
    while True:
        try:
            design = _try_residual_design(rng, f"residual_{seed}")
        except DesignError:
            continue
        if _cycles(design) <= MAX_CYCLES and _lively(design, random_frames(design, CALIBRATION_FRAMES, seed)):
            return design


def _try_residual_design(rng: np.random.Generator, name: str) -> Design:
    """Blocks of two layers and a sum: of what the block reads, or of a layer on the way around it, stride and all.

    What a block reads is an engine layer's output, or, with a layer on the way around, the tail's input. The layer
    inside may be lazy, the sum may be pooled, and what was read or added may be so once more behind it.
    """
    plain = _try_random_design(rng, name)
    shape, number = plain.input, plain.input_format
    layers: list[Layer] = []
    outputs: dict[str, IntArray] = {}
    maps = _frames(shape, number, CALIBRATION_FRAMES, rng)

    def push(layer: Layer, given: IntArray) -> Layer:
        layer = calibrated(layer, given, rng)
        residual = None
        if layer.residual is not None:
            residual = outputs[layer.residual.layer]
            layer = _with_residual_scale(rng, layer)
        layers.append(layer)
        outputs[layer.name] = golden.step(layer, given, residual=residual).output
        return layer

    for index in range(int(rng.integers(0, 3))):
        head = push(_random_layer(rng, f"stage{index}", shape, number, Place.HEAD), maps)
        shape, number, maps = head.output, head.output_format, outputs[head.name]
    for block in range(int(rng.integers(1, 4))):
        around = bool(layers) and bool(rng.random() < 0.5)
        if not around:  # the block reads and adds the same map
            base = _whole(_random_layer(rng, f"block{block}_in", shape, number, Place.ENGINE))
            base = push(base, maps)
            shape, number, maps = base.output, base.output_format, outputs[base.name]
        start, start_shape, start_number, start_maps = layers[-1].name, shape, number, maps
        stride = 2 if around and rng.random() < 0.5 else 1
        added = layers[-1]
        if around:
            taps = np.ones((shape.channels, 1, 1), np.bool_)
            filters = int(rng.integers(1, 15))
            added = push(_conv(rng, f"block{block}_around", shape, number, taps, filters, strides=stride), maps)
        inside = _conv(
            *(rng, f"block{block}_inside", start_shape, start_number),
            *(random_taps(rng, (start_shape.channels, 3, 3)), int(rng.integers(1, 15))),
            strides=stride,
            reads=start if around else None,
        )
        inside = push(_maybe_lazy(rng, inside, 0.6), start_maps)
        shape, number, maps = inside.output, inside.output_format, outputs[inside.name]
        even = shape.height % 2 == 0 and shape.width % 2 == 0
        last = _conv(
            *(rng, f"block{block}_sum", shape, number),
            *(random_taps(rng, (shape.channels, 3, 3)), added.filters),
            residual=Residual(added.name, added.output_format),
            pool=2 if even and rng.random() < 0.3 else 1,
        )
        last = push(last, maps)
        shape, number, maps = last.output, last.output_format, outputs[last.name]
        if rng.random() < 0.5:  # a second layer on the way around: of the block, or of its sum only
            far = (start_shape.height, start_shape.width) == (shape.height, shape.width)
            read, left_shape = (start, start_shape) if far else (last.name, shape)
            left_format, left_maps = (start_number, start_maps) if far else (number, maps)
            left = _conv(
                *(rng, f"block{block}_left", left_shape, left_format, _centre(left_shape), shape.channels), reads=read
            )
            left = push(left, left_maps)
            right = _conv(
                *(rng, f"block{block}_right", shape, number, _centre(shape), shape.channels),
                reads=last.name,
                residual=Residual(left.name, left.output_format),
            )
            last = push(right, maps)
            number, maps = last.output_format, outputs[last.name]
        if added.output == shape and rng.random() < 0.5:  # what the block has added, once more
            again = _conv(
                *(rng, f"block{block}_again", shape, number, _centre(shape), shape.channels),
                residual=Residual(added.name, added.output_format),
            )
            last = push(again, maps)
            number, maps = last.output_format, outputs[last.name]
    layers.append(_random_last(rng, shape, number))
    head_count = sum(layer.place is Place.HEAD for layer in layers)
    return Design(
        name, plain.input, plain.input_format, tuple(layers[:head_count]), tuple(layers[head_count:]), plain.engine
    )


def _conv(
    rng: np.random.Generator,
    name: str,
    shape: MapShape,
    number: IntFormat,
    taps: BoolArray,
    filters: int,
    *,
    strides: int = 1,
    pool: int = 1,
    reads: str | None = None,
    residual: Residual | None = None,
) -> Conv:
    """A dense convolution on the engine with 'same' padding, and room for what it adds."""
    bits = 8 if rng.random() < 0.5 else int(rng.integers(2, 9))
    kernel = (taps.shape[1], taps.shape[2])
    output = random_format(rng)
    if residual is not None:  # until the shifts are known, any scale that can be built
        output = replace(output, exponent=residual.format.exponent)
    return Conv(
        name=name,
        input=shape,
        input_format=number,
        weights=_random_weights(rng, bits, taps, filters),
        weight_bits=bits,
        bias=np.zeros(filters, np.int64),
        output_format=output,
        shift=np.zeros(filters, np.int64),
        place=Place.ENGINE,
        source=Source.DENSE,
        taps=taps,
        strides=strides,
        padding=same_padding((shape.height, shape.width), kernel, strides),
        pool=pool,
        reads=reads,
        residual=residual,
    )


def _centre(shape: MapShape) -> BoolArray:
    return np.ones((shape.channels, 1, 1), np.bool_)


def _whole(layer: Layer) -> Layer:
    """`layer` as one that computes all filters."""
    return replace(layer, source=Source.DENSE, predictor=None, keep=None)


def _with_residual_scale(rng: np.random.Generator, layer: Layer) -> Layer:
    """`layer` with an output scale for which its residual is about as large as its sums."""
    assert layer.residual is not None
    assert layer.shift is not None
    least, number = int(layer.shift.min()), layer.residual.format
    ratio = max(1, layer.output_format.high).bit_length() - max(1, number.high).bit_length()
    up = max(0, least + ratio + int(rng.integers(-2, 2)))
    return replace(layer, output_format=replace(layer.output_format, exponent=number.exponent + least - up))


def _random_lanes(rng: np.random.Generator) -> Lanes:
    return Lanes(int(rng.integers(1, 7)), int(rng.choice([1, 2, 4, 8])))


def _random_layer(
    rng: np.random.Generator, name: str, shape: MapShape, number: IntFormat, place: Place, strided: float = 0.25
) -> Layer:
    """A layer that is not the last: a convolution, of stride 2 in a share `strided`, or now and then a dense layer."""
    signed = bool(rng.random() < 0.3)
    if place is Place.ENGINE and shape.pixels <= 16 and rng.random() < 0.15:
        return _dense(rng, name, shape, number, int(rng.integers(2, 14)), random_format(rng, signed))
    kernel = (int(rng.integers(1, 6)),) * 2
    if rng.random() < 0.2:
        kernel = (kernel[0], int(rng.integers(1, 6)))
    stride = 2 if rng.random() < strided else 1
    filters = int(rng.integers(1, 9) if place is Place.HEAD else rng.integers(1, 21))
    weight_bits = 8 if rng.random() < 0.5 else int(rng.integers(2, 9))
    taps = random_taps(rng, (shape.channels, *kernel))
    layer = Conv(
        name=name,
        input=shape,
        input_format=number,
        weights=_random_weights(rng, weight_bits, taps, filters),
        weight_bits=weight_bits,
        bias=np.zeros(filters, np.int64),
        output_format=random_format(rng, signed),
        shift=np.zeros(filters, np.int64),
        place=place,
        source=Source.RESIDENT if place is Place.HEAD else Source.DENSE,
        taps=taps,
        lanes=_random_lanes(rng) if place is Place.HEAD else None,
        strides=stride,
        padding=_random_padding(rng, (shape.height, shape.width), kernel, stride),
        pool=int(rng.choice([1, 2, 4], p=[0.6, 0.3, 0.1])),
    )
    return _maybe_lazy(rng, layer, 0.65)


def _random_padding(
    rng: np.random.Generator, size: tuple[int, int], kernel: tuple[int, int], stride: int
) -> tuple[int, int, int, int]:
    """'same' mostly, else 'valid', else anything in between on each side."""
    same = same_padding(size, kernel, stride)
    draw = rng.random()
    if draw < 0.6:
        return same
    if draw < 0.8:
        return (0, 0, 0, 0)
    height, width = same[0] + same[1], same[2] + same[3]
    top, left = int(rng.integers(0, height + 1)), int(rng.integers(0, width + 1))
    return (top, int(rng.integers(0, height - top + 1)), left, int(rng.integers(0, width - left + 1)))


def _random_last(rng: np.random.Generator, shape: MapShape, number: IntFormat) -> Layer:
    """The layer whose accumulators are the answer: dense, or a convolution that leaves a single pixel."""
    filters = int(rng.integers(1, 12))
    layer = _dense(rng, "last", shape, number, filters, LOGITS, lazy=0.0)
    if max(layer.kernel) <= 5 and rng.random() < 0.4:
        layer = Conv(
            name="last",
            input=shape,
            input_format=number,
            weights=layer.weights,
            weight_bits=layer.weight_bits,
            bias=layer.bias,
            output_format=LOGITS,
            shift=None,
            place=Place.ENGINE,
            source=Source.DENSE,
            taps=layer.taps,
        )
    spread = int(np.abs(layer.weights).sum(axis=(1, 2, 3)).max()) * number.magnitude // 4
    return replace(layer, bias=rng.integers(-spread - 1, spread + 2, filters), shift=None)


def _dense(
    rng: np.random.Generator,
    name: str,
    shape: MapShape,
    number: IntFormat,
    filters: int,
    output_format: IntFormat,
    lazy: float = 0.5,
) -> Layer:
    weight_bits = 8 if rng.random() < 0.5 else int(rng.integers(2, 9))
    taps = random_taps(rng, (shape.channels, shape.height, shape.width))
    layer = Dense(
        name=name,
        input=shape,
        input_format=number,
        weights=_random_weights(rng, weight_bits, taps, filters),
        weight_bits=weight_bits,
        bias=np.zeros(filters, np.int64),
        output_format=output_format,
        shift=None if output_format == LOGITS else np.zeros(filters, np.int64),
        place=Place.ENGINE,
        source=Source.DENSE,
        taps=taps,
    )
    return _maybe_lazy(rng, layer, lazy)


def _maybe_pinned(rng: np.random.Generator, layer: Layer, last: bool) -> Layer:
    """`layer` with some of its filters pinned, one time in three; with the first ones if it is the `last`."""
    count = int(rng.integers(1, layer.filters + 1)) if rng.random() < 0.33 else 0
    pinned = range(count) if last else sorted(rng.permutation(layer.filters)[:count].tolist())
    return replace(layer, pinned=tuple(pinned))


def _maybe_lazy(rng: np.random.Generator, layer: Layer, probability: float) -> Layer:
    """`layer` as a lazy one with a random predictor, with that probability and if it is on the engine."""
    if layer.place is Place.HEAD or rng.random() >= probability:
        return layer
    keep = int(rng.integers(1, layer.filters + 1))
    return replace(layer, source=Source.LAZY, predictor=random_predictor(rng, layer), keep=keep)


def _random_choice(rng: np.random.Generator, layer: Layer, strengths: IntArray, classes: int) -> Layer:
    """The lazy `layer` with any kind of predictor and mode, and a score of `strengths` (n, channels) as threshold."""
    kind = int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))
    if kind:
        layer = replace(layer, predictor=_random_kind(rng, kind, layer, strengths, classes))
    mode = list(Mode)[int(rng.choice(3, p=[0.1, 0.6, 0.3]))]
    return replace(layer, mode=mode, threshold=random_threshold(rng, layer, strengths))


def _random_kind(
    rng: np.random.Generator, kind: int, layer: Layer, strengths: IntArray, classes: int
) -> LowRankPredictor | PathPredictor | ClassPredictor:
    channels, filters = layer.input.channels, layer.filters
    if kind == 1:
        rank, hidden_bits = int(rng.integers(1, 13)), int(rng.integers(2, 17))
        first = rng.integers(-128, 128, (channels, rank))
        first_bias = rng.integers(-layer.strength_high, layer.strength_high + 1, rank)
        largest = int(np.abs(strengths @ first + first_bias).max())
        shift = int(np.clip(largest.bit_length() - hidden_bits + rng.integers(-1, 2), 0, 31))  # some saturate
        second, bias = rng.integers(-128, 128, (rank, filters)), rng.integers(-5000, 5000, filters)
        return LowRankPredictor(first, first_bias, shift, hidden_bits, second, bias)
    if kind == 2:
        theta = np.array([rng.choice(strengths[:, channel]) for channel in range(channels)])
        paths = rng.random((channels, filters)) < rng.uniform(0.2, 0.9)
        return PathPredictor(paths, theta, rng.integers(-1, max(1, channels // 2), filters))
    return ClassPredictor(rng.random((classes, filters)) < rng.uniform(0.1, 0.7))


def random_threshold(rng: np.random.Generator, layer: Layer, strengths: IntArray) -> int:
    """A score of the lazy `layer` on `strengths` (n, channels), more often in the middle than at the ends."""
    assert layer.predictor is not None
    scores = np.sort(golden.scores(layer.predictor, strengths, Control.reset([layer]).classes), axis=None)
    bound = 1 << (THRESHOLD_BITS - 1)
    return int(np.clip(scores[int(rng.beta(2, 2) * scores.size)], -bound, bound - 1))


def checked(design: Design, bits: int, block: int) -> Design:
    """`design` with checksums of `bits` bits, each for at least `block` bytes of weights."""
    return replace(design, engine=replace(design.engine, crc_bits=bits, crc_block=block))


# -- the default recipe's network -------------------------------------------------------------------------------------
def digits_like(seed: int, keep: Sequence[int] = (16, 32)) -> Design:
    """8x8x1, conv 3x3x16 and pool in the head, lazy convs 3x3x32 and 3x3x64 and pool, dense 10; weights are random.

    `keep` is that of the two lazy layers.
    """
    rng = np.random.default_rng(seed)
    shape, number = MapShape(1, 8, 8), IntFormat(8, False, -4)
    maps = _frames(shape, number, CALIBRATION_FRAMES, rng)
    layers: list[Layer] = []
    for name, filters, pool, kept in (("conv1", 16, 2, 0), ("conv2", 32, 1, keep[0]), ("conv3", 64, 2, keep[1])):
        head = not layers
        current, current_format = (layers[-1].output, layers[-1].output_format) if layers else (shape, number)
        taps = np.ones((current.channels, 3, 3), np.bool_)
        layer: Layer = Conv(
            name=name,
            input=current,
            input_format=current_format,
            weights=_random_weights(rng, 8, taps, filters),
            weight_bits=8,
            bias=np.zeros(filters, np.int64),
            output_format=IntFormat(8, False, -5),
            shift=np.zeros(filters, np.int64),
            place=Place.HEAD if head else Place.ENGINE,
            source=Source.RESIDENT if head else Source.DENSE,
            lanes=Lanes(4, 4) if head else None,
            padding=(1, 1, 1, 1),
            pool=pool,
        )
        if not head:
            predictor = LinearPredictor(
                rng.integers(-128, 128, (current.channels, filters)), rng.integers(-50_000, 50_000, filters)
            )
            layer = replace(layer, source=Source.LAZY, predictor=predictor, keep=kept)
        layers.append(calibrated(layer, maps, rng, dead=0.05))
        maps = golden.step(layers[-1], maps).output
    last = layers[-1]
    taps = np.ones((last.output.channels, last.output.height, last.output.width), np.bool_)
    dense = Dense(
        name="dense",
        input=last.output,
        input_format=last.output_format,
        weights=_random_weights(rng, 8, taps, 10),
        weight_bits=8,
        bias=rng.integers(-5000, 5000, 10),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    return Design(
        "digits_like", shape, number, (layers[0],), (layers[1], layers[2], dense), Engine(Lanes(8, 4), bus_bytes=4)
    )
