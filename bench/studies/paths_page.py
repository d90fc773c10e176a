"""The tables of docs/results/paths.md, from one run of the benchmark; the text around them is written by hand.

    python bench/paths.py --json docs/results/paths.json --details docs/results/paths_details.json
    python -m bench.studies.paths_page

Every table stands between a line `<!-- table NAME -->` and the next `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.paths import LARGER, SOME, TARGETS, UNFITTED, WHOLE, chosen
from bench.studies.pruning_page import FOLDER, table

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Results = Mapping[str, Any]  # of a JSON file


def percent(value: float, digits: int = 1) -> str:
    """Without the sign."""
    return f"{100 * value:.{digits}f}"


def both(case: Results) -> str:
    """Means of TP and FP."""
    return f"{percent(np.mean(case['tp']))} / {percent(np.mean(case['fp']))}"


def means(found: Results) -> str:
    """Every way of cutting."""
    rows = []
    for name, case in found["one_vs_all"].items():
        kind, rule = chosen(case)
        tp, fp = np.array(rule["tp"]), np.array(rule["fp"])
        rows.append(
            [
                name,
                both(case["largest"]),
                both(rule),
                percent(float(np.mean(tp / (tp + 9 * fp)))),
                kind,
                f"{case['size_mb']:.1f}",
                f"{case['macs'] / 1e6:.0f}",
            ]
        )
    return table(["filters", "largest logit", "calibrated", "precision", "rule", "MB", "M MACs"], rows)


def columns(found: Results, wanted: Callable[[str], bool]) -> str:
    """All ten classes."""
    rows = []
    for name, case in found["one_vs_all"].items():
        if wanted(name):
            for key, label in (("tp", "TP"), ("fp", "FP")):
                values = chosen(case)[1][key]
                rows.append([f"{name}, {label}", *(percent(value) for value in values), percent(np.mean(values))])
    return table(["", *CLASSES, "mean"], rows)


def targets(found: Results) -> str:
    """TP / FP on test images over the share that the thresholds accept of training images."""
    cases = found["one_vs_all"]
    names = [name for name in (WHOLE, *(f"{name}, {LARGER}" for name in SOME), *SOME) if name in cases]
    rows = [[name, *(both(chosen(cases[name], target)[1]) for target in TARGETS)] for name in names]
    return table(["filters", *(f"{100 * target:g} %" for target in TARGETS)], rows)


def distilled(found: Results) -> str:
    """ADMM on both data sets."""
    rows = [
        (name, found[part]) for part, name in (("admm", "VGG-16, CIFAR-10"), ("mnist", "LeNet, MNIST")) if part in found
    ]
    keys = ("before", "after", "weights_pruned", "filters_pruned")
    return table(
        ["", "before", "after", "weights gone", "filters gone"],
        [[name, *(percent(value[key], 2) for key in keys)] for name, value in rows],
    )


def predictors(found: Results) -> str:
    """Recall, computed and accuracy by kind and share."""
    points = found["predictors"]["points"]
    shares = sorted({point["share"] for point in points})
    rows = []
    for kind in dict.fromkeys(point["kind"] for point in points):
        own = {point["share"]: point for point in points if point["kind"] == kind}
        cells = (
            f"{percent(own[share]['recall'])}, {percent(own[share]['computed'])}, {percent(own[share]['accuracy'])}"
            for share in shares
        )
        rows.append([kind, *cells])
    return table(["recall, computed, accuracy", *(f"{100 * share:g} %" for share in shares)], rows)


TABLES: Mapping[str, tuple[str, Callable[[Results], str]]] = {  # with the part of the benchmark that they need
    "means": ("one_vs_all", means),
    "fitted": ("one_vs_all", lambda found: columns(found, lambda name: UNFITTED not in name)),
    "unfitted": ("one_vs_all", lambda found: columns(found, lambda name: UNFITTED in name)),
    "targets": ("one_vs_all", targets),
    "admm": ("admm", distilled),
    "predictors": ("predictors", predictors),
}


def main() -> None:
    """Fill the page; tables of parts that were not run stay as they are."""
    found = json.loads((FOLDER / "paths_details.json").read_text())
    page = FOLDER / "paths.md"

    def filled(place: re.Match[str]) -> str:
        part, make = TABLES[place[1]]
        return f"<!-- table {place[1]} -->\n{make(found)}<!-- end -->" if part in found else place[0]

    page.write_text(re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", filled, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main()
