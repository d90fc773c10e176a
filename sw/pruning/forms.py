"""A network's layers in matrix form, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sw.models import require_chain

FLOAT_BYTES = 4
INDEX_BYTES = 4

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Form:
    """A layer with weights as its matrix: `shape` (filters, channels, kh, kw), applied at `windows` positions.

    `stored` is the shape of its weight tensor.
    """

    name: str
    shape: Shape
    windows: int
    stored: tuple[int, ...]

    @property
    def weights(self) -> int:
        """Elements of the matrix."""
        filters, channels, height, width = self.shape
        return filters * channels * height * width


def weighted(model: nn.Sequential) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers with weights, in order."""
    return {name: layer for name, layer in model.named_children() if isinstance(layer, nn.Conv2d | nn.Linear)}


def forms(model: nn.Sequential, frame: tuple[int, int, int]) -> dict[str, Form]:
    """The layers with weights for frames of shape `frame` (c, h, w); ValueError names a layer that has no such form."""
    require_chain(model, "pruning")
    found: dict[str, Form] = {}
    map_size = (1, 1)  # of the map that was flattened last
    parameter = next(model.parameters())
    values = torch.zeros(1, *frame, dtype=parameter.dtype)
    training = model.training
    model.eval()
    with torch.no_grad():
        for name, layer in model.named_children():
            if isinstance(layer, nn.Flatten) and values.ndim == 4:
                map_size = (int(values.shape[2]), int(values.shape[3]))
            values = layer(values)
            if isinstance(layer, nn.Conv2d):
                if layer.groups != 1:
                    raise ValueError(f"layer '{name}' has {layer.groups} groups; accepted: 1")
                filters, channels, height, width = layer.weight.shape
                shape = (filters, channels, height, width)
                found[name] = Form(name, shape, int(values.shape[2] * values.shape[3]), tuple(layer.weight.shape))
            elif isinstance(layer, nn.Linear):
                height, width = map_size
                shape = (layer.out_features, layer.in_features // (height * width), height, width)
                found[name] = Form(name, shape, 1, tuple(layer.weight.shape))
                map_size = (1, 1)
    model.train(training)
    if not found:
        raise ValueError("the network has no layer with weights; accepted: Conv2d and Linear")
    return found


def matrix(form: Form, weight: Tensor) -> Tensor:
    """A weight tensor as (filters, channels, kh, kw)."""
    return weight.reshape(form.shape)


@dataclass(frozen=True)
class Cost:
    """What a network with masks costs.

    `parameters`: weights that are kept, and biases. `macs`: multiplications per frame with kept weights. `dense`,
    `sparse`, `in_matrix_form`: bytes of its arrays as float32, all weights stored; kept ones in compressed rows
    (CSR, with 32-bit indices); kept rows and columns, with a 32-bit index for each column.
    """

    parameters: int
    macs: int
    dense: int
    sparse: int
    in_matrix_form: int


def closed(layers: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Masks of a chain of layers, without weights that can make no difference.

    A filter without weights is a channel that the next layer need not read, and a channel that the next layer does not
    read needs no filter. The last layer keeps its rows.
    """
    masks = [mask for _, mask in layers]
    for index in range(1, len(masks)):
        fed = masks[index - 1].flatten(1).any(dim=1)
        masks[index] = masks[index] & fed[None, :, None, None]
    for index in range(len(masks) - 2, -1, -1):
        read = masks[index + 1].any(dim=0).flatten(1).any(dim=1)
        masks[index] = masks[index] & read[:, None, None, None]
    return {name: mask for (name, _), mask in zip(layers, masks, strict=True)}


def cost(layers: Mapping[str, Form], masks: Mapping[str, Tensor], biases: bool = True) -> Cost:
    """The cost of the chain `layers` with only the weights in `masks` (all of them where a layer has none)."""
    parameters = macs = dense = sparse = in_form = 0
    full = [
        (name, masks[name] if name in masks else torch.ones(x.shape, dtype=torch.bool)) for name, x in layers.items()
    ]
    for name, mask in closed(full).items():
        form = layers[name]
        kept, rows = int(mask.sum()), int(mask.flatten(1).any(dim=1).sum())
        columns = int(mask.any(dim=0).sum())
        bias = rows if biases else 0
        parameters += kept + bias
        macs += kept * form.windows
        dense += FLOAT_BYTES * (form.weights + (form.shape[0] if biases else 0))
        sparse += FLOAT_BYTES * (kept + bias) + INDEX_BYTES * (kept + form.shape[0] + 1)
        in_form += FLOAT_BYTES * (rows * columns + bias) + INDEX_BYTES * columns
    return Cost(parameters, macs, dense, sparse, in_form)
