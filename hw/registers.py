"""The control port's register map, for whoever reads and writes it; hw/regs/registers.rdl.j2 is what it describes.

All registers are 32 bits wide, at byte addresses.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Register(IntEnum):
    """Addresses of the registers that every accelerator has."""

    ID = 0x000
    VERSION = 0x004
    FINGERPRINT_LOW = 0x008
    FINGERPRINT_HIGH = 0x00C
    IMAGE_BASE = 0x010
    TIMEOUT = 0x014
    CONTROL = 0x018
    STATUS = 0x01C
    FRAMES = 0x020
    CYCLES = 0x024
    BYTES = 0x028
    BAD_FRAMES = 0x02C
    STALL_INPUT = 0x030
    STALL_MEMORY = 0x034
    STALL_OUTPUT = 0x038
    STALL_PREDICT = 0x03C


class LayerRegister(IntEnum):
    """Those of a layer of the tail, from `layer_register(index)` on."""

    KEEP = 0x0
    CHOSEN = 0x4
    CYCLES = 0x8
    BYTES = 0xC
    MODE = 0x10
    THRESHOLD = 0x14


ENABLE = 1 << 0
"""The bit of CONTROL."""


class Status(IntFlag):
    """Bits of STATUS; all but BUSY stay until 1 is written to them."""

    BUSY = 1 << 0
    BUS_ERROR = 1 << 1
    SHORT_FRAME = 1 << 2
    LONG_FRAME = 1 << 3
    TIMEOUT = 1 << 4
    WRONG_IMAGE = 1 << 5
    CHECKSUM = 1 << 6


ERRORS = ~Status.BUSY
"""The causes of bad frames."""

CLASSES_AT = 0x080
"""Of the first of the CLASSES registers, which have a bit for each class."""

LAYERS_AT = 0x100
LAYER_STRIDE = 0x20


def layer_register(index: int, register: LayerRegister = LayerRegister.KEEP) -> int:
    """Address of `register` of the tail's layer `index`."""
    return LAYERS_AT + index * LAYER_STRIDE + register
