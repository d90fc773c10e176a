"""Refuse what cannot be lowered while layers still have the names their author gave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hw.design import DesignError
from hw.graph import constant, label
from hw.support import REASONS, SUPPORTED


class CheckLayers(ModelOptimizerPass):
    """Afterwards: the graph goes from one input to one output, and has layers of classes that `hw.lower` knows."""

    def __init__(self) -> None:
        super().__init__("check_layers", check)


def check(model: Any) -> bool:
    """Raise `DesignError` naming the first layer of the `ModelGraph` that is not supported."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise DesignError(
            f"the network has inputs {model.inputs} and outputs {model.outputs}; accepted: one input and one output"
        )
    for node in model.graph.values():
        rule = RULES.get(node.class_name)
        reason = "is not supported" if rule is None else rule(node)
        if reason is not None:
            raise DesignError(f"layer '{node.name}' ({label(node)}) {reason}; supported: {SUPPORTED}")
    return False


def _any(_: Any) -> None:
    return None


def _conv(node: Any) -> str | None:
    if node.get_attr("n_dim") != 2:
        return f"has {node.get_attr('n_dim')} spatial dimension(s)"
    if node.get_attr("group") != 1:
        return f"has {node.get_attr('group')} groups"
    dilation = (node.get_attr("dilation_height"), node.get_attr("dilation_width"))
    if dilation != (1, 1):
        return f"has dilation {dilation}"
    return _constant_operands(node, "weights and bias")


def _matmul(node: Any) -> str | None:
    return _constant_operands(node, "weights")


def _constant_operands(node: Any, what: str) -> str | None:
    for name in node.inputs[1:]:
        source = node.get_input_node(name)
        if source is None or not constant(source):
            return f"has {what} that are computed at run time"
    return None


def _merge(node: Any) -> str | None:
    if str(node.get_attr("op")).lower() != "add":
        return f"with operation '{node.get_attr('op')}' is not supported"
    return None


def _activation(node: Any) -> str | None:
    return None if str(node.get_attr("activation")).lower() in ("relu", "linear") else "is not supported"


def _pooling(node: Any) -> str | None:
    if node.get_attr("pool_op") != "Max":
        return "is not supported"
    size = (node.get_attr("pool_height"), node.get_attr("pool_width"))
    stride = (node.get_attr("stride_height"), node.get_attr("stride_width"))
    pads = [node.get_attr(f"pad_{side}") for side in ("top", "bottom", "left", "right")]
    if size[0] != size[1] or size != stride or any(pads):
        return f"has windows of {size}, strides {stride} and padding {pads}"
    return None


def _softmax(node: Any) -> str | None:
    return None if not node.get_output_nodes() else "is not the last layer"


def _batch_norm(_: Any) -> str:
    return REASONS["BatchNormalization"]


RULES: dict[str, Callable[[Any], str | None]] = {
    "Input": _any,
    "Constant": _any,
    "Quant": _any,  # its parameters: read_quantisers
    "Conv": _conv,
    "MatMul": _matmul,
    "Merge": _merge,
    "Activation": _activation,
    "Pooling2D": _pooling,
    "Reshape": _any,
    "Transpose": _any,
    "BatchNormOnnx": _batch_norm,
    "Softmax": _softmax,
}
"""Class of `ModelGraph` node to a rule that gives the reason of a refusal, or None."""
