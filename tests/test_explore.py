"""The search for a budget per layer."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
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
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.memory import FixedLatency
from tests.designs import digits_like, random_frames

ROOT = Path(__file__).parents[1]
RECIPE = {
    "name": "tiny",
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
    point = explore.Judge.of(design, frames, labels, FixedLatency()).judge(keep)
    assert (point.accuracy, point.bytes, point.macs) == (whole.accuracy, whole.bytes, whole.macs)


KILLED = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from flow import explore, recipe
from flow.steps import Flow
from flow.workspace import Workspace
from tests.test_explore import RECIPE

judged, calls = explore.Judge.judge, []

def killed(self, keep):
    calls.append(keep)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return judged(self, keep)

explore.Judge.judge = killed
flow = Flow(recipe.build(RECIPE, "test"), Workspace(Path(sys.argv[1])), Console(quiet=True))
explore.explore(flow, trials=12, images=64, costs=("cycles", "bytes", "energy"))
"""


def test_a_search_that_is_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """With SIGKILL, in the sixth trial."""
    folder = tmp_path / "tiny"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with sqlite3.connect(folder / "explore.db") as database:
        before = database.execute("select trial_id, value from trial_values order by 1, objective").fetchall()
        states = [state for (state,) in database.execute("select state from trials")]
    assert states.count("COMPLETE") == 5
    assert len(before) == 5 * 4

    flow = Flow(recipes.build(RECIPE, "test"), Workspace(folder), Console(quiet=True))
    front = explore.explore(flow, trials=12, images=64, costs=("cycles", "bytes", "energy"))
    assert (front.trials, front.images) == (12, 64)
    with sqlite3.connect(folder / "explore.db") as database:
        after = database.execute("select trial_id, value from trial_values order by 1, objective").fetchall()
        first = database.execute("select param_name, param_value from trial_params where trial_id = 1").fetchall()
    assert after[: len(before)] == before
    assert dict(first) == {"conv2": 1, "conv3": 1}  # equal shares come first
    assert explore.Front.model_validate_json((folder / "front.json").read_text()) == front
    assert explore.table(front).row_count == len(front.budgets)

    found = [(budget.searched["cycles"], budget.searched["bytes"]) for budget in front.budgets]
    assert found == sorted(found)
    for a, b in itertools.permutations(front.budgets, 2):  # no budget beats another in everything
        better = [a.searched[name] <= b.searched[name] for name in ("cycles", "bytes", "energy")]
        assert not (all(better) and a.searched_accuracy > b.searched_accuracy)
    budget = front.budgets[-1]
    judge = explore.Judge.of(flow.design, flow.test_frames, flow.data.test_y, flow.memory)
    point = judge.judge(budget.keep)
    assert (budget.accuracy, budget.bytes) == (point.accuracy, point.bytes)
    assert budget.costs == judge.costs(budget.keep, point, ("cycles", "bytes", "energy"))


def test_cycles_are_those_of_the_whole_network() -> None:
    """Of its lazy part: layers before the first lazy one take what they take."""
    design = digits_like(1)
    frames = random_frames(design, 6, 3)
    judge = explore.Judge.of(design, frames, np.arange(6), FixedLatency())
    keep = {layer.name: 0.25 for layer in design.lazy_layers}
    counts = {layer.name: layer.filters // 4 for layer in design.lazy_layers}
    found = judge.costs(keep, judge.judge(keep), ("cycles", "energy"))
    run = CycleModel(design, judge.memory).alone(Masks.of(design, golden.run(design, frames, counts), counts))
    first = design.tail.index(design.lazy_layers[0])
    whole = sum(float(layer.cycles.mean()) for layer in run.layers[first:])
    assert found["cycles"] == pytest.approx(whole, rel=0.02)  # the first layer's start is another one
    assert 0 < found["energy"] < 1e-3


def test_a_cost_that_there_is_not(tmp_path: Path) -> None:
    flow = Flow(recipes.build(RECIPE, "test"), Workspace(tmp_path), Console(quiet=True))
    with pytest.raises(UserError, match="objectives are bytes, euros; accepted: some of bytes, cycles, energy"):
        explore.explore(flow, 1, 1, costs=("bytes", "euros"))


def test_what_cannot_be_searched_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = tmp_path / "a.onnx"
    onnx.touch()
    own = recipes.build({"name": "own", "onnx": {"file": str(onnx), "calibration": str(onnx)}}, "test")
    with pytest.raises(UserError, match="'own' has no labelled images"):
        explore.explore(Flow(own, Workspace(tmp_path), Console(quiet=True)), 1, 1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'penstock\[explore\]'"):
        explore.explore(Flow(own, Workspace(tmp_path), Console(quiet=True)), 1, 1)
