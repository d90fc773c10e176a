"""An accelerator in plain Python loops over ints: a witness for the golden model and for the weight image.

It works as the hardware does and shares no code with the models: weights of the tail come out of the image's bytes,
only those in fetched bus words can be read, and only chosen filters, present channels and kept taps are computed. So
equal answers also show that what is fetched suffices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hw.design import (
    ClassPredictor,
    Design,
    Engine,
    IntArray,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    PathPredictor,
    Predictor,
    Selection,
)

Map = list[list[list[int]]]  # channel, row, column


@dataclass(frozen=True)
class LayerResult:
    strengths: list[int]
    scores: list[int] | None
    chosen: list[int]  # in ascending order
    bytes: int
    output: Map


@dataclass(frozen=True)
class Records:
    """A layer's records: in the image's bytes from `base` on, with the channels `first` before the others."""

    image: bytes
    base: int
    engine: Engine
    first: tuple[int, ...]


def run_frame(
    design: Design,
    image: bytes,
    frame: IntArray,
    selections: Mapping[str, Selection] | None = None,
    wanted: Collection[int] | None = None,
) -> tuple[list[int], list[LayerResult]]:
    """Answer to one frame (c, h, w), and what each layer did; of classes those `wanted` count, or all."""
    maps: Map = frame.tolist()
    results: list[LayerResult] = []
    base = 64
    first: tuple[int, ...] = ()
    for layer in design.layers:
        tail = layer.place == "engine"
        records = Records(image, base, design.engine, first)
        results.append(_run_layer(layer, maps, (selections or {}).get(layer.name, layer.selection), records, wanted))
        maps = results[-1].output
        if tail:
            first = layer.pinned
            base += layer.filters * _stride(layer, design.engine.bus_bytes)
    return [value for channel in maps for row in channel for value in row], results


def kept(layer: Layer, first: Sequence[int] = ()) -> list[tuple[int, int, int]]:
    """The (channel, ky, kx) of a record's bytes, in order; channels `first` come before the others."""
    channels, height, width = layer.kept_taps.shape
    order = [*first, *(c for c in range(channels) if c not in first)]
    taps = [(c, y, x) for c in order for y in range(height) for x in range(width)]
    return [tap for tap in taps if layer.kept_taps[tap]]


def _stride(layer: Layer, bus: int) -> int:
    size = len(kept(layer))
    while size % bus:
        size += 1
    return size


def needed_words(layer: Layer, bus: int, present: set[int], gap: int = 0, first: Sequence[int] = ()) -> set[int]:
    """Indices of the bus words of a record in which a byte of a present channel lies, and of gaps of up to `gap`."""
    words = {position // bus for position, (channel, _, _) in enumerate(kept(layer, first)) if channel in present}
    for word in sorted(words):
        following = [other for other in words if other > word]
        if following and min(following) - word - 1 <= gap:
            words |= set(range(word, min(following)))
    return words


def _score(predictor: Predictor, strengths: list[int], wanted: Collection[int] | None) -> list[int]:
    """A score per filter, as the kinds of predictor define it."""
    scores = []
    for j in range(predictor.filters):
        match predictor:
            case LinearPredictor():
                score = int(predictor.bias[j]) + sum(s * int(predictor.weights[c, j]) for c, s in enumerate(strengths))
            case LowRankPredictor():
                score = int(predictor.bias[j])
                for i, total in enumerate(int(value) for value in predictor.first_bias):
                    total += sum(s * int(predictor.first[c, i]) for c, s in enumerate(strengths))
                    bound = 2 ** (predictor.hidden_bits - 1)
                    hidden = min(max(round(Fraction(total, 2**predictor.shift)), -bound), bound - 1)
                    score += hidden * int(predictor.second[i, j])
            case PathPredictor():
                active = [c for c, s in enumerate(strengths) if s > predictor.theta[c]]
                score = sum(1 for c in active if predictor.paths[c, j]) - int(predictor.tau[j])
            case ClassPredictor():
                classes = range(len(predictor.masks)) if wanted is None else wanted
                score = sum(1 for c in classes if predictor.masks[c, j])
            case _:
                raise TypeError(type(predictor).__name__)
        scores.append(score)
    return scores


def _run_layer(
    layer: Layer, maps: Map, selection: Selection, records: Records, wanted: Collection[int] | None
) -> LayerResult:
    bus = records.engine.bus_bytes
    strengths = [sum(abs(value) for row in channel for value in row) for channel in maps]
    present = {channel for channel, value in enumerate(strengths) if value}
    scores = None
    chosen = list(range(layer.filters))
    if layer.source == "lazy":
        assert layer.predictor is not None
        scores = _score(layer.predictor, strengths, wanted)
        if selection.mode == "top":
            ranked = sorted(chosen, key=lambda j: (j not in layer.pinned, -scores[j], j))
            chosen = sorted(ranked[: max(selection.keep, len(layer.pinned))])
        elif selection.mode == "threshold":
            chosen = [j for j in chosen if j in layer.pinned or scores[j] > selection.threshold]
    fetched = layer.place == "engine"
    words = needed_words(layer, bus, present, records.engine.gap_words, records.first) if fetched else set()
    rows, columns = layer.grid
    empty = [[0] * (columns // layer.pool_size) for _ in range(rows // layer.pool_size)]
    output: Map = []
    for filter_index in range(layer.filters):
        if filter_index not in chosen:
            output.append(empty)
            continue
        weights: dict[tuple[int, int, int], int] = {}
        for position, tap in enumerate(kept(layer, records.first)):
            if layer.place == "head" or filter_index in layer.pinned:
                weights[tap] = int(layer.weights[(filter_index, *tap)])
            elif position // bus in words:
                byte = records.image[records.base + filter_index * _stride(layer, bus) + position]
                weights[tap] = byte - 256 if byte > 127 else byte
        output.append(_run_filter(layer, maps, present, filter_index, weights))
    paid = len(chosen) - len(layer.pinned)
    return LayerResult(strengths, scores, chosen, paid * len(words) * bus, output)


def _run_filter(
    layer: Layer, maps: Map, present: set[int], index: int, weights: dict[tuple[int, int, int], int]
) -> list[list[int]]:
    rows, columns = layer.grid
    needed = [tap for tap in kept(layer) if tap[0] in present]
    grid: list[list[int]] = []
    for oy in range(rows):
        grid.append([])
        for ox in range(columns):
            total = int(layer.bias[index])
            for c, ky, kx in needed:
                y, x = oy * layer.stride + ky - layer.pad[0], ox * layer.stride + kx - layer.pad[1]
                if 0 <= y < layer.input.height and 0 <= x < layer.input.width:
                    total += weights[c, ky, kx] * maps[c][y][x]
            grid[oy].append(_leave(layer, index, total))
    size = layer.pool_size
    return [
        [
            max(grid[y * size + dy][x * size + dx] for dy in range(size) for dx in range(size))
            for x in range(columns // size)
        ]
        for y in range(rows // size)
    ]


def _leave(layer: Layer, index: int, total: int) -> int:
    if layer.shift is None:
        return total
    rounded = round(Fraction(total, 2 ** int(layer.shift[index])))  # Python rounds fractions half to even
    return min(max(rounded, layer.output_format.low), layer.output_format.high)
