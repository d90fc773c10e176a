"""What a run of the flow has measured: written as figures.json, shown as the summary."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
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
    """One layer, means per frame; `weights` says where they come from.

    `filters` chosen of `filters_all`, `bytes` fetched of `bytes_all` in external memory, over all test frames;
    `cycles` in the RTL, over the frames that ran in it. None where a figure has no meaning: a head stage fetches
    nothing and overlaps with the tail.
    """

    name: str
    weights: str
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


def show(console: Console, name: str, figures: Figures, folder: Path, again: str) -> None:
    """Print the summary: accuracy, layers, files, what to type next. `again` is what names this build to `penstock`."""
    for part in (_accuracy(name, figures), _layers(figures), _timing(figures), _files(folder), _next(again)):
        console.print()
        console.print(part, highlight=False)


def _accuracy(name: str, figures: Figures) -> Table:
    table = Table(title=f"{name}: {figures.frames} test frames", title_justify="left", title_style="bold")
    table.add_column("network")
    if figures.accuracy is None:
        table.add_column("same answer as with all filters", justify="right")
        table.add_row("int8, lazy: chosen filters only", percent(figures.agreement))
    else:
        table.add_column("accuracy", justify="right")
        table.add_row("floating point", percent(figures.accuracy.floating))
        table.add_row("int8, all filters", percent(figures.accuracy.int8))
        table.add_row("int8, lazy: chosen filters only", percent(figures.accuracy.lazy))
    return table


def _layers(figures: Figures) -> Table:
    table = Table(title="layers, means per frame", title_justify="left", title_style="bold", show_footer=True)
    fetched = sum(layer.bytes or 0 for layer in figures.layers)
    stored = sum(layer.bytes_all or 0 for layer in figures.layers)
    cycles = sum(layer.cycles or 0 for layer in figures.layers)
    table.add_column("layer", "engine")
    table.add_column("weights")
    table.add_column("filters", justify="right")
    table.add_column("bytes fetched", f"{fetched:,.0f} of {stored:,}", justify="right")
    table.add_column("cycles", f"{cycles:,.0f}", justify="right")
    for layer in figures.layers:
        table.add_row(
            layer.name,
            layer.weights,
            f"{layer.filters:.0f} of {layer.filters_all}",
            "" if layer.bytes is None else f"{layer.bytes:,.0f} of {layer.bytes_all:,}",
            "" if layer.cycles is None else f"{layer.cycles:,.0f}",
        )
    return table


def _timing(figures: Figures) -> Text:
    said = [
        f"{figures.rtl_frames} frames ran in the RTL (Verilator), all equal to the golden model.",
        f"One frame alone: {figures.latency:,.0f} cycles from its first pixel to its last logit.",
    ]
    if figures.interval is not None:
        said.append(f"Frames in a row: {figures.interval:,.0f} cycles each.")
    return Text("\n".join(said))


FILES = {
    "rtl/": "SystemVerilog, listed in files.f",
    "weights.bin": "weight image for external memory",
    "manifest.json": "what lies where in the image",
    "driver.json": "what the host driver (sw/driver) reads: formats, layers, registers",
    "vectors.npz": "golden vectors: frames, logits, choices, bytes",
    "model.onnx": "the quantised network as QONNX",
    "figures.json": "the figures above",
}


def _files(folder: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, what in FILES.items():
        table.add_row(f"{folder}/{name}", what)
    return table


def _next(again: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("Next:")
    table.add_row(f"  .venv/bin/penstock verify {again}", "all test frames through the RTL")
    table.add_row("  make sim", "cocotb regressions")
    return table


def show_vitis(console: Console, folder: Path, again: str) -> None:
    """Print where the Vitis HLS project lies, and what to type next."""
    table = Table.grid(padding=(0, 2))
    for name, what in (
        ("hls/firmware/", "C++ for Vitis HLS, with hls4ml's templates beside it"),
        ("hls/weights.bin", "weight image for external memory, the same as the RTL's"),
        ("hls/build_prj.tcl", "vitis-run --mode hls --tcl build_prj.tcl"),
    ):
        table.add_row(f"{folder}/{name}", what)
    table.add_row("Next:", f".venv/bin/penstock verify {again}")
    console.print()
    console.print(table, highlight=False)
