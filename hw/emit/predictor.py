"""A lazy layer's predictor as pen_engine reads it: rows of the shared table, first sums, thetas, fields of its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hw.design import (
    BoolArray,
    ClassPredictor,
    IntArray,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    PathPredictor,
    Predictor,
)
from hw.emit.bits import array

Word = tuple[int, int]  # value, width

BOOLEAN_WORDS = 8  # words of scores whose bits share a word of the table


@dataclass(frozen=True)
class PredictorTables:
    """Tables of one predictor, of scores in words of `lanes`.

    `channels` are the rows of the table, each some words, that events of input channels use, if any do; `others` those
    of the predictor's own events (hidden values, classes). `sums` are what scores and then hidden sums start with, each
    from a new word on. `theta` is per channel, for those that look at it.
    """

    lanes: int
    channels: tuple[tuple[Word, ...], ...]
    others: tuple[tuple[Word, ...], ...]
    sums: tuple[list[int], ...]
    theta: tuple[int, ...] = ()
    boolean: bool = False
    by_class: bool = False
    rank: int = 0
    shift: int = 0

    @property
    def rows(self) -> list[Word]:
        """Words of the table."""
        return [word for row in (*self.channels, *self.others) for word in row]

    @property
    def sum_words(self) -> int:
        """Words of scores and hidden sums."""
        return sum(-(-len(part) // self.lanes) for part in self.sums)

    def first_sums(self, bits: int) -> list[Word]:
        """The words that scores, of `bits`, and hidden sums start with."""
        return [array(word, bits) for part in self.sums for word in in_lanes(part, self.lanes)]

    def channel_row(self, channel: int) -> int:
        """Where the row of `channel` begins, from the predictor's first."""
        return channel * len(self.channels[0]) if self.channels else 0

    @property
    def other_row(self) -> int:
        """Where the rows of its own events begin."""
        return self.channel_row(len(self.channels))


def in_lanes(values: list[int], lanes: int) -> list[list[int]]:
    """`values` cut into words of `lanes`, the last one filled with zeros."""
    padded = values + [0] * (-len(values) % lanes)
    return [padded[i : i + lanes] for i in range(0, len(padded), lanes)]


def _bytes(matrix: IntArray, lanes: int) -> tuple[tuple[Word, ...], ...]:
    """Rows of int8 weights."""
    return tuple(tuple(array(word, 8) for word in in_lanes(row, lanes)) for row in matrix.tolist())


def _bits(matrix: BoolArray, lanes: int) -> tuple[tuple[Word, ...], ...]:
    """Rows of Boolean weights, as many in a word as bits fit."""
    wide = BOOLEAN_WORDS * lanes
    return tuple(tuple(array(word, 1) for word in in_lanes(row, wide)) for row in matrix.astype(int).tolist())


def _linear(predictor: Predictor, lanes: int) -> PredictorTables:
    assert isinstance(predictor, LinearPredictor)
    return PredictorTables(lanes, _bytes(predictor.weights, lanes), (), (predictor.bias.tolist(),))


def _low_rank(predictor: Predictor, lanes: int) -> PredictorTables:
    assert isinstance(predictor, LowRankPredictor)
    sums = (predictor.bias.tolist(), predictor.first_bias.tolist())
    rows = _bytes(predictor.first, lanes), _bytes(predictor.second, lanes)
    return PredictorTables(lanes, *rows, sums, rank=predictor.rank, shift=predictor.shift)


def _paths(predictor: Predictor, lanes: int) -> PredictorTables:
    assert isinstance(predictor, PathPredictor)
    rows, sums = _bits(predictor.paths, lanes), ((-predictor.tau).tolist(),)
    return PredictorTables(lanes, rows, (), sums, tuple(predictor.theta.tolist()), boolean=True)


def _classes(predictor: Predictor, lanes: int) -> PredictorTables:
    assert isinstance(predictor, ClassPredictor)
    rows, sums = _bits(predictor.masks, lanes), ([0] * predictor.filters,)
    return PredictorTables(lanes, (), rows, sums, boolean=True, by_class=True)


TABLES: Mapping[type[Predictor], Callable[[Predictor, int], PredictorTables]] = MappingProxyType(
    {LinearPredictor: _linear, LowRankPredictor: _low_rank, PathPredictor: _paths, ClassPredictor: _classes}
)
"""How each kind is written; a new kind is one more entry, and what of it the engine does not do yet."""


def predictor_tables(layer: Layer, lanes: int) -> PredictorTables | None:
    """The tables of `layer`'s predictor; None if it has none."""
    return None if layer.predictor is None else TABLES[type(layer.predictor)](layer.predictor, lanes)
