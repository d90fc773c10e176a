"""Input that cannot be used: one sentence on stderr, exit code 2, and nothing written."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

from flow import cli
from tests.brevitas_nets import Net, conv, identity, linear, relu

SHAPE = (2, 6, 6)


@dataclass
class Outcome:
    code: int
    said: str


@pytest.fixture(scope="module")
def network() -> ModelProto:
    """As Brevitas exports it: channels first, nothing cleaned up."""
    net = Net(
        identity(), conv(2, 4, padding=1), relu(), conv(4, 4, padding=1), relu(), nn.MaxPool2d(2), nn.Flatten(),
        linear(4 * 3 * 3, 3), shape=SHAPE,
    )  # fmt: skip
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        return export_qonnx(net.module, args=torch.zeros(1, *SHAPE), dynamo=False)


@pytest.fixture
def penstock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run the command line with `arguments` in an empty folder; results would go to its `build`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["penstock", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, capsys.readouterr().err)

    return run


def refused(outcome: Outcome, *parts: str) -> None:
    """Whether the outcome is one sentence with these parts, code 2, and no results."""
    assert outcome.code == 2, outcome.said
    assert outcome.said.startswith("penstock: ")
    assert outcome.said.count("\n") == 1, outcome.said
    for part in parts:
        assert part in outcome.said
    assert not Path("build").exists()


def own(network: ModelProto, x: NDArray[np.generic] | None = None) -> tuple[str, ...]:
    """The options for building `network` with calibration inputs `x`."""
    onnx.save(network, "my.onnx")
    np.savez("my.npz", x=np.zeros((4, *SHAPE), np.float32) if x is None else x)
    return ("hls", "--onnx", "my.onnx", "--calibration", "my.npz")


def scaled(network: ModelProto, factor: float) -> ModelProto:
    """A copy in which the scale of the first quantiser is `factor` times what it was."""
    copy = ModelProto()
    copy.CopyFrom(network)
    name = next(node for node in copy.graph.node if node.op_type == "Quant").input[1]
    held = [tensor for tensor in copy.graph.initializer if tensor.name == name]
    held += [node.attribute[0].t for node in copy.graph.node if name in node.output]
    held[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held[0]) * np.float32(factor), held[0].name))
    return copy


def test_unknown_recipe_key(penstock: Callable[..., Outcome]) -> None:
    Path("my.toml").write_text('name = "my"\nspeed = "high"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\n')
    refused(penstock("hls", "my.toml"), "recipe 'my.toml'", "unknown key 'speed'", "accepted: name, seed")


def test_unknown_names_in_a_recipe(penstock: Callable[..., Outcome]) -> None:
    text = 'name = "my"\n[data]\nset = "{}"\n[model]\nname = "{}"\n[layers.{}]\nweights = "dense"\n'
    for data, model, layer, found in (
        ("digit", "digits_cnn", "conv2", "'data.set' is 'digit'; accepted: "),
        ("digits", "cnn", "conv2", "'model.name' is 'cnn'; accepted: digits_cnn"),
        ("digits", "digits_cnn", "conv9", "no layer 'conv9' in [layers]; accepted: conv1, conv2, conv3, dense"),
    ):
        Path("my.toml").write_text(text.format(data, model, layer))
        refused(penstock("hls", "my.toml"), found)


def test_more_filters_than_there_are(penstock: Callable[..., Outcome]) -> None:
    text = 'name = "my"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\n'
    Path("my.toml").write_text(text + '[layers.conv2]\nweights = "lazy"\nkeep = 33\n')
    refused(penstock("hls", "my.toml"), "layer 'conv2'", "33", "1 to 32 filters")


def test_missing_files(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    refused(penstock("hls", "my.toml"), "recipe 'my.toml' does not exist")
    options = own(network)
    Path("my.onnx").unlink()
    refused(penstock(*options), "ONNX file 'my.onnx' does not exist")
    options = own(network)
    Path("my.npz").unlink()
    refused(penstock(*options), "calibration file 'my.npz' does not exist")


@pytest.mark.parametrize(
    "arguments",
    [("hls",), ("hls", "--onnx", "my.onnx"), ("hls", "--calibration", "my.npz"), ("hls", "my.toml", "--name", "other")],
    ids=" ".join,
)
def test_half_of_what_is_needed(penstock: Callable[..., Outcome], arguments: tuple[str, ...]) -> None:
    refused(penstock(*arguments), "either a recipe, or --onnx and --calibration")


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x07\x12\xff\xff\xff"], ids=["empty", "text", "cut off"])
def test_corrupt_onnx(penstock: Callable[..., Outcome], network: ModelProto, content: bytes) -> None:
    options = own(network)
    Path("my.onnx").write_bytes(content)
    refused(penstock(*options), "'my.onnx' is not an ONNX file")


def test_onnx_cut_short(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    options = own(network)
    whole = Path("my.onnx").read_bytes()
    Path("my.onnx").write_bytes(whole[: len(whole) // 2])
    refused(penstock(*options), "'my.onnx' is not an ONNX file")


def test_unsupported_layer(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    other = ModelProto()
    other.CopyFrom(network)
    node = next(node for node in other.graph.node if node.op_type == "Relu")
    node.op_type, node.name = "Sigmoid", "squash"
    message = (
        "layer 'squash' (Sigmoid) is not supported: activations are ReLU or none, both exact in integers; supported: "
    )
    refused(penstock(*own(other)), message, "Conv", "MaxPool")


def test_scale_that_is_no_power_of_two(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    refused(
        penstock(*own(scaled(network, 0.75))),
        "scale",
        "accepted: powers of two",
    )


def test_weights_that_are_nan(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    copy = ModelProto()
    copy.CopyFrom(network)
    tensor = next(tensor for tensor in copy.graph.initializer if len(tensor.dims) == 4)
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[3] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    refused(penstock(*own(copy)), "1 values that are not finite", "nan")


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((4, 6, 6, 2), np.float32), "x has shape (4, 6, 6, 2); accepted: (n, 2, 6, 6)"),
        (np.zeros((2, 6, 6), np.float32), "x has shape (2, 6, 6); accepted: (n, 2, 6, 6)"),
        (np.zeros((1, *SHAPE), np.float32), "n at least 2"),
        (np.zeros((4, *SHAPE), np.int64), "x is int64; accepted: float32 or float64"),
        (np.full((4, *SHAPE), "a"), "x is <U1; accepted: float32 or float64"),
        (np.full((4, *SHAPE), np.nan, np.float32), "x holds NaN or infinity"),
        (np.array([{}] * 4), "is not an .npz archive of numbers"),
    ],
    ids=["channels last", "one frame", "too few", "integers", "text", "nan", "objects"],
)
def test_calibration_of_the_wrong_shape_or_type(
    penstock: Callable[..., Outcome], network: ModelProto, x: NDArray[np.generic], found: str
) -> None:
    refused(penstock(*own(network, x)), "calibration file 'my.npz'", found)


def test_calibration_without_x(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    options = own(network)
    np.savez("my.npz", images=np.zeros((4, *SHAPE), np.float32))
    refused(penstock(*options), "has no array 'x'; found: images")
    Path("my.npz").write_bytes(b"nothing of the kind")
    refused(penstock(*options), "is not an .npz archive")
    with Path("my.npz").open("wb") as file:
        np.save(file, np.zeros((4, *SHAPE), np.float32))
    refused(penstock(*options), "is not an .npz archive of numbers: File is not a zip file")


def test_a_board_that_there_is_not(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    refused(penstock(*own(network), "--board", "arty"), "no board 'arty'; accepted: ecp5-85f, zynq-7020")
    Path("my.toml").write_text(
        'name = "mine"\n[onnx]\nfile = "my.onnx"\ncalibration = "my.npz"\n[board]\nname = "arty"\n'
    )
    refused(penstock("hls", "my.toml"), "no board 'arty'; accepted: ecp5-85f, zynq-7020")


def test_a_report_from_files_that_are_not_there(penstock: Callable[..., Outcome], network: ModelProto) -> None:
    given = own(network)[1:]
    refused(penstock("report", *given, "--front", "lazy.json"), "--front names 'lazy.json', which is not a file")
    refused(penstock("report", *given, "--baseline", "base.json"), "--baseline names 'base.json'")
