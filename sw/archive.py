"""npz files from anywhere: nothing in them is executed, and what they unpack to is bounded before it is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 1 << 32
"""What the arrays of one file may take in memory; a few kilobytes of zip can claim a million times their size."""


class FileError(ValueError):
    """A file that cannot be used; the message names it, what was found and what is accepted."""


def read(path: Path, what: str) -> dict[str, NDArray[np.generic]]:
    """All arrays of an .npz file by name.

    FileNotFoundError, or `FileError` that says that `path` is not `what`: no archive, broken, with pickles, or larger
    than `MOST_BYTES` once unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it unpacks to {size} bytes; accepted: up to {MOST_BYTES}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):  # numpy gives other members as bytes
                raise ValueError(f"'{name}' in it is no array")
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever zipfile, zlib, numpy's parser of headers and malloc say about broken bytes
        raise FileError(f"'{path}' is not {what}: {first_line(error)}") from error
    return arrays


def first_line(error: Exception) -> str:
    """What an error says, for the end of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
