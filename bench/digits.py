"""The default recipe on all held-out images: who agrees with whom, and what laziness costs and saves.

    python bench/digits.py [--json FILE]

Witnesses, compared with ``==`` on logits (and strengths, scores, choices and bytes, where a witness has them): the
golden model, the RTL in Verilator, the Brevitas network whose lazy layers choose in torch, and hls4ml's own C
simulation with all filters. Cycles are the engine's per frame, means over all images, as the RTL's counters say.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from pydantic import JsonValue
from rich.console import Console

from bench.table import Report, parser, timed
from flow import recipe
from flow.compare import differences
from flow.convert import Plan, convert, keep_share, software
from flow.steps import IMAGE, MODEL, PREDICTORS, RTL, Flow, TrainedAccuracy, all_filters, share
from flow.workspace import Workspace, digest
from hw.design import IntArray
from quant import lazy
from sim import csim, golden
from sim.golden import GoldenRun
from sim.verilated import RtlRun

RECIPE = Path(__file__).parents[1] / "recipes" / "digits.toml"
SHARES = (25, 50, 75, 100)  # percent of the filters that lazy layers compute


@dataclass
class Digits:
    """The built recipe, and its runs for every share of filters."""

    flow: Flow

    def keep(self, percent: int) -> dict[str, int]:
        """Filters that each lazy layer computes."""
        return keep_share(self.flow.design, percent / 100)

    @cached_property
    def golden(self) -> dict[int, GoldenRun]:
        """The golden model's runs, by percent."""
        frames = self.flow.test_frames
        return {percent: golden.run(self.flow.design, frames, self.keep(percent)) for percent in SHARES}

    @cached_property
    def rtl(self) -> dict[int, RtlRun]:
        """The RTL's runs, all on one live model whose KEEP registers change in between."""
        model = self.flow.verilated()
        return {percent: model.run(self.flow.test_frames, self.keep(percent)) for percent in SHARES}

    def brevitas(self, percent: int) -> lazy.LazyRun:
        """The torch witness."""
        layers = {
            layer.name: lazy.LazyLayer(software(layer.predictor), self.keep(percent)[layer.name], layer.pinned)
            for layer in self.flow.design.lazy_layers
            if layer.predictor is not None
        }
        return lazy.run(self.flow.quantised_network(), self.flow.data.test_x, layers)

    def hls4ml(self) -> IntArray:
        """Logits of hls4ml's C simulation, all filters."""
        folder = self.flow.path("csim")
        return csim.build(self.flow.path(MODEL), self.flow.design, folder).run(self.flow.test_frames)

    def accuracy(self, percent: int) -> float:
        """Share of the images that are named right."""
        return share(self.golden[percent].outputs.argmax(axis=1) == self.flow.data.test_y)

    def lazy_bytes(self, percent: int) -> float:
        """Bytes that lazy layers fetch per frame."""
        return float(sum(self.golden[percent].layer(x.name).bytes.mean() for x in self.flow.design.lazy_layers))

    def cycles(self, percent: int) -> float:
        """Cycles of the engine per frame."""
        return float(np.sum([layer.cycles.mean() for layer in self.rtl[percent].layers]))

    def emit_seconds(self) -> float:
        """Seconds from the QONNX file to RTL, image and manifest on disk."""
        flow, folder = self.flow, self.flow.path("emitted")
        shutil.rmtree(folder, ignore_errors=True)
        with timed() as timer:
            model = onnx.load(flow.path(MODEL))
            plan = Plan.of(flow.recipe, flow.design)
            convert(model, flow.recipe, folder, plan.layers, flow.path(PREDICTORS)).write()
        return timer.seconds


def same_choices(run: GoldenRun, witness: lazy.LazyRun) -> bool:
    """Whether the torch witness saw the same strengths and scores and chose the same filters, in every layer."""
    for record in witness.layers:
        trace = run.layer(record.name)
        if not np.array_equal(trace.strengths, record.strengths) or not np.array_equal(trace.chosen, record.chosen):
            return False
        if record.scores is not None and not np.array_equal(trace.scores, record.scores):
            return False
    return True


def main() -> int:
    """Build twice, compare all witnesses, print."""
    arguments = parser(__doc__.splitlines()[0] if __doc__ else "").parse_args()
    chosen = recipe.load(RECIPE)
    folders = [Path("build/bench") / f"{chosen.name}_{which}" for which in ("first", "second")]
    seconds = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        with timed() as timer:
            Flow(chosen, Workspace(folder), Console(quiet=True)).run()
        seconds.append(timer.seconds)
    bench = Digits(Flow(chosen, Workspace(folders[0]), Console(quiet=True)))
    design = bench.flow.design
    report = Report(f"{chosen.name}: {len(bench.flow.test_frames)} held-out images")

    rtl_equals_golden = report.equal(
        f"RTL = golden: logits, strengths, scores, choices, bytes on the port, at {', '.join(map(str, SHARES))} % kept",
        not any(differences(bench.golden[percent], bench.rtl[percent]) for percent in SHARES),
    )
    witnesses = {percent: bench.brevitas(percent) for percent in SHARES}
    rtl_equals_brevitas = report.equal(
        "RTL = Brevitas that chooses in torch: logits",
        all(np.array_equal(bench.rtl[percent].outputs, witnesses[percent].logits) for percent in SHARES),
    )
    report.equal(
        "golden = Brevitas: strengths, scores, choices",
        all(same_choices(bench.golden[percent], witnesses[percent]) for percent in SHARES),
    )
    golden_equals_hls4ml = report.equal(
        "golden = hls4ml's C simulation, all filters: logits",
        np.array_equal(golden.run(design, bench.flow.test_frames, all_filters(design)).outputs, bench.hls4ml()),
    )
    report.equal(
        "the recipe built twice: bytes of RTL and image",
        all(len({digest(folder / name) for folder in folders}) == 1 for name in (RTL, IMAGE)),
    )

    trained = TrainedAccuracy.model_validate_json(bench.flow.path("accuracy.json").read_text())
    report.row("accuracy, floating point", f"{100 * trained.floating:.2f} %")
    report.row("accuracy, int8, all filters", f"{100 * trained.int8:.2f} %")
    for percent in SHARES:
        report.row(f"accuracy, lazy, {percent} % of the filters", f"{100 * bench.accuracy(percent):.2f} %")
    for percent in SHARES:
        saved = bench.lazy_bytes(percent) / bench.lazy_bytes(100)
        report.row(
            f"bytes of lazy layers per frame, {percent} %", f"{bench.lazy_bytes(percent):,.0f} ({100 * saved:.1f} %)"
        )
    for percent in SHARES:
        saved = bench.cycles(percent) / bench.cycles(100)
        report.row(f"engine cycles per frame, {percent} %", f"{bench.cycles(percent):,.0f} ({100 * saved:.1f} %)")
    emit_seconds = bench.emit_seconds()
    report.row("QONNX to RTL on disk", f"{emit_seconds:.2f} s")
    report.row("whole recipe, nothing built before", f"{min(seconds):.0f} s")

    figures: dict[str, JsonValue] = {
        "images": len(bench.flow.test_frames),
        "rtl_equals_golden": rtl_equals_golden,
        "rtl_equals_brevitas": rtl_equals_brevitas,
        "golden_equals_hls4ml": golden_equals_hls4ml,
        "accuracy": {
            "float": trained.floating,
            "int8": trained.int8,
            "lazy": {str(percent): bench.accuracy(percent) for percent in SHARES},
        },
        "lazy_bytes": {"dense": bench.lazy_bytes(100), "50": bench.lazy_bytes(50)},
        "cycles": {"dense": bench.cycles(100), "50": bench.cycles(50)},
        "emit_seconds": emit_seconds,
        "hls_seconds": min(seconds),
    }
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
