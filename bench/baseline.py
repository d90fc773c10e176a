"""Boards beside processors: what bench/cycle_model.py writes as its baseline.

Four networks on three boards, dense and lazy, one frame alone: time, bytes and energy (an estimate) by the cycle model,
with lanes chosen for each board at half of the filters. Masks are drawn at random and every computed channel counts as
present, so that laziness alone saves. Predictors are of rank 8. Processors run the same network with all filters;
*sliced* is Penstock's own lazy evaluation, on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn

import quant.checkpoint
import sw.models
from bench.networks import DIGITS, LENET, VGG16, VGG19, Block, Full, outline
from bench.table import Report
from flow.baseline import Machine, bounds, joules, measure, median
from flow.boards import BOARDS, Board, choose
from flow.errors import UserError
from hw.design import Design, MapShape
from quant.layers import quantised
from quant.lazy import LazyLayer
from quant.sliced import SlicedNetwork
from quant.train import calibrate
from sim.cycles import CycleModel, Masks
from sim.energy import energy, macs
from sw.predictors import LinearPredictor

SHARES = (1.0, 0.5, 0.25)
SEED, RANK = 1, 8


@dataclass(frozen=True)
class Network:
    """A network as shapes and as a model of torch; `lazy` are indices of its layers."""

    name: str
    shape: MapShape
    layers: tuple[Block | Full, ...]
    head: int
    lazy: tuple[int, ...]
    model: str
    classes: int
    boards: tuple[str, ...]
    checkpoint: Path | None = None
    sliced: bool = True

    def design(self) -> Design:
        """Its outline."""
        return outline(
            self.name, self.shape, self.layers, head=self.head, lazy=self.lazy, rank=RANK, classes=self.classes
        )

    def torch(self) -> nn.Sequential:
        """Its float network, untrained: times do not depend on weights."""
        shape = (self.shape.channels, self.shape.height, self.shape.width)
        return sw.models.build(self.model, shape, self.classes, SEED).eval()

    @property
    def frame(self) -> NDArray[np.float32]:
        """One to run, (c, h, w)."""
        shape = (self.shape.channels, self.shape.height, self.shape.width)
        return np.random.default_rng(SEED).random(shape, np.float32)


SMALL = ("zynq-7020", "kv260", "alveo-u50")
NETWORKS = (
    Network("digits", *DIGITS, 1, (1, 2), "digits_cnn", 10, SMALL),
    Network("mnist", *LENET, 1, (1, 2), "lenet", 10, SMALL),
    Network(
        *("cifar10_vgg16", *VGG16, 0, tuple(range(7, 13)), "vgg16", 10, SMALL),
        checkpoint=Path("models/cifar10_vgg16.npz"),
    ),
    # Its maps fit no small board, and Penstock's sliced evaluation wants sums below 2**24.
    Network("imagenet_vgg19", *VGG19, 4, tuple(range(8, 18)), "vgg19", 1000, ("zcu104", "alveo-u50"), sliced=False),
)


def baseline(report: Report, wanted: list[str] | None) -> Iterator[JsonValue]:
    """Every network on its boards."""
    for network in NETWORKS:
        if wanted is not None and network.name not in wanted:
            continue
        design = network.design()
        weights = sum(layer.weights.size for layer in design.layers)
        dense = int(macs(design, Masks.drawn(design, None, 1, SEED))[0])
        processors = bounds(dense, weights)
        processors |= measure(network.torch(), network.frame)
        if network.sliced:
            processors |= {f"sliced, {share:.0%}, one core": sliced(network, share) for share in SHARES}
        for name, seconds in processors.items():
            report.row(f"{network.name}: {name}", f"{1e3 * seconds:,.4g} ms")
        machine = asdict(Machine.here())
        for name in network.boards:
            for row in on_board(design, BOARDS[name], report):
                yield {
                    "network": network.name,
                    **row,
                    "cpu": processors,
                    "cpu_energy": joules(processors),
                    "machine": machine,
                }


def on_board(design: Design, board: Board, report: Report) -> Iterator[dict[str, JsonValue]]:
    """The design on a board, with each share of the filters."""

    def keep(share: float) -> dict[str, int]:
        return {layer.name: max(1, round(layer.filters * share)) for layer in design.lazy_layers}

    try:
        choice = choose(design, keep(0.5), board)
    except UserError as error:
        report.row(f"{design.name} on {board.name}", str(error))
        return
    model, clock = CycleModel(choice.design, board.dram), board.clock_mhz * 1e6
    for share in SHARES:
        masks = Masks.drawn(choice.design, keep(share), 4, SEED)
        alone, steady = model.alone(masks), model.stream(masks).interval
        joules = float(energy(choice.design, masks, alone, board.memory).total.mean())
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
            "macs": float(macs(choice.design, masks).mean()),
        }


def sliced(network: Network, share: float) -> float:
    """Median seconds of lazy evaluation with sliced weights on one core; predictors are random."""
    torch.set_num_threads(1)
    model = network.torch()
    if network.checkpoint is not None:
        integers = quant.checkpoint.load(network.checkpoint, model)
    else:
        integers = quantised(model, calibrate(model, np.repeat(network.frame[None], 4, axis=0)))
    rng, lazy = np.random.default_rng(SEED), {}
    for layer in (integers.weighted[index] for index in network.lazy):
        weights, _ = integers.integers(layer)
        filters, inputs = len(weights), _channels(integers, layer, weights)
        predictor = LinearPredictor(rng.integers(-128, 128, (inputs, filters)), np.zeros(filters, np.int64))
        lazy[layer] = LazyLayer(predictor, max(1, round(share * filters)))
    lazily = SlicedNetwork(integers, lazy)
    frame = torch.tensor(network.frame)
    return median(lambda: lazily.run(frame))


def _channels(network: nn.Module, name: str, weights: torch.Tensor) -> int:
    """Input channels of a layer: of a dense one, those before flattening."""
    if weights.ndim == 4:
        return int(weights.shape[1])
    before = [layer for layer, _ in network.named_children()]
    earlier = [x for x in before[: before.index(name)] if isinstance(network.get_submodule(x), nn.Conv2d | nn.Linear)]
    layer = network.get_submodule(earlier[-1])
    return int(layer.weight.shape[0])
