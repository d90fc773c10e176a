"""One class against the rest: the network that a class's critical path leaves, and how well it tells its class.

Yu, Qin, Chen, "Distilling critical paths in convolutional neural networks" (2018): the network of a class keeps the
filters on its path, its logit biases are zero, and nothing is trained. All other classes are degraded in it, so what
is asked of its logits matters: see `Statistic`.
"""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sw.archive import FileError, read
from sw.models import require_chain
from sw.paths.path import CriticalPath, fingerprint
from sw.paths.scores import Batches, Precision, in_precision, placed
from sw.paths.watch import LAYERS, frozen, in_turn, kept, known, split, watched
from sw.pruning.forms import forms, weighted
from sw.pruning.masks import shrink
from sw.pruning.scores import unfolded
from sw.train import batches, write_atomically

FloatArray = NDArray[np.float64]


class Header(BaseModel):
    """What stands in a file of a class's network beside its state."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    format: Literal["penstock class network 1"]
    score: str
    ratio: float
    cls: int = Field(alias="class")
    model: str


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


def save(file: Path, network: nn.Sequential, path: CriticalPath, cls: int, model: nn.Module) -> None:
    """Write the `distilled` network of class `cls`: an npz file of its state, with a JSON header.

    The header has the score, the ratio, the class and the fingerprint of `model`, from which `load` builds it again.
    """
    header = Header(
        format="penstock class network 1",
        score=path.score,
        ratio=path.ratio,
        **{"class": cls},
        model=fingerprint(model),
    )
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(header.model_dump_json()), **arrays)
    write_atomically(file, buffer.getvalue())


def load(file: Path, model: nn.Sequential) -> nn.Sequential:
    """The network that `save` wrote, which was cut from `model`; `FileError` names the file if it holds another."""
    what = "a file of a class's network"
    found = read(file, what)
    try:
        header = Header.model_validate_json(str(found.pop("header")))
        arrays = {name: torch.tensor(array) for name, array in found.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"'{file}' is not {what}: {error}") from error
    if header.model != (expected := fingerprint(model)):
        raise FileError(f"'{file}' was cut from the model {header.model[:16]}; this one is {expected[:16]}")
    small = copy.deepcopy(model).cpu().float().eval()
    state = small.state_dict()
    if arrays.keys() != state.keys():
        name = min(arrays.keys() ^ state.keys())
        raise FileError(f"'{file}' is not {what}: '{name}' is {'missing' if name in state else 'nothing of the model'}")
    for name, value in arrays.items():
        if (value.dtype, value.ndim) != (state[name].dtype, state[name].ndim):
            raise FileError(
                f"'{file}' is not {what}: '{name}' is {value.dtype} with {value.ndim} axes; accepted: "
                f"{state[name].dtype} with {state[name].ndim}"
            )
    for name, module in small.named_modules():
        own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.rpartition(".")[0] == name}
        for key, value in own.items():
            setattr(module, key, nn.Parameter(value) if key in dict(module.named_parameters(recurse=False)) else value)
        if isinstance(module, nn.Conv2d):
            module.out_channels, module.in_channels = module.weight.shape[:2]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = len(module.weight)
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


class Picked(nn.Module):
    """Only the channels (k,) `index` of maps (n, channels, ...)."""

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """The channels of `x`."""
        return x[:, self.index]


def shared(model: nn.Sequential, layers: Sequence[str]) -> tuple[nn.Sequential, nn.Sequential]:
    """(head, tail), with ``model(x) = tail(head(x))`` and the first of `layers` the last one in the head.

    A path changes what follows that layer, and which of its filters are read, but not what they give: the head serves
    every path of these layers. Normalisation, ReLU and pooling behind the layer are in it too.
    """
    require_chain(model, "a cut")
    before, after = split(model, layers)
    assert isinstance(before, nn.Sequential)
    assert isinstance(after, nn.Sequential)
    children = list(after.named_children())
    end = _behind_first(after)
    first = nn.Sequential(*before.children(), *after[:end].children())
    return first, nn.Sequential(OrderedDict[str, nn.Module](children[end:]))


def _behind_first(tail: nn.Sequential) -> int:
    """How many of the modules belong to the first layer."""
    number = 1
    while number < len(tail) and not isinstance(tail[number], (*LAYERS, nn.Flatten)):
        number += 1
    return number


def cut(
    model: nn.Module,
    path: CriticalPath,
    frame: tuple[int, int, int],
    biases: bool = False,
    fit: Fitting | None = None,
) -> Cut:
    """`model` cut to the path of each class, for frames of shape `frame`; logit biases are zero unless `biases`.

    Of an `nn.Sequential` the networks are physically smaller copies of what follows the first layer on the path, and
    the head is `shared`; of other modules they are the module with the activations of the other filters set to zero.
    With `fit` the remaining weights are fitted (`compensated`); this needs an `nn.Sequential`, and ValueError says so.
    """
    head, tail = split(model, path.layers)
    with frozen(model), torch.no_grad():
        start = head(placed(model, torch.zeros(1, *frame)))
    shape = tuple(start.shape[1:])
    if not isinstance(tail, nn.Sequential) or len(shape) != 3:
        if fit is not None:
            raise ValueError(f"cannot fit the weights of {type(model).__name__}; accepted: nn.Sequential, on maps")
        return Cut(head, tuple(_Masked(tail, path, cls, biases) for cls in range(path.classes)))
    end, networks = _behind_first(tail), []
    first, _ = next(tail.named_children())
    for cls in range(path.classes):
        small = distilled(tail, path, cls, (shape[0], shape[1], shape[2]), biases)
        picked = Picked(torch.tensor(path.of(first)[cls]).nonzero().flatten())
        rest = OrderedDict[str, nn.Module](list(small.named_children())[end:])
        networks.append(nn.Sequential(OrderedDict[str, nn.Module](picked=picked) | rest))
    if fit is not None:
        compensated(networks, path, fit)
    common = nn.Sequential(head, tail[:end])
    return Cut(common, tuple(network.to(start.device, start.dtype) for network in networks))


DAMPING = 1e-2  # of the mean of a moment's diagonal


@dataclass(frozen=True, eq=False)
class Fitting:
    """What weights are fitted to: `x` of labels `y` (n,), the output of a network's `shared` head for some frames.

    `targets[name]` (n, filters, ...) is what layer `name` of the rest of the network gives for them, before
    normalisation. Frames should be others than those that the fitted networks are judged by.
    """

    x: Tensor
    y: Tensor
    targets: Mapping[str, Tensor]
    precision: Precision


def fitting(model: nn.Module, layers: Sequence[str], data: Batches, precision: Precision = "float32") -> Fitting:
    """The labelled frames `data` for `cut` by any path of `layers`; ValueError for what is no `nn.Sequential`."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"cannot fit the weights of {type(model).__name__}; accepted: nn.Sequential, on maps")
    head, tail = shared(copy.deepcopy(model).cpu().float(), layers)
    targets = {}
    with frozen(head), frozen(tail), torch.no_grad():
        pieces = [(_run(head, x.cpu().float(), precision), y.cpu()) for x, y in data]
        start, y = torch.cat([x for x, _ in pieces]), torch.cat([y for _, y in pieces])
        x = start
        for name, layer in tail.named_children():
            x = _run(layer, x, precision)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                targets[name] = x
    return Fitting(start, y, targets, precision)


def compensated(networks: Sequence[nn.Sequential], path: CriticalPath, fit: Fitting) -> None:
    """Fit, in place, the weights of the `networks` of a `Cut` to what the whole network gives, by least squares.

    Layer after layer, a class network's weights become those that, on its own inputs to the layer, come closest to what
    the whole network computes for the same filters before normalisation (He, Zhang, Sun, "Channel pruning for
    accelerating very deep neural networks" (2017), eq. 3, with the inputs as they now are). Frames of the class count
    together as much as all others. No gradient is followed and no size changes.
    """
    for cls, network in enumerate(networks):
        own = fit.y == cls
        weights = torch.where(own, 0.5 / own.sum(), 0.5 / (~own).sum())
        children = list(network.named_children())
        values = fit.x
        with torch.no_grad():
            for (name, layer), (_, follower) in zip(children, [*children[1:], ("", None)], strict=True):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    target = fit.targets[name]
                    if name in path.layers:
                        target = target[:, torch.tensor(path.of(name)[cls])]
                    _fit(network, name, values, target, weights, follower)
                values = _run(layer, values, fit.precision)


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


def _run(layer: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """What `layer` makes of `x`, some frames at a time, float32."""
    with in_precision(precision, x):
        return torch.cat([layer(some).float() for some in batches(x, 250)])


def responses(networks: Cut, data: Batches, precision: Precision = "float32", own: bool = False) -> Responses:
    """The logits of all frames of `data` in the network of every class; with `own`, NaN for frames of other classes."""
    logits: list[list[Tensor]] = [[] for _ in networks.networks]
    labels = []
    model = nn.ModuleList([networks.head, *networks.networks])
    with frozen(model), torch.no_grad():
        for x, y in data:
            x, y = placed(model, x), y.cpu()
            with in_precision(precision, x):
                middle = networks.head(x)
                for cls, (found, network) in enumerate(zip(logits, networks.networks, strict=True)):
                    asked = y == cls if own else torch.ones_like(y, dtype=torch.bool)
                    answers = network(middle[asked.to(middle.device)]).double().cpu()
                    found.append(torch.full((len(y), answers.shape[1]), torch.nan, dtype=torch.float64))
                    found[-1][asked] = answers
            labels.append(y)
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


def balanced(found: Responses, others: Responses, kind: Statistic, tp: float) -> Rule:
    """Thresholds at which at least the share `tp` of the frames in `found` is accepted, mean over classes.

    Of such thresholds those that accept fewest of `others`, mean over classes too: a class whose frames are hard to
    tell gives up more of them than one whose frames are easy. Every class takes the threshold, one of its own frames'
    values, of highest ``TP - price * FP`` at the highest price that the share allows, found by bisection. ValueError as
    for `calibrated`.
    """
    if not 0 < tp <= 1:
        raise ValueError(f"share of true positives {tp}; accepted: above 0, up to 1")
    values, own_shares, other_shares = [], [], []
    for cls, (logits, against) in enumerate(zip(found.logits, others.logits, strict=True)):
        own = np.sort(statistic(logits[found.labels == cls], cls, kind))[::-1]
        if not len(own):
            raise ValueError(f"no frame of class {cls} to calibrate with; accepted: one or more of each")
        foreign = np.sort(statistic(against[others.labels != cls], cls, kind))
        values.append(own)
        own_shares.append(np.arange(1, len(own) + 1) / len(own))
        other_shares.append(1 - np.searchsorted(foreign, own) / max(1, len(foreign)))

    def at(price: float) -> list[int]:
        return [
            len(own) - 1 - int(np.argmax((own - price * other)[::-1]))
            for own, other in zip(own_shares, other_shares, strict=True)
        ]

    def share(chosen: list[int]) -> float:
        return float(np.mean([own[index] for own, index in zip(own_shares, chosen, strict=True)]))

    low, high = 0.0, 1e6  # at price 0 everything is accepted
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(at(middle)) >= tp - 1e-9 else (low, middle)
    return Rule(kind, np.array([own[index] for own, index in zip(values, at(low), strict=True)]))


def selected(found: Responses, tp: float, others: Responses | None = None) -> Rule:
    """Of the rules that `calibrated` gives for each `Statistic`, the one of fewest false positives in `others`.

    `others` is `found` by default; where its logits are of each class's `own` frames alone, it has to be given.
    """
    rules = [calibrated(found, kind, tp) for kind in Statistic]
    return min(rules, key=lambda rule: float(one_vs_all(others or found, rule).fp.mean()))


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
    precision: Precision = "float32",
) -> Iterator[Point]:
    """One-vs-all for each of `paths`, on `data`; the rule is `selected` for `tp` on the frames of `calibration`.

    Frames are of shape `frame`; both sets are iterated once for every path.
    """
    for path in paths:
        networks = cut(model, path, frame)
        rule = selected(responses(networks, calibration, precision), tp)
        found = responses(networks, data, precision)
        yield Point(path.ratio, one_vs_all(found, as_published(path.classes)), one_vs_all(found, rule))
