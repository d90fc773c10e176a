"""Representational geometry: which images a layer finds alike, and how few of its filters say the same.

A representational dissimilarity matrix (RDM; Kriegeskorte et al. 2008) holds the distance of every two images in a
layer's activations. Filters are inserted in order of their zeros (PoZ: how often a filter's activation is zero, Hu et
al. 2016, "Network trimming"), those with fewest first or with most first, and the RDM of the filters so far is compared
with that of all, or with people's judgements. RDMs and comparisons are rsatoolbox's (extra `analysis`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw.archive import FileError, read
from sw.paths.scores import Precision
from sw.paths.stream import collect

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Method = Literal["euclidean", "correlation"]


# -- zeros -------------------------------------------------------------------------------------------------------------
class Zeros:
    """A `stream.Collector` of how often activations are zero, by layer and filter."""

    def __init__(self) -> None:
        self._zeros: dict[str, IntArray] = {}
        self._seen: dict[str, int] = {}

    def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:  # noqa: ARG002
        """See `stream.Collector`."""
        for layer, values in activations.items():
            zeros = (values == 0).sum(dim=(0, 2)).cpu().numpy()
            self._zeros[layer] = self._zeros[layer] + zeros if layer in self._zeros else zeros
            self._seen[layer] = self._seen.get(layer, 0) + values.shape[0] * values.shape[2]

    def result(self) -> dict[str, FloatArray]:
        """PoZ (filters,), 0 to 1, by layer."""
        return {layer: zeros / self._seen[layer] for layer, zeros in self._zeros.items()}


# -- RDMs --------------------------------------------------------------------------------------------------------------
def features(
    model: nn.Module, x: NDArray[np.float32], layers: Sequence[str] | None = None, precision: Precision = "float32"
) -> dict[str, NDArray[np.float32]]:
    """Activations (images, filters, positions) of a set of images (n, c, h, w), by layer: for tens or hundreds."""
    parts: dict[str, list[Tensor]] = {}

    class Keep:
        def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:  # noqa: ARG002
            for layer, values in activations.items():
                parts.setdefault(layer, []).append(values.cpu())

    data = [(frames, torch.zeros(len(frames), dtype=torch.long)) for frames in torch.tensor(x).split(100)]  # type: ignore[no-untyped-call]
    collect(model, data, [Keep()], layers, precision)
    return {layer: torch.cat(values).numpy() for layer, values in parts.items()}


def rdm(values: NDArray[np.floating], method: Method = "euclidean") -> FloatArray:
    """Dissimilarities (pairs,) of the images of `values` (images, ...): the upper triangle, row by row.

    `euclidean` is the squared distance over the number of features, `correlation` one minus Pearson's correlation.
    """
    toolbox = _rsatoolbox()
    measurements = np.asarray(values, np.float64).reshape(len(values), -1)
    found: FloatArray = toolbox.rdm.calc_rdm(toolbox.data.Dataset(measurements), method=method).dissimilarities[0]
    return found


def explained(one: FloatArray, other: FloatArray) -> float:
    """R^2 of two RDMs (pairs,): their squared Pearson correlation; 0 where one is constant, or its pairs are NaN."""
    toolbox = _rsatoolbox()
    if np.ptp(one) == 0 or np.ptp(other) == 0 or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0
    as_rdms = [toolbox.rdm.RDMs(values[None]) for values in (one, other)]
    return float(toolbox.rdm.compare(*as_rdms, method="corr")[0, 0]) ** 2


@dataclass(frozen=True, eq=False)
class Insertion:
    """R^2 (steps,) of the RDM of `counts` (steps,) filters, for filters inserted in one order.

    Removing filters in the opposite order passes the same sets backwards: with `counts` filters left, R^2 is that here.
    `human` is R^2 with people's RDM, None without one.
    """

    counts: IntArray
    full: FloatArray
    human: FloatArray | None


def insertion(
    values: NDArray[np.floating],
    order: IntArray,
    steps: int = 20,
    method: Method = "euclidean",
    human: FloatArray | None = None,
) -> Insertion:
    """R^2 against the RDM of all filters, and against `human` (pairs,), as filters come in in this `order`.

    `values` are (images, filters, positions). ValueError for an order that is no permutation of the filters, and for a
    human RDM of another number of images.
    """
    images, filters = values.shape[:2]
    if not np.array_equal(np.sort(order), np.arange(filters)):
        raise ValueError(f"order of {len(order)} filters is no permutation of 0 to {filters - 1}")
    if human is not None and human.shape != (images * (images - 1) // 2,):
        raise ValueError(
            f"human RDM has {human.shape} pairs; accepted: {images * (images - 1) // 2} of {images} images"
        )
    counts = np.unique(np.rint(np.linspace(1, filters, min(steps, filters))).astype(np.int64))
    whole = rdm(values, method)
    some = [rdm(values[:, order[:count]], method) for count in counts]
    return Insertion(
        counts,
        np.array([explained(one, whole) for one in some]),
        None if human is None else np.array([explained(one, human) for one in some]),
    )


@dataclass(frozen=True, eq=False)
class Geometry:
    """Of one layer: its `rdm` (pairs,), and filters inserted with fewest zeros first, most first, and at random."""

    rdm: FloatArray
    fewest: Insertion
    most: Insertion
    random: Insertion


def geometry(
    values: NDArray[np.floating],
    poz: FloatArray,
    seed: int = 1,
    steps: int = 20,
    method: Method = "euclidean",
    human: FloatArray | None = None,
) -> Geometry:
    """The geometry of a layer from `values` (images, filters, positions) and `poz` (filters,); ties by lower index."""
    order = np.argsort(poz, kind="stable")
    chance = np.random.default_rng(seed).permutation(len(poz))
    several = [insertion(values, each, steps, method, human) for each in (order, order[::-1], chance)]
    return Geometry(rdm(values, method), *several)


# -- people ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class HumanSimilarity:
    """People's dissimilarities `rdm` (pairs,) of `images` (n,), indices of test images of the dataset."""

    images: IntArray
    rdm: FloatArray


def load_human(path: Path, test_images: int) -> HumanSimilarity:
    """Read an npz file with `images`, integers (n,), and `rdm`, dissimilarities (n, n), symmetric with a zero diagonal.

    ValueError (`FileError` if it cannot be read) names the file and what is wrong in it.
    """
    try:
        arrays = read(path, "a file of human similarity")
        images, matrix = arrays["images"], arrays["rdm"]
    except FileNotFoundError:
        raise FileError(f"'{path}' does not exist") from None
    except KeyError as error:
        raise FileError(f"'{path}' is not a file of human similarity: {error} is missing") from error
    if images.ndim != 1 or images.dtype.kind not in "iu" or len(images) < 3:
        raise ValueError(f"'{path}': images are {images.dtype} {images.shape}; accepted: integers (n,), n at least 3")
    if images.min() < 0 or images.max() >= test_images or len(np.unique(images)) != len(images):
        raise ValueError(f"'{path}': images are not different indices of the {test_images} test images")
    number = len(images)
    if matrix.dtype.kind not in "iuf" or matrix.shape != (number, number) or not np.isfinite(matrix).all():
        raise ValueError(
            f"'{path}': rdm is {matrix.dtype} {matrix.shape}; accepted: finite numbers ({number}, {number})"
        )
    if not np.allclose(matrix, matrix.T) or np.diagonal(matrix).any():
        raise ValueError(f"'{path}': rdm is not symmetric with a zero diagonal")
    return HumanSimilarity(images.astype(np.int64), matrix[np.triu_indices(number, 1)].astype(np.float64))


def _rsatoolbox() -> ModuleType:
    try:
        import rsatoolbox
    except ImportError as error:
        raise ModuleNotFoundError(
            "representational geometry needs rsatoolbox, which is not installed: pip install 'penstock[analysis]'"
        ) from error
    return rsatoolbox
