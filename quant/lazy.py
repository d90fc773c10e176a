"""Lazy inference in torch: a witness that shares nothing with the golden model but the definition.

The Brevitas network runs layer by layer. Before a lazy layer runs, its predictor scores all of its filters from the
activation strengths of the map that the layer is about to read, or from the classes that are wanted; some are chosen by
their scores, and the others' outputs are zero. After Leroux et al., "Lazy Evaluation of Convolutional Filters" (2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from brevitas.quant_tensor import IntQuantTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from quant.layers import QuantNetwork, to_integers
from sw.predictors import ClassPredictor, LinearPredictor, LowRankPredictor, PathPredictor, Predictor
from sw.train import batches

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LazyLayer:
    """How a layer chooses: by a predictor's scores, the `keep` best, ties to the lower index.

    With a `threshold` instead all above it. The filters `pinned` are computed in every frame, and count among the
    `keep`. `classes` are those wanted; None stands for all.
    """

    predictor: Predictor
    keep: int
    pinned: tuple[int, ...] = ()
    threshold: int | None = None
    classes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """What a layer with weights saw and chose; the first axis is the frame.

    `strengths` (n, input channels) int64: sum of |integer activation| over each channel of the layer's input map.
    `scores` (n, filters) int64, None where the layer computes every filter. `chosen` (n, filters).
    """

    name: str
    strengths: IntArray
    scores: IntArray | None
    chosen: BoolArray


@dataclass(frozen=True, eq=False)
class LazyRun:
    """`logits` (n, classes) int64 at the last layer's accumulator scale, and a record per layer with weights."""

    logits: IntArray
    layers: tuple[LayerRecord, ...]

    def layer(self, name: str) -> LayerRecord:
        """The record of layer `name`; KeyError names those there are."""
        for record in self.layers:
            if record.name == name:
                return record
        raise KeyError(f"no layer '{name}'; layers: {', '.join(record.name for record in self.layers)}")


def run(network: QuantNetwork, frames: NDArray[np.float32], lazy: Mapping[str, LazyLayer]) -> LazyRun:
    """Run float `frames` (n, c, h, w) with the layers named in `lazy` choosing their filters per frame.

    Activations are exact (float64 throughout); strengths and scores are int64. ValueError names the layer whose
    predictor or `keep` does not fit.
    """
    unknown = sorted(set(lazy) - set(network.weighted))
    if unknown:
        raise ValueError(f"no layer '{unknown[0]}' with weights; layers: {', '.join(network.weighted)}")
    exact = network.double_precision()
    with torch.no_grad():
        runs = [_run_batch(exact, batch, lazy) for batch in batches(torch.tensor(frames).double(), 256)]
    return LazyRun(
        logits=np.concatenate([run.logits for run in runs]),
        layers=tuple(_joined(records) for records in zip(*(run.layers for run in runs), strict=True)),
    )


def _run_batch(network: QuantNetwork, frames: Tensor, lazy: Mapping[str, LazyLayer]) -> LazyRun:
    records = []
    values: Tensor | IntQuantTensor = frames
    feature_map = values  # what the next layer with weights reads, still with its channels apart
    kept: dict[str, Tensor | IntQuantTensor] = {}
    for name, layer in network.named_children():
        if name in network.reads:
            values = feature_map = kept[network.reads[name]]
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            values = layer(values)
            if not isinstance(layer, nn.Flatten):
                feature_map = values
            kept[name] = values
            continue
        assert isinstance(feature_map, IntQuantTensor)  # the first layer quantises
        strengths = _strengths(feature_map.int(float_datatype=True).to(torch.int64))
        scores, chosen = None, torch.ones(len(frames), len(layer.weight), dtype=torch.bool)
        if name in lazy:
            scores, chosen = _choose(name, strengths, len(layer.weight), lazy[name])
        values = layer(values)
        values = values * chosen.reshape(*chosen.shape, *[1] * (values.ndim - 2))  # not computed: zero
        if name in network.adds:
            values = network.join(values, kept[network.adds[name]])
        kept[name] = feature_map = values
        records.append(LayerRecord(name, strengths.numpy(), None if scores is None else scores.numpy(), chosen.numpy()))
    logits = to_integers(values, network.accumulator_exponent, network.weighted[-1])
    return LazyRun(logits.numpy(), tuple(records))


def _strengths(maps: Tensor) -> Tensor:
    """Sums of magnitudes (n, channels) of integer `maps` (n, channels, h, w), or of a dense layer's (n, channels)."""
    return maps.abs().reshape(*maps.shape[:2], -1).sum(dim=2)


def _choose(name: str, strengths: Tensor, filters: int, lazy: LazyLayer) -> tuple[Tensor, Tensor]:
    """Scores (n, filters) int64 and the chosen filters (n, filters) bool for `strengths` (n, channels)."""
    try:
        scores = _scores(lazy, strengths)
    except RuntimeError as error:  # torch says which sizes do not fit
        raise ValueError(
            f"layer '{name}': predictor is not one of ({strengths.shape[1]}, {filters}): {error}"
        ) from error
    if tuple(scores.shape) != (len(strengths), filters):
        raise ValueError(f"layer '{name}': predictor scores {scores.shape[1]} filters; accepted: {filters}")
    if not 1 <= lazy.keep <= filters:
        raise ValueError(f"layer '{name}': keep is {lazy.keep}; accepted: 1 to {filters} filters")
    if lazy.threshold is not None:
        chosen = scores > lazy.threshold
        chosen[:, list(lazy.pinned)] = True
        return scores, chosen
    ranked = scores.clone()
    ranked[:, list(lazy.pinned)] = torch.iinfo(torch.int64).max
    order = ranked.argsort(dim=1, descending=True, stable=True)  # stable: of equal scores the lower index is first
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    keep = max(lazy.keep, len(lazy.pinned))
    return scores, chosen.scatter_(1, order[:, :keep], torch.ones_like(order, dtype=torch.bool))


def _scores(lazy: LazyLayer, strengths: Tensor) -> Tensor:
    """Scores (n, filters) int64 for `strengths` (n, channels) int64."""

    def integers(array: NDArray[np.generic]) -> Tensor:
        return torch.tensor(array.astype(np.int64))

    match lazy.predictor:
        case LinearPredictor(weights=weights, bias=bias):
            return integers(bias) + strengths @ integers(weights)
        case LowRankPredictor() as given:
            sums = integers(given.first_bias) + strengths @ integers(given.first)
            bound = 2.0 ** (given.hidden_bits - 1)
            hidden = torch.round(sums.double() / 2.0**given.shift).clamp(-bound, bound - 1).to(torch.int64)
            return integers(given.bias) + hidden @ integers(given.second)
        case PathPredictor(paths=paths, theta=theta, tau=tau):
            return torch.gt(strengths, integers(theta)).to(torch.int64) @ integers(paths) - integers(tau)
        case ClassPredictor(masks=masks):
            wanted = range(len(masks)) if lazy.classes is None else lazy.classes
            return integers(masks)[list(wanted)].sum(0).repeat(len(strengths), 1)
    raise TypeError(f"no scores of {type(lazy.predictor).__name__}")


def _joined(records: tuple[LayerRecord, ...]) -> LayerRecord:
    scores = [record.scores for record in records if record.scores is not None]
    return LayerRecord(
        name=records[0].name,
        strengths=np.concatenate([record.strengths for record in records]),
        scores=np.concatenate(scores) if scores else None,
        chosen=np.concatenate([record.chosen for record in records]),
    )
