"""Practice for lazy inference: in training, layers lose most of their filters, frame by frame.

One set of weights then serves every k. Which filters stay is decided by their own strengths, by predictors that are
fitted beside the network, or by predictors that are trained with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def proportions(shares: Mapping[str, float]) -> dict[str, float]:
    """Exponents that spread a share s over layers: each keeps ``s**exponent``, the geometric mean of all is s.

    `shares`, above 0 and up to 1, are what layers keep at one s. A layer that keeps all always does; if all do, or all
    keep the same, the exponents are 1.
    """
    if len({*shares.values()}) <= 1:
        return dict.fromkeys(shares, 1.0)
    logs = {name: float(np.log(share)) for name, share in shares.items()}
    mean = sum(logs.values()) / len(logs)
    return {name: log / mean for name, log in logs.items()}


@dataclass(frozen=True)
class Gate:
    """The share of filters of `layers` that stay is drawn anew for every batch, evenly from `least` to 1.

    A layer with an exponent in `exponents` keeps that power of the share (see `proportions`). Filters are ranked by the
    sum of their outputs after ReLU (before pooling), and every layer draws a share of its own. `by` prediction they are
    ranked as in hardware, by a linear map of the activation strengths of the layer's input (Leroux et al. 2016), which
    is fitted anew as training goes on; all layers then share one draw, because errors of prediction and of pruning add
    up along the network. `by` training it starts so too, and is then trained with the weights (`TrainedPredictor`).
    """

    layers: tuple[str, ...]
    least: float = 0.25
    by: Literal["strength", "prediction", "training"] = "strength"
    exponents: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.exponents) not in (0, len(self.layers)):
            raise ValueError(f"gate: {len(self.exponents)} exponents for {len(self.layers)} layers")
        if not 0 < self.least <= 1:
            raise ValueError(f"gate: least share {self.least}; accepted: above 0, up to 1")


class OnlinePredictor:
    """Ridge regression of output strengths on input strengths over the recent past, batch by batch.

    Moments decay by `memory` per batch; weights are solved anew every `every` batches. `ridge` is relative to the mean
    variance of the inputs. Until `every` batches were seen there are no scores.
    """

    def __init__(self, memory: float = 0.98, every: int = 16, ridge: float = 1e-3) -> None:
        self.memory, self.every, self.ridge = memory, every, ridge
        self.seen = 0
        self.moments: Tensor | None = None
        self.weights: Tensor | None = None

    def observe(self, strengths: Tensor, targets: Tensor) -> None:
        """Learn from `strengths` (n, channels) and `targets` (n, filters), both float64."""
        channels = strengths.shape[1]
        known = torch.cat([torch.ones(len(strengths), 1, dtype=strengths.dtype), strengths], dim=1)
        moments = known.T @ torch.cat([known, targets], dim=1)  # (1 + channels, 1 + channels + filters)
        self.moments = moments if self.moments is None else self.memory * self.moments + moments
        self.seen += 1
        if self.seen % self.every == 0:
            count, left, right = self.moments[0, 0], self.moments[:, : 1 + channels], self.moments[:, 1 + channels :]
            variance = (left.diagonal()[1:].sum() - (left[0, 1:] ** 2).sum() / count) / channels
            damping = torch.full((1 + channels,), float(self.ridge * variance) + 1e-9, dtype=left.dtype)
            damping[0] = 0.0
            self.weights = torch.linalg.solve(left + damping.diag(), right)

    def scores(self, strengths: Tensor) -> Tensor | None:
        """Scores (n, filters) for `strengths` (n, channels), or None at the very start."""
        if self.weights is None:
            return None
        return self.weights[0] + strengths @ self.weights[1:]

    def spread(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (channels,) and overall deviation of the strengths seen, and overall deviation of their scores."""
        assert self.moments is not None
        assert self.weights is not None
        inputs = self.moments[:, : len(self.moments)] / self.moments[0, 0]
        mean, weights = inputs[0, 1:], self.weights[1:]
        covariance = inputs[1:, 1:] - mean[:, None] * mean
        scores = self.weights[0] + mean @ weights
        variance = (weights * (covariance @ weights)).sum(dim=0).mean() + scores.var(correction=0)
        return mean, covariance.diagonal().mean().sqrt(), variance.sqrt()

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` goes on from."""
        return {"seen": self.seen, "moments": self.moments, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.seen, self.moments, self.weights = state["seen"], state["moments"], state["weights"]


class TrainedPredictor(nn.Module):
    """Linear scores ``bias + (strengths - mean) / scale @ weights`` of a layer's filters, trained with the network.

    The choice of the k best has no gradient. In its place comes that of a sigmoid at the k-th best score, so that a
    filter's score rises where its presence would lower the loss: the saliency predictors of Gao et al., "Dynamic
    Channel Pruning: Feature Boosting and Suppression" (2019), section 3, on the strengths that hardware has, with the
    straight-through estimator of Bengio et al. (2013) in place of boosting, for which hardware has no multiplier.
    `weights` (channels, filters), `bias` (filters,) and `mean` (channels,) are float64, as strengths are.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(channels, filters, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(filters, dtype=torch.float64))
        self.mean: Tensor
        self.scale: Tensor
        self.started: Tensor
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("started", torch.tensor(False))

    def start(self, fitted: OnlinePredictor) -> None:
        """Go on from what regression has found, in units of the scores' deviation."""
        assert fitted.weights is not None
        mean, scale, unit = fitted.spread()
        scale, unit = scale.clamp(min=1e-9), unit.clamp(min=1e-9)
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.copy_(scale)
            self.weights.copy_(fitted.weights[1:] * scale / unit)
            self.bias.copy_((fitted.weights[0] + mean @ fitted.weights[1:]) / unit)
            self.started.fill_(True)

    def forward(self, strengths: Tensor) -> Tensor:
        """Scores (n, filters) of `strengths` (n, channels), float64."""
        scores: Tensor = self.bias + (strengths - self.mean) / self.scale @ self.weights
        return scores

    def chosen(self, strengths: Tensor, keep: int) -> Tensor:
        """1.0 for the `keep` filters of highest score and 0.0 for others, (n, filters); gradients as said above."""
        scores = self(strengths)
        mask = _best(scores.detach(), keep)
        if keep == mask.shape[1]:
            return mask
        level = scores.detach().topk(keep, dim=1).values[:, -1:]
        soft = torch.sigmoid((scores - level) / SOFTNESS)
        return mask + (soft - soft.detach())


SOFTNESS = 0.5
"""Width of the sigmoid that stands in for the choice, in deviations of the scores."""

FIRST_FITTED = 64
"""Batches from which regression learns what trained predictors start from."""

PREDICTOR = "predictor"
"""Under this name a layer has its trained predictor."""


def trained_predictor(layer: nn.Module) -> TrainedPredictor | None:
    """That of `layer`, if it has one."""
    found = getattr(layer, PREDICTOR, None)
    return found if isinstance(found, TrainedPredictor) else None


@contextmanager
def gated(model: nn.Module, gate: Gate) -> Iterator[dict[str, OnlinePredictor]]:
    """Inside, `model` trains with `gate`; its evaluation is not touched. Gives the fitted predictors, by layer.

    Trained ones stay with the layers of `model`, as modules. ValueError names a layer that `model` does not have.
    """
    layers = dict(model.named_children())
    unknown = [name for name in gate.layers if name not in layers]
    if unknown:
        raise ValueError(f"gate: no layer '{unknown[0]}'; layers: {', '.join(layers)}")
    predictors = {name: OnlinePredictor() for name in gate.layers} if gate.by != "strength" else {}
    draw, channels = _Draw(gate.least), _channels(model)
    if gate.by == "training":
        for name in gate.layers:
            filters = len(model.get_parameter(f"{name}.weight"))
            layers[name].add_module(PREDICTOR, TrainedPredictor(channels[name], filters))
    handles = []
    exponents = gate.exponents or (1.0,) * len(gate.layers)
    for index, (name, exponent) in enumerate(zip(gate.layers, exponents, strict=True)):
        hook = (
            _Predicted(draw, predictors[name], index == 0, exponent, channels[name])
            if predictors
            else _Strongest(gate.least, exponent)
        )
        handles.append(layers[name].register_forward_hook(hook))
    try:
        yield predictors
    finally:
        for handle in handles:
            handle.remove()


def _channels(model: nn.Module) -> dict[str, int]:
    """Channels of the map that each layer with weights reads: flattened, a map still has those of the layer before."""
    result: dict[str, int] = {}
    before: int | None = None
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d):
            result[name], before = layer.in_channels, layer.out_channels
        elif isinstance(layer, nn.Linear):
            result[name], before = before or layer.in_features, layer.out_features
    return result


class _Strongest:
    def __init__(self, least: float, exponent: float) -> None:
        self.least, self.exponent = least, exponent

    def __call__(self, layer: nn.Module, _: object, output: Tensor) -> Tensor | None:
        if not layer.training:
            return None
        filters = output.shape[1]
        strengths = _strengths(functional.relu(output.detach()), filters)
        drawn = int(torch.randint(max(1, int(filters * self.least)), filters + 1, ()))
        return _keep(output, strengths, _power(drawn / filters, self.exponent, filters))


class _Draw:
    """The share that all layers of a batch keep."""

    def __init__(self, least: float) -> None:
        self.least, self.share = least, 1.0

    def renew(self) -> None:
        self.share = self.least + (1 - self.least) * float(torch.rand(()))


class _Predicted:
    def __init__(self, draw: _Draw, predictor: OnlinePredictor, first: bool, exponent: float, channels: int) -> None:
        self.draw, self.predictor, self.first, self.exponent = draw, predictor, first, exponent
        self.channels = channels

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not layer.training:
            return None
        if self.first:
            self.draw.renew()
        keep = _power(self.draw.share, self.exponent, output.shape[1])
        given = inputs[0]
        strengths = _strengths(getattr(given, "value", given).detach().abs(), self.channels).double()
        trained = trained_predictor(layer)
        if trained is not None and trained.started:
            return _masked(output, trained.chosen(strengths, keep))
        targets = _strengths(functional.relu(output.detach()), output.shape[1]).double()
        scores = self.predictor.scores(strengths)
        self.predictor.observe(strengths, targets)
        if trained is not None and self.predictor.seen == FIRST_FITTED:
            trained.start(self.predictor)
        return _keep(output, targets if scores is None else scores, keep)


def _power(share: float, exponent: float, filters: int) -> int:
    return max(1, round(share**exponent * filters))


def _strengths(maps: Tensor, channels: int) -> Tensor:
    """Sums over the pixels of (n, channels, ...), flattened or not, in at least float32: (n, channels)."""
    return maps.reshape(len(maps), channels, -1).sum(dim=2, dtype=torch.promote_types(maps.dtype, torch.float32))


def _keep(output: Tensor, ranking: Tensor, keep: int) -> Tensor:
    return _masked(output, _best(ranking, keep))


def _best(ranking: Tensor, keep: int) -> Tensor:
    return torch.zeros_like(ranking).scatter_(1, ranking.topk(keep, dim=1).indices, 1.0)


def _masked(output: Tensor, mask: Tensor) -> Tensor:
    return output * mask.to(output.dtype).reshape(*mask.shape, *[1] * (output.ndim - 2))
