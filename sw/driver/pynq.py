"""An accelerator on a board with PYNQ; the package `pynq` is imported when a device is made, and not before.

The block design has the accelerator and an AXI DMA for its two streams (no scatter-gather), control and memory port on
the usual interconnects. The DMA ends every transfer with TLAST, so each frame is one transfer. It drops TUSER; bad
frames are told by the register that counts them.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sw.driver.description import Description

CONTROL_BYTES = 1 << 12


class PynqDevice:
    """The accelerator in the overlay `bitstream`; `core` and `dma` are their names in the block design."""

    def __init__(
        self, bitstream: str, description: Description, core: str | None = None, dma: str = "axi_dma_0"
    ) -> None:
        pynq: Any = importlib.import_module("pynq")
        overlay = pynq.Overlay(bitstream)
        name = core or f"{description.design}_0"
        if name not in overlay.ip_dict:
            raise ValueError(f"'{bitstream}' has no core '{name}'; it has {', '.join(sorted(overlay.ip_dict))}")
        self._allocate = pynq.allocate
        self._registers = pynq.MMIO(overlay.ip_dict[name]["phys_addr"], CONTROL_BYTES)
        self._dma = getattr(overlay, dma)
        self._bad_frames = description.registers["BAD_FRAMES"].address
        shape, outputs = description.input, description.outputs
        self._frame = pynq.allocate((shape.height * shape.width, shape.channels), np.uint8)
        self._answer = pynq.allocate((outputs.number,), np.int32 if outputs.bytes == 4 else np.int64)
        self._image: Any = None

    def read(self, address: int) -> int:
        """A register."""
        return int(self._registers.read(address))

    def write(self, address: int, value: int) -> None:
        """Write a register."""
        self._registers.write(address, value)

    def place(self, image: bytes) -> int:
        """Copy the image into contiguous memory, which is kept until the next one."""
        self._image = self._allocate((len(image),), np.uint8)
        self._image[:] = np.frombuffer(image, np.uint8)
        self._image.flush()
        return int(self._image.physical_address)

    def stream(self, beats: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Frame by frame through the DMA."""
        logits, bad = np.zeros((len(beats), self._answer.size), np.int64), np.zeros(len(beats), np.bool_)
        before = self.read(self._bad_frames)
        for index, frame in enumerate(beats):
            self._frame[:] = frame
            self._frame.flush()
            self._dma.recvchannel.transfer(self._answer)
            self._dma.sendchannel.transfer(self._frame)
            self._dma.sendchannel.wait()
            self._dma.recvchannel.wait()
            self._answer.invalidate()
            logits[index] = self._answer
            after = self.read(self._bad_frames)
            bad[index] = after != before
            before = after
        return logits, bad
