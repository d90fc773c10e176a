"""What the order of filters saves: bytes on the bus that are useful, and bursts, against the order of training.

    python bench/order.py [--recipe FILE] [--images N] [--json FILE]

The recipe's network twice, filters as trained and laid side by side by co-activation, on a narrow and a wide bus, for
some shares of the lazy layers' filters. Choices are the golden model's; bursts and cycles are the cycle model's, which
are those of the RTL. Useful are weights of chosen filters over present channels.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import JsonValue
from rich.console import Console

from bench.table import Report, parser
from flow import recipe as recipes
from flow.convert import integer_frames, keep_share
from flow.network import channels_last
from flow.recipe import Recipe
from flow.steps import Flow, share
from flow.workspace import Workspace
from hw.design import Design, IntArray
from hw.image import layout
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.memory import FixedLatency

RECIPE = Path("recipes/digits.toml")
ORDERS: tuple[Literal["trained", "coactivation"], ...] = ("trained", "coactivation")
BUSES = (4, 16)  # bytes
SHARES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class Point:
    """Means per frame: bytes on the bus, the share of them that are weights in use, bursts, and the engine's cycles."""

    order: str
    bus_bytes: int
    k: float
    bytes: float
    useful: float
    bursts: float
    cycles: float


def useful_bytes(design: Design, run: golden.GoldenRun) -> float:
    """Weights of chosen filters over present channels that come from memory, per frame."""
    total = 0.0
    for layer in design.tail:
        trace = run.layer(layer.name)
        weights = (trace.strengths > 0) @ layer.kept_taps.sum(axis=(1, 2))
        total += float((weights * (trace.chosen.sum(axis=1) - len(layer.pinned))).mean())
    return total


def point(order: str, design: Design, frames: IntArray, kept: float, memory: FixedLatency) -> Point:
    """Run `frames` with that share of the lazy layers' filters."""
    keep = keep_share(design, kept)
    run = golden.run(design, frames, keep, maps=False)
    timing = CycleModel(design, memory).alone(Masks.of(design, run, keep), threads=2)
    fetched = float(timing.bytes.mean())
    return Point(
        order,
        design.engine.bus_bytes,
        kept,
        fetched,
        useful_bytes(design, run) / fetched,
        float(np.sum([layer.bursts.mean() for layer in timing.layers])),
        float(timing.engine.mean()),
    )


def ordered(recipe: Recipe, order: str) -> Flow:
    """The recipe's network with its filters in that order, up to its design."""
    flow = Flow(
        recipe.model_copy(update={"order": order}),
        Workspace(Path("build") / "bench" / "order" / recipe.name),
        Console(),
    )
    flow.run(hardware=False)
    return flow


def main() -> int:
    """Measure both orders, compare, print."""
    options = parser("What the order of filters saves.")
    options.add_argument("--recipe", type=Path, default=RECIPE)
    options.add_argument("--images", type=int, help="test images to use; by default all")
    arguments = options.parse_args()
    recipe = recipes.load(arguments.recipe)
    memory = FixedLatency(**recipe.memory.model_dump())
    report = Report(f"{recipe.name}: order of filters, per frame")
    points: list[Point] = []
    answers: dict[str, IntArray] = {}
    for order in ORDERS:
        flow = ordered(recipe, order)
        images = flow.data.test_x[: arguments.images]
        frames = integer_frames(flow.graph, channels_last(images))
        every = golden.run(flow.design, frames, keep_share(flow.design, 1.0), maps=False)
        answers[order] = every.outputs
        right = share(every.outputs.argmax(axis=1) == flow.data.test_y[: arguments.images])
        report.row(f"{order}: accuracy on {len(images)} images, all filters", f"{100 * right:.2f} %")
        for bus in BUSES:
            design = replace(flow.design, engine=replace(flow.design.engine, bus_bytes=bus))
            points += [point(order, design, frames, kept, memory) for kept in SHARES]
        image = layout(flow.design)[-1].end
    report.equal("logits with all filters, in both orders", np.array_equal(answers["trained"], answers["coactivation"]))
    report.row("weight image", f"{image:,} bytes")
    for one in points:
        report.row(
            f"{one.order}, {8 * one.bus_bytes} bits, k = {one.k:.1%}: bytes, useful, bursts, cycles",
            f"{one.bytes:,.0f}, {one.useful:.1%}, {one.bursts:,.1f}, {one.cycles:,.0f}",
        )
    figures: dict[str, JsonValue] = {"points": [dict(vars(one)) for one in points]}
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
