"""Comparing critical paths: between classes, between scores, along the depth of a network, and with chance.

A class that shares no more filters with another than random paths of the same size would share is not thereby special:
every overlap here stands beside what chance gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from sw.paths.path import CriticalPath
from sw.paths.scores import Scores

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


# -- overlap of classes ------------------------------------------------------------------------------------------------
def iou(masks: BoolArray) -> FloatArray:
    """Intersection over union (classes, classes) of the rows of `masks` (classes, filters); 1 where both are empty."""
    counts = masks.astype(np.float64)
    both = counts @ counts.T
    sizes = counts.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - both
    return np.divide(both, union, out=np.ones_like(both), where=union > 0)


@cache
def chance_iou(filters: int, some: int, others: int) -> tuple[float, float]:
    """Mean and standard deviation of the IoU of two random masks with `some` and `others` of `filters` filters.

    Their intersection is hypergeometric; exact. ValueError for sizes that do not fit.
    """
    if not 0 <= some <= filters or not 0 <= others <= filters:
        raise ValueError(f"masks of {some} and {others} of {filters} filters; accepted: 0 to {filters}")
    if some + others == 0:
        return 1.0, 0.0
    both = np.arange(max(0, some + others - filters), min(some, others) + 1)
    probability = stats.hypergeom(filters, some, others).pmf(both)
    values = both / (some + others - both)
    mean = float(probability @ values)
    return mean, float(np.sqrt(max(0.0, probability @ values**2 - mean**2)))


def expected_iou(masks: BoolArray) -> FloatArray:
    """`chance_iou`'s mean for every pair of rows of `masks` (classes, filters); 1 on the diagonal, as `iou` has it."""
    sizes = masks.sum(axis=1).tolist()
    filters = masks.shape[1]
    expected = np.array([[chance_iou(filters, one, other)[0] for other in sizes] for one in sizes], np.float64)
    np.fill_diagonal(expected, 1.0)
    return expected


@dataclass(frozen=True, eq=False)
class Trend:
    """Mean IoU of two classes along the depth, all (layers,).

    `iou` is what was found, `expected` what random masks of the same sizes have on average, `low` and `high` the 2.5
    and 97.5 percentiles of the mean over all pairs of classes when all masks are drawn at random.
    """

    layers: tuple[str, ...]
    iou: FloatArray
    expected: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def verdicts(self) -> tuple[str, ...]:
        """For each layer, whether classes overlap 'more' or 'less' than by chance, or 'as' by chance."""
        return tuple(
            "more" if found > high else "less" if found < low else "as"
            for found, low, high in zip(self.iou, self.low, self.high, strict=True)
        )


def trend(path: CriticalPath, draws: int = 1000, seed: int = 1) -> Trend:
    """The mean IoU of two classes by layer, beside that of `draws` sets of random masks of the same sizes."""
    random = np.random.default_rng(seed)
    found, expected, low, high = [], [], [], []
    for masks in path.masks:
        found.append(between(iou(masks)))
        expected.append(between(expected_iou(masks)))
        sampled = [between(iou(random.permuted(masks, axis=1))) for _ in range(draws)]
        bounds = np.quantile(sampled, [0.025, 0.975])
        low.append(bounds[0])
        high.append(bounds[1])
    return Trend(path.layers, *(np.array(values, np.float64) for values in (found, expected, low, high)))


def between(matrix: FloatArray) -> float:
    """Mean of a symmetric `matrix` (classes, classes) off its diagonal; NaN for a single class."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return float(pairs.mean()) if pairs.size else float("nan")


# -- agreement of scores -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Agreement:
    """Rank correlation of scores, mean over classes: `spearman` and `kendall` (tau-b), (layers, scores, scores).

    NaN where no class has scores that differ, such as those of a layer in which every filter is dead.
    """

    scores: tuple[str, ...]
    layers: tuple[str, ...]
    spearman: FloatArray
    kendall: FloatArray


def rank_agreement(scores: Mapping[str, Scores]) -> Agreement:
    """How alike the `scores` (at least one) rank the filters of each layer, class by class.

    ValueError if they are not of the same layers and classes.
    """
    names = tuple(scores)
    layers, shapes = scores[names[0]].layers, [value.shape for value in scores[names[0]].values]
    for name, other in scores.items():
        if other.layers != layers or [value.shape for value in other.values] != shapes:
            raise ValueError(f"scores '{name}' and '{names[0]}' are not of the same layers, filters and classes")
    number = len(names)
    spearman, kendall = np.ones((2, len(layers), number, number))
    for index, layer in enumerate(layers):
        for row in range(number):
            for column in range(row + 1):
                pairs = list(zip(scores[names[row]].of(layer), scores[names[column]].of(layer), strict=True))
                for table, correlate in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
                    values = [correlate(a, b).statistic for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
                    table[index, row, column] = table[index, column, row] = np.mean(values) if values else np.nan
    return Agreement(names, layers, spearman, kendall)


# -- spread of class means ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Spread:
    """Standard deviation over classes of a filter's mean activation, averaged over filters: (layers,).

    `relative` is the same with every filter's deviation divided by its mean over classes; dead filters are left out.
    """

    layers: tuple[str, ...]
    deviation: FloatArray
    relative: FloatArray


def class_spread(activation: Scores) -> Spread:
    """How much classes differ in mean activation, by depth, from the score `activation` (classes, filters)."""
    deviation, relative = [], []
    for values in activation.values:
        spread, mean = values.std(axis=0), values.mean(axis=0)
        alive = mean > 0
        deviation.append(spread.mean())
        relative.append((spread[alive] / mean[alive]).mean() if alive.any() else 0.0)
    return Spread(activation.layers, np.array(deviation, np.float64), np.array(relative, np.float64))


# -- activations on and off the path -----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Distribution:
    """Activations of one layer, on and off the path of each frame's own class.

    `edges` (bins + 1,) of equal bins; `on` and `off` (bins,) shares of all activations that are above zero and fall
    into each, the last one with all above; `zeros` and `means` (2,) the share of zeros and the mean, on and off.
    """

    edges: FloatArray
    on: FloatArray
    off: FloatArray
    zeros: FloatArray
    means: FloatArray


class Distributions:
    """A `stream.Collector` of `Distribution` by layer of `path`, of the first batches with up to `frames` frames.

    Bins reach to the highest value of the first batch.
    """

    def __init__(self, path: CriticalPath, bins: int = 60, frames: int | None = None) -> None:
        self.masks = {layer: torch.tensor(mask) for layer, mask in zip(path.layers, path.masks, strict=True)}
        self.bins, self.frames = bins, frames
        self._seen = 0
        self._tops: dict[str, float] = {}
        self._counts: dict[str, IntArray] = {}  # (2, bins + 1), the last one zeros
        self._sums: dict[str, FloatArray] = {}

    def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:  # noqa: ARG002
        """See `stream.Collector`."""
        self._seen += len(labels)
        if self.frames is not None and self._seen > self.frames:
            return
        for layer, mask in self.masks.items():
            values = activations[layer]  # (n, filters, positions)
            top = self._tops.setdefault(layer, float(values.max()) or 1.0)
            counts = self._counts.setdefault(layer, np.zeros((2, self.bins + 1), np.int64))
            sums = self._sums.setdefault(layer, np.zeros(2))
            own = mask.to(labels.device)[labels]  # (n, filters)
            for side, chosen in enumerate((own, ~own)):
                some = values[chosen]  # (pairs, positions)
                positive = some[some > 0]
                cells = (positive * (self.bins / top)).long().clamp_(max=self.bins - 1)
                counts[side, : self.bins] += torch.bincount(cells, minlength=self.bins).cpu().numpy()
                counts[side, self.bins] += some.numel() - positive.numel()
                sums[side] += float(some.sum(dtype=torch.float64))

    def result(self) -> dict[str, Distribution]:
        """What was seen, by layer."""
        found = {}
        for layer, counts in self._counts.items():
            totals = np.maximum(counts.sum(axis=1), 1)
            shares = counts / totals[:, None]
            edges = np.linspace(0, self._tops[layer], self.bins + 1)
            found[layer] = Distribution(
                edges, shares[0, :-1], shares[1, :-1], shares[:, -1], self._sums[layer] / totals
            )
        return found


# -- principal components and how separable classes are ----------------------------------------------------------------
class Moments:
    """A `stream.Collector` of first and second moments of each frame's features, by layer and class.

    A feature is the mean activation of a filter over its map. `sums` (classes, filters) and `squares` (filters,
    filters) are float64; `frames` (classes,) counts.
    """

    def __init__(self, classes: int) -> None:
        self.frames: IntArray = np.zeros(classes, np.int64)
        self.sums: dict[str, FloatArray] = {}
        self.squares: dict[str, FloatArray] = {}

    def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:  # noqa: ARG002
        """See `stream.Collector`."""
        known = labels.cpu().numpy()
        self.frames += np.bincount(known, minlength=len(self.frames))
        for layer, values in activations.items():
            features = pooled(values)
            if layer not in self.sums:
                self.sums[layer] = np.zeros((len(self.frames), features.shape[1]))
                self.squares[layer] = np.zeros((features.shape[1], features.shape[1]))
            np.add.at(self.sums[layer], known, features)
            self.squares[layer] += features.T @ features


def pooled(values: Tensor) -> FloatArray:
    """Features float64 (n, filters) of activations (n, filters, positions): their means over the map."""
    features: FloatArray = values.mean(dim=2).double().cpu().numpy()
    return features


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of one layer's features, and a linear probe, both from the moments of some frames.

    `centre` (filters,), `axes` (filters, components) of unit length, `explained` (components,) share of the variance.
    `fisher` is tr(S_B) / tr(S_W), the scatter of class means over that within classes; `probe` (filters, classes) and
    `offset` (classes,) are the linear discriminants with a common covariance (Fisher 1936; Rao 1948).
    """

    centre: FloatArray
    axes: FloatArray
    explained: FloatArray
    fisher: float
    probe: FloatArray
    offset: FloatArray


def components(moments: Moments, layer: str, number: int = 2, ridge: float = 1e-3) -> Components:
    """Components and probe of `layer`; `ridge` is relative to the mean variance within classes.

    ValueError where a class has no frames.
    """
    if (moments.frames == 0).any():
        raise ValueError(f"no frame of class {int(np.argmin(moments.frames))}; accepted: one or more of each")
    frames = moments.frames.sum()
    means = moments.sums[layer] / moments.frames[:, None]
    centre = moments.sums[layer].sum(axis=0) / frames
    total = moments.squares[layer] / frames - np.outer(centre, centre)
    weights = moments.frames / frames
    among = ((means - centre) * weights[:, None]).T @ (means - centre)
    within = total - among
    values, vectors = np.linalg.eigh(total)
    kept = np.argsort(-values, kind="stable")[:number]
    axes = vectors[:, kept]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(kept))] < 0, -1, 1)  # one sign, always
    variance = max(float(np.trace(total)), np.finfo(np.float64).tiny)
    damped = within + (ridge * float(np.trace(within)) / len(within) + 1e-12) * np.eye(len(within))
    probe = np.linalg.solve(damped, means.T)
    offset = np.log(weights) - 0.5 * np.einsum("cf,fc->c", means, probe)
    scatter = float(np.trace(within))
    fisher = float(np.trace(among)) / scatter if scatter > 0 else 0.0
    return Components(centre, axes, np.maximum(values[kept], 0) / variance, fisher, probe, offset)


@dataclass(frozen=True, eq=False)
class Separability:
    """How separable classes are in one layer, on frames that the components were not found on.

    `accuracy` of the linear probe; `fisher_2d` tr(S_B) / tr(S_W) in the plane of the first two components.
    `points` float32 (frames, 2) and `labels` are that plane, of up to `Projections.shown` frames.
    """

    accuracy: float
    fisher_2d: float
    points: NDArray[np.float32]
    labels: IntArray


class Projections:
    """A `stream.Collector` that applies `Components` by layer to frames; `shown` of them are kept as points."""

    def __init__(self, found: Mapping[str, Components], classes: int, shown: int = 1000) -> None:
        self.found, self.shown = found, shown
        self.plane = {layer: Moments(classes) for layer in found}
        self._hits = dict.fromkeys(found, 0)
        self._points: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in found}
        self._labels: list[IntArray] = []
        self._frames = 0

    def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:
        """See `stream.Collector`."""
        known = labels.cpu().numpy()
        left = max(0, self.shown - self._frames)
        self._labels.append(known[:left])
        self._frames += len(known)
        for layer, parts in self.found.items():
            features = pooled(activations[layer])
            self._hits[layer] += int(((features @ parts.probe + parts.offset).argmax(axis=1) == known).sum())
            plane = (features - parts.centre) @ parts.axes[:, :2]
            self.plane[layer].take({layer: torch.tensor(plane)[:, :, None]}, labels, logits)
            self._points[layer].append(plane[:left].astype(np.float32))

    def result(self) -> dict[str, Separability]:
        """What was seen, by layer."""
        labels = np.concatenate(self._labels)
        return {
            layer: Separability(
                self._hits[layer] / self._frames,
                components(self.plane[layer], layer).fisher,
                np.concatenate(self._points[layer]),
                labels,
            )
            for layer in self.found
        }
