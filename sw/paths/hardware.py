"""What the accelerator reads of critical paths: one file of class masks, Boolean predictors, always-on filters, orders.

After Leroux et al., "Lazy Evaluation of Convolutional Filters" (2016), whether a filter is computed is decided by a
*Boolean path matrix* C before it is computed:

    I = strength > theta        which channels of the layer's input are activated, (n, sources)
    J = I . C                   how many activated channels vote for each filter, (n, filters)
    chosen = J > tau, or always on

Strength is the mean |activation| of a channel over its map *as the layer reads it*, that is after normalisation, ReLU
and pooling: what the hardware measures, up to a scale (`LayerPaths.integer_theta`). The file is described in
docs/reference/paths.md; this module only writes, reads and derives it.
"""

from __future__ import annotations

import io
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from sw.archive import read
from sw.paths.path import CriticalPath
from sw.paths.strengths import Strengths
from sw.predictors import top
from sw.train import write_atomically

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Values = NDArray[np.floating]

FORMAT = 1


# -- what is handed over -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class LayerPaths:
    """Critical paths of one lazy layer; its arrays are read-only.

    `masks` bool (classes, filters): the class paths. `matrix` bool (sources, filters): C, where sources are the
    channels of the layer's input. `theta` float64 (sources,): thresholds of mean |activation|, not negative. `tau`
    int64 (filters,): thresholds of votes, -1 (always exceeded) to the number of sources (never). `always` bool
    (filters,): computed for every frame, without prediction. `order` int64 (filters,): filters so that those that fire
    together lie side by side. `frequency` float64 (filters,): share of frames in which a filter was wanted.
    ValueError names layer and array for anything else.
    """

    name: str
    masks: BoolArray
    matrix: BoolArray
    theta: FloatArray
    tau: IntArray
    always: BoolArray
    order: IntArray
    frequency: FloatArray

    def __post_init__(self) -> None:
        for field, (kinds, accepted, dtype) in _ARRAYS.items():
            given = np.asarray(getattr(self, field))
            if given.dtype.kind not in kinds:
                raise ValueError(f"layer '{self.name}': {field} has dtype {given.dtype}; accepted: {accepted}")
            array: NDArray[np.generic] = np.array(given, dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        if self.matrix.ndim != 2 or self.masks.ndim != 2:
            raise ValueError(
                f"layer '{self.name}': matrix {self.matrix.shape} with masks {self.masks.shape}; "
                "accepted: (sources, filters) with (classes, filters)"
            )
        sources, filters = self.matrix.shape
        shapes = {"masks": (len(self.masks), filters), "theta": (sources,)}
        for field in ("masks", "theta", "tau", "always", "order", "frequency"):
            shape, found = shapes.get(field, (filters,)), getattr(self, field).shape
            if found != shape:
                raise ValueError(
                    f"layer '{self.name}': {field} {found}; accepted: {shape} for a matrix {sources, filters}"
                )
        if not (np.isfinite(self.theta).all() and (self.theta >= 0).all()):
            raise ValueError(f"layer '{self.name}': theta holds negative, infinite or NaN values; accepted: 0 and more")
        if self.tau.size and not -1 <= self.tau.min() <= self.tau.max() <= sources:
            raise ValueError(
                f"layer '{self.name}': tau spans {self.tau.min()} to {self.tau.max()}; accepted: -1 to {sources}"
            )
        if not np.array_equal(np.sort(self.order), np.arange(filters)):
            raise ValueError(f"layer '{self.name}': order is no permutation of 0 to {filters - 1}")
        if not ((self.frequency >= 0) & (self.frequency <= 1)).all():
            raise ValueError(f"layer '{self.name}': frequency leaves 0 to 1")

    def votes(self, strengths: Values) -> IntArray:
        """J (n, filters) for `strengths` (n, sources), the mean |activation| of each channel of the layer's input."""
        return _votes(np.asarray(strengths, np.float64) > self.theta, self.matrix)

    def chosen(self, strengths: Values) -> BoolArray:
        """Which filters (n, filters) are computed for `strengths` (n, sources); always-on ones are among them."""
        chosen: BoolArray = (self.votes(strengths) > self.tau) | self.always
        return chosen

    def wanted(self, classes: list[int]) -> BoolArray:
        """Which filters (filters,) are on the path of any of `classes`."""
        union: BoolArray = np.logical_or.reduce(self.masks[classes])
        return union

    def ranking(self) -> IntArray:
        """All filters (filters,), those first that are wanted most often; of equals the lower index."""
        return np.argsort(-self.frequency, kind="stable")

    def most_frequent(self, number: int) -> IntArray:
        """Indices (number,), ascending, of the filters that are wanted most often; of equals the lower index."""
        return np.sort(self.ranking()[:number])

    def integer_theta(self, positions: int, scale: float) -> IntArray:
        """Thresholds (sources,) of integer strengths: sum |a| > these exactly where the mean |a * scale| > `theta`.

        `positions` is the number of pixels of the layer's input map, `scale` what one step of its integers is worth.
        """
        return np.floor(self.theta * positions / scale).astype(np.int64)


_ARRAYS = {
    "masks": ("b", "bool", np.bool_),
    "matrix": ("b", "bool", np.bool_),
    "theta": ("f", "floating point", np.float64),
    "tau": ("iu", "integers", np.int64),
    "always": ("b", "bool", np.bool_),
    "order": ("iu", "integers", np.int64),
    "frequency": ("f", "floating point", np.float64),
}


@dataclass(frozen=True)
class HardwarePaths:
    """Paths of a network's lazy layers, in the order of the network, and the `fingerprint` of that network."""

    fingerprint: str
    layers: tuple[LayerPaths, ...]

    def __post_init__(self) -> None:
        if len(self.fingerprint) != 64 or set(self.fingerprint) - set(string.hexdigits.lower()):
            raise ValueError(f"fingerprint '{self.fingerprint}'; accepted: 64 lower-case hexadecimal digits")
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names) or not all(names):
            raise ValueError(f"layers {names}; accepted: names that differ and are not empty")
        if len({len(layer.masks) for layer in self.layers}) > 1:
            counts = ", ".join(f"'{layer.name}' {len(layer.masks)}" for layer in self.layers)
            raise ValueError(f"layers have masks of different numbers of classes: {counts}")

    def layer(self, name: str) -> LayerPaths:
        """The paths of layer `name`; ValueError names those that there are."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"no paths of layer '{name}'; layers: {', '.join(layer.name for layer in self.layers)}")

    def save(self, path: Path) -> None:
        """Write one npz file; the same paths give the same bytes, and no reader sees half a file."""
        arrays: dict[str, NDArray[np.generic]] = {
            "format": np.array(FORMAT, np.int64),
            "fingerprint": np.array(self.fingerprint),
            "layers": np.array([layer.name for layer in self.layers], np.str_),
        }
        for layer in self.layers:
            arrays |= {f"{layer.name}.{field}": getattr(layer, field) for field in _ARRAYS}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy dates the members 1980
        write_atomically(path, buffer.getvalue())

    @staticmethod
    def load(path: Path, fingerprint: str | None = None) -> HardwarePaths:
        """Read what `save` wrote; FileNotFoundError, or ValueError naming the file and what is wrong in it.

        With `fingerprint`, paths of any other network are refused.
        """
        arrays = read(path, "a file of paths for the hardware")
        version = arrays.pop("format", None)
        if version is None or version.shape != () or version.dtype.kind not in "iu" or int(version) != FORMAT:
            raise ValueError(f"'{path}': format is {version if version is not None else 'missing'}; accepted: {FORMAT}")
        network, names = _text(path, arrays, "fingerprint", 0), _text(path, arrays, "layers", 1)
        try:
            layers = tuple(_layer(str(name), arrays) for name in names)
            found = HardwarePaths(str(network), layers)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from error
        if arrays:
            raise ValueError(
                f"'{path}': key '{min(arrays)}' belongs to none of the layers {', '.join(map(str, names))}"
            )
        if fingerprint is not None and found.fingerprint != fingerprint:
            raise ValueError(
                f"'{path}' holds paths of the network {found.fingerprint[:16]}..., not of {fingerprint[:16]}..."
            )
        return found


def _text(path: Path, arrays: dict[str, NDArray[np.generic]], key: str, axes: int) -> NDArray[np.generic]:
    value = arrays.pop(key, None)
    if value is None or value.dtype.kind != "U" or value.ndim != axes:
        found = "missing" if value is None else f"{value.dtype} {value.shape}"
        raise ValueError(f"'{path}': {key} is {found}; accepted: text with {axes} axes")
    return value


def _layer(name: str, arrays: dict[str, NDArray[np.generic]]) -> LayerPaths:
    missing = [field for field in _ARRAYS if f"{name}.{field}" not in arrays]
    if missing:
        raise ValueError(f"key '{name}.{missing[0]}' is missing")
    fields: dict[str, NDArray[np.generic]] = {field: arrays.pop(f"{name}.{field}") for field in _ARRAYS}
    return LayerPaths(name, **fields)  # type: ignore[arg-type]  # dtypes are checked there


# -- how it is found ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Calibration:
    """How a Boolean predictor is found from the strengths of calibration frames.

    `share` of a layer's filters are *wanted* in a frame: those of highest strength. `evidence` for C is what frames
    show (which channels are activated when a filter is wanted) or what classes do (on which paths both lie).
    `quantiles` are tried as theta of each source, `voters` as the number of sources that vote for a filter. The
    always-on set is the `always` filters that are wanted most often; with None, those on the path of every class.
    """

    share: float = 0.5
    evidence: Literal["frames", "classes"] = "frames"
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    voters: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    always: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not self.quantiles or not self.voters:
            raise ValueError(
                f"{self}: share must be above 0 and up to 1, with at least one quantile and number of voters"
            )
        if not all(0 <= value < 1 for value in self.quantiles) or min(self.voters) < 1:
            raise ValueError(f"{self}: quantiles must be at least 0 and below 1, voters at least 1")


def wanted(outputs: Values, share: float) -> BoolArray:
    """The `share` of filters of highest strength in each frame of `outputs` (n, filters), at least one, ties to the
    lower index; filters that are all zero are wanted by nobody.
    """
    filters = outputs.shape[1]
    return top(outputs, max(1, round(share * filters))) & (outputs > 0)


def derive(
    name: str,
    masks: BoolArray,
    inputs: Values,
    outputs: Values,
    settings: Calibration = Calibration(),
    before: BoolArray | None = None,
) -> LayerPaths:
    """The paths of layer `name` for the hardware, calibrated on frames that are not those it is judged on.

    `masks` bool (classes, filters) are its class paths, `inputs` (n, sources) and `outputs` (n, filters) mean
    |activation| of what the layer reads and of what the next one reads. `before` bool (classes, sources) are the class
    paths of what feeds it, which evidence 'classes' needs.

    theta: for each source, that quantile of its strengths whose bit I correlates most with the wanted filters W (sum of
    squared correlations). C: a filter f is voted for by those sources s whose I_s correlates most, and positively, with
    W_f over frames (or whose column of `before` does with that of `masks` over classes). tau, and how many sources vote
    for each filter: maximise recall at the mean number of filters that `share` allows (`thresholds`).
    ValueError for shapes that do not fit.
    """
    inputs, outputs = np.asarray(inputs, np.float64), np.asarray(outputs, np.float64)
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs) or len(inputs) < 2:
        raise ValueError(
            f"layer '{name}': inputs {inputs.shape} with outputs {outputs.shape}; "
            "accepted: (n, sources) with (n, filters), n at least 2"
        )
    if masks.shape[1:] != outputs.shape[1:]:
        raise ValueError(f"layer '{name}': masks {masks.shape} with outputs {outputs.shape}; accepted: equal filters")
    if settings.evidence == "classes" and (before is None or before.shape != (len(masks), inputs.shape[1])):
        raise ValueError(
            f"layer '{name}': class paths of its sources are {None if before is None else before.shape}; "
            f"accepted with evidence 'classes': {len(masks), inputs.shape[1]}"
        )
    want = wanted(outputs, settings.share)
    theta = _theta(inputs, want, settings.quantiles)
    active = inputs > theta
    if settings.evidence == "classes":
        assert before is not None
        evidence = correlation(before, masks)
    else:
        evidence = correlation(active, want)
    frequency = want.mean(axis=0)
    always: BoolArray = np.logical_and.reduce(masks)
    if settings.always is not None:
        always = np.zeros(len(frequency), np.bool_)
        always[np.argsort(-frequency, kind="stable")[: settings.always]] = True
    ranks = np.argsort(np.argsort(-evidence, axis=0, kind="stable"), axis=0)
    tried = [(ranks < number) & (evidence > 0) for number in settings.voters]
    votes = [_votes(active, matrix) for matrix in tried]
    index, tau = thresholds(votes, want, always, settings.share * want.size)
    matrix: BoolArray = np.stack(tried)[index, :, np.arange(len(index))].T
    return LayerPaths(name, masks, matrix, theta, tau, always, co_activation_order(want), frequency)


def for_hardware(
    path: CriticalPath, strengths: Strengths, layers: Sequence[str], model_fingerprint: str, settings: Calibration
) -> HardwarePaths:
    """`derive` for each of `layers`, from a critical path and the strengths of calibration frames."""
    found = []
    for name in layers:
        feeding = strengths.before(name)
        before = path.of(feeding) if feeding in path.layers else None
        found.append(derive(name, path.of(name), strengths.read(name), strengths.made(name), settings, before))
    return HardwarePaths(model_fingerprint, tuple(found))


def correlation(some: NDArray[np.generic], others: NDArray[np.generic]) -> FloatArray:
    """Pearson correlation (a, b) of the columns of `some` (n, a) and `others` (n, b); 0 where a column is constant."""

    def standardised(values: NDArray[np.generic]) -> NDArray[np.float32]:
        centred = values.astype(np.float32) - values.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = np.sqrt((centred.astype(np.float32) ** 2).mean(axis=0, dtype=np.float64))
        constant = (values == values[:1]).all(axis=0)
        return np.where(constant, 0, centred / np.where(constant, 1, spread)).astype(np.float32)

    product: FloatArray = (standardised(some).T @ standardised(others)).astype(np.float64) / len(some)
    return product


def _theta(inputs: Values, want: BoolArray, quantiles: tuple[float, ...]) -> FloatArray:
    """For each source the quantile (a strength that occurs) whose bit tells most about what is wanted."""
    candidates = np.quantile(inputs, quantiles, axis=0, method="lower")  # (quantiles, sources)
    told = [(correlation(inputs > candidate, want) ** 2).sum(axis=1) for candidate in candidates]
    best: FloatArray = np.take_along_axis(candidates, np.argmax(told, axis=0)[None], axis=0)[0]
    return best


def _votes(active: BoolArray, matrix: BoolArray) -> IntArray:
    # Counts are exact in float32, whose products are those that libraries make fast.
    return np.rint(active.astype(np.float32) @ matrix.astype(np.float32)).astype(np.int64)


def thresholds(
    votes: Sequence[IntArray], want: BoolArray, always: BoolArray, budget: float
) -> tuple[IntArray, IntArray]:
    """Which of several counts of `votes` (n, filters) each filter goes by, and its tau: both (filters,).

    They catch most of `want` (n, filters) while at most `budget` (frame, filter) pairs are computed: every filter takes
    the count and the tau of highest ``caught - price * computed`` at the lowest price that the budget allows, found by
    bisection. No other choice with as little computed catches more. `always` (filters,) are computed whatever the
    votes: they use the budget up first, and their tau is -1.
    """
    filters = want.shape[1]
    widths = [int(count.max(initial=0)) + 2 for count in votes]  # tau = -1 up to the most votes there are

    def above(pairs: NDArray[np.generic]) -> IntArray:
        """For each filter how many of `pairs` have more votes than tau = -1, 0, ... and so on, count after count."""
        found = []
        for count, width in zip(votes, widths, strict=True):
            cells = count + (width - 1) * np.arange(filters)
            sums = np.bincount(cells.ravel(), pairs.ravel(), filters * (width - 1)).reshape(filters, width - 1)
            found += [sums[:, ::-1].cumsum(axis=1)[:, ::-1], np.zeros((filters, 1))]
        return np.concatenate(found, axis=1).astype(np.int64)

    computed, caught = above(np.ones_like(want)), above(want)
    every = np.arange(filters)

    def at(price: float) -> IntArray:
        gain = caught - price * computed
        # Of equal gains the one that computes least.
        best = np.where(gain == gain.max(axis=1, keepdims=True), computed, np.iinfo(np.int64).max).argmin(axis=1)
        return np.where(always, 0, best)

    low, high = 0.0, 2.0  # at 2 nothing pays
    if computed[every, at(low)].sum() <= budget:
        high = low
    else:
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if computed[every, at(middle)].sum() <= budget else (middle, high)
    chosen = at(high)
    starts = np.cumsum([0, *widths])
    index = np.searchsorted(starts, chosen, side="right") - 1
    return index, chosen - starts[index] - 1


def co_activation_order(fired: BoolArray) -> IntArray:
    """A permutation (filters,) in which filters that fire together lie side by side.

    Average-linkage clustering of the filters by one minus the correlation of `fired` bool (n, filters) over frames,
    leaves ordered so that neighbours are as near as the tree permits (Bar-Joseph et al. 2001).
    """
    filters = fired.shape[1]
    if filters < 3:
        return np.arange(filters)
    distance = 1 - correlation(fired, fired)
    np.fill_diagonal(distance, 0)
    condensed = squareform(np.clip((distance + distance.T) / 2, 0, None), checks=False)
    tree = linkage(condensed, method="average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), np.int64)


# -- what it is worth --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Choice:
    """`recall`: share of the wanted filters that are computed. `share`: mean share of filters that are computed."""

    recall: float
    share: float


def judged(chosen: BoolArray, outputs: Values, share: float) -> Choice:
    """What `chosen` bool (n, filters) is worth where the `share` of highest strength in `outputs` is wanted."""
    want = wanted(outputs, share)
    return Choice(float((want & chosen).sum() / max(1, want.sum())), float(chosen.mean()))


def runs(chosen: BoolArray, order: IntArray) -> float:
    """Mean number per frame of runs of neighbours in `order` that are all in `chosen` (n, filters): bursts to fetch."""
    lined = chosen[:, order]
    opened = lined.copy()
    opened[:, 1:] &= ~lined[:, :-1]
    return float(opened.sum(axis=1).mean())
