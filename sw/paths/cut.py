"""One class against the rest: the network that a class's critical path leaves, and how well it tells its class.

Yu, Qin, Chen, "Distilling critical paths in convolutional neural networks" (2018): the network of a class keeps the
filters on its path, its logit biases are zero, and nothing is trained. All other classes are degraded in it, so what
is asked of its logits matters: see `Statistic`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
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
from sw.pruning.scores import unfolded
from sw.train import batches

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


@dataclass(frozen=True, eq=False)
class Cut:
    """One network for every class: `networks[c]` of what `head`, which all share, makes of a frame."""

    head: nn.Module
    networks: tuple[nn.Module, ...]


def cut(
    model: nn.Module,
    path: CriticalPath,
    frame: tuple[int, int, int],
    biases: bool = False,
    fit: Batches | None = None,
) -> Cut:
    """`model` cut to the path of each class, for frames of shape `frame`; logit biases are zero unless `biases`.

    Of an `nn.Sequential` the networks are physically smaller copies of what follows the first layer on the path; of
    other modules they are the module with the activations of the other filters set to zero. With `fit`, labelled
    frames that are not those to be judged, the remaining weights are fitted (`compensated`); this needs an
    `nn.Sequential`, and ValueError says so.
    """
    head, tail = split(model, path.layers)
    with frozen(model), torch.no_grad():
        start = head(placed(model, torch.zeros(1, *frame)))
    shape = tuple(start.shape[1:])
    if not isinstance(tail, nn.Sequential) or len(shape) != 3:
        if fit is not None:
            raise ValueError(f"cannot fit the weights of {type(model).__name__}; accepted: nn.Sequential, on maps")
        return Cut(head, tuple(_Masked(tail, path, cls, biases) for cls in range(path.classes)))
    small = [distilled(tail, path, cls, (shape[0], shape[1], shape[2]), biases) for cls in range(path.classes)]
    if fit is not None:
        with frozen(model), torch.no_grad():
            pieces = [(head(placed(model, x)).cpu().float(), y.cpu()) for x, y in fit]
        compensated(tail, small, path, torch.cat([x for x, _ in pieces]), torch.cat([y for _, y in pieces]))
    return Cut(head, tuple(network.to(start.device, start.dtype) for network in small))


DAMPING = 1e-2  # of the mean of a moment's diagonal


def compensated(model: nn.Sequential, small: Sequence[nn.Sequential], path: CriticalPath, x: Tensor, y: Tensor) -> None:
    """Fit, in place, the weights of the class networks `small` of `model` to what `model` gives, by least squares.

    Layer after layer, a class network's weights become those that, on its own inputs to the layer, come closest to what
    `model` computes for the same filters before normalisation (He, Zhang, Sun, "Channel pruning for accelerating very
    deep neural networks" (2017), eq. 3, with the inputs as they now are). Frames `x` (n, c, h, w) of the class count
    together as much as all others; `y` (n,). No gradient is followed and no size changes. Layers before the second
    one on the path keep their weights.
    """
    wanted = _targets(copy.deepcopy(model).cpu().float(), x)
    for cls, network in enumerate(small):
        own = y == cls
        weights = torch.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())
        children = list(network.named_children())
        values, changed = x, False
        with torch.no_grad():
            for (name, layer), (_, follower) in zip(children, [*children[1:], ("", None)], strict=True):
                if changed and isinstance(layer, nn.Conv2d | nn.Linear):
                    target = wanted[name][:, torch.tensor(path.of(name)[cls])] if name in path.layers else wanted[name]
                    _fit(network, name, values, target, weights, follower)
                changed = changed or name in path.layers
                values = torch.cat([layer(some) for some in batches(values, 256)])


def _fit(
    network: nn.Sequential, name: str, x: Tensor, target: Tensor, weights: Tensor, follower: nn.Module | None
) -> None:
    """Make layer `name` give `target` (n, filters, ...) for inputs `x` of frame weights (n,), as nearly as it can."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    columns, filters = layer.weight[0].numel() + 1, len(layer.weight)
    square, mixed = torch.zeros(columns, columns).double(), torch.zeros(columns, filters).double()
    for some, wanted, weight in zip(batches(x, 256), batches(target, 256), batches(weights, 256), strict=True):
        patches = unfolded(network, name, some)  # (n, columns, positions)
        ones = torch.ones(len(some), 1, patches.shape[2])
        rows = torch.cat([patches, ones], dim=1).transpose(0, 1)
        scaled = (rows * weight[:, None]).flatten(1)
        square += (scaled @ rows.flatten(1).T).double()
        mixed += (scaled @ wanted.reshape(len(some), filters, -1).transpose(0, 1).flatten(1).T).double()
    if layer.bias is None and not isinstance(follower, nn.BatchNorm2d):
        square, mixed = square[:-1, :-1], mixed[:-1]  # there is nowhere to put a constant
    damping = torch.full((len(square),), DAMPING * float(square.diagonal()[: columns - 1].mean()) or 1.0).double()
    damping[columns - 1 :] = 0
    solution = torch.linalg.solve(square + torch.diag(damping), mixed).T.float()
    layer.weight.copy_(solution[:, : columns - 1].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(solution[:, -1])
    elif isinstance(follower, nn.BatchNorm2d) and follower.running_mean is not None:
        follower.running_mean.sub_(solution[:, -1])


def _targets(model: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """What each layer with weights puts out for `x`."""
    found = {}
    with frozen(model), torch.no_grad():
        for name, layer in model.named_children():
            x = torch.cat([layer(some) for some in batches(x, 256)])
            if isinstance(layer, nn.Conv2d | nn.Linear):
                found[name] = x
    return found


def responses(networks: Cut, data: Batches, precision: Literal["float32", "bfloat16"] = "float32") -> Responses:
    """The logits of all frames of `data` in the network of every class."""
    logits: list[list[Tensor]] = [[] for _ in networks.networks]
    labels = []
    model = nn.ModuleList([networks.head, *networks.networks])
    with frozen(model), torch.no_grad():
        for x, y in data:
            x = placed(model, x)
            with in_precision(precision, x):
                middle = networks.head(x)
                for found, network in zip(logits, networks.networks, strict=True):
                    found.append(network(middle).double().cpu())
            labels.append(y.cpu())
    return Responses(torch.stack([torch.cat(some) for some in logits]).numpy(), torch.cat(labels).numpy())


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


def selected(found: Responses, tp: float) -> Rule:
    """Of the rules that `calibrated` gives for each `Statistic`, the one of fewest false positives in `found`."""
    rules = [calibrated(found, kind, tp) for kind in Statistic]
    return min(rules, key=lambda rule: float(one_vs_all(found, rule).fp.mean()))


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
    """One-vs-all at a ratio of filters kept, by the published rule and by a calibrated one (`selected`)."""

    ratio: float
    published: OneVsAll
    calibrated: OneVsAll


def curve(
    model: nn.Module,
    paths: Iterable[CriticalPath],
    frame: tuple[int, int, int],
    data: Batches,
    calibration: Batches,
    tp: float,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Iterator[Point]:
    """One-vs-all for each of `paths`, on `data`; the rule is `selected` for `tp` on the frames of `calibration`.

    Frames are of shape `frame`; both sets are iterated once for every path.
    """
    for path in paths:
        networks = cut(model, path, frame)
        rule = selected(responses(networks, calibration, precision), tp)
        found = responses(networks, data, precision)
        yield Point(path.ratio, one_vs_all(found, as_published(path.classes)), one_vs_all(found, rule))
