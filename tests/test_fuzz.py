"""Random designs by the dozen, and what was found before; thousands by `python bench/verification.py --part fuzz`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim import golden
from tests import fuzz, qonnx_designs
from tests.designs import random_design, random_frames
from tests.fuzz import STRUCTURE, Case

CASES = [
    Case(entry["design"], entry["memory"], tuple(entry["frames"]))
    for entry in json.loads(Path(__file__).with_name("fuzz_cases.json").read_text())
]
QUICK = (301, 302)  # structures that build in seconds
FULL = range(3, 83)


@pytest.mark.parametrize("seed", [*QUICK, *(pytest.param(x, marks=pytest.mark.full) for x in FULL)])
def test_rtl_golden_model_and_qonnx_agree(seed: int, tmp_path: Path) -> None:
    found = dict(fuzz.outcomes(range(STRUCTURE * seed, STRUCTURE * (seed + 1)), tmp_path))
    assert {number: outcome.said for number, outcome in found.items() if outcome.wrong} == {}
    assert len(found) == STRUCTURE


@pytest.mark.full
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_found_stays_found(case: Case, tmp_path: Path) -> None:
    shared = fuzz.Structure(case.design, tmp_path)
    outcome = shared.outcome(case)
    assert not outcome.wrong, outcome.said
    assert outcome.frames == (len(case.frames) or fuzz.FRAMES)


def test_designs_of_a_structure_differ() -> None:
    base = fuzz.structure(STRUCTURE * 301)
    frames = random_frames(base, 6, 1)
    answers = [golden.run(fuzz.varied(base, STRUCTURE * 301 + variant), frames).outputs for variant in range(STRUCTURE)]
    assert len({answer.tobytes() for answer in answers}) == STRUCTURE


@pytest.mark.parametrize("seed", [12, 28, 42])
def test_qonnx_is_a_witness_of_its_own(seed: int) -> None:
    """It agrees with the golden model, and notices other weights and another choice."""
    design = random_design(seed)
    assert qonnx_designs.exact(design)
    frames = random_frames(design, 6, seed)
    run = golden.run(design, frames)
    chosen = {trace.name: trace.chosen for trace in run.layers}
    assert np.array_equal(qonnx_designs.answers(design, frames, chosen), run.outputs)
    other = fuzz.varied(design, STRUCTURE * seed + 1)
    assert not np.array_equal(qonnx_designs.answers(other, frames, chosen), run.outputs)
    other_choice = chosen | {design.layers[-1].name: np.zeros((6, design.outputs), np.bool_)}
    assert not qonnx_designs.answers(design, frames, other_choice).any()


def test_failures_shrink_to_what_fails() -> None:
    tried: list[Case] = []

    def fails(case: Case) -> bool:
        tried.append(case)
        return case.memory == 1 and {3, 8} <= set(case.frames)

    assert fuzz.shrunk(7, fails) == Case(7, 1, (3, 8))
    assert len(tried) < 40
    assert fuzz.shrunk(7, lambda _: False) is None
