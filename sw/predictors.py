"""Predictors of filter strengths: what ranks a layer's filters before any of them is computed, in integers.

All look at activation strengths, ``strength[c]`` being the sum of |integer activation| over channel c of the layer's
input, or at the classes that are wanted, and give each filter a score. After Leroux et al., "Lazy Evaluation of
Convolutional Filters" (2016); the kinds are those of `hw.design` and have the same fields, also in files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sw import losses
from sw.archive import read
from sw.losses import Loss
from sw.train import write_atomically

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

WEIGHT_HIGH = 127  # int8 without its most negative value
HIDDEN_BITS = 12  # of a low-rank predictor, unless said otherwise
SMALL = {"weights": np.int8, "first": np.int8, "second": np.int8}  # fields, as they are saved


@dataclass(frozen=True, eq=False)
class Predictor:
    """The base of the kinds; a field is an array, read-only, or an integer."""

    def scores(self, strengths: IntArray) -> IntArray:
        """Scores (n, filters) for integer `strengths` (n, channels); all classes are wanted."""
        raise NotImplementedError

    def _integers(self, *names: str) -> None:
        """Make int64 of the fields `names`; ValueError for other than integers."""
        for name in names:
            given = np.asarray(getattr(self, name))
            if given.dtype.kind not in "iu":
                raise ValueError(f"predictor: {name} have dtype {given.dtype}; accepted: integers")
            self._freeze(name, np.array(given, dtype=np.int64))

    def _booleans(self, *names: str) -> None:
        for name in names:
            given = np.asarray(getattr(self, name))
            if given.dtype != np.bool_ or given.ndim != 2:
                raise ValueError(f"predictor: {name} are {given.dtype} {given.shape}; accepted: bool with two axes")
            self._freeze(name, given.copy())

    def _freeze(self, name: str, array: NDArray[np.generic]) -> None:
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _matrix(self, weights: str, bias: str) -> None:
        """ValueError unless these fields are (channels, filters) within int8, and (filters,)."""
        matrix, offsets = getattr(self, weights), getattr(self, bias)
        if matrix.ndim != 2 or offsets.shape != matrix.shape[1:]:
            raise ValueError(
                f"predictor: {weights} {matrix.shape} with {bias} {offsets.shape}; accepted: (channels, filters) "
                "with (filters,)"
            )
        if matrix.size and not -128 <= matrix.min() <= matrix.max() <= 127:
            raise ValueError(f"predictor: {weights} span {matrix.min()} to {matrix.max()}; accepted: int8, -128 to 127")


@dataclass(frozen=True, eq=False)
class LinearPredictor(Predictor):
    """``score = bias + strengths @ weights``: `weights` (input channels, filters) within int8, `bias` (filters,)."""

    weights: IntArray
    bias: IntArray

    def __post_init__(self) -> None:
        self._integers("weights", "bias")
        self._matrix("weights", "bias")

    def scores(self, strengths: IntArray) -> IntArray:  # noqa: D102 - the base has it
        scores: IntArray = strengths.astype(np.int64) @ self.weights + self.bias
        return scores


@dataclass(frozen=True, eq=False)
class LowRankPredictor(Predictor):
    """Two thin products: ``score = bias + hidden @ second``, of hidden values

    ``saturate(round_half_even((first_bias + strengths @ first) * 2**-shift))``, signed integers of `hidden_bits`.
    `first` (input channels, rank) and `second` (rank, filters) are within int8.
    """

    first: IntArray
    first_bias: IntArray
    shift: int
    hidden_bits: int
    second: IntArray
    bias: IntArray

    def __post_init__(self) -> None:
        self._integers("first", "first_bias", "second", "bias")
        self._matrix("first", "first_bias")
        self._matrix("second", "bias")
        object.__setattr__(self, "shift", int(self.shift))
        object.__setattr__(self, "hidden_bits", int(self.hidden_bits))

    def hidden(self, strengths: IntArray) -> IntArray:
        """Hidden values (n, rank)."""
        sums = strengths.astype(np.int64) @ self.first + self.first_bias
        high = (1 << (self.hidden_bits - 1)) - 1
        # Exact, half to even: sums have fewer bits than a float64 holds, and the divisor is a power of two.
        return np.clip(np.rint(np.ldexp(sums.astype(np.float64), -self.shift)), -high - 1, high).astype(np.int64)

    def scores(self, strengths: IntArray) -> IntArray:  # noqa: D102 - the base has it
        scores: IntArray = self.hidden(strengths) @ self.second + self.bias
        return scores


@dataclass(frozen=True, eq=False)
class PathPredictor(Predictor):
    """``score = votes - tau``: the votes are the channels with strength above `theta` that have a filter in `paths`.

    `paths` bool (input channels, filters); `theta` (input channels,) and `tau` (filters,) integers.
    """

    paths: BoolArray
    theta: IntArray
    tau: IntArray

    def __post_init__(self) -> None:
        self._booleans("paths")
        self._integers("theta", "tau")

    def scores(self, strengths: IntArray) -> IntArray:  # noqa: D102 - the base has it
        votes: IntArray = (strengths > self.theta).astype(np.int64) @ self.paths.astype(np.int64)
        return votes - self.tau


@dataclass(frozen=True, eq=False)
class ClassPredictor(Predictor):
    """``score`` = how many of the wanted classes have the filter on their path: `masks` bool (classes, filters)."""

    masks: BoolArray

    def __post_init__(self) -> None:
        self._booleans("masks")

    def scores(self, strengths: IntArray) -> IntArray:  # noqa: D102 - the base has it
        return np.tile(self.masks.sum(axis=0, dtype=np.int64), (len(strengths), 1))


KINDS: Mapping[str, type[Predictor]] = MappingProxyType(
    {kind.__name__: kind for kind in (LinearPredictor, LowRankPredictor, PathPredictor, ClassPredictor)}
)
"""All kinds by name, which is that of `hw.design`'s kind."""


# -- fitting ----------------------------------------------------------------------------------------------------------
def fit(
    strengths: NDArray[np.generic], targets: NDArray[np.generic], ridge: float = 1e-3, loss: Loss = "squared"
) -> LinearPredictor:
    """The linear predictor whose scores best follow `targets` in the least squares sense, or by another of `sw.losses`.

    `strengths` (n, channels) are what the layer's input shows; `targets` (n, filters) the strengths of its output when
    every filter is computed. `ridge` is relative to the mean variance of the input channels. Only the order of the
    scores counts, so all filters share one positive scale: that which makes the largest weight 127. ValueError if the
    arrays do not fit or hold other than finite numbers.

    Where layers before are lazy and their k changes at run time, stack the frames of several k: a predictor that saw
    only one of them ranks badly at the others (digits, 25% kept everywhere: 51 to 79% right after a fit at 50%, 96 to
    98% after one at 25, 50, 75 and 100%). Scaling or centring each frame made no difference.
    """
    x, y = _checked(strengths, targets)
    weights, scores = _ridge(x, y, ridge), y.mean(axis=0)
    if loss != "squared":
        weights, bias = losses.descend(x, y, weights, loss)
        scores = x.mean(axis=0) @ weights + bias
    return rounded(weights, x.mean(axis=0), scores)


def rounded(weights: FloatArray, strengths: FloatArray, scores: FloatArray) -> LinearPredictor:
    """The linear predictor of float `weights` (channels, filters) that gives the mean `strengths` the mean `scores`.

    All share one positive scale, that which makes the largest weight 127.
    """
    return LinearPredictor(*_rounded(weights, strengths, scores))


def fit_low_rank(
    strengths: NDArray[np.generic],
    targets: NDArray[np.generic],
    rank: int,
    ridge: float = 1e-3,
    hidden_bits: int = HIDDEN_BITS,
) -> LowRankPredictor:
    """As `fit`, of at most `rank` hidden values: reduced-rank regression (Izenman 1975), integers step by step.

    The first product spans the directions of the ridge solution that explain most of what it predicts (the leading
    right singular vectors of the predictions, not of the weights), each rounded to int8 on a scale of its own. The
    second is fitted anew on the hidden values as they come out of rounding, so that it makes up for it.
    """
    x, y = _checked(strengths, targets)
    if not 1 <= rank <= y.shape[1]:
        raise ValueError(f"rank {rank}; accepted: 1 to {y.shape[1]}, the number of filters")
    weights = _ridge(x, y, ridge)
    predicted = (x - x.mean(axis=0)) @ weights
    directions = np.linalg.eigh(predicted.T @ predicted)[1][:, ::-1][:, :rank]
    first = weights @ directions
    largest = np.abs(first).max(axis=0)
    first = np.rint(first * np.where(largest > 0, WEIGHT_HIGH / np.where(largest > 0, largest, 1), 0)).astype(np.int64)
    first_bias = np.rint(-x.mean(axis=0) @ first).astype(np.int64)
    swing = float(np.abs(x @ first + first_bias).max(initial=0))
    shift = max(0, int(np.ceil(np.log2(max(swing, 1.0) / ((1 << (hidden_bits - 1)) - 1)))))
    zeros = np.zeros((rank, y.shape[1]), np.int64)
    hidden = LowRankPredictor(first, first_bias, shift, hidden_bits, zeros, zeros[0]).hidden(x.astype(np.int64))
    second, bias = _rounded(_ridge(hidden.astype(np.float64), y, ridge), hidden.mean(axis=0), y.mean(axis=0))
    return LowRankPredictor(first, first_bias, shift, hidden_bits, second, bias)


def threshold(scores: IntArray, share: float) -> int:
    """The highest threshold that at least a `share` of all `scores` exceeds, or one below them all."""
    ordered = np.sort(scores, axis=None)[::-1]
    count = max(1, round(share * ordered.size))
    return int(ordered[count - 1]) - 1


def _checked(strengths: NDArray[np.generic], targets: NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(strengths, np.float64), np.asarray(targets, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"strengths {x.shape} with targets {y.shape}; accepted: (n, channels) with (n, filters), n at least 2"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("strengths or targets hold NaN or infinity; accepted: finite numbers")
    return x, y


def _ridge(x: FloatArray, y: FloatArray, ridge: float) -> FloatArray:
    """Weights (channels, filters) of the ridge regression of centred `y` on centred `x`."""
    centred = x - x.mean(axis=0)
    moment = centred.T @ centred
    damping = ridge * float(np.trace(moment)) / len(moment)
    # lstsq rather than solve: channels that are always absent, or all of them, leave the moment singular.
    return np.linalg.lstsq(moment + damping * np.eye(len(moment)), centred.T @ (y - y.mean(axis=0)), rcond=None)[0]


def _rounded(weights: FloatArray, x: FloatArray, y: FloatArray) -> tuple[IntArray, IntArray]:
    """Integer weights within int8, of one scale, and the bias with which the mean input `x` gives the mean `y`."""
    largest = float(np.abs(weights).max(initial=0.0))
    scale = WEIGHT_HIGH / largest if largest > 0 else 1.0
    integers = np.rint(weights * scale).astype(np.int64)
    return integers, np.rint(y * scale - x @ integers).astype(np.int64)


# -- judging ----------------------------------------------------------------------------------------------------------
def top(scores: NDArray[np.generic], keep: int) -> NDArray[np.bool_]:
    """Which filters (n, filters) have the `keep` highest of `scores` (n, filters); ties go to the lower index."""
    order = np.argsort(-np.asarray(scores, np.float64), axis=1, kind="stable")[:, :keep]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def recall(predictor: Predictor, strengths: IntArray, targets: NDArray[np.generic], keep: int) -> float:
    """Share of the `keep` filters of highest target that are among the `keep` of highest score, over all frames."""
    wanted, chosen = top(targets, keep), top(predictor.scores(strengths), keep)
    return float((wanted & chosen).sum() / wanted.sum())


# -- files ------------------------------------------------------------------------------------------------------------
def save(path: Path, predictors: Mapping[str, Predictor]) -> None:
    """Write predictors as npz, each field as array ``<layer>.<field>``.

    The same ones give the same bytes, and no reader sees half a file.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, predictor in predictors.items():
        for field in fields(predictor):
            value = np.asarray(getattr(predictor, field.name))
            arrays[f"{name}.{field.name}"] = value.astype(SMALL.get(field.name, value.dtype))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy dates the members 1980
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> dict[str, Predictor]:
    """Read what `save` wrote; FileNotFoundError, or ValueError naming the file and the layer that is wrong."""
    arrays = read(path, "a file of predictors")
    found: dict[str, dict[str, NDArray[np.generic]]] = {}
    for key, array in arrays.items():
        name, _, part = key.rpartition(".")
        found.setdefault(name, {})[part] = array
    return {name: _made(f"'{path}', layer '{name}'", parts) for name, parts in found.items()}


def _made(where: str, parts: Mapping[str, NDArray[np.generic]]) -> Predictor:
    """The kind of predictor that has these fields."""
    names = {kind: [field.name for field in fields(kind)] for kind in KINDS.values()}
    for kind, own in names.items():
        if set(own) == set(parts):
            try:
                return kind(**parts)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
    accepted = "; or ".join(", ".join(own) for own in names.values())
    raise ValueError(f"{where}: it has {', '.join(sorted(parts))}; accepted: {accepted}")
