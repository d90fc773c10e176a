"""Faults that a simulation can inject: on the memory port, the pixel stream and the control port."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Response(IntEnum):
    """Answers of a memory that are errors."""

    SLVERR = 2
    DECERR = 3


@dataclass(frozen=True)
class FrameLength:
    """Frame `frame` of the run is sent with `beats` beats: short of its pixels, or more, the further ones repeated."""

    frame: int
    beats: int


@dataclass(frozen=True)
class BusError:
    """The memory answers `beats` beats from beat `beat` on with `response`; their data is junk."""

    beat: int
    response: Response = Response.SLVERR
    beats: int = 1


@dataclass(frozen=True)
class Silence:
    """Before beat `beat` the memory gives nothing for `cycles` cycles; None: until the run ends."""

    beat: int
    cycles: int | None = None


@dataclass(frozen=True)
class Refusal:
    """The memory does not take request `request` until it has waited for `cycles` cycles; None: until the run ends."""

    request: int
    cycles: int | None = None


@dataclass(frozen=True)
class FlippedBit:
    """Bit `bit` of beat `beat` is inverted on the bus."""

    beat: int
    bit: int


@dataclass(frozen=True)
class RegisterWrite:
    """`value` is written to the register at `address` from cycle `cycle` of the run on."""

    cycle: int
    address: int
    value: int


@dataclass(frozen=True)
class Unread:
    """Nobody takes a logit of frame `frame` before its first one has been offered for `cycles` cycles."""

    frame: int
    cycles: int


Fault = FrameLength | BusError | Silence | Refusal | FlippedBit | RegisterWrite | Unread
"""Beats and requests on the memory port, frames and cycles are numbered from 0 at the start of the run."""

FOREVER = -1


def encode(fault: Fault) -> tuple[int, int, int, int]:
    """Kind, place, amount and value, as harness.cpp takes them."""
    match fault:
        case FrameLength(frame, beats):
            if beats < 1:
                raise ValueError(f"{fault}: a frame has at least 1 beat")
            return (0, frame, beats, 0)
        case BusError(beat, response, beats):
            return (1, beat, beats, response)
        case Silence(beat, cycles):
            return (2, beat, FOREVER if cycles is None else cycles, 0)
        case Refusal(request, cycles):
            return (3, request, FOREVER if cycles is None else cycles, 0)
        case FlippedBit(beat, bit):
            return (4, beat, 1, bit)
        case RegisterWrite(cycle, address, value):
            return (5, cycle, address, value)
        case Unread(frame, cycles):
            return (6, frame, cycles, 0)
