"""Training: one seeded loop for float and quantised networks, and the files that hold their weights."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    model: nn.Module, data: Dataset, settings: TrainSettings, label: str = "training", progress: bool = True
) -> float:
    """Train `model` in place on the training images and return the last epoch's mean loss.

    The same model, data and settings give the same weights. Ends in evaluation mode. RuntimeError if the loss leaves
    the finite numbers.
    """
    mean = float("nan")
    with deterministic(settings.seed):
        x, y = torch.tensor(data.train_x), torch.tensor(data.train_y)
        optimiser = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * -(-len(x) // settings.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        model.train()
        for _ in track(range(settings.epochs), description=label, disable=not progress, transient=True):
            total = 0.0
            for batch in torch.randperm(len(x)).split(settings.batch):
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


def accuracy(model: nn.Module, images: FloatArray, labels: LabelArray) -> float:
    """Share of `images` (n, c, h, w) whose largest output is at their label; ties go to the lower class."""
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(batch) for batch in torch.tensor(images).split(256)])
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
        raise ValueError(f"'{path}' is not a file of weights: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"'{path}' is not a file of weights: it holds something else than tensors by name")
    return state


def write_atomically(path: Path, content: bytes) -> None:
    """Write `path` so that it holds either what it held or all of `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
