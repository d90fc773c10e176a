"""Networks whose filters are put in another order."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import quant.lazy
from flow import recipe as recipes
from flow import steps
from flow.errors import UserError
from flow.steps import all_filters
from flow.workspace import Workspace
from quant import checkpoint
from quant import train as quant_train
from quant.layers import QuantNetwork
from sim import golden
from sw import data, models, train
from sw.gate import Gate
from sw.order import reordered
from sw.paths.hardware import runs
from sw.predictors import LinearPredictor

RNG = np.random.default_rng(4)


def test_a_reordered_network_computes_the_same() -> None:
    torch.manual_seed(3)
    layers = OrderedDict(
        conv1=nn.Conv2d(2, 5, 3, padding=1, bias=False),
        norm1=nn.BatchNorm2d(5),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(5, 4, 3),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(4, 6, 1),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dense1=nn.Linear(24, 7),
        relu3=nn.ReLU(),
        dense2=nn.Linear(7, 3),
    )
    model = nn.Sequential(layers).double()
    model(torch.randn(40, 2, 6, 6).double())  # moves the running statistics
    frames = torch.randn(9, 2, 6, 6).double()
    orders = {"conv1": RNG.permutation(5), "conv3": RNG.permutation(6), "dense1": RNG.permutation(7)}
    other = reordered(model.eval(), orders)
    torch.testing.assert_close(other(frames), model(frames))
    first = torch.relu(model[1](model[0](frames)))
    torch.testing.assert_close(torch.relu(other[1](other[0](frames))), first[:, torch.tensor(orders["conv1"])])
    assert not torch.equal(other.get_submodule("dense1").weight, model.get_submodule("dense1").weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order of 'dense2'; layers that have one: conv1, conv2, conv3, dense1"):
        reordered(model, {"dense2": np.arange(3)})
    with pytest.raises(ValueError, match="layer 'conv2': its order is no permutation of 0 to 3"):
        reordered(model, {"conv2": np.array([0, 1, 2, 2])})


def trained_in(network: QuantNetwork, name: str) -> LinearPredictor:
    predictor = network.predictor(name)
    assert predictor is not None
    return predictor


def test_a_recipe_orders_filters_by_what_fires_together(tmp_path: Path) -> None:
    sizes = {"conv2": 32, "conv3": 64}
    lazy = tuple(sizes)
    content = {
        "name": "few_filters",
        "order": "coactivation",
        "data": {"set": "digits"},
        "model": {"name": "digits_cnn", "checkpoint": str(tmp_path / "small.npz")},
        "quantise": {"gate": 0.25, "gate_by": "training"},
        "predictor": {"kind": "trained", "frames": 100},
        "layers": {name: {"weights": "lazy", "keep": 0.5} for name in lazy},
    }
    flow = steps.Flow(recipes.build(content, "test"), Workspace(tmp_path), Console(quiet=True))
    digits = data.load("digits", 1)
    model = models.build("digits_cnn", digits.shape, digits.classes, 1)
    train.fit(model, digits, train.TrainSettings(epochs=2, seed=1), progress=False)
    known = {"model": "", "data": "", "recipe": "", "command": "", "training": "", "accuracy": {"float": 0, "int8": 0}}
    frames = torch.tensor(digits.test_x)

    def run(network: QuantNetwork, seed: int) -> None:
        source = checkpoint.Provenance.model_validate({"seed": seed, **known})
        checkpoint.save(tmp_path / "small.npz", network, source)
        flow.run(hardware=False)

    def fired(net: QuantNetwork) -> np.ndarray:
        strengths = quant.lazy.run(net, digits.test_x, {}).layer("dense").strengths  # of conv3's filters
        return np.argsort(np.argsort(-strengths, axis=1), axis=1) < 32

    settings = train.TrainSettings(epochs=1, seed=1, rate=1e-3)
    network = quant_train.quantise(model, digits, settings, progress=False)
    with pytest.raises(UserError, match="'trained', but layer 'conv2' of the checkpoint has no predictor"):
        run(network, 1)
    ordered = flow.quantised_network()
    assert torch.equal(ordered.integer_logits(frames), network.integer_logits(frames))
    assert not torch.equal(ordered.integers("conv3")[0], network.integers("conv3")[0])
    assert ordered.formats == network.formats
    assert runs(fired(ordered), np.arange(64)) < 0.9 * runs(fired(network), np.arange(64))

    settings = train.TrainSettings(epochs=1, seed=1, batch=16, rate=1e-3)
    network = quant_train.quantise(model, digits, settings, gate=Gate(lazy, 0.25, "training"), progress=False)
    run(network, 2)
    answers = golden.run(flow.design, flow.test_frames, all_filters(flow.design)).outputs
    assert (answers == network.integer_logits(frames).numpy()).all()
    halves = {name: quant.lazy.LazyLayer(trained_in(network, name), filters // 2) for name, filters in sizes.items()}
    witness = quant.lazy.run(network, digits.test_x, halves)  # its filters lie as they were trained
    assert (golden.run(flow.design, flow.test_frames).outputs == witness.logits).all()
