"""A quantised network in floating point again, for studies of what was kept only as integers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from quant.layers import INPUT, QuantNetwork
from sw.models import require_chain


def dequantised(network: QuantNetwork) -> nn.Sequential:
    """A plain network with the weights and biases of a quantised one; activations are not rounded."""
    require_chain(network, "a study from quantised weights")
    layers = OrderedDict[str, nn.Module]()
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weights, bias = network.integers(name)
            plain: nn.Conv2d | nn.Linear
            if isinstance(layer, nn.Conv2d):
                shape = layer.in_channels, layer.out_channels, layer.kernel_size
                plain = nn.Conv2d(*shape, layer.stride, layer.padding)  # type: ignore[arg-type]
            else:
                plain = nn.Linear(layer.in_features, layer.out_features)
            with torch.no_grad():
                plain.weight.copy_(weights * network.formats[name].scale)
                plain.bias.copy_(bias * 2.0 ** network.accumulator_exponent_of(name))  # type: ignore[union-attr]
            layers[name] = plain
        elif name != INPUT:
            layers[name] = nn.ReLU() if name in network.formats else layer
    return nn.Sequential(layers).eval()
