"""Situations that random runs seldom meet, sought on purpose; what they are is counted by `sim/sv/pen_cover.sv`.

One small design, in which channels finish faster than the next layer's scores take them, filters are pinned, answers
are so short that they wait in the output while the next frame is computed, and a blank frame leaves every map blank.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.control import Changes
from hw.design import (
    ClassPredictor,
    Conv,
    Dense,
    Design,
    Engine,
    IntArray,
    IntFormat,
    Lanes,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    MapShape,
    Mode,
    PathPredictor,
    Place,
    Selection,
    Source,
)
from hw.registers import ENABLE, LayerRegister, Register, Status, layer_register
from sim import golden
from sim.faults import BusError, FlippedBit, FrameLength, Refusal, RegisterWrite, Response, Silence, Unread
from sim.memory import IMAGE_BASE, FixedLatency, Stalls
from sim.verilated import RtlRun, VerilatedModel
from tests.designs import LOGITS, built, calibrated

LAYERS = ((24, ""), (20, "linear"), (20, "linear"), (8, "paths"), (7, "classes"), (8, "low_rank"), (6, ""))
PREDICTORS = {
    "linear": lambda c, f, rng: LinearPredictor(rng.integers(-128, 128, (c, f)), rng.integers(-50, 50, f)),
    "paths": lambda c, f, rng: PathPredictor(rng.random((c, f)) < 0.6, rng.integers(0, 900, c), rng.integers(-1, 5, f)),
    "classes": lambda _, f, rng: ClassPredictor(rng.random((5, f)) < 0.4),
    "low_rank": lambda c, f, rng: LowRankPredictor(
        rng.integers(-128, 128, (c, 3)),
        rng.integers(-50, 50, 3),
        6,
        9,
        rng.integers(-128, 128, (3, f)),
        np.zeros(f, int),
    ),
}
PATIENCE = 40  # cycles of silence that are borne
MEMORY = FixedLatency(latency=7, outstanding=2)


def crowded() -> Design:
    """A dense layer, lazy ones with every kind of predictor, a pinned one and the last; all but it of single pixels."""
    rng, number = np.random.default_rng(1), IntFormat(8, False, 0)
    shape = MapShape(2, 3, 3)
    maps = rng.integers(1, 256, (8, 2, 3, 3))
    layers: list[Layer] = []
    for index, (filters, kind) in enumerate(LAYERS):
        before = layers[-1].output if layers else shape
        layer: Layer = Conv(
            name=f"layer{index}",
            input=before,
            input_format=number,
            weights=rng.integers(-40, 100, (filters, before.channels, 1, 1)),
            weight_bits=8,
            bias=np.zeros(filters, np.int64),
            output_format=number,
            shift=np.zeros(filters, np.int64),
            place=Place.ENGINE,
            source=Source.DENSE,
        )
        layer = calibrated(layer, maps, rng, dead=0.0)
        layer = replace(layer, bias=-np.abs(layer.bias) // 8 - 1)  # of a blank frame nothing is left
        if kind:
            predictor = PREDICTORS[kind](before.channels, filters, rng)
            layer = replace(layer, source=Source.LAZY, predictor=predictor, keep=filters - 2)
        layers.append(layer)
        maps = golden.step(layer, maps).output
    layers[1] = replace(layers[1], pinned=(1, 5, 9))
    layers[-1] = replace(layers[-1], pinned=tuple(range(layers[-1].filters)))
    last = Dense(
        name="last",
        input=layers[-1].output,
        input_format=number,
        weights=rng.integers(-128, 128, (2, *maps.shape[1:])),
        weight_bits=8,
        bias=np.array([5, -7]),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    engine = Engine(Lanes(6, 8), bus_bytes=4, predictor_lanes=1, outstanding=2, max_burst=4, crc_bits=16, crc_block=20)
    return Design("crowded", shape, number, (), (*layers, last), engine)


@cache
def emitted() -> tuple[Design, Path, bytes]:
    design = crowded()
    folder, library = built(design)
    return design, library, (folder / "weights.bin").read_bytes()


def model(stalls: Stalls | None = None, memory: FixedLatency = MEMORY, patience: int = PATIENCE) -> VerilatedModel:
    design, library, image = emitted()
    live = VerilatedModel(library, design, image, memory, stalls)
    live.write_register(Register.TIMEOUT, patience)
    return live


def some_frames(count: int, seed: int = 1) -> IntArray:
    """Bright, dark, with a blank channel, and blank frames in turn."""
    frames = np.random.default_rng(seed).integers(1, 256, (count, 2, 3, 3))
    frames[1::4] //= 200
    frames[2::4, 1] = 0
    frames[3::4] = 0
    return frames


def check(run: RtlRun, frames: IntArray, *, good: bool = False, keep: Changes = None) -> None:
    """Answers that are not marked are right; with `good`, none is marked."""
    assert not (good and run.bad.any())
    right = golden.run(emitted()[0], frames, keep).outputs
    assert np.array_equal(run.outputs[~run.bad], right[~run.bad])


@cache
def ends() -> list[int]:
    """Cycles of a run of one frame in which it begins, and in which each of its layers ends, about."""
    run = model().run(some_frames(1))
    first = int(run.last_out[0] - run.first_in[0]) - int(sum(layer.cycles[0] for layer in run.layers))
    return np.cumsum([first, *(int(layer.cycles[0]) for layer in run.layers)]).tolist()


def moments() -> list[int]:
    """Cycles around those."""
    return sorted({max(1, at + near) for at in ends() for near in range(-12, 8)})


AGAIN = (RegisterWrite(0, Register.CONTROL, 0), RegisterWrite(1, Register.CONTROL, ENABLE))  # reads the header anew


# -- all that channels can hold, kept and chosen ----------------------------------------------------------------------
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9])
def test_every_threshold(probability: float) -> None:
    live, frames = model(Stalls(3, probability), patience=0), some_frames(8)
    run = golden.run(live.design, frames)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        keep: dict[str, int | Selection] = {}
        for layer in live.design.lazy_layers:
            scores = run.layer(layer.name).scores
            assert scores is not None
            level = (-(1 << 31), int(np.quantile(scores, share)), (1 << 31) - 1)[(share > 0) + (share == 1)]
            keep[layer.name] = Selection(Mode.THRESHOLD, 1, level)
        check(live.run(frames, keep), frames, good=True, keep=keep)
    everything = {layer.name: Selection(Mode.ALL) for layer in live.design.lazy_layers}
    check(live.run(frames, everything), frames, good=True, keep=everything)


def test_every_k() -> None:
    """From one to more than there are."""
    live, frames = model(patience=0), some_frames(4)
    lazy = live.design.lazy_layers
    for k in (1, 2, 3, 4, 5, 18, 100):
        keep = {layer.name: min(k, layer.filters) for layer in lazy}
        check(live.run(frames, keep), frames, good=True, keep=keep)
    for index, layer in enumerate(live.design.tail):
        if layer.lazy:  # what software refuses to write
            live.write_register(layer_register(index, LayerRegister.KEEP), 500)
    check(live.run(frames, keep), frames, good=True, keep=keep)


def test_answers_wait_while_the_next_frame_is_computed() -> None:
    live, frames = model(patience=0), some_frames(12)
    for cycles in (50, 400, 6000):
        check(live.run(frames, faults=[Unread(2, cycles), Unread(6, cycles)]), frames, good=True)
    rest = ends()
    for at in range(rest[-1] - 4, rest[-1] + 8):  # enabled again while the answer waits
        writes = [RegisterWrite(at, Register.CONTROL, 0), RegisterWrite(at + 9, Register.CONTROL, ENABLE)]
        check(live.run(frames[:4], faults=[Unread(0, 3000), *writes]), frames[:4], good=True)


# -- errors -----------------------------------------------------------------------------------------------------------
def test_errors_at_every_beat_of_header_and_frame() -> None:
    live, frames = model(), some_frames(1).repeat(2, axis=0)
    header = 6  # beats of 4 bytes
    beats = int(live.run(frames).bus_bytes[0]) // 4
    for response in Response:
        for beat in range(header):
            run = live.run(frames, faults=[*AGAIN, BusError(beat, response)])
            assert run.causes == Status.BUS_ERROR
            check(run, frames)
        for beat in range(0, beats, 3):
            run = live.run(frames, faults=[BusError(beat, response)])
            assert run.bad.tolist() == [True, False]
            assert Status.BUS_ERROR in run.causes  # and what such a beat holds is no weight
            check(run, frames)
    for beat in range(0, beats, 7):
        assert live.run(frames, faults=[FlippedBit(beat, beat % 32)]).causes == Status.CHECKSUM
    for beat in range(header):
        check(live.run(frames, faults=[*AGAIN, FlippedBit(beat, 9)]), frames)


@pytest.mark.parametrize(
    "memory",
    [MEMORY, pytest.param(FixedLatency(latency=1, outstanding=64), marks=pytest.mark.full)],
    ids=["usual", "fast"],
)
def test_silence_at_every_beat_and_request(memory: FixedLatency) -> None:
    live, frames = model(memory=memory), some_frames(1).repeat(3, axis=0)
    clean = live.run(frames)
    for cycles in (2 * PATIENCE, 3000):
        for beat in range(6):
            check(live.run(frames, faults=[*AGAIN, Silence(beat, cycles)]), frames)
        for beat in range(0, int(clean.bus_bytes[0]) // 4, 5):
            run = live.run(frames, faults=[Silence(beat, cycles)])
            assert run.bad[0]
            check(run, frames)
        for request in range(int(clean.bus_bursts[0])):
            run = live.run(frames, faults=[Refusal(request, cycles)])
            assert run.bad[0]
            check(run, frames)
        for request in range(2):
            run = live.run(frames, faults=[*AGAIN, Refusal(request, cycles)])
            assert run.causes == Status.TIMEOUT
            check(run, frames)
        check(live.run(frames), frames, good=True)


def test_frames_of_any_length_at_any_moment() -> None:
    """What is dropped of a long frame puts off the end of the next, which is short, to any moment of the first one."""
    live, frames = model(patience=0), some_frames(3)
    for delay in sorted({max(1, moment - before) for moment in moments() for before in (0, 18)}):
        run = live.run(frames, faults=[FrameLength(0, 9 + delay), FrameLength(1, 1 + delay % 8)])
        assert run.bad.tolist() == [True, True, False]
        check(run, frames)
    for delay in range(2, 40):  # while the header is read
        again = [AGAIN[0], replace(AGAIN[1], cycle=delay)]
        run = live.run(frames, faults=[*again, FrameLength(0, 1 + delay % 8), FrameLength(1, 30)])
        assert run.bad.tolist() == [True, True, False]
        check(run, frames)
    for seed in range(6):
        live, frames = model(Stalls(seed, 0.15 * seed), patience=0), some_frames(12, seed)
        lengths = np.random.default_rng(seed).integers(1, 20, len(frames))
        run = live.run(frames, faults=[FrameLength(i, int(x)) for i, x in enumerate(lengths) if x != 9])
        assert run.bad.tolist() == [x != 9 for x in lengths]
        check(run, frames)


# -- resets and writes at any time ------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory_forgets", [True, False])
def test_resets_around_every_step(memory_forgets: bool) -> None:
    live, frames = model(), some_frames(2)
    for cycles in moments():
        live.interrupt(frames, cycles, memory_forgets=memory_forgets)
        check(live.run(frames[:1]), frames[:1], good=True)
    for cycles in range(1, 60, 2):  # in the header
        live.interrupt(frames, cycles, faults=AGAIN, memory_forgets=memory_forgets)
        check(live.run(frames[:1]), frames[:1], good=True)


KEEP = layer_register(1, LayerRegister.KEEP)
BASES = (IMAGE_BASE + 64, IMAGE_BASE)


@pytest.mark.parametrize(
    ("address", "values"),
    [(KEEP, (7, 18)), (Register.CONTROL, (0, ENABLE)), (Register.IMAGE_BASE, BASES)],
    ids=["keep", "enable", "base"],
)
def test_registers_are_written_at_any_time(address: int, values: tuple[int, int]) -> None:
    """K counts from the next time that its layer starts; a frame that has started is finished, with its own image."""
    live, frames = model(patience=0), some_frames(1).repeat(2, axis=0)
    allowed = {golden.run(live.design, frames[:1], {"layer1": k}).outputs.tobytes() for k in (7, 18)}
    header = [(at, AGAIN) for at in range(4, 60, 2)]
    for at, before in [*((moment, ()) for moment in moments()), *header]:
        pair = [RegisterWrite(at, address, values[0]), RegisterWrite(at + 25, address, values[1])]
        run = live.run(frames, faults=[*before, *pair])
        assert {answer.tobytes() for answer in run.outputs[~run.bad]} <= (allowed if address == KEEP else {right()})
        assert not (run.bad.any() and address != Register.IMAGE_BASE)
    check(live.run(frames), frames, good=True)


def right() -> bytes:
    """The answer to the first of `some_frames`."""
    return golden.run(emitted()[0], some_frames(1)).outputs.tobytes()
