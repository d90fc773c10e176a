"""Whether the cycle model equals the RTL, how fast it is, and what it says about boards against CPUs.

    python bench/cycle_model.py [--json FILE] [--part cases|speed|baseline] [--network NAME] [--quick]
        [--boards-only] [--dask ADDRESS]

*cases*: networks of `bench/networks.py` (random weights; four of random shape on engines of random structure; narrow
ones of VGG-16 and CIFAR's shape), frames in a row, on every kind of memory; a case is equal
when each layer of each frame takes the same cycles and bytes in the RTL and in the model, and when first pixel, last
pixel and last logit pass in the same cycles. `rtl_cycles` are those from the first pixel to the last logit of all
frames.
*frames_per_second*: VGG-16 at full width for CIFAR-10, masks given, on one core: frames per second of processor time.
*baseline*: boards beside processors, see bench/baseline.py.

With `--dask` the cases run on the workers of that scheduler, each a network with its shares and memories.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
from pydantic import JsonValue
from rich.progress import track

from bench.baseline import baseline
from bench.engine import ALONE, LONG, SEED
from bench.networks import CIFAR, VGG16, Block, network
from bench.table import Report, parser
from flow.farm import spread
from hw.design import Design, Engine, Lanes, MapShape
from hw.emit import emit
from sim import golden
from sim.cycles import CycleModel, CycleRun, Masks
from sim.memory import DRAMS, FixedLatency, Memory, dram
from sim.verilated import RtlRun, VerilatedModel, build

BUILD = Path("build") / "bench" / "engine"  # the same designs as bench/engine.py's
MEMORIES: dict[str, Memory] = {
    "20 cycles, 8 bursts": FixedLatency(latency=20, outstanding=8),
    "60 cycles, 1 burst": FixedLatency(latency=60, outstanding=1),
    **{name: dram(name, clock_mhz=100) for name in DRAMS},
}
SHARES = (1.0, 0.5, 0.25)
RANDOM = tuple(range(4))  # seeds
PARTS = ("cases", "speed", "baseline")
TIMED_FRAMES = 200
ROUNDS = 3


class Plan(Protocol):
    """A network to compare; `bench.engine.Case` is one."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def frames(self) -> int: ...

    def design(self) -> Design: ...


@dataclass(frozen=True)
class Random:
    """A network of random shape on an engine of random structure."""

    seed: int
    frames: int = 6

    @property
    def name(self) -> str:
        return f"random{self.seed}"

    @property
    def label(self) -> str:
        return f"random network {self.seed}"

    def design(self) -> Design:
        rng = np.random.default_rng(self.seed)

        def one(*values: int) -> int:
            return int(rng.choice(values))

        shape = MapShape(one(1, 3), one(8, 12), one(8, 10, 12))
        blocks = [Block(one(6, 9, 16, 24), pool) for pool in (1, 2, 1, 2)[: one(3, 4)]]
        engine = Engine(
            Lanes(one(2, 3, 4, 5), one(2, 4, 8)),
            bus_bytes=one(4, 8, 16),
            predictor_lanes=one(2, 4, 8),
            outstanding=one(2, 4, 8),
            max_burst=one(4, 16, 256),
            gap_words=one(0, 1, 3),
            join_words=one(0, 8, 64),
        )
        head = [Lanes(one(2, 3), one(2, 4))] * one(0, 1, 2)
        return network(self.name, shape, blocks, engine, head, pinned=one(0, 2), seed=self.seed)


@dataclass(frozen=True)
class Narrow:
    """VGG-16 or the CIFAR net with an eighth or a quarter of the filters."""

    name: str
    label: str
    engine: Engine
    head: tuple[Lanes, ...]
    blocks: tuple[Block, ...]
    frames: int = 2

    def design(self) -> Design:
        return network(self.name, MapShape(3, 32, 32), self.blocks, self.engine, self.head, pinned=2, seed=SEED)


def _narrowed(blocks: tuple[Block, ...], width: int) -> tuple[Block, ...]:
    return tuple(Block(block.filters // width, block.pool) for block in blocks)


NARROW = (
    Narrow("vgg16_eighth", "VGG-16, an eighth wide", Engine(Lanes(8, 4), bus_bytes=8), (), _narrowed(VGG16[1], 8)),
    Narrow(
        "cifar_quarter",
        "32-32-64-64-128-128, a quarter wide, two stages in the head",
        Engine(Lanes(3, 8), gap_words=0, outstanding=8),
        (Lanes(2, 8), Lanes(4, 8)),
        _narrowed(CIFAR[1], 4),
    ),
)


@dataclass(frozen=True)
class Compared:
    """One stream of frames through both."""

    design: Design
    share: float
    memory: str
    rtl: RtlRun
    model: CycleRun

    @property
    def equal(self) -> bool:
        """Everywhere, to the cycle."""
        layers = zip(self.rtl.layers, self.model.layers, strict=True)
        stamps = ((getattr(self.rtl, x), getattr(self.model, x)) for x in ("first_in", "last_in", "last_out"))
        return (
            all(np.array_equal(a.cycles, b.cycles) and np.array_equal(a.bytes, b.bytes) for a, b in layers)
            and all(np.array_equal(a, b) for a, b in stamps)
            and np.array_equal(self.rtl.bus_bursts, sum(layer.bursts for layer in self.model.layers))
        )

    @property
    def cycles(self) -> tuple[int, int]:
        """Of all frames: RTL, model."""
        rtl, model = (int(run.last_out[-1] - run.first_in[0]) + 1 for run in (self.rtl, self.model))
        return rtl, model


def compared(case: Plan, shares: tuple[float, ...], memories: dict[str, Memory]) -> Iterator[Compared]:
    """The case at each share and on each memory."""
    design, folder = case.design(), BUILD / case.name
    emit(design, folder)
    library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
    image, shape = (folder / "weights.bin").read_bytes(), design.input
    frames = np.random.default_rng(SEED).integers(0, 256, (case.frames, shape.channels, shape.height, shape.width))
    for share in shares:
        keep = {layer.name: max(1, round(layer.filters * share)) for layer in design.lazy_layers}
        masks = Masks.of(design, golden.run(design, frames, keep), keep)
        for name, memory in memories.items():
            rtl = VerilatedModel(library, design, image, memory).run(frames, keep)
            model = CycleModel(design, memory).stream(masks, int(rtl.first_in[0]))
            yield Compared(design, share, name, rtl, model)


def speed(share: float) -> float:
    """Frames per second of processor time, VGG-16 with a share of the filters and a sixth of the channels absent."""
    design = LONG[0].design()
    keep = {layer.name: max(1, round(layer.filters * share)) for layer in design.lazy_layers}
    model, masks = CycleModel(design, LONG[0].memory), Masks.drawn(design, keep, TIMED_FRAMES, SEED, present=5 / 6)
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        model.alone(masks)
        seconds.append(time.process_time() - started)
    return TIMED_FRAMES / float(np.median(seconds))


def main() -> int:
    """Measure, print and write."""
    options = parser("Whether the cycle model equals the RTL, and how fast it is.")
    options.add_argument("--quick", action="store_true", help="without the network that takes minutes")
    options.add_argument("--network", action="append", help="of the cases only this; the others stay as they are")
    options.add_argument("--part", choices=PARTS, action="append", help="only this; the rest of FILE stays as it is")
    options.add_argument("--boards-only", action="store_true", help="no times of this machine's processor")
    options.add_argument("--dask", help="address of a Dask scheduler whose workers run the cases")
    arguments = options.parse_args()
    parts = arguments.part or PARTS
    report = Report("cycle model")
    figures: dict[str, JsonValue] = {}
    if arguments.part and arguments.json and arguments.json.is_file():
        figures = json.loads(arguments.json.read_text())
    if "cases" in parts:
        figures["cases"] = compare(
            report,
            _plans(arguments.quick, arguments.network),
            _others(figures, arguments, "cases", "design"),
            arguments.dask,
        )
    if "speed" in parts:
        speeds = {share: speed(share) for share in SHARES}
        for share, value in speeds.items():
            report.row(f"VGG-16, k = {share:.0%}: frames per second of one core", f"{value:,.0f}")
        figures["frames_per_second"] = round(speeds[0.5])
        figures["frames_per_second_by_k"] = {f"{share:.0%}": round(value) for share, value in speeds.items()}
    if "baseline" in parts:
        others = _others(figures, arguments, "baseline", "network")
        figures["baseline"] = [*others, *baseline(report, arguments.network, not arguments.boards_only)]
    return report.finish(figures, arguments.json)


Task = tuple[Plan, tuple[float, ...], dict[str, Memory]]
Plans = list[Task]


def _plans(quick: bool, wanted: list[str] | None) -> Plans:
    """What to run: networks with the shares and memories to try; by name if some are `wanted`."""
    some = {name: MEMORIES[name] for name in ("20 cycles, 8 bursts", "DDR4-2400 x64")}
    plans: Plans = [(Random(seed), SHARES, MEMORIES) for seed in RANDOM]
    plans += [(case, SHARES, MEMORIES) for case in (*NARROW, *ALONE)]
    plans += [] if quick else [(case, (0.5, 0.25), some) for case in LONG]
    return [plan for plan in plans if wanted is None or plan[0].name in wanted]


def _others(figures: dict[str, JsonValue], arguments: Namespace, part: str, key: str) -> list[JsonValue]:
    """Rows of a part of `figures` that are not made again."""
    rows, again = figures.get(part, []), arguments.network
    assert isinstance(rows, list)
    return [row for row in rows if again is not None and isinstance(row, dict) and row[key] not in again]


def compare(report: Report, plans: Plans, others: list[JsonValue], address: str | None) -> list[JsonValue]:
    """Every network on its memories, after the `others`."""
    cases = list(others)
    found = track(spread(rows, plans, address), "RTL and model", len(plans), transient=True)
    for (case, _, _), some in zip(plans, found, strict=True):
        for row in some:
            what = f"{case.label}, k = {row['k']:.0%}, {row['memory']}: {row['rtl_cycles']:,} cycles"
            report.equal(what, bool(row["equal"]))
            cases.append({**row})
    return cases


class Row(TypedDict):
    """A case as it is written."""

    design: str
    k: float
    memory: str
    frames: int
    rtl_cycles: int
    model_cycles: int
    equal: bool


def rows(task: Task) -> list[Row]:
    """The cases of a network, here or on a worker."""
    case, shares, memories = task
    return [
        {
            "design": case.name,
            "k": result.share,
            "memory": result.memory,
            "frames": case.frames,
            "rtl_cycles": result.cycles[0],
            "model_cycles": result.cycles[1],
            "equal": result.equal,
        }
        for result in compared(case, shares, memories)
    ]


if __name__ == "__main__":
    sys.exit(main())
