"""Quantised networks: formats, exact integers, export, and the torch witness of lazy inference."""

import copy
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from quant import check, export, lazy
from quant import train as quant_train
from quant.layers import INPUT, Format, QuantError, QuantNetwork, folded, quantised, to_integers
from sw import data, models, predictors, train
from sw.gate import PREDICTOR, TrainedPredictor

DIGITS = data.load("digits", 0)
FRAMES = DIGITS.test_x[:40]


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    model = models.build("digits_cnn", DIGITS.shape, DIGITS.classes, 0)
    train.fit(model, DIGITS, train.TrainSettings(epochs=2, seed=0), progress=False)
    return model


@pytest.fixture(scope="module")
def network(model: nn.Sequential) -> QuantNetwork:
    return quant_train.quantise(model, DIGITS, train.TrainSettings(epochs=1, seed=0, rate=1e-3), progress=False)


def test_formats_are_the_finest_that_hold() -> None:
    assert Format.holding(1.0, 8, signed=False) == Format(8, False, -7)
    assert Format.holding(255 / 256, 8, signed=False) == Format(8, False, -8)
    assert Format.holding(127.0, 8, signed=True) == Format(8, True, 0)
    assert Format.holding(127.5, 8, signed=True) == Format(8, True, 1)
    assert Format.holding(0.0, 4, signed=False).high == 15
    with pytest.raises(QuantError, match="largest magnitude of nan"):
        Format.holding(float("nan"), 8, signed=True)
    with pytest.raises(QuantError, match="9 bits; accepted: 2 to 8"):
        Format(9, True, 0)


def test_brevitas_uses_the_formats_it_is_given(network: QuantNetwork) -> None:
    for name in network.weighted:
        form = network.formats[name]
        weight = network.get_submodule(name).quant_weight()  # type: ignore[operator]
        assert (float(weight.scale), int(weight.bit_width)) == (form.scale, form.bits)
        assert int(network.integers(name)[0].abs().max()) <= form.high
    frames = torch.tensor(DIGITS.train_x)
    quantised_frames = network.get_submodule(INPUT)(frames)
    assert float(quantised_frames.scale) == network.formats[INPUT].scale
    assert torch.equal(quantised_frames.value, frames)  # sixteenths lose nothing


def test_batch_normalisation_is_folded() -> None:
    torch.manual_seed(3)
    layers = OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3), relu=nn.ReLU(), flatten=nn.Flatten())
    model = nn.Sequential(OrderedDict(**layers, dense=nn.Linear(12, 2))).double()
    model(5 * torch.randn(50, 2, 4, 4).double() + 1)  # moves the running statistics
    frames = torch.randn(9, 2, 4, 4).double()
    plain = folded(model.eval())
    assert [name for name, _ in plain.named_children()] == ["conv", "relu", "flatten", "dense"]
    torch.testing.assert_close(plain(frames), model(frames))
    assert folded(plain) is plain
    with pytest.raises(QuantError, match="layer 'norm' normalises what is no convolution's"):
        folded(nn.Sequential(OrderedDict(relu=nn.ReLU(), norm=nn.BatchNorm2d(3))))


def test_rounding_is_half_to_even_and_saturates() -> None:
    first, last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    for layer in (first, last):
        nn.init.constant_(layer.weight, 1.0)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    layers = OrderedDict[str, nn.Module](conv=first, relu=nn.ReLU(), last=last)
    unit = Format(8, True, 0)
    network = quantised(nn.Sequential(layers), {INPUT: unit, "conv": unit, "relu": Format(4, False, 1), "last": unit})
    frames = torch.tensor([-7.0, 1.0, 3.0, 5.0, 29.0, 31.0, 100.0]).reshape(-1, 1, 1, 1)
    # halves 0.5, 1.5, 2.5 go to 0, 2, 2; 14.5 goes to 14; 15.5 and 50 saturate at 15
    assert network.integer_logits(frames).flatten().tolist() == [0, 0, 2, 2, 14, 15, 15]


def test_float32_and_float64_agree_and_logits_are_integers(network: QuantNetwork) -> None:
    frames = torch.tensor(FRAMES)
    with torch.no_grad():
        single = network(frames)
    assert torch.equal(to_integers(single, network.accumulator_exponent, "dense"), network.integer_logits(frames))
    with pytest.raises(ArithmeticError, match="layer 'dense': values are not multiples"):
        to_integers(single, network.accumulator_exponent + 9, "dense")


def test_logits_equal_plain_integer_arithmetic(network: QuantNetwork) -> None:
    """The network in int64, with shifts: what hardware does."""
    values = (torch.tensor(FRAMES).double() / network.formats[INPUT].scale).round()
    exponent = network.formats[INPUT].exponent
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weights, bias = (tensor.double() for tensor in network.integers(name))
            exponent += network.formats[name].exponent
            if isinstance(layer, nn.Conv2d):
                values = functional.conv2d(values, weights, bias, padding=1)
            else:
                values = functional.linear(values, weights, bias)
        elif name in network.formats and name != INPUT:
            shift = network.formats[name].exponent - exponent
            exponent += shift
            values = (values * 2.0**-shift).round().clamp(0, network.formats[name].high)
        elif name != INPUT:
            values = layer(values)
    assert torch.equal(values.long(), network.integer_logits(torch.tensor(FRAMES)))


def test_training_and_files_are_repeatable(model: nn.Sequential, network: QuantNetwork, tmp_path: Path) -> None:
    settings = train.TrainSettings(epochs=1, seed=0, rate=1e-3)
    again = quant_train.quantise(model, DIGITS, settings, progress=False)
    paths = [tmp_path / "first.pt", tmp_path / "second.pt"]
    quant_train.save(paths[0], network)
    quant_train.save(paths[1], again)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    blank = models.build("digits_cnn", DIGITS.shape, DIGITS.classes, 9)
    loaded = quant_train.load(paths[0], blank)
    assert loaded.formats == network.formats
    assert torch.equal(loaded.integer_logits(torch.tensor(FRAMES)), network.integer_logits(torch.tensor(FRAMES)))
    other = models.build("digits_cnn", (3, 8, 8), DIGITS.classes, 9)
    with pytest.raises(ValueError, match=r"first\.pt' does not hold this network"):
        quant_train.load(paths[0], other)


def test_signed_inputs_and_narrow_formats(tmp_path: Path) -> None:
    model = models.build("digits_cnn", (2, 8, 8), 4, 1)
    frames = np.random.default_rng(0).normal(size=(9, 2, 8, 8)).astype(np.float32)
    formats = quant_train.calibrate(model, frames, quant_train.Bits(weights=4, activations=5))
    assert formats[INPUT].signed
    assert formats["conv2"].bits == 4
    assert formats["relu2"].bits == 5
    network = quantised(model, formats).eval()
    export.export(network, (2, 8, 8), tmp_path / "narrow.onnx")
    assert check.compare(network, tmp_path / "narrow.onnx", frames).equal


def test_the_exported_file_computes_the_same_integers(network: QuantNetwork, tmp_path: Path) -> None:
    path, again = tmp_path / "digits.onnx", tmp_path / "again.onnx"
    export.export(network, DIGITS.shape, path)
    comparison = check.compare(network, path, FRAMES)
    assert comparison.equal_frames == len(FRAMES)
    assert comparison.equal
    export.export(network, DIGITS.shape, again)
    assert path.read_bytes() == again.read_bytes()
    with torch.no_grad():  # one weight by one step: seen
        network = quantised_copy(network)
        next(network.get_submodule("conv1").parameters())[0, 0, 1, 1] += network.formats["conv1"].scale
    assert not check.compare(network, path, FRAMES).equal


def test_exported_nodes_bear_the_layers_names(network: QuantNetwork, tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    export.export(network, DIGITS.shape, path)
    nodes = onnx.load(path).graph.node
    names = {node.name: node.op_type for node in nodes}
    assert len(names) == len(nodes)
    assert [name for name, kind in names.items() if kind != "Quant"] == [
        "conv1", "relu1", "pool1", "conv2", "relu2", "conv3", "relu3", "pool3", "flatten", "dense", "dense_bias",
    ]  # fmt: skip
    assert {name for name, kind in names.items() if kind == "Quant"} == {
        "input_quant",
        *(f"relu{i}_quant" for i in (1, 2, 3)),
        *(f"{layer}_{part}_quant" for layer in network.weighted for part in ("weight", "bias")),
    }


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"a": nn.Conv2d(1, 2, 3), "b": nn.Sigmoid()}, "layer 'b' is a Sigmoid; accepted: Conv2d"),
        ({"a": nn.Conv2d(1, 2, 3), "b": nn.MaxPool2d(2)}, "layer 'b' pools accumulators"),
        ({"a": nn.Conv2d(1, 2, 3), "b": nn.Conv2d(2, 2, 3)}, "layer 'b' follows a layer without ReLU"),
        ({"a": nn.Conv2d(2, 2, 3, groups=2)}, "layer 'a' is Conv2d.*no groups"),
        ({"a": nn.Conv2d(1, 2, 3), "b": nn.ReLU()}, "the last layer is a ReLU"),
        ({"a": nn.ReLU()}, "layer 'a' is a ReLU without weights before it"),
        ({"a": nn.Conv2d(1, 2, 3), "c": nn.ReLU()}, "layer 'c' has no format"),
    ],
)
def test_what_cannot_be_quantised_is_named(layers: dict[str, nn.Module], message: str) -> None:
    unit = Format(8, True, 0)
    with pytest.raises(QuantError, match=message):
        quantised(nn.Sequential(OrderedDict(layers)), {INPUT: unit, "a": unit, "b": unit})


def quantised_copy(network: QuantNetwork) -> QuantNetwork:
    blank = models.build("digits_cnn", DIGITS.shape, DIGITS.classes, 0)
    copy = quantised(blank, network.formats)
    copy.load_state_dict(network.state_dict())
    return copy


# -- lazy inference ---------------------------------------------------------------------------------------------------


def fitted(network: QuantNetwork, keep: dict[str, int]) -> dict[str, lazy.LazyLayer]:
    """Predictors fitted layer by layer, those before already lazy."""
    layers: dict[str, lazy.LazyLayer] = {}
    for name, following in (("conv2", "conv3"), ("conv3", "dense")):
        run = lazy.run(network, DIGITS.train_x[:300], layers)
        predictor = predictors.fit(run.layer(name).strengths, run.layer(following).strengths)
        layers[name] = lazy.LazyLayer(predictor, keep[name])
    return layers


def test_all_filters_kept_is_the_plain_network(network: QuantNetwork) -> None:
    run = lazy.run(network, FRAMES, fitted(network, {"conv2": 32, "conv3": 64}))
    assert (run.logits == network.integer_logits(torch.tensor(FRAMES)).numpy()).all()
    assert all(layer.chosen.all() for layer in run.layers)
    assert [layer.name for layer in run.layers] == ["conv1", "conv2", "conv3", "dense"]
    assert [layer.scores is None for layer in run.layers] == [True, False, False, True]


def test_strengths_are_sums_of_integer_activations(network: QuantNetwork) -> None:
    run = lazy.run(network, FRAMES, {})
    values = torch.tensor(FRAMES)
    with torch.no_grad():
        for name, layer in network.named_children():
            if name in ("conv1", "conv2", "conv3", "flatten"):
                expected = values.int().long().abs().sum(dim=(2, 3)).numpy()
                assert (run.layer("dense" if name == "flatten" else name).strengths == expected).all()
            values = layer(values)


def test_a_dense_layer_behind_a_dense_one_sees_its_values_as_strengths() -> None:
    model = models.build("lenet", (1, 28, 28), 10, 0).eval()
    images = np.random.default_rng(0).random((20, 1, 28, 28), np.float32)
    network = quantised(model, quant_train.calibrate(model, images)).eval()
    predictor = predictors.LinearPredictor(np.ones((50, 500), np.int64), np.arange(500))
    run = lazy.run(network, images, {"dense1": lazy.LazyLayer(predictor, keep=100)})
    assert (run.layer("dense1").chosen == (np.arange(500) >= 400)).all()
    assert run.layer("dense1").strengths.shape == (20, 50)
    strengths = run.layer("dense2").strengths
    assert strengths.shape == (20, 500)
    assert (strengths[:, :400] == 0).all()
    weights, bias = (x.numpy() for x in network.integers("dense2"))
    assert (run.logits == strengths @ weights.T + bias).all()  # after ReLU a strength is the value itself


def test_a_predictor_that_has_not_begun_to_learn_is_none(network: QuantNetwork) -> None:
    early = copy.deepcopy(network)
    predictor = TrainedPredictor(16, 32)
    early.get_submodule("conv2").add_module(PREDICTOR, predictor)
    assert early.predictor("conv2") is None
    predictor.started.fill_(True)
    assert early.predictor("conv2") is not None


def test_the_best_scores_are_chosen_and_the_rest_is_absent(network: QuantNetwork) -> None:
    layers = fitted(network, {"conv2": 11, "conv3": 20})
    run = lazy.run(network, FRAMES, layers)
    for name, following in (("conv2", "conv3"), ("conv3", "dense")):
        record, layer = run.layer(name), layers[name]
        predictor = layer.predictor
        assert record.scores is not None
        assert isinstance(predictor, predictors.LinearPredictor)
        assert (record.scores == record.strengths @ predictor.weights + predictor.bias).all()
        for scores, chosen in zip(record.scores, record.chosen, strict=True):
            best = sorted(range(len(scores)), key=lambda j: (-scores[j], j))[: layer.keep]
            assert set(np.flatnonzero(chosen)) == set(best)
        assert (run.layer(following).strengths[~record.chosen] == 0).all()
    assert not (run.logits == network.integer_logits(torch.tensor(FRAMES)).numpy()).all()


def test_equal_scores_choose_the_lower_filters(network: QuantNetwork) -> None:
    predictor = predictors.LinearPredictor(np.zeros((16, 32), np.int64), np.repeat([1, 2, 1, 0], 8))
    layer = lazy.LazyLayer(predictor, keep=12)
    chosen = lazy.run(network, FRAMES, {"conv2": layer}).layer("conv2").chosen
    assert (chosen == np.isin(np.arange(32), [*range(4), *range(8, 16)])).all()


def test_batches_do_not_matter(network: QuantNetwork) -> None:
    layers = fitted(network, {"conv2": 16, "conv3": 32})
    together = lazy.run(network, DIGITS.test_x[:300], layers)
    alone = lazy.run(network, DIGITS.test_x[299:300], layers)
    assert (together.logits[299] == alone.logits[0]).all()
    assert (together.layer("conv3").chosen[299] == alone.layer("conv3").chosen[0]).all()


def test_a_predictor_that_does_not_fit_is_named(network: QuantNetwork) -> None:
    predictor = predictors.LinearPredictor(np.zeros((16, 32), np.int64), np.zeros(32, np.int64))
    masks = predictors.ClassPredictor(np.ones((10, 32), np.bool_))
    for layers, message in (
        ({"conv9": lazy.LazyLayer(predictor, 1)}, "no layer 'conv9' with weights; layers: conv1, conv2"),
        ({"conv3": lazy.LazyLayer(predictor, 1)}, r"layer 'conv3': predictor is not one of \(32, 64\)"),
        ({"conv3": lazy.LazyLayer(masks, 1)}, "layer 'conv3': predictor scores 32 filters; accepted: 64"),
        ({"conv2": lazy.LazyLayer(predictor, 33)}, "layer 'conv2': keep is 33; accepted: 1 to 32 filters"),
    ):
        with pytest.raises(ValueError, match=message):
            lazy.run(network, FRAMES, layers)
