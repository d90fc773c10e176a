"""Critical paths: which filters of each layer a class keeps."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import nn

from sw.archive import FileError, read
from sw.paths.scores import Batches, ScoreConfig, Scores, measure
from sw.train import write_atomically


class Header(BaseModel):
    """What stands in a file of a critical path beside the masks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["penstock critical path 1"]
    score: str
    ratio: float
    layers: tuple[str, ...]
    model: str


@dataclass(frozen=True, eq=False)
class CriticalPath:
    """`masks[l]` (classes, filters of `layers[l]`) is True for a filter on a class's path; each class has one or more.

    `score` names what ranked the filters and `ratio` is the share that was to be kept of each layer.
    """

    score: str
    ratio: float
    layers: tuple[str, ...]
    masks: tuple[NDArray[np.bool_], ...]

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.masks) or not self.layers:
            raise ValueError(f"path by '{self.score}': {len(self.layers)} layers with {len(self.masks)} masks")
        for layer, mask in zip(self.layers, self.masks, strict=True):
            classes = self.masks[0].shape[:1]
            if mask.ndim != 2 or mask.dtype != np.bool_ or mask.shape[:1] != classes:
                raise ValueError(
                    f"path by '{self.score}', layer '{layer}': {mask.shape} {mask.dtype}; "
                    f"accepted: bool ({', '.join(map(str, classes)) or 'classes'}, filters)"
                )
            if not mask.any(axis=1).all():
                raise ValueError(f"path by '{self.score}', layer '{layer}': a class without filters")
            mask.setflags(write=False)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.masks[0])

    def of(self, layer: str) -> NDArray[np.bool_]:
        """Masks (classes, filters) of `layer`; ValueError if it is not one of `layers`."""
        if layer not in self.layers:
            raise ValueError(f"path by '{self.score}' has no layer '{layer}'; layers: {', '.join(self.layers)}")
        return self.masks[self.layers.index(layer)]


def best(values: NDArray[np.float64], ratio: float) -> NDArray[np.bool_]:
    """The share `ratio` of each row of `values` (classes, filters) that is highest, one or more; of equals the first.

    The number is rounded, half up. ValueError for a ratio outside 0..1.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio {ratio}; accepted: 0 to 1, the share of filters kept")
    filters = values.shape[1]
    number = min(filters, max(1, int(np.floor(ratio * filters + 0.5))))
    order = np.argsort(-values, axis=1, kind="stable")[:, :number]
    masks = np.zeros(values.shape, np.bool_)
    np.put_along_axis(masks, order, True, axis=1)
    return masks


def from_scores(scores: Scores, ratio: float, layers: Sequence[str] | None = None) -> CriticalPath:
    """The path of the filters of highest score, the share `ratio` of each of `layers` (all that are scored)."""
    names = scores.layers if layers is None else tuple(layers)
    return CriticalPath(scores.name, ratio, names, tuple(best(scores.of(name), ratio) for name in names))


def iterative(
    model: nn.Module, data: Batches, config: ScoreConfig, score: str, ratio: float, steps: int
) -> Iterator[CriticalPath]:
    """Class-specific pruning without training: rank, drop the lowest, measure again in what is left, repeat.

    `score` is one of `scores.measure`'s. In each of `steps` every class loses the same share of the filters that it
    still has, so that the last path keeps `ratio`; all are yielded. What is measured anew are the frames of a class in
    the network cut to that class's path, for all classes in one pass over `data`, which is iterated `steps` times.
    ValueError for a ratio outside 0..1, and for less than one step.
    """
    if not 0 < ratio <= 1 or steps < 1:
        raise ValueError(f"ratio {ratio} in {steps} steps; accepted: above 0, up to 1, in at least 1")
    path: CriticalPath | None = None
    for step in range(1, steps + 1):
        masks = dict(zip(path.layers, path.masks, strict=True)) if path else None
        found = measure(model, data, config, [score], masks)[score]
        left = [np.where(masks[name], found.of(name), -np.inf) if masks else found.of(name) for name in found.layers]
        share = ratio ** (step / steps)
        name = f"{score}, iterative"
        path = CriticalPath(name, share, found.layers, tuple(best(values, share) for values in left))
        yield path


def fingerprint(model: nn.Module) -> str:
    """SHA-256 in hexadecimal of the names, shapes, types and values of everything in the model's state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(array.shape)} {array.dtype}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, critical: CriticalPath, model: nn.Module) -> None:
    """Write an npz file: `masks_0`... and a JSON header with the names, the ratio and the model's fingerprint."""
    header = Header(
        format="penstock critical path 1",
        score=critical.score,
        ratio=critical.ratio,
        layers=critical.layers,
        model=fingerprint(model),
    )
    buffer = io.BytesIO()
    masks = {f"masks_{index}": mask for index, mask in enumerate(critical.masks)}
    np.savez_compressed(buffer, header=np.array(header.model_dump_json()), **masks)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load(path: Path, model: nn.Module | None = None) -> CriticalPath:
    """Read what `save` wrote; `FileError` names the file if it holds something else or is a path of another `model`."""
    arrays = read(path, "a file of a critical path")
    try:
        header = Header.model_validate_json(str(arrays["header"]))
        masks = tuple(np.asarray(arrays[f"masks_{index}"]) for index in range(len(header.layers)))
        found = CriticalPath(header.score, header.ratio, header.layers, masks)
    except (ValueError, KeyError) as error:
        raise FileError(f"'{path}' is not a file of a critical path: {error}") from error
    if model is not None and header.model != (expected := fingerprint(model)):
        raise FileError(f"'{path}' is a path of the model {header.model[:16]}; this one is {expected[:16]}")
    return found
