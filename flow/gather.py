"""What a recipe's report is made from: its design and test frames, and figures that benchmarks have left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from flow import boards, lazy
from flow.errors import UserError
from flow.report import Compared, Cost, Subject
from flow.steps import Flow
from hw.design import Design
from hw.image import layout

SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)
WORK = 5e10  # multiplications that a front may take to find
FEWEST, MOST = 32, 512  # frames of it


class _Point(BaseModel):
    chooser: str
    k: float
    accuracy: float
    bytes_ratio: float


class _Lazy(BaseModel):
    points: list[_Point]


class _Row(BaseModel):
    network: str
    board: str
    k: float
    fpga_seconds: float
    cpu: dict[str, float]


class _Baseline(BaseModel):
    baseline: list[_Row]


def gather(
    flow: Flow, frames: int, command: str, what: str, front_file: Path | None = None, baseline: Path | None = None
) -> Subject:
    """The subject of a report on `frames` test frames of `flow`, which is up to date; `command` makes it.

    `what` is what commands are given to build the same.

    `front_file` is the JSON of bench/lazy.py, `baseline` that of bench/cycle_model.py; without a front accuracies are
    found on the frames. UserError for files that are neither.
    """
    design, recipe = flow.design, flow.recipe
    labels = None if flow.frames.labels is None else np.asarray(flow.frames.labels, np.int64)
    costs, by = (
        (_found(flow, design), command)
        if front_file is None
        else (front(front_file, design), f"python bench/lazy.py --json {front_file}")
    )
    return Subject(
        design=design,
        memory=flow.memory,
        frames=flow.test_frames[:frames],
        labels=None if labels is None else labels[:frames],
        command=command,
        front=costs,
        front_command=by,
        board=None if recipe.board is None else boards.board(recipe.board.name),
        compared=None if baseline is None else compared(baseline, flow.recipe.network),
        synthesis=flow.synthesised(),
        synthesis_command=f"penstock synth {what}",
    )


def _lazy_bytes(design: Design) -> int:
    sizes = {record.name: record.stride * record.filters for record in layout(design)}
    return sum(sizes[layer.name] for layer in design.lazy_layers)


def front(file: Path, design: Design) -> list[Cost]:
    """What bench/lazy.py has written to `file` about the lazy layers of `design`."""
    try:
        found = _Lazy.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UserError(f"'{file}' holds no front; accepted: what bench/lazy.py --json writes") from error
    size = _lazy_bytes(design)
    return [Cost(x.k, x.accuracy, x.bytes_ratio * size) for x in found.points if x.chooser == "predicted"]


def _found(flow: Flow, design: Design) -> list[Cost]:
    if flow.frames.labels is None or not design.lazy_layers:
        return []
    work = sum(x.filters * int(x.kept_taps.sum()) * x.grid[0] * x.grid[1] for x in design.layers) * len(SHARES)
    count = int(np.clip(WORK / work, FEWEST, MOST))
    labels = np.asarray(flow.frames.labels, np.int64)[:count]
    points = lazy.study(design, flow.test_frames[:count], labels, {"predicted": lazy.predicted}, SHARES)
    return [Cost(point.share, point.accuracy, point.bytes) for point in points]


def compared(file: Path, name: str) -> Compared | None:
    """Times of the recipe's network: on processors, and on every board with the fewest filters that were tried."""
    try:
        rows = [row for row in _Baseline.model_validate_json(file.read_bytes()).baseline if row.network == name]
    except ValidationError as error:
        raise UserError(f"'{file}' holds no baseline; accepted: what bench/cycle_model.py --json writes") from error
    seconds: dict[str, float] = {}
    for row in rows:
        seconds |= row.cpu
        seconds[f"board {row.board}, {row.k:.0%} of the filters"] = row.fpga_seconds
    return Compared(seconds, "python bench/cycle_model.py --part baseline") if seconds else None
