"""What all benchmarks share: a table for people, the same figures as JSON, and an exit code that says whether all
equalities held.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

warnings.filterwarnings("ignore", module="brevitas")  # of an optional package that nothing here uses


@dataclass
class Report:
    """Rows of a table, and the equalities behind them."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def row(self, what: str, value: str) -> None:
        """Add a measured figure."""
        self.rows.append((what, value))

    def equal(self, what: str, holds: bool) -> bool:
        """Add an equality; one that does not hold makes the script fail."""
        self.rows.append((what, "equal" if holds else "NOT EQUAL"))
        if not holds:
            self.failed.append(what)
        return holds

    def finish(self, figures: Mapping[str, JsonValue], file: Path | None) -> int:
        """Print the table, write `figures` to `file` if one is given, and return the script's exit code."""
        console = Console()
        table = Table(title=self.title, title_justify="left")
        table.add_column("claim")
        table.add_column("measured", justify="right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table, highlight=False)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(figures, indent=2) + "\n")
        for what in self.failed:
            console.print(f"failed: {what}", style="bold red", markup=False)
        return 1 if self.failed else 0


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    return result


@dataclass
class Timer:
    """Seconds that a block took."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    """Measure the block inside."""
    timer, started = Timer(), time.perf_counter()
    try:
        yield timer
    finally:
        timer.seconds = time.perf_counter() - started
