"""The study of critical paths: `penstock paths`. Steps as in `flow.steps`, on the network that is trained there.

    train ─► (prune) ─► score ─┬─► cut ─────────┐
                               ├─► compare ─────┤
                               ├─► geometry ────┼─► draw
                               ├─► maximise ────┤
                               └─► hand over ───┘

Results lie in `build/<name>/paths/`: numbers as npz and JSON, pictures in `figures/`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress, track
from torch import Tensor, nn

import sw.models
from flow import drawings
from flow.errors import UserError
from flow.network import write_npz
from flow.recipe import PathsSection, lazy_layers
from flow.results import (
    COMPARISON,
    CUT,
    DRAWINGS,
    FOLDER,
    GEOMETRY,
    HARDWARE,
    NETWORKS,
    PATH,
    PATTERNS,
    RESULTS,
    SCORES,
    TABLES,
    WORTH,
    CutPoint,
    CutResult,
    PredictorPoint,
    PredictorResult,
    load_scores,
)
from flow.steps import FLOAT, PRUNED, QUANTISED, Flow, Inputs, check
from flow.tables import tables
from sw.paths import compare, cut, geometry, hardware, lazy, maximise, scores
from sw.paths import path as paths
from sw.paths.scores import Images, Precision, ScoreConfig, Scores, in_precision
from sw.paths.stream import Collector, collect
from sw.paths.strengths import strengths
from sw.paths.watch import frozen, observed_layers, split

CUT_LAYERS = 6  # the last ones, as published for VGG-16
RATIOS = (0.05, 0.1, 0.2, 0.35)  # of filters kept where networks are cut
TRUE_POSITIVES = 0.98  # what calibrated thresholds let through of a class's own calibration images
SHARES = (0.25, 0.5, 0.75)  # of filters computed where predictors are judged
KINDS = (lazy.Kind.BOOLEAN, lazy.Kind.CLASSES, lazy.Kind.LINEAR, lazy.Kind.STATIC, lazy.Kind.RANDOM)
PATTERN_FILTERS = 8  # drawn of each layer that patterns are drawn of
PATTERN_LAYERS = 4
DISTRIBUTED = 2000  # test images whose activations are counted
BATCH = 125


# -- the study ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Study:
    """The study of one recipe's network, in its flow's workspace."""

    flow: Flow

    def run(self) -> None:
        """Bring everything up to date. UserError for what cannot be studied."""
        self.check()
        flow = self.flow
        with flow.workspace.locked():
            flow.prepare()
            for name, done, make in STEPS:
                flow.step(name, done, partial(make, self), INPUTS[name], own_progress=True)

    def check(self) -> None:
        """Refuse at once what would fail later."""
        recipe = self.flow.recipe
        if recipe.model is None:
            raise UserError(
                f"recipe '{recipe.name}': paths are studied in networks that are trained here; accepted: [model]"
            )
        for module in ("captum", "matplotlib", "rsatoolbox"):
            if importlib.util.find_spec(module) is None:
                raise UserError(f"paths need {module}, which is not installed: pip install 'penstock[analysis]'")
        check(recipe)
        known = (*scores.STREAMED, "apoz")
        for name in self.section.scores:
            if name not in known:
                raise UserError(f"recipe '{recipe.name}': 'paths.scores' has '{name}'; accepted: {', '.join(known)}")
        data = self.flow.data
        observed = observed_layers(sw.models.build(recipe.model.name, data.shape, data.classes, self.seed))
        for layer in self.section.layers or ():
            if layer not in observed:
                raise UserError(
                    f"recipe '{recipe.name}': 'paths.layers' has '{layer}'; accepted, followed by a ReLU: "
                    f"{', '.join(observed)}"
                )
        if self.section.human is not None:
            self._human()

    # -- what it is about ----------------------------------------------------------------------------------------------
    @property
    def section(self) -> PathsSection:
        """The recipe's `[paths]`."""
        return self.flow.recipe.paths

    @property
    def seed(self) -> int:
        """The recipe's."""
        return self.flow.recipe.seed

    @cached_property
    def network(self) -> nn.Sequential:
        """The trained network in floating point: without pruned filters, or with the weights of kept integers."""
        return self.flow.floating

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """The layers that have paths."""
        return observed_layers(self.network)

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that are cut, predicted and handed to the hardware, in the network's order."""
        chosen = self.section.layers or lazy_layers(self.flow.recipe) or self.observed[1:][-CUT_LAYERS:]
        return tuple(layer for layer in self.observed if layer in chosen)

    @cached_property
    def calibration(self) -> Images:
        """Training images, of which scores, thresholds and predictors are found."""
        data, number = self.flow.data, self.section.images
        return Images(data.train_x[:number], data.train_y[:number], BATCH)

    @cached_property
    def test(self) -> Images:
        """All test images."""
        return Images(self.flow.data.test_x, self.flow.data.test_y, BATCH)

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """What `score` wrote."""
        return load_scores(self.flow.path(SCORES))

    @property
    def path(self) -> paths.CriticalPath:
        """The critical path by the first of the scores, of all layers."""
        return paths.from_scores(self.scores[self.section.scores[0]], self.section.ratio)

    def shown(self, what: str, data: Images) -> Iterable[tuple[Tensor, Tensor]]:
        """The batches of `data`, with a progress bar."""
        total = -(-len(data.x) // data.batch)
        return _Again(lambda: self._track(data, total, what))

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar of `total` steps; what it gives is to be called after each."""
        with Progress(transient=True, disable=not self.flow.console.is_terminal, console=self.flow.console) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)

    def _track(self, data: Images, total: int, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        hidden = not self.flow.console.is_terminal
        yield from track(data, what, total=total, transient=True, disable=hidden, console=self.flow.console)

    def _human(self) -> geometry.HumanSimilarity:
        assert self.section.human is not None
        try:
            return geometry.load_human(self.section.human, len(self.flow.data.test_x))
        except ValueError as error:
            raise UserError(f"recipe '{self.flow.recipe.name}': 'paths.human': {error}") from error


@dataclass(frozen=True)
class _Again:
    """Something that can be iterated as often as asked."""

    make: Callable[[], Iterator[tuple[Tensor, Tensor]]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.make()


# -- the steps ---------------------------------------------------------------------------------------------------------
def score(study: Study, aside: Path) -> None:
    """Every score for every class, in one pass over the calibration images."""
    config = ScoreConfig(study.flow.data.classes, precision=study.section.precision, seed=study.seed)
    data = study.shown("score", study.calibration)
    found = scores.measure(study.network, data, config, [*scores.STREAMED, "apoz"])
    arrays = {f"{name}/{layer}": found[name].of(layer) for name in found for layer in found[name].layers}
    _write(aside, SCORES, arrays)


def cut_networks(study: Study, aside: Path) -> None:
    """One class against the rest, for each score and share of filters kept; what lies before the cut runs once."""
    network, section = study.network, study.section
    layers = study.observed[-CUT_LAYERS:]
    head, tail = split(network, layers)
    found = []
    # Both kinds of images in one go: to cut a network costs as much as to run it.
    middle = _through(head, [study.calibration, study.test], section.precision)
    first = len(study.calibration.x)
    frame = study.flow.data.shape
    with study.bar("cut", len(section.scores) * len(RATIOS)) as advance:
        for name in section.scores:
            for ratio in RATIOS:
                critical = paths.from_scores(study.scores[name], ratio, layers)
                networks = cut.cut(tail, critical, _shape(middle.x))
                both = cut.responses(networks, middle, section.precision)
                known = cut.Responses(both.logits[:, :first], both.labels[:first])
                judged = cut.Responses(both.logits[:, first:], both.labels[first:])
                published = cut.one_vs_all(judged, cut.as_published(critical.classes))
                rule = cut.calibrated(known, cut.Statistic.ODDS, TRUE_POSITIVES)
                calibrated = cut.one_vs_all(judged, rule)
                small = cut.distilled(network, critical, 0, frame)
                found.append(
                    CutPoint(
                        score=name,
                        ratio=ratio,
                        tp=published.tp.tolist(),
                        fp=published.fp.tolist(),
                        precision=published.precision.tolist(),
                        calibrated_tp=calibrated.tp.tolist(),
                        calibrated_fp=calibrated.fp.tolist(),
                        megabytes=cut.size(small, frame).megabytes,
                    )
                )
                advance()
    result = CutResult(
        layers=list(layers),
        images=len(study.test.x),
        calibration_images=len(study.calibration.x),
        megabytes=cut.size(network, frame).megabytes,
        points=found,
    )
    (aside / NETWORKS).mkdir(parents=True)
    (aside / CUT).write_text(result.model_dump_json(indent=1) + "\n")
    critical = paths.from_scores(study.scores[section.scores[0]], section.ratio, layers)
    for cls in range(critical.classes):
        small = cut.distilled(network, critical, cls, frame)
        cut.save(aside / NETWORKS / f"{cls}.npz", small, critical, cls, network)


def compare_paths(study: Study, aside: Path) -> None:
    """Overlaps, ranks, spreads, distributions and components; the latter judged on test images."""
    critical, classes = study.path, study.flow.data.classes
    overlap = compare.trend(critical, seed=study.seed)
    agreement = compare.rank_agreement(study.scores)
    spread = compare.class_spread(study.scores["activation"])
    network, precision = study.network, study.section.precision
    moments, zeros = compare.Moments(classes), geometry.Zeros()
    collect(network, study.shown("compare", study.calibration), [moments, zeros], precision=precision)
    parts = {layer: compare.components(moments, layer) for layer in study.observed}
    projections, distributions = (
        compare.Projections(parts, classes),
        compare.Distributions(critical, frames=DISTRIBUTED),
    )
    several: list[Collector] = [projections, distributions]
    collect(network, study.shown("compare", study.test), several, precision=precision)
    arrays: dict[str, NDArray[np.generic]] = {
        "layers": np.array(critical.layers),
        "overlap": np.stack([overlap.iou, overlap.expected, overlap.low, overlap.high]),
        "scores": np.array(agreement.scores),
        "spearman": agreement.spearman,
        "kendall": agreement.kendall,
        "spread": np.stack([spread.deviation, spread.relative]),
    }
    found, seen, poz = projections.result(), distributions.result(), zeros.result()
    for layer in critical.layers:
        one, other = found[layer], seen[layer]
        arrays |= {
            f"{layer}.iou": compare.iou(critical.of(layer)),
            f"{layer}.expected": compare.expected_iou(critical.of(layer)),
            f"{layer}.edges": other.edges,
            f"{layer}.distribution": np.stack([other.on, other.off]),
            f"{layer}.zeros": other.zeros,
            f"{layer}.means": other.means,
            f"{layer}.poz": poz[layer],
            f"{layer}.points": one.points,
            f"{layer}.labels": one.labels,
            f"{layer}.explained": parts[layer].explained,
            f"{layer}.separability": np.array([parts[layer].fisher, one.fisher_2d, one.accuracy]),
        }
    _write(aside, COMPARISON, arrays)


def find_geometry(study: Study, aside: Path) -> None:
    """Dissimilarities of test images by layer, and how few filters, in order of zeros, give the same."""
    human = study._human() if study.section.human is not None else None
    chosen = np.arange(min(study.section.stimuli, len(study.test.x))) if human is None else human.images
    # Images of a class side by side, so that a picture of dissimilarities shows classes as blocks.
    chosen = chosen if human is not None else chosen[np.argsort(study.test.y[chosen], kind="stable")]
    values = geometry.features(study.network, study.test.x[chosen], precision=study.section.precision)
    with np.load(study.flow.path(COMPARISON), allow_pickle=False) as archive:
        poz = {layer: archive[f"{layer}.poz"] for layer in study.observed}
    arrays: dict[str, NDArray[np.generic]] = {"images": chosen, "labels": study.test.y[chosen]}
    arrays["layers"] = np.array(study.observed)
    with study.bar("geometry", len(values)) as advance:
        for layer, features in values.items():
            found = geometry.geometry(features, poz[layer], study.seed, human=None if human is None else human.rdm)
            arrays[f"{layer}.rdm"] = found.rdm
            arrays[f"{layer}.counts"] = found.fewest.counts
            orders = (found.fewest, found.most, found.random)
            arrays[f"{layer}.full"] = np.stack([order.full for order in orders])
            if human is not None:
                arrays[f"{layer}.human"] = np.stack([order.human for order in orders if order.human is not None])
            advance()
    _write(aside, GEOMETRY, arrays)


def maximise_filters(study: Study, aside: Path) -> None:
    """Images for the filters of highest score, one class after another, of some layers from first to last."""
    ranked = study.scores[study.section.scores[0]]
    picked = np.unique(np.linspace(0, len(study.observed) - 1, PATTERN_LAYERS).round().astype(int))
    arrays: dict[str, NDArray[np.generic]] = {"layers": np.array([study.observed[index] for index in picked])}
    with study.bar("maximise", len(picked)) as advance:
        for index in picked:
            layer = study.observed[index]
            best = np.argsort(-ranked.of(layer), axis=1, kind="stable")  # (classes, filters)
            filters = list(dict.fromkeys(best.T.flatten().tolist()))[:PATTERN_FILTERS]
            settings = maximise.Ascent(seed=study.seed)
            found = maximise.maximise(study.network, layer, filters, study.flow.data.shape, settings)
            arrays |= {
                f"{layer}.filters": found.filters,
                f"{layer}.classes": ranked.of(layer)[:, filters].argmax(axis=0),
                f"{layer}.images": found.images,
                f"{layer}.activations": np.stack([found.before, found.after]),
            }
            advance()
    _write(aside, PATTERNS, arrays)


def hand_over(study: Study, aside: Path) -> None:
    """The file for the accelerator, and what its predictors are worth beside others, on all test images."""
    network, section, critical = study.network, study.section, study.path
    seen = strengths(network, torch.tensor(study.calibration.x))
    settings = hardware.Calibration(section.share)
    handed = hardware.for_hardware(critical, seen, study.layers, paths.fingerprint(network), settings)
    (aside / FOLDER).mkdir()
    handed.save(aside / HARDWARE)
    paths.save(aside / PATH, critical, network)
    wanted = [hardware.wanted(seen.made(layer.name), section.share) for layer in handed.layers]
    judge = lazy.Lazy(
        network,
        study.layers,
        critical,
        study.calibration.x,
        study.test.x,
        study.test.y,
        section.precision,
        study.seed,
    )
    with study.bar("predictors", len(KINDS) * len(SHARES)) as advance:
        worth = judge.worth(KINDS, SHARES, advance)
    result = PredictorResult(
        layers=list(study.layers),
        images=len(study.test.x),
        calibration_images=len(study.calibration.x),
        accuracy=judge.dense(),
        points=[
            PredictorPoint(
                kind=point.kind,
                share=point.share,
                accuracy=point.accuracy,
                recall=[layer.recall for layer in point.layers],
                computed=[layer.share for layer in point.layers],
            )
            for point in worth
        ],
        runs_in_order=[hardware.runs(w, layer.order) for w, layer in zip(wanted, handed.layers, strict=True)],
        runs_as_trained=[hardware.runs(w, np.arange(w.shape[1])) for w in wanted],
    )
    (aside / WORTH).write_text(result.model_dump_json(indent=1) + "\n")


def draw(study: Study, aside: Path) -> None:
    """All pictures and tables."""
    (aside / DRAWINGS).mkdir(parents=True)
    (aside / TABLES).write_text(tables(study.flow.workspace.folder))
    drawings.draw(study.flow.workspace.folder, aside / DRAWINGS)


def _write(aside: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    (aside / name).parent.mkdir(exist_ok=True)
    write_npz(aside / name, arrays)


def _shape(frames: NDArray[np.float32]) -> tuple[int, int, int]:
    _, channels, height, width = frames.shape
    return channels, height, width


def _through(head: nn.Module, several: Sequence[Images], precision: Precision) -> Images:
    """What comes out of `head`, with the labels, as frames for the rest of the network."""
    found = []
    with frozen(head), torch.no_grad():
        for data in several:
            for x, _ in data:
                with in_precision(precision, x):
                    found.append(head(x).float().numpy())
    return Images(np.concatenate(found), np.concatenate([data.y for data in several]), several[0].batch)


# -- what each step is made from ---------------------------------------------------------------------------------------
STEPS: tuple[tuple[str, str, Callable[[Study, Path], None]], ...] = (
    ("score", "filters scored for every class", score),
    ("cut", "networks cut to the path of one class", cut_networks),
    ("compare", "paths compared with chance and with each other", compare_paths),
    ("geometry", "dissimilarities of images found", find_geometry),
    ("maximise", "filters drawn by what they answer to", maximise_filters),
    ("handover", "paths handed to the hardware, predictors judged", hand_over),
    ("draw", "pictures drawn, tables written", draw),
)
_CODE = ("flow.study", "quant.plain", "sw.data", "sw.models", "sw.paths", "sw.predictors", "sw.pruning")
_NETWORK = ("seed", "data", "model", "prune", "paths")
_WEIGHTS = (FLOAT, PRUNED, QUANTISED)
INPUTS = {
    "score": Inputs(_CODE, _NETWORK, _WEIGHTS, (SCORES,)),
    "cut": Inputs(_CODE, _NETWORK, (*_WEIGHTS, SCORES), (CUT, NETWORKS)),
    "compare": Inputs(_CODE, _NETWORK, (*_WEIGHTS, SCORES), (COMPARISON,)),
    "geometry": Inputs(_CODE, _NETWORK, (*_WEIGHTS, COMPARISON), (GEOMETRY,)),
    "maximise": Inputs(_CODE, _NETWORK, (*_WEIGHTS, SCORES), (PATTERNS,)),
    "handover": Inputs(_CODE, (*_NETWORK, "layers"), (*_WEIGHTS, SCORES), (HARDWARE, PATH, WORTH)),
    "draw": Inputs(
        ("flow.study", "flow.drawings", "flow.tables"),
        ("name",),
        (SCORES, CUT, COMPARISON, GEOMETRY, PATTERNS, HARDWARE, WORTH),
        (DRAWINGS, TABLES),
    ),
}


def summary(study: Study) -> Iterator[tuple[str, str]]:
    """Figures and files, as lines of what and how much, for the end of the command."""
    flow = study.flow
    overlap = np.load(flow.path(COMPARISON), allow_pickle=False)["overlap"]
    yield f"IoU of two classes in {study.observed[0]}, by chance", f"{overlap[0, 0]:.2f}, {overlap[1, 0]:.2f}"
    yield f"IoU of two classes in {study.observed[-1]}, by chance", f"{overlap[0, -1]:.2f}, {overlap[1, -1]:.2f}"
    result = PredictorResult.model_validate_json(flow.path(WORTH).read_text())
    yield "accuracy with all filters", f"{100 * result.accuracy:.2f} %"
    for point in result.points:
        if point.share == 0.5:
            recall = f"recall {100 * np.mean(point.recall):.1f} %"
            yield f"half of the filters, {point.kind}", f"{100 * point.accuracy:.2f} %, {recall}"
    for name, what in RESULTS.items():
        yield what, str(flow.path(name))
