"""The order of a chain's filters: any permutation computes the same function, some are fetched in fewer words.

The channels of a layer's records lie in the order of the filters that made them, and bus words hold several channels.
Where filters that fire together lie together, the words that a frame needs are few and side by side.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sw.gate import trained_predictor
from sw.models import require_chain

Network = TypeVar("Network", bound=nn.Sequential)


def reordered(model: Network, orders: Mapping[str, NDArray[np.int64]]) -> Network:
    """A copy of the chain `model` in which filter i of layer `name` is what was its filter ``orders[name][i]``.

    Layers are Conv2d (with BatchNorm2d or not) and Linear, the last of which keeps its order. Values and integers are
    unchanged, and so is the answer, but for the order in which sums are rounded. ValueError names a layer whose order
    is no permutation of its filters, or that is not there.
    """
    require_chain(model, "reordering")
    result = copy.deepcopy(model)
    layers = dict(result.named_children())
    weighted = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    unknown = [name for name in orders if name not in weighted[:-1]]
    if unknown:
        raise ValueError(f"order of '{unknown[0]}'; layers that have one: {', '.join(weighted[:-1])}")
    before: torch.Tensor | None = None  # order of the channels that the next layer reads
    with torch.no_grad():
        for name, layer in layers.items():
            if isinstance(layer, nn.BatchNorm2d) and before is not None:
                for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    assert values is not None
                    values.copy_(values[before])
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            weight, predictor = layer.weight, trained_predictor(layer)
            if before is not None:
                if predictor is not None:
                    predictor.weights.copy_(predictor.weights[before])
                    predictor.mean.copy_(predictor.mean[before])
                channels = weight.reshape(len(weight), len(before), -1)  # of a dense layer, channel-major
                weight.copy_(channels[:, before].reshape(weight.shape))
            if name not in orders:
                before = None
                continue
            before = torch.tensor(orders[name])
            if not torch.equal(before.sort().values, torch.arange(len(weight))):
                raise ValueError(f"layer '{name}': its order is no permutation of 0 to {len(weight) - 1}")
            weight.copy_(weight[before])
            if predictor is not None:
                predictor.weights.copy_(predictor.weights[:, before])
                predictor.bias.copy_(predictor.bias[before])
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[before])
    return result
