"""Pruned networks down to the hardware: after quantisation everything is equal to the bit, and removed work is gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto

from hw import image
from hw.design import Design, DesignError
from hw.frames import quantise_input
from hw.qonnx import convert
from quant import export
from quant import train as quant_train
from quant.layers import QuantNetwork
from sim import golden
from sim.verilated import VerilatedModel, build
from sw import data, models, train
from sw.pruning import masks, schedules, scores

DIGITS = data.load("digits", 0)
FRAMES = DIGITS.test_x[:12]
LAYERS = ("conv1", "conv2", "conv3", "dense")


@dataclass(frozen=True)
class Network:
    """A pruned and quantised digits network, its masks, and its QONNX form."""

    quantised: QuantNetwork
    masks: masks.Masks
    model: ModelProto

    def design(self, **taps: object) -> Design:
        config: dict[str, Any] = {"LayerName": {name: {"Taps": value} for name, value in taps.items()}}
        graph = convert(self.model, Path("unwritten"), "pruned", config, io_type="io_stream")
        design: Design = graph.penstock.design
        return design


@pytest.fixture(scope="module")
def network() -> Network:
    model = models.build("digits_cnn", DIGITS.shape, 10, 0)
    train.fit(model, DIGITS, train.TrainSettings(epochs=1, seed=0), progress=False)
    step = schedules.direct(model, schedules.matrix(scores.by_magnitude(DIGITS.shape, 2)), 0.5, DIGITS.shape)
    small = masks.shrink(step.model, step.masks, DIGITS.shape)
    settings = train.TrainSettings(epochs=1, seed=0, rate=1e-3)
    quantised = quant_train.quantise(small.model, DIGITS, settings, progress=False, masks=small.masks)
    return Network(quantised, small.masks, export.to_qonnx(quantised, DIGITS.shape).model)


def inputs(design: Design) -> np.ndarray[Any, np.dtype[np.int64]]:
    from hw.frames import Layout

    return quantise_input(design, np.ascontiguousarray(np.moveaxis(FRAMES, 1, -1)), Layout.CHANNELS_LAST)


def test_quantised_training_keeps_removed_weights_at_zero(network: Network) -> None:
    for name, mask in network.masks.items():
        weights, _ = network.quantised.integers(name)
        assert not mask.all() or name == "dense"
        assert not weights.reshape(mask.shape)[~mask].any()


def test_removed_columns_are_no_taps_and_change_no_bit(network: Network, tmp_path: Path) -> None:
    file = tmp_path / "taps.npz"
    np.savez(file, **{f"{name}.taps": mask.numpy() for name, mask in masks.columns(network.masks).items()})  # type: ignore[arg-type]
    dense = network.design()
    designs = {
        "nonzero": network.design(**dict.fromkeys(LAYERS, "nonzero")),
        "file": network.design(**dict.fromkeys(LAYERS, str(file))),
    }
    logits = network.quantised.integer_logits(torch.tensor(FRAMES)).numpy()
    whole = golden.run(dense, inputs(dense))
    np.testing.assert_array_equal(whole.outputs, logits)
    for how, design in designs.items():
        run = golden.run(design, inputs(design))
        np.testing.assert_array_equal(run.outputs, logits)
        for layer, full in zip(design.layers, dense.layers, strict=True):
            kept = masks.columns(network.masks)[layer.name].numpy()
            if how == "file":
                np.testing.assert_array_equal(layer.kept_taps, kept)
            else:
                assert not (layer.kept_taps & ~kept).any()
            assert full.kept_taps.all()
        assert len(image.build(design)) < 0.75 * len(image.build(dense))
        assert sum(trace.bytes.sum() for trace in run.layers) < sum(trace.bytes.sum() for trace in whole.layers)


def test_the_masked_network_answers_as_the_smaller_one_to_the_bit() -> None:
    model = models.build("digits_cnn", DIGITS.shape, 10, 3).eval()
    chooser = schedules.matrix(scores.by_magnitude(DIGITS.shape, 2))
    step = schedules.direct(model, chooser, 0.5, DIGITS.shape)
    small = masks.shrink(step.model, step.masks, DIGITS.shape)
    formats = quant_train.calibrate(step.model, DIGITS.train_x[:50])
    assert quant_train.calibrate(small.model, DIGITS.train_x[:50]) == formats
    from quant.layers import quantised

    frames = torch.tensor(FRAMES)
    assert torch.equal(
        quantised(small.model, formats).integer_logits(frames), quantised(step.model, formats).integer_logits(frames)
    )


def test_rtl_of_a_pruned_network_equals_the_golden_model(network: Network, tmp_path: Path) -> None:
    taps = {"Taps": "nonzero"}
    config = {"LayerName": {"conv2": taps | {"Place": "engine"}, "conv1": taps, "conv3": taps, "dense": taps}}
    graph = convert(network.model, tmp_path, "pruned", config, io_type="io_stream")
    graph.write()
    design = graph.penstock.design
    library = build(tmp_path / "rtl", tmp_path / "simulation", "pruned_probed")
    run = VerilatedModel(library, design, image.build(design)).run(inputs(design))
    expected = golden.run(design, inputs(design))
    np.testing.assert_array_equal(run.outputs, expected.outputs)
    for layer in run.layers:
        np.testing.assert_array_equal(layer.bytes, expected.layer(layer.name).bytes)


def test_bad_taps_are_refused(network: Network, tmp_path: Path) -> None:
    file = tmp_path / "taps.npz"
    with pytest.raises(DesignError, match=r"layer 'conv2': file of taps .*taps\.npz' does not exist"):
        network.design(conv2=str(file))
    np.savez(file, **{"conv1.taps": np.ones((1, 3, 3), np.int64), "conv2.taps": np.zeros((2, 3, 3), bool)})
    with pytest.raises(DesignError, match=r"'conv1\.taps' is int64 \(1, 3, 3\); accepted: bool \(1, 3, 3\)"):
        network.design(conv1=str(file))
    with pytest.raises(DesignError, match=r"'conv2\.taps' is bool \(2, 3, 3\); accepted: bool .* at least one true"):
        network.design(conv2=str(file))
    with pytest.raises(DesignError, match=r"has no array 'conv3\.taps'; found: conv1\.taps, conv2\.taps"):
        network.design(conv3=str(file))
    np.savez(file, **{"conv2.taps": np.zeros(network.masks["conv2"].shape[1:], bool)})
    with pytest.raises(DesignError, match=r"'conv2\.taps' is bool \(.*, 3, 3\), all false; accepted: bool"):
        network.design(conv2=str(file))
    gone = np.ones((1, 3, 3), bool)
    gone[0, int(network.masks["conv1"].any(dim=0).flatten().nonzero()[0]) // 3, :] = False
    np.savez(file, **{"conv1.taps": gone})
    with pytest.raises(DesignError, match="layer 'conv1': a removed tap has a weight"):
        network.design(conv1=str(file))
    with pytest.raises(DesignError, match="layer 'conv1': Taps is 3; accepted: all, nonzero, or the path"):
        network.design(conv1=3)


def test_sizes_of_the_pruned_network_are_those_of_its_image(network: Network) -> None:
    design = network.design(**dict.fromkeys(LAYERS, "nonzero"))
    for layer in design.layers:
        mask = network.masks[layer.name]
        assert layer.filters == len(mask)
        assert int(layer.kept_taps.sum()) <= int(mask.any(dim=0).sum())
    for record, layer in zip(image.layout(design), design.tail, strict=True):
        assert record.stride - int(layer.kept_taps.sum()) in range(design.engine.bus_bytes)
