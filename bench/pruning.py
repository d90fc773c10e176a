"""Pruning: what it costs in accuracy, and what it saves on the CPU and in the RTL.

    python bench/pruning.py [--json FILE]

Accuracies come from docs/results/pruning.json, which `python -m bench.studies.pruning` measures (an hour of training).
CPU times and the RTL of the digits network are measured here. CPU: LeNet for 28x28 images, one thread, every layer as
unfolded input times matrix, 32 frames at a time; the fastest of several runs in turn, as a ratio to the dense network.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from bench.studies import pruned_rtl
from bench.table import Report, parser
from sw import data, models, train
from sw.pruning import forms, masks, schedules, scores

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "pruning.json"
SEED = 1
SHAPE = (1, 28, 28)
RATIOS = (0.0, 0.25, 0.5, 0.8, 0.9, 0.95)
RTL_RATIOS = (0.25, 0.5, 0.8)
CPU_FRAMES = 32
CPU_RUNS = 15

Product = Callable[[Tensor], Tensor]


# -- time on the CPU ---------------------------------------------------------------------------------------------------
def executor(model: nn.Sequential, products: dict[str, tuple[Tensor, Product]]) -> Callable[[Tensor], Tensor]:
    """Run `model` with each layer as columns of its input, (columns, frames x positions), times a matrix.

    `products` gives for each layer the columns that it reads, bool (channels, kh, kw), and the multiplication.
    """

    def run(values: Tensor) -> Tensor:
        for name, layer in model.named_children():
            if isinstance(layer, nn.Conv2d):
                (kh, kw), (columns, product) = layer.weight.shape[2:], products[name]
                windows = values.unfold(2, kh, 1).unfold(3, kw, 1)  # (n, c, y, x, kh, kw), a view
                channel, row, column = columns.nonzero(as_tuple=True)
                read = windows.permute(1, 4, 5, 0, 2, 3)[channel, row, column]  # (columns, n, y, x)
                result = product(read.flatten(1)).reshape(-1, *read.shape[1:])
                values = result.transpose(0, 1)
            elif isinstance(layer, nn.Linear):
                columns, product = products[name]
                kept = columns.flatten()
                values = product((values if kept.all() else values[:, kept]).T.contiguous()).T
            else:
                values = layer(values)
        return values

    return run


def dense_product(weight: Tensor, bias: Tensor) -> Product:
    """Every element, zeros included."""
    return lambda read: torch.addmm(bias[:, None], weight, read)


def sparse_product(weight: Tensor, bias: Tensor) -> Product:
    """Compressed rows."""
    compressed = weight.to_sparse_csr()
    return lambda read: compressed @ read + bias[:, None]


def matrix_products(pruned: masks.Pruned) -> dict[str, tuple[Tensor, Product]]:
    """Kept rows and columns only."""
    found = {}
    for name, layer in forms.weighted(pruned.model).items():
        columns = pruned.masks[name].any(dim=0)
        weight = layer.weight.detach().flatten(1)[:, columns.flatten()].contiguous()
        assert layer.bias is not None
        found[name] = (columns, dense_product(weight, layer.bias.detach()))
    return found


def products(model: nn.Sequential, kind: Callable[[Tensor, Tensor], Product]) -> dict[str, tuple[Tensor, Product]]:
    """All columns of every layer, with `kind` of multiplication."""
    found = {}
    for name, form in forms.forms(model, SHAPE).items():
        layer = forms.weighted(model)[name]
        assert layer.bias is not None
        columns = torch.ones(form.shape[1:], dtype=torch.bool)
        found[name] = (columns, kind(layer.weight.detach().flatten(1).contiguous(), layer.bias.detach()))
    return found


def cpu_ratios(report: Report) -> list[dict[str, float]]:
    """For each ratio, time of unstructured, sparse and matrix-pruned networks over that of the dense one."""
    model = models.build("lenet", SHAPE, 10, SEED).eval()
    frames = torch.rand(CPU_FRAMES, *SHAPE, generator=torch.Generator().manual_seed(SEED))
    by_weight = schedules.units(scores.by_magnitude(SHAPE), masks.Unit.WEIGHT)
    by_matrix = schedules.matrix(scores.by_magnitude(SHAPE, 2))
    rows = []
    for ratio in RATIOS:
        loose = schedules.direct(model, by_weight, ratio, SHAPE)
        step = schedules.direct(model, by_matrix, ratio, SHAPE)
        pruned = masks.shrink(step.model, step.masks, SHAPE)
        runs = {
            "dense": executor(model, products(model, dense_product)),
            "unstructured": executor(loose.model, products(loose.model, dense_product)),
            "sparse": executor(loose.model, products(loose.model, sparse_product)),
            "matrix": executor(pruned.model, matrix_products(pruned)),
        }
        with torch.no_grad():
            for name, network in (("unstructured", loose.model), ("sparse", loose.model), ("matrix", step.model)):
                if not torch.allclose(runs[name](frames), network(frames), rtol=1e-3, atol=1e-4):
                    report.equal(f"CPU, {name}, ratio {ratio}: same answers as the masked network", False)
            times = dict.fromkeys(runs, np.inf)
            for _ in range(CPU_RUNS):
                for name, run in runs.items():
                    started = time.process_time()
                    run(frames)
                    times[name] = min(times[name], time.process_time() - started)
        rows.append(
            {"ratio": ratio} | {name: value / times["dense"] for name, value in times.items() if name != "dense"}
        )
    return rows


# -- the digits network in the RTL -------------------------------------------------------------------------------------
def digits_rtl(folder: Path) -> list[dict[str, JsonValue]]:
    """Trained here: 15 epochs, and 5 more after pruning."""
    digits = data.load("digits", SEED)
    model = models.build("digits_cnn", digits.shape, 10, SEED)
    train.fit(model, digits, train.TrainSettings(epochs=15, seed=SEED), progress=False)
    chooser = schedules.matrix(scores.by_magnitude(digits.shape, 2), multiple=pruned_rtl.LANES[0])
    settings = train.TrainSettings(epochs=5, seed=SEED, rate=1e-3)
    networks = {}
    for ratio in (0.0, *RTL_RATIOS):
        step = schedules.direct(
            model, chooser, ratio, digits.shape, lambda network: train.fit(network, digits, settings, progress=False)
        )
        networks[ratio] = masks.shrink(step.model, step.masks, digits.shape)
    return pruned_rtl.measure("digits", networks, digits, folder)


def main() -> int:
    """Measure what is short, add what is committed, print."""
    arguments = parser((__doc__ or "").splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text())
    report = Report("pruning: LeNet on MNIST, digits network")
    dense = results["dense"]["accuracy"]
    report.row("accuracy, dense", f"{100 * dense:.2f} %")
    cpu = cpu_ratios(report)
    matrix: list[JsonValue] = []
    for found in results["matrix_obs"]:
        (times,) = (row for row in cpu if row["ratio"] == found["ratio"])
        matrix.append(
            {
                "ratio": found["ratio"],
                "accuracy": found["accuracy"],
                "dense_accuracy": dense,
                "params": found["parameters"],
                "bytes": found["in_matrix_form"],
                "cpu_seconds_ratio": times["matrix"],
            }
        )
        report.row(f"accuracy, matrix form, ratio {found['ratio']}", f"{100 * found['accuracy']:.2f} %")
    for times in cpu:
        report.row(
            f"CPU time over dense, ratio {times['ratio']}: unstructured, sparse, matrix",
            f"{times['unstructured']:.2f}, {times['sparse']:.2f}, {times['matrix']:.2f}",
        )
    rtl = digits_rtl(Path("build/bench/pruning")) + results.get("rtl_mnist", [])
    for row in rtl:
        label = f"{row['design']}, ratio {row['ratio']}"
        report.row(f"RTL cycles, {label}", f"{row['cycles']:,.0f} (predicted {row['predicted_cycles']:,.0f})")
        report.row(f"RTL bytes, {label}", f"{row['bytes']:,.0f} (predicted {row['predicted_bytes']:,.0f})")
        report.equal(f"RTL = golden, {label}", bool(row["equal"]))
    apoz = results.get("apoz", [])
    for row in apoz[1:]:
        report.row(
            f"APoZ trimming, {row['compression']:.2f} x", f"{100 * row['before']:.2f}, {100 * row['after']:.2f} %"
        )
    figures: dict[str, JsonValue] = {"matrix": matrix, "rtl": rtl, "apoz": apoz, "cpu": list(cpu)}
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
