"""From a QONNX file to a `Design`, through hls4ml with ``backend="Penstock"``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from flow.recipe import LayerSection, Recipe
from hw import qonnx
from hw.design import Design, DesignError, IntArray, LinearPredictor, Source
from hw.frames import quantise_input
from hw.options import Taps, kept_filters
from sim import golden
from sw import predictors
from sw.data import FloatArray

DEFAULT_KEEP = 0.5  # share of filters that lazy layers compute where a recipe names no layers
FIT_SHARES = (0.25, 0.5, 0.75, 1.0)  # of filters in the lazy layers before the one whose predictor is fitted


@dataclass(frozen=True)
class Plan:
    """What a recipe says about layers, once all of them are known by name."""

    layers: dict[str, LayerSection]

    @property
    def lazy(self) -> dict[str, LayerSection]:
        """The lazy ones."""
        return {name: layer for name, layer in self.layers.items() if layer.weights is Source.LAZY}

    @staticmethod
    def of(recipe: Recipe, dense: Design) -> Plan:
        """The recipe's own plan, or all engine layers but the last lazy where it has none."""
        if recipe.layers is not None:
            return Plan(recipe.layers)
        section = LayerSection(weights=Source.LAZY, keep=DEFAULT_KEEP)
        return Plan({layer.name: section for layer in dense.tail[:-1]})


def convert(
    model: ModelProto,
    recipe: Recipe,
    output: Path,
    layers: dict[str, LayerSection] | None = None,
    predictor_file: Path | None = None,
    pinned: Mapping[str, list[int]] | None = None,
) -> Any:
    """The `ModelGraph` of `model`, which has a `Design` in `.penstock.design`; `output` is where `write()` writes.

    `layers` (by default the recipe's) says where layers go; without `predictor_file` lazy ones are converted as dense.
    `pinned` are the filters of which the recipe says the number only.
    `DesignError` names the layer that cannot be built.
    """
    layers = (recipe.layers or {}) if layers is None else layers
    engine = recipe.engine
    config = {
        "Model": {
            "Precision": "fixed<16,6>",  # hls4ml wants one; the network's own quantisers say them all
            "ReuseFactor": 1,
            "EngineFilterLanes": engine.filter_lanes,
            "EnginePixelLanes": engine.pixel_lanes,
            "BusBytes": engine.bus_bytes,
            "PredictorLanes": engine.predictor_lanes,
            "Outstanding": engine.outstanding,
            "MaxBurst": engine.max_burst,
            "GapWords": engine.gap_words,
            "JoinWords": engine.join_words,
        },
        "LayerName": {
            name: _options(layers.get(name, LayerSection()), predictor_file, recipe.prune is not None)
            | ({"Pinned": pinned[name]} if pinned and pinned.get(name) else {})
            for name in dict.fromkeys([*layers, *weighted(model)])
        },
    }
    return qonnx.convert(model, output, recipe.name, config, io_type="io_stream")


def weighted(model: ModelProto) -> list[str]:
    """Names of the nodes with weights."""
    return [node.name for node in model.graph.node if node.op_type in ("Conv", "MatMul")]


def _options(layer: LayerSection, predictor_file: Path | None, pruned: bool) -> dict[str, object]:
    """One layer's section in the backend's words; what pruning has emptied is no tap."""
    options: dict[str, object] = {}
    taps = layer.taps or (Taps.NONZERO if pruned else None)
    if taps is not None:
        options["Taps"] = str(taps)
    if layer.place is not None:
        options["Place"] = str(layer.place)
    if layer.weights is not None:
        options["Weights"] = str(layer.weights)
    if layer.lanes is not None:
        options["FilterLanes"], options["PixelLanes"] = layer.lanes
    if layer.weights is Source.LAZY:
        if predictor_file is None:
            options["Weights"] = str(Source.DENSE)
        else:
            options |= {"Keep": layer.keep, "Predictor": str(predictor_file)}
    return options


def fit_predictors(dense: Design, plan: Plan, frames: IntArray) -> dict[str, predictors.LinearPredictor]:
    """A linear predictor for each lazy layer, fitted on what the golden model shows for integer `frames` (n, c, h, w).

    In program order, so that each layer is fitted on the strengths that it will see: those of layers before it that
    are lazy already, at several k, because k changes at run time. Targets are the activation strengths of the layer's
    output when all of its filters are computed.
    """
    fitted: dict[str, predictors.LinearPredictor] = {}
    shares: tuple[float, ...] = (1.0,)
    maps = [frames]  # what the next layer reads, at each share
    for layer in dense.layers:
        if layer.name not in plan.lazy:
            maps = [golden.layer(layer, each).output for each in maps]
            continue
        full = [golden.layer(layer, each) for each in maps]
        fitted[layer.name] = predictors.fit(
            np.concatenate([trace.strengths for trace in full]),
            np.concatenate([golden.strength(trace.output) for trace in full]),
        )
        shares, full = FIT_SHARES, full * (len(FIT_SHARES) // len(full))  # until here all shares read the same map
        maps = []
        for trace, share in zip(full, shares, strict=True):
            keep = kept_filters(layer.name, share, layer.filters)
            chosen = predictors.top(fitted[layer.name].scores(trace.strengths), keep)
            maps.append(np.where(chosen[:, :, None, None], trace.output, 0))
    return fitted


def with_predictors(dense: Design, plan: Plan, fitted: Mapping[str, predictors.LinearPredictor]) -> Design:
    """`dense` with the layers lazy for which a predictor is fitted."""
    tail = (
        replace(
            layer,
            source=Source.LAZY,
            predictor=LinearPredictor(fitted[layer.name].weights, fitted[layer.name].bias),
            keep=kept_filters(layer.name, plan.lazy[layer.name].keep, layer.filters),
        )
        if layer.name in fitted
        else layer
        for layer in dense.tail
    )
    return replace(dense, tail=tuple(tail))


def most_chosen(design: Design, plan: Plan, frames: IntArray) -> dict[str, list[int]]:
    """The filters to pin in each layer of which the plan pins some: those chosen most often on integer `frames`.

    Of equals the lower index, so for layers that are not lazy the first ones.
    """
    run = golden.run(design, frames)
    result: dict[str, list[int]] = {}
    for layer in design.tail:
        count = plan.layers.get(layer.name, LayerSection()).pinned
        if count > layer.filters:
            raise DesignError(f"layer '{layer.name}': pinned is {count}; accepted: up to its {layer.filters} filters")
        often = np.argsort(-run.layer(layer.name).chosen.sum(axis=0), kind="stable")[:count]
        result[layer.name] = sorted(often.tolist())
    return result


def keep_share(design: Design, share: float) -> dict[str, int]:
    """`keep` with which every lazy layer computes this share of its filters."""
    return {layer.name: kept_filters(layer.name, float(share), layer.filters) for layer in design.lazy_layers}


def integer_frames(graph: Any, frames: FloatArray) -> IntArray:
    """Frames as the QONNX file takes them, in the design's integers (n, c, h, w)."""
    return quantise_input(graph.penstock.design, frames, graph.penstock.layout)
