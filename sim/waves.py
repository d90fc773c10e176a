"""Signals of a waveform file that `sim.verilated` has written, for plots: VCD (IEEE 1800-2023, clause 21.7)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.design import IntArray

BITS = 63  # of the widest signal that is read


class WaveError(ValueError):
    """A file that is no waveform, or a signal that is not in it; the message says which there are."""


@dataclass(frozen=True, eq=False)
class Wave:
    """The values (n,) that a signal takes, unsigned, and the cycles (n,) from which it has them, ascending.

    In a cycle it is what the accelerator's registers see at its end.
    """

    name: str
    cycles: IntArray
    values: IntArray

    def at(self, cycles: IntArray) -> IntArray:
        """Its values in `cycles`; 0 before it is first known."""
        places = np.searchsorted(self.cycles, cycles, side="right") - 1
        known: IntArray = np.where(places < 0, 0, self.values[np.maximum(places, 0)])
        return known


def read(path: Path, names: Sequence[str]) -> dict[str, Wave]:
    """The waves of the signals `names` in the file `path`.

    A name is a path of scopes, of which the first may be left out: ``m_axi_arvalid``, ``u_engine.step_q``; of several
    signals so called, the outermost is meant. Raises `WaveError`.
    """
    header, _, body = path.read_text().partition("$enddefinitions $end")
    if not body:
        raise WaveError(f"'{path}' is no waveform; accepted: VCD")
    known = _signals(header)
    codes = {name: _find(path, known, name) for name in names}
    found: dict[str, list[tuple[int, int]]] = {code: [] for code in codes.values()}
    time = 0
    for line in body.split("\n"):
        if line[:1] == "#":
            time = int(line[1:])
            continue
        value, code = line[1:].split(" ") if line[:1] == "b" else (line[:1], line[1:])
        if code in found and time % 2 == 0:  # with the clock low: what is stored at the end of the cycle
            found[code].append((time // 2, int(value.replace("x", "0").replace("z", "0"), 2)))
        elif code in found:  # after the edge; seen in the next cycle
            found[code].append((time // 2 + 1, int(value.replace("x", "0").replace("z", "0"), 2)))
    return {name: _wave(name, found[code]) for name, code in codes.items()}


def _signals(header: str) -> dict[str, tuple[str, int]]:
    """Code and width by full name."""
    scopes: list[str] = []
    known: dict[str, tuple[str, int]] = {}
    for statement in header.split("$end"):
        words = statement.split()
        match words[:1]:
            case ["$scope"]:
                scopes.append(words[2])
            case ["$upscope"]:
                scopes.pop()
            case ["$var"]:
                known.setdefault(".".join([*scopes, words[4]]), (words[3], int(words[2])))
    return known


def _find(path: Path, known: dict[str, tuple[str, int]], name: str) -> str:
    matching = [full for full in known if f".{full}".endswith(f".{name}")]
    if not matching:
        close = difflib.get_close_matches(name, {full.split(".", 2)[-1] for full in known}, 5, 0.4)
        raise WaveError(f"'{path}' has no signal '{name}'; accepted, for example: {', '.join(close) or 'none'}")
    code, width = known[min(matching, key=lambda full: full.count("."))]
    if width > BITS:
        raise WaveError(f"signal '{name}' has {width} bits; accepted: up to {BITS}")
    return code


def _wave(name: str, changes: list[tuple[int, int]]) -> Wave:
    """The last value of each cycle, where it differs from the one before."""
    last = dict(changes)
    cycles, values = np.array(list(last), np.int64), np.array(list(last.values()), np.int64)
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return Wave(name, cycles[new], values[new])
