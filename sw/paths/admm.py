"""Distilling the path of one class by ADMM: a network of two outputs that keeps few weights in few filters.

The network gets a head of two outputs, the rest and the class. Then, in rounds: with the convolutions frozen, the head
is trained; the other layers are trained towards a bound on how many weights and filters are not zero (ADMM), and what
lies beyond the bound is removed.

- Boyd et al., "Distributed optimization and statistical learning via ADMM" (2011), section 9.1: cardinality
- Zhang et al., "A systematic DNN weight pruning framework using alternating direction method of multipliers" (2018)
- Yu, Qin, Chen, "Distilling critical paths in convolutional neural networks" (2018): the task
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.paths.watch import frozen, split
from sw.pruning.forms import closed, forms, weighted
from sw.pruning.masks import Masks, apply, held, strongest
from sw.train import batches, deterministic

CLASS = 1
"""The output of the class; 0 is that of the rest."""


@dataclass(frozen=True)
class AdmmConfig:
    """`weights` and `filters` are the shares of each layer that are removed in the end, in `rounds` of rising shares.

    A round is `epochs` of training with ADMM, with the multipliers updated after each, and `head_epochs` of the head
    alone. Only `layers` are trained and pruned, all by default; what lies before the first of them runs once.
    `penalty` is rho, `rate` the learning rate of Adam for the layers, `head_rate` that of the head.
    """

    weights: float
    filters: float
    rounds: int = 2
    epochs: int = 3
    head_epochs: int = 10
    penalty: float = 1e-2
    rate: float = 3e-4
    head_rate: float = 1e-3
    batch: int = 64
    seed: int = 1
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weights < 1 or not 0 <= self.filters < 1:
            raise ValueError(f"weights {self.weights}, filters {self.filters}; accepted: shares from 0 to below 1")
        if min(self.rounds, self.epochs, self.batch) < 1 or self.head_epochs < 0:
            raise ValueError(f"{self}: a round, an epoch and a frame at least")
        if not (self.penalty > 0 and self.rate > 0 and self.head_rate > 0):
            raise ValueError(f"{self}: penalty and rates must be positive")


# -- one class and the rest --------------------------------------------------------------------------------------------
def two_way(model: nn.Sequential, cls: int) -> nn.Sequential:
    """A copy of `model` with two outputs: the mean of the other classes' logits, and the logit of `cls`.

    ValueError if the last layer is no linear one with that class.
    """
    name, head = list(model.named_children())[-1]
    if not isinstance(head, nn.Linear) or not 0 <= cls < head.out_features:
        raise ValueError(f"last layer '{name}' has no class {cls}; accepted: a linear layer, one output for each class")
    result = copy.deepcopy(model)
    two = nn.Linear(head.in_features, 2).to(head.weight)
    others = [other for other in range(head.out_features) if other != cls]
    with torch.no_grad():
        two.weight.copy_(torch.stack([head.weight[others].mean(dim=0), head.weight[cls]]))
        bias = torch.zeros(head.out_features) if head.bias is None else head.bias
        two.bias.copy_(torch.stack([bias[others].mean(), bias[cls]]))
    result[-1] = two
    return result.eval()


def fit_head(model: nn.Sequential, x: Tensor, positive: Tensor, config: AdmmConfig) -> None:
    """Train the last layer in place, on frames `x` (n, c, h, w) that are of the class where `positive` (n,) is True.

    Or as far as it is near 1: a float `positive` is the probability that a frame is of the class, such as the one that
    the whole network gives. The other layers are frozen, and run once.
    """
    with deterministic(config.seed):
        body, head, target = model.eval()[:-1], model[-1], _shares(positive, x)
        with torch.no_grad():
            features = torch.cat([body(some) for some in batches(x, 256)])
        optimiser = torch.optim.Adam(head.parameters(), config.head_rate)
        for _ in range(config.head_epochs):
            for some in batches(torch.randperm(len(x)), config.batch):
                loss = functional.cross_entropy(head(features[some]), target[some])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()


def _shares(positive: Tensor, x: Tensor) -> Tensor:
    """Probabilities (n, 2) of the rest and the class, in the type of `x`."""
    share = positive.to(x.dtype)
    return torch.stack([1 - share, share], dim=1)


# -- ADMM --------------------------------------------------------------------------------------------------------------
def projected(weight: Tensor, weights: int, filters: int) -> Tensor:
    """The mask of what stays of `weight` (filters, ...): the largest `weights` within the `filters` of largest norm.

    Times the mask, it is the nearest point with at most so many rows, and of those rows' the nearest with at most so
    many weights.
    """
    rows = strongest((weight**2).flatten(1).sum(dim=1), filters)
    inside = torch.where(rows.reshape(-1, *[1] * (weight.ndim - 1)), weight.abs(), -torch.inf)
    return strongest(inside, weights) & inside.isfinite()


def _bounds(weight: Tensor, config: AdmmConfig, part: float) -> tuple[int, int]:
    """How many weights and filters stay after the share `part` of the rounds: shares that stay fall geometrically."""
    weights = max(1, round(weight.numel() * (1 - config.weights) ** part))
    return weights, max(1, round(len(weight) * (1 - config.filters) ** part))


def compress(model: nn.Sequential, x: Tensor, positive: Tensor, config: AdmmConfig) -> Masks:
    """Prune `model`, which has two outputs, in place; returns the masks of its layers but the last.

    `x` and `positive` as in `fit_head`.

    In a round, W minimises cross entropy + rho/2 |W - Z + U|**2 by Adam; after each epoch Z is W + U within its bounds
    (`projected`), and U grows by W - Z (Zhang et al. 2018, eq. 5 to 8). Weights that a round removed stay zero.
    """
    names = list(weighted(model))[:-1]
    layers = {name: layer for name, layer in weighted(model).items() if name in (config.layers or names)}
    if not layers or list(weighted(model))[-1] in layers or len(layers) != len(config.layers or names):
        raise ValueError(f"layers {config.layers}; accepted: some of {', '.join(names)}")
    head, tail = split(model, list(layers))
    assert isinstance(tail, nn.Sequential)
    with frozen(model), torch.no_grad():
        x = torch.cat([head(some) for some in batches(x, 256)])
    trained = [*layers.values(), *(m for m in tail if isinstance(m, nn.BatchNorm2d)), tail[-1]]
    masks = {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in layers.items()}
    target = _shares(positive, x)
    for number in range(1, config.rounds + 1):
        bounds = {name: _bounds(layer.weight, config, number / config.rounds) for name, layer in layers.items()}
        with held(tail, _in_form(masks, tail)), deterministic(config.seed + number):
            near = {name: _nearest(layer.weight.detach(), bounds[name]) for name, layer in layers.items()}
            dual = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
            optimiser = torch.optim.Adam([p for module in trained for p in module.parameters()], config.rate)
            tail.eval()  # normalisation keeps its statistics
            for _ in range(config.epochs):
                for some in batches(torch.randperm(len(x)), config.batch):
                    loss = functional.cross_entropy(tail(x[some]), target[some])
                    for name, layer in layers.items():
                        distance = ((layer.weight - near[name] + dual[name]) ** 2).sum()
                        loss = loss + config.penalty / 2 * distance
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                for name, layer in layers.items():
                    moved = layer.weight.detach() + dual[name]
                    near[name] = _nearest(moved, bounds[name])
                    dual[name] = moved - near[name]
        masks = {name: projected(layer.weight.detach(), *bounds[name]) for name, layer in layers.items()}
        apply(tail, _in_form(masks, tail))
        fit_head(tail, x, positive, config)
    return _in_form(masks, tail)


def _nearest(weight: Tensor, bounds: tuple[int, int]) -> Tensor:
    return weight * projected(weight, *bounds)


def _in_form(masks: Mapping[str, Tensor], model: nn.Sequential) -> Masks:
    """Masks as (filters, channels, kh, kw); a dense layer has a channel for each filter of the layer before it."""
    found, channels = {}, 0
    for name, layer in weighted(model).items():
        if name in masks:
            shape = (len(layer.weight), channels or layer.weight.shape[1], -1, 1)
            found[name] = masks[name] if masks[name].ndim == 4 else masks[name].reshape(shape)
        channels = len(layer.weight)
    return found


# -- the whole of it ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Distillation:
    """Networks of two outputs: `before` with all weights and a trained head, `after` ADMM."""

    before: nn.Sequential
    after: nn.Sequential


def distil(
    model: nn.Sequential, x: Tensor, y: Tensor, cls: int, config: AdmmConfig, start: nn.Sequential | None = None
) -> Distillation:
    """Distil the path of class `cls` on frames `x` (n, c, h, w) of classes `y` (n,).

    ADMM starts from `start`, such as `cut.distilled` of a critical path, or from `model` itself.
    """
    positive = y == cls
    before, after = two_way(model, cls), two_way(start or model, cls).requires_grad_(True)
    fit_head(before, x, positive, config)
    fit_head(after, x, positive, config)
    compress(after, x, positive, config)
    return Distillation(before, after)


@dataclass(frozen=True)
class Sparsity:
    """Shares of a network's weights (of all layers but the last) and of its whole filters that are gone."""

    weights: float
    filters: float


def sparsity(full: nn.Sequential, left: nn.Sequential, frame: tuple[int, int, int]) -> Sparsity:
    """What of `full`, for frames of shape `frame`, is gone in `left`, which may be physically smaller.

    Weights that can make no difference, because their filter's output is not read, or because what they read is
    always zero, are gone; so is a filter without weights.
    """
    layers = weighted(left)
    chain = [(name, layers[name].weight.detach().reshape(form.shape) != 0) for name, form in forms(left, frame).items()]
    masks = list(closed(chain).values())[:-1]
    shapes = [form.shape for form in forms(full, frame).values()][:-1]
    kept_weights = sum(int(mask.sum()) for mask in masks)
    kept_filters = sum(int(mask.flatten(1).any(dim=1).sum()) for mask in masks)
    weights, filters = sum(math.prod(shape) for shape in shapes), sum(shape[0] for shape in shapes)
    return Sparsity(1 - kept_weights / weights, 1 - kept_filters / filters)


def accuracy(model: nn.Sequential, x: Tensor, positive: Tensor) -> float:
    """Share of frames `x` (n, c, h, w) that a network of two outputs puts on the right side; `positive` is (n,)."""
    with frozen(model), torch.no_grad():
        found = torch.cat([model(some) for some in batches(x, 256)]).argmax(dim=1)
    return float((found == positive.long()).double().mean())
