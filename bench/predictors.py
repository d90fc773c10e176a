"""Kinds of predictor on the recipe's test set: accuracy, recall, bytes fetched, and what each costs on chip.

Golden model only, which the RTL equals (`make test`). The network is trained once, predictors are fitted per kind. Then
it is trained again for every way in which lazy layers practise (`quantise.gate_by`), at three seeds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from pydantic import JsonValue
from rich.console import Console

from bench.table import Report, parser
from flow import recipe as recipes
from flow.convert import Fitting, Plan, convert, fit_predictors, integer_frames, keep_share, with_predictors
from flow.recipe import PredictorSection, Recipe
from flow.steps import MODEL, Flow, share, trained_predictors
from flow.workspace import Workspace
from hw.design import Design, IntArray, Mode, Selection
from sim import golden
from sim.golden import GoldenRun
from sw.losses import LOSSES
from sw.predictors import top

RECIPE = Path("recipes/digits.toml")
SHARES = (0.25, 0.5)
KINDS = (
    PredictorSection(kind="linear"),
    PredictorSection(kind="linear", select=Mode.THRESHOLD),
    *(PredictorSection(kind="linear", loss=loss) for loss in LOSSES),
    PredictorSection(kind="low_rank", rank=2),
    PredictorSection(kind="low_rank", rank=4),
    PredictorSection(kind="low_rank", rank=8),
    PredictorSection(kind="paths"),
    PredictorSection(kind="paths", select=Mode.TOP),
    PredictorSection(kind="classes"),
)

PRACTICES = ("strength", "prediction", "training")
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Measured:
    """One kind at one share: what it took, and what it was worth."""

    name: str
    share: float
    accuracy: float
    recall: float
    filters: float
    bytes: float
    macs: int
    table_bytes: float


def label(section: PredictorSection) -> str:
    """How a kind is called in the table."""
    rank = f" {section.rank}" if section.kind == "low_rank" else ""
    told = (section.select or "", f"{section.loss} loss" if section.loss != "squared" else "")
    return ", ".join((f"{section.kind}{rank}", *filter(None, told)))


@dataclass(frozen=True)
class Network:
    """The recipe's network, with every layer of the tail dense or with predictors of any kind."""

    flow: Flow

    @cached_property
    def dense(self) -> Design:
        """The accelerator without predictors."""
        model = onnx.load(self.flow.path(MODEL))
        design: Design = convert(model, self.flow.recipe, self.flow.workspace.folder).penstock.design
        return design

    @cached_property
    def fitting(self) -> tuple[IntArray, IntArray]:
        """Calibration frames and their labels."""
        frames = integer_frames(self.flow.graph, self.flow.frames.calibration)
        return frames, self.flow.data.train_y[: len(frames)].astype(np.int64)

    def lazy(self, section: PredictorSection, kept: float) -> Design:
        """With predictors of that kind, fitted for that share of filters; none are pinned."""
        recipe = self.flow.recipe.model_copy(update={"predictor": section})
        layers = Plan.of(recipe, self.dense).lazy
        plan = Plan({name: layer.model_copy(update={"keep": kept, "pinned": 0}) for name, layer in layers.items()})
        trained = trained_predictors(self.flow, plan) if section.kind == "trained" else {}
        fitting = Fitting(recipe, *self.fitting, trained)
        return with_predictors(self.dense, recipe, plan, fit_predictors(self.dense, plan, fitting))


def recall(design: Design, run: GoldenRun, kept: float) -> float:
    """Share of the filters of highest strength, as many as are to be kept, that are computed."""
    hits = wanted = 0
    keep = keep_share(design, kept)
    for before, layer in pairwise(design.layers):
        if layer.lazy:
            full = golden.layer(layer, run.layer(before.name).output, Selection(Mode.ALL))
            best = top(golden.strength(full.output), keep[layer.name])
            hits += int((best & run.layer(layer.name).chosen).sum())
            wanted += int(best.sum())
    return hits / wanted


def measure(network: Network, section: PredictorSection, kept: float) -> Measured:
    """Fit one kind and run all test frames."""
    design, flow = network.lazy(section, kept), network.flow
    run = golden.run(design, flow.test_frames)
    traces = [run.layer(layer.name) for layer in design.lazy_layers]
    predictors = [layer.predictor for layer in design.lazy_layers if layer.predictor is not None]
    return Measured(
        name=label(section),
        share=kept,
        accuracy=share(run.outputs.argmax(axis=1) == flow.frames.labels),
        recall=recall(design, run, kept),
        filters=float(np.mean([trace.chosen.mean() for trace in traces])),
        bytes=float(sum(trace.bytes.mean() for trace in traces)),
        macs=sum(predictor.macs for predictor in predictors),
        table_bytes=sum(predictor.table_bits for predictor in predictors) / 8,
    )


def practised(recipe: Recipe, by: str, seed: int) -> Network:
    """The recipe's network, trained with that seed while lazy layers practise so, and with the predictors of it."""
    updates = {
        "name": f"{recipe.name}_{by}_{seed}",
        "seed": seed,
        "quantise": recipe.quantise.model_copy(update={"gate_by": by}),
        "predictor": PredictorSection(kind="trained" if by == "training" else "linear"),
    }
    flow = Flow(recipe.model_copy(update=updates), Workspace(Path("build/bench") / str(updates["name"])), Console())
    flow.run(hardware=False)
    return Network(flow)


def main() -> int:
    """Measure, compare, print."""
    options = parser(__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--recipe", type=Path, default=RECIPE)
    arguments = options.parse_args()
    recipe = recipes.load(arguments.recipe)
    flow = Flow(recipe, Workspace(Path("build/bench") / recipe.name), Console())
    flow.run(hardware=False)
    network = Network(flow)
    found = [measure(network, section, kept) for section in KINDS for kept in SHARES]
    report = Report(f"{recipe.name}: kinds of predictor, {len(flow.test_frames)} test frames")
    dense = golden.run(network.dense, flow.test_frames, maps=False)
    report.row("all filters: accuracy", f"{100 * share(dense.outputs.argmax(axis=1) == flow.frames.labels):.2f} %")
    for one in found:
        report.row(
            f"{one.name}, {100 * one.share:g} %: accuracy, recall, filters computed; lazy bytes; MACs, table bytes",
            f"{100 * one.accuracy:.2f} %, {100 * one.recall:.1f} %, {100 * one.filters:.1f} %; {one.bytes:,.0f}; "
            f"{one.macs:,}, {one.table_bytes:,.0f}",
        )
    practices: list[JsonValue] = []
    for by in PRACTICES:
        networks = [practised(recipe, by, seed) for seed in SEEDS]
        for kept in SHARES:
            runs = [measure(network, network.flow.recipe.predictor, kept) for network in networks]
            accuracies, recalls = [100 * one.accuracy for one in runs], [100 * one.recall for one in runs]
            report.row(
                f"practice by {by}, {100 * kept:g} %: accuracy at {len(SEEDS)} seeds, recall",
                f"{np.mean(accuracies):.2f} % ({min(accuracies):.2f}-{max(accuracies):.2f}), {np.mean(recalls):.1f} %",
            )
            practices.append({"by": by, "share": kept, "accuracy": [one.accuracy for one in runs]})
    figures: dict[str, JsonValue] = {"kinds": [dict(vars(one)) for one in found], "practices": practices}
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
