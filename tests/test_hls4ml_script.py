"""A user's Vitis script with the backend's name changed, and nothing else."""

from __future__ import annotations

import json
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import hls4ml
import numpy as np
import pytest
import torch
from brevitas.export import export_qonnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
from torch import nn

from hw.frames import quantise_input
from hw.plugin import ensure_registered
from sim import golden
from tests.brevitas_nets import Net, conv, identity, linear, relu

ensure_registered()


def network(filters: int = 3) -> Net:
    return Net(
        identity(),
        conv(1, filters, padding=1),
        relu(),
        nn.MaxPool2d(2),
        conv(filters, 2, padding=1),
        relu(),
        nn.Flatten(),
        linear(2 * 3 * 3, 3),
        shape=(1, 6, 6),
    )


def script(backend: str, model: Any, folder: Path, lazy: str | None = None, **options: Any) -> Any:
    """What hls4ml's QONNX tutorial does, with the knobs that people turn; `lazy` is a file of Conv_1's predictor."""
    config = hls4ml.utils.config_from_onnx_model(
        model, granularity="name", backend=backend, default_precision="fixed<16,6>", default_reuse_factor=4
    )
    config["Model"]["Strategy"] = "Resource"
    config["LayerName"]["global_in"]["Precision"] = {"result": "fixed<8,2>"}
    config["LayerName"]["Conv_0"]["ReuseFactor"] = 9
    config["LayerName"]["Conv_0"]["Trace"] = True
    if lazy is not None:
        config["LayerName"]["Conv_1"].update(Weights="lazy", Keep=1, Predictor=lazy)
    return hls4ml.converters.convert_from_onnx_model(
        model,
        hls_config=config,
        output_dir=str(folder),
        project_name="myproject",
        backend=backend,
        io_type="io_stream",
        part="xcu250-figd2104-2L-e",
        clock_period=5,
        **options,
    )


def as_in_the_tutorial(net: Net) -> Any:
    wrapper = ModelWrapper(export_qonnx(net.module, args=torch.zeros(1, *net.shape), dynamo=False))
    wrapper = cleanup_model(wrapper)
    wrapper = wrapper.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    return cleanup_model(wrapper.transform(GemmToMatMul()))


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def test_only_the_backends_name_changes(tmp_path: Path) -> None:
    net = network()
    model = as_in_the_tutorial(net)
    x = np.ascontiguousarray(net.frames(20).transpose(0, 2, 3, 1))
    answers = {}
    for backend in ("Vitis", "Penstock"):
        hls_model = script(backend, model, tmp_path / backend)
        hls_model.compile()
        answers[backend] = hls_model.predict(np.clip(np.rint(x * 64), -128, 127).astype(np.float32) / 64)
    assert np.array_equal(answers["Vitis"], answers["Penstock"])
    assert np.array_equal(
        answers["Penstock"], net.outputs(np.clip(np.rint(x * 64), -128, 127).transpose(0, 3, 1, 2) / 64)
    )


def test_several_designs_live_in_one_process_and_are_traced(tmp_path: Path) -> None:
    """As HLS C++, which compiles faster than RTL."""
    nets = {filters: network(filters) for filters in (2, 4)}
    models = {
        filters: script("Penstock", as_in_the_tutorial(net), tmp_path / str(filters), hls="vitis")
        for filters, net in nets.items()
    }
    for model in models.values():
        model.compile()
    for _ in range(2):
        for filters, net in nets.items():
            x = net.frames(5)
            last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
            assert np.array_equal(models[filters].predict(last), net.outputs(x))
            answers, layers = models[filters].trace(last)
            assert np.array_equal(answers, net.outputs(x))
            design = models[filters].penstock.design
            expected = golden.run(design, quantise_input(design, last))
            assert list(layers) == [layer.name for layer in design.layers]
            for layer in design.layers:
                real = np.ldexp(expected.layer(layer.name).output.astype(float), layer.output_format.exponent)
                assert np.array_equal(layers[layer.name], np.moveaxis(real, 1, 3))


def test_a_configuration_may_be_used_again(tmp_path: Path) -> None:
    """hls4ml writes the names of layers that it makes into the configuration; into its own, not into the user's."""
    model = as_in_the_tutorial(network())
    config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Penstock")
    config["LayerName"]["Conv_1"]["Place"] = "engine"
    given = json.dumps(config)
    designs = [
        hls4ml.converters.convert_from_onnx_model(
            model, hls_config=config, output_dir=str(tmp_path / name), backend="Penstock", io_type="io_stream"
        ).penstock.design
        for name in "ab"
    ]
    assert designs[0].fingerprint == designs[1].fingerprint
    assert [layer.name for layer in designs[0].head] == ["Conv_0"]
    assert json.dumps(config) == given


def test_numerical_profiling_shows_every_layer(tmp_path: Path) -> None:
    """hls4ml converts once more for it, with the configuration that it has extended; predictors come from a file."""
    pytest.importorskip("seaborn", reason="needs the extra 'profiling'")
    import matplotlib as mpl

    mpl.use("Agg")
    from hls4ml.model.profiling import activations_hlsmodel, numerical

    net = network()
    file = tmp_path / "predictors.npz"
    np.savez(file, **{"Conv_1.weights": np.array([[1, 0], [0, 1], [1, 1]]), "Conv_1.bias": np.array([0, 1])})
    model = script("Penstock", as_in_the_tutorial(net), tmp_path / "out", lazy=str(file), hls="vitis")
    model.compile()
    x = np.ascontiguousarray(net.frames(20).transpose(0, 2, 3, 1))
    before, after, none, activations = numerical(hls_model=model, X=x)
    assert none is None  # of the model before optimisation, which hls4ml asks keras and torch only
    layers = [layer.name for layer in model.penstock.design.layers]
    weights = [f"{name}/{kind}" for name in ("Conv2D_Conv_0", "Conv2D_Conv_1", "Dense_MatMul_0") for kind in "wb"]
    assert _labels(before) == _labels(after) == sorted(weights)
    assert _labels(activations) == layers
    design = model.penstock.design
    expected = golden.run(design, quantise_input(design, x))
    for box in activations_hlsmodel(model, x):
        output = np.abs(expected.layer(box["weight"]).output).astype(float)
        exponent = next(layer for layer in design.layers if layer.name == box["weight"]).output_format.exponent
        assert box["med"] == np.ldexp(np.median(output[output != 0]), exponent)


def _labels(figure: Any) -> list[str]:
    return sorted(label.get_text() for label in figure.axes[0].get_yticklabels())


def test_io_parallel_and_unknown_hls_are_refused(tmp_path: Path) -> None:
    model = as_in_the_tutorial(network())
    with pytest.raises(ValueError, match="hls is 'vivado'; accepted: 'vitis', or None"):
        script("Penstock", model, tmp_path, hls="vivado")
