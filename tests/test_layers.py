"""Every line of the support table: the networks that it promises convert, exactly, and those that it refuses do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from brevitas.export import export_qonnx
from onnx import TensorProto, helper

from flow.network import OwnNetwork
from hw import support
from hw.design import DesignError, LinearPredictor
from hw.frames import dequantise_output, quantise_input
from hw.qonnx import convert, prepare
from sim import golden
from tests.brevitas_nets import Net, execute
from tests.layer_nets import ACCEPTED, REFUSED, Case, jet_tagging

ROOT = Path(__file__).parent.parent
FRAMES = 4
# One of each kind; the whole grid is for `make test-full` and bench/layers.py.
QUICK = {case.layer: case for case in reversed(ACCEPTED)} | {
    case.name: case for case in ACCEPTED if case.layer != "Conv2D" or "groups" in case.parameters or "rtl" in case.tags
}
CASES = [
    pytest.param(case, id=case.name, marks=() if case in QUICK.values() else pytest.mark.full) for case in ACCEPTED
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_what_the_table_promises_converts_exactly(case: Case) -> None:
    net = case.net()
    model = net.qonnx()
    accelerator = convert(model, "build/unwritten").penstock
    design = accelerator.design
    x = net.frames(FRAMES)
    last = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
    frames = quantise_input(design, np.ascontiguousarray(last), accelerator.layout)
    answers = dequantise_output(design, golden.run(design, frames).outputs)
    expected = net.outputs(x)
    if case.same_order:
        assert np.array_equal(answers.argsort(axis=1, kind="stable"), expected.argsort(axis=1, kind="stable"))
        return
    assert np.array_equal(answers, expected)
    assert np.array_equal(answers, execute(model, x if x.ndim != 3 else x[:, :, np.newaxis]))
    assert np.abs(answers).max() > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", REFUSED)
def test_what_the_table_refuses_is_refused_by_name(operator: str) -> None:
    net, message = REFUSED[operator]
    module = net()
    with pytest.raises(DesignError) as caught:
        convert(module.qonnx(), "build/unwritten")
    assert message in str(caught.value)


@pytest.mark.parametrize("refusal", support.REFUSALS, ids=lambda refusal: refusal.name)
def test_operators_are_refused_with_their_reason(refusal: support.Refusal) -> None:
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    node = helper.make_node(refusal.name, ["x"], ["y"], name="the_layer")
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [shape], [result]))
    with pytest.raises(DesignError) as caught:
        prepare(model)
    assert str(caught.value).startswith(f"layer 'the_layer' ({refusal.name}) {refusal.reason}; supported: Quant")


def test_the_manual_has_the_table() -> None:
    assert (ROOT / "docs" / "reference" / "layers.md").read_text() == support.table(), (
        "write it again: python -m hw.support > docs/reference/layers.md"
    )


def test_every_operator_of_the_table_has_a_network() -> None:
    shown = {operator for case in ACCEPTED for operator in case.operators}
    others = {"IntQuant", "Add", "Reshape", "Squeeze", "Identity", "Dropout", "Constant"}  # parts of others' networks
    assert shown | others >= support.NAMES
    assert not {refusal.name for refusal in support.REFUSALS} & support.NAMES


@pytest.mark.filterwarnings("ignore")
def test_layers_in_joined_branches_may_be_lazy() -> None:
    """Filters that were not computed are zero behind the join, in their own channels."""
    net = next(case for case in ACCEPTED if case.layer == "Concat").net()
    model, rng = net.qonnx(), np.random.default_rng(2)
    predictors = {
        name: LinearPredictor(rng.integers(-9, 9, (4, filters)), np.zeros(filters, np.int64))
        for name, filters in (("Conv_1", 3), ("Conv_2", 5))
    }
    options = {name: {"Predictor": predictor, "Keep": 2} for name, predictor in predictors.items()}
    design = convert(model, "build/unwritten", hls_config={"LayerName": options}).penstock.design
    assert [layer.name for layer in design.lazy_layers] == ["Conv_1", "Conv_2"]
    frames = rng.integers(-128, 128, (4, 2, 6, 6))
    run = golden.run(design, frames)
    joined = next(layer for layer in design.tail if layer.residual is not None)
    maps = np.concatenate([run.layer("Conv_1").output, run.layer("Conv_2").output], axis=1)
    assert np.array_equal(run.layer(joined.name).output, maps)
    assert (run.layer("Conv_2").chosen.sum(axis=1) == 2).all()
    assert maps.any()


def test_groups_and_softmax_tell_what_becomes_of_them() -> None:
    with pytest.warns(UserWarning, match=r"layer 'Softmax_0' \(Softmax\) is left out: .* logits"):
        convert(jet_tagging().qonnx(), "build/unwritten")
    grouped = next(case for case in ACCEPTED if case.parameters.get("groups") == 4)
    module = grouped.net()
    with pytest.warns(UserWarning, match="has 4 groups: .* 4 times the multiplications"):
        _unsilenced(module)


def _unsilenced(net: Net) -> None:
    """Prepare a network as a user does; `Net.qonnx` keeps warnings to itself."""
    prepare(export_qonnx(net.module, args=torch.zeros(1, *net.shape), dynamo=False))


def test_a_file_of_one_dimension_takes_frames_as_it_says(tmp_path: Path) -> None:
    net = next(case for case in ACCEPTED if case.layer == "Conv1D").net()
    export_qonnx(net.module, args=torch.zeros(1, *net.shape), export_path=str(tmp_path / "net.onnx"), dynamo=False)
    own = OwnNetwork.load(tmp_path / "net.onnx")
    assert own.frame == net.shape
    x = net.frames(5)
    accelerator = convert(own.model, "build/unwritten").penstock
    frames = quantise_input(accelerator.design, own.arrange(x), accelerator.layout)
    answers = dequantise_output(accelerator.design, golden.run(accelerator.design, frames).outputs)
    assert np.array_equal(answers, net.outputs(x))


def test_frames_of_one_dimension_need_no_row() -> None:
    case = next(case for case in ACCEPTED if case.layer == "Conv1D")
    design = convert(case.net().qonnx(), "build/unwritten").penstock.design
    x = np.linspace(-1, 1, 2 * 12 * 2).reshape(2, 12, 2)
    assert np.array_equal(quantise_input(design, x), quantise_input(design, x[:, np.newaxis]))
    assert np.array_equal(quantise_input(design, x[0]), quantise_input(design, x[:1]))
