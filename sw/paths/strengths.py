"""How strongly the channels of every layer's input are activated: what predictors see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw.paths.watch import frozen

BATCH = 250  # frames at a time


@dataclass(frozen=True, eq=False)
class Strengths:
    """Mean |activation| of each channel as `layers[l]` reads it: `values[l]` float32 (n, channels).

    The layers are a chain: what one makes is what the next one reads, after normalisation, ReLU and pooling.
    """

    layers: tuple[str, ...]
    values: tuple[NDArray[np.float32], ...]

    def read(self, layer: str) -> NDArray[np.float32]:
        """Strengths (n, channels) of what `layer` reads."""
        return self.values[self._index(layer)]

    def made(self, layer: str) -> NDArray[np.float32]:
        """Strengths (n, filters) of what `layer` makes; ValueError for the last layer, which nobody reads."""
        index = self._index(layer)
        if index + 1 == len(self.layers):
            raise ValueError(f"no layer reads what '{layer}' makes")
        return self.values[index + 1]

    def before(self, layer: str) -> str | None:
        """The layer that makes what `layer` reads; None where it reads the frames."""
        index = self._index(layer)
        return self.layers[index - 1] if index else None

    def _index(self, layer: str) -> int:
        if layer not in self.layers:
            raise ValueError(f"no layer '{layer}'; layers: {', '.join(self.layers)}")
        return self.layers.index(layer)


def strengths(model: nn.Module, x: Tensor, batch: int = BATCH) -> Strengths:
    """Strengths of all conv and linear layers of `model`, a chain, on frames `x` (n, c, h, w).

    ValueError where a layer does not read what the one before makes, as in networks with branches.
    """
    pieces: dict[str, list[NDArray[np.float32]]] = {}
    with torch.no_grad(), frozen(model), _reading(model, pieces):
        for frames in x.split(batch):  # type: ignore[no-untyped-call]
            model(frames)
    return Strengths(tuple(pieces), tuple(np.concatenate(found) for found in pieces.values()))


def of_channels(values: Tensor, channels: int) -> Tensor:
    """Mean |a| (n, channels) of a layer's input `values`, maps or maps that were flattened channel by channel."""
    return values.reshape(len(values), channels, -1).abs().mean(dim=2)


@contextmanager
def _reading(model: nn.Module, pieces: dict[str, list[NDArray[np.float32]]]) -> Iterator[None]:
    """Inside, every run of `model` appends to `pieces` what its layers read."""
    filters: list[int] = []  # of the layer that ran last in this run

    def keep(name: str, module: nn.Conv2d | nn.Linear, values: Tensor) -> None:
        channels, made = values.shape[1], filters[-1] if filters else None
        if isinstance(module, nn.Linear) and made and channels % made == 0:
            channels = made
        if made is not None and channels != made:
            raise ValueError(f"layer '{name}' reads {channels} channels where the layer before makes {made}")
        filters.append(module.out_channels if isinstance(module, nn.Conv2d) else module.out_features)
        pieces.setdefault(name, []).append(of_channels(values, channels).float().cpu().numpy())

    handles = [model.register_forward_pre_hook(lambda *_: filters.clear())]
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def hook(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                assert isinstance(module, nn.Conv2d | nn.Linear)
                keep(name, module, inputs[0])

            handles.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
