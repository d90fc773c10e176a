"""Training: one seeded loop for float and quantised networks, and the files that hold their weights."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from sw.data import Dataset, FloatArray, LabelArray


@dataclass(frozen=True)
class TrainSettings:
    """AdamW with a cosine learning rate that ends at zero.

    `batch` in images, `rate` the peak learning rate, `decay` the weight decay.
    """

    epochs: int
    seed: int
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.rate > 0 or not self.decay >= 0:
            raise ValueError(f"{self}: epochs and batch must be at least 1, rate positive, decay not negative")


@dataclass(frozen=True)
class Gate:
    """Practice for lazy inference: in training, the named layers lose their weakest filters, frame by frame.

    The share of filters that stay is drawn anew for every batch, evenly from `least` to 1, so that one set of weights
    serves every k. Filters are ranked by the sum of their outputs after ReLU (before pooling).
    """

    layers: tuple[str, ...]
    least: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise ValueError(f"gate: least share {self.least}; accepted: above 0, up to 1")


@contextmanager
def gated(model: nn.Module, gate: Gate) -> Iterator[None]:
    """Inside, `model` trains with `gate`; its evaluation is not touched. ValueError names a layer it does not have."""

    def keep_strongest(layer: nn.Module, _: object, output: Tensor) -> Tensor | None:
        if not layer.training:
            return None
        strengths = functional.relu(output.detach()).flatten(2).sum(dim=2)  # (n, filters)
        filters = strengths.shape[1]
        keep = int(torch.randint(max(1, int(filters * gate.least)), filters + 1, ()))
        mask = torch.zeros_like(strengths).scatter_(1, strengths.topk(keep, dim=1).indices, 1.0)
        return output * mask.reshape(*mask.shape, *[1] * (output.ndim - 2))

    layers = dict(model.named_children())
    unknown = [name for name in gate.layers if name not in layers]
    if unknown:
        raise ValueError(f"gate: no layer '{unknown[0]}'; layers: {', '.join(layers)}")
    handles = [layers[name].register_forward_hook(keep_strongest) for name in gate.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
) -> float:
    """Train `model` in place on the training images, behind `gate` if given; return the last epoch's mean loss.

    The same model, data, settings and gate give the same weights. Ends in evaluation mode. RuntimeError if the loss
    leaves the finite numbers.
    """
    mean = float("nan")
    with deterministic(settings.seed), gated(model, gate) if gate else nullcontext():
        x, y = torch.tensor(data.train_x), torch.tensor(data.train_y)
        optimiser = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * -(-len(x) // settings.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        model.train()
        for _ in track(range(settings.epochs), description=label, disable=not progress, transient=True):
            total = 0.0
            for batch in batches(torch.randperm(len(x)), settings.batch):
                loss = functional.cross_entropy(model(x[batch]), y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(batch)
            mean = total / len(x)
            if not np.isfinite(mean):
                raise RuntimeError(f"{label}: the loss is {mean}; a lower learning rate than {settings.rate} may help")
        model.eval()
    return mean


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
    """Read what `save_state` wrote; FileNotFoundError, or ValueError naming the file if it holds anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0] or "it ends early"
        raise ValueError(f"'{path}' is not a file of weights: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"'{path}' is not a file of weights: it holds something else than tensors by name")
    return state


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that it holds either what it held or all of `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
