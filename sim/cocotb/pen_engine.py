"""Bench of pen_engine: row streams of whole frames in, logits out, weights from a memory; against the golden model."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from hw import image
from hw.control import Control
from hw.design import (
    ClassPredictor,
    Conv,
    Dense,
    Design,
    Engine,
    IntArray,
    IntFormat,
    Lanes,
    LinearPredictor,
    LowRankPredictor,
    Mode,
    PathPredictor,
    Place,
    Predictor,
    Selection,
    Source,
)
from hw.emit.program import Program
from sim import golden
from sim.cocotb.bench import AxiReadMemory, CycleCounter, StreamDriver, StreamMonitor, cycles, pauses, reset, start
from sim.cocotb.probes import Probes
from sim.cocotb.stimulus import join, map_words, random_conv, random_maps

BASE = 0x1000_0F40  # not at a page, so that a lost base address or a wrong split at 4 KB shows
WAIT = 20_000  # cycles after which a frame is given up

NARROW = Engine(Lanes(1, 1), bus_bytes=4, predictor_lanes=1, outstanding=1, max_burst=1)
WIDE = Engine(Lanes(3, 4), bus_bytes=8, predictor_lanes=4, outstanding=4, max_burst=16)
# Engine, and the kinds of predictor of its first layers: the others are dense.
CASES: dict[str, tuple[Engine, tuple[str, ...]]] = {
    "narrow": (NARROW, ("linear", "linear")),
    "wide": (WIDE, ("linear", "linear")),
    "narrow_kinds": (NARROW, ("classes", "low_rank", "paths")),
    "wide_kinds": (WIDE, ("low_rank", "paths", "classes")),
}


def predictor(kind: str, layer: Conv, rng: np.random.Generator) -> Predictor:
    """A random predictor of that kind for `layer`."""
    channels, filters = layer.input.channels, layer.filters

    def integers(*shape: int) -> IntArray:
        return rng.integers(-128, 128, shape)

    match kind:
        case "low_rank":
            rank = 6  # more than a word of hidden values
            sums = rng.integers(-5000, 5000, rank)
            return LowRankPredictor(integers(channels, rank), sums, 6, 9, integers(rank, filters), integers(filters))
        case "paths":
            theta = rng.integers(0, layer.strength_high // 4, channels)
            return PathPredictor(rng.random((channels, filters)) < 0.6, theta, rng.integers(-1, 3, filters))
        case "classes":
            return ClassPredictor(rng.random((5, filters)) < 0.4)
        case _:
            return LinearPredictor(integers(channels, filters), rng.integers(-5000, 5000, filters))


def design(name: str) -> Design:
    """Four layers of a case: with stride 2 the second, with pool the third, logits the last."""
    (engine, kinds), rng = CASES[name], np.random.default_rng(1)
    shapes: tuple[dict[str, Any], ...] = (
        {"filters": 9, "signed": (True, False)},
        {"filters": 4, "stride": 2, "kernel": (2, 3), "padding": (0, 1, 1, 1), "kept": 0.8},
        {"filters": 5, "pool": 2, "signed": (False, True)},
    )
    layers: list[Any] = []
    for index, shape in enumerate(shapes):
        before = layers[-1].output if layers else None
        layer = random_conv(
            index + 1,
            channels=before.channels if before else 3,
            size=(before.height, before.width) if before else (7, 6),
            lanes=engine.lanes,
            **shape,
        )
        lazy = index < len(kinds)
        layers.append(
            replace(
                layer,
                name=f"layer{index}",
                place=Place.ENGINE,
                source=Source.LAZY if lazy else Source.DENSE,
                predictor=predictor(kinds[index], layer, rng) if lazy else None,
                keep=layer.filters // 2 if lazy else None,
                lanes=None,
            )
        )
    last = layers[-1]
    taps = (last.output.channels, last.output.height, last.output.width)
    logits = Dense(
        name="logits",
        input=last.output,
        input_format=last.output_format,
        weights=rng.integers(-128, 128, (4, *taps)),
        weight_bits=8,
        bias=rng.integers(-3000, 3000, 4),
        output_format=IntFormat(40, True, 0),
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    return Design(name, layers[0].input, layers[0].input_format, (), (*layers, logits), engine)


def parameters(name: str) -> dict[str, str]:
    """Of the instance that runs `design(name)`."""
    return Program(design(name)).parameters


def tables(name: str) -> dict[str, str]:
    """Contents of its ROMs."""
    return {key: table.hexadecimal() for key, table in Program(design(name)).tables.items()}


@dataclass(frozen=True)
class Logit:
    """One word of the answer."""

    value: int
    last: bool
    bad: bool


class Testbench:
    """Sends frames, collects logits and probes, and knows what they must be."""

    def __init__(
        self,
        dut: Any,
        seed: int,
        pause: float = 0.0,
        latency: tuple[int, int] = (1, 1),
        images: int = 1,  # in memory, one behind the other
    ) -> None:
        self.dut, self.design = dut, design(os.environ["PEN_CASE"])
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.memory = AxiReadMemory(
            dut, images * image.build(self.design), BASE, latency, (pauses(pause, 11), pauses(pause, 12)), seed
        )
        self.probes = Probes(dut, self.design, self.counter)
        self.answers: list[list[Logit]] = []
        self._answer: list[Logit] = []
        rows = {"channel": dut.row_channel_i, "word": dut.row_word_i, "data": dut.row_data_i}
        self.driver = StreamDriver(dut.clk_i, dut.row_valid_i, dut.row_ready_o, rows, pauses(pause, 13))
        mark = (dut.clk_i, dut.mark_valid_i, dut.mark_ready_o, dut.mark_bad_i)
        self.marks = StreamDriver(*mark, pauses(pause, 15))
        logits = {"value": dut.logit_o, "last": dut.logit_last_o, "bad": dut.logit_bad_o}
        stream = (dut.clk_i, dut.logit_valid_o, dut.logit_ready_i, logits)
        self.monitor = StreamMonitor(*stream, self._logit, pauses(pause, 14))
        dut.image_base_i.value = BASE
        dut.enable_i.value = 1
        dut.timeout_i.value = 0
        self.select({})

    @property
    def header_beats(self) -> int:
        """Beats in which the engine reads a header."""
        return -(-image.IDENTITY_BYTES // self.design.engine.bus_bytes)

    async def ready(self) -> None:
        """Wait until the header has been read; returns just after a rising edge."""
        while self.memory.beats < self.header_beats:
            await RisingEdge(self.dut.clk_i)
        await cycles(self.dut, 3)

    def headers_only(self, since: int, base: int) -> bool:
        """Whether all requests, from number `since` on, are for the header of the image at `base`."""
        header = range(base, base + image.IDENTITY_BYTES)
        return all(address in header for address, _ in self.memory.requests[since:])

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        for part in (self.driver, self.marks, self.monitor, self.memory, self.probes):
            part.stop()

    def _logit(self, word: dict[str, int]) -> None:
        bits = len(self.dut.logit_o)
        value = word["value"] - (word["value"] >> (bits - 1) << bits)
        self._answer.append(Logit(value, bool(word["last"]), bool(word["bad"])))
        if word["last"]:
            self.answers.append(self._answer)
            self._answer = []

    def select(self, changes: Mapping[str, Selection], classes: Sequence[bool] | None = None) -> None:
        """Drive the registers' values: those named, of the others the design's; `classes` are wanted, or all."""
        selections = {x.name: changes.get(x.name, x.selection) for x in self.design.lazy_layers}
        self.control = Control(selections, tuple(classes or Control.reset(self.design.tail).classes))
        self.dut.classes_i.value = join([int(wanted) for wanted in self.control.classes] or [0], 1)
        values = [self.control.selections.get(x.name, x.selection) for x in self.design.tail]
        self.dut.mode_i.value = join([value.mode.code for value in values], 2)
        self.dut.keep_i.value = join([value.keep for value in values], 16)
        self.dut.threshold_i.value = join([value.threshold for value in values], 32)

    def frames(self, count: int, seed: int = 1) -> IntArray:
        """Random frames (count, c, h, w); of every third one some channels are absent."""
        frames = random_maps(self.design.tail[0], count, seed)
        frames[::3, 1:] = 0
        return frames

    def send(self, frames: IntArray, *, bad: bool = False) -> None:
        """Queue `frames`: of each position the words of all channels, as pixels come in; with good or `bad` marks."""
        pixels = self.design.engine.lanes.pixels
        self.marks.send([int(bad)] * len(frames))
        for frame in frames:
            words = [map_words(channel, pixels) for channel in frame]
            for word in range(len(words[0])):
                self.driver.send(
                    {"channel": c, "word": word, "data": join(words[c][word], 8)} for c in range(len(words))
                )

    async def ended(self, frames: int) -> None:
        """Wait until so many frames have ended; returns just after a rising edge."""
        for _ in range(WAIT * frames):
            if len(self.probes.frames) >= frames and len(self.answers) >= frames:
                return
            await RisingEdge(self.dut.clk_i)
        raise AssertionError(f"{len(self.answers)} of {frames} frames were answered")

    def expected(self, frames: IntArray) -> list[golden.LayerTrace]:
        """Traces of all layers. (As `golden.run`, which refuses a keep of 0; the engine does not.)"""
        traces, maps = [], frames
        for layer, record in zip(self.design.tail, image.layout(self.design), strict=True):
            selection = self.control.selections.get(layer.name)
            traces.append(golden.step(layer, maps, selection, record, self.control.classes))
            maps = traces[-1].output
        return traces

    async def sweep(self, settings: Sequence[Mapping[str, Selection]], frame: IntArray | None = None) -> None:
        """One frame after another, each under its own settings; the same `frame` (1, c, h, w) each time, if given."""
        frames = self.frames(len(settings), seed=2) if frame is None else np.repeat(frame, len(settings), axis=0)
        for index, changes in enumerate(settings):
            self.select(changes)
            self.send(frames[index : index + 1])
            await self.ended(index + 1)
            self.check(index, self.expected(frames[index : index + 1]), 0)

    def check(self, index: int, traces: list[golden.LayerTrace], frame: int, *, bad: bool = False) -> None:
        """Answer and probes of frame `index` are those of `frame` in `traces`."""
        self.probes.check(index, traces, frame, self.control)
        values = traces[-1].output[frame].ravel().tolist()
        assert self.answers[index] == [Logit(value, i == len(values) - 1, bad) for i, value in enumerate(values)]


async def _start(dut: Any) -> None:
    await start(dut, dut.row_valid_i, dut.mark_valid_i, dut.enable_i, dut.m_axi_rvalid, dut.m_axi_arready)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.4], latency=[(1, 1), (5, 60)])
async def frames_are_answered(dut: Any, pause: float, latency: tuple[int, int]) -> None:
    """Frames one behind the other; everything that port and probes tell is the golden model's."""
    await _start(dut)
    bench = Testbench(dut, 1, pause, latency)
    frames = bench.frames(4)
    traces = bench.expected(frames)
    bench.send(frames)
    await bench.ended(len(frames))
    for index in range(len(frames)):
        bench.check(index, traces, index)
    beats = bench.memory.beats - bench.header_beats
    assert beats * bench.design.engine.bus_bytes == sum(int(trace.bytes.sum()) for trace in traces)
    assert bench.memory.most_in_flight <= bench.design.engine.outstanding


@cocotb.test()
async def keep_is_read_per_frame(dut: Any) -> None:
    """From none to all and more than there are; what was set before does not linger."""
    await _start(dut)
    bench = Testbench(dut, 2)
    lazy = bench.design.lazy_layers
    first, second, *_ = (layer.name for layer in lazy)
    sweep = [{first: 1, second: 1}, {first: 9, second: 0}, {first: 0}, {}, {first: 500, second: 4}, {second: 3}]
    sweep += [{layer.name: k for layer in lazy} for k in (0, 500)] + [{layer.name: layer.filters for layer in lazy}]
    await bench.sweep([{name: Selection(Mode.TOP, k) for name, k in keep.items()} for keep in sweep])


@cocotb.test()
async def frames_wait_at_the_door(dut: Any) -> None:
    """More frames and marks than there is room for, before the engine is enabled and while it works."""
    await _start(dut)
    bench = Testbench(dut, 10)
    dut.enable_i.value = 0
    await cycles(dut, 5)
    frames = bench.frames(8, seed=3)
    bad = [False, True, True, False, True, False, True, True]
    for frame, mark in zip(frames, bad, strict=True):
        bench.send(frame[None], bad=mark)
    await cycles(dut, 300)
    dut.enable_i.value = 1
    await bench.ended(len(frames))
    traces = bench.expected(frames)
    for index, mark in enumerate(bad):
        bench.check(index, traces, index, bad=mark)


@cocotb.test()
async def a_threshold_is_read_per_frame(dut: Any) -> None:
    """Lower and higher than all scores, each of the scores that occur, both ends of the register; and other modes."""
    await _start(dut)
    bench = Testbench(dut, 8)
    first, second, *_ = bench.design.lazy_layers
    frame = bench.frames(2, seed=2)[1:]
    scores = bench.expected(frame)[0].scores
    assert scores is not None
    levels = sorted({-(1 << 31), int(scores.min()) - 1, *scores.ravel().tolist(), (1 << 31) - 1})
    above = [{first.name: Selection(Mode.THRESHOLD, 3, level)} for level in levels]
    above += [{second.name: Selection(Mode.THRESHOLD, 1, level)} for level in levels[:3]]
    everything = {layer.name: Selection(Mode.ALL) for layer in (first, second)}
    await bench.sweep([*above, everything, {}, above[len(levels) // 2]], frame)


@cocotb.test(skip="classes" not in CASES[os.environ.get("PEN_CASE", "wide")][1])
async def classes_are_read_per_frame(dut: Any) -> None:
    """None, one, several, all: the union of their paths is computed, or those that most of them share."""
    await _start(dut)
    bench = Testbench(dut, 9)
    known = bench.design.classes
    union = {layer.name: Selection(Mode.THRESHOLD) for layer in bench.design.lazy_layers}
    for turn in range(3 * known):
        wanted = [bool(bench.rng.getrandbits(1)) if turn > 2 else turn == 1 for _ in range(known)]
        if turn == 2:
            wanted[bench.rng.randrange(known)] = True
        bench.select(union if turn % 3 else {}, wanted)
        frame = bench.frames(1, seed=turn)
        bench.send(frame)
        await bench.ended(turn + 1)
        bench.check(turn, bench.expected(frame), 0)


@cocotb.test()
async def layer_cycles_add_up_to_the_frame(dut: Any) -> None:
    """The counters of a frame's layers are, together, the cycles that it kept the engine busy, but for the last one."""
    await _start(dut)
    bench = Testbench(dut, 3)
    await bench.ready()
    bench.send(bench.frames(1))
    busy = 0
    while not bench.probes.frames:
        await FallingEdge(dut.clk_i)
        busy += int(dut.busy_o.value)
        await RisingEdge(dut.clk_i)
    assert busy == sum(events.ends[0][0] for events in bench.probes.frames[0]) + 1  # told in the last one
    await FallingEdge(dut.clk_i)
    assert not int(dut.busy_o.value)


@cocotb.test()
async def disabled_it_finishes_a_frame_and_starts_none(dut: Any) -> None:
    """Frames wait in the double buffer and go on when the engine is enabled again."""
    await _start(dut)
    bench = Testbench(dut, 4)
    await bench.ready()
    frames = bench.frames(3)
    traces = bench.expected(frames)
    bench.send(frames)
    while not int(dut.busy_o.value):
        await RisingEdge(dut.clk_i)
    dut.enable_i.value = 0
    await bench.ended(1)
    await cycles(dut, 500)
    assert len(bench.answers) == 1
    assert not int(dut.busy_o.value)
    dut.enable_i.value = 1
    await bench.ended(3)
    for index in range(3):
        bench.check(index, traces, index)


@cocotb.test()
async def a_bus_error_marks_its_frame_only(dut: Any) -> None:
    """The frame that reads failing words is answered, marked, and reported; the next one is right."""
    await _start(dut)
    bench = Testbench(dut, 5)
    frames = bench.frames(3)
    traces = bench.expected(frames)
    record = image.layout(bench.design)[0]  # the first layer always fetches something
    records = set(range(BASE + record.offset, BASE + record.end, record.bus_bytes))
    reports: list[int] = []

    async def watch() -> None:
        while True:
            await FallingEdge(dut.clk_i)
            if int(dut.bus_error_o.value):
                reports.append(len(bench.answers))

    cocotb.start_soon(watch())
    for index in range(3):
        bench.memory.failing = records if index == 1 else set()
        bench.send(frames[index : index + 1])
        await bench.ended(index + 1)
        bench.check(index, traces, index, bad=index == 1)
    assert set(reports) == {1}


@cocotb.test()
async def a_frame_waits_for_its_mark_and_is_as_bad_as_that(dut: Any) -> None:
    """Marks may come long after their frames, or as many before as fit; a bad one is for its own frame only."""
    await _start(dut)
    bench = Testbench(dut, 6)
    await bench.ready()
    frames = bench.frames(5)
    traces = bench.expected(frames)
    done: list[bool] = []

    async def watch() -> None:
        while True:
            await FallingEdge(dut.clk_i)
            if int(dut.frame_done_o.value):
                done.append(bool(int(dut.frame_bad_o.value)))

    cocotb.start_soon(watch())
    bench.send(frames[:1])
    bench.marks.words.clear()
    await cycles(dut, 500)
    assert not int(dut.busy_o.value)
    bench.marks.send([1])
    for index in range(1, 5):
        bench.send(frames[index : index + 1], bad=index == 3)
    await bench.ended(5)
    for index in range(5):
        bench.check(index, traces, index, bad=index in (0, 3))
    assert done == [True, False, False, True, False]


class Causes:
    """Counts the pulses of the ports that tell why a frame is bad."""

    def __init__(self, dut: Any) -> None:
        self._ports = {"bus": dut.bus_error_o, "timeout": dut.timeout_o, "image": dut.wrong_image_o}
        self._dut, self._seen = dut, set[str]()
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self._dut.clk_i)
            self._seen |= {name for name, port in self._ports.items() if int(port.value)}

    def take(self) -> set[str]:
        """Those seen since they were last taken."""
        seen, self._seen = self._seen, set()
        return seen


@cocotb.test()
async def another_image_is_refused(dut: Any) -> None:
    """Whichever byte of the header is wrong: frames read nothing and are bad, until the image is right."""
    await _start(dut)
    bench, causes = Testbench(dut, 12), Causes(dut)
    await bench.ready()
    assert not causes.take()
    frames = bench.frames(1)
    traces = bench.expected(frames)
    answered = 0
    for byte in (0, 7, 8, 13, 16, 23):
        bench.memory.image[byte] ^= 0x10
        dut.enable_i.value = 0
        await cycles(dut, 2)
        dut.enable_i.value = 1
        await cycles(dut, 40)
        assert causes.take() == {"image"}, f"byte {byte}"
        before = len(bench.memory.requests)
        for _ in range(2):
            bench.send(frames)
            answered += 1
            await bench.ended(answered)
            assert bench.answers[-1][-1].bad
            assert causes.take() == {"image"}
        assert bench.headers_only(before, BASE)
        bench.memory.image[byte] ^= 0x10
        bench.send(frames)
        answered += 1
        await bench.ended(answered)
        bench.check(answered - 1, traces, 0)
        assert not causes.take()
    bench.memory.image[24:64] = bytes(40)  # the rest of the header is not the engine's business
    dut.enable_i.value = 0
    await cycles(dut, 2)
    dut.enable_i.value = 1
    bench.send(frames)
    await bench.ended(answered + 1)
    bench.check(answered, traces, 0)


@cocotb.test()
async def a_header_that_cannot_be_read_is_read_again(dut: Any) -> None:
    """An error or silence there has its own cause; the frame is bad, and the next one right."""
    await _start(dut)
    bench, causes = Testbench(dut, 13), Causes(dut)
    await bench.ready()
    dut.timeout_i.value = 60
    frames = bench.frames(1)
    traces = bench.expected(frames)
    for index, cause in enumerate(("bus", "timeout")):
        dut.enable_i.value = 0
        await cycles(dut, 2)
        bench.memory.failing = {BASE} if cause == "bus" else set()
        bench.memory.silent = cause == "timeout"
        dut.enable_i.value = 1
        bench.send(frames)
        await bench.ended(2 * index + 1)
        assert bench.answers[-1][-1].bad
        assert causes.take() == {cause}
        bench.memory.failing, bench.memory.silent = set(), False
        bench.send(frames)
        await bench.ended(2 * index + 2)
        bench.check(2 * index + 1, traces, 0)
        assert not causes.take()


@cocotb.test()
async def a_frame_reads_one_image_only(dut: Any) -> None:
    """IMAGE_BASE changes in mid-frame, to an image whose header is wrong, or there and back: from the next frame on."""
    await _start(dut)
    bench, causes = Testbench(dut, 14, images=2), Causes(dut)
    size = len(bench.memory.image) // 2
    bench.memory.image[size] ^= 1
    bench.memory.image[size + image.HEADER_BYTES :] = bytes(size - image.HEADER_BYTES)
    frames = bench.frames(1)
    traces = bench.expected(frames)

    async def moved_in_mid_frame(*bases: int) -> None:
        before = len(bench.memory.requests)
        while bench.headers_only(before, BASE):
            await RisingEdge(dut.clk_i)
        for base in bases:
            dut.image_base_i.value = base
            await cycles(dut, 2)

    bench.send(frames)
    await moved_in_mid_frame(BASE + size)
    await bench.ended(1)
    bench.check(0, traces, 0)
    await cycles(dut, 60)
    assert causes.take() == {"image"}
    before = len(bench.memory.requests)
    bench.send(frames)
    await bench.ended(2)
    assert bench.answers[-1][-1].bad
    assert bench.headers_only(before, BASE + size)
    dut.image_base_i.value = BASE
    await cycles(dut, 60)
    causes.take()
    bench.send(frames)
    await moved_in_mid_frame(BASE + size, BASE)
    bench.send(frames)
    await bench.ended(4)
    for index in (2, 3):
        bench.check(index, traces, 0)
    assert not causes.take()


@cocotb.test()
async def reset_in_mid_frame_starts_afresh(dut: Any) -> None:
    """At points all over a frame; the memory forgets with it. The next frame is right."""
    await _start(dut)
    for seed in range(7, 11):
        bench = Testbench(dut, seed, latency=(5, 20))
        bench.send(bench.frames(2))
        await cycles(dut, bench.rng.randint(40, 1500))
        bench.stop()
        await reset(dut, 1)
    bench = Testbench(dut, 11)
    frames = bench.frames(2, seed=5)
    traces = bench.expected(frames)
    bench.send(frames)
    await bench.ended(2)
    for index in range(2):
        bench.check(index, traces, index)
