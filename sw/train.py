"""Training: one seeded loop for float and quantised networks, and the files that hold their weights.

The loop runs on Lightning Fabric: on a GPU where there is one, and in bfloat16 where the settings say so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from sw.archive import FileError, first_line
from sw.data import Dataset, FloatArray, LabelArray
from sw.gate import Gate, OnlinePredictor, TrainedPredictor, gated

PREDICTOR_RATE = 1e-3  # peak learning rate of trained predictors


@dataclass(frozen=True)
class TrainSettings:
    """An optimiser and a learning rate that rises linearly over a share `warmup` of the steps, then falls as a cosine.

    At each epoch in `restarts` this begins again, with half the peak of before (Loshchilov and Hutter 2017, section 3,
    with peaks that fall); so a training that has ended can be made longer.

    `batch` in images, `rate` the peak learning rate, `decay` the weight decay, `smoothing` that of the labels. `sgd`
    has Nesterov momentum of 0.9. `augment` shifts every image by up to 4 pixels and mirrors every second one.
    `precision` bfloat16 computes convolutions and products in it (sums, weights and updates stay float32); it needs
    half the time on processors that have it. `distil` is the share of the loss that asks for a teacher's answers
    instead of the labels (Hinton et al. 2015, at a temperature of 2).
    """

    epochs: int
    seed: int
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2
    optimiser: Literal["adamw", "sgd"] = "adamw"
    warmup: float = 0.0
    restarts: tuple[int, ...] = ()
    smoothing: float = 0.0
    augment: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    distil: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.rate > 0 or not self.decay >= 0:
            raise ValueError(f"{self}: epochs and batch must be at least 1, rate positive, decay not negative")
        if list(self.restarts) != sorted({*self.restarts} & {*range(1, self.epochs)}):
            raise ValueError(f"{self}: restarts must be epochs within the training, in rising order")
        if not 0 <= self.warmup < 1 or not 0 <= self.smoothing < 1 or not 0 <= self.distil <= 1:
            raise ValueError(f"{self}: warmup and smoothing must be at least 0 and below 1, distil 0 to 1")

    def optimisers_for(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        """The optimiser of those of `model`'s weights that are not frozen, and Adam for trained predictors, if any."""
        predictors = [x for part in model.modules() if isinstance(part, TrainedPredictor) for x in part.parameters()]
        apart = {id(weights) for weights in predictors}
        trained = [weights for weights in model.parameters() if weights.requires_grad and id(weights) not in apart]
        result: list[torch.optim.Optimizer] = []
        if self.optimiser == "sgd":
            result.append(torch.optim.SGD(trained, self.rate, 0.9, weight_decay=self.decay, nesterov=True))
        else:
            result.append(torch.optim.AdamW(trained, self.rate, weight_decay=self.decay))
        if predictors:
            result.append(torch.optim.Adam(predictors, PREDICTOR_RATE))
        return result

    def schedule(self, optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate over all epochs, of `steps` steps each."""
        pieces: list[torch.optim.lr_scheduler.LRScheduler] = []
        ends = []
        peaks = [group["lr"] for group in optimiser.param_groups]
        for cycle, (first, last) in enumerate(pairwise((0, *self.restarts, self.epochs))):
            length = (last - first) * steps
            rising = round(self.warmup * length)
            if rising:
                pieces.append(torch.optim.lr_scheduler.LinearLR(optimiser, 1 / rising, 1.0, rising))
                ends.append(first * steps + rising)
            pieces.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, length - rising))
            ends.append(last * steps)
            for piece in pieces[-2 if rising else -1 :]:
                piece.base_lrs = [peak / 2**cycle for peak in peaks]
        return pieces[0] if len(pieces) == 1 else torch.optim.lr_scheduler.SequentialLR(optimiser, pieces, ends[:-1])


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeded, single-threaded, deterministic torch inside; the caller's settings and random state afterwards."""
    threads, algorithms = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(algorithms)
            torch.set_num_threads(threads)


def fit(
    model: nn.Module,
    data: Dataset,
    settings: TrainSettings,
    gate: Gate | None = None,
    label: str = "training",
    progress: bool = True,
    checkpoint: Path | None = None,
    teacher: nn.Module | None = None,
) -> float:
    """Train `model` in place on the training images, behind `gate` if given; return the last epoch's mean loss.

    `teacher` answers what `settings.distil` asks for; it stays as it is, but for the order of its weights in memory.

    The same model, data, settings and gate give the same weights. Ends in evaluation mode. After every epoch but the
    last, `checkpoint` is written; if it is there at the start, training goes on from it to the same result as without
    interruption. RuntimeError if the loss leaves the finite numbers; ValueError if `checkpoint` is of another training.
    Of no epochs nothing comes: the loss is NaN.
    """
    if settings.epochs == 0:
        model.eval()
        return float("nan")
    mean, narrow = float("nan"), settings.precision == "bfloat16"
    form = torch.channels_last if narrow else torch.contiguous_format
    practice: AbstractContextManager[dict[str, OnlinePredictor]] = gated(model, gate) if gate else nullcontext({})
    with deterministic(settings.seed), practice as predictors:
        fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if narrow else "32-true")
        x, y = torch.tensor(data.train_x).to(memory_format=form), torch.tensor(data.train_y)
        plain = settings.optimisers_for(model)
        schedules = [settings.schedule(each, -(-len(x) // settings.batch)) for each in plain]
        network, *optimisers = fabric.setup(_laid_out(model, form), *plain)
        parts = _Parts(model, plain, schedules, predictors, repr((settings, gate)))
        done = parts.load(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
        tutor = fabric.setup_module(_laid_out(teacher.eval(), form)) if teacher is not None else None
        model.train()
        for epoch in track(range(done, settings.epochs), description=label, disable=not progress, transient=True):
            total = 0.0
            for batch in batches(torch.randperm(len(x)), settings.batch):
                images = fabric.to_device(augmented(x[batch]) if settings.augment else x[batch])
                answers = network(images).float()
                labels = fabric.to_device(y[batch])
                loss = functional.cross_entropy(answers, labels, label_smoothing=settings.smoothing)
                if settings.distil:
                    assert tutor is not None
                    with torch.no_grad():
                        wanted = tutor(images).float()
                    loss = torch.lerp(loss, imitation(answers, wanted), settings.distil)
                for optimiser in optimisers:
                    optimiser.zero_grad()
                fabric.backward(loss)
                for optimiser, schedule in zip(optimisers, schedules, strict=True):
                    optimiser.step()
                    schedule.step()
                total += float(loss.detach()) * len(batch)
            mean = total / len(x)
            if not np.isfinite(mean):
                raise RuntimeError(f"{label}: the loss is {mean}; a lower learning rate than {settings.rate} may help")
            if checkpoint is not None and epoch + 1 < settings.epochs:
                parts.save(checkpoint, epoch + 1)
        _laid_out(model.cpu(), torch.contiguous_format).eval()
    return mean


def _laid_out(model: nn.Module, form: torch.memory_format) -> nn.Module:
    """`model` itself, its weights in this order in memory."""
    return model.to(memory_format=form)  # type: ignore[call-overload]  # torch's stubs lack it


@dataclass(frozen=True)
class _Parts:
    """Everything that a training carries from epoch to epoch; `recipe` says which training it is."""

    model: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    schedules: Sequence[torch.optim.lr_scheduler.LRScheduler]
    predictors: Mapping[str, OnlinePredictor]
    recipe: str

    def save(self, path: Path, epochs: int) -> None:
        buffer = io.BytesIO()
        state = {
            "recipe": self.recipe,
            "epochs": epochs,
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "predictors": {name: predictor.state_dict() for name, predictor in self.predictors.items()},
            "random": torch.get_rng_state(),
        }
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def load(self, path: Path) -> int:
        """Take up what `save` wrote; how many epochs were done."""
        state = _read(path, "a checkpoint of a training")
        if not isinstance(state, dict) or state.get("recipe") != self.recipe:
            raise FileError(f"'{path}' is a checkpoint of another training; remove it to start anew")
        try:
            self.model.load_state_dict(state["model"])
            for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            for schedule, kept in zip(self.schedules, state["schedules"], strict=True):
                schedule.load_state_dict(kept)
            for name, predictor in self.predictors.items():
                predictor.load_state_dict(state["predictors"][name])
            torch.set_rng_state(state["random"])
            return int(state["epochs"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileError(
                f"'{path}' is not a checkpoint of a training: {first_line(error)}; remove it to start anew"
            ) from error


TEMPERATURE = 2.0


def imitation(answers: Tensor, wanted: Tensor) -> Tensor:
    """How far `answers` are from those `wanted`, both logits (n, classes): equation 2 of Hinton et al. 2015, as KL."""
    soft = functional.log_softmax(answers / TEMPERATURE, dim=1), functional.log_softmax(wanted / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * functional.kl_div(*soft, reduction="batchmean", log_target=True)


SHIFT = 4  # pixels


def augmented(images: Tensor) -> Tensor:
    """`images` (n, c, h, w), each shifted by up to 4 pixels (zeros come in) and mirrored half of the time."""
    n, _, height, width = images.shape
    padded = functional.pad(images, [SHIFT] * 4)
    top, left = torch.randint(2 * SHIFT + 1, (2, n))
    rows = top[:, None] + torch.arange(height)  # (n, h)
    columns = left[:, None] + torch.arange(width)  # (n, w)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
    picked = padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)  # channels last in memory


def batches(values: Tensor, size: int) -> Iterator[Tensor]:
    """`values` in pieces of up to `size` along the first axis."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def accuracy(model: nn.Module, images: FloatArray, labels: LabelArray) -> float:
    """Share of `images` (n, c, h, w) whose largest output is at their label; ties go to the lower class."""
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(batch) for batch in batches(torch.tensor(images), 256)])
    return float((outputs.numpy().argmax(axis=1) == labels).mean())


def save_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write tensors by name; the same tensors give the same bytes, and no reader sees half a file."""
    buffer = io.BytesIO()  # torch names the archive after the file it writes to; a buffer has no name
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Tensor]:
    """Read what `save_state` wrote; FileNotFoundError, or `FileError` naming the file if it holds anything else."""
    state = _read(path, "a file of weights")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FileError(f"'{path}' is not a file of weights: it holds something else than tensors by name")
    return state


def _read(path: Path, what: str) -> object:
    """The plain data in a file of torch; nothing in it is executed. `FileError` if it is not `what`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever torch's reader and its unpickler of plain data say about broken bytes
        raise FileError(f"'{path}' is not {what}: {first_line(error)}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that it holds either what it held or all of `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
