"""A long run of one accelerator: stalls, changes of k, every kind of fault, resets; nothing wrong may be unmarked."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hw.design import Design
from hw.registers import Register
from sim import golden
from sim.faults import BusError, Fault, FlippedBit, FrameLength, Refusal, Response, Silence, Unread
from sim.memory import FixedLatency, Stalls
from sim.verilated import VerilatedModel
from tests.designs import random_frames

LIMIT = 500  # cycles of silence that are borne
FRAMES = 6  # of a run


@dataclass
class Soak:
    """What has been seen so far. `memory` are the process's resident bytes after each model was used and dropped."""

    frames: int = 0
    bad: int = 0
    wrong: int = 0
    runs: int = 0
    resets: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        """Memory does not grow: the last tenth of its figures is not above the second tenth by more than 4 MiB."""
        tenth = max(1, len(self.memory) // 10)
        return max(self.memory[-tenth:]) - max(self.memory[tenth : 2 * tenth] or self.memory[:1]) < 1 << 22


def soak(design: Design, library: Path, image: bytes, seconds: float, seed: int) -> Soak:
    """Run `design` for so long, or for two models at least; a hang raises `SimulationError`."""
    rng, seen, ends = np.random.default_rng(seed), Soak(), time.monotonic() + seconds
    while time.monotonic() < ends or len(seen.memory) < 2:
        _one_model(design, library, image, rng, seen)
        seen.memory.append(_resident())
    return seen


def _one_model(design: Design, library: Path, image: bytes, rng: np.random.Generator, seen: Soak) -> None:
    memory = FixedLatency(
        latency=int(rng.integers(1, 60)),
        outstanding=int(rng.choice([1, 2, 8])),
        gap_every=int(rng.choice([0, 7])),
        gap_cycles=3,
    )
    stalls = Stalls(int(rng.integers(1 << 30)), float(rng.choice([0.0, 0.1, 0.5])))
    live = VerilatedModel(library, design, image, memory, stalls)
    for _ in range(20):
        keep = {layer.name: int(rng.integers(1, layer.filters + 1)) for layer in design.lazy_layers}
        frames = random_frames(design, FRAMES, int(rng.integers(1 << 30)))
        right = golden.run(design, frames, keep, maps=False)
        if rng.random() < 0.3:
            live.interrupt(frames, int(rng.integers(1, 20_000)), memory_forgets=bool(rng.random() < 0.5))
            seen.resets += 1
        live.write_register(Register.TIMEOUT, LIMIT)
        beats = int(sum(layer.bytes.sum() for layer in right.layers)) // design.engine.bus_bytes
        faults = [_fault(design, rng, beats)] if rng.random() < 0.5 and beats > 40 else []
        run = live.run(frames, keep, faults=faults)
        good = ~run.bad
        seen.wrong += int((run.outputs[good] != right.outputs[good]).any(axis=1).sum())
        seen.wrong += int(run.bad.sum()) if not faults else 0
        seen.runs, seen.frames, seen.bad = seen.runs + 1, seen.frames + len(frames), seen.bad + int(run.bad.sum())
        seen.faults.update(type(fault).__name__ for fault in faults)


def _fault(design: Design, rng: np.random.Generator, beats: int) -> Fault:
    """One that finds its place in the first half of a run, if no frame is marked and cut short before."""
    place, frame = int(rng.integers(beats // 4)), int(rng.integers(FRAMES))
    kind = int(rng.integers(7 if design.engine.crc_bits else 6))
    match kind:
        case 0:
            return FrameLength(frame, int(rng.integers(1, 2 * design.input.pixels)))
        case 1:
            return BusError(place, Response(int(rng.integers(2, 4))), int(rng.integers(1, 4)))
        case 2:
            return Silence(place, int(rng.integers(1, 5000)))
        case 3:
            return Refusal(0, int(rng.integers(1, 5000)))
        case 4 | 5:
            return Unread(frame, int(rng.integers(1, 3000)))
        case _:
            return FlippedBit(place, int(rng.integers(8 * design.engine.bus_bytes)))


def _resident() -> int:
    """Bytes of memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
