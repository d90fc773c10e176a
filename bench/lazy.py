"""Accuracy, bytes and multiplications of lazy inference, from the recipe's committed network.

    python bench/lazy.py [--recipe FILE] [--images N] [--json FILE]

In integer arithmetic, on the whole test set of the recipe's data (which PENSTOCK_DATA names), at each share of filters
that all lazy layers keep; ratios are to all filters over all channels. On the first `CHECKED` images the golden model
is compared with Brevitas, whose lazy layers choose in torch. *Static* keeps the filters strongest on calibration
frames, the same for every image, and *oracle* those that are strongest on this one: both on the first `COMPARED`. So is
one layer alone that is lazy; the last of them at a fifth of its filters on all images.
Times are medians of processor time per image, one at a time, predictors included, as ratios to all filters.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bench.table import Report, parser
from flow import lazy, recipe
from flow.convert import integer_frames, keep_share, software
from flow.lazy import Point
from flow.network import channels_last
from flow.steps import ACCURACY, Flow, TrainedAccuracy
from flow.workspace import Workspace
from hw.design import Design, IntArray
from hw.image import layout
from hw.options import kept_filters
from quant import lazy as witness
from quant.sliced import SlicedNetwork
from sim import golden

RECIPE = Path("recipes/cifar10_vgg16.toml")
SHARES = (1.0, 0.75, 0.5, 0.4375, 0.375, 0.25, 0.125)
FEWER = (0.5, 0.25, 0.125)
ALONE, FIFTH = (0.5, 0.2), 0.2  # shares of one layer, the others compute all filters
CHECKED, COMPARED, TIMED = 1000, 2000, 40  # images


def dense_macs(design: Design) -> int:
    """Multiplications of the lazy layers with all filters over all channels."""
    return sum(x.filters * int(x.kept_taps.sum()) * x.grid[0] * x.grid[1] for x in design.lazy_layers)


def dense_bytes(design: Design) -> tuple[int, int]:
    """Bytes of the lazy layers' records, and of all layers on the engine."""
    sizes = {record.name: record.stride * record.filters for record in layout(design)}
    return sum(sizes[layer.name] for layer in design.lazy_layers), sum(sizes.values())


def alone(design: Design, name: str, share: float) -> dict[str, int]:
    """Filters to keep so that layer `name` keeps a share of its own and the others all."""
    return {x.name: kept_filters(x.name, share, x.filters) if x.name == name else x.filters for x in design.lazy_layers}


def last_alone(design: Design, frames: IntArray, labels: NDArray[np.int64]) -> tuple[Point, float]:
    """The last lazy layer at `FIFTH` of its filters, and what share of their records the layers behind it then fetch,
    by the first `CHECKED` frames.
    """
    last = design.lazy_layers[-1].name
    keep = alone(design, last, FIFTH)
    (point,) = lazy.study(design, frames, labels, {"predicted": lazy.predicted}, (FIFTH,), [keep])
    run = golden.run(design, frames[:CHECKED], keep, maps=False)
    names = [layer.name for layer in design.tail]
    behind = [record for record in layout(design) if names.index(record.name) > names.index(last)]
    fetched = sum(float(run.layer(record.name).bytes.mean()) for record in behind)
    return point, fetched / sum(record.stride * record.filters for record in behind)


def equal_to_brevitas(flow: Flow, share: float) -> bool:
    """Whether the torch witness answers and chooses as the golden model does on the first images."""
    design = flow.design
    images = flow.data.test_x[:CHECKED]
    theirs = witness.run(flow.quantised_network(), images, lazy_layers(design, share))
    ours = golden.run(design, integer_frames(flow.graph, channels_last(images)), keep_share(design, share), maps=False)
    return np.array_equal(theirs.logits, ours.outputs) and all(
        np.array_equal(record.chosen, ours.layer(record.name).chosen) for record in theirs.layers
    )


class Timed(SlicedNetwork):
    """Adds up the processor time of lazy layers, their predictors included."""

    seconds = 0.0

    def layer(self, name: str, *given: Any) -> tuple[Tensor, Tensor, int]:
        """Time it if it is lazy."""
        started = time.process_time()
        result = super().layer(name, *given)
        if name in self.predictors:
            self.seconds += time.process_time() - started
        return result


def cpu_seconds(flow: Flow) -> dict[float, float]:
    """Median processor time per image of the lazy layers with sliced weights, one image at a time, on one core."""
    torch.set_num_threads(1)
    network, images = flow.quantised_network(), torch.tensor(flow.data.test_x[:TIMED])
    times: dict[float, list[float]] = {share: [] for share in SHARES}
    timed = {share: Timed(network, lazy_layers(flow.design, share)) for share in SHARES}
    for image in images:  # the shares in turn, so that a busy machine slows all of them
        for share, sliced in timed.items():
            sliced.seconds = 0.0
            sliced.run(image)
            times[share].append(sliced.seconds)
    return {share: float(np.median(found)) for share, found in times.items()}


def lazy_layers(design: Design, share: float) -> dict[str, witness.LazyLayer]:
    """How the lazy layers choose, for the witnesses in torch."""
    return {
        layer.name: witness.LazyLayer(software(layer.predictor), keep_share(design, share)[layer.name], layer.pinned)
        for layer in design.lazy_layers
        if layer.predictor is not None
    }


def main() -> int:
    """Evaluate, compare, print."""
    options = parser(__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--recipe", type=Path, default=RECIPE)
    options.add_argument("--images", type=int, help="test images to use; by default all")
    arguments = options.parse_args()
    chosen = recipe.load(arguments.recipe)
    flow = Flow(chosen, Workspace(Path("build/bench") / chosen.name), Console())
    flow.run(hardware=False)
    design, data = flow.design, flow.data
    images, labels = data.test_x[: arguments.images], data.test_y[: arguments.images]
    frames = integer_frames(flow.graph, channels_last(images))
    report = Report(f"{chosen.name}: {len(images)} test images, lazy: {', '.join(x.name for x in design.lazy_layers)}")
    trained = TrainedAccuracy.model_validate_json(flow.path(ACCURACY).read_text())
    report.row("accuracy, floating point", f"{100 * trained.floating:.2f} %")

    points = lazy.study(design, frames, labels, {"predicted": lazy.predicted}, SHARES, track=_bar("predicted"))
    choosers = {
        "predicted": lazy.predicted,
        "oracle": lazy.oracle,
        "static": lazy.static(lazy.mean_strengths(design, integer_frames(flow.graph, flow.frames.calibration[:512]))),
    }
    compared = lazy.study(
        design, frames[:COMPARED], labels[:COMPARED], choosers, FEWER, track=_bar("oracle and static")
    )
    names = [layer.name for layer in design.lazy_layers]
    single = {who: choosers[who] for who in ("predicted", "oracle")}
    by_layer = {
        name: lazy.study(
            design, frames[:COMPARED], labels[:COMPARED], single, ALONE, [alone(design, name, x) for x in ALONE],
            _bar(f"{name} alone"),
        )
        for name in names
    }  # fmt: skip
    fifth, behind = last_alone(design, frames, labels)
    macs, (lazy_bytes, all_bytes) = dense_macs(design), dense_bytes(design)
    for point in points:
        report.row(
            f"{100 * point.share:g} % of the filters: accuracy, lazy bytes, all bytes, lazy MACs",
            f"{100 * point.accuracy:.2f} %, {point.bytes / lazy_bytes:.3f}, {point.all_bytes / all_bytes:.3f}, "
            f"{point.macs / macs:.3f}",
        )
    for point in points:
        recalls = " ".join(f"{100 * value:.0f}" for value in point.recall.values())
        report.row(f"{100 * point.share:g} %: recall of the strongest filters, by layer", f"{recalls} %")
    for point in compared:
        report.row(
            f"first {len(images[:COMPARED])} images, {100 * point.share:g} %, {point.chooser}: accuracy, lazy bytes",
            f"{100 * point.accuracy:.2f} %, {point.bytes / lazy_bytes:.3f}",
        )
    for name, found in by_layer.items():
        for point in found:
            report.row(
                f"first {len(images[:COMPARED])} images, {name} alone at {100 * point.share:g} %, {point.chooser}: "
                "accuracy, recall",
                f"{100 * point.accuracy:.2f} %, {100 * point.recall[name]:.0f} %",
            )
    report.row(
        f"{names[-1]} alone at {100 * FIFTH:g} %, all images: accuracy, bytes fetched by the layers behind it",
        f"{100 * fifth.accuracy:.2f} %, {behind:.3f}",
    )
    overhead = lazy.predictor_macs(design) / macs
    report.row("predictors' MACs of the lazy layers'", f"{100 * overhead:.2f} %")
    seconds = cpu_seconds(flow)
    for share, each in seconds.items():
        report.row(
            f"{100 * share:g} %: time of the lazy layers on one core, weights sliced", f"{each / seconds[1.0]:.3f}"
        )
    checked = len(flow.data.test_x[:CHECKED])
    report.equal(f"golden = Brevitas that chooses in torch, {checked} images at 50 %", equal_to_brevitas(flow, 0.5))

    figures: dict[str, JsonValue] = {
        "images": len(images),
        "float": trained.floating,
        "int8": points[0].accuracy,
        "points": [_figures(point, lazy_bytes, all_bytes, macs) for point in points],
        "compared": [_figures(point, lazy_bytes, all_bytes, macs) for point in compared],
        "alone": {name: [_figures(x, lazy_bytes, all_bytes, macs) for x in found] for name, found in by_layer.items()},
        "last_at_a_fifth": {"accuracy": fifth.accuracy, "bytes_behind": behind},
        "recall_top_n": {str(point.share): dict(point.recall) for point in points},
        "predictor_overhead": overhead,
        "cpu_time_ratio": {str(share): each / seconds[1.0] for share, each in seconds.items()},
    }
    return report.finish(figures, arguments.json)


def _figures(point: Point, lazy_bytes: int, all_bytes: int, macs: int) -> JsonValue:
    return {
        "chooser": point.chooser,
        "k": point.share,
        "accuracy": point.accuracy,
        "bytes_ratio": point.bytes / lazy_bytes,
        "all_bytes_ratio": point.all_bytes / all_bytes,
        "macs_ratio": point.macs / macs,
    }


def _bar(what: str) -> lazy.Tracker:
    return lambda chunks: track(chunks, description=what, transient=True, disable=not Console().is_terminal)


if __name__ == "__main__":
    sys.exit(main())
