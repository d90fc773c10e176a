"""A design as a QONNX network, for a witness that shares no arithmetic with our models: qonnx executes it.

Scales are powers of two, so that what the network computes in floating point is exact as long as every sum fits the 24
bits of a float32. Which filters of a layer are computed is an input of the network: a mask for every frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from hw.design import BoolArray, Conv, Design, IntArray, IntFormat, Layer

EXACT = 1 << 24
QUANT = "qonnx.custom_op.general"


def exact(design: Design) -> bool:
    """Whether no sum of `design` exceeds what a float32 holds exactly, whatever the frame."""
    return all(_largest(layer) < EXACT for layer in design.layers)


def _largest(layer: Layer) -> int:
    sums = np.abs(layer.weights).reshape(layer.filters, -1).sum(axis=1) * layer.input_format.magnitude
    sums = sums + np.abs(layer.bias)
    if layer.residual is not None:
        sums = sums + (layer.residual.format.magnitude << layer.residual_shift)
    return int(sums.max())


@dataclass
class _Graph:
    nodes: list[NodeProto] = field(default_factory=list)
    inputs: list[tuple[str, list[int]]] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def node(self, kind: str, sources: list[str], result: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, sources, [result], domain=domain, name=result, **attributes))
        return result

    def constant(self, name: str, values: object) -> str:
        self.constants[name] = np.asarray(values, np.float32)
        return name

    def quant(self, source: str, number: IntFormat, scale: object, result: str) -> str:
        """QONNX's Quant node: to the nearest number of that format, ties to even, saturating."""
        constants = {"scale": scale, "zero": 0.0, "bits": number.bits}
        names = [self.constant(f"{result}_{name}", value) for name, value in constants.items()]
        options = {"signed": int(number.signed), "narrow": 0, "rounding_mode": "ROUND"}
        return self.node("Quant", [source, *names], result, QUANT, **options)


def network(design: Design, frames: int) -> ModelProto:
    """The network for batches of `frames` frames: input `frames` (n, c, h, w), a mask (n, filters, 1, 1) per layer."""
    graph = _Graph()
    shape = design.input
    graph.inputs.append(("frames", [frames, shape.channels, shape.height, shape.width]))
    number = design.input_format
    tensors = [graph.quant("frames", number, 2.0**number.exponent, "input")]
    names = {layer.name: index + 1 for index, layer in enumerate(design.layers)}
    for layer, source in zip(design.layers, design.sources, strict=True):
        added = None if layer.residual is None else tensors[names[layer.residual.layer]]
        tensors.append(_layer(graph, layer, frames, tensors[source + 1], added))
    output = helper.make_tensor_value_info(tensors[-1], TensorProto.FLOAT, [frames, design.outputs, 1, 1])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in graph.inputs]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    made = helper.make_graph(graph.nodes, design.name, inputs, [output], constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QUANT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def _layer(graph: _Graph, layer: Layer, frames: int, source: str, added: str | None) -> str:
    """Weights quantised per filter, sum, ReLU where the output has no sign, quantisation, pool and mask."""
    name = layer.name
    unit = np.full(layer.filters, 2.0**layer.input_format.exponent)  # of the sums
    if layer.shift is not None:
        unit = 2.0 ** (layer.output_format.exponent - layer.shift)
    scale = unit / 2.0**layer.input_format.exponent
    flat = not isinstance(layer, Conv)
    weights = layer.weights.reshape(layer.filters, -1) if flat else layer.weights
    scales = scale.reshape(-1, *[1] * (weights.ndim - 1))
    constant = graph.constant(f"{name}_float", weights * scales)
    quantised = graph.quant(constant, IntFormat(layer.weight_bits, True, 0), scales, f"{name}_weights")
    bias = graph.constant(f"{name}_bias", layer.bias * unit)
    if not isinstance(layer, Conv):
        source = graph.node("Flatten", [source], f"{name}_flat", axis=1)
        result = graph.node("Gemm", [source, quantised, bias], f"{name}_product", transB=1)
        size = f"{name}_size"
        graph.constants[size] = np.array([frames, layer.filters, 1, 1], np.int64)
        result = graph.node("Reshape", [result, size], f"{name}_sums")
    else:
        top, bottom, left, right = layer.padding
        pads, strides = [top, left, bottom, right], [layer.stride] * 2
        kernel = list(layer.kernel)
        result = graph.node(
            "Conv", [source, quantised, bias], f"{name}_sums", kernel_shape=kernel, pads=pads, strides=strides
        )
    if added is not None:
        result = graph.node("Add", [result, added], f"{name}_sum")
    if layer.shift is not None:
        number = layer.output_format
        if not number.signed:
            result = graph.node("Relu", [result], f"{name}_relu")
        result = graph.quant(result, number, 2.0**number.exponent, f"{name}_out")
    if layer.pool_size > 1:
        size_of = [layer.pool_size] * 2
        result = graph.node("MaxPool", [result], f"{name}_pool", kernel_shape=size_of, strides=size_of)
    mask = f"{name}_mask"
    graph.inputs.append((mask, [frames, layer.filters, 1, 1]))
    return graph.node("Mul", [result, mask], f"{name}_masked")


def answers(design: Design, frames: IntArray, chosen: Mapping[str, BoolArray]) -> IntArray:
    """What the network answers to integer `frames` (n, c, h, w): (n, outputs) in units of the last layer's sums.

    `chosen` (n, filters) are the filters that a layer computes, by its name; all, if it is not named.
    """
    number, last = design.input_format, design.layers[-1]
    inputs = {"frames": (frames * 2.0**number.exponent).astype(np.float32)}
    for layer in design.layers:
        mask = chosen.get(layer.name, np.ones((len(frames), layer.filters), np.bool_))
        inputs[f"{layer.name}_mask"] = mask[:, :, None, None].astype(np.float32)
    model = ModelWrapper(network(design, len(frames))).transform(InferShapes())
    (result,) = execute_onnx(model, inputs).values()
    integers: IntArray = np.ldexp(result.reshape(len(frames), -1).astype(np.float64), -last.input_format.exponent)
    found = integers.astype(np.int64)
    assert (found == integers).all(), "an answer is no integer of the sums' scale"
    return found
