"""The golden model: what an accelerator answers, chooses and fetches, in exact integers.

Written from the contract (docs: arithmetic), not from the RTL or from torch, so that both can be compared with it
by ``==``. It is vectorised over frames; `stream` takes them in chunks, so that memory does not grow with their number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hw.control import Changes, Control, UnknownLayerError
from hw.design import (
    BoolArray,
    ClassPredictor,
    Conv,
    Dense,
    Design,
    IntArray,
    IntFormat,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    Mode,
    PathPredictor,
    Predictor,
    Selection,
)
from hw.image import RecordLayout, layout

CHUNK_VALUES = 1 << 22  # operands unfolded at a time, 8 bytes each
EXACT_BITS = 53  # every integer of this signed width is a float64
SINGLE = 1 << 24  # every integer up to this magnitude is a float32


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer did on n frames.

    `strengths` (n, input channels): activation strengths of its input. `scores` (n, filters): what its predictor gave,
    None when every filter is computed. `chosen` (n, filters). `bytes` (n,): fetched from external memory, 0 for the
    head. `output` (n, filters, height, width): after requantisation and pooling, zero where not chosen.
    """

    name: str
    strengths: IntArray
    scores: IntArray | None
    chosen: BoolArray
    bytes: IntArray
    output: IntArray


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """Answers (n, outputs) to n frames, and what every layer did, head first."""

    outputs: IntArray
    layers: tuple[LayerTrace, ...]

    def layer(self, name: str) -> LayerTrace:
        """The trace of the layer called `name`; raises `UnknownLayerError`."""
        for trace in self.layers:
            if trace.name == name:
                return trace
        raise UnknownLayerError(f"no layer '{name}'; there are: {', '.join(t.name for t in self.layers)}")


# -- layer kinds ------------------------------------------------------------------------------------------------------
Accumulate = Callable[[Layer, IntArray], IntArray]


def _accumulate_conv(layer: Layer, maps: IntArray) -> IntArray:
    """Convolution of `maps` (n, c, h, w) at each position of the layer's grid: (n, filters, rows, columns)."""
    (top, left), (kh, kw), (rows, columns), s = layer.pad, layer.kernel, layer.grid, layer.stride
    height, width = (rows - 1) * s + kh, (columns - 1) * s + kw  # rows and columns that the windows touch
    inside = maps[:, :, : height - top, : width - left]
    bottom, right = height - top - inside.shape[2], width - left - inside.shape[3]
    kind = _operands(layer, maps)
    padded = np.pad(inside.astype(kind), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, ::s, ::s]  # n c rows columns kh kw
    unfolded = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, layer.weights[0].size)
    products = _product(layer, unfolded, kind)
    return products.reshape(len(maps), rows, columns, layer.filters).transpose(0, 3, 1, 2)


def _accumulate_dense(layer: Layer, maps: IntArray) -> IntArray:
    """Product of the flattened `maps` (n, c, h, w) with all filters: (n, filters, 1, 1)."""
    operands = maps.reshape(len(maps), layer.weights[0].size)
    return _product(layer, operands, _operands(layer, maps))[:, :, None, None]


ACCUMULATE: Mapping[type[Layer], Accumulate] = MappingProxyType({Conv: _accumulate_conv, Dense: _accumulate_dense})
"""The sums of products of each kind of layer, without bias; a new kind of layer is one more entry."""


def _operands(layer: Layer, maps: IntArray) -> type[np.float32 | np.float64]:
    """The floating-point type in which BLAS, which is fast there, computes the layer's products on `maps` exactly.

    Whatever the order of summation, and with fused multiply-add or not, a partial sum is a sum over a subset of the
    products; none exceeds that of the products of one sign, with every channel at its largest value in the frame.
    Where this bound is below 2**24, float32 holds every partial sum; float64 always does, because `Design` limits
    accumulators to fewer than 53 bits.
    """
    assert layer.accumulator_bits <= EXACT_BITS, f"layer '{layer.name}' has {layer.accumulator_bits}-bit accumulators"
    weights = layer.weights.reshape(layer.filters, layer.input.channels, -1)
    if layer.input_format.signed:
        sums = np.abs(weights).sum(axis=2)
    else:
        sums = np.maximum(weights.clip(min=0).sum(axis=2), -weights.clip(max=0).sum(axis=2))
    largest = np.abs(maps).max(axis=(2, 3), initial=0)  # (n, channels)
    bound = (largest.astype(np.float64) @ sums.T.astype(np.float64)).max(initial=0)
    return np.float32 if bound < SINGLE else np.float64


def _product(layer: Layer, operands: NDArray[np.generic], kind: type[np.float32 | np.float64]) -> IntArray:
    """`operands` (m, fan-in) times the layer's weights: (m, filters), computed as `kind`."""
    matrix = layer.weights.reshape(layer.filters, -1).T.astype(kind)
    sums = np.matmul(operands.astype(kind, copy=False), matrix)
    return sums.astype(np.int64)


def accumulate(layer: Layer, maps: IntArray) -> IntArray:
    """Accumulators with bias of all filters, (n, filters, grid height, grid width), for `maps` (n, c, h, w)."""
    try:
        kind = ACCUMULATE[type(layer)]
    except KeyError:
        known = ", ".join(kind.__name__ for kind in ACCUMULATE)
        raise TypeError(
            f"layer '{layer.name}': the golden model has no entry for {type(layer).__name__}; it knows {known}"
        ) from None
    return kind(layer, maps) + layer.bias[:, None, None]


# -- arithmetic of all layers -----------------------------------------------------------------------------------------
def round_shift(values: IntArray, shift: IntArray | int) -> IntArray:
    """``round_half_even(values * 2**-shift)`` for shifts of at least 0, which broadcast over `values`."""
    quotient = values >> shift  # towards minus infinity, so the remainder is never negative
    twice, divisor = (values - (quotient << shift)) * 2, np.left_shift(1, shift)
    up = (twice > divisor) | ((twice == divisor) & (quotient % 2 == 1))
    return quotient + up


def requantise(accumulators: IntArray, shift: IntArray, target: IntFormat) -> IntArray:
    """``saturate(round_half_even(accumulators * 2**-shift))`` to `target`; (n, filters, h, w) and shift (filters,).

    The lower bound of an unsigned target is the ReLU.
    """
    saturated: IntArray = np.clip(round_shift(accumulators, shift[:, None, None]), target.low, target.high)
    return saturated


def max_pool(maps: IntArray, size: int) -> IntArray:
    """Maximum of each `size` x `size` block of `maps` (n, c, h, w); rows and columns that fill no block are dropped."""
    if size == 1:
        return maps
    n, channels, height, width = maps.shape
    rows, columns = height // size, width // size
    blocks = maps[:, :, : rows * size, : columns * size].reshape(n, channels, rows, size, columns, size)
    pooled: IntArray = blocks.max(axis=(3, 5))
    return pooled


def strength(maps: IntArray) -> IntArray:
    """Activation strength of each channel, (n, c): the sum of absolute values over its map (n, c, h, w)."""
    total: IntArray = np.abs(maps).sum(axis=(2, 3), dtype=np.int64)
    return total


# -- kinds of predictor -----------------------------------------------------------------------------------------------
def _linear(predictor: Predictor, strengths: IntArray, wanted: BoolArray) -> IntArray:  # noqa: ARG001 - as all kinds
    """Leroux et al., "Lazy Evaluation of Convolutional Filters"."""
    assert isinstance(predictor, LinearPredictor)
    return _weighted(strengths, predictor.weights) + predictor.bias


def _low_rank(predictor: Predictor, strengths: IntArray, wanted: BoolArray) -> IntArray:  # noqa: ARG001
    assert isinstance(predictor, LowRankPredictor)
    sums = _weighted(strengths, predictor.first) + predictor.first_bias
    hidden = np.clip(round_shift(sums, predictor.shift), predictor.hidden.low, predictor.hidden.high)
    return _weighted(hidden, predictor.second) + predictor.bias


def _paths(predictor: Predictor, strengths: IntArray, wanted: BoolArray) -> IntArray:  # noqa: ARG001
    assert isinstance(predictor, PathPredictor)
    active = (strengths > predictor.theta).astype(np.int64)
    return _weighted(active, predictor.paths.astype(np.int64)) - predictor.tau


def _classes(predictor: Predictor, strengths: IntArray, wanted: BoolArray) -> IntArray:
    assert isinstance(predictor, ClassPredictor)
    counts: IntArray = predictor.masks[wanted].sum(axis=0, dtype=np.int64)
    return np.tile(counts, (len(strengths), 1))


Score = Callable[[Predictor, IntArray, BoolArray], IntArray]
SCORES: Mapping[type[Predictor], Score] = MappingProxyType(
    {LinearPredictor: _linear, LowRankPredictor: _low_rank, PathPredictor: _paths, ClassPredictor: _classes}
)
"""The scores of each kind of predictor; a new kind is one more entry."""


def _weighted(operands: IntArray, weights: IntArray) -> IntArray:
    """`operands` (n, m) @ `weights` (m, k), in float64, where BLAS is fast; exact: no partial sum passes the bound."""
    largest = int(np.abs(weights).sum(axis=0).max(initial=0)) * int(np.abs(operands).max(initial=0))
    assert largest < 1 << EXACT_BITS, f"sums up to {largest}"
    product: IntArray = (operands.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)
    return product


def scores(predictor: Predictor, strengths: IntArray, wanted: Sequence[bool] = ()) -> IntArray:
    """Scores (n, filters) for `strengths` (n, channels); of classes, those `wanted` count."""
    try:
        kind = SCORES[type(predictor)]
    except KeyError:
        known = ", ".join(kind.__name__ for kind in SCORES)
        raise TypeError(f"the golden model has no entry for {type(predictor).__name__}; it knows {known}") from None
    return kind(predictor, strengths, np.array(wanted, np.bool_))


# -- choosing ---------------------------------------------------------------------------------------------------------
def choose(ranking: IntArray, keep: int, pinned: Sequence[int] = ()) -> BoolArray:
    """`keep` filters of each row of `ranking` (n, filters), as a mask.

    Those `pinned` come first, all of them, then the highest of the others, ties to the lower index.
    """
    others = np.setdiff1d(np.arange(ranking.shape[1]), pinned)
    best = others[np.argsort(-ranking[:, others], axis=1, kind="stable")[:, : max(0, keep - len(pinned))]]
    chosen = np.zeros(ranking.shape, np.bool_)
    chosen[:, list(pinned)] = True
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def select(ranking: IntArray, selection: Selection, pinned: Sequence[int] = ()) -> BoolArray:
    """The filters (n, filters) that `selection` takes of `ranking` (n, filters), and those `pinned`."""
    match selection.mode:
        case Mode.ALL:
            return np.ones(ranking.shape, np.bool_)
        case Mode.TOP:
            return choose(ranking, selection.keep, pinned)
        case Mode.THRESHOLD:
            chosen: BoolArray = ranking > selection.threshold
            chosen[:, list(pinned)] = True
            return chosen


# -- the network ------------------------------------------------------------------------------------------------------
def step(
    layer: Layer,
    maps: IntArray,
    selection: Selection | None = None,
    record: RecordLayout | None = None,
    classes: Sequence[bool] | None = None,
    residual: IntArray | None = None,
) -> LayerTrace:
    """One layer on `maps` (n, c, h, w). `record` says what a fetch costs, `residual` (n, filters, h, w) what is added.

    Without `selection` and wanted `classes`, a lazy layer computes what it does after reset.
    """
    strengths = strength(maps)
    ranking: IntArray | None = None
    chosen: BoolArray = np.ones((len(maps), layer.filters), np.bool_)
    if layer.lazy:
        assert layer.predictor is not None
        wanted = Control.reset([layer]).classes if classes is None else classes
        ranking = scores(layer.predictor, strengths, wanted)
        chosen = select(ranking, selection or layer.selection, layer.pinned)
    fetched = np.zeros(len(maps), np.int64)
    if record is not None:
        fetched = (chosen.sum(axis=1) - len(layer.pinned)) * record.words(strengths > 0) * record.bus_bytes
    output = accumulate(layer, maps)
    if layer.residual is not None:
        assert residual is not None, f"layer '{layer.name}' is given no residual"
        output = output + (residual << layer.residual_shift[:, None, None])
    if layer.shift is not None:
        output = requantise(output, layer.shift, layer.output_format)
    output = np.where(chosen[:, :, None, None], max_pool(output, layer.pool_size), 0)
    return LayerTrace(layer.name, strengths, ranking, chosen, fetched, output)


def layer(
    layer: Layer, maps: IntArray, selection: Selection | None = None, residual: IntArray | None = None
) -> LayerTrace:
    """`step` on any number of frames, a chunk at a time."""
    size = max(1, CHUNK_VALUES // (layer.weights[0].size * _positions(layer)))
    starts = range(0, max(1, len(maps)), size)
    chunks = (None if residual is None else residual[i : i + size] for i in starts)
    return _join(
        tuple(step(layer, maps[i : i + size], selection, residual=x) for i, x in zip(starts, chunks, strict=True))
    )


def run(design: Design, frames: NDArray[np.integer], keep: Changes = None, maps: bool = True) -> GoldenRun:
    """Answers to `frames` (n, c, h, w), integers in the design's input format, and traces of all layers.

    `keep` changes what lazy layers compute, by layer name: a number of filters, or a `Selection`. Without `maps` the
    traces hold no feature maps (their height and width are 0), which is most of the memory. Frames do not influence one
    another. Raises `ValueError` for frames of a wrong shape, type or range and for what a register cannot hold, and
    `UnknownLayerError` (a `KeyError`) for a name that is not a lazy layer's.
    """
    parts = [part if maps else _without_maps(part) for part in stream(design, frames, keep)]
    if len(parts) == 1:
        return parts[0]
    return GoldenRun(
        np.concatenate([part.outputs for part in parts]),
        tuple(_join(traces) for traces in zip(*(part.layers for part in parts), strict=True)),
    )


def _without_maps(run: GoldenRun) -> GoldenRun:
    return GoldenRun(run.outputs, tuple(replace(trace, output=trace.output[:, :, :0, :0]) for trace in run.layers))


def stream(
    design: Design, frames: NDArray[np.integer], keep: Changes = None, chunk: int | None = None
) -> Iterator[GoldenRun]:
    """As `run`, but one `GoldenRun` per `chunk` frames (by default as many as keep memory modest)."""
    checked = _checked_frames(design, frames)
    control = Control.of(design, keep)
    if chunk is None:
        chunk = chunk_frames(design)
    elif chunk < 1:
        raise ValueError(f"chunks of {chunk} frames; accepted: at least 1")
    # No frames at all still give one run, of empty arrays.
    return (_forward(design, checked[i : i + chunk], control) for i in range(0, max(1, len(checked)), chunk))


class Maps:
    """What the layers of `design` are given, for integer `frames` (n, c, h, w): the outputs of those that have run."""

    def __init__(self, design: Design, frames: IntArray) -> None:
        self._frames = frames
        self._sources = dict(zip((layer.name for layer in design.layers), design.sources, strict=True))
        self._names = [layer.name for layer in design.layers]
        self._outputs: dict[str, IntArray] = {}

    def read(self, layer: Layer) -> IntArray:
        """The maps (n, c, h, w) that `layer` reads."""
        source = self._sources[layer.name]
        return self._frames if source < 0 else self._outputs[self._names[source]]

    def added(self, layer: Layer) -> IntArray | None:
        """The maps (n, filters, h, w) that `layer` adds to its sums, if it does."""
        return None if layer.residual is None else self._outputs[layer.residual.layer]

    def put(self, layer: Layer, output: IntArray) -> None:
        """`layer` has left `output`."""
        self._outputs[layer.name] = output

    def copy(self) -> Maps:
        """The same, to go on from twice; arrays are shared."""
        other = copy.copy(self)
        other._outputs = dict(self._outputs)
        return other


def _forward(design: Design, frames: NDArray[np.integer], control: Control) -> GoldenRun:
    """All layers on one chunk of checked frames."""
    records: tuple[RecordLayout | None, ...] = (None,) * len(design.head) + layout(design)
    maps = Maps(design, frames.astype(np.int64))
    traces: list[LayerTrace] = []
    for layer, record in zip(design.layers, records, strict=True):
        selection = control.selections.get(layer.name)
        traces.append(step(layer, maps.read(layer), selection, record, control.classes, maps.added(layer)))
        maps.put(layer, traces[-1].output)
    return GoldenRun(traces[-1].output.reshape(len(frames), design.outputs), tuple(traces))


def chunk_frames(design: Design) -> int:
    """Frames at a time that keep memory modest."""
    return max(1, CHUNK_VALUES // max(layer.weights[0].size * _positions(layer) for layer in design.layers))


def _positions(layer: Layer) -> int:
    rows, columns = layer.grid
    return rows * columns


def _join(traces: tuple[LayerTrace, ...]) -> LayerTrace:
    """Traces of one layer on successive frames as one."""
    rankings = [trace.scores for trace in traces if trace.scores is not None]
    return LayerTrace(
        traces[0].name,
        np.concatenate([trace.strengths for trace in traces]),
        np.concatenate(rankings) if rankings else None,
        np.concatenate([trace.chosen for trace in traces]),
        np.concatenate([trace.bytes for trace in traces]),
        np.concatenate([trace.output for trace in traces]),
    )


def _checked_frames(design: Design, frames: NDArray[np.integer]) -> NDArray[np.integer]:
    shape = (design.input.channels, design.input.height, design.input.width)
    if frames.ndim != 4 or frames.shape[1:] != shape:
        raise ValueError(
            f"frames have shape {frames.shape}; '{design.name}' takes (frames, {', '.join(map(str, shape))})"
        )
    if not np.issubdtype(frames.dtype, np.integer):
        raise ValueError(f"frames have dtype {frames.dtype}; accepted: integers, already quantised")
    low, high = design.input_format.low, design.input_format.high
    if frames.size and (frames.min() < low or frames.max() > high):
        raise ValueError(f"frames hold values from {frames.min()} to {frames.max()}; accepted: {low} to {high}")
    return frames
