"""How near the engine comes to its limit, how much of the saving it keeps, and where NNgen stands.

    python bench/engine.py [--json FILE] [--quick]

Networks have random weights (`bench/networks.py`), every answer is compared with the golden model's. The limit of a
layer and frame is ``max(active MACs / multipliers, bytes fetched / bus bytes per cycle)``; active are the chosen
filters over the present channels and kept taps, padding counted as work. *latency* is one frame alone, from the start
of its first engine layer to the end of the last; *steady* the interval between answers of frames in a row, head
included. Conversion is (dense cycles / lazy cycles) / (dense limit / lazy limit), of latencies. The predictor's cost is
what the register STALL_PREDICT counts: cycles in which the multipliers wait for scores or selection.

NNgen 1.3.4's cycles were measured in simulation with 72 multipliers, int8, on the memory `NNGEN`: 32 bits wide, 10
cycles before each burst, one burst in service at a time, 4 idle cycles after every 15.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from rich.progress import track

from bench.networks import CIFAR, DIGITS, VGG16, network
from bench.table import Report, parser, timed
from flow.compare import differences
from hw.design import Design, Engine, IntArray, Lanes, Layer
from hw.emit import emit
from sim import golden
from sim.golden import GoldenRun
from sim.memory import FixedLatency
from sim.verilated import RtlRun, VerilatedModel, build

BUILD = Path("build") / "bench" / "engine"
MEMORY = FixedLatency(latency=20, outstanding=8)
NNGEN = FixedLatency(latency=10, outstanding=1, gap_every=15, gap_cycles=4)
NNGEN_CYCLES = {("digits", 4): 17_521, ("digits", 16): 10_217, ("cifar", 4): 710_505, ("cifar", 16): 592_289}
SHARES = (1.0, 0.5, 0.25, 0.125)
SEED = 5
LANES = Lanes(4, 16)


@dataclass(frozen=True)
class Case:
    """A network on an engine; `frames` are few where a frame takes millions of cycles."""

    net: str
    bus_bytes: int
    head: tuple[Lanes, ...]
    gap_words: int = 1
    frames: int = 3
    memory: FixedLatency = MEMORY
    lanes: Lanes = LANES

    @property
    def name(self) -> str:
        """Its folder, and its name in figures."""
        return f"{self.net}_{8 * self.bus_bytes}bit_{len(self.head)}head_gap{self.gap_words}"

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"{self.net}, {8 * self.bus_bytes}-bit bus"

    @property
    def multipliers(self) -> int:
        """Of engine and head."""
        return self.lanes.multipliers + sum(lanes.multipliers for lanes in self.head)

    def design(self) -> Design:
        """The accelerator, with one group of pinned filters per layer."""
        shape, blocks = {"digits": DIGITS, "cifar": CIFAR, "vgg16": VGG16}[self.net]
        engine = Engine(self.lanes, bus_bytes=self.bus_bytes, predictor_lanes=16, gap_words=self.gap_words)
        return network(self.name, shape, blocks, engine, self.head, pinned=self.lanes.filters, seed=SEED)

    def images(self, design: Design) -> IntArray:
        """Random frames for `design`, (frames, c, h, w)."""
        shape = design.input
        return np.random.default_rng(SEED).integers(0, 256, (self.frames, shape.channels, shape.height, shape.width))


HEAD = (Lanes(2, 4),)  # with the engine's 64: 72 multipliers, as NNgen's; without, 8 fewer
# Fetching along what lies between channels saves cycles where latency binds, and costs bytes only where compute does.
ALONE = (Case("digits", 4, HEAD), Case("cifar", 4, (), gap_words=0), Case("cifar", 16, (), gap_words=0))
LONG = (Case("vgg16", 16, (), frames=1, lanes=Lanes(16, 4)),)  # its last maps have 4 pixels
AGAINST = tuple(
    Case(net, bus, head, gap_words=4, memory=NNGEN)
    for net, head in (("digits", HEAD), ("cifar", ()))
    for bus in (4, 16)
)


@dataclass(frozen=True)
class Run:
    """One case at one share of filters."""

    case: Case
    design: Design
    share: float
    rtl: RtlRun
    golden: GoldenRun
    alone: RtlRun  # the first frame by itself

    @property
    def cycles(self) -> IntArray:
        """Of the first frame's layers, (layers,)."""
        return np.array([layer.cycles[0] for layer in self.alone.layers])

    @property
    def limits(self) -> list[float]:
        """The same as they would be at best."""
        return [limit(self.design, layer, self.golden) for layer in self.design.tail]

    @property
    def steady(self) -> float | None:
        """Cycles between answers of frames in a row."""
        ends = self.rtl.last_out
        return float(ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None


def limit(design: Design, layer: Layer, run: GoldenRun) -> float:
    """Least cycles of the first frame in `layer`."""
    trace, engine = run.layer(layer.name), design.engine
    weights = int(((trace.strengths[0] > 0) * layer.kept_taps.sum(axis=(1, 2))).sum())
    rows, columns = layer.grid
    macs = weights * int(trace.chosen[0].sum()) * rows * columns
    return max(macs / engine.lanes.multipliers, int(trace.bytes[0]) / engine.bus_bytes)


def useful_share(design: Design, run: GoldenRun, size: int) -> float:
    """Bytes of present channels among the `size` bytes on the bus, over all layers of the first frame."""
    useful = 0
    for layer in design.tail:
        trace = run.layer(layer.name)
        weights = int(((trace.strengths[0] > 0) * layer.kept_taps.sum(axis=(1, 2))).sum())
        useful += weights * (int(trace.chosen[0].sum()) - len(layer.pinned))
    return useful / max(1, size)


def checked_share(case: Case) -> float:
    """`useful_share` with all filters and CRC-32 of every 256 bytes; the bytes are those of the golden model."""
    design = case.design()
    design = replace(design, engine=replace(design.engine, crc_bits=32, crc_block=256))
    run = golden.run(design, case.images(design)[:1], {layer.name: layer.filters for layer in design.lazy_layers})
    return useful_share(design, run, sum(int(run.layer(layer.name).bytes[0]) for layer in design.tail))


def runs(case: Case, shares: tuple[float, ...], report: Report) -> Iterator[Run]:
    """The case at each share, equal to the golden model or noted as not."""
    design = case.design()
    folder = BUILD / case.name
    with timed() as emitting:
        emit(design, folder)
    report.row(f"{case.label}: RTL and image emitted", f"{emitting.seconds:.1f} s")
    library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
    image = (folder / "weights.bin").read_bytes()
    frames = case.images(design)
    for share in shares:
        keep = {layer.name: max(1, round(layer.filters * share)) for layer in design.lazy_layers}
        expected = golden.run(design, frames, keep)
        alone = VerilatedModel(library, design, image, case.memory).run(frames[:1], keep)
        rtl = alone if case.frames == 1 else VerilatedModel(library, design, image, case.memory).run(frames, keep)
        report.equal(f"{case.label}, k = {share:.1%}: RTL = golden", not differences(expected, rtl))
        yield Run(case, design, share, rtl, expected, alone)


def main() -> int:
    """Measure, print and write."""
    options = parser("How near the engine comes to its limit.")
    options.add_argument("--quick", action="store_true", help="without the network that takes minutes")
    arguments = options.parse_args()
    report = Report("engine")
    tails: list[JsonValue] = []
    layers: list[JsonValue] = []
    conversion: list[JsonValue] = []
    nngen: list[JsonValue] = []
    efficiency: dict[str, JsonValue] = {}
    exposed: dict[str, float] = {}

    for case in track(ALONE if arguments.quick else ALONE + LONG, "engine alone", transient=True):
        dense: Run | None = None
        for run in runs(case, SHARES, report):
            cycles, least = int(run.cycles.sum()), sum(run.limits)
            dense = dense or run
            kept = (dense.cycles.sum() / cycles) / (sum(dense.limits) / least)
            tails.append(
                {
                    "design": case.name,
                    "k": run.share,
                    "bound": "memory" if _memory_bound(run) else "compute",
                    "latency": cycles,
                    "steady": run.steady,
                    "limit": round(least),
                }
            )
            layers += [
                {
                    "design": case.name,
                    "layer": layer.name,
                    "k": run.share,
                    "cycles": int(took),
                    "limit": round(best),
                    "exposed": round(int(took) - best),
                }
                for layer, took, best in zip(run.design.tail, run.cycles, run.limits, strict=True)
            ]
            if run.share < 1:
                conversion.append(
                    {
                        "design": case.name,
                        "k": run.share,
                        "dense_cycles": int(dense.cycles.sum()),
                        "lazy_cycles": cycles,
                        "dense_limit": round(sum(dense.limits)),
                        "lazy_limit": round(least),
                    }
                )
            useful = useful_share(run.design, run.golden, int(run.rtl.bus_bytes[0]))
            efficiency[f"{case.name}, k = {run.share:.1%}"] = round(useful, 4)
            report.row(f"{case.label}, k = {run.share:.1%}: useful bytes among those on the bus", f"{useful:.1%}")
            waited = run.rtl.stalls.predict / sum(int(layer.cycles.sum()) for layer in run.rtl.layers)
            exposed[f"{case.name}, k = {run.share:.1%}"] = round(waited, 5)
            report.row(
                f"{case.label}, k = {run.share:.1%}: cycles in which the array waits for the predictor", f"{waited:.2%}"
            )
            report.row(
                f"{case.label}, k = {run.share:.1%}: latency",
                f"{cycles:,} = {cycles / least:.3f} of limit, {kept:.1%} converted",
            )

    for case in ALONE:
        efficiency[f"{case.name}, k = 100.0%, CRC-32"] = round(checked := checked_share(case), 4)
        report.row(f"{case.label}, k = 100.0%, CRC-32: useful bytes among those on the bus", f"{checked:.1%}")

    for case in track(AGAINST, "against NNgen", transient=True):
        by_share = {run.share: run for run in runs(case, (1.0, 0.5), report)}
        theirs = NNGEN_CYCLES[case.net, case.bus_bytes]
        latencies = {share: int(run.alone.last_out[0] - run.alone.first_in[0] + 1) for share, run in by_share.items()}
        nngen.append(
            {
                "net": case.net,
                "multipliers": case.multipliers,
                "bus_bits": 8 * case.bus_bytes,
                "ours_dense": by_share[1.0].steady,
                "ours_lazy50": by_share[0.5].steady,
                "ours_dense_latency": latencies[1.0],
                "ours_lazy50_latency": latencies[0.5],
                "nngen": theirs,
            }
        )
        for share, run in by_share.items():
            assert run.steady is not None
            report.row(
                f"{case.label}, k = {share:.0%}: NNgen {theirs:,}, in a row",
                f"{run.steady:,.0f} = {theirs / run.steady:.2f} x as fast",
            )
            report.row(
                f"{case.label}, k = {share:.0%}: NNgen {theirs:,}, one frame alone",
                f"{latencies[share]:,} = {theirs / latencies[share]:.2f} x as fast",
            )

    figures: dict[str, JsonValue] = {
        "tails": tails,
        "layers": layers,
        "conversion": conversion,
        "nngen": nngen,
        "burst_efficiency": efficiency,
        # All tables are on chip: the bytes on the bus are those of weights, as equality with the golden model shows.
        "predictor": {"cycles_share": max(exposed.values()), "bytes_share": 0.0, "runs": dict(exposed)},
    }
    return report.finish(figures, arguments.json)


def _memory_bound(run: Run) -> bool:
    """Whether fetching sets the limit for more than half of the first frame's cycles."""
    engine = run.design.engine
    fetching = (int(run.golden.layer(layer.name).bytes[0]) / engine.bus_bytes for layer in run.design.tail)
    bound = sum(best for best, least in zip(run.limits, fetching, strict=True) if best == least)
    return bound > sum(run.limits) / 2


if __name__ == "__main__":
    sys.exit(main())
