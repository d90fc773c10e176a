"""Random designs by the thousand: RTL, golden model and QONNX must agree on everything they tell.

What takes time is building RTL, so one build serves several designs: those that differ from a random one in what its
tables and its image hold (weights, biases, shifts, predictors), not in any parameter. A design has a number;
`STRUCTURE` of them in a row share a build, and the first of these is `random_design`'s own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from hw import image
from hw.control import Control
from hw.design import (
    BoolArray,
    ClassPredictor,
    Design,
    IntArray,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    Mode,
    PathPredictor,
    Predictor,
    Selection,
)
from hw.emit import emit
from hw.emit.program import Program
from hw.emit.stage import head_stages
from sim import golden
from sim.memory import FixedLatency, Stalls
from sim.verilated import RtlRun, SimulationError, VerilatedModel, build
from tests import qonnx_designs
from tests.designs import checked, random_design, random_frames, random_residual_design, random_threshold

STRUCTURE = 25  # designs of one build
MEMORIES = (
    (FixedLatency(latency=1, outstanding=64), 0.0),
    (FixedLatency(latency=61, outstanding=1), 0.1),
    (FixedLatency(latency=10, outstanding=2, gap_every=15, gap_cycles=4), 0.6),
)
FRAMES = 12  # for each of them


@dataclass(frozen=True)
class _Twin(Design):
    """A design that says it is another one: it has the same RTL, and may use its image's place."""

    twin: int = 0

    @property
    def fingerprint(self) -> int:
        return self.twin


@dataclass(frozen=True)
class Case:
    """Frames `frames` (of those that belong to it, all if there is none) of a design in one of `MEMORIES`."""

    design: int
    memory: int
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Frames that were compared, of these with QONNX too, and those that differ; or why the RTL gave up."""

    frames: int
    witnessed: int
    wrong: tuple[int, ...]
    said: str = ""


def structure(number: int) -> Design:
    """The random design that `number` has its parameters from; every fifth has residual branches."""
    seed = number // STRUCTURE
    if seed % 5 == 4:
        return random_residual_design(seed)
    design = random_design(seed)
    return checked(design, (8, 16, 32)[seed // 3 % 3], block=20) if seed % 3 == 0 else design


def varied(design: Design, number: int) -> Design:
    """`design` with other contents of all tables, each a permutation of its own, so that every bound stays."""
    if number % STRUCTURE == 0:
        return design
    rng = np.random.default_rng([number, 7])
    head, tail = (tuple(_other(rng, layer) for layer in layers) for layers in (design.head, design.tail))
    known = {x.name: getattr(design, x.name) for x in fields(Design)}
    return _Twin(**(known | {"head": head, "tail": tail}), twin=design.fingerprint)


def _other(rng: np.random.Generator, layer: Layer) -> Layer:
    kept = layer.kept_taps.reshape(-1)
    weights = layer.weights.reshape(layer.filters, -1).copy()
    for row in weights:
        row[kept] = rng.permutation(row[kept])
    order = rng.permutation(layer.filters)
    return replace(
        layer,
        weights=weights[order].reshape(layer.weights.shape),
        bias=layer.bias[order],
        shift=None if layer.shift is None else layer.shift[order],
        predictor=None if layer.predictor is None else _other_predictor(rng, layer.predictor),
    )


def _other_predictor(rng: np.random.Generator, predictor: Predictor) -> Predictor:
    columns = rng.permutation(predictor.filters)
    match predictor:
        case LinearPredictor(weights, bias):
            return LinearPredictor(rng.permutation(weights)[:, columns], bias[columns])
        case LowRankPredictor(first, first_bias, shift, bits, second, bias):
            rank = rng.permutation(len(second))
            first = rng.permutation(first)[:, rank]
            return LowRankPredictor(
                first, first_bias[rank], shift, bits, rng.permutation(second)[:, columns], bias[columns]
            )
        case PathPredictor(paths, theta, tau):
            return PathPredictor(rng.permutation(paths)[:, columns], rng.permutation(theta), tau[columns])
        case ClassPredictor(masks):
            return ClassPredictor(rng.permutation(masks)[:, columns])
    raise TypeError(f"no other contents for {type(predictor).__name__}")


class Structure:
    """RTL that designs share, built in `folder`."""

    def __init__(self, number: int, folder: Path) -> None:
        self.design, self.folder = structure(number), folder
        emit(self.design, folder)
        self.library = build(folder / "rtl", folder / "verilated", f"{self.design.name}_probed")
        self._parameters = _parameters(self.design)

    def outcome(self, case: Case) -> Outcome:
        """Compare RTL, golden model and QONNX on what `case` says."""
        design = varied(self.design, case.design)
        assert _parameters(design) == self._parameters, f"design {case.design} has another structure"
        tables = [t for stage in head_stages(design) for t in stage.tables.values()]
        for table in [*tables, *Program(design).tables.values()]:
            (self.folder / "rtl" / "mem" / f"{table.name}.hex").write_text(table.hexadecimal())
        frames = random_frames(design, FRAMES, 10 * case.design + case.memory)
        places = case.frames or tuple(range(FRAMES))
        frames = frames[list(places)]
        control = settings(design, case)
        right = golden.run(design, frames, control)
        memory, probability = MEMORIES[case.memory]
        stalls = Stalls(case.design, probability)
        try:
            live = VerilatedModel(self.library, design, image.build(design), memory, stalls)
            run = live.run(frames, control)
        except SimulationError as error:
            return Outcome(len(frames), 0, places, str(error))
        equal = _equal(run, right)
        witnessed = 0
        if qonnx_designs.exact(design):
            chosen = {layer.name: layer.chosen for layer in run.layers}
            equal &= (qonnx_designs.answers(design, frames, chosen) == run.outputs).all(axis=1)
            witnessed = len(frames)
        return Outcome(len(frames), witnessed, tuple(places[i] for i in np.flatnonzero(~equal)))


def _parameters(design: Design) -> list[dict[str, str]]:
    return [*(stage.parameters for stage in head_stages(design)), Program(design).parameters]


def settings(design: Design, case: Case) -> Control:
    """What the registers hold: in the first memory the design's own, else anything."""
    if case.memory == 0:
        return Control.of(design)
    rng = np.random.default_rng([case.design, case.memory])
    run = golden.run(design, random_frames(design, 4, case.design))
    changes: dict[str, int | Selection] = {}
    for layer in design.lazy_layers:
        threshold = random_threshold(rng, layer, run.layer(layer.name).strengths)
        mode = list(Mode)[int(rng.choice(3, p=[0.1, 0.5, 0.4]))]
        keep = (1, layer.filters, int(rng.integers(1, layer.filters + 1)))[int(rng.integers(3))]
        changes[layer.name] = Selection(mode, keep, threshold)
    return Control.of(design, changes, np.flatnonzero(rng.random(design.classes) < 0.5).tolist())


def _equal(run: RtlRun, right: golden.GoldenRun) -> BoolArray:
    """Of each frame, whether all that the RTL tells is what the golden model says."""
    equal: BoolArray = (run.outputs == right.outputs).all(axis=1) & ~run.bad
    equal &= run.bus_bytes == sum(layer.bytes for layer in right.layers)
    for layer in run.layers:
        trace = right.layer(layer.name)
        told: list[tuple[IntArray | BoolArray, IntArray | BoolArray | None]] = [
            (layer.strengths, trace.strengths),
            (layer.chosen, trace.chosen),
            (layer.bytes[:, None], trace.bytes[:, None]),
        ]
        if layer.scores is not None:
            told.append((layer.scores, trace.scores))
        for seen, expected in told:
            assert expected is not None
            equal &= (seen == expected).all(axis=1)
    return equal


def outcomes(numbers: Sequence[int], folder: Path) -> Iterator[tuple[int, Outcome]]:
    """Of each design of `numbers`, all memories together; builds whose designs all agree leave nothing in `folder`."""
    by_build: dict[int, list[int]] = {}
    for number in numbers:
        by_build.setdefault(number // STRUCTURE, []).append(number)
    for first, members in by_build.items():
        home = folder / f"structure-{first}"
        shared, clean = Structure(first * STRUCTURE, home), True
        for number in members:
            found = [shared.outcome(Case(number, memory)) for memory in range(len(MEMORIES))]
            wrong = tuple(memory for memory, outcome in enumerate(found) for _ in outcome.wrong)
            clean &= not wrong
            yield (
                number,
                Outcome(
                    sum(outcome.frames for outcome in found),
                    sum(outcome.witnessed for outcome in found),
                    wrong,
                    " ".join(outcome.said for outcome in found if outcome.said),
                ),
            )
        if clean:
            shutil.rmtree(home)


def shrunk(design: int, fails: Callable[[Case], bool]) -> Case | None:
    """The least case of `design` that `fails`: the first memory in which any frame does, and as few frames as do.

    None if it does not fail. Frames are left out a half, a quarter and so on at a time, as long as the rest fails.
    """
    whole = tuple(range(FRAMES))
    for memory in range(len(MEMORIES)):
        case = Case(design, memory, whole)
        if not fails(case):
            continue
        size = len(case.frames) // 2
        while size:
            start = 0
            while start < len(case.frames) > size:
                rest = case.frames[:start] + case.frames[start + size :]
                if fails(replace(case, frames=rest)):
                    case = replace(case, frames=rest)
                else:
                    start += size
            size //= 2
        return case
    return None
