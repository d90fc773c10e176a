"""Networks with random weights, for figures that depend on shapes alone: cycles, bytes, emission time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hw.design import (
    Conv,
    Dense,
    Design,
    Engine,
    IntArray,
    IntFormat,
    Lanes,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    MapShape,
    Place,
    Source,
)
from sim import golden

ACTIVATION = IntFormat(8, signed=False, exponent=-5)
LOGITS = IntFormat(48, signed=True, exponent=-12)


@dataclass(frozen=True)
class Block:
    """A square convolution with ReLU, by default 3x3 'same', then max-pooling by `pool`."""

    filters: int
    pool: int = 1
    kernel: int = 3
    padding: int = 1


@dataclass(frozen=True)
class Full:
    """A dense layer with ReLU."""

    filters: int


DIGITS = (MapShape(1, 8, 8), (Block(16, 2), Block(32), Block(64, 2)))
CIFAR = (MapShape(3, 32, 32), (Block(32), Block(32, 2), Block(64), Block(64, 2), Block(128), Block(128, 2)))
VGG16 = (
    MapShape(3, 32, 32),
    tuple(
        Block(filters, pool)
        for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
        for pool in (1,) * (count - 1) + (2,)
    ),
)

LENET = (MapShape(1, 28, 28), (Block(20, 2, 5, 0), Block(50, 2, 5, 0), Full(500)))
VGG19 = (
    MapShape(3, 224, 224),
    (
        *(
            Block(filters, pool)
            for filters, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
            for pool in (1,) * (count - 1) + (2,)
        ),
        *(Full(4096), Full(4096)),
    ),
)


def network(
    name: str,
    shape: MapShape,
    blocks: Sequence[Block],
    engine: Engine,
    head: Sequence[Lanes],
    *,
    lazy: int = 0,
    pinned: int = 0,
    seed: int = 0,
    classes: int = 10,
) -> Design:
    """`blocks` and a dense layer, the first ``len(head)`` of them as head stages, those from index `lazy` on lazy.

    Weights are random and biases leave about half of the activations at zero, as in trained networks; predictors are
    random. Lazy layers keep all filters at reset. The first `pinned` filters of every layer on the engine are pinned.
    """
    rng = np.random.default_rng(seed)
    number = IntFormat(8, signed=False, exponent=-8)
    maps: IntArray = rng.integers(0, 256, (2, shape.channels, shape.height, shape.width))
    layers: list[Layer] = []
    for index, block in enumerate(blocks):
        streams = index < len(head)
        layer: Layer = Conv(
            name=f"conv{index + 1}",
            input=shape,
            input_format=number,
            weights=_weights(rng, (block.filters, shape.channels, block.kernel, block.kernel)),
            weight_bits=8,
            bias=np.zeros(block.filters, np.int64),
            output_format=ACTIVATION,
            shift=np.zeros(block.filters, np.int64),
            place=Place.HEAD if streams else Place.ENGINE,
            source=Source.RESIDENT if streams else Source.DENSE,
            lanes=head[index] if streams else None,
            padding=(block.padding,) * 4,
            pool=block.pool,
        )
        sums = golden.accumulate(layer, maps)
        shift = np.full(block.filters, max(0, int(np.ceil(np.log2(np.abs(sums).max() / 128)))))
        layer = replace(layer, shift=shift)
        if not streams and index >= lazy:
            weights = rng.integers(-128, 128, (shape.channels, block.filters))
            predictor = LinearPredictor(weights, np.zeros(block.filters, np.int64))
            layer = replace(layer, source=Source.LAZY, predictor=predictor, keep=block.filters)
        maps = golden.step(layer, maps).output
        layers.append(layer)
        shape, number = layer.output, layer.output_format
    dense = Dense(
        name="dense",
        input=shape,
        input_format=number,
        weights=_weights(rng, (classes, shape.channels, shape.height, shape.width)),
        weight_bits=8,
        bias=np.zeros(classes, np.int64),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    tail = tuple(
        replace(layer, pinned=tuple(range(min(pinned, layer.filters)))) for layer in (*layers[len(head) :], dense)
    )
    return Design(name, layers[0].input, layers[0].input_format, tuple(layers[: len(head)]), tail, engine)


def _weights(rng: np.random.Generator, size: tuple[int, ...]) -> IntArray:
    return np.clip(np.rint(rng.normal(0, 40, size)), -128, 127).astype(np.int64)


def outline(
    name: str,
    shape: MapShape,
    layers: Sequence[Block | Full],
    *,
    head: int,
    lazy: Sequence[int],
    rank: int,
    classes: int,
    names: Sequence[str] | None = None,
) -> Design:
    """`layers` and a dense one, for cycles, bytes and sizes only: weights in external memory are all zero.

    The first `head` of them stream; those with an index in `lazy` have low-rank predictors and keep all filters.
    `names` are those of all layers, by default their kinds with numbers.
    """
    rng = np.random.default_rng(0)
    number = IntFormat(8, signed=False, exponent=-8)
    made: list[Layer] = []
    for index, layer in enumerate((*layers, Full(classes))):
        size = (layer.kernel, layer.kernel) if isinstance(layer, Block) else (shape.height, shape.width)
        dimensions = (layer.filters, shape.channels, *size)
        streams, predicted, last = index < head, index in lazy, index == len(layers)
        predictor = None
        if predicted:
            hidden = min(rank, layer.filters)
            first, second = (rng.integers(-128, 128, x) for x in ((shape.channels, hidden), (hidden, layer.filters)))
            bias = np.zeros(layer.filters, np.int64)
            predictor = LowRankPredictor(first, np.zeros(hidden, np.int64), 8, 16, second, bias)
        common = {
            "input": shape,
            "input_format": number,
            "weights": _weights(rng, dimensions) if streams else np.broadcast_to(np.int64(0), dimensions),
            "weight_bits": 8,
            "bias": np.zeros(layer.filters, np.int64),
            "output_format": LOGITS if last else ACTIVATION,
            "shift": None if last else np.zeros(layer.filters, np.int64),
            "place": Place.HEAD if streams else Place.ENGINE,
            "source": Source.RESIDENT if streams else Source.LAZY if predicted else Source.DENSE,
            "predictor": predictor,
            "keep": layer.filters if predicted else None,
            "lanes": Lanes(1, 1) if streams else None,
        }
        kind = "conv" if isinstance(layer, Block) else "dense"
        common["name"] = names[index] if names else kind if last else f"{kind}{index + 1}"
        if isinstance(layer, Block):
            made.append(Conv(padding=(layer.padding,) * 4, pool=layer.pool, **common))
        else:
            made.append(Dense(**common))
        shape, number = made[-1].output, ACTIVATION
    engine = Engine(Lanes(1, 1), predictor_lanes=8, outstanding=8, gap_words=0)
    return Design(name, made[0].input, made[0].input_format, tuple(made[:head]), tuple(made[head:]), engine)
