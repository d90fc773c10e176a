"""What the accelerator takes of an FPGA, and how fast it can be clocked: two designs placed and routed.

    python bench/synthesis.py [--json FILE] [--quick]

`digits` is the default recipe's accelerator, `cifar` the network 32-32-64-64-128-128 on 32 x 32 x 3 pixels with 64
multipliers on the engine (random weights, `bench/networks.py`). ECP5-85F of speed grade 6 is placed and routed, aiming
at 110 MHz; for 7-series and UltraScale+ Yosys counts. Multipliers and block RAMs must be those of `hw/resources.py`.
Without the wheels of Yosys and nextpnr there is nothing to measure.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from pydantic import JsonValue
from rich.progress import track

from bench.networks import CIFAR, DIGITS, network
from bench.table import Report, parser
from hw.design import Design, Engine, Lanes
from hw.emit import emit
from hw.netlist import Resources
from hw.resources import resources
from hw.synthesis import SynthesisError, Target, TargetReport, synthesise, tools

BUILD = Path("build") / "bench" / "synthesis"
FREQUENCY = 110.0
SEED = 1


def digits() -> Design:
    """Engine, head and pinned filters as `recipes/digits.toml` says."""
    shape, blocks = DIGITS
    engine = Engine(Lanes(4, 8), bus_bytes=4, predictor_lanes=8, outstanding=4)
    return network("digits", shape, blocks, engine, (Lanes(4, 4),), pinned=4, seed=SEED)


def cifar() -> Design:
    """Everything on the engine, 64 bits of bus."""
    shape, blocks = CIFAR
    engine = Engine(Lanes(8, 8), bus_bytes=8, predictor_lanes=8, outstanding=8)
    return network("cifar", shape, blocks, engine, (), seed=SEED)


def figures(design: Design, found: TargetReport) -> dict[str, JsonValue]:
    """Of a design on one target."""
    timing, predictor = found.timing, found.predictor
    return {
        "design": design.name,
        "target": found.target.value,
        "resources": dataclasses.asdict(found.resources),
        "predictor": dataclasses.asdict(predictor),
        "predictor_share": {
            field: share(field, predictor, found.resources) for field in ("luts", "multipliers", "ffs")
        },
        "fmax": timing.fmax if timing else None,
        "critical_path": str(timing.critical_path) if timing else None,
    }


def share(field: str, part: Resources, whole: Resources) -> float:
    """Of `whole`, in one of its counts."""
    return round(getattr(part, field) / max(1, getattr(whole, field)), 4)


def main() -> int:
    """Measure, print and write."""
    options = parser("Resources and Fmax.")
    options.add_argument("--quick", action="store_true", help="the small design on ECP5 alone")
    arguments = options.parse_args()
    report = Report("synthesis")
    try:
        versions = tools()
    except SynthesisError as error:
        report.row("skipped", str(error))
        return report.finish({"designs": []}, arguments.json)
    designs = (digits(),) if arguments.quick else (digits(), cifar())
    targets = (Target.ECP5,) if arguments.quick else tuple(Target)
    rows: list[JsonValue] = []
    for design in track(designs, "synthesis", transient=True):
        folder = BUILD / design.name
        emit(design, folder)
        found = synthesise(
            design.name, folder / "rtl", folder / "synthesis", targets=targets, frequency=FREQUENCY, seed=SEED
        )
        estimate = resources(design)
        for target in found.targets:
            counts, predictor = target.resources, target.predictor
            rows.append(figures(design, target))
            report.row(
                f"{design.name}, {target.title}: LUTs (and as memory), flip-flops",
                f"{counts.luts:,} ({counts.memory_luts:,}), {counts.ffs:,}",
            )
            report.row(
                f"{design.name}, {target.title}: multipliers, block RAMs of 18 kbit",
                f"{counts.multipliers}, {counts.block_rams}",
            )
            report.row(
                f"{design.name}, {target.title}: predictor's share of LUTs, multipliers; its block RAMs",
                f"{share('luts', predictor, counts):.1%}, {share('multipliers', predictor, counts):.1%}; "
                f"{predictor.block_rams}",
            )
            if target.timing is not None:
                path = target.timing.critical_path
                report.row(f"{design.name}, {target.title}: Fmax", f"{target.timing.fmax:.1f} MHz")
                report.row(f"{design.name}, {target.title}: critical path", str(path))
        ecp5 = found[Target.ECP5].resources
        report.equal(f"{design.name}: multipliers as the resource model says", ecp5.multipliers == estimate.multipliers)
        report.equal(f"{design.name}: block RAMs as the resource model says", ecp5.block_rams == estimate.block_rams)
    return report.finish({"tools": {**versions}, "frequency": FREQUENCY, "seed": SEED, "designs": rows}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
