"""A study of critical paths as tables, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.results import COMPARISON, CUT, GEOMETRY, WORTH, CutResult, PredictorResult


def tables(workspace: Path) -> str:
    """All tables of the results in `workspace`."""
    with np.load(workspace / COMPARISON, allow_pickle=False) as archive:
        comparison = {key: archive[key] for key in archive.files}
    with np.load(workspace / GEOMETRY, allow_pickle=False) as archive:
        geometry = {key: archive[key] for key in archive.files}
    layers = [str(layer) for layer in comparison["layers"]]

    overlap = []
    for layer, found, expected, low, high in zip(layers, *comparison["overlap"], strict=True):
        verdict = "more" if found > high else "less" if found < low else "as by chance"
        overlap.append([layer, f"{found:.3f}", f"{expected:.3f}", f"{low:.3f} to {high:.3f}", verdict])

    activations = []
    for layer, spread in zip(layers, comparison["spread"][1], strict=True):
        (zero_on, zero_off), (on, off) = comparison[f"{layer}.zeros"], comparison[f"{layer}.means"]
        fisher, plane, probe = comparison[f"{layer}.separability"]
        activations.append(
            [
                layer,
                f"{spread:.2f}",
                f"{on:.3f}, {off:.3f}",
                f"{100 * zero_on:.0f}, {100 * zero_off:.0f}",
                f"{100 * np.median(comparison[f'{layer}.poz']):.0f}",
                f"{fisher:.2f}, {plane:.2f}",
                f"{100 * probe:.1f}",
            ]
        )

    inserted = []
    for layer in layers:
        counts, curves = geometry[f"{layer}.counts"], geometry[f"{layer}.full"]
        needed = [f"{100 * counts[np.argmax(curve >= 0.9)] / counts[-1]:.0f}" for curve in curves]
        inserted.append([layer, *needed])

    worth = PredictorResult.model_validate_json((workspace / WORTH).read_text())
    predictors = [
        [
            point.kind,
            f"{100 * point.share:.0f}",
            f"{100 * np.mean(point.computed):.1f}",
            f"{100 * np.mean(point.recall):.1f}",
            f"{100 * point.accuracy:.2f}",
        ]
        for point in worth.points
    ]
    runs = [
        [layer, f"{natural:.1f}", f"{ordered:.1f}"]
        for layer, natural, ordered in zip(worth.layers, worth.runs_as_trained, worth.runs_in_order, strict=True)
    ]

    result = CutResult.model_validate_json((workspace / CUT).read_text())
    cut = [
        [
            point.score,
            f"{point.ratio:g}",
            f"{100 * np.mean(point.tp):.1f}",
            f"{100 * np.mean(point.fp):.1f}",
            f"{100 * np.mean(point.precision):.1f}",
            f"{100 * np.mean(point.calibrated_tp):.1f}",
            f"{100 * np.mean(point.calibrated_fp):.1f}",
            f"{point.megabytes:.1f}",
        ]
        for point in result.points
    ]
    return "\n".join(
        [
            "## Overlap of two classes",
            "",
            *_table(["layer", "IoU", "expected of random masks", "95 % of random masks", "classes overlap"], overlap),
            "",
            "## Activations",
            "",
            *_table(
                [
                    "layer",
                    "std over mean of class means",
                    "mean on, off the path",
                    "zeros on, off, %",
                    "median PoZ, %",
                    "Fisher ratio: all filters, two components",
                    "linear probe, %",
                ],
                activations,
            ),
            "",
            "## Filters needed for R² of 0.9 with the dissimilarities of all, %",
            "",
            *_table(["layer", "fewest zeros first", "most zeros first", "random"], inserted),
            "",
            f"## One class against the rest, {result.images} test images, whole network {result.megabytes:.1f} MB",
            "",
            *_table(
                ["score", "kept", "TP, %", "FP, %", "precision, %", "calibrated TP, %", "FP, %", "MB"],
                cut,
            ),
            "",
            f"## Predictors, {worth.images} test images, {100 * worth.accuracy:.2f} % with all filters",
            "",
            *_table(["predictor", "share asked, %", "computed, %", "recall, %", "accuracy, %"], predictors),
            "",
            "## Runs of wanted filters per frame",
            "",
            *_table(["layer", "as trained", "by co-activation"], runs),
            "",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
