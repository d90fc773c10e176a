"""hls4ml's own C simulation is a witness of the golden model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from hw.frames import quantise_input
from hw.qonnx import convert
from sim import csim, golden
from tests.brevitas_nets import Net, conv, identity, linear, relu
from tests.layer_nets import residual


def tiny() -> Net:
    return Net(
        identity(),
        conv(1, 3, padding=1),
        relu(),
        nn.MaxPool2d(2),
        conv(3, 2, padding=1),
        relu(),
        nn.Flatten(),
        linear(2 * 3 * 3, 3),
        shape=(1, 6, 6),
    )


@pytest.mark.parametrize("io_type", csim.IO_TYPES)
def test_c_simulation_equals_golden(tmp_path: Path, io_type: str) -> None:
    net = tiny()
    model = net.qonnx()
    design = convert(model, tmp_path / "penstock").penstock.design
    frames = quantise_input(design, net.frames(50).transpose(0, 2, 3, 1))
    simulation = csim.build(model, design, tmp_path / "vitis", io_type)
    answers = simulation.run(frames)
    assert answers.dtype == np.int64
    assert np.array_equal(answers, golden.run(design, frames).outputs)
    assert np.array_equal(simulation.run(frames[:1]), answers[:1])


def test_unknown_io_types_are_refused(tmp_path: Path) -> None:
    model = tiny().qonnx()
    design = convert(model, tmp_path / "penstock").penstock.design
    with pytest.raises(ValueError, match="io_type is 'io_serial'; accepted: io_stream, io_parallel"):
        csim.build(model, design, tmp_path / "vitis", "io_serial")


def test_compiler_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().qonnx()
    design = convert(model, tmp_path / "penstock").penstock.design
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(csim.CSimulationError, match=r"'g\+\+' is not installed"):
        csim.build(model, design, tmp_path / "vitis")


@pytest.mark.full
def test_a_residual_block_equals_golden(tmp_path: Path) -> None:
    net = residual(around=True, stride=2)
    model = net.qonnx()
    design = convert(model, tmp_path / "penstock").penstock.design
    frames = quantise_input(design, net.frames(20).transpose(0, 2, 3, 1))
    answers = csim.build(model, design, tmp_path / "vitis").run(frames)
    assert np.array_equal(answers, golden.run(design, frames).outputs)
