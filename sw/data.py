"""Datasets by name: images as float frames in 0..1.

Digits come with scikit-learn and are split by a seed. The others have a published split and are read from the folder
that the environment variable PENSTOCK_DATA names, or else from the user's cache: ``mnist/`` and ``fashion-mnist/`` with
four gzipped IDX files each, ``cifar-10-batches-bin/`` with the binary version of CIFAR-10. `download` fills it.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sw.archive import FileError

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]

DIGITS_TEST = 360
DATA_FOLDER = "PENSTOCK_DATA"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"


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


class DataError(FileError):
    """Files of a dataset that are missing or wrong; the message names the file, what was found and what is accepted."""


def mnist(_: int) -> Dataset:
    """60,000 and 10,000 handwritten digits of 28x28 (LeCun et al. 1998), in the split as published.

    A pixel is k/256 for the byte k: exact in unsigned 8 bits with 8 fractional ones. DataError if the files are not
    there or not right.
    """
    return _grey("mnist")


def fashion_mnist(_: int) -> Dataset:
    """60,000 and 10,000 pictures of clothes, in everything else as `mnist` (Xiao, Rasul and Vollgraf 2017)."""
    return _grey("fashion-mnist")


def _grey(name: str) -> Dataset:
    folder = data_folder() / name

    def part(prefix: str, number: int) -> tuple[FloatArray, LabelArray]:
        images = _idx(folder / f"{prefix}-images-idx3-ubyte.gz", (number, 28, 28))
        labels = _idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (number,))
        return _pixels(images.reshape(-1, 1, 28, 28)), labels.astype(np.int64)

    return Dataset(name, *part("train", 60_000), *part("t10k", 10_000), 10)


CIFAR10_BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def cifar10(_: int) -> Dataset:
    """50,000 and 10,000 colour photographs of 32x32 (Krizhevsky 2009), in the split as published; pixels as `mnist`."""
    folder = data_folder() / "cifar-10-batches-bin"

    def part(names: Sequence[str]) -> tuple[FloatArray, LabelArray]:
        records = np.concatenate([_batch(folder / name) for name in names])
        return _pixels(records[:, 1:].reshape(-1, 3, 32, 32)), records[:, 0].astype(np.int64)

    return Dataset("cifar10", *part(CIFAR10_BATCHES[:-1]), *part(CIFAR10_BATCHES[-1:]), 10)


def data_folder() -> Path:
    """The folder in PENSTOCK_DATA, or the user's cache if that is not set; DataError if it names no folder."""
    given = os.environ.get(DATA_FOLDER)
    if not given:
        return CACHE
    folder = Path(given)
    if not folder.is_dir():
        raise DataError(f"{DATA_FOLDER} is '{given}', which is no folder")
    return folder


def _idx(path: Path, shape: tuple[int, ...]) -> ByteArray:
    """A gzipped IDX file of bytes: magic number 0x0800 + axes, each axis as a big-endian word, then the values."""
    header = 4 * (1 + len(shape))
    size = header + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)  # a few kilobytes may unpack to gigabytes
    except FileNotFoundError:
        raise DataError(_absent(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is not a gzip file: {error}") from error
    expected = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
    if content[:header] != expected:
        found = np.frombuffer(content[: len(content[:header]) // 4 * 4], ">u4").tolist()
        raise DataError(f"'{path}' starts with {found}; accepted: the IDX header {[0x800 + len(shape), *shape]}")
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else str(len(content))
        raise DataError(f"'{path}' unpacks to {found} bytes; accepted: {size}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _batch(path: Path) -> ByteArray:
    """A batch of the binary CIFAR-10: (10000, 3073) bytes, a class and then red, green and blue planes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(_absent(path)) from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(content) != 10_000 * 3073:
        raise DataError(f"'{path}' has {len(content)} bytes; accepted: 10000 records of 3073")
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise DataError(f"'{path}' has class {records[:, 0].max()}; accepted: 0 to 9")
    return records


def _absent(path: Path) -> str:
    return f"'{path}' does not exist; {DATA_FOLDER} names the folder of the data, `penstock data` fills it"


def _pixels(values: ByteArray) -> FloatArray:
    return values.astype(np.float32) / np.float32(256)


def imagenet_noise(seed: int) -> Dataset:
    """Random images of ImageNet's shape with random labels of 1,000 classes, for networks that are not trained.

    They are for figures that depend on shapes alone: cycles, bytes, energy.
    """
    rng = np.random.default_rng(seed)

    def part(number: int) -> tuple[FloatArray, LabelArray]:
        images = rng.integers(0, 256, (number, 3, 224, 224), dtype=np.uint8)
        return _pixels(images), rng.integers(0, 1000, number)

    return Dataset("imagenet_noise", *part(8), *part(2), 1000)


DATASETS: dict[str, Callable[[int], Dataset]] = {
    "cifar10": cifar10,
    "digits": digits,
    "imagenet_noise": imagenet_noise,
    "fashion-mnist": fashion_mnist,
    "mnist": mnist,
}


def load(name: str, seed: int) -> Dataset:
    """The dataset `name`, with its split drawn from `seed` where none is published.

    ValueError names the known ones if it is not one; DataError if its files are not there or not right.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset '{name}'; known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name](seed)


# -- download ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Source:
    """Where a dataset is published: `files` with their MD5 sums, all below `address`, kept in `folder`.

    The sums are those that the publishers and other libraries give, and are there against damage on the way.
    """

    address: str
    folder: str
    files: Mapping[str, str]


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "cifar10": Source(
            "https://www.cs.toronto.edu/~kriz",
            "cifar-10-batches-bin",
            {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d13530"},
        ),
        "fashion-mnist": Source(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "fashion-mnist",
            {
                "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            },
        ),
        "mnist": Source(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "mnist",
            {
                "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
    }
)


def download(name: str, progress: bool = True) -> Path:
    """Fetch what is missing of dataset `name` into `data_folder` and return the dataset's folder there.

    A file is there whole, with the right sum, or not at all. ValueError if the dataset is not published; DataError
    without the extra `download`, without a network, or if what came has another sum.
    """
    if name not in SOURCES:
        raise ValueError(f"dataset '{name}' is not downloaded; accepted: {', '.join(sorted(SOURCES))}")
    try:
        import pooch
    except ImportError:
        raise DataError("downloads need the extra `download`: pip install penstock[download]") from None
    source = SOURCES[name]
    folder = data_folder() / source.folder
    folder.mkdir(parents=True, exist_ok=True)
    for file, checksum in source.files.items():
        archive = file.endswith(".tar.gz")
        if archive and all((folder / batch).exists() for batch in CIFAR10_BATCHES):
            continue
        address = f"{source.address}/{file}"
        try:
            with _status(f"{name}: {file}") if progress else nullcontext():
                pooch.retrieve(address, f"md5:{checksum}", file, folder)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; pooch's of sums are ValueErrors
            raise DataError(f"'{address}' did not come: {' '.join(str(error).split())}") from error
        if archive:
            _unpack(folder / file, folder)
            (folder / file).unlink()
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """The batches in `archive`, wherever they lie in it, into `folder`; nothing else of it is written."""
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if member.isfile() and name in CIFAR10_BATCHES else None
            if content is not None:
                from sw.train import write_atomically  # which knows datasets

                write_atomically(folder / name, content.read())


def _status(label: str) -> AbstractContextManager[object]:
    from rich.console import Console

    return Console(stderr=True).status(label)
