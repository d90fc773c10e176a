"""What a driver needs of whatever the accelerator runs in: a simulation, or a board."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Device(Protocol):
    """An accelerator's ports, seen from the host."""

    def read(self, address: int) -> int:
        """The 32-bit register at a byte address of the control port."""

    def write(self, address: int, value: int) -> None:
        """Write a 32-bit register."""

    def place(self, image: bytes) -> int:
        """Put the weight image into external memory; its byte address as the accelerator's memory port sees it."""

    def stream(self, beats: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Send frames (n, pixels, channels), a byte per value, and wait: logits (n, outputs) and bad frames (n,)."""
