"""docs/results/pruning.md and its plots, from the committed results and the figures of one run of the benchmark.

python bench/pruning.py --json docs/results/pruning_bench.json
python -m bench.studies.pruning_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plot import plot

FOLDER = Path(__file__).parents[2] / "docs" / "results"

Rows = Sequence[Mapping[str, Any]]  # of a JSON file

OVER = "ratio of weights removed"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def percent(value: float | None) -> str:
    """As people read it."""
    return "" if value is None else f"{100 * value:.2f}"


def at(rows: Rows, ratio: float, key: str) -> float | None:
    """The figure of one ratio, if it was measured."""
    return next((row[key] for row in rows if row["ratio"] == ratio), None)


def main() -> None:
    """Write the page."""
    found = json.loads((FOLDER / "pruning.json").read_text())
    bench = json.loads((FOLDER / "pruning_bench.json").read_text())
    names = {
        "weights, at once": "weight_direct",
        "weights, iterative": "weight_iterative",
        "matrix, at once": "matrix_direct",
        "matrix, iterative": "matrix_iterative",
        "matrix with OBS, at once": "matrix_obs",
    }
    dense = found["dense"]
    costs, untrained = ("parameters", "macs", "dense", "sparse", "in_matrix_form"), ("weight", "matrix", "matrix_obs")
    kinds = ("unstructured", "sparse", "matrix")
    ratios = [row["ratio"] for row in found["matrix_iterative"]]
    lines = {
        name: [(0.0, 100 * dense["accuracy"]), *((row["ratio"], 100 * row["accuracy"]) for row in found[key])]
        for name, key in names.items()
    }
    (FOLDER / "pruning_accuracy.svg").write_text(plot("LeNet on MNIST after training", f"{OVER}; accuracy in %", lines))
    times = {name: [(row["ratio"], row[name]) for row in bench["cpu"]] for name in kinds}
    (FOLDER / "pruning_cpu.svg").write_text(
        plot("Time on one CPU core over that of the dense network", f"{OVER}; ratio of times", times)
    )

    sections = [
        "# Pruning: measured\n",
        "LeNet (20-50-500-10, 431,080 parameters) on MNIST, all 10,000 test images, float32, seed 1, one run each. "
        f"Dense: **{percent(dense['accuracy'])} %** after 4 epochs. Every figure comes from\n\n"
        "    PENSTOCK_DATA=folder python -m bench.studies.pruning        # accuracies, RTL of LeNet: pruning.json\n"
        "    python bench/pruning.py --json docs/results/pruning_bench.json  # CPU times, RTL of the digits network\n"
        "    python -m bench.studies.pruning_page                        # this page\n\n"
        "*Ratio* is the share of all weights that is removed. Matrix form removes whole rows (filters) and columns "
        "(input channel, ky, kx) of every layer's matrix; weights are ranked by |w|, rows and columns by the "
        "squared L2 "
        "norm.\n",
        "## Accuracy against ratio\n",
        "At once: two epochs of training after. Iterative: one epoch after each of the ratios up to this one. Matrix "
        "with OBS: columns chosen by Optimal Brain Surgeon on the layer-wise Hessian of 512 training images, and the "
        "others updated, before the same two epochs. In %.\n",
        table(
            ["ratio", *names],
            [[f"{r}", *(percent(at(found[key], r, "accuracy")) for key in names.values())] for r in ratios],
        ),
        "![accuracy](pruning_accuracy.svg)\n",
        "Without any training after:\n",
        table(
            ["ratio", "weights", "matrix", "matrix with OBS"],
            [[f"{r['ratio']}", *(percent(r[key]) for key in untrained)] for r in found["untrained"]],
        ),
        "## Sensitivity of each layer\n",
        "Accuracy in % when this layer alone is pruned, without training.\n",
        table(
            ["layer", "unit", *map(str, found["sensitivity"]["ratios"])],
            [
                [layer, unit, *map(percent, values)]
                for unit in ("weight", "column", "filter")
                for layer, values in found["sensitivity"][unit].items()
                if (layer, unit) != ("dense2", "filter")  # the classes stay
            ],
        ),
        "## Criteria at half of the multiplications\n",
        "Filters removed over all layers, weakest score per multiplication saved first, until half of the dense "
        "network's 2,293,000 multiplications are left; no training after.\n",
        table(
            ["criterion", "multiplications", "accuracy, %"],
            [[name, f"{row['macs']:,}", percent(row["accuracy"])] for name, row in found["criteria"].items()],
        ),
        "## Parameters and sizes\n",
        "Bytes of the arrays as float32. Dense: all weights of the network without removed filters. Sparse: compressed "
        "rows with 32-bit indices. Matrix: kept rows and columns, and a 32-bit index for each column.\n",
        table(
            ["ratio", "form", "parameters", "multiplications", "dense", "sparse", "matrix"],
            [
                [
                    f"{row['ratio']}",
                    form,
                    *(f"{row[key]:,}" for key in costs),
                ]
                for form, key in (("weights", "weight_iterative"), ("matrix", "matrix_obs"))
                for row in found[key]
            ],
        ),
        "## Time on one CPU core\n",
        "Over the dense network's; process time, fastest of 15 runs in turn, 32 frames at a time, the same unfolded "
        "input times matrix for all. Unstructured: zeros are multiplied. Sparse: torch's CSR.\n",
        table(
            ["ratio", "unstructured", "sparse", "matrix"],
            [[f"{row['ratio']}", *(f"{row[key]:.2f}" for key in kinds)] for row in bench["cpu"]],
        ),
        "![time](pruning_cpu.svg)\n",
        "## RTL\n",
        "Engine cycles and bytes per frame, means over 8 test frames in Verilator, 8 x 4 multipliers, 32-bit bus, "
        "memory of 10 cycles latency; first convolution in the head, all filters computed; RTL equal to the "
        "golden model "
        "in every row. Predicted cycles: each layer's of the unpruned network times what is left of its limit "
        "(multiplications or bytes of present channels, whichever takes longer); predicted bytes: by the "
        "weights left. Rows in multiples "
        "of 8. What small layers spend on filling and draining does not shrink with them: of the 2,294 cycles of the "
        "digits network at 0.8, 333 are above the limit.\n",
        table(
            ["design", "ratio", "cycles", "predicted", "off by", "limit", "bytes", "predicted", "off by"],
            [
                [
                    row["design"],
                    f"{row['ratio']}",
                    *(f"{row[key]:,.0f}" for key in ("cycles", "predicted_cycles")),
                    f"{100 * (row['cycles'] / row['predicted_cycles'] - 1):+.1f} %",
                    *(f"{row[key]:,.0f}" for key in ("limit", "bytes", "predicted_bytes")),
                    f"{100 * (row['bytes'] / row['predicted_bytes'] - 1):+.1f} %",
                ]
                for row in bench["rtl"]
            ],
        ),
    ]
    if found.get("apoz"):
        sections += [
            "## Network trimming on CIFAR-10\n",
            "LeNet for 32x32x3 images, 5 epochs, no augmentation, seed 1. In each round a quarter of the filters of "
            "conv2 and dense1 goes, those that are most often zero (APoZ on 512 training images), then "
            "two epochs follow. The first network was not trained to its end, so part of what "
            "fine-tuning gains is training.\n",
            table(
                ["compression of parameters", "accuracy before fine-tuning, %", "after, %"],
                [[f"{row['compression']:.2f}", percent(row["before"]), percent(row["after"])] for row in found["apoz"]],
            ),
        ]
    if found.get("vgg_criteria"):
        vgg = dict(found["vgg_criteria"])
        whole = vgg.pop("dense")["accuracy"]
        sections += [
            "## Criteria at 0.8 of the multiplications, VGG-16 on CIFAR-10\n",
            "VGG-16 with batch normalisation at a quarter of its width, 4 epochs, no augmentation, seed 1: "
            f"{percent(whole)} % before. Removed as above, no training after, which none survives; "
            "at half of the multiplications all are at 10 to 15 %.\n",
            table(
                ["criterion", "multiplications", "accuracy, %"],
                [[name, f"{row['macs']:,}", percent(row["accuracy"])] for name, row in vgg.items()],
            ),
        ]
    (FOLDER / "pruning.md").write_text("\n".join(sections))


if __name__ == "__main__":
    main()
