"""Does it pay that the choice of filters depends on the input? Three ways to the same bytes, at several seeds.

    python bench/dependence.py [--recipe FILE] [--seeds N] [--json FILE] [--picture FILE]

*Afterwards*: the network is trained without laziness, and predictors are fitted to it. *Practised*: lazy layers and
their predictors train together (`quantise.gate_by = "training"`). One network each serves all shares of filters.
*Pruned*: whole filters are removed, the same for every image, and what is left is trained again, for every ratio; then
all of it is fetched. Integer arithmetic in the golden model, the whole test set; bytes are the means per frame that the
engine fetches, as shares of those of the first network with all filters and channels.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from rich.console import Console

from bench.plot import plot
from bench.table import Report, parser
from flow import lazy
from flow import recipe as recipes
from flow.convert import integer_frames
from flow.network import channels_last
from flow.recipe import PredictorSection, PruneSection, Recipe
from flow.steps import Flow, share
from flow.workspace import Workspace
from hw.design import Source
from hw.image import layout
from sim import golden

RECIPE = Path("recipes/digits.toml")
SHARES = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
PRUNED = (0.9, 0.8, 0.65, 0.5, 0.3)  # ratios of weights that are removed
AFTERWARDS, PRACTISED, STATIC = "afterwards", "practised", "pruned"

Points = list[tuple[float, float]]  # share of the bytes, accuracy


def variant(recipe: Recipe, way: str, seed: int, ratio: float | None = None) -> Recipe:
    """The recipe of one way, seed and ratio of pruning; the float network is the same for all ways."""
    quantise = recipe.quantise.model_copy(update={"gate": 1.0})
    if way == PRACTISED:
        quantise = recipe.quantise.model_copy(update={"gate_by": "training"})
    kind = PredictorSection(kind="trained" if way == PRACTISED else "linear", frames=recipe.predictor.frames)
    layers = {name: layer.model_copy(update={"pinned": 0}) for name, layer in (recipe.layers or {}).items()}
    updates = {"seed": seed, "order": "trained", "quantise": quantise, "predictor": kind}
    if ratio is not None:
        training = recipe.train.model_dump(exclude={"restarts", "epochs"})
        updates["prune"] = PruneSection(
            **training | {"rate": recipe.train.rate / 3}, epochs=max(2, recipe.train.epochs // 3), ratio=ratio,
            form="filter", criterion="activation", steps=2,
        )  # fmt: skip
        layers = {
            name: layer.model_copy(update={"weights": Source.DENSE}) if layer.weights is Source.LAZY else layer
            for name, layer in layers.items()
        }
    return recipe.model_copy(update=updates | {"layers": layers})


def built(recipe: Recipe, name: str) -> Flow:
    """Its network and design, in a folder of its own."""
    flow = Flow(recipe, Workspace(Path("build/bench/dependence") / f"{recipe.name}_{name}"), Console())
    flow.run(hardware=False)
    return flow


def stored(flow: Flow) -> int:
    """Bytes of all records on the engine."""
    return sum(record.stride * record.filters for record in layout(flow.design))


def points(flow: Flow, whole: int) -> Points:
    """What a lazy network gives at every share, or a dense one at all filters."""
    frames, labels = integer_frames(flow.graph, channels_last(flow.data.test_x)), flow.data.test_y
    if flow.design.lazy_layers:
        found = lazy.study(flow.design, frames, labels, {"predicted": lazy.predicted}, SHARES)
        return [(point.all_bytes / whole, point.accuracy) for point in found]
    run = golden.run(flow.design, frames, maps=False)
    size = sum(float(run.layer(layer.name).bytes.mean()) for layer in flow.design.tail)
    return [(size / whole, share(run.outputs.argmax(axis=1) == labels))]


def measured(recipe: Recipe, seed: int) -> dict[str, Points]:
    """All ways at one seed."""
    plain = built(variant(recipe, AFTERWARDS, seed), f"{AFTERWARDS}_{seed}")
    whole = stored(plain)
    found = {AFTERWARDS: points(plain, whole)}
    found[PRACTISED] = points(built(variant(recipe, PRACTISED, seed), f"{PRACTISED}_{seed}"), whole)
    found[STATIC] = [
        point
        for ratio in PRUNED
        for point in points(built(variant(recipe, STATIC, seed, ratio), f"{STATIC}_{ratio:g}_{seed}"), whole)
    ]
    return found


def means(found: Mapping[int, Mapping[str, Points]]) -> dict[str, list[tuple[float, float, float, float]]]:
    """For every way and setting: mean share of the bytes; mean, lowest and highest accuracy over the seeds."""
    result = defaultdict(list)
    for way in (AFTERWARDS, PRACTISED, STATIC):
        for alike in zip(*(ways[way] for ways in found.values()), strict=True):
            sizes, accuracies = zip(*alike, strict=True)
            result[way].append((float(np.mean(sizes)), float(np.mean(accuracies)), min(accuracies), max(accuracies)))
    return dict(result)


def main() -> int:
    """Train, measure, print, draw."""
    options = parser(__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--recipe", type=Path, default=RECIPE)
    options.add_argument("--seeds", type=int, default=3, help="how many, from 1 on")
    options.add_argument("--picture", type=Path, help="an SVG file")
    arguments = options.parse_args()
    recipe = recipes.load(arguments.recipe)
    found = {seed: measured(recipe, seed) for seed in range(1, arguments.seeds + 1)}
    summary = means(found)
    report = Report(f"{recipe.name}: accuracy against bytes fetched per frame, {arguments.seeds} seeds")
    for way, lines in summary.items():
        for size, mean, low, high in lines:
            report.row(
                f"{way}: {100 * size:.1f} % of the bytes", f"{100 * mean:.2f} % ({100 * low:.2f}-{100 * high:.2f})"
            )
    if arguments.picture is not None:
        series = {way: [(size, 100 * mean) for size, mean, *_ in lines] for way, lines in summary.items()}
        axes = "bytes fetched per frame, share of the network without laziness; accuracy in %"
        arguments.picture.write_text(plot(recipe.name, axes, series))
    figures: dict[str, JsonValue] = {
        way: [{"bytes": size, "accuracy": mean, "lowest": low, "highest": high} for size, mean, low, high in lines]
        for way, lines in summary.items()
    }
    return report.finish({"recipe": recipe.name, "seeds": arguments.seeds, "ways": figures}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
