"""Lazy evaluation on a CPU that really skips: one image at a time, with weights sliced to what is chosen.

After Leroux et al., "Lazy Evaluation of Convolutional Filters" (2016), section 4. Channels that were not computed, or
are all zero, do not exist for the next layer: neither rows nor columns of its weights are touched for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.layers import INPUT, QuantNetwork
from quant.lazy import LazyLayer
from sw.models import require_chain
from sw.predictors import LinearPredictor

EXACT = 1 << 24  # every integer up to this is a float32


@dataclass(frozen=True, eq=False)
class _Weights:
    """A layer's integers as float32, and the shift and upper bound of its outputs.

    `matrix` is (filters, channels, kh, kw) or, of a dense layer, (filters, inputs); `bias` (filters,).
    """

    matrix: Tensor
    bias: Tensor
    shift: int
    high: int
    stride: tuple[int, ...]
    padding: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Predictor:
    weights: Tensor  # float64 (channels, filters)
    bias: Tensor
    keep: int


class SlicedNetwork:
    """`network`, with the layers named in `lazy` choosing their filters (no pinned ones) for each image.

    They choose the best by linear predictors; ValueError for others. Integers in float32, which holds every sum below
    2**24; ArithmeticError for a larger one. A chain of convolutions and dense layers, each followed by ReLU but the
    last, max-pooling and flattening in between, as `quantised` builds.
    """

    def __init__(self, network: QuantNetwork, lazy: Mapping[str, LazyLayer]) -> None:
        require_chain(network, "slicing")
        self.network, self.input = network, network.formats[INPUT]
        names = [name for name, _ in network.named_children()]
        self.weights: dict[str, _Weights] = {}
        for name in network.weighted:
            layer, (weights, bias) = network.get_submodule(name), network.integers(name)
            relu = names[names.index(name) + 1] if name != network.weighted[-1] else None
            target = network.formats[relu] if relu else None
            shift = target.exponent - network.accumulator_exponent_of(name) if target else 0
            self.weights[name] = _Weights(
                weights.float(),
                bias.float(),
                shift,
                target.high if target else 0,
                layer.stride if isinstance(layer, nn.Conv2d) else (1, 1),
                tuple(layer.padding) if isinstance(layer, nn.Conv2d) else (0, 0),  # type: ignore[arg-type]
            )
        self.predictors: dict[str, _Predictor] = {}
        for name, x in lazy.items():
            if not isinstance(x.predictor, LinearPredictor) or x.threshold is not None:
                raise ValueError(f"layer '{name}': {type(x.predictor).__name__}; accepted: linear, the best filters")
            given = x.predictor
            self.predictors[name] = _Predictor(
                torch.tensor(given.weights).double(), torch.tensor(given.bias).double(), x.keep
            )

    @torch.no_grad()
    def run(self, image: Tensor) -> Tensor:
        """Logits (classes,) int64 of one float `image` (c, h, w)."""
        maps = (image / self.input.scale).round().clamp(0, self.input.high)  # compact: only channels in `alive`
        channels, alive = len(maps), torch.arange(len(maps))
        flat = False
        for name, layer in self.network.named_children():
            match layer:
                case nn.Conv2d() | nn.Linear():
                    maps, alive, channels = self.layer(name, maps, alive, channels, flat)
                case nn.MaxPool2d():
                    maps = functional.max_pool2d(maps, layer.kernel_size, layer.stride, layer.padding)
                case nn.Flatten():
                    flat = True
        logits = torch.zeros(channels, dtype=torch.int64)
        logits[alive] = maps.flatten().to(torch.int64)
        return logits

    def layer(self, name: str, maps: Tensor, alive: Tensor, channels: int, flat: bool) -> tuple[Tensor, Tensor, int]:
        """Outputs of layer `name` as (maps, which filters they are, how many filters there are).

        Of its `channels` inputs, `maps` (n, h, w) holds those in `alive` (n,); `flat`: they come flattened.
        """
        layer, last = self.weights[name], name == self.network.weighted[-1]
        strengths = maps.sum(dim=(1, 2), dtype=torch.float64)
        present = strengths > 0
        present[0] |= not bool(present.any())  # convolutions want a channel
        if not bool(present.all()):
            maps, alive, strengths = maps[present], alive[present], strengths[present]
        matrix, bias = layer.matrix, layer.bias
        if matrix.ndim == 2:  # dense: channel-major, a kernel as large as the map
            size = maps.shape[1:] if flat else (1, 1)
            matrix = matrix.reshape(len(matrix), channels, *size)
        filters = torch.arange(len(matrix))
        predictor = self.predictors.get(name)
        if predictor is not None and predictor.keep < len(matrix):
            scores = strengths @ predictor.weights.index_select(0, alive) + predictor.bias
            filters = scores.argsort(descending=True, stable=True)[: predictor.keep].sort().values
            matrix, bias = matrix.index_select(0, filters), bias.index_select(0, filters)
        if len(alive) < channels:
            matrix = matrix.index_select(1, alive)
        sums = functional.conv2d(maps[None], matrix, None, layer.stride, layer.padding)[0] + bias[:, None, None]
        if float(sums.abs().max()) >= EXACT:
            raise ArithmeticError(f"layer '{name}': a sum of {float(sums.abs().max()):.0f}; accepted: below 2**24")
        if last:
            return sums, filters, len(layer.matrix)
        outputs = (sums * 2.0**-layer.shift).round().clamp(0, layer.high)
        return outputs, filters, len(layer.matrix)
