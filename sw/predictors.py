"""Linear predictors of filter strengths, fitted in floating point and then turned into integers.

A predictor ranks the filters of a layer before any of them is computed:
``score[j] = bias[j] + sum_c strength[c] * weights[c, j]``, where ``strength[c]`` is the sum of
|integer activation| over channel c of the layer's input. After Leroux et al., "Lazy Evaluation of Convolutional
Filters" (2016).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sw.train import write_atomically

IntArray = NDArray[np.int64]

WEIGHT_HIGH = 127  # int8 without its most negative value


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """Integer `weights` (input channels, filters) within int8 and `bias` (filters,); read-only int64 arrays."""

    weights: IntArray
    bias: IntArray

    def __post_init__(self) -> None:
        for name in ("weights", "bias"):
            given = np.asarray(getattr(self, name))
            if given.dtype.kind not in "iu":
                raise ValueError(f"predictor: {name} have dtype {given.dtype}; accepted: integers")
            array = np.array(given, dtype=np.int64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise ValueError(
                f"predictor: weights {self.weights.shape} with bias {self.bias.shape}; accepted: (channels, filters) "
                "with (filters,)"
            )
        if self.weights.size and not -128 <= self.weights.min() <= self.weights.max() <= 127:
            raise ValueError(
                f"predictor: weights span {self.weights.min()} to {self.weights.max()}; accepted: int8, -128 to 127"
            )

    def scores(self, strengths: IntArray) -> IntArray:
        """Scores (n, filters) for integer `strengths` (n, channels)."""
        scores: IntArray = strengths.astype(np.int64) @ self.weights + self.bias
        return scores


def fit(strengths: NDArray[np.generic], targets: NDArray[np.generic], ridge: float = 1e-3) -> LinearPredictor:
    """The predictor whose scores best follow `targets` in the least squares sense.

    `strengths` (n, channels) are what the layer's input shows; `targets` (n, filters) the strengths of its output when
    every filter is computed. `ridge` is relative to the mean variance of the input channels. Only the order of the
    scores counts, so all filters share one positive scale: that which makes the largest weight 127. ValueError if the
    arrays do not fit or hold other than finite numbers.

    Where layers before are lazy and their k changes at run time, stack the frames of several k: a predictor that saw
    only one of them ranks badly at the others (digits, 25% kept everywhere: 51 to 79% right after a fit at 50%, 96 to
    98% after one at 25, 50, 75 and 100%). Scaling or centring each frame made no difference.
    """
    x, y = np.asarray(strengths, np.float64), np.asarray(targets, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"strengths {x.shape} with targets {y.shape}; accepted: (n, channels) with (n, filters), n at least 2"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("strengths or targets hold NaN or infinity; accepted: finite numbers")
    centred = x - x.mean(axis=0)
    moment = centred.T @ centred
    damping = ridge * float(np.trace(moment)) / len(moment)
    # lstsq rather than solve: channels that are always absent, or all of them, leave the moment singular.
    weights = np.linalg.lstsq(moment + damping * np.eye(len(moment)), centred.T @ (y - y.mean(axis=0)), rcond=None)[0]
    largest = float(np.abs(weights).max(initial=0.0))
    scale = WEIGHT_HIGH / largest if largest > 0 else 1.0
    integers = np.rint(weights * scale).astype(np.int64)
    bias = np.rint(y.mean(axis=0) * scale - x.mean(axis=0) @ integers).astype(np.int64)
    return LinearPredictor(integers, bias)


def top(scores: NDArray[np.generic], keep: int) -> NDArray[np.bool_]:
    """Which filters (n, filters) have the `keep` highest of `scores` (n, filters); ties go to the lower index."""
    order = np.argsort(-np.asarray(scores, np.float64), axis=1, kind="stable")[:, :keep]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def recall(predictor: LinearPredictor, strengths: IntArray, targets: NDArray[np.generic], keep: int) -> float:
    """Share of the `keep` filters of highest target that are among the `keep` of highest score, over all frames."""
    wanted, chosen = top(targets, keep), top(predictor.scores(strengths), keep)
    return float((wanted & chosen).sum() / wanted.sum())


def save(path: Path, predictors: dict[str, LinearPredictor]) -> None:
    """Write predictors by layer name as npz; the same ones give the same bytes, and no reader sees half a file."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, predictor in predictors.items():
        arrays[f"{name}.weights"] = predictor.weights.astype(np.int8)
        arrays[f"{name}.bias"] = predictor.bias
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy dates the members 1980
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> dict[str, LinearPredictor]:
    """Read what `save` wrote; FileNotFoundError, or ValueError naming the file and the key that is wrong."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"'{path}' is not a file of predictors: {error}") from error
    predictors = {}
    for key in arrays:
        name, _, part = key.rpartition(".")
        if not name or part not in ("weights", "bias"):
            raise ValueError(f"'{path}': key '{key}'; accepted: '<layer>.weights' and '<layer>.bias'")
        if part == "weights":
            if f"{name}.bias" not in arrays:
                raise ValueError(f"'{path}': key '{name}.bias' is missing")
            try:
                predictors[name] = LinearPredictor(arrays[key], arrays[f"{name}.bias"])
            except ValueError as error:
                raise ValueError(f"'{path}', layer '{name}': {error}") from error
        elif f"{name}.weights" not in arrays:
            raise ValueError(f"'{path}': key '{name}.weights' is missing")
    return predictors
