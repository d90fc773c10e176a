"""Faults in the Verilated model: nothing hangs, what is wrong is marked, the next frame is right."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw import image
from hw.design import Design, IntArray
from hw.registers import Register, Status
from sim import golden
from sim.faults import BusError, FlippedBit, FrameLength, Refusal, RegisterWrite, Response, Silence, Unread
from sim.memory import FixedLatency, Stalls
from sim.verilated import RtlRun, SimulationError, VerilatedModel
from tests.designs import built, checked, random_design, random_frames

SEEDS = (28, 19)
MEMORY = FixedLatency(latency=7, outstanding=4)


CRC_BITS = {28: 16, 19: 32}
NO_CRC = 0


@cache
def emitted(seed: int, crc_bits: int = NO_CRC) -> tuple[Design, Path, bytes]:
    """A random design with checksums of so many bits."""
    design = checked(random_design(seed), crc_bits, block=20)
    design = replace(design, name=f"{design.name}_crc{crc_bits}")
    folder, library = built(design)
    return design, library, (folder / "weights.bin").read_bytes()


def model(seed: int, stalls: Stalls | None = None, crc_bits: int = NO_CRC) -> VerilatedModel:
    design, library, data = emitted(seed, crc_bits)
    return VerilatedModel(library, design, data, MEMORY, stalls)


def check(design: Design, run: RtlRun, frames: IntArray, bad: set[int], causes: Status) -> None:
    """Exactly the frames `bad` are marked, STATUS tells `causes`, and every other answer is right."""
    assert set(np.flatnonzero(run.bad)) == bad
    assert run.causes == causes
    good = ~run.bad
    assert np.array_equal(run.outputs[good], golden.run(design, frames).outputs[good])


def beats(seed: int) -> int:
    """Beats that one frame reads."""
    design, _, _ = emitted(seed)
    frames = random_frames(design, 1, seed)
    return int(sum(trace.bytes.sum() for trace in golden.run(design, frames).layers)) // design.engine.bus_bytes


# -- pixel stream -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_frames_of_a_wrong_length_are_marked(seed: int, probability: float) -> None:
    design = emitted(seed)[0]
    live = model(seed, Stalls(seed, probability))
    pixels = design.input.pixels
    frames = random_frames(design, 5, seed)
    for length in sorted({1, 2, pixels // 2, pixels - 1, pixels + 1, 2 * pixels, 3 * pixels + 1} - {0, pixels}):
        cause = Status.SHORT_FRAME if length < pixels else Status.LONG_FRAME
        run = live.run(frames, faults=[FrameLength(1, length), FrameLength(2, length)])
        check(design, run, frames, {1, 2}, cause)
    assert not live.run(frames).causes


# -- memory port ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_an_error_at_any_beat_marks_its_frame(seed: int) -> None:
    design = emitted(seed)[0]
    live = model(seed)
    frames = np.repeat(random_frames(design, 1, seed), 2, axis=0)
    rng = np.random.default_rng(seed)
    count = beats(seed)
    for beat in sorted({0, 1, count - 1, *rng.integers(0, count, 60).tolist()}):
        response = Response.SLVERR if beat % 2 else Response.DECERR
        run = live.run(frames, faults=[BusError(beat, response)])
        check(design, run, frames, {0}, Status.BUS_ERROR)
        run = live.run(frames, faults=[BusError(count + beat, response, beats=3)])
        assert run.bad[1]
        assert not run.bad[0]


LIMIT = 200  # cycles of silence that are borne below; more than any latency


def patient(seed: int) -> VerilatedModel:
    """A model with this limit."""
    live = model(seed)
    live.write_register(Register.TIMEOUT, LIMIT)
    return live


@pytest.mark.parametrize("seed", SEEDS)
def test_silence_marks_the_frames_that_it_costs(seed: int) -> None:
    """Of all lengths, from any beat or request on: the frame in which it began, later ones while it goes on."""
    design = emitted(seed)[0]
    live = patient(seed)
    frames = np.repeat(random_frames(design, 1, seed), 4, axis=0)
    rng, count = np.random.default_rng(seed), beats(seed)
    frame = int(np.diff(live.run(frames).last_out).max())
    for place in sorted({0, 1, count - 1, *rng.integers(0, count, 8).tolist()}):
        for cycles in (LIMIT // 2, 2 * LIMIT, frame // 2, frame, 3 * frame):
            run = live.run(frames, faults=[Silence(place, cycles)])
            borne = cycles <= LIMIT
            check(design, run, frames, set(np.flatnonzero(run.bad)), Status(0) if borne else Status.TIMEOUT)
            assert run.bad[0] == (not borne)
            assert (run.bad[:-1] >= run.bad[1:]).all()  # once the memory is back it is back
        check(design, live.run(frames), frames, set(), Status(0))
    for request in (0, 1, 3):
        for cycles in (LIMIT // 2, 2 * LIMIT, frame):
            run = live.run(frames, faults=[Refusal(request, cycles)])
            assert run.bad[0] == (cycles > LIMIT)
            assert (run.bad[:-1] >= run.bad[1:]).all()
            check(design, run, frames, set(np.flatnonzero(run.bad)), Status.TIMEOUT if run.bad[0] else Status(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dead_memory_costs_every_frame_one_time_out(seed: int) -> None:
    """From any beat on, or refusing requests; when it comes back, with late answers to old requests, all is right."""
    design = emitted(seed)[0]
    live = patient(seed)
    frames = np.repeat(random_frames(design, 1, seed), 4, axis=0)
    rng, count = np.random.default_rng(seed), beats(seed)
    limit = 20_000  # longer than a frame takes, whatever its weights
    live.write_register(Register.TIMEOUT, limit)
    for place in sorted({0, count - 1, *rng.integers(0, count, 4).tolist()}):
        for fault in (Silence(count + place), Refusal(int(rng.integers(0, 4)))):
            run = live.run(frames, faults=[fault])
            assert run.bad[1:].all()
            assert run.causes == Status.TIMEOUT
            assert (np.diff(run.last_out) // limit == 1).all()
            check(design, live.run(frames), frames, set(), Status(0))


def test_without_a_limit_any_silence_is_borne() -> None:
    design = emitted(SEEDS[0])[0]
    live = patient(SEEDS[0])
    live.write_register(Register.TIMEOUT, 0)
    frames = random_frames(design, 2, 1)
    check(design, live.run(frames, faults=[Silence(5, 90_000), Refusal(7, 3000)]), frames, set(), Status(0))


# -- weight image -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_an_image_of_another_design_is_refused(seed: int) -> None:
    """From the first frame on or later, until the right one is there; nothing but headers is read from it."""
    design, library, data = emitted(seed)
    other = data[:16] + bytes(byte ^ 0x5A for byte in data[16:24]) + data[24:]
    live = VerilatedModel(library, design, other, MEMORY)
    frames = random_frames(design, 3, seed)
    for _ in range(2):
        run = live.run(frames)
        check(design, run, frames, {0, 1, 2}, Status.WRONG_IMAGE)
        assert not run.bus_bytes.any()
    live.poke(16, data[16:24])
    check(design, live.run(frames), frames, set(), Status(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_header_that_cannot_be_read_marks_one_frame(seed: int) -> None:
    """Disabled and enabled again, the accelerator meets errors and silence in the header itself."""
    design = emitted(seed)[0]
    live = patient(seed)
    frames = random_frames(design, 3, seed)
    again = [RegisterWrite(0, Register.CONTROL, 0), RegisterWrite(1, Register.CONTROL, 1)]
    for beat in range(-(-24 // design.engine.bus_bytes)):
        run = live.run(frames, faults=[*again, BusError(beat)])
        check(design, run, frames, set(np.flatnonzero(run.bad)), Status.BUS_ERROR)
        assert set(np.flatnonzero(run.bad)) <= {0}  # with the frame there already, or before it came
        run = live.run(frames, faults=[*again, Silence(beat, 2 * LIMIT)])
        check(design, run, frames, set(np.flatnonzero(run.bad)), Status.TIMEOUT)
        assert set(np.flatnonzero(run.bad)) <= {0}
        flips = [*again, FlippedBit(beat, 3)]
        check(design, live.run(frames, faults=flips), frames, set(), Status.WRONG_IMAGE)


# -- checksums --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_a_flipped_bit_of_a_weight_marks_its_frame(seed: int) -> None:
    """On the bus, in any word, and with it up to a checksum's width of others; without checksums nobody knows."""
    bits = CRC_BITS[seed]
    design, _, _ = emitted(seed, bits)
    live = model(seed, crc_bits=bits)
    frames = np.repeat(random_frames(design, 1, seed), 2, axis=0)
    rng = np.random.default_rng(seed)
    count = int(sum(trace.bytes.sum() for trace in golden.run(design, frames[:1]).layers)) // design.engine.bus_bytes
    for beat in sorted({0, 1, count - 1, *rng.integers(0, count, 60).tolist()}):
        bit = int(rng.integers(8 * design.engine.bus_bytes))
        run = live.run(frames, faults=[FlippedBit(beat, bit)])
        check(design, run, frames, {0}, Status.CHECKSUM)
    check(design, live.run(frames), frames, set(), Status(0))
    beat, bit = count // 2, 8 * design.engine.bus_bytes - bits
    burst = [FlippedBit(beat, bit + int(other)) for other in np.flatnonzero(rng.random(bits) < 0.5)]
    check(design, live.run(frames, faults=burst), frames, {0}, Status.CHECKSUM)
    unaware = model(seed)
    run = unaware.run(frames, faults=[FlippedBit(0, bit)])
    assert not run.bad.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_that_changed_in_memory_mark_every_frame_that_reads_them(seed: int) -> None:
    """A record that lies where another should is no better than one with a wrong bit."""
    bits = CRC_BITS[seed]
    design, _, data = emitted(seed, bits)
    live = model(seed, crc_bits=bits)
    frames = random_frames(design, 4, seed)
    record, trace = image.layout(design)[0], golden.run(design, frames).layers[-len(design.tail)]
    swapped = record.filters - 2, record.filters - 1  # the last ones are not pinned
    at = record.offset + swapped[0] * record.stride
    first, second = (data[record.offset + i * record.stride :][: record.stride] for i in swapped)
    filters = [design.tail[0].order[i] for i in swapped]
    reads = (trace.chosen[:, filters].any(axis=1) & (trace.bytes > 0)).nonzero()[0]
    live.poke(at, second + first)
    run = live.run(frames)
    check(design, run, frames, set(reads), Status.CHECKSUM if reads.size else Status(0))
    live.poke(at, first + second)
    check(design, live.run(frames), frames, set(), Status(0))


# -- stalls -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_every_lost_cycle_has_its_cause(seed: int) -> None:
    """What a wait costs in all is what the STALL registers count for it: memory, output and input."""
    design = emitted(seed)[0]
    live = model(seed)
    live.write_register(Register.TIMEOUT, 0)
    frames = random_frames(design, 4, seed)
    first, second = live.run(frames), live.run(frames)
    assert first.stalls == second.stalls
    assert first.stalls.output == 0
    assert min(first.stalls.input, first.stalls.memory, first.stalls.predict) > 0
    count = beats(seed)
    for fault in (*(Silence(beat, 3000) for beat in (0, count // 2, count - 1, count + 3)), Unread(1, 12_000)):
        run = live.run(frames, faults=[fault])
        check(design, run, frames, set(), Status(0))
        more = run.stalls - first.stalls
        waited = {"input": more.input, "memory": more.memory, "output": more.output, "predict": more.predict}
        signed = {cause: value - (value >> 31 << 32) for cause, value in waited.items()}
        lost = _cycles(run) - _cycles(first)
        assert abs(lost - sum(signed.values())) < PIPELINE
        if isinstance(fault, Unread):
            assert signed["output"] > 1000
        else:
            assert signed["memory"] > 2000
            assert signed["output"] == 0
        assert signed["predict"] == 0


PIPELINE = 20  # cycles that fill or empty it, in no register: behind a wait they pass unnoticed


def _cycles(run: RtlRun) -> int:
    return int(run.last_out[-1] - run.first_in[0])


# -- control port -----------------------------------------------------------------------------------------------------
def test_bad_frames_are_counted() -> None:
    design = emitted(SEEDS[0])[0]
    live = model(SEEDS[0])
    frames = random_frames(design, 4, 1)
    live.run(frames, faults=[FrameLength(0, 1), FrameLength(3, 1)])
    live.run(frames)
    assert live.read_register(Register.FRAMES) == 8
    assert live.read_register(Register.BAD_FRAMES) == 2


def test_a_disabled_frame_is_finished_and_the_next_waits() -> None:
    design = emitted(SEEDS[0])[0]
    live = model(SEEDS[0])
    frames = random_frames(design, 2, 1)
    quick = live.run(frames).last_out
    frame = int(quick[1] - quick[0])
    for pause in (0, frame // 2):  # before the first frame, and while it is computed
        off, on = (RegisterWrite(at, Register.CONTROL, value) for at, value in ((pause, 0), (3 * frame, 1)))
        run = live.run(frames, faults=[off, on])
        check(design, run, frames, set(), Status(0))
        first, second = run.last_out - run.first_in[0]
        assert second > 3 * frame
        assert (first < 3 * frame) == (pause > 0)


# -- reset ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("memory_forgets", [True, False])
def test_reset_at_any_time_leaves_nothing_behind(seed: int, memory_forgets: bool) -> None:
    design = emitted(seed)[0]
    live = model(seed, Stalls(seed, 0.1))
    frames = random_frames(design, 3, seed)
    whole = live.run(frames).last_out[-1]
    rng = np.random.default_rng(seed)
    for cycles in rng.integers(1, whole, 60).tolist():
        live.interrupt(frames, cycles, memory_forgets=memory_forgets)
        check(design, live.run(frames), frames, set(), Status(0))


# -- the harness ------------------------------------------------------------------------------------------------------
def test_a_fault_that_finds_no_place_is_an_error() -> None:
    design = emitted(SEEDS[0])[0]
    with pytest.raises(SimulationError, match="fault of kind 1 at 1000000 did not happen"):
        model(SEEDS[0]).run(random_frames(design, 1, 1), faults=[BusError(1_000_000)])
