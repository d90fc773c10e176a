"""Seeing and changing what comes out of the ReLU behind each layer, in any network as it runs.

Layers are known by their module's name. The ReLU may be a module or a function, and batch normalisation may lie in
between; nothing about the network's class is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Change = Callable[[str, Tensor], Tensor]
"""From a layer's name and its activations (n, filters, ...) to what the network goes on with."""

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


class _Watcher(TorchFunctionMode):
    """Follows each layer's output through normalisation to a ReLU, by the identity of tensors."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change
        self.pending: dict[int, tuple[Tensor, str]] = {}  # tensors are held, so that no other gets their address

    def made(self, name: str, output: Tensor) -> None:
        self.pending[id(output)] = (output, name)

    def owner(self, value: object) -> str | None:
        """The layer whose output this is, which is then spent."""
        found = self.pending.pop(id(value), None)
        return found[1] if found else None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        name = self.owner(args[0] if args else kwargs.get("input"))
        output = func(*args, **kwargs)
        return output if name is None else self.change(name, output)


@contextmanager
def watched(model: nn.Module, change: Change) -> Iterator[None]:
    """Inside, `change` is called with the activations of every layer that a ReLU follows, and gives what is used."""
    watcher = _Watcher(change)

    def layer_hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _, __, output: watcher.made(name, output)

    def norm_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        name = watcher.owner(inputs[0])
        if name is not None:
            watcher.made(name, output)

    def done(*_: object) -> None:
        watcher.pending.clear()

    handles = [model.register_forward_hook(done)]
    for name, module in model.named_modules():
        if isinstance(module, LAYERS):
            handles.append(module.register_forward_hook(layer_hook(name)))
        elif isinstance(module, NORMS):
            handles.append(module.register_forward_hook(norm_hook))
    try:
        with watcher:
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode and none of its parameters needs a gradient; afterwards it is as before."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, gradient in wanted.items():
            parameter.requires_grad_(gradient)


def activations(model: nn.Module, x: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Activations (n, filters, ...) by layer, in the order in which they run, of frames `x`, in evaluation mode.

    `layers` are those wanted, all by default. ValueError for layers that are not there or not followed by a ReLU, and
    for one that runs twice.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        once(name, seen)
        seen[name] = output
        return output

    with torch.no_grad(), frozen(model), watched(model, keep):
        model(x)
    if layers is None:
        return seen
    known(layers, list(seen))
    return {name: seen[name] for name in seen if name in set(layers)}


def observed_layers(model: nn.Module, x: Tensor | None = None) -> tuple[str, ...]:
    """Names of the conv and linear layers that a ReLU follows, with or without batch normalisation in between.

    With frames `x`, those that are so when `model` runs, in that order. Without, those whose modules stand so in
    `model.modules()`, which is the same for an `nn.Sequential`. ValueError if there are none.
    """
    names: list[str] = []
    if x is not None:
        names = list(activations(model, x))
    else:
        owner: str | None = None
        for name, module in model.named_modules():
            if isinstance(module, LAYERS):
                owner = name
            elif isinstance(module, nn.ReLU) and owner is not None:
                names.append(owner)
                owner = None
            elif not isinstance(module, NORMS) and not any(True for _ in module.children()):
                owner = None
    if not names:
        raise ValueError(
            f"no conv or linear layer of {type(model).__name__} is followed by a ReLU; accepted: one or more"
        )
    return tuple(names)


def kept(masks: Mapping[str, Tensor]) -> Change:
    """A change that multiplies activations by `masks`, by layer: (filters,), or (n, filters) for each frame its own."""

    def change(name: str, output: Tensor) -> Tensor:
        if name not in masks:
            return output
        mask = masks[name].to(output)
        return output * mask.reshape(*(mask.shape if mask.ndim == 2 else (1, *mask.shape)), *[1] * (output.ndim - 2))

    return change


def in_turn(*changes: Change) -> Change:
    """A change that makes `changes` one after another."""

    def change(name: str, output: Tensor) -> Tensor:
        for each in changes:
            output = each(name, output)
        return output

    return change


def split(model: nn.Module, layers: Sequence[str]) -> tuple[nn.Module, nn.Module]:
    """(head, tail), with ``model(x) = tail(head(x))`` and none of `layers` in the head, which is as long as it can be.

    They share their modules with `model`. Of what is no `nn.Sequential` the head is the identity.
    """
    if isinstance(model, nn.Sequential):
        wanted = {layer.partition(".")[0] for layer in layers}
        for index, (name, _) in enumerate(model.named_children()):
            if name in wanted:
                return model[:index], model[index:]
    return nn.Identity(), model


def known(layers: Sequence[str], observed: Sequence[str]) -> None:
    """ValueError if one of `layers` is not `observed`."""
    for name in layers:
        if name not in observed:
            raise ValueError(f"layer '{name}' is not there, or no ReLU follows it; accepted: {', '.join(observed)}")


def once(name: str, seen: Collection[str]) -> None:
    """ValueError if layer `name` was `seen` in this pass already."""
    if name in seen:
        raise ValueError(f"layer '{name}' runs twice in one pass; accepted: layers that run once")
