"""Boards beside processors: what bench/cycle_model.py writes as its baseline.

The networks of four recipes on three boards, dense and lazy, one frame alone: time, bytes and energy (an estimate) by
the cycle model, with lanes chosen for each board at half of the filters. Masks are those of test images in the recipe's
own network, with the predictors that are fitted for it; filters give way in the proportions of the recipe's `keep`.

Where the images are not there, or the network is not trained (ImageNet's shape), only shapes count: masks are drawn at
random, every computed channel counts as present, and predictors are of low rank.

Processors run the same network with all filters; *sliced* is Penstock's own lazy evaluation, on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from rich.console import Console
from torch import nn

import sw.data
import sw.models
from bench.networks import Block, Full, outline
from bench.table import Report
from flow import recipe as recipes
from flow.baseline import Machine, bounds, joules, measure, median
from flow.boards import BOARDS, Board, choose
from flow.convert import keep_share, software
from flow.errors import UserError
from flow.recipe import Recipe
from flow.steps import Flow
from flow.workspace import Workspace
from hw.control import Changes
from hw.design import Design, MapShape, Place, Source
from quant.lazy import LazyLayer
from quant.sliced import SlicedNetwork
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.energy import energy, macs
from sw.data import FloatArray

SHARES = (1.0, 0.5, 0.25)
SEED = 1
DRAWN, TESTED = 4, 16  # frames
IMAGES = {"imagenet_noise": (3, 224, 224, 1000)}  # where loading images is not needed: their shape, classes


@dataclass(frozen=True)
class Network:
    """A recipe and its boards."""

    recipe: Path
    boards: tuple[str, ...]

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.stem


SMALL = ("zynq-7020", "kv260", "alveo-u50")
NETWORKS = tuple(
    Network(Path("recipes") / f"{name}.toml", boards)
    for name, boards in (
        ("digits", SMALL),
        ("mnist", SMALL),
        ("cifar10_vgg16", SMALL),
        ("imagenet_vgg19", ("kv260", "zcu104", "zcu102", "alveo-u50")),  # the first of which its maps do not fit
    )
)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to compare: its design, the masks of frames with given `keep`, and what to ask processors.

    `said` is where the masks come from. `sliced` gives the seconds of lazy evaluation with a share of the filters.
    """

    design: Design
    masks: Callable[[Changes], Masks]
    said: str
    model: Callable[[], nn.Sequential]
    frame: FloatArray
    sliced: Callable[[float], float] | None = None


def subject(recipe: Recipe) -> Subject:
    """With masks of test images where there are some, else an outline."""
    assert recipe.data is not None
    if recipe.data.set not in IMAGES:
        try:
            sw.data.load(recipe.data.set, recipe.seed)
        except sw.data.DataError:
            raise UserError(f"'{recipe.name}' has no images here; its baseline needs them") from None
        return _tested(recipe)
    return _drawn(recipe, *IMAGES[recipe.data.set])


def _tested(recipe: Recipe) -> Subject:
    flow = Flow(recipe, Workspace(Path("build/bench") / recipe.name), Console(quiet=True))
    flow.run(hardware=False)
    assert recipe.model is not None
    design, frames, data = flow.design, flow.test_frames[:TESTED], flow.data

    def sliced(share: float) -> float:
        torch.set_num_threads(1)
        keep = keep_share(design, share)
        lazily = SlicedNetwork(
            flow.quantised_network(),
            {
                layer.name: LazyLayer(software(layer.predictor), keep[layer.name], layer.pinned)
                for layer in design.lazy_layers
                if layer.predictor is not None
            },
        )
        image = torch.tensor(data.test_x[0])
        return median(lambda: lazily.run(image))

    return Subject(
        design,
        lambda keep: Masks.of(design, golden.run(design, frames, keep, maps=False), keep),
        f"{len(frames)} test images",
        partial(sw.models.build, recipe.model.name, data.shape, data.classes, SEED),
        data.test_x[0],
        sliced,
    )


def _drawn(recipe: Recipe, channels: int, height: int, width: int, classes: int) -> Subject:
    assert recipe.model is not None
    shape = (channels, height, width)
    with torch.device("meta"):  # no memory for its weights
        model = sw.models.MODELS[recipe.model.name](shape, classes)
    design = sketched(recipe, model, MapShape(*shape), classes)
    frame = np.random.default_rng(SEED).random(shape, np.float32)
    built = partial(sw.models.build, recipe.model.name, shape, classes, SEED)
    return Subject(design, lambda keep: Masks.drawn(design, keep, DRAWN, SEED), "drawn", built, frame)


def sketched(recipe: Recipe, model: nn.Sequential, shape: MapShape, classes: int) -> Design:
    """The outline of `model` as the recipe places its layers."""
    layers: dict[str, Block | Full] = {}
    for name, module in model.named_children():
        match module:
            case nn.Conv2d():
                (kernel, _), (padding, _) = module.kernel_size, module.padding
                layers[name] = Block(module.out_channels, 1, kernel, int(padding))
            case nn.MaxPool2d():
                last, block = layers.popitem()
                assert isinstance(block, Block)
                layers[last] = Block(block.filters, int(module.kernel_size), block.kernel, block.padding)
            case nn.Linear():
                layers[name] = Full(module.out_features)
    names, sections = list(layers), recipe.layers or {}
    return outline(
        recipe.name,
        shape,
        list(layers.values())[:-1],
        head=sum(section.place is Place.HEAD for section in sections.values()),
        lazy=[i for i, name in enumerate(names) if sections[name].weights is Source.LAZY],
        rank=recipe.predictor.rank,
        classes=classes,
        names=names,
    )


def baseline(report: Report, wanted: list[str] | None, processors: bool = True) -> Iterator[JsonValue]:
    """Every network on its boards; beside `processors` that run it here, if that is wanted."""
    for network in NETWORKS:
        if wanted is not None and network.name not in wanted:
            continue
        try:
            found = subject(recipes.load(network.recipe))
        except UserError as error:
            report.row(network.name, str(error))
            continue
        design = found.design
        weights = sum(layer.weights.size for layer in design.layers)
        full = {layer.name: layer.filters for layer in design.lazy_layers}
        dense = int(macs(design, Masks.drawn(design, full, 1, SEED))[0])
        seconds = bounds(dense, weights)
        if processors:
            seconds |= measure(found.model(), found.frame)
            if found.sliced is not None:
                seconds |= {f"sliced, {share:.0%}, one core": found.sliced(share) for share in SHARES}
        for name, took in seconds.items():
            report.row(f"{network.name}: {name}", f"{1e3 * took:,.4g} ms")
        machine = asdict(Machine.here())
        keeps = {share: keep_share(design, share) for share in SHARES}
        masks = {share: found.masks(keep) for share, keep in keeps.items()}
        for name in network.boards:
            for row in on_board(design, keeps, masks, BOARDS[name], report):
                yield {
                    "network": network.name,
                    **row,
                    "masks": found.said,
                    "cpu": seconds,
                    "cpu_energy": joules(seconds),
                    "machine": machine,
                }


def on_board(
    design: Design, keeps: dict[float, dict[str, int]], masks: dict[float, Masks], board: Board, report: Report
) -> Iterator[dict[str, JsonValue]]:
    """The design on a board, with each share of the filters."""
    try:
        choice = choose(design, keeps[0.5], board)
    except UserError as error:
        report.row(f"{design.name} on {board.name}", str(error))
        return
    model, clock = CycleModel(choice.design, board.dram), board.clock_mhz * 1e6
    for share, seen in masks.items():
        alone, steady = model.alone(seen), model.stream(seen).interval
        joules = float(energy(choice.design, seen, alone, board.memory).total.mean())
        seconds, fetched = float(alone.latency.mean()) / clock, float(alone.bytes.mean())
        report.row(
            f"{design.name} on {board.name}, k = {share:.0%}",
            f"{1e3 * seconds:.4g} ms, {fetched / 1e3:,.4g} kB, {1e6 * joules:,.4g} uJ",
        )
        yield {
            "board": board.name,
            "k": share,
            "lanes": str(choice),
            "fpga_seconds": seconds,
            "fpga_seconds_in_a_row": steady / clock,
            "bytes": fetched,
            "energy": joules,
            "macs": float(macs(choice.design, seen).mean()),
        }
