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
    MapShape,
    Place,
    Source,
)
from sim import golden

ACTIVATION = IntFormat(8, signed=False, exponent=-5)
LOGITS = IntFormat(48, signed=True, exponent=-12)


@dataclass(frozen=True)
class Block:
    """A 3x3 'same' convolution with ReLU, then max-pooling by `pool`."""

    filters: int
    pool: int = 1


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
            weights=_weights(rng, (block.filters, shape.channels, 3, 3)),
            weight_bits=8,
            bias=np.zeros(block.filters, np.int64),
            output_format=ACTIVATION,
            shift=np.zeros(block.filters, np.int64),
            place=Place.HEAD if streams else Place.ENGINE,
            source=Source.RESIDENT if streams else Source.DENSE,
            lanes=head[index] if streams else None,
            padding=(1, 1, 1, 1),
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
