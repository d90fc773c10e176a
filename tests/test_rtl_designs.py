"""Random designs through the whole flow of RTL: emitted, verilated, and every number equal to the golden model's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.control import Changes, Control
from hw.design import Design, IntArray, Mode, Selection
from sim import golden
from sim.memory import FixedLatency, Stalls
from sim.verilated import RtlRun, VerilatedModel
from tests.designs import (
    built,
    random_design,
    random_frames,
    random_residual_design,
    random_strided_design,
    random_threshold,
)

FRAMES = 14

# Between them: 0 to 3 head stages, 1 to 4 engine steps, 1 to 8 pixels, buses of 4 to 16 bytes, lazy and dense layers,
# strides, pools, pruned taps; in 118, rows that pooling drops are longer than a stage's ring; in 115, one group of
# pinned filters is the whole table of pinned weights; 28 and 106 have every kind of predictor. From RESIDUAL on there
# are branches; 1010 has three regions, two parts of a tape, and replays. From STRIDED on maps lie in quarters; in 2010
# a pooled and a plain one, whose last words are not full. The others are for `make test-full`.
RESIDUAL, STRIDED = 1000, 2000
QUICK = (12, 19, 28, 42, 106, 115, 118, RESIDUAL + 10, STRIDED + 10)
_ALL = (*range(100, 140), *range(RESIDUAL, RESIDUAL + 20), *range(STRIDED, STRIDED + 16))
FULL = tuple(seed for seed in _ALL if seed not in QUICK)
SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.full) for seed in FULL)]

FAST = FixedLatency(latency=1, outstanding=64)
SLOW = FixedLatency(latency=61, outstanding=1)
GAPS = FixedLatency(latency=10, outstanding=2, gap_every=15, gap_cycles=4)


@cache
def emitted(seed: int) -> tuple[Design, Path, bytes]:
    """A random design, the library of its RTL, its weight image; under build/, so that it is reused from run to run."""
    if seed >= STRIDED:
        design = random_strided_design(seed - STRIDED)
    elif seed >= RESIDUAL:
        design = random_residual_design(seed - RESIDUAL)
    else:
        design = random_design(seed)
    folder, library = built(design)
    return design, library, (folder / "weights.bin").read_bytes()


def model(seed: int, memory: FixedLatency | None = None, stalls: Stalls | None = None) -> VerilatedModel:
    design, library, image = emitted(seed)
    return VerilatedModel(library, design, image, memory, stalls)


def check(design: Design, run: RtlRun, frames: IntArray, keep: Changes = None) -> None:
    """All that `run` tells about `frames` is what the golden model says."""
    expected = golden.run(design, frames, keep)
    for layer in run.layers:
        trace = expected.layer(layer.name)
        assert np.array_equal(layer.strengths, trace.strengths), f"strengths of the input of {layer.name}"
        if layer.scores is not None:  # else there is nothing to rank
            assert np.array_equal(layer.scores, trace.scores), f"scores of {layer.name}"
        assert np.array_equal(layer.chosen, trace.chosen), f"choice of {layer.name}"
        assert np.array_equal(layer.bytes, trace.bytes), f"bytes of {layer.name}"
    assert np.array_equal(run.outputs, expected.outputs)
    assert np.array_equal(run.bus_bytes, sum(trace.bytes for trace in expected.layers))
    assert not run.bad.any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("memory", [FAST, SLOW, GAPS], ids=["fast", "slow", "gaps"])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.6])
def test_every_number_is_the_golden_models(seed: int, memory: FixedLatency, probability: float) -> None:
    design = emitted(seed)[0]
    frames = random_frames(design, FRAMES, seed + 1000)
    run = model(seed, memory, Stalls(seed, probability)).run(frames)
    check(design, run, frames)
    assert (run.first_in <= run.last_in).all()
    assert (run.last_in < run.last_out).all()
    assert (np.diff(run.last_out) > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_keep_is_swept_on_a_live_model(seed: int) -> None:
    design = emitted(seed)[0]
    live = model(seed, GAPS)
    rng = np.random.default_rng(seed)
    for turn in range(8):
        keep: dict[str, int | Selection] = {}
        if turn < 2:
            keep = {layer.name: (1, layer.filters)[turn] for layer in design.lazy_layers}
        for layer in design.lazy_layers[: 8 if turn > 2 else 0]:  # turn 2 is the design's own
            keep[layer.name] = int(rng.integers(1, layer.filters + 1))
        frames = random_frames(design, 3, seed + 2000 + turn)
        check(design, live.run(frames, keep), frames, keep)


@pytest.mark.parametrize("seed", SEEDS)
def test_modes_are_swept_on_a_live_model(seed: int) -> None:
    design = emitted(seed)[0]
    live = model(seed, GAPS)
    rng = np.random.default_rng(seed)
    for turn in range(8):
        frames = random_frames(design, 3, seed + 4000 + turn)
        run = golden.run(design, frames)
        settings: dict[str, int | Selection] = {}
        for layer in design.lazy_layers:
            threshold = random_threshold(rng, layer, run.layer(layer.name).strengths)
            keep = int(rng.integers(1, layer.filters + 1))
            settings[layer.name] = Selection(Mode(rng.choice(list(Mode), p=[0.2, 0.2, 0.6])), keep, threshold)
        control = Control.of(design, settings, np.flatnonzero(rng.random(design.classes) < 0.5).tolist())
        check(design, live.run(frames, control), frames, control)


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_do_not_disturb_each_other(seed: int) -> None:
    design = emitted(seed)[0]
    frames = random_frames(design, FRAMES, seed + 3000)
    live = model(seed, FAST)
    together, backwards = live.run(frames), live.run(frames[::-1])
    alone = [live.run(frames[i : i + 1]) for i in range(3)]
    assert np.array_equal(together.outputs, backwards.outputs[::-1])
    for layer, other in zip(together.layers, backwards.layers, strict=True):
        assert np.array_equal(layer.chosen, other.chosen[::-1])
        assert np.array_equal(layer.bytes, other.bytes[::-1])
    assert np.array_equal(together.outputs[:3], np.concatenate([run.outputs for run in alone]))
