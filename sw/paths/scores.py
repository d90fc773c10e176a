"""How much each filter matters to each class: pure functions from a network, labelled frames and a config.

A filter's activation A is its map after batch normalisation and ReLU; its score for a class is a mean over the frames
of that class, so that what a class does not show is not asked. Z is the logit of the frame's own class, or its cross
entropy. All scores but `ablation` come from one pass over the data, whose memory does not grow with their number.

- Hu et al., "Network trimming" (2016): APoZ
- Molchanov et al., "Pruning convolutional neural networks for resource efficient inference" (2017): Taylor expansion
- Morcos et al., "On the importance of single directions for generalization" (2018): class selectivity
- Yu, Qin, Chen, "Distilling critical paths in convolutional neural networks" (2018): contribution index
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sw.models import Branched
from sw.paths.watch import NORMS, activations, frozen, in_turn, kept, known, once, watched
from sw.paths.watch import observed_layers as observed_layers
from sw.train import batches as pieces

Precision = Literal["float32", "bfloat16"]
"""What convolutions and products are computed in."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""Frames (n, c, h, w) with their classes (n,), a piece at a time: an `Images`, a torch DataLoader, a generator."""


@dataclass(frozen=True, eq=False)
class Images:
    """Batches of up to `batch` of frames `x` (n, c, h, w) with classes `y` (n,), as often as asked."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    batch: int = 125

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or self.batch < 1:
            raise ValueError(f"{len(self.x)} frames with {len(self.y)} labels in batches of {self.batch}")

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.x), self.batch):
            piece = slice(start, start + self.batch)
            yield torch.tensor(self.x[piece]), torch.tensor(self.y[piece])


@dataclass(frozen=True)
class ScoreConfig:
    """What all scores need: the number of `classes`, and which `layers` (all that are followed by a ReLU, by default).

    In `precision` bfloat16 convolutions and products are computed in it, and gradients with them; sums over maps are
    float32, sums over frames float64. `seed` is that of random scores. Everything runs on the model's device.
    """

    classes: int
    layers: tuple[str, ...] | None = None
    precision: Precision = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.classes < 1 or (self.layers is not None and not self.layers):
            raise ValueError(f"{self}: one class and one layer at least")


@dataclass(frozen=True, eq=False)
class Scores:
    """What a filter is worth to a class, the more the higher: `values[l]` is (classes, filters of `layers[l]`).

    ValueError for shapes that do not fit, and for values that are not finite.
    """

    name: str
    layers: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.values) or not self.layers:
            raise ValueError(f"scores '{self.name}': {len(self.layers)} layers with {len(self.values)} arrays")
        for layer, value in zip(self.layers, self.values, strict=True):
            if value.ndim != 2 or value.dtype != np.float64 or len(value) != len(self.values[0]):
                raise ValueError(
                    f"scores '{self.name}' of layer '{layer}': {value.shape} {value.dtype}; "
                    f"accepted: float64 ({len(self.values[0])}, filters)"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"scores '{self.name}' of layer '{layer}' are not all finite")
            value.setflags(write=False)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.values[0])

    def of(self, layer: str) -> NDArray[np.float64]:
        """Scores (classes, filters) of `layer`; ValueError if it is not one of `layers`."""
        if layer not in self.layers:
            raise ValueError(f"scores '{self.name}' have no layer '{layer}'; layers: {', '.join(self.layers)}")
        return self.values[self.layers.index(layer)]


# -- what is measured of one frame -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Measure:
    """From activations and dZ/dA, both (n, filters, positions), to (n, filters); `target` is Z, if it is needed."""

    of: Callable[[Tensor, Tensor], Tensor]
    target: Literal["logit", "loss"] | None = None


def _taylor(values: Tensor, gradients: Tensor) -> Tensor:
    """|sum over the map of A * dZ/dA|: to first order, what Z loses with the filter (Molchanov et al. 2017, eq. 7)."""
    return (values * gradients).sum(dim=2, dtype=_wide(values)).abs()


_MEASURES: dict[str, _Measure] = {
    "activation": _Measure(lambda values, _: values.abs().mean(dim=2, dtype=_wide(values))),
    "positives": _Measure(lambda values, _: (values > 0).mean(dim=2, dtype=torch.float32)),
    "contribution": _Measure(_taylor, "logit"),
    "contribution_loss": _Measure(_taylor, "loss"),
    "coefficient": _Measure(lambda _, gradients: gradients.abs().mean(dim=2, dtype=_wide(gradients)), "logit"),
}


def _wide(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _selectivity(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of mean activations (classes, filters): own minus the others' mean, over their sum; 0 for a dead filter."""
    others = (means.sum(axis=0) - means) / max(1, len(means) - 1)
    total = means + others
    return np.divide(means - others, total, out=np.zeros_like(means), where=total > 0)


@dataclass(frozen=True)
class _Derived:
    """Class means (classes, filters) computed from those of other scores."""

    needs: tuple[str, ...]
    of: Callable[..., NDArray[np.float64]]


_DERIVED: dict[str, _Derived] = {
    "product": _Derived(("activation", "contribution"), np.multiply),
    "product_loss": _Derived(("activation", "contribution_loss"), np.multiply),
    "selectivity": _Derived(("activation",), _selectivity),
    "apoz": _Derived(("positives",), lambda positives: 1 - positives),
}

STREAMED = (
    "activation",
    "contribution",
    "contribution_loss",
    "product",
    "product_loss",
    "coefficient",
    "positives",
    "selectivity",
    "random",
)
"""The scores of `all_scores`."""


# -- the pass ----------------------------------------------------------------------------------------------------------
def measure(
    model: nn.Module,
    data: Batches,
    config: ScoreConfig,
    names: Sequence[str],
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
) -> dict[str, Scores]:
    """The scores `names` from one pass over `data`: for each batch one forward pass, and one backward pass for each Z.

    With `masks`, (classes, filters) by layer, every frame runs in the network cut to its own class's path. `model` is
    evaluated and stays as it is. ValueError for unknown names, labels outside the classes, and a class without frames.
    """
    needed = _needed(names)
    targets = list(dict.fromkeys(target for name in needed if (target := _MEASURES[name].target) is not None))
    sums = Sums(config.classes)
    ran: list[str] = []
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        once(name, ran)
        ran.append(name)
        if config.layers is None or name in config.layers:
            seen[name] = output if output.requires_grad or not targets else output.requires_grad_()
        return output

    with frozen(model), torch.set_grad_enabled(bool(targets)):
        for x, y in data:
            ran.clear()
            seen.clear()
            x, y = placed(model, x), placed(model, y)
            sums.count(y)
            own = {name: torch.tensor(mask, device=y.device)[y] for name, mask in (masks or {}).items()}
            with watched(model, in_turn(kept(own), keep)), in_precision(config.precision, x):
                logits = model(x)
            known(config.layers or (), ran)
            values = {name: _maps(output.detach()) for name, output in seen.items()}
            for target in (None, *targets):
                slopes = values if target is None else _slopes(target, logits, y, seen, last=target == targets[-1])
                for name in needed:
                    if _MEASURES[name].target == target:
                        for layer in seen:
                            sums.add(name, layer, y, _MEASURES[name].of(values[layer], slopes[layer]))
    return {name: _finished(name, sums, config.seed) for name in names}


def _needed(names: Sequence[str]) -> list[str]:
    """What is to be measured for `names`."""
    found: dict[str, None] = {}
    for name in names:
        if name in _DERIVED:
            found |= dict.fromkeys(_DERIVED[name].needs)
        elif name in _MEASURES:
            found[name] = None
        elif name != "random":
            accepted = ", ".join([*_MEASURES, *_DERIVED, "random"])
            raise ValueError(f"unknown score '{name}'; accepted: {accepted}")
    return list(found) or ["activation"]  # random scores need the shapes


def _slopes(target: str, logits: Tensor, y: Tensor, seen: Mapping[str, Tensor], last: bool) -> dict[str, Tensor]:
    """dZ/dA by layer, (n, filters, positions); frames do not mix, so the sum of their Z serves them all."""
    logits = logits.to(_wide(logits))
    own = logits.gather(1, y[:, None]).sum()
    z = functional.cross_entropy(logits, y, reduction="sum") if target == "loss" else own
    found = torch.autograd.grad(z, list(seen.values()), retain_graph=not last)
    return {name: _maps(gradient) for name, gradient in zip(seen, found, strict=True)}


def _maps(values: Tensor) -> Tensor:
    """(n, filters, ...) as (n, filters, positions)."""
    return values.flatten(2) if values.ndim > 2 else values[:, :, None]


class Sums:
    """Sums over frames, by score and layer, float64 (classes, filters)."""

    def __init__(self, classes: int) -> None:
        self.frames = torch.zeros(classes, dtype=torch.int64)
        self.totals: dict[str, dict[str, Tensor]] = {}

    def count(self, y: Tensor) -> None:
        """Take note of frames of classes `y` (n,); ValueError for what is no class."""
        classes = len(self.frames)
        if y.numel() and (int(y.min()) < 0 or int(y.max()) >= classes):
            raise ValueError(f"labels {int(y.min())} to {int(y.max())}; accepted: 0 to {classes - 1}")
        self.frames += torch.bincount(y.cpu(), minlength=classes)

    def add(self, name: str, layer: str, y: Tensor, values: Tensor) -> None:
        """Add `values` (n, filters) of frames of classes `y`."""
        layers = self.totals.setdefault(name, {})
        if layer not in layers:
            layers[layer] = torch.zeros(len(self.frames), values.shape[1], dtype=torch.float64, device=values.device)
        layers[layer].index_add_(0, y, values.double())

    def means(self, name: str) -> dict[str, NDArray[np.float64]]:
        """Means over each class's frames, by layer; ValueError for a class without frames."""
        missing = (self.frames == 0).nonzero().flatten().tolist()
        if missing:
            raise ValueError(f"no frame of class {missing[0]}; accepted: one or more of each")
        frames = self.frames[:, None]
        return {layer: (total.cpu() / frames).numpy() for layer, total in self.totals[name].items()}


def _finished(name: str, sums: Sums, seed: int) -> Scores:
    if name == "random":
        shapes = next(iter(sums.totals.values()))
        random = np.random.default_rng(seed)
        return Scores(name, tuple(shapes), tuple(random.random(tuple(total.shape)) for total in shapes.values()))
    if name in _DERIVED:
        parts = [sums.means(part) for part in _DERIVED[name].needs]
        return Scores(name, tuple(parts[0]), tuple(_DERIVED[name].of(*(p[layer] for p in parts)) for layer in parts[0]))
    means = sums.means(name)
    return Scores(name, tuple(means), tuple(means.values()))


def placed(model: nn.Module, values: Tensor) -> Tensor:
    """`values` on the model's device; frames in its floating-point type too."""
    parameter = next(model.parameters())
    return values.to(parameter.device, parameter.dtype if values.is_floating_point() else values.dtype)


def in_precision(precision: Precision, x: Tensor) -> AbstractContextManager[object]:
    """Inside, convolutions and products run in bfloat16 if `precision` says so."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16")


# -- the scores --------------------------------------------------------------------------------------------------------
def all_scores(model: nn.Module, data: Batches, config: ScoreConfig) -> dict[str, Scores]:
    """Every score in `STREAMED` for all classes and layers, from one pass."""
    return measure(model, data, config, STREAMED)


def activation(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """Mean |A| over positions and frames."""
    return measure(model, data, config, ["activation"])["activation"]


def contribution(
    model: nn.Module, data: Batches, config: ScoreConfig, target: Literal["logit", "loss"] = "logit"
) -> Scores:
    """Contribution index |dZ/dA * A|: summed over the map, then the mean of the absolute value over frames.

    That is what Z loses to first order when the filter's map is zero (Molchanov et al. 2017, eq. 7), with Z the logit
    of the frame's class (Yu et al. 2018) or its cross entropy.
    """
    name = "contribution" if target == "logit" else "contribution_loss"
    return measure(model, data, config, [name])[name]


def product(model: nn.Module, data: Batches, config: ScoreConfig, target: Literal["logit", "loss"] = "logit") -> Scores:
    """The class's mean activation times its contribution index."""
    name = "product" if target == "logit" else "product_loss"
    return measure(model, data, config, [name])[name]


def coefficient(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """Mean |dZ/dA| over positions and frames, Z the logit; a dead filter may well have one."""
    return measure(model, data, config, ["coefficient"])["coefficient"]


def positives(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """Share of a filter's activations that are above zero: one minus `apoz`, so that more is more important."""
    return measure(model, data, config, ["positives"])["positives"]


def apoz(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """Average percentage of zeros, 0 to 1 (Hu et al. 2016, eq. 1); here alone, more is *less* important."""
    return measure(model, data, config, ["apoz"])["apoz"]


def selectivity(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """(a - b) / (a + b), a the class's mean activation and b that of the others (after Morcos et al. 2018, eq. 1)."""
    return measure(model, data, config, ["selectivity"])["selectivity"]


def random(model: nn.Module, data: Batches, config: ScoreConfig) -> Scores:
    """Even random numbers from the config's seed, the control."""
    return measure(model, data, config, ["random"])["random"]


def ablation(model: nn.Module, data: Batches, config: ScoreConfig, together: int = 16) -> Scores:
    """Mean |Z - Z without the filter|, Z the logit of the frame's class: exact, one forward pass for every filter.

    What lies before a layer runs once where `model` is an `nn.Sequential`; `together` filters are ablated in one batch.
    """
    sums = Sums(config.classes)
    with frozen(model), torch.no_grad():
        for x, y in data:
            x, y = placed(model, x), placed(model, y)
            sums.count(y)
            with in_precision(config.precision, x):
                full = model(x).gather(1, y[:, None])
                seen = activations(model, x, config.layers)
                for layer, output in seen.items():
                    start, rest = _resumed(model, x, layer, output)
                    effects = []
                    for some in pieces(torch.arange(output.shape[1], device=y.device), together):
                        masks = torch.ones(len(some), output.shape[1], device=y.device)
                        masks[torch.arange(len(some)), some] = 0
                        each = {layer: masks.repeat_interleave(len(x), dim=0)}
                        frames = start.repeat(len(some), *[1] * (start.ndim - 1))
                        if rest is None:
                            with watched(model, kept(each)):
                                logits = model(frames)
                        else:
                            logits = rest(kept(each)(layer, frames))
                        chosen = logits.gather(1, y.repeat(len(some))[:, None])
                        effects.append((chosen.reshape(len(some), -1) - full.T).abs().T.to(_wide(full)))
                    sums.add("ablation", layer, y, torch.cat(effects, dim=1))
    return _finished("ablation", sums, config.seed)


def _resumed(model: nn.Module, x: Tensor, layer: str, output: Tensor) -> tuple[Tensor, nn.Module | None]:
    """Where to go on for `layer`: its activations and the modules after them, or the frames and None for all of it."""
    if isinstance(model, nn.Sequential) and not isinstance(model, Branched) and layer in dict(model.named_children()):
        children = list(model.named_children())
        after = [name for name, _ in children].index(layer)
        for index in range(after + 1, len(children)):
            if isinstance(children[index][1], nn.ReLU):
                return output, model[index + 1 :]
            if not isinstance(children[index][1], NORMS):
                break
    return x, None
