"""Quantise weights and biases once and for all."""

from __future__ import annotations

from typing import Any

import numpy as np
from hls4ml.model.optimizer import OptimizerPass

from hw.design import DesignError, IntArray
from hw.graph import constant, describe, role
from hw.quantisers import ConstantQuantizer, FloatArray, exponents_of


class FoldConstants(OptimizerPass):
    """Afterwards: no constant is followed by a `Quant`; its value lies on the grid, which a `ConstantQuantizer` tells.

    hls4ml's own folding knows one scale per tensor; this one knows scales per filter too, and never changes a value
    silently: weights that are not finite are refused.
    """

    def match(self, node: Any) -> bool:
        """Match a quantiser whose input is a constant."""
        return node.class_name == "Quant" and len(node.inputs) == 1 and constant(node)

    def transform(self, model: Any, node: Any) -> bool:
        """Quantise the constant and remove the `Quant`."""
        source = node.get_input_node(node.inputs[0])
        value = np.asarray(source.get_attr("value"), np.float64)
        what = describe(node)
        if not np.isfinite(value).all():
            bad = value[~np.isfinite(value)]
            raise DesignError(f"{what} is given {bad.size} values that are not finite, the first is {bad[0]}")
        scale: FloatArray = node.get_attr("scale")
        bits = node.get_attr("bitwidth")
        high = (1 << (bits - 1)) - 1
        low = -high - int(not node.get_attr("narrow"))
        source.set_attr("value", np.clip(np.rint(value / scale), low, high) * scale)
        quantizer = ConstantQuantizer(bits, _per_filter(node, what, scale, value.shape))
        source.set_attr("quantizer", quantizer)
        source.get_output_variable().type.precision = quantizer.hls_type
        model.remove_node(node)
        return True


def _per_filter(node: Any, what: str, scale: FloatArray, shape: tuple[int, ...]) -> IntArray:
    """Exponents of the scales: (1,) if there is one, else one per filter; other layouts are refused."""
    exponents = exponents_of(scale)
    assert exponents is not None, "read_quantisers has checked the scales"
    if np.unique(exponents).size == 1:
        return exponents.reshape(-1)[:1]
    user = next(iter(node.get_output_nodes()))
    axis = 0 if user.class_name == "Conv" and role(node) == "weights" else len(shape) - 1
    table = np.moveaxis(np.broadcast_to(exponents, shape), axis, 0).reshape(shape[axis], -1)
    if (table != table[:, :1]).any():
        raise DesignError(f"{what} has scales of shape {scale.shape}; accepted: one scale, or one per output channel")
    return table[:, 0].copy()
