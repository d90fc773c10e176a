"""Cycles and bytes of pruned networks in the RTL, against what the removed rows and columns predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from flow.compare import differences
from flow.network import channels_last
from hw.design import Design, Layer
from hw.frames import Layout, quantise_input
from hw.qonnx import convert
from quant import export
from quant.layers import quantised
from quant.train import calibrate
from sim import golden
from sim.golden import GoldenRun
from sim.verilated import VerilatedModel, build
from sw.data import Dataset
from sw.pruning.masks import Pruned, held

LANES = (8, 4)  # filters and pixels of the engine
FRAMES = 8


@dataclass(frozen=True)
class Row:
    """Means per frame over the engine's layers, which compute every filter; the first convolution is a head stage.

    A layer's prediction is what the unpruned one measured, times what is left of its limit: the larger of
    multiplications over multipliers and weight bytes over bus bytes, both of the weights for channels that are present
    in the frame (a channel of zeros costs nothing, and pruned networks have fewer). Predicted bytes are those of the
    unpruned layer times the share of its weights that are left. `limit` is the sum of the layers' limits.
    """

    design: str
    ratio: float
    weights: int
    cycles: float
    predicted_cycles: float
    limit: float
    bytes: float
    predicted_bytes: float
    equal: bool


def measure(name: str, networks: Mapping[float, Pruned], data: Dataset, folder: Path) -> list[dict[str, JsonValue]]:
    """A row for each ratio; the first network is the unpruned one."""
    rows: list[Row] = []
    first: list[_Layer] | None = None
    for ratio, pruned in networks.items():
        design, graph = _design(f"{name}_{round(100 * ratio)}", pruned, data, folder)
        frames = quantise_input(design, channels_last(data.test_x[:FRAMES]), Layout.CHANNELS_LAST)
        expected = golden.run(design, frames)
        library = build(graph / "rtl", graph / "simulation", f"{design.name}_probed")
        run = VerilatedModel(library, design, (graph / "weights.bin").read_bytes()).run(frames)
        layers = [
            _Layer(
                cycles=float(found.cycles.mean()),
                bytes=float(found.bytes.mean()),
                limit=_limit(design, layer, expected),
                weights=layer.filters * int(layer.kept_taps.sum()),
            )
            for found, layer in zip(run.layers, design.tail, strict=True)
        ]
        first = first or layers
        pairs = list(zip(first, layers, strict=True))
        rows.append(
            Row(
                design=name,
                ratio=ratio,
                weights=sum(layer.weights for layer in layers),
                cycles=sum(layer.cycles for layer in layers),
                predicted_cycles=sum(full.cycles * layer.limit / full.limit for full, layer in pairs),
                limit=sum(layer.limit for layer in layers),
                bytes=sum(layer.bytes for layer in layers),
                predicted_bytes=sum(full.bytes * layer.weights / full.weights for full, layer in pairs),
                equal=not differences(expected, run),
            )
        )
        print(rows[-1], flush=True)
    return [asdict(row) for row in rows]


def _design(name: str, pruned: Pruned, data: Dataset, folder: Path) -> tuple[Design, Path]:
    """Quantised to 8 bits without further training, converted and emitted."""
    network = quantised(pruned.model, calibrate(pruned.model, data.train_x[:512])).eval()
    with held(network, pruned.masks):
        model = export.to_qonnx(network, data.shape).model
    layers = {layer: {"Taps": "nonzero", "Place": "engine"} for layer in network.weighted}
    layers[network.weighted[0]]["Place"] = "head"
    lanes = {"EngineFilterLanes": LANES[0], "EnginePixelLanes": LANES[1]}
    graph = convert(model, folder / name, name, {"Model": lanes, "LayerName": layers}, io_type="io_stream")
    graph.write()
    design: Design = graph.penstock.design
    return design, folder / name


@dataclass(frozen=True)
class _Layer:
    """Measured `cycles` and `bytes`, means per frame; `limit` in cycles; `weights` of what is left."""

    cycles: float
    bytes: float
    limit: float
    weights: int


def _limit(design: Design, layer: Layer, run: GoldenRun) -> float:
    """No fewer cycles are possible for the weights of present channels; mean over the frames of `run`."""
    present = run.layer(layer.name).strengths > 0  # (n, channels)
    needed = layer.filters * (present @ layer.kept_taps.sum(axis=(1, 2)))  # (n,)
    multiplications = needed * int(np.prod(layer.grid))
    return float(np.maximum(multiplications / design.engine.lanes.multipliers, needed / design.engine.bus_bytes).mean())
