"""Datasets by name: images as float frames in 0..1.

Digits come with scikit-learn and are split by a seed. The others have a published split and are read from the folder
that the environment variable PENSTOCK_DATA names: ``mnist/`` with the four gzipped IDX files, ``cifar-10-batches-bin/``
with the binary version of CIFAR-10.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]

DIGITS_TEST = 360
DATA_FOLDER = "PENSTOCK_DATA"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification task; everything in it is read-only.

    `train_x`, `test_x` are float32 (images, channels, height, width) in 0..1, `train_y`, `test_y` int64 (images,)
    class indices below `classes`.
    """

    name: str
    train_x: FloatArray
    train_y: LabelArray
    test_x: FloatArray
    test_y: LabelArray
    classes: int

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.ndim != 4 or x.dtype != np.float32 or y.shape != x.shape[:1] or y.dtype != np.int64:
                raise ValueError(
                    f"dataset '{self.name}', {part}: images {x.shape} {x.dtype} with labels {y.shape} {y.dtype}; "
                    "accepted: float32 (n, c, h, w) with int64 (n,)"
                )
            x.setflags(write=False)
            y.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_x.shape
        return channels, height, width


def digits(seed: int) -> Dataset:
    """The 1,797 scans of 8x8 that come with scikit-learn (UCI optical recognition of handwritten digits).

    360 are held out, stratified by class. A pixel is one of 0, 1/16, ..., 1: exact in any power-of-two format of
    at least four fractional bits that reaches 1.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    y = labels.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=DIGITS_TEST, random_state=seed, stratify=y)
    return Dataset("digits", train_x, train_y, test_x, test_y, classes=10)


class DataError(ValueError):
    """Files of a dataset that are missing or wrong; the message names the file, what was found and what is accepted."""


def mnist(_: int) -> Dataset:
    """60,000 and 10,000 handwritten digits of 28x28 (LeCun et al. 1998), in the split as published.

    A pixel is k/256 for the byte k: exact in unsigned 8 bits with 8 fractional ones. DataError if the files are not
    there or not right.
    """
    folder = data_folder() / "mnist"

    def part(prefix: str, number: int) -> tuple[FloatArray, LabelArray]:
        images = _idx(folder / f"{prefix}-images-idx3-ubyte.gz", (number, 28, 28))
        labels = _idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (number,))
        return _pixels(images.reshape(-1, 1, 28, 28)), labels.astype(np.int64)

    return Dataset("mnist", *part("train", 60_000), *part("t10k", 10_000), 10)


def cifar10(_: int) -> Dataset:
    """50,000 and 10,000 colour photographs of 32x32 (Krizhevsky 2009), in the split as published; pixels as `mnist`."""
    folder = data_folder() / "cifar-10-batches-bin"

    def part(names: list[str]) -> tuple[FloatArray, LabelArray]:
        records = np.concatenate([_batch(folder / f"{name}.bin") for name in names])
        return _pixels(records[:, 1:].reshape(-1, 3, 32, 32)), records[:, 0].astype(np.int64)

    return Dataset("cifar10", *part([f"data_batch_{number}" for number in range(1, 6)]), *part(["test_batch"]), 10)


def data_folder() -> Path:
    """The folder in PENSTOCK_DATA; DataError if the variable is not set or names no folder."""
    given = os.environ.get(DATA_FOLDER)
    if not given:
        raise DataError(f"{DATA_FOLDER} is not set; accepted: a folder with mnist/ or cifar-10-batches-bin/ in it")
    folder = Path(given)
    if not folder.is_dir():
        raise DataError(f"{DATA_FOLDER} is '{given}', which is no folder")
    return folder


def _idx(path: Path, shape: tuple[int, ...]) -> ByteArray:
    """A gzipped IDX file of bytes: magic number 0x0800 + axes, each axis as a big-endian word, then the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is not a gzip file: {error}") from error
    header = 4 * (1 + len(shape))
    expected = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
    if content[:header] != expected:
        found = np.frombuffer(content[: len(content[:header]) // 4 * 4], ">u4").tolist()
        raise DataError(f"'{path}' starts with {found}; accepted: the IDX header {[0x800 + len(shape), *shape]}")
    if len(content) != header + int(np.prod(shape)):
        raise DataError(f"'{path}' has {len(content)} bytes; accepted: {header + int(np.prod(shape))}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _batch(path: Path) -> ByteArray:
    """A batch of the binary CIFAR-10: (10000, 3073) bytes, a class and then red, green and blue planes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist") from None
    if len(content) != 10_000 * 3073:
        raise DataError(f"'{path}' has {len(content)} bytes; accepted: 10000 records of 3073")
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise DataError(f"'{path}' has class {records[:, 0].max()}; accepted: 0 to 9")
    return records


def _pixels(values: ByteArray) -> FloatArray:
    return values.astype(np.float32) / np.float32(256)


DATASETS: dict[str, Callable[[int], Dataset]] = {"cifar10": cifar10, "digits": digits, "mnist": mnist}


def load(name: str, seed: int) -> Dataset:
    """The dataset `name`, with its split drawn from `seed` where none is published.

    ValueError names the known ones if it is not one; DataError if its files are not there or not right.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset '{name}'; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name](seed)
