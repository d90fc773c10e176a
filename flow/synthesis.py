"""The report of a synthesis as people read it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hw.netlist import Resources
from hw.synthesis import SynthesisReport, TargetReport

COLUMNS = ("LUTs", "carry cells", "flip-flops", "multipliers", "block RAMs", "memory LUTs")


def show(console: Console, report: SynthesisReport) -> None:
    """Print resources by target, those of the first target by block, and its timing."""
    console.print()
    console.print(_targets(report), highlight=False)
    console.print()
    console.print(_blocks(report.targets[0]), highlight=False)
    for target in report.targets:
        if target.timing is not None:
            console.print(
                f"\n{target.title}: {target.timing.fmax:.1f} MHz (asked for {target.timing.asked:g}, seed "
                f"{target.timing.seed}); critical path {target.timing.critical_path}",
                highlight=False,
            )


def _targets(report: SynthesisReport) -> Table:
    table = _table(f"{report.design}: resources", "target")
    for target in report.targets:
        table.add_row(target.title, *_cells(target.resources))
    table.caption = "block RAMs of 18 kbit; carry cells of 2 bits on ECP5, 4 on 7-series, 8 on UltraScale+"
    table.caption_justify = "left"
    return table


def _blocks(target: TargetReport) -> Table:
    table = _table(f"by block, {target.title}", "block")
    for block in target.blocks:
        table.add_row(block.name or "top", *_cells(block.resources))
    table.add_section()
    table.add_row("predictor: measure, predict, select", *_cells(target.predictor))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    return table


def _cells(resources: Resources) -> list[str]:
    counts = (
        resources.luts,
        resources.carries,
        resources.ffs,
        resources.multipliers,
        resources.block_rams,
        resources.memory_luts,
    )
    return [f"{count:,}" for count in counts]
