"""A search for the designs that give most accuracy for least cost.

NSGA-II (Deb et al. 2002, in Optuna) over the shares of filters of lazy layers and what else a recipe's [explore] lists:
predictors, bit widths, pruning, lanes, pinned filters. Objectives are accuracy and some of `COSTS`; what does not fit
the recipe's board is no answer. The search judges on training images that the predictors were not fitted on; the front
is then measured on held-out ones. Finished trials are kept in a database, so that a search goes on where it was
stopped, and any number of them share one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flow import boards
from flow.convert import integer_frames
from flow.errors import UserError
from flow.network import channels_last
from flow.recipe import PruneSection, Recipe
from hw.design import Design, IntArray, Lanes, Mode
from hw.resources import resources
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.energy import USUAL, energy, macs
from sim.memory import Dram, Memory
from sw.archive import first_line
from sw.train import write_atomically

if TYPE_CHECKING:
    from flow.steps import Flow

COSTS = {
    "bytes": "bytes fetched per frame",
    "cycles": "cycles of one frame alone, from its first pixel to its last logit, by the cycle model",
    "energy": "joules per frame, an estimate",
    "multipliers": "multipliers of the design",
    "memory": "bits of memory on chip",
}
STEPS = 8  # keep ratios are multiples of 1/8
POPULATION = 24
ATTEMPTS = 5  # to open a database that others open too
FOLDER = "explore"  # of the networks and predictors that were tried, in the workspace

Value = str | int | float


class Budget(BaseModel):
    """Settings by the recipe's keys, and what they give: `searched` on training images, the others on test images.

    Accuracy is a share of the images; `macs` and costs are means per frame, the latter by their names in `COSTS`.
    """

    settings: dict[str, Value]
    searched_accuracy: float
    searched: dict[str, float]
    accuracy: float
    macs: float
    costs: dict[str, float]


class Front(BaseModel):
    """Budgets that no other one beats in accuracy and all costs, cheapest by the first cost first."""

    study: str
    trials: int
    images: int
    budgets: list[Budget]


# -- what there is to choose from --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Space:
    """`options` by the recipe's keys; `lazy` layers, whose shares of filters are chosen too."""

    lazy: tuple[str, ...]
    options: Mapping[str, tuple[Value, ...]]

    @staticmethod
    def of(recipe: Recipe, design: Design) -> Space:
        """What the recipe's [explore] lists, for the layers of `design`."""
        section, lazy = recipe.explore, tuple(layer.name for layer in design.lazy_layers)
        kinds = [[f"low_rank {rank}" for rank in section.ranks] if x == "low_rank" else [x] for x in section.predictors]
        options: dict[str, tuple[Value, ...]] = {
            "predictor": tuple(kind for alike in kinds for kind in alike),
            "quantise.weights": section.weights,
            "quantise.activations": section.activations,
            "prune.ratio": section.pruned,
            "engine.filter_lanes": section.filter_lanes,
            "engine.pixel_lanes": section.pixel_lanes,
        }
        options |= {f"layers.{x.name}.lanes": tuple(map(_lanes_text, section.head_lanes)) for x in design.head}
        options |= {f"layers.{name}.pinned": section.pinned for name in lazy}
        return Space(lazy, {key: values for key, values in options.items() if values})

    def equal_shares(self) -> list[dict[str, Value]]:
        """Trials to begin with: all lazy layers alike, of everything else the first value."""
        first = {key: values[0] for key, values in self.options.items()}
        return [first | {_keep(name): step for name in self.lazy} for step in range(1, STEPS + 1)]

    def suggest(self, trial: Any) -> dict[str, Value]:
        """What an Optuna trial is to try, as `settings` reads it from a finished one."""
        for name in self.lazy:
            trial.suggest_int(_keep(name), 1, STEPS)
        for key, values in self.options.items():
            trial.suggest_categorical(key, values)
        return self.settings(trial)

    def keep(self, settings: Mapping[str, Value]) -> dict[str, float]:
        """The shares of filters in `settings`, by lazy layer."""
        return {name: float(settings[_keep(name)]) for name in self.lazy}

    def settings(self, trial: Any) -> dict[str, Value]:
        """What an Optuna trial has tried, by the recipe's keys."""
        keeps = {_keep(name) for name in self.lazy}
        return {key: value / STEPS if key in keeps else value for key, value in trial.params.items()}


def _keep(layer: str) -> str:
    return f"layers.{layer}.keep"


def _lanes_text(lanes: tuple[int, int]) -> str:
    return f"{lanes[0]} x {lanes[1]}"


def variant(recipe: Recipe, settings: Mapping[str, Value]) -> Recipe:
    """The recipe whose network and predictors are those of `settings`."""
    changes: dict[str, Any] = {}
    widths = {key: settings[f"quantise.{key}"] for key in ("weights", "activations") if f"quantise.{key}" in settings}
    if widths:
        changes["quantise"] = recipe.quantise.model_copy(update=widths)
    if (ratio := settings.get("prune.ratio")) is not None:
        pruned = recipe.prune or PruneSection(ratio=0.5)
        changes["prune"] = pruned.model_copy(update={"ratio": ratio}) if ratio else None
    if (predictor := settings.get("predictor")) is not None:
        kind, *rank = str(predictor).split()
        fitted = {"kind": kind, "select": Mode.TOP} | ({"rank": int(rank[0])} if rank else {})
        changes["predictor"] = recipe.predictor.model_copy(update=fitted)
    return recipe.model_copy(update=changes)


def sized(design: Design, settings: Mapping[str, Value], ranking: Mapping[str, IntArray]) -> Design:
    """`design` with the lanes and the numbers of pinned filters of `settings`, the first ones in `ranking`."""
    lanes = design.engine.lanes
    filters, pixels = (
        int(settings.get(f"engine.{key}", now))
        for key, now in (("filter_lanes", lanes.filters), ("pixel_lanes", lanes.pixels))
    )
    head, tail = [], []
    for layer in design.head:
        text = settings.get(f"layers.{layer.name}.lanes")
        head.append(layer if text is None else replace(layer, lanes=Lanes(*map(int, str(text).split(" x ")))))
    for layer in design.tail:
        if (count := settings.get(f"layers.{layer.name}.pinned")) is not None:
            first = ranking[layer.name][: int(count)]
            layer = replace(layer, pinned=tuple(sorted(first.tolist())))
        tail.append(layer)
    engine = replace(design.engine, lanes=Lanes(filters, pixels))
    return replace(design, head=tuple(head), tail=tuple(tail), engine=engine)


# -- what a choice gives -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Judged:
    """Accuracy as a share of the frames, multiplications per frame, and the `costs` that were asked for."""

    accuracy: float
    macs: float
    costs: dict[str, float]


@dataclass(frozen=True, eq=False)
class Judge:
    """Labelled `maps` that the first lazy layer of a design reads, and what the layers `before` it do, as every trial.

    Lanes and pinned filters of lazy layers may be others than those of the design that it was made with.
    """

    design: Design
    maps: IntArray
    labels: NDArray[np.int64]
    memory: Memory
    before: Masks

    @staticmethod
    def of(design: Design, frames: IntArray, labels: NDArray[np.int64], memory: Memory) -> Judge:
        """Run integer `frames` (n, c, h, w) up to the first lazy layer, which every trial does alike."""
        maps = frames
        for layer in design.head:
            maps = golden.layer(layer, maps).output
        present, chosen = [], []
        for layer in design.tail[: _first(design)]:
            trace = golden.layer(layer, maps)
            present.append(trace.strengths > 0)
            chosen.append(trace.chosen)
            maps = trace.output
        modes, there = (Mode.TOP,) * len(chosen), tuple(present)
        return Judge(design, maps, labels, memory, Masks(there, there, tuple(chosen), modes, ()))

    def judge(self, keep: Mapping[str, float], wanted: Collection[str]) -> Judged:
        """What shares of filters by layer give, and those of `COSTS` that are `wanted`."""
        counts = {x.name: max(1, round(keep[x.name] * x.filters)) for x in self.design.lazy_layers}
        run = golden.run(self._rest, self.maps, counts, maps=False)
        masks = self.before.followed_by(Masks.of(self._rest, run, counts))
        accuracy = float((run.outputs.argmax(axis=1) == self.labels).mean())
        return Judged(accuracy, float(macs(self.design, masks).mean()), self._costs(masks, wanted))

    def _costs(self, masks: Masks, wanted: Collection[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        if {"bytes", "cycles", "energy"} & set(wanted):
            run = self._model.alone(masks)
            name = self.memory.name if isinstance(self.memory, Dram) else USUAL
            found["bytes"], found["cycles"] = float(run.bytes.mean()), float(run.latency.mean())
            found["energy"] = float(energy(self.design, masks, run, name).total.mean())
        if {"multipliers", "memory"} & set(wanted):
            needs = resources(self.design)
            found |= {"multipliers": float(needs.multipliers), "memory": float(needs.memory_bits)}
        return {name: found[name] for name in wanted}

    @cached_property
    def _rest(self) -> Design:
        rest = self.design.tail[_first(self.design) :]
        return Design(self.design.name, rest[0].input, rest[0].input_format, (), rest, self.design.engine)

    @cached_property
    def _model(self) -> CycleModel:
        return CycleModel(self.design, self.memory)


def _first(design: Design) -> int:
    """Index in the tail of the first lazy layer; of a design with branches 0, for what they skip is read later."""
    if any(layer.residual is not None or layer.reads is not None for layer in design.tail):
        return 0
    return next(i for i, layer in enumerate(design.tail) if layer.lazy)


class Judges:
    """Judges of a recipe's variants, on training images that its predictors were not fitted on or on test images.

    The networks and predictors that variants need are made on first use, in folders of the workspace, and kept.
    """

    def __init__(self, flow: Flow, images: int) -> None:
        self._flow, self._images = flow, images
        self._flows: dict[Path, Flow] = {}
        self._judges: dict[tuple[Path, bool], Judge] = {}
        self._rankings: dict[Path, dict[str, IntArray]] = {}

    def of(self, settings: Mapping[str, Value], test: bool = False) -> Judge:
        """The judge of a design with `settings`."""
        flow = self._variant(settings)
        key = flow.workspace.folder, test
        if key not in self._judges:
            self._judges[key] = self._made(flow, test)
        judge = self._judges[key]
        if any(_of_design(key) and not key.endswith(".keep") for key in settings):
            judge = replace(judge, design=sized(judge.design, settings, self._ranking(flow, settings)))
        return judge

    def _variant(self, settings: Mapping[str, Value]) -> Flow:
        """The flow of the network and predictors in `settings`; a network is made once for all predictors."""
        flow, tried = self._flow, {key: value for key, value in settings.items() if not _of_design(key)}
        for part in ({key: value for key, value in tried.items() if key != "predictor"}, tried):
            recipe = variant(self._flow.recipe, part)
            if recipe == flow.recipe:
                continue
            name = "_".join(f"{key.rpartition('.')[2]} {value}".replace(" ", "_") for key, value in part.items())
            workspace = flow.workspace.branch(f"{FOLDER}/{name}")
            if workspace.folder not in self._flows:
                made = replace(flow, recipe=recipe, workspace=workspace, console=Console(quiet=True))
                made.run(hardware=False)
                self._flows[workspace.folder] = made
            flow = self._flows[workspace.folder]
        return flow

    def _made(self, flow: Flow, test: bool) -> Judge:
        if test:
            labels = flow.frames.labels
            assert labels is not None  # recipes with [data] have them
            return Judge.of(flow.design, flow.test_frames, labels, flow.memory)
        data, fitted = flow.data, min(flow.recipe.predictor.frames, len(flow.data.train_x))
        left = fitted < len(data.train_x)
        chosen = slice(max(0, len(data.train_x) - self._images), None) if left else slice(self._images)
        frames = integer_frames(flow.graph, channels_last(data.train_x[chosen]))
        return Judge.of(flow.design, frames, data.train_y[chosen], flow.memory)

    def _ranking(self, flow: Flow, settings: Mapping[str, Value]) -> dict[str, IntArray]:
        """Filters to pin, of each layer; as the flow itself ranks them."""
        if not any(key.endswith(".pinned") for key in settings):
            return {}
        if (folder := flow.workspace.folder) not in self._rankings:
            tail = tuple(replace(layer, pinned=()) for layer in flow.design.tail)
            calibration = integer_frames(flow.graph, flow.frames.calibration[: flow.recipe.predictor.frames])
            self._rankings[folder] = flow.ranking(replace(flow.design, tail=tail), calibration)
        return self._rankings[folder]


def _of_design(key: str) -> bool:
    """Whether a setting changes neither network nor predictors."""
    return key.startswith(("engine.", "layers."))


# -- the search --------------------------------------------------------------------------------------------------------
def explore(
    flow: Flow,
    trials: int,
    images: int,
    storage: str | None = None,
    costs: Sequence[str] = ("bytes",),
    name: str | None = None,
) -> Front:
    """Search until `trials` are finished, and measure the front on all held-out frames.

    `images` training images judge a trial, by accuracy and `costs`, names in `COSTS`. `storage` is a database URL; by
    default a SQLite file in the workspace. Whoever calls the study by the same `name` there takes part in it; by
    default it is made of all that the trials depend on. Writes ``front.json``. UserError for a cost that there is not,
    if the design has no lazy layer, if Optuna or a database's driver is not installed, or if nothing fits the board.
    """
    costs = tuple(dict.fromkeys(costs))
    if not costs or not set(costs) <= set(COSTS):
        raise UserError(f"objectives are {', '.join(costs) or 'none'}; accepted: some of {', '.join(COSTS)}")
    optuna, _ = _optuna()
    if flow.recipe.data is None:
        raise UserError(f"recipe '{flow.recipe.name}' has no labelled images to judge by; accepted: one with [data]")
    flow.run(hardware=False)
    if not flow.design.lazy_layers:
        raise UserError(
            f"recipe '{flow.recipe.name}' has no lazy layer; accepted: at least one with weights = \"lazy\""
        )
    space, judges = Space.of(flow.recipe, flow.design), Judges(flow, images)
    board = None if flow.recipe.board is None else boards.board(flow.recipe.board.name)
    name = name or _name(flow, space, images, costs)
    url = storage or f"sqlite:///{flow.path('explore.db')}"
    study = opened(url, name, None if storage else flow.recipe.seed, costs)
    if not study.trials:
        for settings in space.equal_shares():
            study.enqueue_trial(settings, skip_if_exists=True)

    def objective(trial: Any) -> tuple[float, ...]:
        settings = space.suggest(trial)
        judge = judges.of(settings)
        if board is not None:
            for what, share in board.shares(judge.design).items():
                trial.set_constraint(what, share - boards.USABLE)
        found = judge.judge(space.keep(settings), costs)
        return found.accuracy, *found.costs.values()

    def finished() -> int:
        return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    flow.console.print(f"study '{name}' in {shown(url)}", highlight=False, soft_wrap=True)
    with Progress(console=flow.console, transient=True, disable=not flow.console.is_terminal) as progress:
        task = progress.add_task("trials", total=trials, completed=finished())
        while finished() < trials:
            study.optimize(objective, n_trials=1)
            progress.update(task, completed=finished())
    budgets: dict[str, Budget] = {}
    for best in study.best_trials:
        settings = space.settings(best)
        found = judges.of(settings, test=True).judge(space.keep(settings), costs)
        budgets[json.dumps(settings, sort_keys=True)] = Budget(
            settings=settings,
            searched_accuracy=best.values[0],
            searched=dict(zip(costs, best.values[1:], strict=True)),
            accuracy=found.accuracy,
            macs=found.macs,
            costs=found.costs,
        )
    if not budgets:
        raise UserError(f"none of {finished()} trials fits {board}; accepted: smaller values in [explore]")
    ordered = sorted(budgets.values(), key=lambda budget: [budget.searched[name] for name in costs])
    front = Front(study=name, trials=finished(), images=images, budgets=ordered)
    write_atomically(flow.path("front.json"), (front.model_dump_json(indent=1) + "\n").encode())
    return front


def _name(flow: Flow, space: Space, images: int, costs: Sequence[str]) -> str:
    """What a study is called that has these settings and no others."""
    made_from = [flow.design.fingerprint, sorted(space.options.items()), images, costs]
    digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]
    return "-".join([flow.recipe.name, *costs, digest])


def opened(storage: str, name: str, seed: int | None, costs: Sequence[str]) -> Any:
    """The search called `name` in the database at a URL, new or as it was left.

    With a `seed` it goes on with other draws than it began with; without, no two searches draw the same. UserError if
    there is no such database, or the name is another search's.
    """
    optuna, sqlalchemy = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize", *["minimize"] * len(costs)]
    raced = sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError
    try:
        for attempt in itertools.count():
            try:
                study = optuna.create_study(
                    storage=storage, study_name=name, directions=directions, load_if_exists=True
                )
                break
            except raced:  # another worker makes the tables of an empty database at this moment
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0.2 * attempt)
    except Exception as error:  # of SQLAlchemy, of a driver that it loads, or of Optuna
        why = first_line(error)
        if isinstance(error, ImportError) and storage.startswith("postgres"):
            why += f" {error.__cause__}; install it with: pip install 'penstock[postgres]'"
        raise UserError(
            f"'{shown(storage)}' is no database that a search can use ({why}); accepted: a "
            "database URL such as sqlite:///FILE, or none"
        ) from error
    if len(study.directions) != len(directions):
        raise UserError(f"study '{name}' has {len(study.directions)} objectives; accepted: a name that is not taken")
    seed = None if seed is None else seed + len(study.trials)
    study.sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["accuracy", *costs])  # optuna-dashboard shows them
    return study


def shown(storage: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", storage)


def table(front: Front) -> Table:
    """The front for people."""
    result = Table(title=f"front of {front.trials} trials", title_justify="left")
    settings, costs = list(front.budgets[0].settings), list(front.budgets[0].costs)
    for column in (*(key.removeprefix("layers.").removesuffix(".keep") for key in settings), "accuracy", *costs):
        result.add_column(column, justify="right")
    for budget in front.budgets:
        chosen = (f"{100 * float(x):g} %" if key.endswith(".keep") else str(x) for key, x in budget.settings.items())
        values = (f"{value:,.0f}" if value >= 100 else f"{value:.4g}" for value in budget.costs.values())
        result.add_row(*chosen, f"{100 * budget.accuracy:.2f} %", *values)
    return result


def _optuna() -> tuple[ModuleType, ModuleType]:
    """Optuna, and SQLAlchemy with which it keeps studies."""
    try:
        import optuna
        import sqlalchemy
    except ImportError as error:
        raise UserError("exploration needs Optuna; install it with: pip install 'penstock[explore]'") from error
    return optuna, sqlalchemy
