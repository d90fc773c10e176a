"""An accelerator as an object: load, infer, keep, classes, counters."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sw.driver.description import Description, LayerDescription
from sw.driver.device import Device

IDENTITY = 0x534E4550
MAGIC = b"PENSTOCK"
HEADER = slice(16, 24)  # where an image has its design's fingerprint
SIZE = slice(24, 32)  # and how many bytes it says it has
MODE_ALL, MODE_TOP, MODE_THRESHOLD = range(3)


class DriverError(RuntimeError):
    """The device is no accelerator or another one, or the image is not its own."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits (n, outputs) as integers in units of ``2**exponent``, and which frames are `bad` (n,)."""

    logits: NDArray[np.int64]
    bad: NDArray[np.bool_]
    exponent: int

    @property
    def values(self) -> NDArray[np.float64]:
        """Logits as real numbers."""
        return np.ldexp(self.logits.astype(np.float64), self.exponent)

    @property
    def classes(self) -> NDArray[np.int64]:
        """The largest logit of each frame, the lower index where several are."""
        best: NDArray[np.int64] = self.logits.argmax(axis=1)
        return best


@dataclass(frozen=True)
class LayerCounters:
    """What a layer of the tail did in the latest frame."""

    name: str
    chosen: int
    cycles: int
    bytes: int


@dataclass(frozen=True)
class Counters:
    """Since the accelerator was enabled; `causes` of bad frames since they were last read."""

    frames: int
    bad_frames: int
    cycles: int
    bytes: int
    causes: tuple[str, ...]
    layers: tuple[LayerCounters, ...]


class Driver:
    """An accelerator on `device`, which must be the one that `description` is about; `DriverError` otherwise."""

    def __init__(self, device: Device, description: Description) -> None:
        self.device = device
        self.description = description
        self._loaded = False
        identity = self.read("ID")
        if identity != IDENTITY:
            raise DriverError(f"the device's identity is {identity:#010x}; expected {IDENTITY:#010x}, Penstock's")
        found = self.read("FINGERPRINT_LOW") | self.read("FINGERPRINT_HIGH") << 32
        if found != description.fingerprint:
            raise DriverError(
                f"the device has the design with fingerprint {found:016x}; '{description.design}' has "
                f"{description.fingerprint:016x}"
            )

    # -- registers ----------------------------------------------------------------------------------------------------
    def read(self, register: str, field: str | None = None) -> int:
        """A register by its path, such as ``layer0.KEEP``, or one of its fields."""
        entry = self.description.registers[register]
        value = self.device.read(entry.address)
        if field is None:
            return value
        low, high = entry.fields[field]
        return value >> low & ((1 << (high - low + 1)) - 1)

    def write(self, register: str, value: int) -> None:
        """Write a register by its path."""
        self.device.write(self.description.registers[register].address, value & 0xFFFF_FFFF)

    # -- work ---------------------------------------------------------------------------------------------------------
    def load(self, image: bytes | str | os.PathLike[str]) -> None:
        """Put a weight image (its bytes, or its file) into external memory and enable the accelerator.

        Raises `DriverError` for an image that was made for another design, or is not whole.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        fingerprint = int.from_bytes(data[HEADER], "little")
        if data[: len(MAGIC)] != MAGIC or fingerprint != self.description.fingerprint:
            raise DriverError(
                f"the image starts with {data[:8]!r} and has fingerprint {fingerprint:016x}; expected {MAGIC!r} and "
                f"{self.description.fingerprint:016x}"
            )
        if (size := int.from_bytes(data[SIZE], "little")) != len(data):
            raise DriverError(f"the image has {len(data)} bytes; its header says {size}")
        self.write("CONTROL", 0)
        self.write("IMAGE_BASE", self.device.place(data))
        self.write("CONTROL", 1)
        self._loaded = True

    def infer(self, batch: ArrayLike) -> Answers:
        """Answers to frames (n, height, width, channels), or one of them.

        Real numbers are quantised as the network's input is, half to even and saturating; integers are taken as they
        are. Networks whose frames are flat, or have one row, may leave these axes out. `ValueError` for anything else.
        """
        if not self._loaded:
            raise DriverError("no weight image is loaded: call load() before infer()")
        logits, bad = self.device.stream(self._beats(np.asarray(batch)))
        return Answers(logits, bad, self.description.outputs.exponent)

    def keep(self, layer: str, filters: int | float | None) -> None:
        """From the next frame on, let a lazy layer compute so many filters, a share of them (float), or all (None)."""
        index, known = self._lazy(layer)
        if filters is None:
            self.write(f"layer{index}.MODE", MODE_ALL)
            return
        share = isinstance(filters, float)
        number = max(1, int(filters * known.filters + 0.5)) if share else int(filters)
        if not 1 <= number <= known.filters or (share and not 0 < filters <= 1):
            raise ValueError(
                f"layer '{layer}': keep is {filters}; accepted: 1 to {known.filters} filters, a share above 0.0 up to "
                "1.0, or None for all"
            )
        self.write(f"layer{index}.KEEP", number)
        self.write(f"layer{index}.MODE", MODE_TOP)

    def threshold(self, layer: str, score: int) -> None:
        """From the next frame on, let a lazy layer compute the filters whose score is above `score`."""
        index, _ = self._lazy(layer)
        if not -(1 << 31) <= score < 1 << 31:
            raise ValueError(f"layer '{layer}': threshold is {score}; accepted: 32 bits, signed")
        self.write(f"layer{index}.THRESHOLD", score)
        self.write(f"layer{index}.MODE", MODE_THRESHOLD)

    def classes(self, wanted: Iterable[int]) -> None:
        """From the next frame on, let layers with class masks compute what the `wanted` classes need."""
        named, number = set(wanted), self.description.classes
        if not named <= set(range(number)):
            accepted = f"some of 0 to {number - 1}" if number else "none, the design has no class masks"
            raise ValueError(f"classes {sorted(named)}; accepted: {accepted}")
        for word in range(-(-number // 32)):
            self.write(f"CLASSES{word}", sum(1 << (index % 32) for index in named if index // 32 == word))

    def counters(self) -> Counters:
        """What the accelerator has counted; causes of bad frames are cleared by reading them."""
        fields = self.description.registers["STATUS"].fields
        status = self.read("STATUS")
        causes = tuple(name for name, (low, _) in fields.items() if name != "busy" and status >> low & 1)
        self.write("STATUS", sum(1 << fields[name][0] for name in causes))
        return Counters(
            frames=self.read("FRAMES"),
            bad_frames=self.read("BAD_FRAMES"),
            cycles=self.read("CYCLES"),
            bytes=self.read("BYTES"),
            causes=causes,
            layers=tuple(
                LayerCounters(
                    name=layer.name,
                    chosen=self.read(f"layer{index}.CHOSEN"),
                    cycles=self.read(f"layer{index}.CYCLES"),
                    bytes=self.read(f"layer{index}.BYTES"),
                )
                for index, layer in enumerate(self.description.layers)
            ),
        )

    def _lazy(self, layer: str) -> tuple[int, LayerDescription]:
        for index, known in enumerate(self.description.layers):
            if known.name == layer and known.lazy:
                return index, known
        lazy = ", ".join(known.name for known in self.description.layers if known.lazy)
        raise ValueError(f"'{layer}' is no lazy layer of '{self.description.design}'; lazy layers: {lazy or 'none'}")

    def _beats(self, batch: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Frames as they stream: (n, pixels, channels) bytes, integers in two's complement."""
        shape = self.description.input
        full = (shape.height, shape.width, shape.channels)
        accepted = [full[axis:] for axis in range(3) if full[:axis] == (1,) * axis]
        if batch.shape not in accepted and batch.shape[1:] not in accepted:
            raise ValueError(f"frames have shape {batch.shape}; accepted: (n, {', '.join(map(str, full))})")
        levels = 1 << shape.bits
        low = -levels // 2 if shape.signed else 0
        high = low + levels - 1
        if np.issubdtype(batch.dtype, np.floating):
            real = batch.astype(np.float64)
            if np.isnan(real).any():
                raise ValueError(f"frames hold {int(np.isnan(real).sum())} NaN values; accepted: numbers")
            integers = np.clip(np.rint(np.ldexp(real, -shape.exponent)), low, high).astype(np.int64)
        elif np.issubdtype(batch.dtype, np.integer):
            integers = batch.astype(np.int64)
            if integers.size and (integers.min() < low or integers.max() > high):
                raise ValueError(f"frames hold {integers.min()} to {integers.max()}; accepted: {low} to {high}")
        else:
            raise ValueError(f"frames have dtype {batch.dtype}; accepted: real numbers, or integers already quantised")
        return np.ascontiguousarray(integers.reshape(-1, shape.height * shape.width, shape.channels)).astype(np.uint8)
