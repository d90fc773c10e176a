"""Refuse what cannot be lowered while layers still have the names their author gave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hw.design import DesignError

SUPPORTED = (
    "Conv (2-D, one group, no dilation), MatMul and Gemm with constant weights, Add of a constant bias, Relu, Quant, "
    "MaxPool (2 x 2 or 4 x 4 with the same stride), Flatten, Reshape, Transpose"
)

BATCH_NORM = (
    "cannot be folded exactly into quantised weights: merge it before quantisation (brevitas.nn.utils.merge_bn)"
)


class CheckLayers(ModelOptimizerPass):
    """Afterwards: the graph is one chain from one input to one output, of layer classes that `hw.lower` knows."""

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
        if not constant(node):
            users = [user.name for name in node.outputs for user in node.get_output_nodes(name)]
            if len(users) > 1:
                raise DesignError(
                    f"layer '{node.name}' ({label(node)}) feeds {', '.join(map(repr, users))}; "
                    "accepted: a chain of layers without branches"
                )
    return False


def label(node: Any) -> str:
    """The layer's class as its author knows it."""
    if node.class_name == "Activation":
        return str(node.get_attr("activation"))
    return str(node.get_attr("class_name", node.class_name))


def constant(node: Any) -> bool:
    """Whether the node's value is known at conversion: a constant, or a constant that is quantised."""
    if node.class_name == "Constant":
        return True
    if node.class_name != "Quant":
        return False
    source = node.get_input_node(node.inputs[0])
    return source is not None and constant(source)


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
    sources = [node.get_input_node(name) for name in node.inputs]
    if not any(source is not None and constant(source) for source in sources):
        return "adds two branches"
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


def _batch_norm(_: Any) -> str:
    return BATCH_NORM


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
}
"""Class of `ModelGraph` node to a rule that gives the reason of a refusal, or None."""
