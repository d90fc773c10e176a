"""From a QONNX file to a `Design`, through hls4ml with ``backend="Penstock"``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from flow.recipe import LayerSection, Recipe
from hw import qonnx
from hw.design import Design, DesignError, IntArray, Mode, Predictor, Source
from hw.frames import quantise_input
from hw.options import KINDS, Taps, kept_filters
from sim import golden
from sw import predictors
from sw.data import FloatArray
from sw.gate import proportions
from sw.paths.hardware import Calibration, derive
from sw.paths.path import best

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


@dataclass(frozen=True)
class Selected:
    """What calibration frames say about the choice of filters: those `pinned`, and `thresholds`, by layer name."""

    pinned: dict[str, list[int]]
    thresholds: dict[str, int]

    def options(self, layer: str, *, lazy: bool) -> dict[str, object]:
        """The backend's options for `layer`."""
        options: dict[str, object] = {"Pinned": self.pinned[layer]} if self.pinned.get(layer) else {}
        return options | ({"Threshold": self.thresholds[layer]} if lazy and layer in self.thresholds else {})


def convert(
    model: ModelProto,
    recipe: Recipe,
    output: Path,
    layers: dict[str, LayerSection] | None = None,
    predictor_file: Path | None = None,
    selected: Selected | None = None,
) -> Any:
    """The `ModelGraph` of `model`, which has a `Design` in `.penstock.design`; `output` is where `write()` writes.

    `layers` (by default the recipe's) says where layers go; without `predictor_file` lazy ones are converted as dense.
    `selected` are pinned filters, of which the recipe says the number only, and thresholds.
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
            "Timeout": engine.timeout,
            "CrcBits": engine.crc_bits,
            "CrcBlock": engine.crc_block,
        },
        "LayerName": {
            name: _options(layers.get(name, LayerSection()), predictor_file, recipe.prune is not None, recipe.mode)
            | (selected.options(name, lazy=layers.get(name, LayerSection()).weights is Source.LAZY) if selected else {})
            for name in dict.fromkeys([*layers, *weighted(model)])
        },
    }
    return qonnx.convert(model, output, recipe.name, config, io_type="io_stream")


def weighted(model: ModelProto) -> list[str]:
    """Names of the nodes with weights."""
    return [node.name for node in model.graph.node if node.op_type in ("Conv", "MatMul")]


def _options(layer: LayerSection, predictor_file: Path | None, pruned: bool, mode: Mode) -> dict[str, object]:
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
            options |= {"Keep": layer.keep, "Select": str(mode), "Predictor": str(predictor_file)}
    return options


@dataclass(frozen=True)
class Fitting:
    """How predictors are fitted, and on what: integer `frames` (n, c, h, w), and `labels` (n,) where there are some.

    Of layers in `known` the predictor is there already: trained with the network, or of its critical paths.
    """

    recipe: Recipe
    frames: IntArray
    labels: IntArray | None = None
    known: Mapping[str, predictors.Predictor] = field(default_factory=dict)

    def fit(
        self, share: float, strengths: IntArray, targets: IntArray, labels: IntArray | None
    ) -> predictors.Predictor:
        """A predictor of the recipe's kind for `targets` (n, filters); of paths and classes, a `share` is wanted."""
        section = self.recipe.predictor
        match section.kind:
            case "low_rank":
                return predictors.fit_low_rank(strengths, targets, min(section.rank, targets.shape[1]))
            case "paths":
                settings = Calibration(share=share, always=0)
                masks = np.ones((1, targets.shape[1]), np.bool_)  # of classes, on which votes of frames do not depend
                paths = derive("", masks, strengths.astype(np.float64), targets.astype(np.float64), settings)
                return predictors.PathPredictor(paths.matrix, np.floor(paths.theta).astype(np.int64), paths.tau)
            case "classes":
                assert labels is not None
                means = [targets[labels == label].mean(axis=0) for label in np.unique(labels)]
                return predictors.ClassPredictor(best(np.array(means, np.float64), share))
            case _:
                return predictors.fit(strengths, targets, loss=section.loss)


@dataclass(frozen=True)
class Fitted:
    """Predictors of lazy layers, and the thresholds that take the share of the recipe on average, by layer name."""

    predictors: dict[str, predictors.Predictor]
    thresholds: dict[str, int]


def fit_predictors(dense: Design, plan: Plan, fitting: Fitting) -> Fitted:
    """A predictor for each lazy layer, fitted on what the golden model shows for the frames.

    In program order, so that each layer is fitted on the strengths that it will see: those of layers before it that
    are lazy already, at several k, because k changes at run time, or as their thresholds leave them. Targets are the
    activation strengths of the layer's output when all of its filters are computed.
    """
    fitted = Fitted({}, {})
    shares = FIT_SHARES if fitting.recipe.mode is Mode.TOP else (1.0,)
    filters = {layer.name: layer.filters for layer in dense.layers}
    keeps = {name: kept_filters(name, lazy.keep, filters[name]) / filters[name] for name, lazy in plan.lazy.items()}
    exponents = proportions(keeps)
    maps = [golden.Maps(dense, fitting.frames)]  # what layers leave, at each share
    for layer in dense.layers:
        full = [golden.layer(layer, each.read(layer), residual=each.added(layer)) for each in maps]
        if layer.name not in plan.lazy:
            for each, trace in zip(maps, full, strict=True):
                each.put(layer, trace.output)
            continue
        keep, exponent = keeps[layer.name], exponents[layer.name]
        strengths = np.concatenate([trace.strengths for trace in full])
        labels = None if fitting.labels is None else np.tile(fitting.labels, len(full))
        targets = np.concatenate([golden.strength(trace.output) for trace in full])
        predictor = fitting.known.get(layer.name) or fitting.fit(keep, strengths, targets, labels)
        fitted.predictors[layer.name] = predictor
        counting = isinstance(predictor, predictors.PathPredictor | predictors.ClassPredictor)
        scores = predictor.scores(strengths)
        level = 0 if counting else predictors.threshold(scores, keep)
        fitted.thresholds[layer.name] = level
        if len(maps) < len(shares):  # until here all shares are alike
            full, maps = full * len(shares), [maps[0].copy() for _ in shares]
        for each, trace, share in zip(maps, full, shares, strict=True):
            scores = predictor.scores(trace.strengths)
            chosen = predictors.top(scores, kept_filters(layer.name, share**exponent, layer.filters))
            if fitting.recipe.mode is Mode.THRESHOLD:
                chosen = scores > level
            each.put(layer, np.where(chosen[:, :, None, None], trace.output, 0))
    return fitted


def with_predictors(dense: Design, recipe: Recipe, plan: Plan, fitted: Fitted) -> Design:
    """`dense` with the layers lazy for which a predictor is fitted."""
    tail = (
        replace(
            layer,
            source=Source.LAZY,
            predictor=HARDWARE[type(fitted.predictors[layer.name]).__name__](**vars(fitted.predictors[layer.name])),
            keep=kept_filters(layer.name, plan.lazy[layer.name].keep, layer.filters),
            mode=recipe.mode,
            threshold=fitted.thresholds[layer.name],
        )
        if layer.name in fitted.predictors
        else layer
        for layer in dense.tail
    )
    return replace(dense, tail=tuple(tail))


HARDWARE = {kind.__name__: kind for kind in KINDS}
"""The kinds of `hw.design`, by the name that they share with those of `sw.predictors`."""


def software(predictor: Predictor) -> predictors.Predictor:
    """The same predictor as `sw` knows it."""
    return predictors.KINDS[type(predictor).__name__](**vars(predictor))


def pinned(design: Design, plan: Plan, ranking: Mapping[str, IntArray]) -> dict[str, list[int]]:
    """The filters to pin in each layer of which the plan pins some: the first ones in the `ranking` of its filters."""
    result: dict[str, list[int]] = {}
    for layer in design.tail:
        count = plan.layers.get(layer.name, LayerSection()).pinned
        if count > layer.filters:
            raise DesignError(f"layer '{layer.name}': pinned is {count}; accepted: up to its {layer.filters} filters")
        result[layer.name] = sorted(ranking[layer.name][:count].tolist())
    return result


def by_choice(design: Design, frames: IntArray) -> dict[str, IntArray]:
    """The filters (filters,) of each engine layer, those first that are chosen most often on integer `frames`.

    Of equals the lower index.
    """
    run = golden.run(design, frames, maps=False)
    return {x.name: np.argsort(-run.layer(x.name).chosen.sum(axis=0), kind="stable") for x in design.tail}


def keep_share(design: Design, share: float) -> dict[str, int]:
    """`keep` with which lazy layers compute this share of their filters, in the proportions of the design's own."""
    exponents = proportions({x.name: (x.keep or x.filters) / x.filters for x in design.lazy_layers})
    return {
        layer.name: kept_filters(layer.name, float(share ** exponents[layer.name]), layer.filters)
        for layer in design.lazy_layers
    }


def integer_frames(graph: Any, frames: FloatArray) -> IntArray:
    """Frames as the QONNX file takes them, in the design's integers (n, c, h, w)."""
    return quantise_input(graph.penstock.design, frames, graph.penstock.layout)
