"""Bench of a whole emitted accelerator with probes: streams and control port by cocotbext-axi, weights from a memory.

The design comes pickled in the file that PEN_DESIGN names, the weight image in PEN_IMAGE, and real frames, where there
are some, as array `frames` of the .npz file PEN_FRAMES: five times as many as a turn takes.
"""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from hw.control import Changes, Control
from hw.design import Design, IntArray, Mode, Selection
from hw.registers import ENABLE, ERRORS, LayerRegister, Register, Status, layer_register
from sim import golden
from sim.cocotb.bench import PERIOD_NS, AxiReadMemory, CycleCounter, cycles, pauses, reset, start
from sim.cocotb.probes import Probes
from sim.cocotb.stimulus import random_maps
from sim.cycles import CycleModel, Masks
from sim.memory import DRAMS, FixedLatency, Memory, dram

BASE = 0x1000_0F40  # not at a page, so that a lost base address or a wrong split at 4 KB shows
WAIT = 40_000  # cycles after which a frame is given up


class Testbench:
    """The ports' other ends, and what must come of the frames that are sent."""

    def __init__(
        self,
        dut: Any,
        seed: int,
        pause: float = 0.0,
        latency: tuple[int, int] = (10, 10),
        memory: Memory | None = None,
    ) -> None:
        self.dut = dut
        self.design: Design = pickle.loads(Path(os.environ["PEN_DESIGN"]).read_bytes())  # noqa: S301 - our own file
        dut._log.info("stimulus from seed %d", seed)
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        self.counter = CycleCounter(dut)
        image = Path(os.environ["PEN_IMAGE"]).read_bytes()
        stalls = (pauses(pause, seed + 1), pauses(pause, seed + 2))
        self.memory = AxiReadMemory(dut, image, BASE, latency, stalls, seed, memory=memory)
        self._header_beats = 0
        self.probes = Probes(dut, self.design, self.counter)
        ports = (dut.clk_i, dut.rst_ni, False)  # reset is active low
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *ports)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *ports, byte_lanes=1)
        self.control = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), *ports)
        for part in (self.source, self.sink):
            part.log.setLevel("WARNING")  # it would print every frame
        writes, reads = self.control.write_if, self.control.read_if
        for part in (writes, reads):
            part.log.setLevel("WARNING")
        if pause:
            channels = (writes.aw_channel, writes.w_channel, writes.b_channel, reads.ar_channel, reads.r_channel)
            for index, channel in enumerate((self.source, self.sink, *channels)):
                channel.set_pause_generator(pauses(pause, seed + 3 + index))

    # -- control port -------------------------------------------------------------------------------------------------
    async def enable(self) -> None:
        """Tell where the image is, and start."""
        await self.control.write_dword(Register.IMAGE_BASE, BASE)
        await self.control.write_dword(Register.CONTROL, ENABLE)
        while await self.read(Register.STATUS) & Status.BUSY:  # it reads the image's header
            pass
        self._header_beats = self.memory.beats

    async def select(self, changes: Changes) -> None:
        """Write MODE, KEEP and THRESHOLD of all lazy layers: the design's with `changes`."""
        control = Control.of(self.design, changes)
        for index, layer in enumerate(self.design.tail):
            if layer.lazy:
                selection = control.selections[layer.name]
                await self.control.write_dword(layer_register(index, LayerRegister.MODE), selection.mode.code)
                await self.control.write_dword(layer_register(index, LayerRegister.KEEP), selection.keep)
                threshold = selection.threshold & 0xFFFF_FFFF
                await self.control.write_dword(layer_register(index, LayerRegister.THRESHOLD), threshold)

    async def read(self, address: int) -> int:
        """A register."""
        value: int = await self.control.read_dword(address)
        return value

    # -- frames -------------------------------------------------------------------------------------------------------
    def frames(self, count: int, seed: int) -> IntArray:
        """Random frames (count, c, h, w), or the real ones from `seed` * `count` on."""
        if "PEN_FRAMES" in os.environ:
            with np.load(os.environ["PEN_FRAMES"], allow_pickle=False) as file:
                real: IntArray = file["frames"][seed * count : (seed + 1) * count]
            assert len(real) == count
            return real
        return random_maps(self.design.layers[0], count, seed)

    async def send(self, frames: IntArray) -> None:
        """Queue `frames`, one AXI-Stream frame each."""
        for frame in frames:
            await self.source.send(AxiStreamFrame(self.pixels(frame)))

    def pixels(self, frame: IntArray) -> bytes:
        """The bytes of `frame` (c, h, w), channels last."""
        return (frame.transpose(1, 2, 0) & 0xFF).astype("uint8").tobytes()

    async def answer(self) -> tuple[list[int], list[bool]]:
        """The next answer: logits, and whether each is marked bad. TLAST cuts answers."""
        frame = await with_timeout(self.sink.recv(compact=False), WAIT * PERIOD_NS, "ns")
        bits = len(self.dut.m_axis_tdata)
        values = [value - (value >> (bits - 1) << bits) for value in frame.tdata]
        return values, [bool(user) for user in frame.tuser]

    async def check(self, first: int, frames: IntArray, keep: Changes = None) -> golden.GoldenRun:
        """Answers and probes of `frames`, numbered from `first` since reset, are the golden model's."""
        run = golden.run(self.design, frames, keep)
        for index in range(len(frames)):
            values, bad = await self.answer()
            assert values == run.outputs[index].tolist(), f"frame {first + index}"
            assert not any(bad), f"frame {first + index} is marked"
            while len(self.probes.frames) <= first + index:  # the counters' strobe may come after the last logit
                await RisingEdge(self.dut.clk_i)
            control = Control.of(self.design, keep)
            self.probes.check(first + index, list(run.layers[len(self.design.head) :]), index, control)
        return run

    def bus_bytes(self) -> int:
        """Bytes that have passed the memory port, without the image's header."""
        bus = self.design.engine.bus_bytes
        return (self.memory.beats - self._header_beats) * bus

    async def finish(self) -> None:
        """Nothing comes that nobody expects."""
        await cycles(self.dut, 20)
        assert self.sink.empty()
        assert self.source.empty()

    def sweep(self) -> list[dict[str, Selection | int]]:
        """Values for the layers' registers: the design's, a random k, the fewest, all, and a score as threshold."""
        lazy = self.design.lazy_layers
        run = golden.run(self.design, self.frames(8, seed=0))
        scores = {trace.name: trace.scores.ravel().tolist() for trace in run.layers if trace.scores is not None}
        return [
            {},
            {layer.name: self.rng.randint(1, layer.filters) for layer in lazy},
            {layer.name: 1 for layer in lazy},
            {layer.name: Selection(Mode.THRESHOLD, 1, self.rng.choice(scores[layer.name])) for layer in lazy},
            {layer.name: Selection(Mode.ALL) for layer in lazy},
        ]


def _bytes(run: golden.GoldenRun) -> int:
    return sum(int(trace.bytes.sum()) for trace in run.layers)


async def _start(dut: Any) -> None:
    quiet = [getattr(dut, f"s_axil_{name}") for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")]
    await start(dut, *quiet, dut.s_axis_tvalid, dut.m_axis_tready, dut.m_axi_rvalid, dut.m_axi_arready)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.3])
async def answers_are_the_golden_models(dut: Any, pause: float) -> None:
    """40 frames; registers change after every eight. Stalls everywhere and a memory of random latency, or neither."""
    await _start(dut)
    bench = Testbench(dut, 1, pause, latency=(1, 60) if pause else (10, 10))
    await bench.enable()
    fetched = 0
    for turn, keep in enumerate(bench.sweep()):
        await bench.select(keep)
        frames = bench.frames(8, seed=turn)
        await bench.send(frames)
        run = await bench.check(8 * turn, frames, keep)
        fetched += _bytes(run)
        assert bench.bus_bytes() == fetched
        assert await bench.read(Register.BYTES) == fetched
        assert await bench.read(Register.FRAMES) == 8 * (turn + 1)
        for index, layer in enumerate(bench.design.tail):
            trace = run.layer(layer.name)
            (end,) = bench.probes.frames[-1][index].ends
            assert await bench.read(layer_register(index, LayerRegister.CHOSEN)) == trace.chosen[-1].sum()
            assert await bench.read(layer_register(index, LayerRegister.BYTES)) == trace.bytes[-1] == end[1]
            assert await bench.read(layer_register(index, LayerRegister.CYCLES)) == end[0]
    assert bench.memory.most_in_flight <= bench.design.engine.outstanding
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(memory=["fixed", *DRAMS])
async def cycles_are_the_cycle_models(dut: Any, memory: str) -> None:
    """Each layer of frames in a row takes what sim/cycles.py says, on memory with the same timing."""
    timing = dram(memory, clock_mhz=100) if memory in DRAMS else FixedLatency(latency=23, outstanding=3)
    await _start(dut)
    bench = Testbench(dut, 6, memory=timing)
    await bench.enable()
    frames = bench.frames(3, seed=14)
    await bench.send(frames)
    while not (int(dut.s_axis_tvalid.value) and int(dut.s_axis_tready.value)):
        await FallingEdge(dut.clk_i)
    first_in = bench.memory.now  # the model's clock is the memory's
    run = await bench.check(0, frames)
    model = CycleModel(bench.design, timing).stream(Masks.of(bench.design, run), first_in)
    taken = [[layer.ends[0][0] for layer in frame] for frame in bench.probes.frames]
    assert taken == [[int(layer.cycles[index]) for layer in model.layers] for index in range(len(frames))]
    requests = [address for address, _ in bench.memory.requests if not bench.memory.of_header(address)]
    assert len(requests) == sum(layer.bursts.sum() for layer in model.layers)
    await bench.finish()


@cocotb.test()
async def a_bus_error_marks_its_frame_and_stays_in_status(dut: Any) -> None:
    """The answer comes, marked in TUSER; STATUS tells until it is cleared; the next frame is right."""
    await _start(dut)
    bench = Testbench(dut, 2)
    await bench.enable()
    frames = bench.frames(3, seed=9)
    await bench.send(frames[:1])
    await bench.check(0, frames[:1])
    assert not await bench.read(Register.STATUS) & Status.BUS_ERROR
    failing, _ = bench.memory.requests[len(bench.memory.requests) // 2]
    # What one frame has read the same frame reads again.
    bench.memory.failing = {failing}
    await bench.send(frames[:1])
    values, bad = await bench.answer()
    assert values == golden.run(bench.design, frames[:1]).outputs[0].tolist()
    assert all(bad)
    assert await bench.read(Register.STATUS) & Status.BUS_ERROR
    bench.memory.failing = set()
    await bench.send(frames[2:])
    await bench.check(2, frames[2:])
    assert await bench.read(Register.STATUS) & Status.BUS_ERROR
    await bench.control.write_dword(Register.STATUS, Status.BUS_ERROR)
    assert not await bench.read(Register.STATUS) & Status.BUS_ERROR
    await bench.finish()


@cocotb.test()
async def frames_of_a_wrong_length_are_marked_and_no_others(dut: Any) -> None:
    """Each TLAST ends a frame: short and long ones come out marked, STATUS says which; all others are right."""
    await _start(dut)
    bench = Testbench(dut, 3)
    await bench.enable()
    frames = bench.frames(6, seed=10)
    whole = len(bench.pixels(frames[0]))
    pixel = whole // bench.design.input.pixels
    lengths = [whole, 5 * pixel, whole, whole + 7 * pixel, pixel, whole]
    causes = [0, Status.SHORT_FRAME, 0, Status.LONG_FRAME, Status.SHORT_FRAME, 0]
    sent = [(2 * bench.pixels(frame))[:length] for frame, length in zip(frames, lengths, strict=True)]
    for turn in range(2):  # one after the other, then all at once
        for index, frame in enumerate(sent):
            await bench.source.send(AxiStreamFrame(frame))
            if turn == 0:
                await _answer(bench, index, frames[index], bad=bool(causes[index]))
                assert await bench.read(Register.STATUS) & ERRORS == causes[index]
                await bench.control.write_dword(Register.STATUS, causes[index])
    for index, frame in enumerate(frames):
        await _answer(bench, 6 + index, frame, bad=bool(causes[index]))
    assert await bench.read(Register.STATUS) & ERRORS == Status.SHORT_FRAME | Status.LONG_FRAME
    assert await bench.read(Register.FRAMES) == 12
    assert await bench.read(Register.BAD_FRAMES) == 6
    await bench.finish()


async def _answer(bench: Testbench, index: int, frame: IntArray, *, bad: bool) -> None:
    """The answer to frame `index` since reset is right, or marked."""
    if bad:
        _, marks = await bench.answer()
        assert marks[-1], f"frame {index} is not marked"
    else:
        await bench.check(index, frame[None])


@cocotb.test()
async def nothing_starts_before_it_is_enabled(dut: Any) -> None:
    """Frames wait at the input; control answers meanwhile, and says that an address is wrong."""
    await _start(dut)
    bench = Testbench(dut, 4)
    frames = bench.frames(2, seed=11)
    await bench.send(frames)
    await cycles(dut, 1500)
    assert bench.sink.empty()
    assert bench.memory.beats == 0
    assert await bench.read(Register.STATUS) == 0
    assert await bench.read(Register.ID) == 0x534E_4550
    fingerprint = await bench.read(Register.FINGERPRINT_LOW) | await bench.read(Register.FINGERPRINT_HIGH) << 32
    assert fingerprint == bench.design.fingerprint
    response = await bench.control.read(0xFF0, 4)
    assert int(response.resp) == 2  # SLVERR
    await bench.enable()
    await bench.check(0, frames)
    await bench.finish()


@cocotb.test()
async def reset_in_mid_frame_starts_afresh(dut: Any) -> None:
    """Everything but the tables is forgotten, the registers too; the next frames are right."""
    await _start(dut)
    bench = Testbench(dut, 5)
    await bench.enable()
    await bench.select({layer.name: 1 for layer in bench.design.lazy_layers})
    await bench.send(bench.frames(1, seed=12))
    for _ in range(700):
        await FallingEdge(dut.clk_i)
    bench.memory.stop()
    bench.probes.stop()
    await reset(dut)
    bench.memory = AxiReadMemory(dut, Path(os.environ["PEN_IMAGE"]).read_bytes(), BASE, (3, 3))
    bench.probes = Probes(dut, bench.design, bench.counter)
    assert await bench.read(Register.STATUS) == 0
    assert await bench.read(Register.IMAGE_BASE) == 0
    await bench.enable()
    frames = bench.frames(2, seed=13)
    await bench.send(frames)
    await bench.check(0, frames)
    await bench.finish()
