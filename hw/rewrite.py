"""Rewrites of QONNX networks, before hls4ml sees them: layers that are another supported layer, exactly.

Each takes a cleaned network with channels first and changes it in place; none changes a value. What cannot be rewritten
exactly is refused with the layer's name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from hw.design import MAX_KERNEL, DesignError

ONLY_ORDER = ("Flatten", "Reshape", "Squeeze")  # between a global average and the dense layer that reads it
QUANT_DOMAIN = "qonnx.custom_op.general"


def rewrite(wrapper: ModelWrapper) -> bool:
    """Apply all rewrites; whether anything has changed. Raises `DesignError` naming the layer."""
    changed = False
    for one in REWRITES:
        if one(wrapper):
            changed = True
            wrapper.model = wrapper.transform(InferShapes()).model  # for those behind it
    return changed


# -- one dimension -----------------------------------------------------------------------------------------------------
def one_dimensional(wrapper: ModelWrapper) -> bool:
    """A network of (channels, width) frames becomes one of (channels, 1, width); its convolutions get a row."""
    source = wrapper.graph.input[0]
    shape = wrapper.get_tensor_shape(source.name) or []
    if len(shape) != 3:
        return False
    for node in wrapper.graph.node:
        if node.op_type in ("MaxPool", "Transpose"):
            raise DesignError(
                f"layer '{node.name}' ({node.op_type}) in a network of one dimension; accepted there: Conv (with a "
                "stride where a pool would be), AveragePool, Relu, Quant, Flatten, Reshape, MatMul, Gemm"
            )
        if node.op_type == "Conv":
            _each_weight(wrapper, node, lambda array: np.expand_dims(array, 2) if array.ndim == 3 else array)
        if node.op_type in ("Conv", "AveragePool"):
            given = _attributes(node)
            stride = _list(given.get("strides"), [1])[0]
            left, right = _list(given.get("pads"), [0, 0])
            found = {"strides": [stride, stride], "pads": [0, left, 0, right]}
            for name in ("kernel_shape", "dilations"):
                if name in given:
                    found[name] = [1, *_list(given[name], [])]
            _set(node, found)
        if node.op_type == "ReduceMean":
            raise DesignError(f"layer '{node.name}' (ReduceMean) in a network of one dimension; accepted: AveragePool")
    _forget_shapes(wrapper)
    size = source.type.tensor_type.shape.dim
    del size[:]
    for value in (*shape[:2], 1, shape[2]):
        size.add().dim_value = value
    return True


# -- padding -----------------------------------------------------------------------------------------------------------
def padding(wrapper: ModelWrapper) -> bool:
    """A Pad with zeros becomes padding of the convolution behind it."""
    pads = wrapper.get_nodes_by_op_type("Pad")
    for node in pads:
        given = _attributes(node)
        amounts = list(given["pads"]) if "pads" in given else _constant(wrapper, node, 1) or []
        value = _constant(wrapper, node, 2) if len(node.input) > 2 and node.input[2] else [given.get("value", 0.0)]
        users = wrapper.find_direct_successors(node) or []
        mode = given.get("mode", b"constant")
        spatial = [int(amount) for amount in (*amounts[2:4], *amounts[6:8])]
        if (
            mode != b"constant"
            or len(amounts) != 8
            or any(amounts[i] for i in (0, 1, 4, 5))
            or value is None
            or any(value)
            or min(spatial) < 0
            or len(users) != 1
            or users[0].op_type != "Conv"
        ):
            raise DesignError(
                f"layer '{node.name}' (Pad) with mode {mode.decode()}, pads {amounts} and value {value}, before "
                f"{', '.join(user.op_type for user in users) or 'nothing'}; accepted: zeros around rows and columns "
                "before one Conv"
            )
        own = _list(_attributes(users[0]).get("pads"), [0, 0, 0, 0])
        _set(users[0], {"pads": [a + b for a, b in zip(own, spatial, strict=True)]})
        users[0].input[0] = node.input[0]
        wrapper.graph.node.remove(node)
        _forget_shapes(wrapper)
    return bool(pads)


# -- groups ------------------------------------------------------------------------------------------------------------
def groups(wrapper: ModelWrapper) -> bool:
    """A convolution in groups, a depthwise one too, becomes one of a single group whose other weights are zero."""
    found = [node for node in wrapper.get_nodes_by_op_type("Conv") if _attributes(node).get("group", 1) != 1]
    for node in found:
        number = int(_attributes(node)["group"])
        warnings.warn(
            f"layer '{node.name}' has {number} groups: it is computed as one group whose other weights are zero, which "
            f"is exact and takes {number} times the multiplications and weights",
            stacklevel=2,
        )

        def spread(array: NDArray[np.generic], number: int = number) -> NDArray[np.generic]:
            filters, channels = array.shape[:2]
            wide = np.zeros((filters, channels * number, *array.shape[2:]), array.dtype)
            for group in range(number):
                own = slice(group * filters // number, (group + 1) * filters // number)
                wide[own, group * channels : (group + 1) * channels] = array[own]
            return wide

        _weight(wrapper, node, spread)
        _set(node, {"group": 1})
    return bool(found)


# -- concatenation -----------------------------------------------------------------------------------------------------
def concatenations(wrapper: ModelWrapper) -> bool:
    """Concat of channels becomes a sum: each input is spread to its places among all channels, with zeros elsewhere.

    Spreading is a 1x1 convolution with ones; the first leaves its map in the format of the inputs, and each later one
    adds what those before it have left. A quantiser behind the Concat is the last one's.
    """
    found = wrapper.get_nodes_by_op_type("Concat")
    for node in found:
        shapes = [wrapper.get_tensor_shape(name) for name in node.input]
        if any(shape is None or len(shape) != 4 for shape in shapes) or int(_attributes(node)["axis"]) % 4 != 1:
            raise DesignError(
                f"layer '{node.name}' (Concat) joins {shapes} along axis {_attributes(node)['axis']}; accepted: the "
                "channels (axis 1) of maps (n, channels, h, w)"
            )
        quantisers = [_format_of(wrapper, node, name) for name in node.input]
        parameters = [_parameters(wrapper, quantiser) for quantiser in quantisers]
        if any(other != parameters[0] for other in parameters):
            raise DesignError(
                f"layer '{node.name}' (Concat) joins what {', '.join(repr(q.name) for q in quantisers)} quantise, with "
                f"{'; '.join(map(_said, parameters))}; accepted: the same scale, width and sign"
            )
        _concatenate(wrapper, node, [int(shape[1]) for shape in shapes if shape is not None], quantisers[0])
    if found:
        _forget_shapes(wrapper)
    return bool(found)


UNCHANGED = ("MaxPool", "Identity", "Dropout")  # what leaves the grid of a quantiser as it is


def _format_of(wrapper: ModelWrapper, node: NodeProto, name: str) -> NodeProto:
    """The quantiser whose values the tensor `name`, which `node` reads, holds."""
    producer = wrapper.find_producer(name)
    while producer is not None and producer.op_type in UNCHANGED:
        producer = wrapper.find_producer(producer.input[0])
    if producer is None or producer.op_type not in ("Quant", "IntQuant"):
        found = "the input" if producer is None else f"'{producer.name}' ({producer.op_type})"
        raise DesignError(
            f"layer '{node.name}' (Concat) joins what {found} leaves, which is not quantised; accepted: branches that "
            "end in quantisers"
        )
    return producer


def _parameters(wrapper: ModelWrapper, quantiser: NodeProto) -> tuple[object, ...]:
    """Scale, zero point and width of a quantiser, and its sign and rounding."""
    values = tuple(tuple(_constant(wrapper, quantiser, index) or ()) for index in (1, 2, 3))
    given = _attributes(quantiser)
    return (*values, *(given.get(name) for name in ("signed", "narrow", "rounding_mode")))


def _said(parameters: tuple[Any, ...]) -> str:
    scale, _, bits, signed, *_ = parameters
    return f"scale {scale}, {bits} bits, {'signed' if signed else 'unsigned'}"


def _concatenate(wrapper: ModelWrapper, node: NodeProto, channels: Sequence[int], quantiser: NodeProto) -> None:
    total, first, before = sum(channels), 0, ""
    made: list[NodeProto] = []
    open_ = _requantised(wrapper, node)
    for index, (given, count) in enumerate(zip(node.input, channels, strict=True)):
        weights = np.zeros((total, count, 1, 1), np.float32)
        weights[first + np.arange(count), np.arange(count)] = 1
        name, first, last = f"{node.name}_{index}", first + count, index == len(channels) - 1
        made += _ones(wrapper, name, given, f"{name}_spread", weights)
        result = f"{name}_spread"
        if before:
            made.append(helper.make_node("Add", [result, before], [f"{name}_sum"], name=f"{name}_add"))
            result = f"{name}_sum"
        if last and open_:
            made[-1].output[0] = node.output[0]
            continue
        quant = NodeProto()
        quant.CopyFrom(quantiser)
        quant.name, quant.input[0], quant.output[0] = f"{name}_requant", result, f"{name}_map"
        before = quant.output[0]
        made.append(quant)
        if last:
            quant.output[0] = node.output[0]
    place = list(wrapper.graph.node).index(node)
    wrapper.graph.node.remove(node)
    for offset, one in enumerate(made):
        wrapper.graph.node.insert(place + offset, one)


def _requantised(wrapper: ModelWrapper, node: NodeProto) -> bool:
    """Whether a quantiser follows `node`, and nothing else but a ReLU before it."""
    users = wrapper.find_direct_successors(node) or []
    if len(users) == 1 and users[0].op_type == "Relu":
        users = wrapper.find_direct_successors(users[0]) or []
    return len(users) == 1 and users[0].op_type in ("Quant", "IntQuant")


# -- averages ----------------------------------------------------------------------------------------------------------
def averages(wrapper: ModelWrapper) -> bool:
    """Average pooling over a power of two of values becomes weights.

    A global one that a dense layer reads unquantised joins that layer's weights; any other one becomes a convolution
    whose filter c adds up channel c, with weights of 2 bits.
    """
    kinds = ("AveragePool", "GlobalAveragePool", "ReduceMean")
    found = [node for node in wrapper.graph.node if node.op_type in kinds]
    for node in found:
        shape = wrapper.get_tensor_shape(node.input[0])
        if shape is None or len(shape) != 4:
            raise DesignError(f"layer '{node.name}' ({node.op_type}) reads {shape}; accepted: (n, channels, h, w)")
        kernel, stride = _window(wrapper, node, shape)
        area = kernel[0] * kernel[1]
        if area & (area - 1):
            raise DesignError(
                f"layer '{node.name}' ({node.op_type}) averages {kernel[0]} x {kernel[1]} values; accepted: a number "
                "that is a power of two, so that the average is a shift"
            )
        everything = tuple(kernel) == tuple(shape[2:])
        dense = _dense_behind(wrapper, node) if everything else None
        if dense is not None:
            _into_dense(wrapper, node, dense, area)
        else:
            _as_convolution(wrapper, node, int(shape[1]), kernel, 1 if everything else stride)
    return bool(found)


def _window(wrapper: ModelWrapper, node: NodeProto, shape: Sequence[int]) -> tuple[tuple[int, int], int]:
    """Kernel and stride of an average."""
    given = _attributes(node)
    if node.op_type == "GlobalAveragePool":
        return (int(shape[2]), int(shape[3])), 1
    if node.op_type == "ReduceMean":
        axes = _list(given.get("axes"), None) if "axes" in given else _constant(wrapper, node, 1)
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            raise DesignError(f"layer '{node.name}' (ReduceMean) over axes {axes}; accepted: rows and columns")
        return (int(shape[2]), int(shape[3])), 1
    kernel, strides = _list(given["kernel_shape"], []), _list(given.get("strides"), [1, 1])
    flat = kernel[0] == 1 and shape[2] == 1
    if any(_list(given.get("pads"), [0])) or (strides[0] != strides[1] and not flat):
        raise DesignError(
            f"layer '{node.name}' (AveragePool) has padding {_list(given.get('pads'), [0])} and strides {strides}; "
            "accepted: no padding, the same stride in both directions"
        )
    return (kernel[0], kernel[1]), strides[1]


def _dense_behind(wrapper: ModelWrapper, node: NodeProto) -> NodeProto | None:
    """The MatMul or Gemm that reads `node` with nothing but reordering in between."""
    while True:
        users = wrapper.find_direct_successors(node) or []
        if len(users) != 1:
            return None
        node = users[0]
        if node.op_type in ("MatMul", "Gemm"):
            return node
        if node.op_type not in ONLY_ORDER:
            return None


def _into_dense(wrapper: ModelWrapper, node: NodeProto, dense: NodeProto, area: int) -> None:
    """Let `dense` read the whole map: every weight is repeated for each of its `area` pixels, at 1 / `area`."""
    transposed = dense.op_type == "Gemm" and bool(_attributes(dense).get("transB", 0))
    axis = 1 if transposed else 0
    _weight(wrapper, dense, lambda array: np.repeat(array, area, axis) / np.float32(area), scale=1 / area)
    for between in list(wrapper.graph.node):
        if between.op_type in ONLY_ORDER and between.output[0] in dense.input:
            wrapper.graph.node.remove(between)
    flat = helper.make_node("Flatten", [node.input[0]], [f"{node.output[0]}_flat"], name=f"{node.name}_flat", axis=1)
    place = list(wrapper.graph.node).index(node)
    for between in [n for n in wrapper.graph.node if n.op_type in ONLY_ORDER and node.output[0] in n.input]:
        wrapper.graph.node.remove(between)
    wrapper.graph.node.remove(node)
    wrapper.graph.node.insert(place, flat)
    dense.input[0] = flat.output[0]
    _forget_shapes(wrapper)


def _as_convolution(
    wrapper: ModelWrapper, node: NodeProto, channels: int, kernel: tuple[int, int], stride: int
) -> None:
    """Replace the average by a convolution with a diagonal of ones, quantised to 2 bits at 1 / area."""
    if max(kernel) > MAX_KERNEL or stride > 2:
        raise DesignError(
            f"layer '{node.name}' ({node.op_type}) averages {kernel[0]} x {kernel[1]} values with stride {stride} "
            f"before a quantiser; accepted there: up to {MAX_KERNEL} x {MAX_KERNEL} with stride 1 or 2, or the whole "
            "map with a dense layer behind it and no quantiser in between"
        )
    weights = np.zeros((channels, channels, *kernel), np.float32)
    weights[np.arange(channels), np.arange(channels)] = 1 / math.prod(kernel)
    quant, convolution = _ones(wrapper, node.name, node.input[0], node.output[0], weights, stride)
    place = list(wrapper.graph.node).index(node)
    wrapper.graph.node.remove(node)
    wrapper.graph.node.insert(place, convolution)
    wrapper.graph.node.insert(place, quant)
    if len(wrapper.get_tensor_shape(convolution.output[0]) or (0,) * 4) != 4:  # ReduceMean that drops its axes
        raise DesignError(f"layer '{node.name}' drops rows and columns; accepted: keepdims, then Flatten")


def _ones(
    wrapper: ModelWrapper, name: str, given: str, result: str, weights: NDArray[np.float32], stride: int = 1
) -> list[NodeProto]:
    """Quantiser and convolution of constant `weights` of 2 bits that are 0 or their scale, without padding."""
    parameters = {"weight": weights, "scale": weights.max(), "zero": 0, "bits": 2}
    names = [f"{name}_{part}" for part in parameters]
    for part, value in zip(names, parameters.values(), strict=True):
        wrapper.set_initializer(part, np.asarray(value, np.float32))
    quant = helper.make_node(
        "Quant",
        names,
        [f"{name}_quantised"],
        name=f"{name}_quant",
        domain=QUANT_DOMAIN,
        signed=1,
        narrow=0,
        rounding_mode="ROUND",
    )
    convolution = helper.make_node(
        "Conv",
        [given, quant.output[0]],
        [result],
        name=name,
        kernel_shape=list(weights.shape[2:]),
        strides=[stride, stride],
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
        group=1,
    )
    return [quant, convolution]


REWRITES: tuple[Callable[[ModelWrapper], bool], ...] = (one_dimensional, padding, groups, concatenations, averages)


def _forget_shapes(wrapper: ModelWrapper) -> None:
    """Drop inferred shapes, which are to be inferred again; qonnx renames constants only if they have theirs."""
    constants = {tensor.name for tensor in wrapper.graph.initializer}
    for info in [info for info in wrapper.graph.value_info if info.name not in constants]:
        wrapper.graph.value_info.remove(info)


# -- helpers -----------------------------------------------------------------------------------------------------------
def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _list(value: Any, default: Any) -> Any:
    return default if value is None else [int(item) for item in value]


def _set(node: NodeProto, values: Mapping[str, object]) -> None:
    """Replace attributes."""
    for attribute in [attribute for attribute in node.attribute if attribute.name in values]:
        node.attribute.remove(attribute)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())


def _constant(wrapper: ModelWrapper, node: NodeProto, index: int) -> list[float] | None:
    """The values of a constant input."""
    if len(node.input) <= index:
        return None
    value = wrapper.get_initializer(node.input[index])
    return None if value is None else np.asarray(value).reshape(-1).tolist()


def _each_weight(
    wrapper: ModelWrapper, node: NodeProto, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """Apply `change` to the weights of `node` and to every parameter of their quantiser."""
    _weight(wrapper, node, change)
    quant = wrapper.find_producer(node.input[1])
    if quant is not None:
        for index in range(1, len(quant.input)):
            _replace(wrapper, quant, index, change)


def _weight(
    wrapper: ModelWrapper,
    node: NodeProto,
    change: Callable[[NDArray[np.generic]], NDArray[np.generic]],
    scale: float = 1.0,
) -> None:
    """Apply `change` to the constant weights of `node`, quantised or not; multiply their quantiser's scale."""
    quant = wrapper.find_producer(node.input[1])
    if quant is None:
        _replace(wrapper, node, 1, change)
        return
    if quant.op_type not in ("Quant", "IntQuant") or wrapper.get_initializer(quant.input[0]) is None:
        raise DesignError(f"layer '{node.name}' ({node.op_type}) has weights that are computed at run time")
    _replace(wrapper, quant, 0, change)
    if scale != 1.0:
        _replace(wrapper, quant, 1, lambda array: np.asarray(array, np.float32) * np.float32(scale))
    wrapper.set_tensor_shape(quant.output[0], wrapper.get_tensor_shape(quant.input[0]))


def _replace(
    wrapper: ModelWrapper, node: NodeProto, index: int, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """Let input `index` of `node` be a changed constant of its own (others may share the old one)."""
    value = wrapper.get_initializer(node.input[index])
    if value is None:
        raise DesignError(f"layer '{node.name}' ({node.op_type}) has weights that are computed at run time")
    before = node.input[index]
    node.input[index] = f"{node.name}_{index}_{before}"
    changed = change(np.asarray(value))
    wrapper.set_initializer(node.input[index], changed if changed.ndim == 0 else np.ascontiguousarray(changed))
    if not wrapper.find_consumers(before):
        wrapper.del_initializer(before)
