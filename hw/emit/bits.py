"""Words of tables: fields packed from the top bit down, as SystemVerilog packs structs, and written as hexadecimal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def clog2(value: int) -> int:
    """Bits that count to `value` - 1; 0 for 1, as $clog2."""
    return max(value - 1, 0).bit_length()


def index_bits(depth: int) -> int:
    """Width of an address into `depth` words; at least 1."""
    return max(clog2(depth), 1)


def power_of_two(value: int) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << clog2(value)


def field(value: int, width: int) -> tuple[int, int]:
    """`value` in two's complement of `width` bits; raises OverflowError where it does not fit as signed or unsigned."""
    if not -(1 << (width - 1)) <= value < (1 << width):
        raise OverflowError(f"{value} does not fit into {width} bits")
    return value & ((1 << width) - 1), width


def pack(fields: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """One word of (value, width) fields, the first at the top: (value, width)."""
    word, total = 0, 0
    for value, width in fields:
        word = word << width | value
        total += width
    return word, total


def array(values: Sequence[int], width: int) -> tuple[int, int]:
    """A packed array: element i in bits i * width and up."""
    return pack(field(int(value), width) for value in reversed(values))


@dataclass(frozen=True)
class Table:
    """Contents of one ROM: words of `width` bits."""

    name: str
    width: int
    words: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self.words)

    def hexadecimal(self) -> str:
        """The text that $readmemh reads: one word a line."""
        digits = -(-self.width // 4)
        return "".join(f"{word:0{digits}x}\n" for word in self.words)


def table(name: str, words: Sequence[tuple[int, int]]) -> Table:
    """A table of packed words, which must all have the same width."""
    (width,) = {width for _, width in words}
    return Table(name, width, tuple(word for word, _ in words))
