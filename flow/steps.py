"""The steps from a recipe to verified RTL. Each reads and writes files of the recipe's workspace, `build/<name>/`.

    data, model ─► train ─► (prune) ─► quantise ─┬► (order) ─► export ─┐
    a checkpoint ────────────────────► restore ──┘                     ├─► (board) ─► predict ─► emit ─► measure
    a QONNX file ────────────────────────────────────────────► adopt ──┘                   (or ─► vitis: HLS C++)

`penstock synth` adds one: emit ─► synth. A step runs only if what it is made from has changed (`flow.workspace`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from pydantic import BaseModel, JsonValue
from rich.console import Console
from torch import nn

import hw.synthesis
import quant.checkpoint
import quant.export
import quant.lazy
import quant.plain
import quant.train
import sw.data
import sw.gate
import sw.models
import sw.train
from flow import boards, figures, handed
from flow.compare import Difference, differences
from flow.convert import (
    Fitting,
    Plan,
    Selected,
    by_choice,
    convert,
    fit_predictors,
    integer_frames,
    pinned,
    with_predictors,
)
from flow.errors import UserError, VerificationError
from flow.network import Frames, OwnNetwork, channels_last, load_calibration, write_npz
from flow.recipe import FitSection, LayerSection, PruneSection, Recipe, Section, lazy_layers
from flow.workspace import Step, Workspace, code_digest, digest
from hw.design import Design, DesignError, Engine, IntArray, Lanes, Source
from hw.emit.hls import Vectors, emit_hls
from hw.image import layout
from hw.options import kept_filters
from hw.synthesis import DISTRIBUTIONS, SynthesisReport
from quant.check import compare
from quant.layers import QuantNetwork
from sim import golden
from sim.golden import GoldenRun
from sim.hls import HlsModel, HlsRun
from sim.hls import build as build_hls
from sim.memory import FixedLatency, Memory, Stalls
from sim.verilated import RtlRun, VerilatedModel, build
from sw import predictors
from sw.archive import first_line
from sw.order import reordered
from sw.paths.hardware import HardwarePaths, co_activation_order
from sw.pruning import schedules, scores
from sw.pruning.masks import Pruned, Unit, shrink

FLOAT, PRUNED, QUANTISED = "float.pt", "pruned.pt", "quantised.pt"
ORDERED, ORDERS = "ordered.pt", "orders.npz"
MODEL, FRAMES, ACCURACY = "model.onnx", "frames.npz", "accuracy.json"
PREDICTORS, SELECTED, BOARD = "predictors.npz", "selected.json", "board.json"
RTL, IMAGE, MANIFEST, DRIVER, VECTORS = "rtl", "weights.bin", "manifest.json", "driver.json", "vectors.npz"
FIGURES, SIMULATION = "figures.json", "simulation"
HLS = "hls"
SYNTHESIS, NETLISTS = "synthesis.json", "synthesis"


MASK = "mask/"  # opens the names of masks in the file of a pruned network


class Fitted(BaseModel):
    """What a board has decided: keys of [engine], and the lanes of head stages by name; `said` for people."""

    engine: dict[str, int]
    stages: dict[str, tuple[int, int]]
    said: str

    def lanes(self, layers: dict[str, LayerSection]) -> dict[str, LayerSection]:
        """`layers` with those of the head stages."""
        added = {
            name: layers.get(name, LayerSection()).model_copy(update={"lanes": pair})
            for name, pair in self.stages.items()
        }
        return layers | added


class TrainedAccuracy(BaseModel):
    """Shares of held-out frames that are named right."""

    floating: float
    int8: float


@dataclass(frozen=True)
class Flow:
    """One recipe, its workspace, and where progress is shown."""

    recipe: Recipe
    workspace: Workspace
    console: Console

    def run(self, hardware: bool = True) -> None:
        """Bring everything up to date; without `hardware` up to the design, predictors included.

        UserError and `DesignError` for what cannot be built.
        """
        check(self.recipe)
        with self.workspace.locked():
            if self.recipe.onnx is None:
                self.prepare()
                if self.recipe.model is None or self.recipe.model.checkpoint is None:
                    self._step("quantise", "quantised network trained", quantise, own_progress=True)
                if self.recipe.order != "trained":
                    self._step("order", "filters put in order", order)
                self._step("export", "QONNX written, equal to Brevitas on every test frame", export)
            else:
                self._step("adopt", "QONNX and calibration inputs read", adopt)
            if self.recipe.board is not None:
                self._step("board", "lanes chosen for the board", fit)
                self.console.print(f"            {self._fitted.said}", highlight=False, soft_wrap=True)
            self._step("predict", "predictors fitted", predict)
            if not hardware:
                return
            self._step("emit", "RTL, weight image and golden vectors written", emit)
            self._step("measure", "RTL built and run, equal to the golden model", measure)

    def vitis(self) -> None:
        """Bring the Vitis HLS project up to date, and the C simulation of it that is equal to the golden model."""
        self.run(hardware=False)
        with self.workspace.locked():
            self._step("vitis", "Vitis HLS project written, its C simulation equal to the golden model", vitis)

    def train(self) -> Path:
        """Train what the recipe's checkpoint holds, as its sections say, and write the checkpoint; where it lies."""
        if self.recipe.model is None or self.recipe.model.checkpoint is None:
            raise UserError(f"recipe '{self.recipe.name}' names no model.checkpoint to write; 'penstock hls' trains it")
        check(self.recipe, trained=False)
        with self.workspace.locked():
            self._step("train", "float network trained", train, own_progress=True)
            self._step("quantise", "quantised network trained", quantise, own_progress=True)
        recipe, target, model = self.recipe, self.recipe.model.checkpoint, self.recipe.model
        accuracy = TrainedAccuracy.model_validate_json(self.path(ACCURACY).read_text())
        known = quant.checkpoint.Provenance(
            model=model.name,
            data=self.data.name,
            recipe=recipe.name,
            seed=recipe.seed,
            command=f"penstock train recipes/{recipe.name}.toml",
            training=f"{recipe.train!r}, then {recipe.quantise!r}",
            accuracy={"float": accuracy.floating, "int8": accuracy.int8},
        )
        quant.checkpoint.save(target, self._network(QUANTISED), known)
        return target

    def prepare(self) -> None:
        """Bring the network up to date, kept or trained (and pruned) in floating point; in a locked workspace."""
        assert self.recipe.model is not None
        if self.recipe.model.checkpoint is not None:
            self._step("restore", "trained network read", restore)
            return
        self._step("train", "float network trained", train, own_progress=True)
        if self.recipe.prune is not None:
            self._step("prune", "network pruned and trained again", prune)

    def synthesise(self) -> SynthesisReport:
        """Bring everything up to date, and what synthesis says about it. `SynthesisError` where a tool is missing."""
        hw.synthesis.tools()
        self.run()
        with self.workspace.locked():
            self._step("synth", "RTL placed and routed, its resources counted", synthesise, own_progress=True)
        return SynthesisReport.from_json(self.path(SYNTHESIS).read_text())

    def synthesised(self) -> SynthesisReport | None:
        """What synthesis has said about the design as it is now; None if it was not asked."""
        try:
            fresh = all(self.workspace.is_fresh(self._made(name, INPUTS[name])) for name in ("emit", "synth"))
        except PackageNotFoundError:  # the tools are gone
            return None
        return SynthesisReport.from_json(self.path(SYNTHESIS).read_text()) if fresh else None

    def _made(self, name: str, inputs: Inputs) -> Step:
        return Step(name, inputs.settings(self.recipe), inputs.code, inputs.reads, inputs.writes, inputs.tools)

    def _step(self, name: str, done: str, make: Callable[[Flow, Path], None], own_progress: bool = False) -> None:
        self.step(name, done, lambda aside: make(self, aside), INPUTS[name], own_progress)

    def step(
        self, name: str, done: str, make: Callable[[Path], None], inputs: Inputs, own_progress: bool = False
    ) -> None:
        """Let `make` write into the folder that it is given what `inputs` name, unless it is fresh, and say `done`."""
        step = self._made(name, inputs)
        started = time.monotonic()
        live = self.console.is_terminal and not own_progress and not self.workspace.is_fresh(step)
        with self.console.status(f"{name} ...") if live else nullcontext():
            made = self.workspace.run(step, make)
        note = f"{time.monotonic() - started:5.1f} s" if made else "unchanged"
        self.console.print(f"  {name:<9} {note:>9}  {done}", highlight=False)

    # -- what the steps have made --------------------------------------------------------------------------------------
    def path(self, name: str) -> Path:
        """Where the result `name` lies."""
        return self.workspace.path(name)

    @cached_property
    def data(self) -> sw.data.Dataset:
        """The recipe's dataset."""
        assert self.recipe.data is not None
        return sw.data.load(self.recipe.data.set, self.recipe.seed)

    @cached_property
    def frames(self) -> Frames:
        """Calibration and test frames as the network takes them."""
        return Frames.load(self.path(FRAMES))

    @property
    def _fitted(self) -> Fitted:
        return Fitted.model_validate_json(self.path(BOARD).read_text())

    @cached_property
    def sized(self) -> Recipe:
        """The recipe with the lanes that were chosen for its board; without a board, itself."""
        if self.recipe.board is None:
            return self.recipe
        engine = self.recipe.engine.model_copy(update=self._fitted.engine)
        layers = self._fitted.lanes(self.recipe.layers or {}) or self.recipe.layers
        return self.recipe.model_copy(update={"engine": engine, "layers": layers})

    @cached_property
    def graph(self) -> Any:
        """hls4ml's `ModelGraph` with the fitted predictors."""
        model = onnx.load(self.path(MODEL))
        layers = Plan.of(self.recipe, convert(model, self.sized, self.workspace.folder).penstock.design).layers
        if self.recipe.board is not None:
            layers = self._fitted.lanes(layers)
        selected = Selected(**json.loads(self.path(SELECTED).read_text()))
        return convert(model, self.sized, self.workspace.folder, layers, self.path(PREDICTORS), selected)

    @property
    def design(self) -> Design:
        """The accelerator."""
        design: Design = self.graph.penstock.design
        return design

    @cached_property
    def test_frames(self) -> IntArray:
        """The test frames in the design's integers, (n, c, h, w)."""
        return integer_frames(self.graph, self.frames.test)

    def checkpoint(self, name: str) -> Path:
        """Where the training of step `name` goes on after an interruption; those of other settings are removed."""
        made_from = json.dumps([INPUTS[name].settings(self.recipe), *map(code_digest, INPUTS[name].code)])
        path = self.path(f".{name}.{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.checkpoint")
        for other in path.parent.glob(f".{name}.*.checkpoint"):
            if other != path:
                other.unlink()
        return path

    def quantised_network(self) -> QuantNetwork:
        """The Brevitas network, its filters in the recipe's order."""
        return self._network(QUANTISED if self.recipe.order == "trained" else ORDERED)

    @cached_property
    def floating(self) -> nn.Sequential:
        """The network in floating point: without pruned filters, or with the weights of kept integers."""
        assert self.recipe.model is not None
        if self.recipe.model.checkpoint is None:
            return self.trained().model
        return quant.plain.dequantised(self._network(QUANTISED))

    @cached_property
    def paths(self) -> HardwarePaths | None:
        """The critical paths of `floating` that the recipe names a file of."""
        return None if self.recipe.predictor.paths is None else handed.load(self.recipe, self.floating)

    @property
    def orders(self) -> dict[str, IntArray]:
        """Which filters of `floating` are those of the design, by layer; none where they are in the same order."""
        if self.recipe.order == "trained":
            return {}
        with np.load(self.path(ORDERS), allow_pickle=False) as archive:
            return dict(archive)

    def ranking(self, design: Design, frames: IntArray) -> dict[str, IntArray]:
        """The filters of engine layers, the first to pin first: by critical paths, or as chosen on integer `frames`."""
        known = {} if self.paths is None else handed.ranking(self.paths, self.orders)
        return by_choice(design, frames) | known

    def _network(self, name: str) -> QuantNetwork:
        twin = self.trained().model if self.recipe.prune is not None else self._untrained().eval()
        return quant.train.load(self.path(name), twin)

    def trained(self) -> Pruned:
        """The float network that is quantised, without the filters that pruning has removed."""
        network, pruned = self._untrained(), self.recipe.prune is not None
        state = sw.train.load_state(self.path(PRUNED if pruned else FLOAT))
        found = {name.removeprefix(MASK): mask for name, mask in state.items() if name.startswith(MASK)}
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith(MASK)})
        return shrink(network.eval(), found, self.data.shape) if pruned else Pruned(network.eval(), {})

    def verilated(self, stalls: Stalls | None = None) -> VerilatedModel:
        """The emitted RTL, built and reset, with the recipe's external memory."""
        library = build(self.path(RTL), self.path(SIMULATION), f"{self.design.name}_probed")
        return VerilatedModel(library, self.design, self.path(IMAGE).read_bytes(), self.memory, stalls)

    @property
    def memory(self) -> Memory:
        """The external memory in simulation: the board's, or the recipe's."""
        if self.recipe.board is not None:
            return boards.board(self.recipe.board.name).dram
        return FixedLatency(**self.recipe.memory.model_dump())

    def c_simulation(self, project: Path | None = None) -> HlsModel:
        """The emitted HLS C++, compiled with g++."""
        project = project or self.path(HLS)
        library = build_hls(project, self.design.name, self.path(SIMULATION))
        return HlsModel(library, self.design, (project / IMAGE).read_bytes())

    def _untrained(self) -> torch.nn.Sequential:
        assert self.recipe.model is not None
        return sw.models.build(self.recipe.model.name, self.data.shape, self.data.classes, self.recipe.seed)


# -- before anything runs ----------------------------------------------------------------------------------------------
def check(recipe: Recipe, trained: bool = True) -> None:
    """Refuse at once what would fail later: names, engine, own files. UserError or `DesignError`.

    A checkpoint has to be there if the network is to be `trained` already.
    """
    engine = recipe.engine
    try:
        Engine(Lanes(engine.filter_lanes, engine.pixel_lanes), engine.bus_bytes, engine.predictor_lanes)
    except DesignError as error:
        raise UserError(f"recipe '{recipe.name}': [engine]: {error}") from error
    if recipe.board is not None:
        boards.board(recipe.board.name)
    if recipe.onnx is not None:
        _convert_own(recipe)
        return
    assert recipe.data is not None
    assert recipe.model is not None
    for key, name, known in (
        ("data.set", recipe.data.set, sw.data.DATASETS),
        ("model.name", recipe.model.name, sw.models.MODELS),
    ):
        if name not in known:
            raise UserError(f"recipe '{recipe.name}': '{key}' is '{name}'; accepted: {', '.join(sorted(known))}")
    try:
        data = sw.data.load(recipe.data.set, recipe.seed)
    except sw.data.DataError as error:
        raise UserError(f"recipe '{recipe.name}': {error}") from error
    checkpoint = recipe.model.checkpoint
    if trained and checkpoint is not None and not checkpoint.is_file():
        raise UserError(
            f"recipe '{recipe.name}': 'model.checkpoint' names '{checkpoint}', which is not a file; 'penstock train' "
            "makes it"
        )
    network = sw.models.build(recipe.model.name, data.shape, data.classes, recipe.seed)
    filters = {
        name: len(weight)
        for name, layer in network.named_children()
        if isinstance(weight := getattr(layer, "weight", None), torch.Tensor)
    }
    for name, section in (recipe.layers or {}).items():
        if name not in filters:
            raise UserError(f"recipe '{recipe.name}': no layer '{name}' in [layers]; accepted: {', '.join(filters)}")
        kept_filters(name, section.keep, filters[name])


def _convert_own(recipe: Recipe) -> tuple[OwnNetwork, Frames]:
    """The user's own network and frames, once the backend has taken them."""
    assert recipe.onnx is not None
    file = recipe.onnx.file
    try:
        own = OwnNetwork.load(file)
        x = own.arrange(load_calibration(recipe.onnx.calibration, own.frame))
        convert(own.model, recipe, Path("unwritten"))
    except (UserError, DesignError):
        raise
    except Exception as error:  # QONNX and hls4ml trip over what no exporter writes, each in a way of its own
        raise UserError(
            f"'{file}' is not a network that can be converted ({type(error).__name__}: {first_line(error)}); accepted: "
            "QONNX as Brevitas exports it"
        ) from error
    return own, Frames(x, x, None)


# -- the network -------------------------------------------------------------------------------------------------------
def train(flow: Flow, aside: Path) -> None:
    """Train in floating point."""
    network = flow._untrained()
    sw.train.fit(
        network,
        flow.data,
        _settings(flow.recipe.train, flow.recipe.seed),
        progress=flow.console.is_terminal,
        checkpoint=flow.checkpoint("train"),
    )
    flow.checkpoint("train").unlink(missing_ok=True)
    sw.train.save_state(aside / FLOAT, network.state_dict())


def prune(flow: Flow, aside: Path) -> None:
    """Remove weights, and train what is left; the file holds all weights, zero where removed, and the masks."""
    section, data = flow.recipe.prune, flow.data
    assert section is not None
    network = flow._untrained()
    network.load_state_dict(sw.train.load_state(flow.path(FLOAT)))
    settings = _settings(section, flow.recipe.seed)
    ratios = [1 - (1 - section.ratio) ** (step / section.steps) for step in range(1, section.steps + 1)]
    steps = schedules.iterative(
        network.eval(),
        _chooser(section, data, flow.recipe.seed),
        ratios,
        data.shape,
        lambda model: sw.train.fit(model, data, settings, progress=False),
    )
    *_, last = steps
    masks = {f"{MASK}{name}": mask.contiguous() for name, mask in last.masks.items()}
    sw.train.save_state(aside / PRUNED, last.model.state_dict() | masks)


OBSERVED = 512  # training images that criteria see


def _chooser(section: PruneSection, data: sw.data.Dataset, seed: int) -> schedules.Chooser:
    x, y = torch.tensor(data.train_x[:OBSERVED]), torch.tensor(data.train_y[:OBSERVED])
    scorers: dict[str, scores.Scorer] = {
        "l1": scores.by_magnitude(data.shape),
        "l2": scores.by_magnitude(data.shape, 2),
        "obd": scores.by_obd(x, y),
        "obs": scores.by_obs(x),
        "taylor": scores.by_taylor(x, y),
        "apoz": scores.by_apoz(x),
        "activation": scores.by_activation(x),
        "random": scores.by_chance(data.shape, seed),
    }
    scorer = scorers[section.criterion]
    if section.form == "matrix":
        return schedules.matrix(scorer, section.rows)
    return schedules.units(scorer, Unit(section.form))


def _before_lazy(network: torch.nn.Sequential, lazy: tuple[str, ...]) -> list[str]:
    """Layers with weights before the first lazy one."""
    names = [name for name, layer in network.named_children() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    return list(itertools.takewhile(lambda name: name not in lazy, names))


def restore(flow: Flow, aside: Path) -> None:
    """Read a trained and quantised network, and what is known of it."""
    assert flow.recipe.model is not None
    path = flow.recipe.model.checkpoint
    assert path is not None
    try:
        network, known = quant.checkpoint.load(path, flow._untrained().eval()), quant.checkpoint.provenance(path)
    except ValueError as error:
        raise UserError(f"recipe '{flow.recipe.name}': {error}") from error
    quant.train.save(aside / QUANTISED, network)
    accuracy = TrainedAccuracy(floating=known.accuracy["float"], int8=known.accuracy["int8"])
    (aside / ACCURACY).write_text(accuracy.model_dump_json(indent=1))


def quantise(flow: Flow, aside: Path) -> None:
    """Go on training with quantised weights and activations."""
    section = flow.recipe.quantise
    trained = flow.trained()
    network = trained.model
    lazy = lazy_layers(flow.recipe)
    quantised = quant.train.quantise(
        network,
        flow.data,
        replace(_settings(section, flow.recipe.seed), distil=section.distil),
        quant.train.Bits(section.weights, section.activations),
        _practice(flow.recipe, network) if lazy and section.gate < 1 else None,
        progress=flow.console.is_terminal,
        masks=trained.masks,
        checkpoint=flow.checkpoint("quantise"),
        frozen=_before_lazy(network, lazy) if section.tune == "lazy" else (),
    )
    flow.checkpoint("quantise").unlink(missing_ok=True)
    quant.train.save(aside / QUANTISED, quantised)
    logits = quantised.integer_logits(torch.tensor(flow.data.test_x)).numpy()
    accuracy = TrainedAccuracy(
        floating=sw.train.accuracy(network, flow.data.test_x, flow.data.test_y),
        int8=share(logits.argmax(axis=1) == flow.data.test_y),
    )
    (aside / ACCURACY).write_text(accuracy.model_dump_json(indent=1))


def _practice(recipe: Recipe, network: torch.nn.Module) -> sw.gate.Gate:
    """What lazy layers practise with: shares in the proportions of the recipe's."""
    layers = recipe.layers or {}
    shares = {}
    for name in lazy_layers(recipe):
        filters = len(network.get_parameter(f"{name}.weight"))
        shares[name] = kept_filters(name, layers[name].keep, filters) / filters
    exponents = tuple(sw.gate.proportions(shares).values())
    section = recipe.quantise
    return sw.gate.Gate(tuple(shares), section.gate, section.gate_by, exponents)


ORDERED_BY = 256  # training images that tell which filters fire together


def order(flow: Flow, aside: Path) -> None:
    """Put the filters of every layer but the last in the order of co-activation; nothing else changes.

    A filter fires where its output is among the stronger half, or the order is that which critical paths come with.
    """
    network = flow._network(QUANTISED)
    if flow.recipe.order == "paths":
        assert flow.paths is not None
        orders = {layer.name: layer.order for layer in flow.paths.layers}
    else:
        orders = _fired_together(flow, network)
    quant.train.save(aside / ORDERED, reordered(network, orders))
    write_npz(aside / ORDERS, orders)


def _fired_together(flow: Flow, network: QuantNetwork) -> dict[str, IntArray]:
    run = quant.lazy.run(network, flow.data.train_x[:ORDERED_BY], {})
    orders = {}
    for layer, following in itertools.pairwise(run.layers):
        strengths = following.strengths
        fired = predictors.top(strengths, strengths.shape[1] // 2) & (strengths > 0)
        orders[layer.name] = co_activation_order(fired)
    return orders


def export(flow: Flow, aside: Path) -> None:
    """Write QONNX, and check that it computes what Brevitas computes, on all test frames."""
    network = flow.quantised_network()
    quant.export.export(network, flow.data.shape, aside / MODEL)
    data, vectors = flow.data, flow.recipe.verify.vectors
    comparison = compare(network, aside / MODEL, data.test_x[:vectors])
    if not comparison.equal:
        raise VerificationError(
            f"QONNX and Brevitas differ on {len(comparison.brevitas) - comparison.equal_frames} of "
            f"{len(comparison.brevitas)} frames"
        )
    frames = Frames(
        channels_last(data.train_x[: flow.recipe.predictor.frames]),
        channels_last(data.test_x[:vectors]),
        data.test_y[:vectors],
    )
    frames.save(aside / FRAMES)


def adopt(flow: Flow, aside: Path) -> None:
    """Take the user's own network and inputs, in the form that the backend converts."""
    own, frames = _convert_own(flow.recipe)
    (aside / MODEL).write_bytes(own.model.SerializeToString(deterministic=True))
    frames.save(aside / FRAMES)


# -- the accelerator ---------------------------------------------------------------------------------------------------
def fit(flow: Flow, aside: Path) -> None:
    """Choose lanes and bus for the recipe's board, at the keep ratios that the recipe names."""
    recipe = flow.recipe
    assert recipe.board is not None
    dense = convert(onnx.load(flow.path(MODEL)), recipe, aside).penstock.design
    predictor, classes = recipe.predictor, 1 if recipe.data is None else flow.data.classes
    engine_layers = {layer.name: layer for layer in dense.tail}
    wanted, keep = {}, {}
    for name, section in Plan.of(recipe, dense).layers.items():
        if name not in engine_layers:
            continue
        if section.weights is Source.LAZY:
            keep[name] = kept_filters(name, section.keep, engine_layers[name].filters)
        wanted[name] = boards.Wanted(section.pinned, keep.get(name), predictor.kind, predictor.rank, classes)
    latency = None if recipe.board.latency_ms is None else recipe.board.latency_ms / 1e3
    target = boards.Target(recipe.board.frames_per_second, latency)
    choice = boards.choose(boards.sketch(dense, wanted), keep, boards.board(recipe.board.name), target)
    engine = choice.design.engine
    chosen = Fitted(
        engine={
            "filter_lanes": engine.lanes.filters,
            "pixel_lanes": engine.lanes.pixels,
            "bus_bytes": engine.bus_bytes,
            "outstanding": engine.outstanding,
        },
        stages={x.name: (x.lanes.filters, x.lanes.pixels) for x in choice.design.head if x.lanes is not None},
        said=str(choice),
    )
    (aside / BOARD).write_text(chosen.model_dump_json(indent=1) + "\n")


def predict(flow: Flow, aside: Path) -> None:
    """Fit the lazy layers' predictors on what the golden model shows for the calibration frames."""
    graph = convert(onnx.load(flow.path(MODEL)), flow.sized, aside)
    dense = graph.penstock.design
    frames = integer_frames(graph, flow.frames.calibration[: flow.recipe.predictor.frames])
    plan = Plan.of(flow.recipe, dense)
    labels = None if flow.recipe.data is None else flow.data.train_y[: len(frames)].astype(np.int64)
    known = dict[str, predictors.Predictor]()
    if flow.recipe.predictor.kind == "trained":
        known = trained_predictors(flow, plan)
    elif flow.paths is not None:
        known = handed.predictors(flow.recipe, flow.paths, dense, tuple(plan.lazy), flow.orders)
    fitted = fit_predictors(dense, plan, Fitting(flow.recipe, frames, labels, known))
    predictors.save(aside / PREDICTORS, fitted.predictors)
    ranking = flow.ranking(with_predictors(dense, flow.recipe, plan, fitted), frames)
    selected = Selected(pinned(dense, plan, ranking), fitted.thresholds)
    (aside / SELECTED).write_text(json.dumps(asdict(selected)) + "\n")


def trained_predictors(flow: Flow, plan: Plan) -> dict[str, predictors.Predictor]:
    """Those of lazy layers that were trained with the network; UserError names a layer without one."""
    network, result = flow.quantised_network(), dict[str, predictors.Predictor]()
    for name in plan.lazy:
        predictor = network.predictor(name)
        if predictor is None:
            raise UserError(
                f"recipe '{flow.recipe.name}': 'predictor.kind' is 'trained', but layer '{name}' of the checkpoint has "
                "no predictor; 'penstock train' makes one, 'linear' does without"
            )
        result[name] = predictor
    return result


def emit(flow: Flow, aside: Path) -> None:
    """Write RTL, weight image and manifest through hls4ml, and what the golden model says for every test frame."""
    flow.graph.config.config["OutputDir"] = str(aside)
    flow.graph.write()
    run = golden.run(flow.design, flow.test_frames, maps=False)
    arrays = {"frames": flow.test_frames, "outputs": run.outputs}
    for trace in run.layers[len(flow.design.head) :]:
        arrays[f"{trace.name}.strengths"] = trace.strengths
        arrays[f"{trace.name}.chosen"] = trace.chosen.astype(np.int64)
        arrays[f"{trace.name}.bytes"] = trace.bytes
        if trace.scores is not None:
            arrays[f"{trace.name}.scores"] = trace.scores
    write_npz(aside / VECTORS, arrays)


def vitis(flow: Flow, aside: Path) -> None:
    """Write the Vitis HLS project, and compare its C simulation with the golden model."""
    frames = flow.test_frames[: flow.recipe.verify.frames]
    expected = golden.run(flow.design, frames)
    emit_hls(flow.design, aside / HLS, Vectors(frames, expected.outputs))
    require_equal(expected, flow.c_simulation(aside / HLS).run(frames))


def measure(flow: Flow, aside: Path) -> None:
    """Run frames through the RTL, compare with the golden model, and write the figures of both."""
    frames = flow.test_frames[: flow.recipe.verify.frames]
    model = flow.verilated()
    rtl = model.run(frames)
    require_equal(golden.run(flow.design, frames), rtl)
    alone = [model.run(frames[i : i + 1]) for i in range(len(frames))]  # each frame finds the accelerator idle
    lazy = golden.run(flow.design, flow.test_frames, maps=False)
    result = collect(
        flow.design,
        lazy,
        golden.run(flow.design, flow.test_frames, all_filters(flow.design), maps=False),
        rtl,
        latency=float(np.mean([run.last_out[0] - run.first_in[0] + 1 for run in alone])),
    )
    if flow.frames.labels is not None:
        trained = TrainedAccuracy.model_validate_json(flow.path(ACCURACY).read_text())
        result.accuracy = figures.Accuracy(
            floating=trained.floating,
            int8=trained.int8,
            lazy=share(lazy.outputs.argmax(axis=1) == flow.frames.labels),
        )
    (aside / FIGURES).write_text(result.model_dump_json(indent=1) + "\n")


def synthesise(flow: Flow, aside: Path) -> None:
    """Synthesise the emitted RTL for all targets; logs and netlists stay in the workspace."""
    section = flow.recipe.synthesis
    with flow.console.status("synth ...") as status:
        report = hw.synthesis.synthesise(
            flow.recipe.name,
            flow.path(RTL),
            flow.path(NETLISTS),
            frequency=section.frequency,
            seed=section.seed,
            progress=lambda text: status.update(f"synth: {text}"),
        )
    (aside / SYNTHESIS).write_text(report.to_json())


def collect(design: Design, lazy: GoldenRun, dense: GoldenRun, rtl: RtlRun, latency: float) -> figures.Figures:
    """The figures of a golden run with chosen filters, one with all of them, and an RTL run of some of the frames."""
    records = {record.name: record for record in layout(design)}
    cycles = {layer.name: float(layer.cycles.mean()) for layer in rtl.layers}
    rows = []
    for layer, trace in zip(design.layers, lazy.layers, strict=True):
        record = records.get(layer.name)
        rows.append(
            figures.LayerFigures(
                name=layer.name,
                weights=SOURCES[layer.source],
                filters=float(trace.chosen.sum(axis=1).mean()),
                filters_all=layer.filters,
                bytes=None if record is None else float(trace.bytes.mean()),
                bytes_all=None if record is None else record.stride * record.filters,
                cycles=cycles.get(layer.name),
            )
        )
    completions = rtl.last_out
    return figures.Figures(
        frames=len(lazy.outputs),
        rtl_frames=len(completions),
        accuracy=None,
        agreement=share(lazy.outputs.argmax(axis=1) == dense.outputs.argmax(axis=1)),
        layers=rows,
        latency=latency,
        interval=float(completions[-1] - completions[0]) / (len(completions) - 1) if len(completions) > 1 else None,
    )


SOURCES = {
    Source.RESIDENT: "on chip (head)",
    Source.LAZY: "external, lazy",
    Source.DENSE: "external, all",
}


def all_filters(design: Design) -> dict[str, int]:
    """`keep` with which lazy layers compute everything."""
    return {layer.name: layer.filters for layer in design.lazy_layers}


def require_equal(expected: GoldenRun, rtl: RtlRun | HlsRun) -> None:
    """Raise `VerificationError` unless the run of RTL or HLS C++ is the golden model's."""
    raise_if(differences(expected, rtl), "RTL" if isinstance(rtl, RtlRun) else "HLS C++")


def raise_if(found: Sequence[Difference], what: str) -> None:
    """Raise `VerificationError` if there are differences between `what` and the golden model."""
    if found:
        raise VerificationError(f"{what} and golden model are not equal: " + "; ".join(map(str, found)))


def share(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Mean of a mask."""
    return float(hits.mean())


def _settings(section: FitSection, seed: int) -> sw.train.TrainSettings:
    keys = FitSection.model_fields
    return sw.train.TrainSettings(seed=seed, **{key: getattr(section, key) for key in keys})


# -- what each step is made from ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Inputs:
    """Our code and the sections of the recipe that a step depends on, files that it reads and that it writes, and
    distributions that only it needs.
    """

    code: tuple[str, ...]
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tools: tuple[str, ...] = ()

    def settings(self, recipe: Recipe) -> JsonValue:
        """The sections' contents; of files that they name, their digests."""
        content: dict[str, JsonValue] = {}
        for key in self.sections:
            value = getattr(recipe, key)
            content[key] = value.model_dump(mode="json") if isinstance(value, Section) else _plain(value)
        if "onnx" in self.sections and recipe.onnx is not None:
            content["onnx"] = [digest(recipe.onnx.file), digest(recipe.onnx.calibration)]
        if "model" in self.sections and recipe.model is not None and recipe.model.checkpoint is not None:
            files = [recipe.model.checkpoint, recipe.model.checkpoint.with_suffix(".json")]
            content["model"] = [recipe.model.name, *map(digest, files)]
        if "predictor" in self.sections and recipe.predictor.paths is not None:
            content["predictor.paths"] = digest(recipe.predictor.paths)
        if "paths" in self.sections and recipe.paths.human is not None:
            content["human"] = digest(recipe.paths.human)
        return content


def _plain(value: object) -> JsonValue:
    if isinstance(value, dict):
        return {str(key): section.model_dump(mode="json") for key, section in value.items()}
    assert value is None or isinstance(value, str | int)
    return value


_TRAINING = ("flow.steps", "sw.data", "sw.gate", "sw.models", "sw.train")  # not all of sw: the study trains nothing
_NETWORK = (*_TRAINING, "sw.predictors", "sw.pruning", "quant")
_HARDWARE = (*_TRAINING, "sw.predictors", "flow.convert", "flow.network", "hw", "sim")
_ACCELERATOR = ("name", "prune", "engine", "layers", "predictor", "board")
INPUTS = {
    "train": Inputs(_TRAINING, ("seed", "data", "model", "train"), (), (FLOAT,)),
    "prune": Inputs((*_TRAINING, "sw.pruning"), ("seed", "data", "model", "prune"), (FLOAT,), (PRUNED,)),
    "quantise": Inputs(
        _NETWORK,
        ("seed", "data", "model", "prune", "quantise", "layers"),
        (FLOAT, PRUNED),
        (QUANTISED, ACCURACY),
    ),
    "restore": Inputs(_NETWORK, ("seed", "data", "model"), (), (QUANTISED, ACCURACY)),
    "order": Inputs(
        _NETWORK,
        ("seed", "data", "model", "prune", "order", "predictor"),
        (FLOAT, PRUNED, QUANTISED),
        (ORDERED, ORDERS),
    ),
    "export": Inputs(
        _NETWORK,
        ("seed", "data", "model", "prune", "order", "predictor", "verify"),
        (PRUNED, QUANTISED, ORDERED),
        (MODEL, FRAMES),
    ),
    "adopt": Inputs(("flow.steps", "flow.network", "hw"), ("onnx",), (), (MODEL, FRAMES)),
    "board": Inputs((*_HARDWARE, "flow.boards"), (*_ACCELERATOR, "data", "onnx"), (MODEL,), (BOARD,)),
    "predict": Inputs(
        (*_HARDWARE, "flow.handed", "sw.paths.hardware"),
        _ACCELERATOR,
        (MODEL, FRAMES, BOARD, ORDERS),
        (PREDICTORS, SELECTED),
    ),
    "emit": Inputs(
        _HARDWARE, _ACCELERATOR, (MODEL, FRAMES, BOARD, PREDICTORS, SELECTED), (RTL, IMAGE, MANIFEST, DRIVER, VECTORS)
    ),
    "vitis": Inputs(
        (*_HARDWARE, "flow.compare"), (*_ACCELERATOR, "verify"), (MODEL, FRAMES, BOARD, PREDICTORS, SELECTED), (HLS,)
    ),
    "measure": Inputs(
        (*_HARDWARE, "flow.compare", "flow.figures"),
        (*_ACCELERATOR, "memory", "verify"),
        (MODEL, FRAMES, BOARD, PREDICTORS, SELECTED, ACCURACY, RTL, IMAGE),
        (FIGURES,),
    ),
    "synth": Inputs(
        ("hw.synthesis", "hw.netlist", "hw.targets"), ("name", "synthesis"), (RTL,), (SYNTHESIS,), DISTRIBUTIONS
    ),
}
