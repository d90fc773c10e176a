"""What the host knows of an accelerator: `driver.json`, which is written beside its RTL."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

VERSION = 1


class DescriptionError(ValueError):
    """A file that describes no accelerator."""


@dataclass(frozen=True)
class Input:
    """Frames: shape, and the format of their integers, each of which stands for ``integer * 2**exponent``."""

    channels: int
    height: int
    width: int
    bits: int
    signed: bool
    exponent: int


@dataclass(frozen=True)
class Outputs:
    """Answers: how many logits of how many bytes, in units of ``2**exponent``."""

    number: int
    bytes: int
    exponent: int


@dataclass(frozen=True)
class LayerDescription:
    """A layer of the tail."""

    name: str
    filters: int
    lazy: bool
    pinned: int


@dataclass(frozen=True)
class Register:
    """Byte address, and the lowest and highest bit of each field."""

    address: int
    fields: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Description:
    """An accelerator as its host sees it."""

    design: str
    fingerprint: int
    input: Input
    outputs: Outputs
    bus_bytes: int
    classes: int
    layers: tuple[LayerDescription, ...]
    registers: Mapping[str, Register]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Description:
        """Read `driver.json`; raises `DescriptionError` that names the file."""
        try:
            return Description.parse(json.loads(Path(path).read_bytes()))
        except FileNotFoundError:
            raise DescriptionError(f"'{path}' does not exist; it is written beside an accelerator's RTL") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DescriptionError(f"'{path}' describes no accelerator: {error!r}") from None

    @staticmethod
    def parse(content: dict[str, Any]) -> Description:
        """The description in decoded JSON."""
        if content["version"] != VERSION:
            raise DescriptionError(f"version {content['version']}; accepted: {VERSION}")
        return Description(
            design=_of(str, content, "design"),
            fingerprint=int(content["fingerprint"], 16),
            input=_made(Input, content["input"]),
            outputs=_made(Outputs, content["outputs"]),
            bus_bytes=_of(int, content, "bus_bytes"),
            classes=_of(int, content, "classes"),
            layers=tuple(_made(LayerDescription, layer) for layer in content["layers"]),
            registers={
                name: Register(
                    _of(int, entry, "address"),
                    {field: (_of(int, bits, 0), _of(int, bits, 1)) for field, bits in entry["fields"].items()},
                )
                for name, entry in content["registers"].items()
            },
        )


T = TypeVar("T")


def _of(kind: type[T], content: Any, key: str | int) -> T:
    """``content[key]``, which has to be of `kind`."""
    value = content[key]
    if type(value) is not kind:
        raise DescriptionError(f"'{key}' is {value!r}; accepted: {kind.__name__}")
    return value


def _made(kind: type[T], content: Mapping[str, Any]) -> T:
    """A dataclass of plain values, with exactly its keys."""
    types = {"int": int, "bool": bool, "str": str}
    names = {field.name: types[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    if content.keys() != names.keys():
        raise DescriptionError(f"keys are {', '.join(content)}; accepted: {', '.join(names)}")
    return kind(**{name: _of(of, content, name) for name, of in names.items()})
