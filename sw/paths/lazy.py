"""What predictors are worth: recall, share computed and accuracy of a network whose layers compute what is predicted.

Layers are made lazy one after another, as the accelerator runs them: each predictor is found and judged on strengths
that the lazy layers before it leave. Filters that are not chosen are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw import predictors
from sw.models import require_chain
from sw.paths.hardware import Calibration, derive, judged, wanted
from sw.paths.path import CriticalPath
from sw.paths.scores import Precision, in_precision, placed
from sw.paths.strengths import of_channels
from sw.paths.watch import LAYERS, frozen, known, observed_layers
from sw.predictors import top

BoolArray = NDArray[np.bool_]
Strengths = NDArray[np.float32]

STEP = 2.0**-12  # of the integer strengths that linear predictors see


class Kind(StrEnum):
    """How filters are chosen."""

    BOOLEAN = "boolean"  # path matrix from the bits of frames
    CLASSES = "classes"  # path matrix from class paths, thresholds from frames
    LINEAR = "linear"  # sw.predictors, the k of highest score
    STATIC = "static"  # the k that calibration frames want most often, whatever the frame
    ORACLE = "oracle"  # the k of highest strength, known only after they are computed
    RANDOM = "random"  # any k, anew for each frame


@dataclass(frozen=True)
class LayerWorth:
    """Of one lazy layer: `recall` of the filters of highest strength, and mean `share` of its filters computed."""

    layer: str
    recall: float
    share: float


@dataclass(frozen=True)
class Worth:
    """What a `kind` of predictor is worth where a `share` of filters is to be computed.

    `accuracy` of the network on the test frames; `layers` say what was computed really.
    """

    kind: Kind
    share: float
    accuracy: float
    layers: tuple[LayerWorth, ...]

    @property
    def recall(self) -> float:
        """Mean over layers."""
        return float(np.mean([layer.recall for layer in self.layers]))

    @property
    def computed(self) -> float:
        """Mean share computed over layers."""
        return float(np.mean([layer.share for layer in self.layers]))


@dataclass(frozen=True, eq=False)
class Lazy:
    """A network, an `nn.Sequential` of named layers, some of which are to be lazy.

    `calibration` (n, c, h, w) are the frames that predictors are found on, `x` and `y` those that all is judged on.
    `path` gives class paths of the lazy layers, and of what feeds them for `Kind.CLASSES`.
    """

    model: nn.Sequential
    layers: tuple[str, ...]
    path: CriticalPath
    calibration: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    precision: Precision = "float32"
    seed: int = 1
    batch: int = 250

    def worth(
        self, kinds: Sequence[Kind], shares: Sequence[float], done: Callable[[], None] = lambda: None
    ) -> tuple[Worth, ...]:
        """Every kind at every share; `done` is called after each. What comes before the lazy layers runs once.

        ValueError for layers that are not there, not followed by a ReLU, or not on the path.
        """
        known(self.layers, observed_layers(self.model))
        for layer in self.layers:
            self.path.of(layer)
        found = []
        with frozen(self.model), torch.no_grad():
            for kind in kinds:
                for share in shares:
                    found.append(self._one(kind, share))
                    done()
        return tuple(found)

    def dense(self) -> float:
        """Accuracy on the test frames when every filter is computed."""
        _, tail = self._split
        with frozen(self.model), torch.no_grad():
            return self._accuracy(self._run(nn.Sequential(*tail.values()), self._starts[1]))

    @cached_property
    def _split(self) -> tuple[nn.Sequential, dict[str, nn.Sequential]]:
        """What comes before the lazy layers, and the segments from there on."""
        segments = dict(_segments(self.model))
        names = list(segments)
        first = min(names.index(layer) for layer in self.layers)
        head = nn.Sequential(*[segments[name] for name in names[:first]])
        return head, {name: segments[name] for name in names[first:]}

    @cached_property
    def _starts(self) -> tuple[Tensor, Tensor]:
        """What the first lazy layer reads, for calibration and test frames."""
        head, _ = self._split
        with frozen(self.model), torch.no_grad():
            seen, test = (
                self._run(head, placed(self.model, torch.tensor(some))) for some in (self.calibration, self.x)
            )
        return seen, test

    def _accuracy(self, logits: Tensor) -> float:
        return float((logits.float().argmax(dim=1).cpu().numpy() == self.y).mean())

    def _one(self, kind: Kind, share: float) -> Worth:
        _, tail = self._split
        seen, test = self._starts
        random = np.random.default_rng(self.seed)
        layers = []
        before: str | None = _feeding(self.model, next(iter(tail)))
        for name, segment in tail.items():
            made, judged_on = self._run(segment, seen), self._run(segment, test)
            if name in self.layers:
                filters = self.path.of(name).shape[1]
                channels = self.path.of(before).shape[1] if before in self.path.layers else None
                reads = [_strengths(values, channels) for values in (seen, test)]
                makes = [_strengths(values, filters) for values in (made, judged_on)]
                masks = self.path.of(name), None if before not in self.path.layers else self.path.of(before)
                chosen = [
                    _chosen(kind, name, share, masks, (reads[0], makes[0]), some, random)
                    for some in zip(reads, makes, strict=True)
                ]
                found = judged(chosen[1], makes[1], share)
                layers.append(LayerWorth(name, found.recall, found.share))
                made, judged_on = _masked(made, chosen[0]), _masked(judged_on, chosen[1])
            seen, test, before = made, judged_on, name
        return Worth(kind, share, self._accuracy(test), tuple(layers))

    def _run(self, module: nn.Module, values: Tensor) -> Tensor:
        with in_precision(self.precision, values):
            return torch.cat([module(some) for some in values.split(self.batch)])  # type: ignore[no-untyped-call]


def _chosen(
    kind: Kind,
    name: str,
    share: float,
    masks: tuple[BoolArray, BoolArray | None],
    calibration: tuple[Strengths, Strengths],
    frames: tuple[Strengths, Strengths],
    random: np.random.Generator,
) -> BoolArray:
    """Which filters (n, filters) of layer `name` are computed for `frames`: strengths it reads and would make."""
    reads, makes = frames
    keep = max(1, round(share * makes.shape[1]))
    match kind:
        case Kind.BOOLEAN | Kind.CLASSES:
            evidence = "frames" if kind is Kind.BOOLEAN else "classes"
            settings = Calibration(share, evidence, always=0)  # type: ignore[arg-type]
            return derive(name, masks[0], *calibration, settings, masks[1]).chosen(reads)
        case Kind.LINEAR:
            fitted = predictors.fit(np.rint(calibration[0] / STEP).astype(np.int64), calibration[1] / STEP)
            return top(fitted.scores(np.rint(reads / STEP).astype(np.int64)), keep)
        case Kind.STATIC:
            often = wanted(calibration[1], share).mean(axis=0)
            return top(np.tile(often, (len(makes), 1)), keep)
        case Kind.ORACLE:
            return top(makes, keep)
        case Kind.RANDOM:
            return top(random.random(makes.shape), keep)


def _segments(model: nn.Sequential) -> Iterator[tuple[str, nn.Sequential]]:
    """Each layer with all that follows it up to the next one: from what it reads to what the next one reads."""
    require_chain(model, "a study of lazy choices")
    name, parts = "", list[nn.Module]()
    for child, module in model.named_children():
        if isinstance(module, LAYERS):
            if parts:
                yield name, nn.Sequential(*parts)
            name, parts = child, []
        parts.append(module)
    yield name, nn.Sequential(*parts)


def _feeding(model: nn.Sequential, name: str) -> str | None:
    """The layer before layer `name`."""
    before = None
    for child, module in model.named_children():
        if child == name:
            return before
        if isinstance(module, LAYERS):
            before = child
    return before


def _strengths(values: Tensor, channels: int | None) -> Strengths:
    """Mean |a| (n, channels) of maps, or of flattened maps of so many channels."""
    found: Strengths = of_channels(values.float(), channels or values.shape[1]).cpu().numpy()
    return found


def _masked(values: Tensor, chosen: BoolArray) -> Tensor:
    """`values` (n, filters, ...), or flattened maps, zero where not `chosen` (n, filters)."""
    maps = values.reshape(*chosen.shape, -1) * torch.tensor(chosen, device=values.device)[:, :, None]
    return maps.reshape(values.shape)
