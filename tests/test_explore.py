"""The search for a budget per layer."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flow import explore, lazy
from flow import recipe as recipes
from flow.errors import UserError
from flow.steps import Flow
from flow.workspace import Workspace
from tests.designs import digits_like, random_frames

RECIPE = {
    "name": "small",
    "data": {"set": "digits"},
    "model": {"name": "digits_cnn"},
    "train": {"epochs": 4},
    "quantise": {"epochs": 1},
    "layers": {name: {"weights": "lazy", "keep": 0.5} for name in ("conv2", "conv3")},
    "predictor": {"frames": 200},
}


def test_a_judge_sees_what_the_whole_network_does() -> None:
    design = digits_like(1)
    frames, labels = random_frames(design, 12, 3), np.arange(12) % 10
    keep = {layer.name: 0.25 for layer in design.lazy_layers}
    (whole,) = lazy.study(design, frames, labels, {"predicted": lazy.predicted}, [0.25])
    point = explore.Judge.of(design, frames, labels).judge(keep)
    assert (point.accuracy, point.bytes, point.macs) == (whole.accuracy, whole.bytes, whole.macs)


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow(recipes.build(RECIPE, "test"), Workspace(tmp_path / "small"), Console(quiet=True))
    judged = explore.Judge.judge
    calls = []

    def interrupted(self: explore.Judge, keep: dict[str, float]) -> lazy.Point:
        calls.append(keep)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return judged(self, keep)

    with monkeypatch.context() as patch:
        patch.setattr(explore.Judge, "judge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            explore.explore(flow, trials=12, images=64)
    with sqlite3.connect(tmp_path / "small" / "explore.db") as database:
        states = [state for (state,) in database.execute("select state from trials")]
    assert states.count("COMPLETE") == 5
    front = explore.explore(flow, trials=12, images=64)
    assert (front.trials, front.images) == (12, 64)
    assert explore.Front.model_validate_json((tmp_path / "small" / "front.json").read_text()) == front
    assert calls[0] == {"conv2": 0.125, "conv3": 0.125}  # equal shares come first
    costs = [(budget.searched_bytes, -budget.searched_accuracy) for budget in front.budgets]
    assert costs == sorted(costs)
    assert all(a[1] > b[1] for a, b in itertools.pairwise(costs))  # whoever costs more is better
    budget = front.budgets[-1]
    point = explore.Judge.of(flow.design, flow.test_frames, flow.data.test_y).judge(budget.keep)
    assert (budget.accuracy, budget.bytes) == (point.accuracy, point.bytes)


def test_what_cannot_be_searched_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = tmp_path / "a.onnx"
    onnx.touch()
    own = recipes.build({"name": "own", "onnx": {"file": str(onnx), "calibration": str(onnx)}}, "test")
    with pytest.raises(UserError, match="'own' has no labelled images"):
        explore.explore(Flow(own, Workspace(tmp_path), Console(quiet=True)), 1, 1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'penstock\[explore\]'"):
        explore.explore(Flow(own, Workspace(tmp_path), Console(quiet=True)), 1, 1)
