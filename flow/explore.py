"""A budget for each lazy layer: which shares of filters give most accuracy for least cost.

NSGA-II (Deb et al. 2002, in Optuna) over the keep ratios; objectives are accuracy and some of `COSTS`. The search
judges on training images that the predictors were not fitted on; the front is then measured on held-out ones. Finished
trials are kept in a database, so that a search goes on where it was stopped, and several can share one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.progress import Progress
from rich.table import Table

from flow import lazy
from flow.convert import integer_frames
from flow.errors import UserError
from flow.network import channels_last
from hw.design import Design, IntArray
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.energy import USUAL, energy
from sim.memory import Dram, Memory
from sw.archive import first_line
from sw.train import write_atomically

if TYPE_CHECKING:
    from flow.steps import Flow

COSTS = {
    "bytes": "bytes that lazy layers fetch per frame",
    "cycles": "cycles of the engine per frame alone, from the first lazy layer on, by the cycle model",
    "energy": "joules of these cycles, an estimate",
}
STEPS = 8  # keep ratios are multiples of 1/8
POPULATION = 24


class Budget(BaseModel):
    """Shares of filters by lazy layer, and what they give: `searched` on training images, the others on test images.

    Accuracy is a share of the images; costs are means per frame, by their names in `COSTS`.
    """

    keep: dict[str, float]
    searched_accuracy: float
    searched: dict[str, float]
    accuracy: float
    bytes: float
    macs: float
    costs: dict[str, float]


class Front(BaseModel):
    """Budgets that no other one beats in accuracy and all costs, cheapest by the first cost first."""

    trials: int
    images: int
    budgets: list[Budget]


@dataclass(frozen=True, eq=False)
class Judge:
    """Labelled maps that the first lazy layer of a design reads, and the rest of the design."""

    design: Design
    maps: IntArray
    labels: NDArray[np.int64]
    memory: Memory

    @staticmethod
    def of(design: Design, frames: IntArray, labels: NDArray[np.int64], memory: Memory) -> Judge:
        """Run integer `frames` (n, c, h, w) up to the first lazy layer, which every trial does alike."""
        first = next(i for i, layer in enumerate(design.tail) if layer.lazy)
        maps = frames
        for layer in (*design.head, *design.tail[:first]):
            maps = golden.layer(layer, maps).output
        rest = design.tail[first:]
        left = Design(design.name, rest[0].input, rest[0].input_format, (), rest, design.engine)
        return Judge(left, maps, labels, memory)

    def judge(self, keep: Mapping[str, float]) -> lazy.Point:
        """What shares of filters by layer give."""
        counts = self._counts(keep)
        (point,) = lazy.study(self.design, self.maps, self.labels, {"predicted": lazy.predicted}, [0.0], [counts])
        return point

    def costs(self, keep: Mapping[str, float], point: lazy.Point, wanted: Collection[str]) -> dict[str, float]:
        """Those of `COSTS` that are `wanted`, of shares whose `point` is known."""
        found = {"bytes": point.bytes}
        if {"cycles", "energy"} & set(wanted):
            counts = self._counts(keep)
            masks = Masks.of(self.design, golden.run(self.design, self.maps, counts, maps=False), counts)
            run = self._model.alone(masks)
            name = self.memory.name if isinstance(self.memory, Dram) else USUAL
            found["cycles"] = float(run.engine.mean())
            found["energy"] = float(energy(self.design, masks, run, name).total.mean())
        return {name: found[name] for name in wanted}

    @cached_property
    def _model(self) -> CycleModel:
        return CycleModel(self.design, self.memory)

    def _counts(self, keep: Mapping[str, float]) -> dict[str, int]:
        filters = {layer.name: layer.filters for layer in self.design.lazy_layers}
        return {name: max(1, round(share * filters[name])) for name, share in keep.items()}


def explore(
    flow: Flow, trials: int, images: int, storage: str | None = None, costs: Sequence[str] = ("bytes",)
) -> Front:
    """Search until `trials` are finished, and measure the front on all held-out frames.

    `images` training images judge a trial, by accuracy and `costs`, names in `COSTS`. `storage` is a database URL; by
    default a SQLite file in the workspace. Writes ``front.json``. UserError for a cost that there is not, if the design
    has no lazy layer, or if Optuna is not installed.
    """
    costs = tuple(dict.fromkeys(costs))
    if not costs or not set(costs) <= set(COSTS):
        raise UserError(f"objectives are {', '.join(costs) or 'none'}; accepted: some of {', '.join(COSTS)}")
    optuna = _optuna()
    if flow.recipe.data is None:
        raise UserError(f"recipe '{flow.recipe.name}' has no labelled images to judge by; accepted: one with [data]")
    flow.run(hardware=False)
    design, data = flow.design, flow.data
    if not design.lazy_layers:
        raise UserError(
            f"recipe '{flow.recipe.name}' has no lazy layer; accepted: at least one with weights = \"lazy\""
        )
    fitted = min(flow.recipe.predictor.frames, len(data.train_x))
    chosen = slice(max(0, len(data.train_x) - images), None) if fitted < len(data.train_x) else slice(images)
    frames = integer_frames(flow.graph, channels_last(data.train_x[chosen]))
    judge = Judge.of(design, frames, data.train_y[chosen], flow.memory)
    study = opened(
        storage or f"sqlite:///{flow.path('explore.db')}",
        "-".join([flow.recipe.name, f"{design.fingerprint:016x}", str(images), *costs]),
        flow.recipe.seed,
        costs,
    )
    names = [layer.name for layer in design.lazy_layers]
    if not study.trials:
        for step in range(1, STEPS + 1):
            study.enqueue_trial(dict.fromkeys(names, step))

    def objective(trial: Any) -> tuple[float, ...]:
        keep = {name: trial.suggest_int(name, 1, STEPS) / STEPS for name in names}
        point = judge.judge(keep)
        return point.accuracy, *judge.costs(keep, point, costs).values()

    def finished() -> int:
        return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    with Progress(console=flow.console, transient=True, disable=not flow.console.is_terminal) as progress:
        task = progress.add_task("trials", total=trials, completed=finished())
        while finished() < trials:
            study.optimize(objective, n_trials=1)
            progress.update(task, completed=finished())
    test = Judge.of(design, flow.test_frames, _labels(flow), flow.memory)
    budgets: dict[tuple[int, ...], Budget] = {}
    for best in study.best_trials:
        keep = {name: best.params[name] / STEPS for name in names}
        point = test.judge(keep)
        budgets[tuple(best.params[name] for name in names)] = Budget(
            keep=keep,
            searched_accuracy=best.values[0],
            searched=dict(zip(costs, best.values[1:], strict=True)),
            accuracy=point.accuracy,
            bytes=point.bytes,
            macs=point.macs,
            costs=test.costs(keep, point, costs),
        )
    ordered = sorted(budgets.values(), key=lambda budget: [budget.searched[name] for name in costs])
    front = Front(trials=finished(), images=len(frames), budgets=ordered)
    write_atomically(flow.path("front.json"), (front.model_dump_json(indent=1) + "\n").encode())
    return front


def opened(storage: str, name: str, seed: int, costs: Sequence[str]) -> Any:
    """The search called `name` in the database at a URL, new or as it was left; UserError if there is no database."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed),
            directions=["maximize", *["minimize"] * len(costs)],
            load_if_exists=True,
        )
    except Exception as error:  # of SQLAlchemy, of a driver that it loads, or of Optuna
        raise UserError(
            f"'{storage}' is no database that a search can use ({first_line(error)}); accepted: a database URL such as "
            "sqlite:///FILE, or none"
        ) from error


def table(front: Front) -> Table:
    """The front for people."""
    layers = list(front.budgets[0].keep)
    result = Table(title=f"front of {front.trials} trials", title_justify="left")
    costs = list(front.budgets[0].costs)
    for column in (*layers, "accuracy", "lazy bytes", *(name for name in costs if name != "bytes")):
        result.add_column(column, justify="right")
    for budget in front.budgets:
        shares = (f"{100 * budget.keep[name]:g} %" for name in layers)
        others = (f"{value:,.4g}" for name, value in budget.costs.items() if name != "bytes")
        result.add_row(*shares, f"{100 * budget.accuracy:.2f} %", f"{budget.bytes:,.0f}", *others)
    return result


def _labels(flow: Flow) -> NDArray[np.int64]:
    labels = flow.frames.labels
    assert labels is not None  # recipes with [data] have them
    return labels


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise UserError("exploration needs Optuna; install it with: pip install 'penstock[explore]'") from error
    return optuna
