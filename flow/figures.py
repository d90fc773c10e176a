"""What a run of the flow has measured: written as figures.json, shown as the summary."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text


class Accuracy(BaseModel):
    """Shares of labelled test frames that are named right.

    `floating` before quantisation; `int8` with all filters; `lazy` with those that the recipe keeps.
    """

    floating: float
    int8: float
    lazy: float


class LayerFigures(BaseModel):
    """One layer, means per frame.

    `filters` chosen of `filters_all`, `bytes` fetched of `bytes_all` in external memory, over all test frames;
    `cycles` in the RTL, over the frames that ran in it. None where a figure has no meaning: a head stage fetches
    nothing and overlaps with the tail.
    """

    name: str
    kind: str
    filters: float
    filters_all: int
    bytes: float | None = None
    bytes_all: int | None = None
    cycles: float | None = None


class Figures(BaseModel):
    """Figures of one build.

    `frames` test frames ran through the golden model, `rtl_frames` of them through the RTL, with equal results.
    `agreement`: share of test frames whose largest logit is the same as with all filters.
    `latency`: mean cycles from a frame's first pixel to its last logit, `interval`: mean cycles between completions.
    """

    frames: int
    rtl_frames: int
    accuracy: Accuracy | None
    agreement: float
    layers: list[LayerFigures]
    latency: float
    interval: float | None


def load(path: Path) -> Figures:
    """What a run wrote."""
    return Figures.model_validate_json(path.read_text())


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.1f} %"


def show(console: Console, name: str, figures: Figures, folder: Path, recipe: str) -> None:
    """Print the summary: accuracy, layers, files, what to type next."""
    console.print()
    console.print(Group(*_accuracy(name, figures), _layers(figures), _files(folder), *_next(recipe)))


def _accuracy(name: str, figures: Figures) -> list[RenderableType]:
    table = Table(title=f"{name}: {figures.frames} test frames", title_justify="left", title_style="bold")
    table.add_column("network")
    if figures.accuracy is None:
        table.add_column("same answer as with all filters", justify="right")
        table.add_row("lazy, chosen filters only", percent(figures.agreement))
    else:
        table.add_column("accuracy", justify="right")
        table.add_row("floating point", percent(figures.accuracy.floating))
        table.add_row("int8, all filters", percent(figures.accuracy.int8))
        table.add_row("int8, lazy: chosen filters only", percent(figures.accuracy.lazy))
    return [table, Text()]


def _layers(figures: Figures) -> Table:
    table = Table(title="means per frame", title_justify="left", title_style="bold")
    table.add_column("layer")
    table.add_column("runs as")
    for column in ("filters", "of", "bytes fetched", "of", "cycles"):
        table.add_column(column, justify="right")
    for layer in figures.layers:
        table.add_row(
            layer.name,
            layer.kind,
            f"{layer.filters:.0f}",
            str(layer.filters_all),
            _number(layer.bytes),
            _number(layer.bytes_all),
            _number(layer.cycles),
        )
    table.add_section()
    fetched = sum(layer.bytes or 0 for layer in figures.layers)
    stored = sum(layer.bytes_all or 0 for layer in figures.layers)
    table.add_row(
        "one frame", "first pixel to last logit", "", "", _number(fetched), _number(stored), _number(figures.latency)
    )
    interval = (
        "" if figures.interval is None else f", one frame every {figures.interval:,.0f} cycles when they follow at once"
    )
    table.caption = f"cycles: RTL in Verilator, {figures.rtl_frames} frames, all equal to the golden model{interval}"
    table.caption_justify = "left"
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


FILES = {
    "rtl/": "SystemVerilog; files.f lists it",
    "weights.bin": "weight image for external memory",
    "manifest.json": "what lies where in the image",
    "vectors.npz": "golden vectors: frames, logits, strengths, scores, choices, bytes",
    "model.onnx": "the quantised network, QONNX",
    "figures.json": "the figures above",
}


def _files(folder: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row()
    for name, what in FILES.items():
        table.add_row(f"{folder}/{name}", what)
    return table


def _next(recipe: str) -> list[RenderableType]:
    commands = Table.grid(padding=(0, 2))
    commands.add_row()
    commands.add_row(
        f"  .venv/bin/penstock verify {recipe}", "every test frame through the RTL, against the golden model"
    )
    commands.add_row("  make sim", "the cocotb regressions, modules and the whole accelerator")
    return [Text("\nNext:"), commands]
