"""Which ONNX operators are supported, and why others are not: what the checks read, and the table in the manual.

python -m hw.support > docs/reference/layers.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hw.design import MAX_KERNEL, MAX_LAYER_BITS


@dataclass(frozen=True)
class Operator:
    """An operator that converts: what is `accepted` of it, what it `becomes`, and what of it is `refused`.

    `summary` is a few words about what is accepted, for error messages; operators without one are left out there.
    """

    name: str
    accepted: str
    becomes: str
    refused: str = ""
    summary: str | None = None


@dataclass(frozen=True)
class Refusal:
    """An operator that is refused, and the `reason`, which the error tells."""

    name: str
    reason: str


OPERATORS: tuple[Operator, ...] = (
    Operator(
        "Quant",
        f"round half to even, scales that are powers of two, zero point 0; activations and weights of 2 to "
        f"{MAX_LAYER_BITS} bits (weights per tensor or per output channel), biases of up to 32",
        "formats and shifts of the layer it belongs to",
        "other scales, zero points and roundings; narrow range of activations; two different ones in a row",
        "powers of two",
    ),
    Operator("IntQuant", "as Quant", "as Quant"),
    Operator(
        "Conv",
        f"one or two dimensions, kernels up to {MAX_KERNEL} x {MAX_KERNEL}, stride 1 or 2 (the same both ways), "
        "padding on each side up to the kernel's 'same'; constant weights",
        "a head stage or a layer of the engine, lazy if wanted; in groups or depthwise: a convolution of one group "
        "whose other weights are zero, exact, with a warning that it takes as many times the multiplications",
        "dilation, auto_pad, weights computed at run time",
        "2-D or 1-D, no dilation",
    ),
    Operator(
        "Gemm",
        "constant weights",
        "a layer of the engine, lazy if wanted",
        "two inputs computed at run time",
        "constant weights",
    ),
    Operator("MatMul", "as Gemm", "as Gemm", "as Gemm", "constant weights"),
    Operator(
        "Add",
        "a constant, right after Conv or MatMul; two branches of the same shape, at most one of them not quantised: "
        "accumulators of a Conv with stride 1 and 'same' padding, whose scale is not coarser than the other's",
        "the layer's bias; a residual, added in the drain. Of two quantised maps: a convolution with a diagonal of "
        "2-bit weights that adds. Layers where branches begin or end are dense, on the engine; others may be lazy",
        "two branches that are not quantised; lazy layers where branches begin or end, or in the head",
        "of a constant bias, or of two branches",
    ),
    Operator(
        "Concat",
        "of channels, of maps that are quantised alike",
        "a sum: each map is spread to its channels by a 1x1 convolution with ones, which adds what was spread before; "
        "exact, at the cost of those multiplications. Layers in the branches may be lazy, a branch's last one if the "
        "join alone reads it",
        "other axes, vectors, maps of different scale, width or sign",
        "of channels",
    ),
    Operator("Relu", "after Conv, Gemm or MatMul", "the lower bound of the layer's saturation", summary=""),
    Operator(
        "MaxPool",
        "2 x 2 or 4 x 4 with the same stride, no padding, after Conv",
        "a part of the layer before it",
        "other windows and strides, padding, ceil_mode, pooling of the network's input, one dimension",
        "2 x 2 or 4 x 4 with the same stride",
    ),
    Operator(
        "AveragePool",
        "windows of 2, 4, 8 ... values (a power of two), no padding; before a quantiser up to "
        f"{MAX_KERNEL} x {MAX_KERNEL} with stride 1 or 2, else the whole map",
        "a convolution with a diagonal of 2-bit weights, or, where it averages the whole map and a dense layer reads "
        "it unquantised, a part of that layer's weights",
        "other numbers of values, padding",
        "over a power of two of values",
    ),
    Operator("GlobalAveragePool", "maps of a power of two of pixels", "as AveragePool", "other maps", ""),
    Operator("ReduceMean", "over rows and columns, as GlobalAveragePool", "as AveragePool", "other axes"),
    Operator("Pad", "zeros around rows and columns, before one Conv", "that layer's padding", "other values and modes"),
    Operator(
        "Softmax",
        "as the last layer",
        "nothing: logits leave, whose order is the same; a warning says so",
        "inside a network",
        "as the last layer",
    ),
    Operator("Flatten", "anywhere", "the order of the next dense layer's weights", summary=""),
    Operator("Reshape", "before a dense layer, or the shape stays", "as Flatten", summary=""),
    Operator("Squeeze", "behind a global average", "as Flatten"),
    Operator("Transpose", "of the input to channels last, or before a dense layer", "as Flatten", "else", ""),
    Operator("Identity", "anywhere", "nothing"),
    Operator("Dropout", "anywhere", "nothing"),
    Operator("Constant", "weights, biases, parameters of the above", "numbers of the layer"),
)

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "BatchNormalization",
        "cannot be folded exactly into quantised weights: merge it before quantisation (brevitas.nn.utils.merge_bn)",
    ),
    Refusal("Split", "takes a map apart: accepted are branches that read all of it"),
    Refusal("ConvTranspose", "is not supported: maps grow nowhere in the accelerator"),
    Refusal("Resize", "is not supported: maps grow nowhere in the accelerator"),
    Refusal("Upsample", "is not supported: maps grow nowhere in the accelerator"),
    Refusal("Sigmoid", "is not supported: activations are ReLU or none, both exact in integers"),
    Refusal("Tanh", "is not supported: activations are ReLU or none, both exact in integers"),
    Refusal("LeakyRelu", "is not supported: activations are ReLU or none, both exact in integers"),
    Refusal("PRelu", "is not supported: activations are ReLU or none, both exact in integers"),
    Refusal("HardSwish", "is not supported: activations are ReLU or none, both exact in integers"),
    Refusal("Mul", "scales activations at run time: fold it into weights before quantisation"),
    Refusal("Div", "scales activations at run time: fold it into weights before quantisation"),
    Refusal("LSTM", "is not supported: recurrent layers keep state between steps, frames share none"),
    Refusal("GRU", "is not supported: recurrent layers keep state between steps, frames share none"),
    Refusal("Trunc", "rounds towards zero or minus infinity: accepted is Quant, half to even"),
    Refusal("BipolarQuant", "has 1 bit: accepted are 2 to 8, signed or unsigned"),
)

SUPPORTED = ", ".join(
    f"{operator.name} ({operator.summary})" if operator.summary else operator.name
    for operator in OPERATORS
    if operator.summary is not None
)
"""What converts, in a line, for error messages."""

REASONS = {refusal.name: refusal.reason for refusal in REFUSALS}
NAMES = frozenset(operator.name for operator in OPERATORS)


def refused(operator: str) -> str | None:
    """Why nodes of type `operator` are refused; None if they are accepted."""
    return None if operator in NAMES else REASONS.get(operator, "is not supported")


def table() -> str:
    """The page of the manual."""
    lines = [
        "# Layers",
        "",
        "Made from `hw/support.py` by `python -m hw.support`; the checks of the converter read the same table, and",
        "`tests/test_layers.py` builds a network for every line. A network goes from one input to one output, in a",
        "chain or with branches that sums join. What is not accepted is refused with the layer's name, never",
        "approximated.",
        "",
        "| ONNX operator | accepted | becomes | refused |",
        "|---|---|---|---|",
        *(f"| `{o.name}` | {o.accepted} | {o.becomes} | {o.refused} |" for o in OPERATORS),
        "",
        "## Refused",
        "",
        "| ONNX operator | why it is refused |",
        "|---|---|",
        *(f"| `{r.name}` | {r.reason} |" for r in REFUSALS),
        "| any other | is not supported |",
        "",
        "`io_type='io_parallel'` is refused too: frames stream through the accelerator pixel by pixel, and weights",
        "come from memory, so there is no fully parallel form.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
