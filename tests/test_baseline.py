"""Times on processors: bounds by hand, and that what is measured is the network asked for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import sw.models
from bench.baseline import sketched
from bench.networks import DIGITS, LENET, VGG19, outline
from flow import baseline
from flow import recipe as recipes
from flow.baseline import PROCESSORS, Machine, bounds, joules, measure, median
from flow.convert import keep_share
from hw.design import MapShape
from sim.cycles import CycleModel, Masks
from sim.energy import macs

ROOT = Path(__file__).parents[1]


def test_bounds_are_the_slower_of_arithmetic_and_memory() -> None:
    small, large = bounds(1e9, 1e5), bounds(1e6, 1e8)
    assert small["Intel i5-2400 float32, bound"] == pytest.approx(1e9 / (4 * 3.1e9 * 8))
    assert small["Cortex-A53 int8, bound"] == pytest.approx(1e9 / (4 * 1.2e9 * 8))
    assert large["Cortex-A72 float32, bound"] == pytest.approx(4e8 / 12.8e9)
    assert large["Cortex-A72 int8, bound"] == pytest.approx(1e8 / 12.8e9)
    assert len(small) == 2 * len(PROCESSORS)
    assert joules(small) == {name: pytest.approx(95 * small[name]) for name in small if name.startswith("Intel")}


def test_digits_are_measured_by_both_libraries() -> None:
    network = sw.models.build("digits_cnn", (1, 8, 8), 10, 1)
    found = measure(network, np.random.default_rng(1).random((1, 8, 8), np.float32))
    assert {"PyTorch float32, one core", "ONNX Runtime float32, one core", "ONNX Runtime int8, one core"} <= set(found)
    assert all(seconds > 0 for seconds in found.values())


def test_a_median_leaves_the_first_run_out() -> None:
    calls: list[int] = []
    median(lambda: calls.append(1))
    assert 4 <= len(calls) <= 16


def test_one_core_is_timed_by_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which other processes take none; all cores by the wall's, on which they wait for each other."""
    own, wall = itertools.count(0, 2), itertools.count(0, 3)
    monkeypatch.setattr(baseline.time, "process_time", lambda: float(next(own)))
    monkeypatch.setattr(baseline.time, "perf_counter", lambda: float(next(wall)))
    assert median(lambda: None, threads=1) == 2.0
    assert median(lambda: None, threads=2) == 3.0


def test_the_machine_is_named() -> None:
    here = Machine.here()
    assert here.cores >= 1
    assert here.processor


@pytest.mark.parametrize(("net", "model", "classes"), [(DIGITS, "digits_cnn", 10), (LENET, "lenet", 10)])
def test_outlines_have_the_shapes_of_the_models(net: tuple, model: str, classes: int) -> None:
    design = outline("net", *net, head=1, lazy=(1, 2), rank=8, classes=classes)
    shape = design.input
    torch_net = sw.models.build(model, (shape.channels, shape.height, shape.width), classes, 1)
    theirs = [tuple(w.shape) for name, w in torch_net.named_parameters() if name.endswith("weight")]
    ours = [layer.weights.shape if len(w) == 4 else (layer.filters, layer.weights[0].size)
            for layer, w in zip(design.layers, theirs, strict=True)]  # fmt: skip
    assert ours == theirs
    half = {layer.name: layer.filters // 2 for layer in design.lazy_layers}
    dense, lazy = (Masks.drawn(design, keep, 2, 1) for keep in (None, half))
    assert (macs(design, lazy) < macs(design, dense)).all()
    model_ = CycleModel(design)
    assert (model_.alone(lazy).bytes < 0.7 * model_.alone(dense).bytes).all()


def test_recipes_become_outlines() -> None:
    """VGG-19 at an eighth of its width: shapes, places and sources are the recipe's."""
    recipe = recipes.load(ROOT / "recipes" / "imagenet_vgg19.toml")
    with torch.device("meta"):
        model = sw.models.MODELS["vgg19_eighth"]((3, 224, 224), 1000)
    design = sketched(recipe, model, MapShape(3, 224, 224), 1000)
    assert [layer.name for layer in design.layers] == list(recipe.layers)
    for layer in design.layers:
        assert layer.weights.size == model.get_submodule(layer.name).weight.numel()
        section = recipe.layers[layer.name]
        assert (layer.place.value, layer.source) == (section.place or "engine", section.weights)
        assert layer.place == "head" or not any(layer.weights.strides)  # zeros take no memory
    assert design.layers[-3].input == MapShape(64, 7, 7)
    assert {layer.predictor.rank for layer in design.lazy_layers} == {8}
    masks = Masks.drawn(design, keep_share(design, 0.5), 1, 1)
    assert CycleModel(design).alone(masks).bytes[0] < 0.45 * sum(layer.weights.size for layer in design.tail)


def test_drawn_masks_are_consistent() -> None:
    design = outline("net", *DIGITS, head=1, lazy=(1, 2), rank=8, classes=10)
    masks = Masks.drawn(design, {"conv2": 5}, 6, 3, present=0.5)
    masks.check(design)
    assert (masks.chosen[0].sum(axis=1) == 5).all()
    assert masks.chosen[1].all()
    assert not (masks.present[1] & ~masks.chosen[0]).any()
    assert 0.3 < masks.present[0].mean() < 0.7
    again = Masks.drawn(design, {"conv2": 5}, 6, 3, present=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(masks.chosen, again.chosen, strict=True))


def test_vgg19_has_the_published_size() -> None:
    shape, layers = VGG19
    weights, channels, side = 0, shape.channels, shape.height
    for layer in layers:
        kernel = getattr(layer, "kernel", side)
        weights += layer.filters * channels * kernel * kernel
        channels, side = layer.filters, side // getattr(layer, "pool", side)
    assert weights + 1000 * channels == 143_652_544  # and 14,692 biases
