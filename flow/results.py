"""What `penstock paths` writes below `build/<name>/`: names, and the shapes of the JSON files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from sw.paths.scores import Scores

FOLDER = "paths"
SCORES, PATH, HARDWARE = f"{FOLDER}/scores.npz", f"{FOLDER}/path.npz", f"{FOLDER}/hardware.npz"
CUT, COMPARISON, GEOMETRY = f"{FOLDER}/cut.json", f"{FOLDER}/comparison.npz", f"{FOLDER}/geometry.npz"
PATTERNS, WORTH, DRAWINGS = f"{FOLDER}/patterns.npz", f"{FOLDER}/predictors.json", f"{FOLDER}/figures"
TABLES, NETWORKS = f"{FOLDER}/tables.md", f"{FOLDER}/networks"
RESULTS = {
    SCORES: "scores of every filter for every class",
    PATH: "the critical path of each class",
    NETWORKS: "the networks that are left of single classes",
    CUT: "one class against the rest, by share of filters kept",
    COMPARISON: "overlaps, ranks, distributions, principal components",
    GEOMETRY: "dissimilarities of images, filters in order of zeros",
    PATTERNS: "images that chosen filters answer to",
    HARDWARE: "what the accelerator reads",
    WORTH: "predictors: recall, share computed, accuracy",
    TABLES: "all of it as tables",
    DRAWINGS: "all of it as pictures",
}


class CutPoint(BaseModel):
    """One-vs-all of one score at one ratio: shares by class. `calibrated` thresholds are set on training images."""

    score: str
    ratio: float
    tp: list[float]
    fp: list[float]
    precision: list[float]
    calibrated_tp: list[float]
    calibrated_fp: list[float]
    megabytes: float


class CutResult(BaseModel):
    """All points; `megabytes` of the whole network, `layers` that were cut, `images` judged on."""

    layers: list[str]
    images: int
    calibration_images: int
    megabytes: float
    points: list[CutPoint]


class PredictorPoint(BaseModel):
    """A kind of predictor at a share; lists by layer."""

    kind: str
    share: float
    accuracy: float
    recall: list[float]
    computed: list[float]


class PredictorResult(BaseModel):
    """All points; `accuracy` with all filters, on `images` test images; mean bursts per frame by order of filters."""

    layers: list[str]
    images: int
    calibration_images: int
    accuracy: float
    points: list[PredictorPoint]
    runs_in_order: list[float]
    runs_as_trained: list[float]


def load_scores(file: Path) -> dict[str, Scores]:
    """Scores by name, from the arrays ``<score>/<layer>`` that `score` writes."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    with np.load(file, allow_pickle=False) as archive:
        for key in archive.files:
            name, _, layer = key.partition("/")
            found.setdefault(name, {})[layer] = archive[key]
    return {name: Scores(name, tuple(values), tuple(values.values())) for name, values in found.items()}
