"""Every kind of predictor from its fit to the design: the same scores in `sw`, in the golden model and in torch."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flow.convert import Fitting, Plan, fit_predictors, software, with_predictors
from flow.errors import UserError
from flow.recipe import LayerSection, PredictorSection, Recipe, build
from hw.control import Control
from hw.design import Design, DesignError, IntArray, Mode, Predictor, Source
from hw.emit.predictor import TABLES, predictor_tables
from hw.options import KINDS, layer_options, load_predictor
from quant import lazy
from sim import golden
from sw import predictors
from tests.designs import digits_like, random_design, random_frames

SHARE = 0.25


def dense() -> Design:
    design = digits_like(1)
    blank = {"source": Source.DENSE, "predictor": None, "keep": None}
    return replace(design, tail=tuple(replace(x, **blank) if x.lazy else x for x in design.tail))


def fitted(section: PredictorSection) -> tuple[Design, Design, IntArray]:
    """The default network without and with predictors of random weights' strengths, and frames."""
    recipe = Recipe(name="kinds", data={"set": "digits"}, model={"name": "digits_cnn"}, predictor=section)
    layer = LayerSection(weights=Source.LAZY, keep=SHARE)
    plan, design = Plan({"conv2": layer, "conv3": layer}), dense()
    frames = random_frames(design, 140, 2)
    labels = np.arange(140) % 10
    found = fit_predictors(design, plan, Fitting(recipe, frames, labels))
    return design, with_predictors(design, recipe, plan, found), frames


SECTIONS = [
    PredictorSection(kind="linear"),
    PredictorSection(kind="linear", select=Mode.THRESHOLD),
    PredictorSection(kind="low_rank", rank=5),
    PredictorSection(kind="low_rank", rank=99, select=Mode.THRESHOLD),
    PredictorSection(kind="paths"),
    PredictorSection(kind="paths", select=Mode.TOP),
    PredictorSection(kind="classes"),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda x: f"{x.kind}-{x.select}")
def test_a_fit_is_the_same_everywhere_and_takes_its_share(section: PredictorSection, tmp_path: Path) -> None:
    _, design, frames = fitted(section)
    run = golden.run(design, frames)
    predictors.save(tmp_path / "p.npz", {x.name: software(x.predictor) for x in design.lazy_layers if x.predictor})
    saved = predictors.load(tmp_path / "p.npz")
    for layer in design.lazy_layers:
        trace = run.layer(layer.name)
        assert layer.predictor is not None
        assert trace.scores is not None
        assert np.array_equal(saved[layer.name].scores(trace.strengths), trace.scores)
        loaded = load_predictor(layer.name, tmp_path / "p.npz")
        assert type(loaded) is type(layer.predictor)
        for field in fields(loaded):
            assert np.array_equal(getattr(loaded, field.name), getattr(layer.predictor, field.name)), field.name
        kept = trace.chosen.mean()
        if layer.mode is Mode.TOP:
            assert kept == SHARE
        elif section.kind == "classes":
            assert SHARE <= kept < 1  # the union of all paths
        elif section.kind != "paths":  # whose few values of votes are exceeded by many or by none
            assert SHARE <= kept < SHARE + 0.1


@pytest.mark.parametrize("seed", [28, 102, 103, 106, 109, 129])
def test_torch_scores_as_the_golden_model(seed: int) -> None:
    design = random_design(seed)
    run = golden.run(design, random_frames(design, 14, seed))
    for layer in design.lazy_layers:
        trace = run.layer(layer.name)
        threshold = layer.threshold if layer.mode is Mode.THRESHOLD else None
        keep = layer.filters if layer.mode is Mode.ALL else layer.selection.keep
        assert layer.predictor is not None
        given = lazy.LazyLayer(software(layer.predictor), keep, layer.pinned, threshold)
        scores, chosen = lazy._choose(layer.name, torch.tensor(trace.strengths), layer.filters, given)
        assert np.array_equal(scores.numpy(), trace.scores)
        assert np.array_equal(chosen.numpy(), trace.chosen)


def test_one_wanted_class_is_its_own_network() -> None:
    _, design, frames = fitted(PredictorSection(kind="classes"))
    for wanted in ([3], [0, 7], []):
        run = golden.run(design, frames[:3], Control.of(design, classes=wanted))
        for layer in design.lazy_layers:
            masks = layer.predictor.masks[wanted]  # type: ignore[union-attr]
            assert (run.layer(layer.name).chosen == masks.any(axis=0)).all()
    with pytest.raises(ValueError, match="classes \\[10\\] for 'digits_like'; accepted: some of 0 to 9"):
        Control.of(design, classes=[10])


def test_all_readers_know_all_kinds() -> None:
    kinds = set(Predictor.__subclasses__())
    assert kinds == set(golden.SCORES) == set(TABLES) == set(KINDS)
    assert {kind.__name__ for kind in kinds} == set(predictors.KINDS)
    for kind in kinds:
        assert [x.name for x in fields(kind)] == [x.name for x in fields(predictors.KINDS[kind.__name__])]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda x: f"{x.kind}-{x.select}")
def test_tables_hold_what_the_predictor_says_it_has(section: PredictorSection) -> None:
    _, design, _ = fitted(section)
    for layer in design.lazy_layers:
        tables = predictor_tables(layer, 8)
        assert tables is not None
        assert layer.predictor is not None
        held = sum(width for _, width in tables.rows)
        assert layer.predictor.table_bits <= held  # to whole words of lanes
        assert tables.sum_words >= -(-layer.filters // 8)


def test_labels_and_ranks_are_asked_for() -> None:
    content: dict[str, object] = {"name": "own", "predictor": {"kind": "classes"}}
    content["onnx"] = {"file": __file__, "calibration": __file__}
    for more in ({}, {"quantise": {"gate_by": "training"}}, {"quantise": {"gate": 0.5, "gate_by": "prediction"}}):
        known = {"name": "x", "data": {"set": "digits"}, "model": {"name": "digits_cnn"}} | more
        with pytest.raises(UserError, match=r"predictor\.kind is 'trained', but no predictor trains with the network"):
            build(known | {"predictor": {"kind": "trained"}}, "test")
    with pytest.raises(UserError, match=r"predictor\.kind is 'classes' with \[onnx\]"):
        build(content, "recipe 'own'")
    with pytest.raises(DesignError, match=r"Predictor is 3; accepted: the path of an \.npz file, or an object with"):
        layer_options("conv", {"predictor": 3})
    assert layer_options("conv", {"select": "threshold", "threshold": -5}).threshold == -5
    with pytest.raises(DesignError, match="Select is 'best'; accepted: all, top or threshold"):
        layer_options("conv", {"select": "best"})
