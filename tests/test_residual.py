"""Residual networks from the float model to the golden model: quantised, exported, lowered, with lazy layers inside."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flow.convert import Fitting, Plan, convert, fit_predictors, integer_frames, with_predictors
from flow.lazy import oracle, predicted, study
from flow.network import channels_last
from flow.recipe import Recipe, load
from hw.design import Design
from hw.emit.hls import emit_hls
from hw.qonnx import load as load_qonnx
from quant import export, lazy
from quant.check import compare
from quant.layers import QuantNetwork, folded, quantised
from quant.lazy import LazyLayer
from quant.sliced import SlicedNetwork
from quant.train import Bits, calibrate
from sim import golden, hls
from sim.cycles import CycleModel, Masks
from sim.hls import HlsModel
from sw.models import Branched, build, resnet
from sw.order import reordered
from sw.predictors import LinearPredictor
from sw.pruning.forms import forms
from sw.pruning.masks import held

SHAPE, CLASSES = (3, 8, 8), 4
FRAMES = np.random.default_rng(3).random((40, *SHAPE), np.float32)
RECIPE = Path(__file__).parent.parent / "recipes" / "cifar10_resnet8.toml"


@pytest.fixture(scope="module")
def model() -> Branched:
    """ResNet-8 for small images, with random weights and running statistics of some frames."""
    torch.manual_seed(1)
    network = resnet(SHAPE, CLASSES, 1)
    with torch.no_grad():
        for _ in range(5):
            network(torch.tensor(FRAMES))
    return network.eval()


@pytest.fixture(scope="module")
def network(model: Branched) -> QuantNetwork:
    plain = folded(model)
    return quantised(plain, calibrate(plain, FRAMES, Bits()))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load(RECIPE)


@pytest.fixture(scope="module")
def built(network: QuantNetwork, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Design, Path]:
    """The design of the exported network, with the recipe's lazy layers, and the file; predictors are fitted."""
    folder = tmp_path_factory.mktemp("resnet")
    export.export(network, SHAPE, folder / "model.onnx")
    graph = convert(load_qonnx(folder / "model.onnx"), recipe, folder)
    dense = graph.penstock.design
    frames = integer_frames(graph, channels_last(FRAMES))
    plan = Plan.of(recipe, dense)
    fitted = fit_predictors(dense, plan, Fitting(recipe, frames))
    return with_predictors(dense, recipe, plan, fitted), folder / "model.onnx"


def test_folding_changes_no_answer(model: Branched) -> None:
    plain = folded(model)
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.AvgPool2d) for layer in plain)
    assert isinstance(plain, Branched)
    assert plain.adds == {
        "block1_conv2": "stem_relu",
        "block2_conv2": "block2_around_out",
        "block3_conv2": "block3_around_out",
    }
    assert plain.reads == {"block2_conv1": "block1_relu2", "block3_conv1": "block2_relu2"}
    torch.testing.assert_close(plain(torch.tensor(FRAMES)), model(torch.tensor(FRAMES)), rtol=1e-4, atol=1e-5)


def test_a_resnet_of_three_blocks_has_twenty_layers() -> None:
    names = [n for n, x in build("resnet20", (3, 32, 32), 10, 1).named_children() if isinstance(x, nn.Conv2d)]
    assert len([name for name in names if not name.endswith("around")]) == 19
    assert sum(p.numel() for p in build("resnet8", (3, 32, 32), 10, 1).parameters() if p.ndim > 1) == 77_360


def test_qonnx_brevitas_and_golden_model_are_equal(network: QuantNetwork, built: tuple[Design, Path]) -> None:
    assert compare(network, built[1], FRAMES).equal


def test_lazy_layers_choose_and_answer_as_in_torch(network: QuantNetwork, built: tuple[Design, Path]) -> None:
    design, _ = built
    assert [x.name for x in design.lazy_layers] == ["block1_conv1", "block2_conv1", "block3_conv1"]
    assert {x.name: x.residual.layer for x in design.tail if x.residual} == {
        "block1_conv2": "stem",
        "block2_conv2": "block2_around",
        "block3_conv2": "block3_around",
    }
    chosen = {}
    for layer in design.lazy_layers:
        assert layer.predictor is not None
        assert layer.keep is not None
        chosen[layer.name] = LazyLayer(LinearPredictor(**vars(layer.predictor)), layer.keep)
    torch_run = lazy.run(network, FRAMES, chosen)
    frames = np.rint(FRAMES / 2.0**design.input_format.exponent).astype(np.int64).clip(0, design.input_format.high)
    run = golden.run(design, frames)
    assert np.array_equal(run.outputs, torch_run.logits)
    for record in torch_run.layers:
        trace = run.layer(record.name)
        assert np.array_equal(trace.strengths, record.strengths)
        assert np.array_equal(trace.chosen, record.chosen)
    assert any(not run.layer(layer.name).chosen.all() for layer in design.lazy_layers)
    whole = golden.run(design, frames, {layer.name: layer.filters for layer in design.lazy_layers})
    assert np.array_equal(whole.outputs, network.integer_logits(torch.tensor(FRAMES)).numpy())


def test_hls_cpp_is_equal_with_lazy_layers_inside_blocks(built: tuple[Design, Path]) -> None:
    design, model = built
    project = model.parent / "hls"
    emit_hls(design, project)
    cpp = HlsModel(hls.build(project, design.name), design, (project / "weights.bin").read_bytes())
    frames = np.rint(FRAMES[:6] / 2.0**design.input_format.exponent).astype(np.int64).clip(0, design.input_format.high)
    for keep in ({}, {"block2_conv1": 1}, {layer.name: layer.filters for layer in design.lazy_layers}):
        run, expected = cpp.run(frames, keep), golden.run(design, frames, keep)
        assert np.array_equal(run.outputs, expected.outputs)
        for layer in run.layers:
            trace = expected.layer(layer.name)
            assert np.array_equal(layer.strengths, trace.strengths)
            assert np.array_equal(layer.chosen, trace.chosen)
            assert np.array_equal(layer.bytes, trace.bytes)
            assert layer.output is None or np.array_equal(layer.output, trace.output)


def test_fewer_filters_inside_cost_fewer_bytes_and_cycles(built: tuple[Design, Path]) -> None:
    design, _ = built
    frames = np.rint(FRAMES[:4] / 2.0**design.input_format.exponent).astype(np.int64).clip(0, design.input_format.high)
    model = CycleModel(design)

    def cost(keep: dict[str, int]) -> tuple[int, int]:
        run = model.alone(Masks.of(design, golden.run(design, frames, keep), keep))
        return int(run.engine.sum()), int(run.bytes.sum())

    some = cost({})
    every = cost({layer.name: layer.filters for layer in design.lazy_layers})
    assert some[0] < 0.8 * every[0]
    assert some[1] < 0.8 * every[1]


def test_the_study_of_choices_follows_branches(built: tuple[Design, Path]) -> None:
    design, _ = built
    frames = np.rint(FRAMES / 2.0**design.input_format.exponent).astype(np.int64).clip(0, design.input_format.high)
    labels = golden.run(design, frames).outputs.argmax(axis=1)
    points = study(design, frames, labels, {"predicted": predicted, "oracle": oracle}, [0.5, 1.0])
    assert next(point.accuracy for point in points if point.share == 0.5) == 1.0  # what the design chooses itself


def test_what_takes_chains_only_says_so(model: Branched, network: QuantNetwork) -> None:
    with pytest.raises(ValueError, match=r"reordering of a network with branches, which join at 'block1_conv2_norm'"):
        reordered(model, {})
    with pytest.raises(ValueError, match="pruning of a network with branches"):
        forms(model, SHAPE)
    with held(network, {}):
        pass
    with pytest.raises(ValueError, match="pruning"), held(network, {"stem": torch.ones(16, 3, 3, 3, dtype=torch.bool)}):
        pass
    with pytest.raises(ValueError, match="slicing of a network with branches"):
        SlicedNetwork(network, {})
    with pytest.raises(ValueError, match="layer 'relu' reads or adds 'later'; accepted: layers, an earlier one"):
        Branched(OrderedDict[str, nn.Module](relu=nn.ReLU(), later=nn.ReLU()), {"relu": "later"}, {})
