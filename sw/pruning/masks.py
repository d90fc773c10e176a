"""Which weights stay: choosing, applying and holding masks, and the smaller network that they leave."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch_pruning
from torch import Tensor, nn

from sw.models import require_chain
from sw.pruning.forms import Form, closed, forms, weighted

Masks = dict[str, Tensor]
"""By layer name: bool (filters, channels, kh, kw), True where a weight stays."""


class Unit(StrEnum):
    """What is removed at a time."""

    WEIGHT = "weight"
    KERNEL = "kernel"  # a filter's taps on one input channel
    COLUMN = "column"  # a tap (channel, ky, kx) in all filters: a column of the matrix
    FILTER = "filter"  # a row of the matrix, and with it a channel of the next layer


_SUMMED = {Unit.WEIGHT: (), Unit.KERNEL: (2, 3), Unit.COLUMN: (0,), Unit.FILTER: (1, 2, 3)}


def everything(layers: Mapping[str, Form]) -> Masks:
    """Masks that keep all weights."""
    return {name: torch.ones(form.shape, dtype=torch.bool) for name, form in layers.items()}


def summed(scores: Tensor, unit: Unit) -> Tensor:
    """Scores (filters, channels, kh, kw) summed over each unit; summed axes have size 1."""
    axes = _SUMMED[unit]
    return scores.sum(dim=axes, keepdim=True) if axes else scores


def strongest(scores: Tensor, number: int) -> Tensor:
    """Mask of the `number` highest of `scores`; of equal ones the lower index stays."""
    order = scores.flatten().argsort(descending=True, stable=True)
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[order[:number]] = True
    return kept.reshape(scores.shape)


def choose(
    masks: Mapping[str, Tensor], scores: Mapping[str, Tensor], unit: Unit, ratio: float, across: bool = False
) -> Masks:
    """Masks without the weakest units: `ratio` of all units of each layer in `scores`, or `across` these layers.

    What `masks` have removed counts as removed; each layer keeps at least one unit. `scores` are (filters, channels,
    kh, kw), or of size 1 in axes along which they are the same (then scores per unit). Scores that are compared
    across layers should be `criteria.normalised`. ValueError for a ratio outside 0..1.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio {ratio}; accepted: 0 to 1")
    found = dict(masks)
    values = {name: _alive(summed(scores[name], unit), masks[name], unit) for name in scores}
    if across:
        joined = torch.cat([value.flatten() for value in values.values()])
        kept = strongest(joined, joined.numel() - round(ratio * joined.numel()))
        sizes = [value.numel() for value in values.values()]
        pieces = dict(zip(values, torch.split(kept, sizes), strict=True))
    for name, value in values.items():
        number = value.numel() - round(ratio * value.numel())
        keep = pieces[name].reshape(value.shape) if across else strongest(value, number)
        if not (keep & value.isfinite()).any():
            keep = strongest(value, 1)
        found[name] = masks[name] & keep
    return found


def _alive(values: Tensor, mask: Tensor, unit: Unit) -> Tensor:
    """Scores of units, minus infinity where nothing of a unit is left."""
    axes = _SUMMED[unit]
    alive = mask.any(dim=axes, keepdim=True) if axes else mask
    return torch.where(alive, values.double(), -torch.inf)


def strided(scores: Tensor, stride: int) -> Tensor:
    """Intra-kernel strided mask (filters, channels, kh, kw): of a kernel's taps in line, every `stride`-th stays.

    Anwar, Hwang, Sung, "Structured pruning of deep convolutional neural networks" (2017), intra-kernel strided
    sparsity: all filters share the offset of an input channel, so that the removed taps are columns. The offset is
    the one of highest score.
    """
    if stride < 1:
        raise ValueError(f"stride {stride}; accepted: at least 1")
    filters, channels, height, width = scores.shape
    columns = scores.sum(dim=0).flatten(1)  # (channels, taps)
    position = torch.arange(height * width) % stride
    offsets = torch.stack([columns[:, position == offset].sum(dim=1) for offset in range(min(stride, height * width))])
    kept = position == offsets.argmax(dim=0)[:, None]
    return kept.reshape(1, channels, height, width).expand(filters, -1, -1, -1).clone()


def in_matrix_form(
    masks: Mapping[str, Tensor], scores: Mapping[str, Tensor], ratio: float, rows: float = 0.25, multiple: int = 1
) -> Masks:
    """Masks whose layers keep whole rows and columns only, about ``1 - ratio`` of the elements of each matrix.

    Every layer but the last keeps ``(1 - ratio)**rows`` of its rows, and so the next one that share of its channels;
    columns follow until the matrix is small enough. Layers whose columns are whole channels lose those that the rows
    before take. Rows are rounded to a `multiple`, such as the filters that the engine computes at a time: remainders
    save no cycles. After the matrix-based form of "Network structure pruning" (rows and columns of a layer's unfolded
    matrix). `masks` and `scores` name the layers of the chain in order.
    """
    if not 0 <= ratio < 1 or not 0 <= rows <= 1 or multiple < 1:
        raise ValueError(
            f"ratio {ratio} with rows {rows}, multiple {multiple}; "
            "accepted: 0 up to, not including, 1, with 0 to 1, and at least 1"
        )
    found: Masks = {}
    last = list(masks)[-1]
    fed: Tensor | None = None  # which channels the layer before still computes
    for name, mask in masks.items():
        score, keep = scores[name].expand(mask.shape), mask.clone()
        if fed is not None:
            keep &= fed[None, :, None, None]
        if name != last and ratio > 0:
            values = _alive(summed(score, Unit.FILTER), keep, Unit.FILTER)
            number = multiple * max(1, round(len(mask) * (1 - ratio) ** rows / multiple))
            keep &= strongest(values, min(number, len(mask)))
        if mask.shape[2] * mask.shape[3] > 1 and ratio > 0:
            values = _alive((score * keep).sum(dim=0, keepdim=True), keep, Unit.COLUMN)
            left = int(keep.flatten(1).any(dim=1).sum())
            keep &= strongest(values, max(1, round(mask.numel() * (1 - ratio) / left)))
        fed = keep.flatten(1).any(dim=1)
        found[name] = keep
    return found


def columns(masks: Mapping[str, Tensor]) -> Masks:
    """Which columns (channels, kh, kw) of each layer hold a weight."""
    return {name: mask.any(dim=0) for name, mask in masks.items()}


def removed(masks: Mapping[str, Tensor]) -> float:
    """Share of all weights that is removed."""
    total = sum(mask.numel() for mask in masks.values())
    return 1 - sum(int(mask.sum()) for mask in masks.values()) / total


# -- on a network ------------------------------------------------------------------------------------------------------
def apply(model: nn.Sequential, masks: Mapping[str, Tensor]) -> None:
    """Set removed weights to zero in place; a filter without weights loses its bias and normalisation too.

    ValueError names a mask that does not fit.
    """
    with torch.no_grad():
        for parameter, keep in _parameters(model, masks):
            parameter.masked_fill_(~keep, 0)


@contextmanager
def held(model: nn.Sequential, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """`apply`, and inside no training with a fresh optimiser moves what was removed away from zero."""
    apply(model, masks)
    handles = [
        parameter.register_hook(lambda gradient, keep=keep: gradient * keep)  # type: ignore[no-untyped-call]
        for parameter, keep in _parameters(model, masks)
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _closed(model: nn.Sequential, masks: Mapping[str, Tensor]) -> Masks:
    """`forms.closed` masks for all layers of `model`, those that `masks` leaves out full; ValueError for misfits."""
    layers = weighted(model)
    unknown = [name for name in masks if name not in layers]
    if unknown:
        raise ValueError(f"mask of '{unknown[0]}': no such layer with weights; layers: {', '.join(layers)}")
    chain: list[tuple[str, Tensor]] = []
    for name, layer in layers.items():
        channels = len(chain[-1][1]) if chain else layer.weight.shape[1]
        shape = (len(layer.weight), channels, *layer.weight.shape[2:])
        if isinstance(layer, nn.Linear):
            shape = (len(layer.weight), channels, layer.in_features // channels, 1)
        mask = masks[name] if name in masks else torch.ones(shape, dtype=torch.bool)
        if mask.ndim != 4 or mask.shape[:2] != shape[:2] or mask.numel() != layer.weight.numel():
            raise ValueError(
                f"mask of '{name}' is {tuple(mask.shape)}; accepted: (filters, channels, kh, kw) for weights "
                f"{tuple(layer.weight.shape)}"
            )
        chain.append((name, mask))
    return closed(chain)


def _parameters(model: nn.Sequential, masks: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Parameters and which of their elements stay; none if no mask removes anything."""
    if not masks:
        return []
    require_chain(model, "pruning")
    complete = _closed(model, masks)
    last = list(complete)[-1]
    found: list[tuple[Tensor, Tensor]] = []
    rows: Tensor | None = None  # of the layer before, for the normalisation that follows it
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            mask = complete[name]
            rows = mask.flatten(1).any(dim=1)
            found.append((layer.weight, mask.reshape(layer.weight.shape)))
            if layer.bias is not None and name != last:
                found.append((layer.bias, rows))
        elif isinstance(layer, nn.BatchNorm2d) and rows is not None:
            found += [(layer.weight, rows), (layer.bias, rows)]
    return found


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller network, and the masks of what is still removed in it."""

    model: nn.Sequential
    masks: Masks


def shrink(model: nn.Sequential, masks: Mapping[str, Tensor], frame: tuple[int, int, int]) -> Pruned:
    """A copy of `model` without the filters that have no weights left, or that no later layer reads.

    It computes what `model` computes with `masks` applied. Channels that belong together go together (Torch-Pruning's
    dependency graph). The last layer keeps all of its outputs. ValueError for a network that is quantised already
    (prune before) and where a layer would lose all of its filters; both name the layer.
    """
    for name, module in model.named_modules():
        if type(module).__module__.startswith("brevitas"):
            raise ValueError(f"layer '{name}' is quantised ({type(module).__name__}); accepted: prune, then quantise")
    for name, mask in masks.items():
        if not mask.any():
            raise ValueError(f"layer '{name}' would lose all of its {len(mask)} filters; accepted: one is left")
    small = copy.deepcopy(model).eval()
    apply(small, masks)
    shapes = forms(small, frame)
    left = {name: mask.reshape(shapes[name].shape) for name, mask in _closed(small, masks).items()}
    for name in list(left)[:-1]:
        gone = ~left[name].flatten(1).any(dim=1)
        if gone.all():
            raise ValueError(f"layer '{name}' would lose all of its {len(gone)} filters; accepted: one is left")
        if gone.any():
            _remove(small, left, name, gone.nonzero().flatten().tolist(), frame)
    return Pruned(small, left)


def _remove(model: nn.Sequential, masks: Masks, name: str, filters: list[int], frame: tuple[int, int, int]) -> None:
    """Take `filters` of layer `name` out of the network and of the masks, with all that is coupled to them."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, *frame))
    layer = model.get_submodule(name)
    remove_outputs = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels)
    group = graph.get_pruning_group(layer, remove_outputs[isinstance(layer, nn.Linear)], idxs=filters)
    names: dict[nn.Module, str] = {layer: name for name, layer in weighted(model).items()}
    for dependency, indices in group:
        module = dependency.target.module
        if module not in names:
            continue
        mask, gone = masks[names[module]], sorted({int(index) for index in indices})
        if dependency.handler in remove_outputs:
            masks[names[module]] = mask[_others(len(mask), gone)]
        else:  # inputs: a dense layer's are counted one by one, and a channel of a flattened map has many
            each = mask[0, 0].numel() if isinstance(module, nn.Linear) else 1
            channels = sorted({index // each for index in gone})
            masks[names[module]] = mask[:, _others(mask.shape[1], channels)]
    group.prune()


def _others(number: int, gone: list[int]) -> Tensor:
    keep = torch.ones(number, dtype=torch.bool)
    keep[gone] = False
    return keep
