"""One class against the rest: the network that a class's critical path leaves, and how well it tells its class.

Yu, Qin, Chen, "Distilling critical paths in convolutional neural networks" (2018): the network of a class keeps the
filters on its path, its logit biases are zero, and nothing is trained. All other classes are degraded in it, so what
is asked of its logits matters: see `Statistic`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw.paths.path import CriticalPath
from sw.paths.scores import Batches, in_precision, placed
from sw.paths.watch import frozen, in_turn, kept, known, split, watched
from sw.pruning.forms import forms, weighted
from sw.pruning.masks import shrink

FloatArray = NDArray[np.float64]


# -- the smaller network -----------------------------------------------------------------------------------------------
def distilled(
    model: nn.Sequential, path: CriticalPath, cls: int, frame: tuple[int, int, int], biases: bool = False
) -> nn.Sequential:
    """A smaller float32 copy of `model`, on the CPU, with only the filters on the path of class `cls`.

    It computes what `model` computes for frames of shape `frame` with the others' activations zero. Logit biases are
    zero unless `biases`. ValueError for layers and classes that `model` or the path do not have.
    """
    if not 0 <= cls < path.classes:
        raise ValueError(f"class {cls}; accepted: 0 to {path.classes - 1}")
    model = copy.deepcopy(model).cpu().float().requires_grad_(True)
    with torch.autocast("cpu", enabled=False):
        shapes = forms(model, frame)
    unknown = [name for name in path.layers if name not in shapes]
    if unknown:
        raise ValueError(f"path of layer '{unknown[0]}': no such layer; layers: {', '.join(shapes)}")
    masks = {}
    for name, mask in zip(path.layers, path.masks, strict=True):
        shape = shapes[name].shape
        if mask.shape[1] != shape[0]:
            raise ValueError(f"path of layer '{name}' has {mask.shape[1]} filters; accepted: {shape[0]}")
        masks[name] = torch.tensor(mask[cls])[:, None, None, None].expand(shape).clone()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):  # autograd finds which channels are coupled
        small = shrink(model, masks, frame).model
    head = list(weighted(small).values())[-1]
    if head.bias is not None and not biases:
        nn.init.zeros_(head.bias)
    return small


@dataclass(frozen=True)
class Size:
    """`megabytes` (10**6) of all parameters and normalisation statistics as float32; `macs` of one frame."""

    megabytes: float
    macs: int


def size(model: nn.Sequential, frame: tuple[int, int, int]) -> Size:
    """What `model` takes for frames of shape `frame`."""
    numbers = sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())
    return Size(4 * numbers / 1e6, sum(form.weights * form.windows for form in forms(model, frame).values()))


# -- its answers -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Responses:
    """`logits[c]` (frames, outputs) float64 of the network cut to the path of class c; `labels` (frames,)."""

    logits: FloatArray
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or self.logits.shape[1] != len(self.labels):
            raise ValueError(
                f"logits {self.logits.shape} of {len(self.labels)} frames; accepted: (classes, n, outputs)"
            )


def responses(
    model: nn.Module,
    path: CriticalPath,
    data: Batches,
    precision: Literal["float32", "bfloat16"] = "float32",
    biases: bool = False,
) -> Responses:
    """The logits of all frames in the network of every class; logit biases are left out unless `biases`.

    What lies before the path runs once; of an `nn.Sequential` the rest runs as the smaller networks that they are, of
    other modules with the activations of the other filters set to zero.
    """
    logits: list[list[Tensor]] = [[] for _ in range(path.classes)]
    labels = []
    head, tail = split(model, path.layers)
    networks: list[nn.Module] = []
    with frozen(model), torch.no_grad():
        for x, y in data:
            x = placed(model, x)
            with in_precision(precision, x):
                middle = head(x)
                if not networks:
                    networks = [_network(tail, path, cls, middle, biases) for cls in range(path.classes)]
                for cls, network in enumerate(networks):
                    logits[cls].append(network(middle).double().cpu())
            labels.append(y.cpu())
    return Responses(torch.stack([torch.cat(some) for some in logits]).numpy(), torch.cat(labels).numpy())


def _network(tail: nn.Module, path: CriticalPath, cls: int, x: Tensor, biases: bool) -> nn.Module:
    """`tail` cut to the path of `cls`, for inputs like `x`."""
    if isinstance(tail, nn.Sequential) and x.ndim == 4:
        _, channels, height, width = x.shape
        small = distilled(tail, path, cls, (channels, height, width), biases)
        return small.to(x.device, next(tail.parameters()).dtype)
    return _Masked(tail, path, cls, biases)


class _Masked(nn.Module):
    """A network whose activations off a path are zero."""

    def __init__(self, model: nn.Module, path: CriticalPath, cls: int, biases: bool) -> None:
        super().__init__()
        self.model = model
        self.masks = {name: torch.tensor(mask[cls]) for name, mask in zip(path.layers, path.masks, strict=True)}
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
        self.bias = last[0].bias if last and not biases else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, outputs) of `x`."""
        seen: list[str] = []

        def note(name: str, output: Tensor) -> Tensor:
            seen.append(name)
            return output

        with watched(self.model, in_turn(note, kept(self.masks))):
            logits: Tensor = self.model(x)
        known(list(self.masks), seen)
        return logits if self.bias is None else logits - self.bias


# -- from logits to a decision -----------------------------------------------------------------------------------------
class Statistic(StrEnum):
    """What of a class network's logits z is compared with a threshold, for class c."""

    LOGIT = "logit"  # z_c
    MARGIN = "margin"  # z_c - the largest of the others
    ODDS = "odds"  # z_c - log sum exp of the others: the logarithm of softmax_c / (1 - softmax_c)
    STANDARD = "standard"  # (z_c - mean of z) / standard deviation of z


def statistic(logits: FloatArray, cls: int, kind: Statistic) -> FloatArray:
    """`kind` of `logits` (n, outputs) for class `cls`: (n,)."""
    own, others = logits[:, cls], np.delete(logits, cls, axis=1)
    if kind is Statistic.LOGIT:
        return own
    if kind is Statistic.MARGIN:
        return own - others.max(axis=1)
    if kind is Statistic.ODDS:
        top = others.max(axis=1)
        return own - top - np.log(np.exp(others - top[:, None]).sum(axis=1))
    spread = logits.std(axis=1)
    return (own - logits.mean(axis=1)) / np.where(spread > 0, spread, 1)


@dataclass(frozen=True, eq=False)
class Rule:
    """A frame is taken for class c if the `kind` of its logits reaches `thresholds[c]`; (classes,)."""

    kind: Statistic
    thresholds: FloatArray


def as_published(classes: int) -> Rule:
    """The class's logit is the largest."""
    return Rule(Statistic.MARGIN, np.zeros(classes))


def calibrated(found: Responses, kind: Statistic, tp: float) -> Rule:
    """The highest thresholds at which at least the share `tp` of each class's own frames in `found` is accepted.

    To be used on other frames than those it is judged by. ValueError for a share outside 0..1, or a class without
    frames.
    """
    if not 0 < tp <= 1:
        raise ValueError(f"share of true positives {tp}; accepted: above 0, up to 1")
    thresholds = []
    for cls, logits in enumerate(found.logits):
        own = np.sort(statistic(logits[found.labels == cls], cls, kind))[::-1]
        if not len(own):
            raise ValueError(f"no frame of class {cls} to calibrate with; accepted: one or more of each")
        thresholds.append(own[int(np.ceil(tp * len(own) - 1e-9)) - 1])
    return Rule(kind, np.array(thresholds))


@dataclass(frozen=True, eq=False)
class OneVsAll:
    """For each class (classes,): shares of its own frames and of all others that are accepted; precision, recall.

    Precision counts frames as they come: with ten classes, nine others for each of its own; 1 if none is accepted.
    """

    tp: FloatArray
    fp: FloatArray
    precision: FloatArray

    @property
    def recall(self) -> FloatArray:
        """Share of a class's frames that are accepted: `tp`."""
        return self.tp

    @property
    def accuracy(self) -> float:
        """Mean over classes of the mean of `tp` and `1 - fp`."""
        return float((self.tp + 1 - self.fp).mean() / 2)


def one_vs_all(found: Responses, rule: Rule) -> OneVsAll:
    """How well `rule` tells each class's frames from all others by the logits of its network."""
    tp, fp, precision = [], [], []
    for cls, logits in enumerate(found.logits):
        taken = statistic(logits, cls, rule.kind) >= rule.thresholds[cls]
        own = found.labels == cls
        tp.append(taken[own].mean())
        fp.append(taken[~own].mean())
        precision.append(taken[own].sum() / taken.sum() if taken.any() else 1.0)
    return OneVsAll(np.array(tp), np.array(fp), np.array(precision))


@dataclass(frozen=True, eq=False)
class Point:
    """One-vs-all at a ratio of filters kept, by the published rule and by a calibrated one."""

    ratio: float
    published: OneVsAll
    calibrated: OneVsAll


def curve(
    model: nn.Module,
    paths: Iterable[CriticalPath],
    data: Batches,
    calibration: Batches,
    kind: Statistic,
    tp: float,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Iterator[Point]:
    """One-vs-all for each of `paths`, on `data`; thresholds of `kind` are set for `tp` on the frames of `calibration`.

    Both are iterated once for every path.
    """
    for path in paths:
        rule = calibrated(responses(model, path, calibration, precision), kind, tp)
        found = responses(model, path, data, precision)
        yield Point(path.ratio, one_vs_all(found, as_published(path.classes)), one_vs_all(found, rule))
