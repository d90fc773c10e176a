"""Read the parameters of every QONNX quantiser, and refuse those that integers cannot follow exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from hls4ml.model.optimizer import ModelOptimizerPass

from hw.design import MAX_LAYER_BITS, DesignError
from hw.graph import constant, describe, role
from hw.quantisers import FloatArray, exponents_of

MAX_BIAS_BITS = 32
PARAMETERS = ("scale", "zeropt", "bitwidth")


class ReadQuantisers(ModelOptimizerPass):
    """Afterwards: a `Quant` has one input, and attributes `scale` (array), `zeropt` (zeros), `bitwidth` (int).

    Scales are powers of two, an activation's is a single one; zero points are 0; rounding is half to even; widths are
    2 to 8 bits, those of a bias 2 to 32.
    """

    def __init__(self) -> None:
        super().__init__("read_quantisers", read)


def read(model: Any) -> bool:
    """Turn the constant parameters of every `Quant` node of the `ModelGraph` into checked attributes."""
    used: dict[str, Any] = {}
    for node in [node for node in model.graph.values() if node.class_name == "Quant"]:
        who = describe(node)
        for name, parameter in zip(PARAMETERS, node.inputs[1:], strict=True):
            source = node.get_input_node(parameter)
            if source is None or source.class_name != "Constant":
                raise DesignError(f"{who}: its {name} is computed at run time; accepted: a constant")
            node.set_attr(name, np.asarray(source.get_attr("value"), np.float64))
            used[source.name] = source
        _check(node, who)
        node.inputs = node.inputs[:1]
    for source in used.values():
        if not source.get_output_nodes():
            model.remove_node(source)
    return bool(used)


def _check(node: Any, who: str) -> None:
    scale: FloatArray = node.get_attr("scale")
    if exponents_of(scale) is None:
        bad = next(value for value in scale.flat if exponents_of(value) is None)
        raise DesignError(f"{who} has scale {bad:.9g}; accepted: powers of two")
    if not constant(node):
        if np.unique(scale).size != 1:
            raise DesignError(f"{who} has {np.unique(scale).size} different scales; accepted: one scale per activation")
        node.set_attr("scale", np.array([scale.flat[0]]))
    zero = node.get_attr("zeropt")
    if (zero != 0).any():
        raise DesignError(f"{who} has zero point {zero[zero != 0][0]:g}; accepted: 0")
    width: FloatArray = node.get_attr("bitwidth")
    high = MAX_BIAS_BITS if constant(node) and role(node) == "bias" else MAX_LAYER_BITS
    if width.size != 1 or width.flat[0] != np.floor(width.flat[0]) or not 2 <= width.flat[0] <= high:
        found = ", ".join(f"{value:g}" for value in np.unique(width))
        raise DesignError(f"{who} has {found} bits; accepted: 2 to {high}")
    node.set_attr("bitwidth", int(width.flat[0]))
    if node.get_attr("rounding_mode") != "ROUND":
        raise DesignError(f"{who} rounds by '{node.get_attr('rounding_mode')}'; accepted: ROUND (half to even)")
    if node.get_attr("narrow") and not node.get_attr("signed"):
        raise DesignError(f"{who} is narrow and unsigned; accepted: narrow range for signed numbers only")
    if constant(node) and not node.get_attr("signed"):
        raise DesignError(f"{who} is unsigned; accepted: signed")
