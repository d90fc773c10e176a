"""What tests of faults share: outcomes that are told, and ways to break a file."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel

from flow import cli

TAKEN = "taken"  # the outcome of what is no fault after all


class Planted:
    """An object that, unpickled, leaves a file: what no reader may do."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def outcome(action: Callable[[], object], name: str) -> str:
    """`TAKEN`, or the sentence by which the command line refuses, with `name` in it. Any other exception comes out."""
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            with cli.user_errors():
                action()
        except SystemExit as ended:
            code = ended.code
        else:
            return TAKEN
    sentence = said.getvalue()
    assert code == 2
    assert sentence.startswith("penstock: ")
    assert sentence.count("\n") == 1
    assert name in sentence, sentence
    return sentence.removeprefix("penstock: ").strip()


def broken(content: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """What may have happened to any file, with a name for it."""
    rng = np.random.default_rng(seed)
    yield "empty", b""
    yield "cut to half", content[: len(content) // 2]
    yield "last byte missing", content[:-1]
    yield "text instead", b"nothing of the kind\n"
    yield "noise instead", rng.bytes(len(content))
    yield "zeros instead", bytes(len(content))
    yield "not UTF-8", b"\xff\xfe" + content
    for turn in range(6):
        bits = bytearray(content)
        for place in rng.integers(len(bits), size=1 + 4 * (turn % 2)).tolist():
            bits[place] ^= 1 << int(rng.integers(8))
        yield f"flipped bits, {turn}", bytes(bits)
    for turn in range(3):
        first, last = sorted(rng.integers(len(content), size=2).tolist())
        yield f"a piece missing, {turn}", content[:first] + content[last:]


def broken_archive(content: bytes, mark: Path) -> Iterator[tuple[str, bytes]]:
    """What may be wrong with an npz file in particular; unpickling would leave `mark`."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name in list(arrays)[:2]:
        yield f"objects in {name}", _archive(arrays | {name: np.array([Planted(mark)], object)})
        yield f"text in {name}", _archive(arrays | {name: np.array("text")})
        yield f"records in {name}", _archive(arrays | {name: np.zeros(3, [("a", "<i4"), ("b", "<f8")])})
        yield f"dates in {name}", _archive(arrays | {name: np.zeros(3, "M8[s]")})
        for kind, shape in (("huge", (1 << 20, 1 << 20)), ("overflowing", (1 << 32, 1 << 32)), ("negative", (-1, 4))):
            yield f"{kind} axes of {name}", _members(content, {f"{name}.npy": _header(shape)})
        yield f"{name} is no array", _members(content, {f"{name}.npy": b"no array"})
        code = b"__import__('os').system('touch " + str(mark).encode() + b"')"
        yield f"code as the header of {name}", _members(content, {f"{name}.npy": _npy(code)})
    yield "a bomb", _members(content, {"x.npy": _header((1 << 20,)) + bytes(1 << 22)})
    yield "a bomb in the directory alone", _claiming(content, 1 << 31)
    yield "a member outside", _members(content, {"../outside.npy": _npy_array()})
    yield "an encrypted member", _flagged(content, 1)
    yield "an unknown compression", _flagged(content, 0, method=99)
    yield "one array, no archive", _npy_array()


def _archive(arrays: dict[str, np.ndarray]) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def _npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _header(shape: tuple[int, ...]) -> bytes:
    return _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode())


def _npy_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 3), np.float32))
    return buffer.getvalue()


def _members(content: bytes, others: dict[str, bytes]) -> bytes:
    """The archive with `others` in place of members of these names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            if member.filename not in others:
                new.writestr(member, old.read(member))
        for name, data in others.items():
            new.writestr(name, data)
    return buffer.getvalue()


def _claiming(content: bytes, size: int) -> bytes:
    """The archive with another first member, that says it unpacks to `size` bytes."""
    found = bytearray(_members(content, {"x.npy": _npy_array()}))
    central = found.rindex(b"PK\x01\x02")
    found[central + 24 : central + 28] = struct.pack("<I", size)
    return bytes(found)


def _flagged(content: bytes, flags: int, method: int | None = None) -> bytes:
    """The archive with the flags and the compression method of its last member changed."""
    found = bytearray(content)
    central = found.rindex(b"PK\x01\x02")
    (local,) = struct.unpack_from("<I", found, central + 42)
    for place in (central + 8, local + 6):
        found[place] |= flags
        if method is not None:
            struct.pack_into("<H", found, place + 2, method)
    return bytes(found)


def plain(value: object) -> object:
    """What readers return, so that it can be compared with ``==``."""
    if isinstance(value, torch.nn.Module):
        return plain(value.state_dict())
    if isinstance(value, torch.Tensor):
        return plain(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if is_dataclass(value):
        return tuple((field.name, plain(getattr(value, field.name))) for field in fields(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(plain(item) for item in value)
    return value
