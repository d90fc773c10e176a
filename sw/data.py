"""Datasets by name: images as float frames in 0..1, split once and for all by a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]

DIGITS_TEST = 360


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


DATASETS: dict[str, Callable[[int], Dataset]] = {"digits": digits}


def load(name: str, seed: int) -> Dataset:
    """The dataset `name` with its split drawn from `seed`; ValueError names the known ones if it is not one."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset '{name}'; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name](seed)
