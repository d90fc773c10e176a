"""The hls4ml backend: what a network becomes, what is refused and how, and what the options do."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import hls4ml
import numpy as np
import pytest
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerChannelFloat, Int8WeightPerTensorFloat
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

import hw.backend
from hw import simulator as simulators
from hw.design import Conv, Dense, Design, DesignError, LinearPredictor, MapShape, Place, Source
from hw.frames import Layout, dequantise_input, dequantise_output, quantise_input
from hw.plugin import ensure_registered
from hw.qonnx import convert, load, prepare
from hw.synthesis import SynthesisReport, Target
from sim import golden
from tests.brevitas_nets import Net, conv, execute, identity, linear, relu

ensure_registered()


def digits_like(**options: Any) -> Net:
    """Head, two engine convolutions, dense after a flattened 2 x 2 map."""
    return Net(
        identity(),
        conv(2, 4, padding=1),
        relu(),
        nn.MaxPool2d(2),
        conv(4, 6, padding=1),
        relu(),
        conv(6, 5, padding=1),
        relu(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        linear(5 * 2 * 2, 3),
        shape=(2, 8, 8),
        **options,
    )


NETS: dict[str, Callable[[], Net]] = {
    "digits": digits_like,
    "stride": lambda: Net(
        identity(),
        conv(3, 4, 3, stride=2, padding=1),
        relu(),
        conv(4, 3, 2, stride=2),
        relu(),
        nn.Flatten(),
        linear(3 * 2 * 2, 4),
        shape=(3, 7, 8),
    ),
    "no padding, odd edges": lambda: Net(
        identity(),
        conv(1, 3, (3, 5)),
        relu(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        linear(3 * 4 * 3, 2),
        shape=(1, 11, 10),
    ),
    "pool 4": lambda: Net(
        identity(),
        conv(1, 3, 5, padding=2),
        relu(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        linear(3 * 2 * 3, 2),
        shape=(1, 9, 13),
    ),
    "signed activations": lambda: Net(
        identity(),
        conv(2, 4, padding=1),
        identity(),
        nn.MaxPool2d(2),
        conv(4, 3),
        identity(),
        nn.Flatten(),
        linear(3 * 2 * 2, 4),
        shape=(2, 8, 8),
    ),
    "few bits": lambda: Net(
        identity(bit_width=6),
        conv(2, 4, weight_bit_width=3),
        relu(bit_width=4),
        conv(4, 4, weight_bit_width=5),
        relu(bit_width=2),
        nn.Flatten(),
        linear(4 * 2 * 2, 3, weight_bit_width=2),
        shape=(2, 6, 6),
    ),
    "dense layers": lambda: Net(
        identity(),
        linear(12, 9, return_quant_tensor=True),
        relu(),
        linear(9, 7, return_quant_tensor=True),
        relu(),
        linear(7, 4),
        shape=(12,),
    ),
    "last layer is a convolution": lambda: Net(
        identity(), conv(2, 4, stride=2), relu(), conv(4, 3, 3), nn.Flatten(), shape=(2, 7, 7)
    ),
    "pool before the activation": lambda: Net(
        identity(), conv(2, 4), nn.MaxPool2d(2), relu(), nn.Flatten(), linear(4 * 3 * 3, 3), shape=(2, 8, 8)
    ),
    "without biases": lambda: Net(
        identity(),
        conv(2, 4, bias=False, bias_quant=None),
        relu(),
        nn.Flatten(),
        linear(4 * 2 * 2, 3, bias=False, bias_quant=None),
        shape=(2, 4, 4),
    ),
}


@pytest.fixture(scope="module")
def digits() -> ModelProto:
    return digits_like().qonnx()


def lowered(model: ModelProto, hls_config: dict[str, Any] | None = None, **options: Any) -> Design:
    design: Design = convert(model, "build/unwritten", hls_config=hls_config, **options).penstock.design
    return design


def refusal(model: ModelProto, hls_config: dict[str, Any] | None = None, **options: Any) -> str:
    with pytest.raises(DesignError) as caught:
        lowered(model, hls_config, **options)
    return str(caught.value)


# -- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_golden_equals_qonnx_and_brevitas(name: str) -> None:
    net = NETS[name]()
    model = net.qonnx()
    design = lowered(model)
    x = net.frames(24)
    inputs = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    frames = quantise_input(design, inputs, Layout.CHANNELS_LAST if x.ndim == 4 else Layout.FLAT)
    answers = dequantise_output(design, golden.run(design, frames).outputs)
    assert np.array_equal(answers, net.outputs(x))
    assert np.array_equal(answers[:6], execute(model, x[:6]))
    assert np.abs(answers).max() > 0


def test_scales_per_output_channel_become_shifts_per_filter(digits: ModelProto) -> None:
    """Rescaling a filter's weights and scale by the same power of two is exact; integers stay, shifts move."""
    plain = lowered(digits)
    model = copy.deepcopy(digits)
    wrapper = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(n for n in model.graph.node if n.name == "Conv_1")
    quant = next(n for n in model.graph.node if n.output[0] == node.input[1])
    factors = 2.0 ** np.array([0, 1, -1, 0, 2, 0], np.float32)
    weights, scale = (numpy_helper.to_array(wrapper[quant.input[i]]) for i in (0, 1))
    _replace(model, quant.input[0], weights * factors.reshape(-1, 1, 1, 1))
    _replace(model, quant.input[1], (scale * factors).reshape(-1, 1, 1, 1))
    bias = next(n for n in model.graph.node if n.output[0] == node.input[2])
    _replace(model, bias.input[0], numpy_helper.to_array(wrapper[bias.input[0]]) * factors)
    _replace(model, bias.input[1], numpy_helper.to_array(wrapper[bias.input[1]]) * factors)
    layer = lowered(model).layers[1]
    before = plain.layers[1]
    assert layer.shift is not None
    assert before.shift is not None
    assert np.array_equal(layer.weights, before.weights)
    assert np.array_equal(layer.bias, before.bias)
    assert np.array_equal(layer.shift, before.shift - np.array([0, 1, -1, 0, 2, 0]))
    net = digits_like()
    x = net.frames(8)
    design = lowered(model)
    answers = golden.run(design, quantise_input(design, x.transpose(0, 2, 3, 1))).outputs
    assert np.array_equal(dequantise_output(design, answers), execute(model, x))


def test_layers_keep_their_names_and_geometry(digits: ModelProto) -> None:
    design = lowered(digits, project_name="tiny")
    assert design.name == "tiny"
    assert design.input == MapShape(2, 8, 8)
    assert [(layer.name, type(layer), layer.output) for layer in design.layers] == [
        ("Conv_0", Conv, MapShape(4, 4, 4)),
        ("Conv_1", Conv, MapShape(6, 4, 4)),
        ("Conv_2", Conv, MapShape(5, 2, 2)),
        ("MatMul_0", Dense, MapShape(3, 1, 1)),
    ]
    assert design.layers[-1].weights.shape == (3, 5, 2, 2)
    assert design.layers[-1].shift is None
    assert design.output_format.bits == design.layers[-1].accumulator_bits


@pytest.mark.parametrize("granularity", ["model", "type", "name"])
def test_hls4mls_own_configurations_change_nothing(digits: ModelProto, granularity: str) -> None:
    with redirect_stdout(StringIO()):
        config = hls4ml.utils.config_from_onnx_model(digits, granularity=granularity, backend="Penstock")
    assert lowered(digits, config).fingerprint == lowered(digits).fingerprint


def test_the_generated_configuration_lists_the_options(digits: ModelProto) -> None:
    with redirect_stdout(StringIO()):
        config = hls4ml.utils.config_from_onnx_model(digits, granularity="name", backend="Penstock")
    for name in ("Conv_0", "MatMul_0"):
        assert {"Place", "Weights", "Keep", "Predictor"} <= set(config["LayerName"][name])


def test_an_input_precision_that_equals_the_quantiser_is_no_loss(digits: ModelProto) -> None:
    plain = lowered(digits)
    number = plain.input_format
    precision = f"fixed<{number.bits},{number.bits + number.exponent},RND_CONV,SAT>"
    config = {"Model": {"Precision": "fixed<16,6>"}, "LayerName": {"global_in": {"Precision": {"result": precision}}}}
    assert lowered(digits, config).fingerprint == plain.fingerprint


def test_channels_first_inputs_are_transposed() -> None:
    model = digits_like().qonnx()
    reference = lowered(model)
    source = model.graph.input[0]
    transposed = helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, 2, 8, 8])
    model.graph.node.insert(
        0, helper.make_node("Transpose", ["frames"], [source.name], name="order", perm=[0, 2, 3, 1])
    )
    model.graph.value_info.append(copy.deepcopy(source))
    del model.graph.input[:]
    model.graph.input.append(transposed)
    accelerator = convert(model, "build/unwritten").penstock
    assert accelerator.design.fingerprint == reference.fingerprint
    x = digits_like().frames(3)
    assert np.array_equal(
        quantise_input(accelerator.design, x, accelerator.layout), quantise_input(reference, x.transpose(0, 2, 3, 1))
    )


def test_conversion_is_deterministic(digits: ModelProto) -> None:
    assert lowered(digits).fingerprint == lowered(digits).fingerprint


@pytest.mark.parametrize("module", ["hls4ml", "hw.lower", "hw.passes.fold_constants", "hw.qonnx", "hw.writer"])
def test_the_backend_is_there_whatever_is_imported_first(module: str) -> None:
    script = (
        f"import {module}\n"
        "from hls4ml.backends import get_available_backends\n"
        "from hls4ml.model.optimizer import get_available_passes\n"
        "from hw import pipeline as p\n"
        "assert set(p.CHECK_PASSES + p.LOWER_PASSES + p.WRITE_PASSES) <= set(get_available_passes())\n"
        "print(*get_available_backends())\n"
    )
    if not any(point.name == "penstock" for point in entry_points(group="hls4ml.backends")):
        pytest.skip("the package is not installed")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "penstock" in done.stdout
    assert "WARN" not in done.stdout


# -- options ----------------------------------------------------------------------------------------------------------


def predictor(channels: int, filters: int) -> LinearPredictor:
    rng = np.random.default_rng(3)
    return LinearPredictor(rng.integers(-128, 128, (channels, filters)), rng.integers(-1000, 1000, filters))


def test_small_convolutions_stream_and_the_last_layer_never_does(digits: ModelProto) -> None:
    design = lowered(digits)
    assert [layer.name for layer in design.head] == ["Conv_0", "Conv_1", "Conv_2"]
    assert [layer.source for layer in design.tail] == [Source.DENSE]


def test_everything_after_the_first_engine_layer_is_on_the_engine(digits: ModelProto) -> None:
    design = lowered(digits, {"LayerName": {"Conv_1": {"Place": "engine"}}})
    assert [layer.place for layer in design.layers] == [Place.HEAD, Place.ENGINE, Place.ENGINE, Place.ENGINE]
    assert all(layer.source is Source.DENSE for layer in design.tail)


@pytest.mark.parametrize(("keep", "filters"), [(4, 4), (0.5, 3), (0.01, 1), (1.0, 6), ("auto", 6)])
def test_a_predictor_makes_a_layer_lazy(digits: ModelProto, keep: object, filters: int) -> None:
    design = lowered(digits, {"LayerName": {"Conv_1": {"Predictor": predictor(4, 6), "Keep": keep}}})
    (layer,) = design.lazy_layers
    assert (layer.name, layer.keep) == ("Conv_1", filters)
    frames = quantise_input(design, digits_like().frames(5).transpose(0, 2, 3, 1))
    assert (golden.run(design, frames).layer("Conv_1").chosen.sum(axis=1) == filters).all()


@pytest.mark.parametrize(("pinned", "filters"), [(2, (0, 1)), ([4, 1], (1, 4)), ("auto", ())])
def test_pinned_filters_are_computed_in_every_frame(
    digits: ModelProto, pinned: object, filters: tuple[int, ...]
) -> None:
    options = {"Predictor": predictor(4, 6), "Keep": 3, "Pinned": pinned}
    design = lowered(digits, {"LayerName": {"Conv_1": options}})
    (layer,) = design.lazy_layers
    assert layer.pinned == filters
    frames = quantise_input(design, digits_like().frames(5).transpose(0, 2, 3, 1))
    assert golden.run(design, frames).layer("Conv_1").chosen[:, list(filters)].all()


def test_predictors_come_from_files(digits: ModelProto, tmp_path: Path) -> None:
    file = tmp_path / "predictors.npz"
    linear_predictor = predictor(4, 6)
    np.savez(file, **{"Conv_1.weights": linear_predictor.weights, "Conv_1.bias": linear_predictor.bias})
    option = {"Weights": "lazy", "Predictor": str(file), "Keep": 2}
    design = lowered(digits, {"LayerName": {"Conv_1": option}})
    in_memory = lowered(digits, {"LayerName": {"Conv_1": option | {"Predictor": linear_predictor}}})
    assert design.fingerprint == in_memory.fingerprint


def test_the_engine_and_head_lanes_are_options(digits: ModelProto) -> None:
    engine = {
        "EngineFilterLanes": 3,
        "EnginePixelLanes": 2,
        "BusBytes": 16,
        "PredictorLanes": 4,
        "Outstanding": 8,
        "MaxBurst": 16,
    }
    design = lowered(digits, {"Model": engine, "LayerName": {"Conv_0": {"FilterLanes": 3, "PixelLanes": 8}}})
    assert (design.engine.lanes.filters, design.engine.lanes.pixels) == (3, 2)
    assert (design.engine.bus_bytes, design.engine.predictor_lanes) == (16, 4)
    assert (design.engine.outstanding, design.engine.max_burst) == (8, 16)
    assert design.head[0].lanes is not None
    assert (design.head[0].lanes.filters, design.head[0].lanes.pixels) == (3, 8)


@dataclass(frozen=True)
class BadOption:
    layer: str
    options: dict[str, object]
    message: str


BAD_OPTIONS = [
    BadOption("Conv_1", {"Place": "hed"}, "layer 'Conv_1': Place is 'hed'; accepted: head or engine"),
    BadOption("Conv_1", {"Weights": 3}, "layer 'Conv_1': Weights is 3; accepted: resident, lazy or dense"),
    BadOption("Conv_1", {"Keep": 1.5}, "layer 'Conv_1': Keep is 1.5; accepted: a number of filters"),
    BadOption("Conv_1", {"Keep": 0}, "layer 'Conv_1': Keep is 0; accepted: a number of filters"),
    BadOption("Conv_1", {"Keep": True}, "layer 'Conv_1': Keep is True; accepted: a number of filters"),
    BadOption(
        "Conv_1", {"Pinned": "all"}, "layer 'Conv_1': Pinned is 'all'; accepted: indices of filters, or how many"
    ),
    BadOption("Conv_1", {"Pinned": [6]}, "layer 'Conv_1': pinned filters are (6,); accepted: ascending indices"),
    BadOption("Conv_1", {"Predictor": 7}, "layer 'Conv_1': Predictor is 7; accepted: the path of an .npz file"),
    BadOption("Conv_1", {"Predictor": "absent.npz"}, "layer 'Conv_1': predictor file 'absent.npz' does not exist"),
    BadOption(
        "Conv_1", {"Predictor": predictor(4, 6), "Keep": 7}, "layer 'Conv_1': Keep is 7; accepted: 1 to 6 filters"
    ),
    BadOption("Conv_1", {"Predictor": predictor(4, 5)}, "layer 'Conv_1': predictor is (4, 5)"),
    BadOption("Conv_1", {"Weights": "lazy"}, "layer 'Conv_1': Weights 'lazy' without Predictor"),
    BadOption("Conv_1", {"Keep": 2}, "layer 'Conv_1': Keep with Weights 'dense'"),
    BadOption("Conv_1", {"Place": "head", "Weights": "dense"}, "layer 'Conv_1': Place head with Weights dense"),
    BadOption("Conv_1", {"Place": "engine", "FilterLanes": 2}, "layer 'Conv_1': FilterLanes on the engine"),
    BadOption("Conv_0", {"PixelLanes": 3}, "layer 'Conv_0': PixelLanes is 3; accepted: a power of two"),
    BadOption("MatMul_0", {"Place": "head"}, "layer 'MatMul_0': it cannot be a head stage, it is the last layer"),
    BadOption(
        "Conv_9", {"Place": "head"}, "'Conv_9' is no layer with weights; accepted: Conv_0, Conv_1, Conv_2, MatMul_0"
    ),
    BadOption("Relu_0", {"Place": "head"}, "'Relu_0' is no layer with weights"),
    BadOption("Conv_1", {"Predictors": "x"}, "layer 'Conv_1': unknown option 'Predictors'; accepted: Place, Weights"),
]


@pytest.mark.parametrize("case", BAD_OPTIONS, ids=lambda case: f"{case.layer}-{'-'.join(case.options)}")
def test_bad_options_are_refused(digits: ModelProto, case: BadOption) -> None:
    assert case.message in refusal(digits, {"LayerName": {case.layer: case.options}})


def test_a_head_stage_cannot_follow_the_engine(digits: ModelProto) -> None:
    config = {"LayerName": {"Conv_0": {"Place": "engine"}, "Conv_1": {"Place": "head"}}}
    assert "layer 'Conv_1': it cannot be a head stage, 'Conv_0' before it is on the engine" in refusal(digits, config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"BusBytes": 5}, "engine: bus_bytes is 5; accepted: 4, 8, 16, 32, 64"),
        ({"BusBytes": "wide"}, "hls_config['Model']: BusBytes is 'wide'; accepted: an int"),
        ({"EnginePixelLanes": 3}, "lanes 8 x 3"),
        ({"BusByte": 8}, "hls_config['Model']: unknown option 'BusByte'; accepted: EngineFilterLanes"),
    ],
)
def test_bad_engine_options_are_refused(digits: ModelProto, options: dict[str, object], message: str) -> None:
    assert message in refusal(digits, {"Model": options})


@pytest.mark.parametrize("kind", ["text", "missing", "float", "pickle"])
def test_bad_predictor_files_are_refused(digits: ModelProto, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "predictors.npz"
    weights, bias = np.zeros((4, 6), np.int64), np.zeros(6, np.int64)
    if kind == "text":
        file.write_text("no archive")
        message = "is not readable"
    elif kind == "missing":
        np.savez(file, **{"Conv_1.weights": weights})
        message = "has no predictor of it; found: Conv_1.weights; accepted: 'Conv_1.weights', 'Conv_1.bias'; or "
    elif kind == "float":
        np.savez(file, **{"Conv_1.weights": weights, "Conv_1.bias": bias.astype(np.float32)})
        message = "predictor bias are float32; accepted: integers"
    else:
        np.savez(file, **{"Conv_1.weights": np.array([object()]), "Conv_1.bias": bias})
        message = "is not readable"
    said = refusal(digits, {"LayerName": {"Conv_1": {"Predictor": file}}})
    assert said.startswith("layer 'Conv_1': predictor ")
    assert message in said


# -- networks that are refused ----------------------------------------------------------------------------------------


def _replace(model: ModelProto, name: str, value: np.ndarray[Any, Any]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), name))
    for info in model.graph.value_info:
        if info.name == name:
            info.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))


def _quantiser(model: ModelProto, layer: str, operand: int) -> Any:
    """The quantiser of an operand of `layer`: 0 activations, 1 weights, 2 bias."""
    node = next(n for n in model.graph.node if n.name == layer)
    return next(n for n in model.graph.node if n.output[0] == node.input[operand])


def with_parameter(model: ModelProto, layer: str, operand: int, parameter: int, value: float) -> ModelProto:
    """`model` with another value in a quantiser: parameter 0 data, 1 scale, 2 zero point, 3 bits."""
    model = copy.deepcopy(model)
    quant = _quantiser(model, layer, operand)
    old = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == quant.input[parameter]))
    new = np.array(old, np.float32)
    new.flat[0] = value
    _replace(model, quant.input[parameter], new)
    return model


@pytest.mark.parametrize(
    ("operand", "parameter", "value", "message"),
    [
        (1, 1, 0.3, "layer 'Conv_0': quantiser 'Quant_0' of its weights has scale 0.3"),
        (1, 1, -0.25, "layer 'Conv_0': quantiser 'Quant_0' of its weights has scale -0.25; accepted: powers of two"),
        (1, 1, np.nan, "of its weights has scale nan; accepted: powers of two"),
        (1, 2, 3.0, "layer 'Conv_0': quantiser 'Quant_0' of its weights has zero point 3; accepted: 0"),
        (1, 3, 9.0, "layer 'Conv_0': quantiser 'Quant_0' of its weights has 9 bits; accepted: 2 to 8"),
        (1, 3, 1.0, "layer 'Conv_0': quantiser 'Quant_0' of its weights has 1 bits; accepted: 2 to 8"),
        (1, 3, 4.5, "of its weights has 4.5 bits; accepted: 2 to 8"),
        (1, 0, np.nan, "layer 'Conv_0': quantiser 'Quant_0' of its weights is given 1 values that are not finite"),
        (1, 0, np.inf, "layer 'Conv_0': quantiser 'Quant_0' of its weights is given 1 values that are not finite"),
        (2, 1, 0.3, "layer 'Conv_0': quantiser 'Quant_1' of its bias has scale 0.3"),
        (2, 0, np.nan, "of its bias is given 1 values that are not finite"),
        (2, 1, 2.0**-30, "layer 'Conv_0': bias: value"),
        (2, 3, 40.0, "of its bias has 40 bits; accepted: 2 to 32"),
        (0, 1, 0.3, "layer 'global_in': quantiser 'Quant_8' of its output has scale 0.3"),
        (0, 2, 1.0, "layer 'global_in': quantiser 'Quant_8' of its output has zero point 1; accepted: 0"),
        (0, 3, 16.0, "layer 'global_in': quantiser 'Quant_8' of its output has 16 bits; accepted: 2 to 8"),
    ],
)
def test_quantisers_that_integers_cannot_follow_are_refused(
    digits: ModelProto, operand: int, parameter: int, value: float, message: str
) -> None:
    assert message in refusal(with_parameter(digits, "Conv_0", operand, parameter, value))


@pytest.mark.parametrize(
    ("attribute", "operand", "value", "message"),
    [
        ("rounding_mode", 0, "FLOOR", "rounds by 'FLOOR'; accepted: ROUND"),
        ("signed", 1, 0, "of its weights"),
        ("narrow", 0, 1, "narrow range"),
    ],
)
def test_quantiser_modes_are_refused(
    digits: ModelProto, attribute: str, operand: int, value: object, message: str
) -> None:
    model = copy.deepcopy(digits)
    quant = _quantiser(model, "Conv_0", operand)
    attributes = {a.name: helper.get_attribute_value(a) for a in quant.attribute} | {attribute: value}
    del quant.attribute[:]
    quant.attribute.extend(helper.make_attribute(name, content) for name, content in attributes.items())
    assert message in refusal(model)


BAD_NETS: dict[str, tuple[Callable[[], Net], tuple[str, ...]]] = {
    "sigmoid": (
        lambda: Net(identity(), conv(1, 2), nn.Sigmoid(), identity(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        ("layer 'Sigmoid_0' (Sigmoid) is not supported: activations are ReLU or none", "Conv (2-D", "MaxPool"),
    ),
    "pooling that overlaps": (
        lambda: Net(identity(), conv(1, 2), relu(), nn.MaxPool2d(3, 1), nn.Flatten(), linear(8, 2), shape=(1, 6, 6)),
        ("layer 'MaxPool_0' (MaxPooling2D) has windows of (3, 3), strides (1, 1)",),
    ),
    "pooling by 3": (
        lambda: Net(identity(), conv(1, 2), relu(), nn.MaxPool2d(3), nn.Flatten(), linear(2, 2), shape=(1, 6, 6)),
        ("layer 'Conv_0': max-pooling of 3; accepted: 1 (none), 2 or 4",),
    ),
    "pooling rounded up": (
        lambda: Net(
            identity(), conv(1, 2), relu(), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), linear(8, 2), shape=(1, 5, 5)
        ),
        ("(MaxPool) rounds its size up (ceil_mode)",),
    ),
    "pooling of the input": (
        lambda: Net(identity(), nn.MaxPool2d(2), conv(1, 2), nn.Flatten(), shape=(1, 6, 6)),
        ("layer 'MaxPool_0' (MaxPooling2D) follows no convolution",),
    ),
    "dilation": (
        lambda: Net(identity(), conv(1, 2, dilation=2), relu(), nn.Flatten(), linear(8, 2), shape=(1, 6, 6)),
        ("layer 'Conv_0' (Conv) has dilation (2, 2)",),
    ),
    "stride 3": (
        lambda: Net(identity(), conv(1, 2, stride=3), relu(), nn.Flatten(), linear(8, 2), shape=(1, 6, 6)),
        ("layer 'Conv_0': stride 3; accepted: 1 or 2",),
    ),
    "no input quantiser": (
        lambda: Net(
            conv(1, 2, bias_quant=None, return_quant_tensor=False), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)
        ),
        ("the network's input is not quantised",),
    ),
    "activations not quantised": (
        lambda: Net(identity(), conv(1, 2), nn.ReLU(), nn.Flatten(), linear(8, 2, bias_quant=None), shape=(1, 4, 4)),
        ("layer 'Conv_0': its output is not quantised",),
    ),
    "weights not quantised": (
        lambda: Net(identity(), nn.Conv2d(1, 2, 3), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        ("layer 'Conv_0': its weights are not quantised",),
    ),
    "bias not quantised": (
        lambda: Net(identity(), conv(1, 2, bias_quant=None), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        ("layer 'Conv_0': bias: value", "is no multiple of 2**"),
    ),
    "scales of floating point": (
        lambda: Net(
            identity(),
            conv(1, 2, weight_quant=Int8WeightPerTensorFloat),
            relu(),
            nn.Flatten(),
            linear(8, 2),
            shape=(1, 4, 4),
        ),
        ("layer 'Conv_0': quantiser", "accepted: powers of two"),
    ),
    "floating point per channel": (
        lambda: Net(
            identity(),
            conv(1, 2, weight_quant=Int8WeightPerChannelFloat),
            relu(),
            nn.Flatten(),
            linear(8, 2),
            shape=(1, 4, 4),
        ),
        ("layer 'Conv_0': quantiser", "accepted: powers of two"),
    ),
    "last layer quantised": (
        lambda: Net(identity(), conv(1, 2), relu(), nn.Flatten(), linear(8, 2), identity(), shape=(1, 4, 4)),
        ("layer 'MatMul_0': a quantiser follows the last layer",),
    ),
    "last layer with ReLU": (
        lambda: Net(identity(), conv(1, 2), relu(), nn.Flatten(), linear(8, 2), nn.ReLU(), shape=(1, 4, 4)),
        ("layer 'MatMul_0': a ReLU follows the last layer",),
    ),
    "quantised twice": (
        lambda: Net(identity(), conv(1, 2), relu(), relu(bit_width=4), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        ("the output of 'Conv_0' is quantised twice",),
    ),
    "a map at the end": (
        lambda: Net(identity(), conv(1, 2), shape=(1, 4, 4)),
        ("ends the network with a 2 x 2 map",),
    ),
}


@pytest.mark.parametrize("name", BAD_NETS)
def test_networks_that_cannot_be_built_are_refused(name: str) -> None:
    net, messages = BAD_NETS[name]
    with pytest.raises(DesignError) as caught:
        lowered(net().qonnx())
    for message in messages:
        assert message in str(caught.value)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, return_quant_tensor=True)
        self.conv = conv(2, 2, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.quant(x)
        return self.quant(self.conv(x)) + x


def test_sums_that_no_quantiser_follows_are_refused() -> None:
    message = refusal(Net(Residual(), nn.Flatten(), linear(32, 2, bias_quant=None), shape=(2, 4, 4)).qonnx())
    assert "layer 'Add_0': its output is not quantised; accepted: a quantiser after every layer but the last" in message


def test_batch_norm_is_refused_with_advice() -> None:
    net = Net(identity(), conv(1, 2), nn.BatchNorm2d(2), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4))
    with pytest.raises(
        DesignError, match=r"'BatchNormalization_0' \(BatchNormalization\) .* merge it before quantisation"
    ):
        net.qonnx()


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"QONNX file '.*absent\.onnx' does not exist"):
        load(tmp_path / "absent.onnx")
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"\x00\x01 no protobuf \xff")
    with pytest.raises(DesignError, match=r"'.*corrupt\.onnx' is not an ONNX file"):
        prepare(corrupt)


def test_io_parallel_is_refused(digits: ModelProto) -> None:
    message = refusal(digits, io_type="io_parallel")
    assert message.startswith("io_type is 'io_parallel'; accepted: 'io_stream'")


# -- numbers at the border --------------------------------------------------------------------------------------------


def test_inputs_round_half_to_even_and_saturate(digits: ModelProto) -> None:
    design = lowered(digits)
    step = 2.0**design.input_format.exponent
    x = np.zeros((1, 8, 8, 2))
    x[0, 0, :6, 1] = np.array([0.5, 1.5, -2.5, 1e9, -np.inf, 2.51]) * step
    frames = quantise_input(design, x)
    assert frames.shape == (1, 2, 8, 8)
    assert frames[0, 1, 0, :6].tolist() == [0, 2, -2, 127, -128, 3]
    assert np.array_equal(quantise_input(design, dequantise_input(design, frames)), frames)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 8, 8, 1)), r"shape \(3, 8, 8, 1\); accepted: \(n, 8, 8, 2\)"),
        (np.zeros((3, 2, 8, 8)), r"accepted: \(n, 8, 8, 2\)"),
        (np.full((1, 8, 8, 2), np.nan), "128 NaN values"),
        (np.zeros((1, 8, 8, 2), complex), "dtype complex128; accepted: real numbers"),
    ],
)
def test_bad_inputs_are_refused(digits: ModelProto, x: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantise_input(lowered(digits), x)


# -- write, compile, predict, build -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StubRun:
    outputs: np.ndarray[Any, Any]
    bad: np.ndarray[Any, Any]


@dataclass
class StubSimulator:
    """Answers with the golden model, without RTL."""

    design: Design

    def run(self, frames: Any, keep: Any = None) -> StubRun:
        outputs = golden.run(self.design, frames, keep).outputs
        return StubRun(outputs, np.zeros(len(frames), bool))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    import hw.accelerator
    from hw.writer import PenstockWriter

    def factory(design: Design, folder: Path) -> StubSimulator:
        assert (folder / "emitted").exists()
        return StubSimulator(design)

    def write(_: PenstockWriter, model: Any) -> None:
        folder = Path(model.config.get_output_dir())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "emitted").touch()

    monkeypatch.setattr(PenstockWriter, "write_hls", write)
    monkeypatch.setattr(hw.accelerator, "find_simulator", lambda _: factory)


@pytest.mark.usefixtures("stub")
def test_predict_answers_like_other_backends(digits: ModelProto, tmp_path: Path) -> None:
    net = digits_like()
    model = convert(digits, tmp_path / "out", hls_config={"LayerName": {"Conv_1": {"Predictor": predictor(4, 6)}}})
    with pytest.raises(RuntimeError, match="call compile"):
        model.predict(np.zeros((1, 8, 8, 2), np.float32))
    for _ in range(2):  # as a user who tries things does
        model.compile()
    x = net.frames(5)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    answers = model.predict(last)
    assert answers.dtype == np.float32
    assert np.array_equal(answers, net.outputs(x))
    assert model.penstock.last_run.outputs.shape == (5, 3)
    assert model.predict(last[0]).shape == (3,)
    assert model.predict(last[:1].astype(np.float64)).dtype == np.float64
    assert not np.array_equal(model.predict(last, keep={"Conv_1": 1}), answers)
    with pytest.raises(ValueError, match="accepted: a numpy array of float32 or float64"):
        model.predict(last.astype(np.int64))


@pytest.mark.usefixtures("stub")
def test_build_returns_the_report_of_synthesis(
    digits: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which it also leaves in the output folder. The tools themselves: tests/test_synthesis.py."""
    asked: list[Any] = []

    def synthesise(top: str, rtl: Path, folder: Path, **options: Any) -> SynthesisReport:
        asked.append((top, rtl, folder, options))
        return SynthesisReport(top, {}, ())

    monkeypatch.setattr(hw.backend, "synthesise", synthesise)
    monkeypatch.setattr(hw.backend, "tools", dict)
    model = convert(digits, tmp_path / "out")
    report = model.build(targets=["xc7"], frequency=80.0, reset=True)
    rtl, work = tmp_path / "out" / "rtl", tmp_path / "out" / "synthesis"
    assert asked == [(report.design, rtl, work, {"targets": [Target.XC7], "frequency": 80.0, "seed": 1})]
    assert SynthesisReport.from_json((tmp_path / "out" / "synthesis.json").read_text()) == report
    assert (tmp_path / "out" / "emitted").exists()
    with pytest.raises(DesignError, match="target 'ice40'; accepted: ecp5, xc7, xcup"):
        model.build(targets=["ice40"])


def test_a_missing_simulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "entry_points", lambda **_: [])
    with pytest.raises(simulators.SimulatorError, match="no simulator is installed"):
        simulators.find_simulator()


def test_an_unknown_simulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Point:
        name: str

    monkeypatch.setattr(simulators, "entry_points", lambda **_: [Point("verilator")])
    with pytest.raises(simulators.SimulatorError, match="simulator 'icarus' is not installed; installed: verilator"):
        simulators.find_simulator("icarus")
