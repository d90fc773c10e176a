"""The checksums of the weight image: cyclic redundancy codes that are tied to their place.

A code of w bits is a reflected CRC (least significant bit first). Its state at the border of a block is known: the
inverse of the low w bits of the bus word's index in the image. So a run of blocks is checked by beginning with the
state of its first word, taking in all of its words, and comparing with the state of the word behind it: whoever checks
needs to know neither where blocks end nor where the check words lie, and a word that was meant for another place does
not pass. The last bytes of each block are chosen to make it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

POLYNOMIALS: Mapping[int, int] = MappingProxyType({8: 0xF4, 16: 0x8408, 32: 0x82F63B78})
"""By width, reflected: CRC-8/AUTOSAR, CCITT, Castagnoli."""

States = NDArray[np.uint32]


def border(word: int | NDArray[np.int64], bits: int) -> States:
    """The state of a code of `bits` bits before bus word `word` of the image, at the border of a block."""
    return (~np.asarray(word, np.int64) & ((1 << bits) - 1)).astype(np.uint32)


def advance(states: States, data: NDArray[np.uint8], bits: int) -> States:
    """`states` (n,) after the bytes of `data` (n, bytes)."""
    table = _table(bits)
    for column in data.T:
        states = (states >> np.uint32(8)) ^ table[(states ^ column) & np.uint32(0xFF)]
    return states


def check_words(states: States, targets: States, bits: int) -> States:
    """What leads each of `states` to its one of `targets`, as little-endian words of `bits` bits."""
    polynomial = np.uint32(POLYNOMIALS[bits])
    for _ in range(bits):  # backwards: the bit that a step shifts in at the top tells what was shifted out
        out = targets >> np.uint32(bits - 1)
        targets = ((targets ^ (out * polynomial)) << np.uint32(1) | out) & np.uint32((1 << bits) - 1)
    return states ^ targets


@cache
def _table(bits: int) -> States:
    """The effect of a byte, by its value."""
    states = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = (states >> np.uint32(1)) ^ ((states & np.uint32(1)) * np.uint32(POLYNOMIALS[bits]))
    return states
