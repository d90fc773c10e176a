"""Pictures of a study of critical paths: each is a function from result files to a file (extra `analysis`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.results import COMPARISON, CUT, GEOMETRY, PATTERNS, SCORES, WORTH, CutResult, PredictorResult, load_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Archive = dict[str, NDArray[Any]]

SHOWN = 4  # layers in pictures that have no room for all
TILE = 64  # pixels that a pattern is magnified to, about
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")  # told apart by all


def draw(workspace: Path, out: Path) -> None:
    """All pictures from the results in `workspace` into the folder `out`; the same results give the same files."""
    import matplotlib as mpl
    from cycler import cycler

    style: dict[Any, Any] = {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        "svg.hashsalt": "penstock",  # names of clip paths are drawn at random without
        "svg.fonttype": "none",
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        comparison, geometry = _load(workspace / COMPARISON), _load(workspace / GEOMETRY)
        _scores(workspace / SCORES, out / "scores.png")
        _ranks(comparison, out / "ranks.svg")
        _cut(CutResult.model_validate_json((workspace / CUT).read_text()), out / "cut.svg")
        _overlaps(comparison, out / "iou.svg")
        _trend(comparison, out / "trend.svg")
        _distributions(comparison, out / "distributions.svg")
        _components(comparison, out / "components.png")
        _separability(comparison, out / "separability.svg")
        _zeros(comparison, out / "zeros.svg")
        _dissimilarities(geometry, out / "dissimilarities.png")
        _insertion(geometry, out / "insertion.svg")
        _patterns(_load(workspace / PATTERNS), out / "patterns.png")
        _predictors(PredictorResult.model_validate_json((workspace / WORTH).read_text()), out / "predictors.svg")


def _load(file: Path) -> Archive:
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@contextmanager
def _figure(file: Path, rows: int, columns: int, width: float, height: float) -> Iterator[NDArray[Any]]:
    """The axes (rows, columns) of a picture of `width` x `height` inches, which is then written to `file`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.subplots(rows, columns, squeeze=False)
    metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
    figure.savefig(file, dpi=90, metadata=metadata)


def _few(layers: NDArray[Any]) -> list[str]:
    """Some layers from first to last."""
    picked = np.unique(np.linspace(0, len(layers) - 1, min(SHOWN, len(layers))).round().astype(int))
    return [str(layers[index]) for index in picked]


def _by_depth(axes: Axes, layers: NDArray[Any]) -> None:
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers], rotation=60)


def _matrix(figure: Figure, axes: Axes, values: NDArray[Any], labels: list[str], low: float, high: float) -> None:
    image = axes.imshow(values, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), labels)


# -- scores and paths --------------------------------------------------------------------------------------------------
def _scores(file: Path, out: Path) -> None:
    """Heat maps, classes x filters; filters in order of their mean. Those by the loss look as those by the logit."""
    names = ("activation", "contribution", "product", "coefficient", "positives", "selectivity")
    found = {name: scores for name, scores in load_scores(file).items() if name in names}
    layers = _few(np.array(next(iter(found.values())).layers))
    with _figure(out, len(found), len(layers), 2.1 * len(layers), 0.75 * len(found)) as grid:
        for row, (name, scores) in zip(grid, found.items(), strict=True):
            for axes, layer in zip(row, layers, strict=True):
                values = scores.of(layer)
                order = np.argsort(-values.mean(axis=0), kind="stable")
                low, high = np.quantile(values, (0.01, 0.99))  # a few filters would outshine all others
                axes.imshow(values[:, order], vmin=low, vmax=high, aspect="auto", interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
            row[0].set_ylabel(name.replace("_", "\n"), rotation=0, ha="right", va="center")
        for axes, layer in zip(grid[0], layers, strict=True):
            axes.set_title(layer)


def _ranks(comparison: Archive, out: Path) -> None:
    names = [str(name) for name in comparison["scores"]]
    with _figure(out, 1, 2, 9, 3.9) as grid:
        for axes, kind in zip(grid[0], ("spearman", "kendall"), strict=True):
            _matrix(axes.figure, axes, np.nanmean(comparison[kind], axis=0), names, -1, 1)
            axes.set_title(f"{kind.capitalize()}, mean over classes and layers")


def _cut(result: CutResult, out: Path) -> None:
    with _figure(out, 1, 3, 9, 2.8) as grid:
        names = list(dict.fromkeys(point.score for point in result.points))
        for name in names:
            points = sorted((point for point in result.points if point.score == name), key=lambda point: -point.ratio)
            pruned = [100 * (1 - point.ratio) for point in points]
            (line,) = grid[0, 0].plot(pruned, [100 * np.mean(point.tp) for point in points], ".-", label=name)
            grid[0, 0].plot(pruned, [100 * np.mean(point.fp) for point in points], ".:", color=line.get_color())
            grid[0, 1].plot(pruned, [100 * np.mean(point.precision) for point in points], ".-")
            grid[0, 2].plot(pruned, [100 * np.mean(point.calibrated_tp) for point in points], ".-")
            grid[0, 2].plot(
                pruned, [100 * np.mean(point.calibrated_fp) for point in points], ".:", color=line.get_color()
            )
        titles = ("TP (line) and FP (dots), as published", "precision, as published", "TP and FP, calibrated")
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set(xlabel="filters pruned, %", title=f"{title}, %", ylim=(-3, 103))
        grid[0, 0].legend(fontsize=7)


def _overlaps(comparison: Archive, out: Path) -> None:
    layers = _few(comparison["layers"])
    with _figure(out, 1, len(layers), 2.3 * len(layers), 2.3) as grid:
        for axes, layer in zip(grid[0], layers, strict=True):
            values, expected = comparison[f"{layer}.iou"], comparison[f"{layer}.expected"]
            classes = [str(number) for number in range(len(values))]
            _matrix(axes.figure, axes, values, classes, 0, 1)
            axes.tick_params(axis="x", labelrotation=0)
            pairs = np.triu_indices(len(values), 1)
            axes.set_title(f"{layer}: {values[pairs].mean():.2f}, chance {expected[pairs].mean():.2f}")


def _trend(comparison: Archive, out: Path) -> None:
    found, expected, low, high = comparison["overlap"]
    depth = np.arange(len(found))
    with _figure(out, 1, 3, 9, 2.6) as grid:
        axes = grid[0, 0]
        axes.plot(depth, found, ".-", label="classes")
        axes.plot(depth, expected, ".--", label="random, expected")
        axes.fill_between(depth, low, high, alpha=0.25, color=COLOURS[1], label="random, 95 %")
        axes.set(title="mean IoU of two classes", ylim=(0, 1))
        axes.legend(fontsize=7)
        for axes, values, title in zip(
            grid[0, 1:], comparison["spread"], ("std of class means", "std over mean of class means"), strict=True
        ):
            axes.plot(depth, values, ".-")
            axes.set(title=title, ylim=(0, None))
        for axes in grid[0]:
            _by_depth(axes, comparison["layers"])


# -- activations -------------------------------------------------------------------------------------------------------
def _distributions(comparison: Archive, out: Path) -> None:
    layers = _few(comparison["layers"])
    with _figure(out, 1, len(layers), 2.3 * len(layers), 2.2) as grid:
        for axes, layer in zip(grid[0], layers, strict=True):
            edges, zeros = comparison[f"{layer}.edges"], comparison[f"{layer}.zeros"]
            for values, share, name in zip(comparison[f"{layer}.distribution"], zeros, ("on", "off"), strict=True):
                axes.stairs(values, edges, label=f"{name} the path, {100 * share:.0f} % zero")
            axes.set(yscale="log", title=layer, xlabel="activation")
            axes.legend(fontsize=6)
        grid[0, 0].set_ylabel("share of activations")


def _components(comparison: Archive, out: Path) -> None:
    layers = _few(comparison["layers"])
    with _figure(out, 1, len(layers), 2.3 * len(layers), 2.3) as grid:
        for axes, layer in zip(grid[0], layers, strict=True):
            x, y = comparison[f"{layer}.points"].T
            axes.scatter(x, y, c=comparison[f"{layer}.labels"], cmap="tab10", s=3, linewidths=0)
            _, plane, accuracy = comparison[f"{layer}.separability"]
            one, other = 100 * comparison[f"{layer}.explained"]
            axes.set(xlabel=f"{one:.0f} %", ylabel=f"{other:.0f} %", xticks=[], yticks=[])
            axes.set_title(f"{layer}: Fisher {plane:.2f}, probe {100 * accuracy:.0f} %")


def _separability(comparison: Archive, out: Path) -> None:
    layers = comparison["layers"]
    whole, plane, probe = np.array([comparison[f"{layer}.separability"] for layer in layers]).T
    with _figure(out, 1, 2, 6, 2.5) as grid:
        grid[0, 0].plot(whole, ".-", label="all filters")
        grid[0, 0].plot(plane, ".--", label="two components")
        grid[0, 0].set(title="Fisher ratio", yscale="log")
        grid[0, 0].legend(fontsize=7)
        grid[0, 1].plot(100 * probe, ".-")
        grid[0, 1].set(title="linear probe, % of test images", ylim=(0, 100))
        for axes in grid[0]:
            _by_depth(axes, layers)


# -- geometry ----------------------------------------------------------------------------------------------------------
def _zeros(comparison: Archive, out: Path) -> None:
    layers = comparison["layers"]
    with _figure(out, 1, 1, 5, 2.5) as grid:
        axes = grid[0, 0]
        axes.boxplot([100 * comparison[f"{layer}.poz"] for layer in layers], whis=(5, 95), sym="")
        axes.set_xticks(range(1, len(layers) + 1), [str(layer) for layer in layers], rotation=60)
        axes.set(title="zeros of a filter, % (median, quartiles, 5 to 95 %)", ylim=(-3, 103))


def _dissimilarities(geometry: Archive, out: Path) -> None:
    layers, number = _few(geometry["layers"]), len(geometry["images"])
    with _figure(out, 1, len(layers), 2.3 * len(layers), 2.3) as grid:
        for axes, layer in zip(grid[0], layers, strict=True):
            matrix = np.zeros((number, number))
            matrix[np.triu_indices(number, 1)] = geometry[f"{layer}.rdm"]
            axes.imshow(matrix + matrix.T, interpolation="nearest", cmap="magma")
            axes.set(title=layer, xticks=[], yticks=[])


def _insertion(geometry: Archive, out: Path) -> None:
    layers = _few(geometry["layers"])
    kinds = [kind for kind in ("full", "human") if f"{layers[0]}.{kind}" in geometry]
    with _figure(out, len(kinds), len(layers), 2.3 * len(layers), 2.2 * len(kinds)) as grid:
        for row, kind in zip(grid, kinds, strict=True):
            for axes, layer in zip(row, layers, strict=True):
                counts = geometry[f"{layer}.counts"]
                names = ("fewest zeros first", "most zeros first", "random")
                for values, name in zip(geometry[f"{layer}.{kind}"], names, strict=True):
                    axes.plot(100 * counts / counts[-1], values, ".-", markersize=3, label=name)
                axes.set(title=layer, xlabel="filters inserted, %", ylim=(-0.03, 1.03 if kind == "full" else None))
            row[0].set_ylabel("R² with " + ("all filters" if kind == "full" else "people"))
        grid[0, 0].legend(fontsize=6)


# -- filters and predictors --------------------------------------------------------------------------------------------
def _patterns(patterns: Archive, out: Path) -> None:
    """A row for each layer, a column for each filter, pixel by pixel: such pictures are too rough to be resampled."""
    from matplotlib.image import imsave

    gap = 4
    rows = []
    for layer in patterns["layers"]:
        images = patterns[f"{layer}.images"].transpose(0, 2, 3, 1)  # (k, h, w, c)
        magnified = np.repeat(np.repeat(images, times := -(-TILE // images.shape[1]), axis=1), times, axis=2)
        if magnified.shape[3] != 3:
            magnified = np.repeat(magnified[..., :1], 3, axis=3)
        padded = np.pad(magnified, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1)
        rows.append(np.concatenate(list(padded), axis=1))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=1) for row in rows]
    imsave(out, np.concatenate(rows), metadata={"Software": "Penstock"})


def _predictors(result: PredictorResult, out: Path) -> None:
    with _figure(out, 1, 2, 7, 2.8) as grid:
        for kind in dict.fromkeys(point.kind for point in result.points):
            points = [point for point in result.points if point.kind == kind]
            computed = [100 * np.mean(point.computed) for point in points]
            grid[0, 0].plot(computed, [100 * np.mean(point.recall) for point in points], ".-", label=kind)
            grid[0, 1].plot(computed, [100 * point.accuracy for point in points], ".-")
        grid[0, 0].set(title="recall of the strongest filters, %", xlabel="filters computed, %")
        grid[0, 1].set(title="accuracy, %", xlabel="filters computed, %")
        grid[0, 1].axhline(100 * result.accuracy, color="black", linewidth=0.5)
        grid[0, 0].legend(fontsize=7)
