"""What residual networks take on the engine, with the first convolution of every block lazy.

    python bench/residual.py [--json FILE] [--rtl] [--trained]

ResNets for 32 x 32 images with random weights from seed 1, on the engine and memory of recipes/cifar10_resnet8.toml,
and the first of 4 random frames. Cycles are the cycle model's, from the start of the first layer to the end of the
last; with ``--rtl`` those of the RTL are compared for ResNet-8, and its answers with the golden model's. *Best* is the
least that multipliers and bus allow: max(active MACs / multipliers, bytes / bus bytes per cycle) of every layer, added.

``--trained`` adds the recipe's own ResNet-8, trained if it is not yet (a quarter of an hour): accuracy on all test
images of CIFAR-10, from PENSTOCK_DATA, and mean bytes and cycles of a frame.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from rich.console import Console

from bench.engine import limit
from bench.table import Report, parser
from flow.convert import Fitting, Plan, convert, fit_predictors, integer_frames, keep_share, with_predictors
from flow.network import channels_last
from flow.recipe import LayerSection, load
from flow.steps import ACCURACY, Flow, TrainedAccuracy
from flow.workspace import Workspace
from hw import qonnx
from hw.design import Design, IntArray, Source
from hw.emit import emit
from quant import export
from quant.layers import folded, quantised
from quant.train import Bits, calibrate
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.memory import FixedLatency
from sim.verilated import VerilatedModel, build
from sw import models

BUILD = Path("build") / "bench" / "residual"
RECIPE = Path(__file__).parent.parent / "recipes" / "cifar10_resnet8.toml"
SHAPE, CLASSES, SEED = (3, 32, 32), 10, 1
FRAMES, FITTING = 4, 32
SHARES = (1.0, 0.5, 0.25)


def lazy_design(name: str) -> tuple[Design, IntArray]:
    """The network `name` as a design, and frames."""
    frames = np.random.default_rng(SEED).random((FITTING, *SHAPE), np.float32)
    network = models.build(name, SHAPE, CLASSES, SEED)
    with torch.no_grad():
        for _ in range(3):  # moves the running statistics
            network(torch.tensor(frames))
    plain = folded(network.eval())
    twin = quantised(plain, calibrate(plain, frames, Bits()))
    recipe = load(RECIPE)
    layers = {x: LayerSection(weights=Source.LAZY, keep=0.5) for x in twin.weighted if x.endswith("conv1")}
    recipe = recipe.model_copy(update={"name": f"bench_{name}", "layers": layers})
    with tempfile.TemporaryDirectory() as folder:
        export.export(twin, SHAPE, Path(folder) / "model.onnx")
        graph = convert(qonnx.load(Path(folder) / "model.onnx"), recipe, Path(folder))
    dense, integers = graph.penstock.design, integer_frames(graph, channels_last(frames))
    plan = Plan.of(recipe, dense)
    return with_predictors(dense, recipe, plan, fit_predictors(dense, plan, Fitting(recipe, integers))), integers


def on_images(report: Report) -> list[JsonValue]:
    """The recipe's network on all test images, with each share of the filters inside its blocks."""
    recipe = load(RECIPE)
    flow = Flow(recipe, Workspace(Path("build") / recipe.name), Console())
    flow.run(hardware=False)
    design, labels = flow.design, flow.data.test_y
    floating = TrainedAccuracy.model_validate_json(flow.path(ACCURACY).read_text()).floating
    report.row(f"trained {recipe.name}, floating point: accuracy", f"{100 * floating:.2f} %")
    frames, rows = integer_frames(flow.graph, channels_last(flow.data.test_x)), list[JsonValue]()
    for share in SHARES:
        keep = keep_share(design, share)
        run = golden.run(design, frames, keep, maps=False)
        took = CycleModel(design, flow.memory).alone(Masks.of(design, run, keep))
        accuracy = float((run.outputs.argmax(axis=1) == labels).mean())
        cycles, size = float(took.engine.mean()), float(took.bytes.mean())
        report.row(
            f"trained {recipe.name}, {share:.0%} inside: accuracy, cycles, bytes",
            f"{100 * accuracy:.2f} %, {cycles:,.0f}, {size:,.0f}",
        )
        rows.append({"share": share, "accuracy": accuracy, "cycles": cycles, "bytes": size, "float": floating})
    return rows


def main() -> int:
    """Measure both networks."""
    options = parser(__doc__ or "")
    options.add_argument("--rtl", action="store_true", help="compare with the RTL too, for ResNet-8")
    options.add_argument("--trained", action="store_true", help="the recipe's network on all test images, too")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    report, figures = Report("residual networks"), list[JsonValue]()
    for name in ("resnet8", "resnet20"):
        design, integers = lazy_design(name)
        frames = integers[:FRAMES]
        memory = FixedLatency(**load(RECIPE).memory.model_dump())
        model = CycleModel(design, memory)
        for share in SHARES:
            keep = {layer.name: max(1, round(share * layer.filters)) for layer in design.lazy_layers}
            run = golden.run(design, frames, keep)
            took = model.alone(Masks.of(design, run, keep))
            best = sum(limit(design, layer, run) for layer in design.tail)
            cycles, size = int(took.engine[0]), int(took.bytes[0])
            report.row(f"{name}, {share:.0%} inside: cycles, best, bytes", f"{cycles:,}, {best:,.0f}, {size:,}")
            rows: list[JsonValue] = [
                {"layer": x.name, "cycles": int(x.cycles[0]), "bytes": int(x.bytes[0])} for x in took.layers
            ]
            figures.append({"net": name, "share": share, "cycles": cycles, "best": best, "bytes": size, "layers": rows})
        if arguments.rtl and name == "resnet8":
            folder = BUILD / name
            emit(design, folder)
            library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
            rtl = VerilatedModel(library, design, (folder / "weights.bin").read_bytes(), memory).run(frames)
            run = golden.run(design, frames)
            streamed = model.stream(Masks.of(design, run), int(rtl.first_in[0]))
            report.equal(f"{name}: answers of the RTL", np.array_equal(rtl.outputs, run.outputs))
            same = all(np.array_equal(a.cycles, b.cycles) for a, b in zip(streamed.layers, rtl.layers, strict=True))
            report.equal(f"{name}: cycles of every layer in the RTL", same)
    trained = on_images(report) if arguments.trained else []
    return report.finish({"seed": SEED, "runs": figures, "trained": trained}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
