"""When to prune how much: at once, step by step with training in between, one layer at a time, or to a budget.

A schedule knows nothing of criteria: a *chooser* gives masks for a ratio, a *trainer* trains a network whose masks are
held.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from sw.pruning import criteria
from sw.pruning.forms import Form, cost, forms
from sw.pruning.masks import Masks, Unit, apply, choose, everything, held, in_matrix_form, removed, summed
from sw.pruning.scores import Scorer, moment

Chooser = Callable[[nn.Sequential, float, Masks], Masks]
"""From a network, the share to remove in all, and what is removed already, to what stays."""
Trainer = Callable[[nn.Sequential], object]


@dataclass(frozen=True, eq=False)
class Step:
    """A network with `masks` applied, at `ratio`."""

    ratio: float
    model: nn.Sequential
    masks: Masks


def units(scorer: Scorer, unit: Unit, skip: Sequence[str] = (), across: bool = False) -> Chooser:
    """A chooser that removes whole `unit`s by `scorer`; filters of the last layer, the classes, stay.

    `across` layers, scores are normalised first.
    """

    def chooser(model: nn.Sequential, ratio: float, masks: Masks) -> Masks:
        scores = {name: value for name, value in scorer(model).items() if name not in skip}
        if unit is Unit.FILTER:
            scores.pop(list(masks)[-1], None)
        if across:
            scores = {name: criteria.normalised(summed(value, unit)) for name, value in scores.items()}
        return choose(masks, scores, unit, ratio, across)

    return chooser


def matrix(scorer: Scorer, rows: float = 0.25, multiple: int = 1) -> Chooser:
    """A chooser of rows and columns, `masks.in_matrix_form`."""
    return lambda model, ratio, masks: in_matrix_form(masks, scorer(model), ratio, rows, multiple)


def direct(
    model: nn.Sequential, chooser: Chooser, ratio: float, frame: tuple[int, int, int], trainer: Trainer | None = None
) -> Step:
    """Remove `ratio` at once, then train what is left. `model` stays as it is."""
    (step,) = iterative(model, chooser, [ratio], frame, trainer)
    return step


def iterative(
    model: nn.Sequential,
    chooser: Chooser,
    ratios: Sequence[float],
    frame: tuple[int, int, int],
    trainer: Trainer | None = None,
) -> Iterator[Step]:
    """Prune to each of the rising `ratios`, training after each (Han et al. 2015, section 3); yields every step.

    Each step's network is its own copy; `model` stays as it is. ValueError if the ratios do not rise.
    """
    if list(ratios) != sorted(ratios):
        raise ValueError(f"ratios {list(ratios)}; accepted: rising ones")
    masks = everything(forms(model, frame))
    for ratio in ratios:
        model = copy.deepcopy(model)
        masks = chooser(model, ratio, masks)
        with held(model, masks):
            if trainer is not None:
                trainer(model)
        yield Step(ratio, model, masks)


def sensitivity(
    model: nn.Sequential,
    chooser: Chooser,
    ratios: Sequence[float],
    frame: tuple[int, int, int],
    evaluate: Callable[[nn.Sequential], float],
) -> dict[str, list[float]]:
    """For each layer, what `evaluate` gives when only that layer is pruned to each of `ratios`, without training."""
    full = everything(forms(model, frame))
    chosen = {ratio: chooser(model, ratio, full) for ratio in ratios}
    found: dict[str, list[float]] = {}
    for name in full:
        found[name] = []
        for ratio in ratios:
            trial = copy.deepcopy(model)
            apply(trial, {name: chosen[ratio][name]})
            found[name].append(evaluate(trial))
    return found


class Budget(StrEnum):
    """What a budget counts."""

    MACS = "macs"
    BYTES = "bytes"  # of weights and biases that are kept, one byte each


def within(
    layers: Mapping[str, Form], scores: Mapping[str, Tensor], target: float, budget: Budget = Budget.MACS
) -> Masks:
    """Masks without the weakest filters over all layers, until what is left costs up to `target` of the full network.

    `scores` per layer; those of filters are normalised so that layers compare, and divided by what a filter costs (as
    a row, and as a channel of the next layer), so that what saves little is not removed first (both after Molchanov et
    al. 2017, section 2.2; there the cost is subtracted). Filters of the last layer and of layers without scores stay,
    and each layer keeps one. ValueError if that is still too much.
    """
    masks = everything(layers)
    last = list(layers)[-1]

    def spent() -> int:
        found = cost(layers, masks)
        return found.macs if budget is Budget.MACS else found.parameters

    limit = target * spent()
    prices = _prices(layers, budget)
    ranked = sorted(
        (float(score) / prices[name], name, index)
        for name in scores
        if name != last
        for index, score in enumerate(criteria.normalised(summed(scores[name], Unit.FILTER).double()).flatten())
    )
    for _, name, index in ranked:
        if spent() <= limit:
            return masks
        if masks[name].flatten(1).any(dim=1).sum() > 1:
            masks[name][index] = False
    if spent() > limit:
        raise ValueError(f"{budget} at {target} of the full network's cannot be reached by removing filters")
    return masks


def _prices(layers: Mapping[str, Form], budget: Budget) -> dict[str, float]:
    """What one filter of each layer costs, with its channel in the next layer."""
    forms = list(layers.values())
    prices = {}
    for form, follower in zip(forms, [*forms[1:], None], strict=True):
        own, there = form.weights / form.shape[0], follower.weights / follower.shape[1] if follower else 0.0
        if budget is Budget.MACS:
            own, there = own * form.windows, there * (follower.windows if follower else 0)
        prices[form.name] = own + there
    return prices


def reconstructed(model: nn.Sequential, masks: Mapping[str, Tensor], x: Tensor) -> Step:
    """`model` with the columns of each layer chosen anew by OBS, as many as `masks` keep, and the others updated.

    Layer after layer, each on what the layers before it now give for frames `x` (`criteria.obs_columns`). Rows are
    those of `masks`.
    """
    _, channels, height, width = x.shape
    model = copy.deepcopy(model).eval()
    rows = {name: mask.flatten(1).any(dim=1)[:, None] for name, mask in masks.items()}
    apply(model, {name: rows[name][:, :, None, None].expand(mask.shape) for name, mask in masks.items()})
    found: Masks = {}
    for name, form in forms(model, (channels, height, width)).items():
        hessian = moment(model, name, form, x)
        read = hessian.diagonal() > 0  # the others are channels that are gone
        excess = int(read.sum()) - int(masks[name].any(dim=0).sum())
        if form.shape[2] * form.shape[3] == 1 or excess <= 0:
            found[name] = masks[name]
            continue
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        updated = torch.zeros_like(weight.detach()).flatten(1)
        updated[:, read], kept = criteria.obs_columns(
            weight.detach().flatten(1)[:, read], hessian[read][:, read], excess
        )
        columns = torch.zeros_like(read)
        columns[read] = kept
        with torch.no_grad():
            weight.copy_(updated.reshape(weight.shape))
        found[name] = (rows[name] & columns).reshape(form.shape)
    return Step(removed(found), model, found)
