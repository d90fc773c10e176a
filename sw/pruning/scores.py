"""Criteria on a network: a *scorer* gives every layer's scores, (filters, channels, kh, kw), by layer name.

Axes along which scores are the same have size 1. What is measured is measured on `x`, frames (n, c, h, w), and `y`,
their classes (n,), in evaluation mode. Layers that a criterion cannot judge (the last one, by its activations) are
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.pruning import criteria
from sw.pruning.forms import Form, forms, weighted

Scores = dict[str, Tensor]
Scorer = Callable[[nn.Sequential], Scores]

SAMPLES = 64  # frames at a time whose gradients are kept apart


# -- of weights alone --------------------------------------------------------------------------------------------------
def by_magnitude(frame: tuple[int, int, int], order: int = 1) -> Scorer:
    """`criteria.magnitude`."""
    return lambda model: {
        name: criteria.magnitude(_matrix(model, form), order) for name, form in forms(model, frame).items()
    }


def by_chance(frame: tuple[int, int, int], seed: int) -> Scorer:
    """`criteria.random`, from another seed for every layer."""
    return lambda model: {
        name: criteria.random(form.shape, seed + index)
        for index, (name, form) in enumerate(forms(model, frame).items())
    }


# -- of second derivatives ---------------------------------------------------------------------------------------------
def by_obd(x: Tensor, y: Tensor) -> Scorer:
    """`criteria.obd` with the diagonal of the empirical Fisher matrix, which stands for the Hessian's.

    The mean over frames of each frame's squared gradient of the cross entropy: always positive, as OBD's own
    approximation (LeCun et al. 1990, section 3, after dropping second derivatives of the units) is.
    """

    def scorer(model: nn.Sequential) -> Scores:
        diagonal = fisher_diagonal(model, x, y)
        return {
            name: criteria.obd(_matrix(model, form), diagonal[name].reshape(form.shape))
            for name, form in forms(model, _frame(x)).items()
        }

    return scorer


def fisher_diagonal(model: nn.Sequential, x: Tensor, y: Tensor) -> Scores:
    """Mean over frames of the squared gradient of each weight, by layer, in the weights' own shapes."""
    layers = weighted(model)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values: dict[str, Tensor], frame: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, (values, buffers), (frame[None],))
        return functional.cross_entropy(logits, label[None])

    per_frame = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    model.eval()
    for frames, labels in zip(x.split(SAMPLES), y.split(SAMPLES), strict=True):  # type: ignore[no-untyped-call]
        gradients = per_frame(parameters, frames, labels)
        for name in layers:
            total[name] += (gradients[f"{name}.weight"] ** 2).sum(dim=0)
    return {name: value / len(x) for name, value in total.items()}


def by_obs(x: Tensor) -> Scorer:
    """`criteria.obs` with the layer-wise Hessian (see `criteria.obs_columns`), for every weight of a row alike."""

    def scorer(model: nn.Sequential) -> Scores:
        scores = {}
        for name, form in forms(model, _frame(x)).items():
            diagonal = criteria.inverted(moment(model, name, form, x)).diagonal()
            scores[name] = (_rows(model, form).double() ** 2 / (2 * diagonal)).reshape(form.shape)
        return scores

    return scorer


def moment(model: nn.Sequential, name: str, form: Form, x: Tensor) -> Tensor:
    """Hessian ``2 X X^T`` / positions of the squared error of layer `name`'s output: (columns, columns), float64."""
    columns = form.weights // form.shape[0]
    total = torch.zeros(columns, columns, dtype=torch.double)
    positions = 0
    for seen in _inputs(model, name, x):
        patches = unfolded(model, name, seen).double().transpose(0, 1).flatten(1)  # (columns, n * positions)
        total += patches @ patches.T
        positions += patches.shape[1]
    return 2 * total / positions


def unfolded(model: nn.Sequential, name: str, values: Tensor) -> Tensor:
    """The input of layer `name` as columns (n, columns, positions) for the layer's matrix to multiply."""
    layer = model.get_submodule(name)
    if isinstance(layer, nn.Linear):
        return values[:, :, None]
    assert isinstance(layer, nn.Conv2d)
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    assert not isinstance(padding, str), "forms() and quantisation ask for numbers"
    return functional.unfold(values, (kernel[0], kernel[1]), 1, (padding[0], padding[1]), (stride[0], stride[1]))


# -- of activations ----------------------------------------------------------------------------------------------------
def by_apoz(x: Tensor) -> Scorer:
    """`criteria.apoz` of each filter's activations."""
    return lambda model: _per_filter(model, x, criteria.apoz)


def by_activation(x: Tensor) -> Scorer:
    """`criteria.mean_activation` of each filter's activations."""
    return lambda model: _per_filter(model, x, criteria.mean_activation)


def by_variance(x: Tensor) -> Scorer:
    """`criteria.output_variance` of each filter's activations."""
    return lambda model: _per_filter(model, x, criteria.output_variance)


def by_taylor(x: Tensor, y: Tensor) -> Scorer:
    """`criteria.taylor` of each filter's activations, with the cross entropy as the cost."""

    def scorer(model: nn.Sequential) -> Scores:
        with _watched(model) as seen:
            loss = functional.cross_entropy(model.eval()(x), y, reduction="sum")
            gradients = torch.autograd.grad(loss, list(seen.outputs.values()))
        return {
            name: _filters(criteria.taylor(_map(values.detach()), _map(gradient)))
            for (name, values), gradient in zip(seen.outputs.items(), gradients, strict=True)
        }

    return scorer


def by_inbound(x: Tensor) -> Scorer:
    """`criteria.inbound` for each filter and input channel."""

    def scorer(model: nn.Sequential) -> Scores:
        scores = {}
        for name, form in forms(model, _frame(x)).items():
            filters, channels, height, width = form.shape
            patches = torch.cat([unfolded(model, name, seen) for seen in _inputs(model, name, x)])
            patches = patches.reshape(len(patches), channels, height * width, -1)
            weight = _matrix(model, form).reshape(filters, channels, -1)
            parts = [criteria.inbound(weight[:, c : c + 1], patches[:, c : c + 1]) for c in range(channels)]
            scores[name] = torch.cat(parts, dim=1)[:, :, None, None]
        return scores

    return scorer


def _per_filter(model: nn.Sequential, x: Tensor, criterion: Callable[[Tensor], Tensor]) -> Scores:
    with torch.no_grad(), _watched(model) as seen:
        model.eval()(x)
    return {name: _filters(criterion(_map(values))) for name, values in seen.outputs.items()}


def _filters(scores: Tensor) -> Tensor:
    return scores[:, None, None, None]


def _map(values: Tensor) -> Tensor:
    """Values (n, c, ...) with a position axis, also for dense layers."""
    return values.flatten(2) if values.ndim > 2 else values[:, :, None]


# -- watching a network ------------------------------------------------------------------------------------------------
@dataclass
class _Watched:
    """By layer with weights, the activations that come out of the ReLU behind it."""

    outputs: dict[str, Tensor]
    handles: list[torch.utils.hooks.RemovableHandle]

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def _watched(model: nn.Sequential) -> _Watched:
    watched = _Watched({}, [])
    owner: str | None = None
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            owner = name
        elif isinstance(layer, nn.ReLU) and owner is not None:

            def keep(_: nn.Module, __: object, output: Tensor, owner: str = owner) -> None:
                watched.outputs[owner] = output

            watched.handles.append(layer.register_forward_hook(keep))
            owner = None
    return watched


def _inputs(model: nn.Sequential, name: str, x: Tensor) -> Iterator[Tensor]:
    """What layer `name` reads, in pieces."""
    before = nn.Sequential()
    for other, layer in model.named_children():
        if other == name:
            break
        before.append(layer)
    before.eval()
    with torch.no_grad():
        for frames in x.split(256):  # type: ignore[no-untyped-call]
            yield before(frames)


def _matrix(model: nn.Sequential, form: Form) -> Tensor:
    weight = model.get_submodule(form.name).weight
    assert isinstance(weight, Tensor)
    return weight.detach().reshape(form.shape)


def _rows(model: nn.Sequential, form: Form) -> Tensor:
    return _matrix(model, form).flatten(1)


def _frame(x: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = x.shape
    return channels, height, width
