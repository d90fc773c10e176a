"""A network of layers in order, quantised with Brevitas: integers of 2 to 8 bits, every scale a constant power of two.

There is one quantiser for weights, one for activations and one for biases. Scales are constants that calibration
chooses (`quant.train.calibrate`) and that never move again: what is trained, exported and executed shares them.
An integer ``q`` of a tensor stands for the value ``q * 2**exponent``.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import ScalingImplType
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint
from brevitas.quant.fixed_point import Uint8ActPerTensorFixedPoint as Uint8Act
from brevitas.quant.scaled_int import Int24Bias
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sw.gate import trained_predictor
from sw.models import Branched, branches
from sw.predictors import LinearPredictor, rounded
from sw.train import batches

INPUT = "input"  # name of the layer that quantises the network's input


class QuantError(ValueError):
    """A network that cannot be quantised; the message names the layer, what was found and what is accepted."""


MOST_EXPONENT = 60  # of a scale, either way: integers times it are exact in float32, and so are their products


@dataclass(frozen=True)
class Format:
    """Integers of `bits` bits; `exponent` is that of the scale, ``2**exponent``."""

    bits: int
    signed: bool
    exponent: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise QuantError(f"format of {self.bits} bits; accepted: 2 to 8")
        if not -MOST_EXPONENT <= self.exponent <= MOST_EXPONENT:
            raise QuantError(
                f"format with a scale of 2**{self.exponent}; accepted: exponents from {-MOST_EXPONENT} to "
                f"{MOST_EXPONENT}"
            )

    @property
    def scale(self) -> float:
        """What the integer 1 stands for."""
        return 2.0**self.exponent

    @property
    def high(self) -> int:
        """The largest integer."""
        return int((1 << (self.bits - int(self.signed))) - 1)

    @property
    def threshold(self) -> float:
        """The power of two just above the largest value: what Brevitas derives the scale from."""
        return float(self.high + 1) * self.scale

    @staticmethod
    def holding(largest: float, bits: int, signed: bool) -> Format:
        """The finest format that holds values up to +-`largest` (zero counts as one)."""
        if not 0 <= largest < float("inf"):
            raise QuantError(f"a largest magnitude of {largest}; accepted: finite numbers")
        high = (1 << (bits - int(signed))) - 1
        return Format(bits, signed, ceil(log2((largest or 1.0) / high)))


class _ConstantScale(ExtendedInjector):
    """Scale = `scaling_init` / 2**(bits without sign), given per layer; already a power of two."""

    scaling_impl_type = ScalingImplType.CONST


class PowerOfTwoWeight(_ConstantScale, Int8WeightPerTensorFixedPoint):
    """Signed weights per tensor, without the most negative integer; rounds half to even, saturates."""


class PowerOfTwoUnsigned(_ConstantScale, Uint8Act):
    """Unsigned activations per tensor; rounds half to even, saturates."""


class PowerOfTwoSigned(_ConstantScale, Int8ActPerTensorFixedPoint):
    """Signed activations per tensor; rounds half to even, saturates."""


# Biases: signed 24 bits at the accumulator's scale (input scale x weight scale). 24 bits stay exact in float32;
# 16 would clip biases of a few units, because that scale is about 2**-15.
AccumulatorBias = Int24Bias
BIAS_BITS = 24

ACCEPTED = "Conv2d (zero padding as numbers, no groups, no dilation), ReLU, Identity, MaxPool2d, Flatten, Linear"


class QuantNetwork(Branched):
    """The quantised twin of an `nn.Sequential`, as `quantised` builds it, with its branches.

    Its layers keep their names; a first one, `input`, quantises the frames. `formats` gives the format of `input`'s,
    every ReLU's and every Identity's output, and of every layer's weights, by layer name. The last layer leaves exact
    accumulators.
    """

    def __init__(
        self,
        layers: OrderedDict[str, nn.Module],
        formats: Mapping[str, Format],
        reads: Mapping[str, str],
        adds: Mapping[str, str],
    ) -> None:
        super().__init__(layers, reads, adds)
        self.formats = dict(formats)

    def join(self, values: Any, added: Any) -> Any:
        """The sum of accumulators and of quantised values; exact, and at no common scale."""
        return values + added.value

    @property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers with weights, in order."""
        return tuple(name for name, layer in self.named_children() if isinstance(layer, nn.Conv2d | nn.Linear))

    @property
    def accumulator_exponent(self) -> int:
        """Exponent of the scale of the logits."""
        return self.accumulator_exponent_of(self.weighted[-1])

    def accumulator_exponent_of(self, name: str) -> int:
        """Exponent of the scale of layer `name`'s accumulators and bias: its input's plus that of its weights."""
        return self._accumulator_exponents()[name]

    def integers(self, name: str) -> tuple[Tensor, Tensor]:
        """Weights, in torch's shape, and bias (filters,) at accumulator scale, of layer `name`; both int64."""
        layer = self.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        weights = layer.quant_weight()  # type: ignore[operator]  # Brevitas' layers are torch's with methods added
        scale, high = 2.0 ** self.accumulator_exponent_of(name), (1 << (BIAS_BITS - 1)) - 1
        bias = (layer.bias.detach().double() / scale).round().clamp(-high - 1, high)
        return to_integers(weights.value, self.formats[name].exponent, name), bias.to(torch.int64)

    def predictor(self, name: str) -> LinearPredictor | None:
        """The integer predictor of layer `name` that was trained with it (see `sw.gate`), if one was.

        One whose training ended before it began (`sw.gate.FIRST_FITTED` batches) is none.
        """
        trained = trained_predictor(self.get_submodule(name))
        if trained is None or not trained.started:
            return None
        unit = 2.0 ** (self.accumulator_exponent_of(name) - self.formats[name].exponent)  # of its input's integers
        mean, weights, bias = (x.detach().double().numpy() for x in (trained.mean, trained.weights, trained.bias))
        return rounded(weights * unit / float(trained.scale), mean / unit, bias)

    def _accumulator_exponents(self) -> dict[str, int]:
        """Per layer with weights, the exponent of its input's scale plus that of its weights'."""
        exponents: dict[str, int] = {}
        source, given = self.formats[INPUT].exponent, dict[str, int]()
        for name, layer in self.named_children():
            source = given[self.reads[name]] if name in self.reads else source
            if isinstance(layer, nn.Conv2d | nn.Linear):
                exponents[name] = source + self.formats[name].exponent
            elif name in self.formats:
                source = self.formats[name].exponent
            given[name] = source
        return exponents

    def integer_logits(self, frames: Tensor) -> Tensor:
        """The last layer's accumulators as int64 (n, classes), for float frames (n, c, h, w).

        Computed in float64, which holds every partial sum exactly, and in batches. In units of
        ``2**accumulator_exponent``.
        """
        network = self.double_precision()
        with torch.no_grad():
            logits = torch.cat([network(batch) for batch in batches(frames.double(), 256)])
        return to_integers(logits, self.accumulator_exponent, self.weighted[-1])

    def double_precision(self) -> QuantNetwork:
        """A copy in evaluation mode that computes in float64: the same integers, and no sum is ever rounded."""
        return copy.deepcopy(self).double().eval()


def to_integers(values: Tensor, exponent: int, name: str) -> Tensor:
    """``values / 2**exponent`` as int64; ArithmeticError, naming the layer, if they are not integers of that scale."""
    scaled = values.detach() * 2.0**-exponent
    if not torch.equal(scaled, scaled.round()):
        raise ArithmeticError(f"layer '{name}': values are not multiples of 2**{exponent}")
    return scaled.to(torch.int64)


def folded(model: nn.Sequential) -> nn.Sequential:
    """`model`, as it is in evaluation, without batch normalisation: folded into the convolution before it.

    An average, over the whole map, becomes a part of the dense layer behind it, whose weights are repeated for each
    pixel. A model without either is returned as it is. QuantError names a layer that follows, or precedes, another one.
    """
    if not any(isinstance(layer, nn.BatchNorm2d | nn.AvgPool2d) for layer in model):
        return model
    layers, name_of = OrderedDict[str, nn.Module](), dict[str, str]()
    last, average = "", ""
    for name, layer in model.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            before = layers.get(last)
            if not isinstance(before, nn.Conv2d):
                raise QuantError(f"layer '{name}' normalises what is no convolution's; accepted: after a Conv2d")
            layers[last] = fuse_conv_bn_eval(copy.deepcopy(before).eval(), copy.deepcopy(layer).eval())
        elif isinstance(layer, nn.AvgPool2d):
            average = name
        else:
            if average and not isinstance(layer, nn.Flatten):
                if not isinstance(layer, nn.Linear) or not isinstance(layers[last], nn.Flatten):
                    raise QuantError(f"layer '{average}' averages; accepted: the whole map, before Flatten and Linear")
                pool = model.get_submodule(average)
                assert isinstance(pool, nn.AvgPool2d)
                layer, average = _averaging(layer, pool), ""
            layers[name] = layer
            last = name
        name_of[name] = last
    reads, adds = ({name_of[a]: name_of[b] for a, b in pairs.items()} for pairs in branches(model))
    return Branched(layers, reads, adds) if reads or adds else nn.Sequential(layers)


def _averaging(layer: nn.Linear, pool: nn.AvgPool2d) -> nn.Linear:
    """`layer` for every pixel of the maps that `pool` would have averaged for it."""
    size = pool.kernel_size
    area = size * size if isinstance(size, int) else size[0] * size[1]
    wide = nn.Linear(layer.in_features * area, layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        wide.weight.copy_(layer.weight.repeat_interleave(area, dim=1) / area)
        if layer.bias is not None:
            wide.bias.copy_(layer.bias)
    return wide


def quantised(model: nn.Sequential, formats: Mapping[str, Format]) -> QuantNetwork:
    """The quantised twin of `model` with its weights, in the given `formats` (see `QuantNetwork`).

    Max-pooling follows the ReLU whose output it pools, so that it works on the activation's integers. QuantError
    names the layer that cannot be quantised.
    """
    layers = OrderedDict[str, nn.Module]({INPUT: _activation(qnn.QuantIdentity, _format(formats, INPUT))})
    previous: nn.Module | None = None
    for name, layer in model.named_children():
        match layer:
            case nn.Conv2d() | nn.Linear():
                if isinstance(previous, nn.Conv2d | nn.Linear):
                    raise QuantError(f"layer '{name}' follows a layer without ReLU; accepted: a ReLU in between")
                layers[name] = _twin(name, layer, _format(formats, name))
            case nn.ReLU():
                if not isinstance(previous, nn.Conv2d | nn.Linear):
                    raise QuantError(
                        f"layer '{name}' is a ReLU without weights before it; accepted: after Conv2d or Linear"
                    )
                layers[name] = _activation(qnn.QuantReLU, _format(formats, name))
            case nn.MaxPool2d():
                if isinstance(previous, nn.Conv2d):
                    raise QuantError(f"layer '{name}' pools accumulators; accepted: max-pooling after the ReLU")
                layers[name] = nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
            case nn.Identity():
                layers[name] = _activation(qnn.QuantIdentity, _format(formats, name))
            case nn.Flatten():
                layers[name] = nn.Flatten()
            case _:
                raise QuantError(f"layer '{name}' is a {type(layer).__name__}; accepted: {ACCEPTED}")
        previous = layer
    if not isinstance(previous, nn.Conv2d | nn.Linear):
        raise QuantError(f"the last layer is a {type(previous).__name__}; accepted: Conv2d or Linear")
    return QuantNetwork(layers, formats, *branches(model))


def _format(formats: Mapping[str, Format], name: str) -> Format:
    if name not in formats:
        raise QuantError(f"layer '{name}' has no format; formats are given for: {', '.join(formats)}")
    return formats[name]


def _activation(kind: type[nn.Module], target: Format) -> nn.Module:
    return kind(
        act_quant=PowerOfTwoSigned if target.signed else PowerOfTwoUnsigned,
        bit_width=target.bits,
        scaling_init=target.threshold,
        return_quant_tensor=True,
    )


def _twin(name: str, layer: nn.Conv2d | nn.Linear, weights: Format) -> nn.Module:
    """`layer` with quantised weights and bias; a missing bias becomes a zero one."""
    if not weights.signed:
        raise QuantError(f"layer '{name}': weights are unsigned; accepted: signed")
    quantisers = {
        "weight_quant": PowerOfTwoWeight,
        "weight_bit_width": weights.bits,
        "weight_scaling_init": weights.threshold,
        "bias_quant": AccumulatorBias,
    }
    twin: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Linear):
        twin = qnn.QuantLinear(layer.in_features, layer.out_features, bias=True, **quantisers)
    else:
        if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros" or layer.padding == "same":
            raise QuantError(f"layer '{name}' is {layer}; accepted: {ACCEPTED}")
        twin = qnn.QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            bias=True,
            **quantisers,
        )
    with torch.no_grad():
        twin.weight.copy_(layer.weight)
        assert twin.bias is not None
        twin.bias.copy_(torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias)
    return twin
