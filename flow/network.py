"""The trained network as a file: QONNX, channels last, with the frames that it is calibrated and tested on.

From data and a model (trained and quantised here), or from a file of the user's own.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from flow.errors import UserError
from hw import qonnx
from sw.archive import FileError, read
from sw.data import FloatArray, LabelArray
from sw.train import write_atomically


@dataclass(frozen=True, eq=False)
class Frames:
    """Inputs as the QONNX file takes them, float32 (n, then its axes): `calibration` to fit predictors on, `test`.

    `labels` (test frames,) where there are any. With a network of the user's own, both sets are the same.
    """

    calibration: FloatArray
    test: FloatArray
    labels: LabelArray | None

    def save(self, path: Path) -> None:
        """Write as .npz; the same frames give the same bytes."""
        labels = {} if self.labels is None else {"labels": self.labels}
        write_npz(path, {"calibration": self.calibration, "test": self.test, **labels})

    @staticmethod
    def load(path: Path) -> Frames:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return Frames(archive["calibration"], archive["test"], archive.get("labels"))


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays so that the same ones give the same bytes, and no reader sees half a file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub knows no plain dictionary of arrays
    write_atomically(path, buffer.getvalue())


def channels_last(images: FloatArray) -> FloatArray:
    """Images (n, c, h, w) as (n, h, w, c)."""
    return np.ascontiguousarray(np.moveaxis(images, 1, -1))


# -- a network of the user's own --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class OwnNetwork:
    """A QONNX file in the form that the backend converts, and the axes of one `frame` as the file itself takes them."""

    model: ModelProto
    frame: tuple[int, ...]
    channels_first: bool

    @staticmethod
    def load(path: Path) -> OwnNetwork:
        """UserError, or the backend's `DesignError`, if the file cannot be read or holds unsupported layers."""
        try:
            raw = qonnx.load(path)
        except FileNotFoundError as error:
            raise UserError(str(error)) from error
        initialised = {tensor.name for tensor in raw.graph.initializer}
        inputs = [value for value in raw.graph.input if value.name not in initialised]
        if len(inputs) != 1:
            raise UserError(f"'{path}' has {len(inputs)} inputs; accepted: one")
        shape = tuple(axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim)
        if len(shape) < 2 or min(shape[1:]) < 1:
            raise UserError(f"'{path}': its input has shape {shape}; accepted: a batch axis, then fixed sizes")
        prepared_already = any(node.domain == qonnx.CHANNELS_LAST for node in raw.graph.node)
        return OwnNetwork(qonnx.prepare(raw), shape[1:], len(shape) in (3, 4) and not prepared_already)

    def arrange(self, frames: FloatArray) -> FloatArray:
        """Frames (n, *frame) in the order of axes that `model` takes."""
        if not self.channels_first:
            return frames
        if len(self.frame) == 2:  # (channels, width): one row
            frames = frames[:, :, None]
        return channels_last(frames)


def load_calibration(path: Path, shape: tuple[int, ...]) -> FloatArray:
    """The array `x` of an .npz file, float32 (n, *shape) with n at least 2; UserError if it is anything else."""
    try:
        arrays = read(path, "an .npz archive of numbers")
    except FileNotFoundError as error:
        raise UserError(f"calibration file '{path}' does not exist") from error
    except FileError as error:
        raise UserError(f"calibration file {error}; accepted: what numpy.savez(file, x=...) writes") from error
    if "x" not in arrays:
        raise UserError(
            f"calibration file '{path}' has no array 'x'; found: {', '.join(arrays) or 'none'}; "
            "accepted: what numpy.savez(file, x=...) writes"
        )
    x = arrays["x"]
    accepted = f"(n, {', '.join(map(str, shape))}), n at least 2"
    if x.dtype not in (np.float32, np.float64):
        raise UserError(f"calibration file '{path}': x is {x.dtype}; accepted: float32 or float64")
    if x.shape[1:] != shape or x.shape[:1] < (2,):
        raise UserError(f"calibration file '{path}': x has shape {x.shape}; accepted: {accepted}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is found with the rest
        frames: FloatArray = x.astype(np.float32)
    if not np.isfinite(frames).all():
        raise UserError(f"calibration file '{path}': x holds NaN or infinity; accepted: finite numbers of float32")
    return frames
