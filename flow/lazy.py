"""What laziness costs in accuracy and saves in bytes and multiplications, by who chooses the filters.

The figures of Leroux et al., "Lazy Evaluation of Convolutional Filters" (2016): a choice by the *oracle*, which knows
the strengths of all filters' outputs, is what prediction can reach; the *static* choice, the same filters for every
input, is what it has to beat; *random* is the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.convert import keep_share
from hw.design import Design, IntArray, Layer, Mode, Selection
from hw.image import RecordLayout, layout
from sim import golden
from sim.golden import LayerTrace

Ranking = Callable[[Layer, LayerTrace], IntArray]
"""Ranks filters: (n, filters), the highest first, from a trace in which every filter was computed."""

Tracker = Callable[[Sequence[int]], Iterable[int]]
"""Wraps a loop, for a progress bar."""

ALL = Selection(Mode.ALL)


def predicted(layer: Layer, trace: LayerTrace) -> IntArray:
    """By the scores of the layer's own predictor, as the accelerator does."""
    assert trace.scores is not None, layer.name
    return trace.scores


def oracle(_: Layer, trace: LayerTrace) -> IntArray:
    """By the strengths of the outputs themselves."""
    return golden.strength(trace.output)


def static(strengths: Mapping[str, IntArray]) -> Ranking:
    """By `strengths` (filters,) of each layer's outputs on calibration frames: the same filters for every input."""

    def ranking(layer: Layer, trace: LayerTrace) -> IntArray:
        return np.broadcast_to(strengths[layer.name], trace.chosen.shape)

    return ranking


def chance(seed: int) -> Ranking:
    """By lot, for every frame anew."""
    rng = np.random.default_rng(seed)

    def ranking(_: Layer, trace: LayerTrace) -> IntArray:
        return rng.permuted(np.tile(np.arange(trace.chosen.shape[1]), (len(trace.chosen), 1)), axis=1)

    return ranking


@dataclass(frozen=True)
class Point:
    """What lazy layers that keep a `share` of their filters cost, means per frame over all frames.

    `accuracy` is a share of the frames. `bytes` and `macs` are those of the lazy layers (MACs over present channels
    only), `all_bytes` those of all layers on the engine. `recall`, by layer: how many of the filters that the oracle
    would keep were kept.
    """

    chooser: str
    share: float
    accuracy: float
    bytes: float
    all_bytes: float
    macs: float
    recall: dict[str, float]


@dataclass
class _Sums:
    frames: int = 0
    correct: int = 0
    bytes: int = 0
    all_bytes: int = 0
    macs: int = 0


def study(
    design: Design,
    frames: IntArray,
    labels: NDArray[np.integer],
    choosers: Mapping[str, Ranking],
    shares: Sequence[float],
    keeps: Sequence[Mapping[str, int]] | None = None,
    track: Tracker = iter,
) -> list[Point]:
    """Accuracy and costs of `design` on integer `frames` (n, c, h, w), for every chooser and share of filters kept.

    Layers give way in the proportions of the design's own `keep`; a share is their geometric mean. `keeps` replaces
    shares by filters per layer name, one mapping for each of `shares`, which then only names it.
    `track` wraps the loop over chunks of frames, for a progress bar.
    """
    lazy = {layer.name: layer for layer in design.lazy_layers}
    if keeps is None:
        keeps = [keep_share(design, float(share)) for share in shares]
    plans = [(who, share, keep) for who in choosers for share, keep in zip(shares, keeps, strict=True)]
    sums = [_Sums() for _ in plans]
    hits = [dict.fromkeys(lazy, 0) for _ in plans]
    records = dict(zip((layer.name for layer in design.tail), layout(design), strict=True))
    first = next(i for i, layer in enumerate(design.layers) if layer.lazy)
    size = golden.chunk_frames(design)
    for start in track(range(0, len(frames), size)):
        shared = golden.Maps(design, frames[start : start + size].astype(np.int64))
        common = 0
        for layer in design.layers[:first]:
            trace = golden.step(layer, shared.read(layer), record=records.get(layer.name), residual=shared.added(layer))
            shared.put(layer, trace.output)
            common += int(trace.bytes.sum())
        # The same for all plans: done once.
        full = golden.step(design.layers[first], shared.read(design.layers[first]), ALL)
        for (who, _, keep), total, hit in zip(plans, sums, hits, strict=True):
            trace, maps = full, shared.copy()
            for index, layer in enumerate(design.layers[first:]):
                if index:
                    selection = ALL if layer.lazy else None
                    trace = golden.step(layer, maps.read(layer), selection, residual=maps.added(layer))
                if layer.lazy:
                    chosen = golden.choose(choosers[who](layer, trace), keep[layer.name], layer.pinned)
                    best = golden.choose(oracle(layer, trace), keep[layer.name], layer.pinned)
                    hit[layer.name] += int((chosen & best).sum())
                    trace = replace(trace, chosen=chosen, output=np.where(chosen[:, :, None, None], trace.output, 0))
                    total.macs += int(active_macs(layer, trace).sum())
                maps.put(layer, trace.output)
                fetched = int(fetched_bytes(layer, trace, records[layer.name]).sum())
                total.all_bytes += fetched
                total.bytes += fetched if layer.lazy else 0
            total.frames += len(trace.output)
            total.all_bytes += common
            answers = trace.output.reshape(len(trace.output), design.outputs).argmax(axis=1)
            total.correct += int((answers == labels[start : start + size]).sum())
    return [
        Point(
            who,
            share,
            total.correct / total.frames,
            total.bytes / total.frames,
            total.all_bytes / total.frames,
            total.macs / total.frames,
            {name: hit[name] / (total.frames * max(keep[name], len(lazy[name].pinned))) for name in lazy},
        )
        for (who, share, keep), total, hit in zip(plans, sums, hits, strict=True)
    ]


def fetched_bytes(layer: Layer, trace: LayerTrace, record: RecordLayout) -> IntArray:
    """Bytes (n,) that the chosen filters of `trace` cost."""
    filters = trace.chosen.sum(axis=1) - len(layer.pinned)
    return filters * record.words(trace.strengths > 0) * record.bus_bytes


def active_macs(layer: Layer, trace: LayerTrace) -> IntArray:
    """Multiplications (n,) of the chosen filters over present channels and kept taps, padding counted as work."""
    taps = (trace.strengths > 0) @ layer.kept_taps.sum(axis=(1, 2))
    rows, columns = layer.grid
    macs: IntArray = trace.chosen.sum(axis=1) * taps * (rows * columns)
    return macs


def mean_strengths(design: Design, frames: IntArray) -> dict[str, IntArray]:
    """Strengths (filters,) of each lazy layer's outputs, summed over `frames`, when every filter is computed."""
    result: dict[str, IntArray] = {}
    maps = golden.Maps(design, frames)
    for layer in design.layers[:-1]:
        trace = golden.layer(layer, maps.read(layer), ALL if layer.lazy else None, maps.added(layer))
        maps.put(layer, trace.output)
        if layer.lazy:
            result[layer.name] = golden.strength(trace.output).sum(axis=0)
    return result


def predictor_macs(design: Design) -> int:
    """Multiplications per frame of all predictors."""
    return sum(layer.predictor.macs for layer in design.lazy_layers if layer.predictor is not None)
