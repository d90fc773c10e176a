"""A small network for every kind of layer and its parameters: what converts, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.quant import Uint8ActPerTensorFixedPoint
from torch import nn

from tests.brevitas_nets import QUANTISED, Net, conv, identity, linear, relu


def conv1d(channels: int, filters: int, kernel: int, **options: Any) -> nn.Module:
    return qnn.QuantConv1d(channels, filters, kernel, **(QUANTISED | {"return_quant_tensor": True} | options))


def plain_relu(**options: Any) -> nn.Module:
    """A quantised ReLU whose values the next layer of torch's own takes."""
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, return_quant_tensor=False, **options)


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True)


class Ordered(nn.Module):
    """Only the order of what a dense layer reads."""

    def forward(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Case:
    """One network: the ONNX `operators` that it is there for, and the parameters that vary."""

    layer: str
    parameters: dict[str, str | int]
    net: Callable[[], Net]
    operators: tuple[str, ...] = ()
    same_order: bool = False  # answers are monotone in the network's, not equal (softmax)
    tags: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """For test ids and tables."""
        return " ".join([self.layer, *(f"{key}={value}" for key, value in self.parameters.items())])


def _conv2d(kernel: tuple[int, int], stride: int, padding: tuple[int, int], size: tuple[int, int] = (9, 8)) -> Net:
    rows, columns = ((n + 2 * p - k) // stride + 1 for n, k, p in zip(size, kernel, padding, strict=True))
    return Net(
        identity(),
        conv(2, 3, kernel, stride=stride, padding=padding),
        relu(),
        nn.Flatten(),
        linear(3 * rows * columns, 3),
        shape=(2, *size),
    )


def _convolutions() -> list[Case]:
    grid = [((k, k), s, (p, p)) for k in range(1, 8) for s in (1, 2) for p in sorted({0, (k - 1) // 2})]
    grid += [((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0)), ((5, 2), 1, (2, 0)), ((1, 3), 2, (0, 1)), ((2, 7), 2, (0, 3))]
    return [
        Case(
            "Conv2D",
            {"kernel": f"{k[0]}x{k[1]}", "stride": s, "padding": f"{p[0]},{p[1]}"},
            lambda k=k, s=s, p=p: _conv2d(k, s, p),  # type: ignore[misc]
            ("Conv", "Gemm", "Quant", "Relu", "Flatten"),
            tags=("rtl",) if (k, s) in (((7, 7), 2), ((2, 2), 1), ((1, 3), 2)) else (),
        )
        for k, s, p in grid
    ]


def _conv1d(kernel: int, stride: int, padding: int) -> Net:
    width = (12 + 2 * padding - kernel) // stride + 1
    return Net(
        identity(),
        conv1d(2, 4, kernel, stride=stride, padding=padding),
        relu(),
        nn.Flatten(),
        linear(4 * width, 3),
        shape=(2, 12),
    )


def _pooled(pool: nn.Module, size: int, activation: Callable[..., nn.Module] = relu) -> Net:
    return Net(
        identity(),
        conv(1, 3, padding=1),
        activation(),
        pool,
        *([] if isinstance(pool, nn.MaxPool2d) else [relu(bit_width=7)]),
        nn.Flatten(),
        linear(3 * size * size, 3),
        shape=(1, 8, 8),
    )


def _global(pool: nn.Module) -> Net:
    return Net(
        identity(),
        conv(1, 4, padding=1),
        plain_relu(),
        pool,
        nn.Flatten(),
        linear(4, 3, bias=False, bias_quant=None),
        shape=(1, 8, 4),
    )


def _grouped(groups: int) -> Net:
    return Net(
        identity(),
        conv(4, 8, groups=groups, padding=1),
        relu(),
        conv(8, 5, 1),
        relu(),
        nn.Flatten(),
        linear(5 * 16, 3),
        shape=(4, 4, 4),
    )


class ResidualBlock(nn.Module):
    """Two convolutions and a sum of their accumulators and what comes around them.

    `around`: a 1 x 1 convolution is on that way. `quantised`: the sum is of two quantised maps.
    """

    def __init__(
        self, channels: int, filters: int, *, stride: int = 1, around: bool = False, quantised: bool = False
    ) -> None:
        super().__init__()
        self.first, self.relu = conv(channels, filters, stride=stride, padding=1), relu()
        self.second = conv(filters, filters, padding=1, return_quant_tensor=False)
        self.quant = identity() if quantised else None
        self.around = conv(channels, filters, 1, stride=stride, return_quant_tensor=False) if around else None
        self.around_quant = identity()

    def forward(self, x: Any) -> Any:
        """What no quantiser has followed is a plain tensor: quantised ones can only be summed at equal scales."""
        y = self.second(self.relu(self.first(x)))
        if self.quant is not None:
            y = self.quant(y).value
        return y + (x if self.around is None else self.around_quant(self.around(x))).value


def residual(**options: Any) -> Net:
    """One residual block between two other layers."""
    size = 8 // options.get("stride", 1)
    return Net(
        *(identity(), conv(2, 4, padding=1), relu()),
        *(ResidualBlock(4, 4, **options), relu(), nn.Flatten(), linear(4 * size * size, 3)),
        shape=(2, 8, 8),
    )


class Branches(nn.Module):
    """Convolutions of one input whose maps, quantised alike, are joined as channels; with `trunk` the input as well.

    `quantised`: a quantiser follows the join.
    """

    def __init__(
        self, channels: int, *filters: int, trunk: bool = False, quantised: bool = False, axis: int = 1
    ) -> None:
        super().__init__()
        self.ways = nn.ModuleList(conv(channels, n, 2 * i + 1, padding=i) for i, n in enumerate(filters))
        self.quant, self.trunk, self.axis = relu(), trunk, axis
        self.behind = relu(bit_width=6) if quantised else nn.Identity()

    def forward(self, x: Any) -> Any:
        if self.trunk:
            x = self.quant(x)
        maps = [self.quant(way(x)) for way in self.ways]
        return self.behind(torch.cat([*maps, *([x] if self.trunk else [])], dim=self.axis))


class Joined(nn.Module):
    """A join of the accumulators of two convolutions, or of what two quantisers make of them."""

    def __init__(self, quantised: bool = False) -> None:
        super().__init__()
        self.left, self.right = (conv(1, 2, return_quant_tensor=False) for _ in range(2))
        quants = (plain_relu(), plain_relu(bit_width=5)) if quantised else (nn.Identity(), nn.Identity())
        self.quants = nn.ModuleList(quants)

    def forward(self, x: Any) -> Any:
        ways = zip(self.quants, (self.left, self.right), strict=True)
        return torch.cat([quant(way(x)) for quant, way in ways], dim=1)


def branches(*filters: int, pool: bool = False, **options: Any) -> Net:
    """A join of branches between two convolutions."""
    channels = sum(filters) + (4 if options.get("trunk") else 0)
    first = (identity(), conv(2, 4, padding=1), *(() if options.get("trunk") else (relu(),)))
    size = 3 if pool else 6
    return Net(
        *first,
        Branches(4, *filters, **options),
        *((nn.MaxPool2d(2),) if pool else ()),
        *(conv(channels, 3, padding=1), relu(), nn.Flatten(), linear(3 * size * size, 3)),
        shape=(2, 6, 6),
    )


def input_around() -> Net:
    """A block that adds the network's input, then pooling."""
    layers = (ResidualBlock(2, 2), relu(), nn.MaxPool2d(2), nn.Flatten(), linear(8, 3))
    return Net(identity(), *layers, shape=(2, 4, 4))


class TwoOpen(nn.Module):
    """A sum of the accumulators of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (conv(1, 2, return_quant_tensor=False) for _ in range(2))

    def forward(self, x: Any) -> Any:
        return self.left(x) + self.right(x)


class Early(nn.Module):
    """A branch that begins between a convolution and its quantiser."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(1, 2, return_quant_tensor=False)
        self.left, self.right = relu(), identity()

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        return self.left(y).value + self.right(y).value


def jet_tagging(bits: int = 6) -> Net:
    """16-64-32-32-5, as hls4ml's jet tagging examples."""
    return Net(
        identity(),
        linear(16, 64, weight_bit_width=bits, return_quant_tensor=True),
        relu(bit_width=bits),
        linear(64, 32, weight_bit_width=bits, return_quant_tensor=True),
        relu(bit_width=bits),
        linear(32, 32, weight_bit_width=bits, return_quant_tensor=True),
        relu(bit_width=bits),
        linear(32, 5, weight_bit_width=bits),
        nn.Softmax(dim=1),
        shape=(16,),
    )


ACCEPTED: tuple[Case, ...] = (
    *_convolutions(),
    *(
        Case("Conv1D", {"kernel": k, "stride": s, "padding": p}, lambda k=k, s=s, p=p: _conv1d(k, s, p))  # type: ignore[misc]
        for k, s, p in ((1, 1, 0), (3, 1, 1), (5, 2, 2), (7, 1, 0))
    ),
    *(
        Case("MaxPool2D", {"size": n}, lambda n=n: _pooled(nn.MaxPool2d(n), 8 // n), ("MaxPool",))  # type: ignore[misc]
        for n in (2, 4)
    ),
    Case(
        "AveragePool2D", {"size": 2}, lambda: _pooled(nn.AvgPool2d(2), 4, plain_relu), ("AveragePool",), tags=("rtl",)
    ),
    Case(
        "AveragePool2D", {"size": 4, "stride": 2}, lambda: _pooled(nn.AvgPool2d(4, 2), 3, plain_relu), ("AveragePool",)
    ),
    Case(
        "GlobalAveragePool",
        {"before": "Dense"},
        lambda: _global(nn.AdaptiveAvgPool2d(1)),
        ("GlobalAveragePool", "MatMul"),
        tags=("rtl",),
    ),
    Case("GlobalAveragePool", {"as": "ReduceMean"}, lambda: _global(Mean()), ("ReduceMean",)),
    Case("Add", {"around": "nothing"}, residual, ("Add",), tags=("rtl",)),
    Case("Add", {"around": "Conv", "stride": 2}, lambda: residual(around=True, stride=2), ("Add",)),
    Case("Add", {"of": "two quantised maps"}, lambda: residual(quantised=True), ("Add",)),
    Case("Add", {"around": "nothing", "of": "the input"}, input_around, ("Add",)),
    Case("Concat", {"branches": 2}, lambda: branches(3, 5), ("Concat",), tags=("rtl",)),
    Case("Concat", {"branches": 3, "behind": "Quant"}, lambda: branches(3, 2, 4, quantised=True), ("Concat",)),
    Case("Concat", {"branches": 2, "behind": "MaxPool"}, lambda: branches(3, 5, pool=True), ("Concat",)),
    Case("Concat", {"branches": 1, "with": "what they read"}, lambda: branches(3, trunk=True), ("Concat",)),
    *(
        Case("Conv2D", {"groups": g}, lambda g=g: _grouped(g), ("Conv",), tags=("rtl",) if g == 4 else ())  # type: ignore[misc]
        for g in (2, 4)
    ),
    Case(
        "ZeroPadding",
        {"left": 1, "right": 0, "top": 1, "bottom": 1},
        lambda: Net(
            identity(),
            nn.ZeroPad2d((1, 0, 1, 1)),
            conv(2, 3),
            relu(),
            nn.Flatten(),
            linear(3 * 4 * 3, 3),
            shape=(2, 4, 4),
        ),
        ("Pad",),
    ),
    Case(
        "ZeroPadding",
        {"left": 1, "behind": "AveragePool"},
        lambda: Net(
            *(identity(), nn.ZeroPad2d((1, 0, 1, 1)), conv(1, 2), plain_relu()),
            *(nn.AvgPool2d(2), relu(bit_width=7), nn.Flatten(), linear(2 * 4 * 4, 3)),
            shape=(1, 8, 9),
        ),
        ("Pad", "AveragePool"),
    ),
    Case(
        "ZeroPadding",
        {"left": 1, "behind": "Concat"},
        lambda: Net(
            *(identity(), nn.ZeroPad2d((1, 0, 1, 1)), conv(2, 4), relu()),
            *(Branches(4, 3, 2), conv(5, 3), relu(), nn.Flatten(), linear(3 * 4 * 3, 3)),
            shape=(2, 6, 6),
        ),
        ("Pad", "Concat"),
    ),
    Case(
        "Transpose",
        {"before": "Dense"},
        lambda: Net(
            identity(),
            conv(2, 3),
            plain_relu(),
            Ordered(),
            nn.Flatten(),
            linear(12, 3, bias=False, bias_quant=None),
            shape=(2, 4, 4),
        ),
        ("Transpose",),
    ),
    Case(
        "Dense",
        {"shape": "16-64-32-32-5", "bits": 6, "last": "Softmax"},
        jet_tagging,
        ("Softmax", "Gemm"),
        True,
        ("rtl",),
    ),
)


def _one(*layers: nn.Module, size: int = 4) -> Callable[[], Net]:
    return lambda: Net(identity(), conv(1, 2), *layers, nn.Flatten(), shape=(1, size, size))


REFUSED: dict[str, tuple[Callable[[], Net], str]] = {
    "Sigmoid": (_one(nn.Sigmoid(), identity()), "layer 'Sigmoid_0' (Sigmoid) is not supported: activations are ReLU"),
    "Tanh": (_one(nn.Tanh(), identity()), "layer 'Tanh_0' (Tanh) is not supported: activations are ReLU"),
    "LeakyRelu": (_one(nn.LeakyReLU(), identity()), "layer 'LeakyRelu_0' (LeakyRelu) is not supported"),
    "BatchNormalization": (
        _one(nn.BatchNorm2d(2), identity()),
        "layer 'BatchNormalization_0' (BatchNormalization) cannot be folded exactly",
    ),
    "ConvTranspose": (
        lambda: Net(identity(), nn.ConvTranspose2d(1, 1, 2), identity(), nn.Flatten(), shape=(1, 3, 3)),
        "layer 'ConvTranspose_0' (ConvTranspose) is not supported: maps grow nowhere",
    ),
    "AveragePool": (
        lambda: _pooled(nn.AvgPool2d(3), 2, plain_relu),
        "layer 'AveragePool_0' (AveragePool) averages 3 x 3 values; accepted: a number that is a power of two",
    ),
    "AveragePool before a quantiser": (
        lambda: _pooled(nn.AvgPool2d(8), 1, plain_relu),
        "layer 'AveragePool_0' (AveragePool) averages 8 x 8 values with stride 1 before a quantiser",
    ),
    "GlobalAveragePool": (
        lambda: Net(
            identity(),
            conv(1, 2),
            plain_relu(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            linear(2, 2, bias=False, bias_quant=None),
            shape=(1, 8, 8),
        ),
        "layer 'GlobalAveragePool_0' (GlobalAveragePool) averages 6 x 6 values",
    ),
    "Pad": (
        lambda: Net(identity(), nn.ConstantPad2d(1, 1.0), conv(1, 2), nn.Flatten(), shape=(1, 4, 4)),
        "layer 'Pad_0' (Pad) with mode constant",
    ),
    "Softmax": (
        lambda: Net(identity(), linear(4, 4), nn.Softmax(dim=1), identity(), linear(4, 2), shape=(4,)),
        "layer 'Softmax_0' (Softmax) is not the last layer",
    ),
    "Concat": (
        lambda: Net(identity(), Branches(1, 2, 2, axis=2), nn.Flatten(), linear(64, 2), shape=(1, 4, 4)),
        "layer 'Concat_0' (Concat) joins [[1, 2, 4, 4], [1, 2, 4, 4]] along axis 2; accepted: the channels (axis 1)",
    ),
    "Concat of what is not quantised": (
        lambda: Net(identity(), Joined(), relu(), nn.Flatten(), linear(16, 2), shape=(1, 4, 4)),
        "layer 'Concat_0' (Concat) joins what 'Conv_0' (Conv) leaves, which is not quantised",
    ),
    "Concat of different scales": (
        lambda: Net(identity(), Joined(quantised=True), relu(), nn.Flatten(), linear(16, 2), shape=(1, 4, 4)),
        "(Concat) joins what 'Quant_",
    ),
    "Add": (
        lambda: Net(identity(), TwoOpen(), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        "layer 'Add_0' adds two maps that are not quantised, of 'Conv_0' and 'Conv_1'",
    ),
    "Add of what is not quantised": (
        lambda: Net(identity(), Early(), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4)),
        "changes what 'Conv_0' leaves, which other layers read as it is; accepted: branches behind the quantiser",
    ),
    "MaxPool": (
        lambda: Net(identity(), conv1d(1, 2, 3), relu(), nn.MaxPool1d(2), nn.Flatten(), linear(4, 2), shape=(1, 6)),
        "layer 'MaxPool_0' (MaxPool) in a network of one dimension",
    ),
}
