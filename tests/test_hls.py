"""The Vitis HLS project: compiled with g++, every number equal to the golden model's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.control import Changes, Control
from hw.design import Design, IntArray, Mode, Selection
from hw.emit.hls import Vectors, emit_hls, sources, valid_reuse
from sim import golden
from sim.hls import HlsError, HlsModel, HlsRun, build, run_test_bench
from tests.designs import digits_like, random_design, random_frames, random_residual_design, random_threshold

ROOT = Path(__file__).parent.parent
FRAMES = 14

# As in test_rtl_designs: all kinds of predictor, pinned filters, pruned taps, strides and pools, kernels of one row;
# from RESIDUAL on with branches.
RESIDUAL = 1000
QUICK = (12, 28, 106, RESIDUAL + 10)
FULL = tuple(seed for seed in (*range(100, 130), *range(RESIDUAL, RESIDUAL + 20)) if seed not in QUICK)
SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.full) for seed in FULL)]


@cache
def emitted(seed: int | None) -> tuple[Design, Path]:
    if seed is None:
        design = digits_like(3)
    else:
        design = random_design(seed) if seed < RESIDUAL else random_residual_design(seed - RESIDUAL)
    project = ROOT / "build" / "tests" / "hls" / design.name
    frames = random_frames(design, 3, 1)
    emit_hls(design, project, Vectors(frames, golden.run(design, frames).outputs))
    return design, project


@cache
def model(seed: int | None) -> HlsModel:
    design, project = emitted(seed)
    return HlsModel(build(project, design.name), design, (project / "weights.bin").read_bytes())


def check(design: Design, run: HlsRun, frames: IntArray, keep: Changes = None) -> None:
    expected = golden.run(design, frames, keep)
    for layer in run.layers:
        trace = expected.layer(layer.name)
        assert np.array_equal(layer.strengths, trace.strengths), f"strengths of the input of {layer.name}"
        if layer.scores is not None:
            assert np.array_equal(layer.scores, trace.scores), f"scores of {layer.name}"
        assert np.array_equal(layer.chosen, trace.chosen), f"choice of {layer.name}"
        assert np.array_equal(layer.bytes, trace.bytes), f"bytes of {layer.name}"
        if layer.output is not None:
            assert np.array_equal(layer.output, trace.output), f"output of {layer.name}"
    assert np.array_equal(run.outputs, expected.outputs)
    assert not run.bad.any()


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_every_number_is_the_golden_models(seed: int | None) -> None:
    design = emitted(seed)[0]
    frames = random_frames(design, FRAMES, 1000)
    check(design, model(seed).run(frames), frames)


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_choices_are_swept(seed: int | None) -> None:
    design = emitted(seed)[0]
    rng = np.random.default_rng(0 if seed is None else seed)
    for turn in range(8):
        frames = random_frames(design, 3, 4000 + turn)
        run = golden.run(design, frames)
        settings: dict[str, int | Selection] = {}
        for layer in design.lazy_layers:
            threshold = random_threshold(rng, layer, run.layer(layer.name).strengths)
            keep = (1, layer.filters, int(rng.integers(1, layer.filters + 1)))[min(turn, 2)]
            mode = Mode.TOP if turn < 4 else Mode(rng.choice(list(Mode), p=[0.2, 0.2, 0.6]))
            settings[layer.name] = Selection(mode, keep, threshold)
        control = Control.of(design, settings, np.flatnonzero(rng.random(design.classes) < 0.5).tolist())
        check(design, model(seed).run(frames, control), frames, control)


def test_frames_do_not_disturb_each_other() -> None:
    design = emitted(106)[0]
    frames = random_frames(design, FRAMES, 3000)
    together, backwards = model(106).run(frames), model(106).run(frames[::-1])
    assert np.array_equal(together.outputs, backwards.outputs[::-1])


def test_an_image_of_another_design_is_refused() -> None:
    design, project = emitted(None)
    image = bytearray((project / "weights.bin").read_bytes())
    image[16] ^= 1  # of the fingerprint
    other = HlsModel(build(project, design.name), design, bytes(image))
    run = other.run(random_frames(design, 2, 5))
    assert run.bad.all()
    assert not run.outputs.any()


def test_the_projects_own_test_bench_passes_and_can_fail() -> None:
    design, project = emitted(None)
    assert run_test_bench(project, design.name) == "3 frames, 0 not equal"
    logits, frames = project / "tb_data" / "logits.txt", project / "tb_data" / "frames.txt"
    text = logits.read_text()
    first, rest = text.split(" ", 1)
    try:
        logits.write_text(f"{int(first) + 1} {rest}")
        with pytest.raises(HlsError, match="3 frames, 1 not equal"):
            run_test_bench(project, design.name)
        given = frames.read_text()
        frames.write_text("")
        assert run_test_bench(project, design.name) == "no frames in tb_data: ran a blank one, compared with nothing"
        frames.write_text(given)
    finally:
        logits.write_text(text)


def test_emission_is_deterministic() -> None:
    assert sources(random_design(28)) == sources(random_design(28))


def test_head_stages_get_reuse_factors_that_hls4ml_takes() -> None:
    from hls4ml.backends import get_backend

    vitis = get_backend("Vitis")
    for fan_in, filters in ((9, 16), (27, 5), (50, 8)):
        expected = vitis.get_valid_reuse_factors(fan_in, filters)
        assert [rf for rf in range(1, fan_in * filters + 1) if valid_reuse(fan_in, filters, rf)] == expected


def test_compiler_errors_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    design = random_design(12)
    emit_hls(design, tmp_path / "hls")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HlsError, match="'no-such-compiler' is not installed"):
        build(tmp_path / "hls", design.name)
