"""The search for a budget per layer."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from rich.console import Console

from flow import explore, lazy
from flow import recipe as recipes
from flow.boards import board
from flow.convert import by_choice
from flow.errors import UserError
from flow.steps import Flow
from flow.workspace import Step, Workspace
from hw.design import Lanes
from hw.resources import resources
from sim import golden
from sim.cycles import CycleModel, Masks
from sim.energy import energy, macs
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
    judged = explore.Judge.of(design, frames, labels, FixedLatency()).judge(keep, ["energy", "bytes", "cycles"])
    assert (judged.accuracy, judged.costs["bytes"]) == (whole.accuracy, whole.all_bytes)
    counts = {layer.name: layer.filters // 4 for layer in design.lazy_layers}
    masks = Masks.of(design, golden.run(design, frames, counts), counts)
    run = CycleModel(design).alone(masks)
    assert judged.costs["cycles"] == run.latency.mean()
    assert judged.costs["energy"] == energy(design, masks, run, "DDR3").total.mean()
    assert judged.macs == macs(design, masks).mean()
    assert list(judged.costs) == ["energy", "bytes", "cycles"]


def test_other_lanes_and_pins_change_costs_and_no_answer() -> None:
    design = digits_like(1)
    frames, labels = random_frames(design, 12, 3), np.arange(12) % 10
    keep = {layer.name: 0.5 for layer in design.lazy_layers}
    judge = explore.Judge.of(design, frames, labels, FixedLatency())
    settings = {"engine.filter_lanes": 8, "engine.pixel_lanes": 16, "layers.conv1.lanes": "2 x 8"}
    larger = explore.sized(design, settings, {})
    assert (larger.engine.lanes, larger.head[0].lanes) == (Lanes(8, 16), Lanes(2, 8))
    before, after = (x.judge(keep, list(explore.COSTS)) for x in (judge, replace(judge, design=larger)))
    assert (after.accuracy, after.macs) == (before.accuracy, before.macs)
    assert after.costs["cycles"] < before.costs["cycles"]
    assert after.costs["multipliers"] == resources(larger).multipliers > before.costs["multipliers"]

    ranking = by_choice(design, frames)
    pinned = explore.sized(design, {"layers.conv3.pinned": 4}, ranking)
    assert pinned.tail[1].pinned == tuple(sorted(ranking["conv3"][:4].tolist()))
    assert pinned.tail[0].pinned == design.tail[0].pinned
    resident = replace(judge, design=pinned).judge(keep, list(explore.COSTS))
    assert resident.costs["bytes"] < before.costs["bytes"]
    assert resident.costs["memory"] > before.costs["memory"]


FITTED = RECIPE | {"explore": {"predictors": ["linear", "low_rank"], "pinned": [0, 4]}}
KILLED = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from flow import explore, recipe
from flow.steps import Flow
from flow.workspace import Workspace
from tests.test_explore import FITTED

judged, calls = explore.Judge.judge, []

def killed(self, keep, wanted):
    calls.append(keep)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return judged(self, keep, wanted)

explore.Judge.judge = killed
flow = Flow(recipe.build(FITTED, "test"), Workspace(Path(sys.argv[1])), Console(quiet=True))
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

    flow = Flow(recipes.build(FITTED, "test"), Workspace(folder), Console(quiet=True))
    front = explore.explore(flow, trials=12, images=64, costs=("cycles", "bytes", "energy"))
    assert (front.trials, front.images) == (12, 64)
    with sqlite3.connect(folder / "explore.db") as database:
        after = database.execute("select trial_id, value from trial_values order by 1, objective").fetchall()
        tried = database.execute("select param_name, param_value from trial_params where trial_id = 1").fetchall()
    assert after[: len(before)] == before
    first = {"layers.conv2.keep": 1, "layers.conv3.keep": 1}  # equal shares come first, and of the rest its first value
    assert dict(tried) == first | {"predictor": 0, "layers.conv2.pinned": 0, "layers.conv3.pinned": 0}
    assert explore.Front.model_validate_json((folder / "front.json").read_text()) == front
    assert explore.table(front).row_count == len(front.budgets)

    found = [(budget.searched["cycles"], budget.searched["bytes"]) for budget in front.budgets]
    assert found == sorted(found)
    for a, b in itertools.permutations(front.budgets, 2):  # no budget beats another in everything
        better = [a.searched[name] <= b.searched[name] for name in ("cycles", "bytes", "energy")]
        assert not (all(better) and a.searched_accuracy > b.searched_accuracy)
    budget = front.budgets[-1]
    judge = explore.Judges(flow, 64).of(budget.settings, test=True)
    assert np.array_equal(judge.labels, flow.data.test_y)
    keep = {name: budget.settings[f"layers.{name}.keep"] for name in ("conv2", "conv3")}
    found = judge.judge(keep, ("cycles", "bytes", "energy"))
    assert (budget.accuracy, budget.macs, budget.costs) == (found.accuracy, found.macs, found.costs)


WIDE = RECIPE | {
    "prune": {"ratio": 0.5, "epochs": 1},
    "board": {"name": "ecp5-85f"},
    "explore": {
        "predictors": ["linear", "low_rank", "paths"],
        "ranks": [2, 4],
        "weights": [8, 3],
        "pruned": [0.0, 0.5],
        "pinned": [0, 4],
        "filter_lanes": [2, 64],
        "pixel_lanes": [4],
        "head_lanes": [[1, 4], [2, 8]],
    },
}


@pytest.mark.full
def test_networks_predictors_lanes_and_pins_are_searched(tmp_path: Path) -> None:
    """On a board that 64 x 4 multipliers do not fit."""
    flow = Flow(recipes.build(WIDE, "test"), Workspace(tmp_path / "wide"), Console(quiet=True))
    front = explore.explore(flow, trials=16, images=64, costs=("cycles", "memory"))
    with sqlite3.connect(tmp_path / "wide" / "explore.db") as database:
        tried = {name for (name,) in database.execute("select distinct param_name from trial_params")}
        rows = database.execute("select trial_id, key, value_json from trial_system_attributes").fetchall()
    expected = {f"layers.{name}.{key}" for name in ("conv2", "conv3") for key in ("keep", "pinned")}
    expected |= {"predictor", "quantise.weights", "prune.ratio", "engine.filter_lanes", "engine.pixel_lanes"}
    assert tried == expected | {"layers.conv1.lanes"}
    too_large = {trial for trial, key, value in rows if key.startswith("constraints") and float(value) > 0}
    assert 0 < len(too_large) < 16
    assert front.budgets
    judges = explore.Judges(flow, 64)
    for budget in front.budgets:
        assert budget.settings["engine.filter_lanes"] == 2
        design = judges.of(budget.settings).design
        assert board("ecp5-85f").shares(design)["multipliers"] <= 0.9
        assert {layer.weight_bits for layer in design.layers} == {budget.settings["quantise.weights"]}
        kind = type(design.lazy_layers[0].predictor).__name__
        assert kind == KINDS[str(budget.settings["predictor"]).split()[0]]
        whole = all(layer.kept_taps.all() for layer in design.layers)
        assert whole == (budget.settings["prune.ratio"] == 0)
        assert budget.costs["memory"] == resources(design).memory_bits


KINDS = {"linear": "LinearPredictor", "low_rank": "LowRankPredictor", "paths": "PathPredictor"}


def test_networks_are_made_once_for_all_predictors(tmp_path: Path) -> None:
    recipe = recipes.build(WIDE, "test")
    flow = Flow(recipe, Workspace(tmp_path), Console(quiet=True))
    variant = explore.variant(recipe, {"quantise.weights": 3, "prune.ratio": 0.0, "predictor": "low_rank 4"})
    assert (variant.quantise.weights, variant.prune) == (3, None)
    assert (variant.predictor.kind, variant.predictor.rank, variant.predictor.select) == ("low_rank", 4, "top")
    assert explore.variant(recipe, {"prune.ratio": 0.25}).prune == recipe.prune.model_copy(update={"ratio": 0.25})
    assert explore.variant(recipe, {"layers.conv2.keep": 0.5, "engine.filter_lanes": 9}) == recipe

    made = []
    flow.workspace.run(step := Step("one", 1, (), (), ("a",)), lambda aside: made.append((aside / "a").write_text("x")))
    (tmp_path / "explore.db").touch()
    branch = flow.workspace.branch("explore/other")
    assert branch.is_fresh(step)
    assert branch.path("a").read_text() == "x"
    assert not branch.path("explore.db").exists()
    branch.run(replace(step, settings=2), lambda aside: made.append((aside / "a").write_text("y")))
    assert flow.workspace.branch("explore/other").path("a").read_text() == "y"
    assert flow.workspace.path("a").read_text() == "x"


# -- several workers ---------------------------------------------------------------------------------------------------
POSTGRES = next((x.parent for x in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
WORKER = """
import sys
from pathlib import Path
from rich.console import Console
from flow import explore, recipe
from flow.steps import Flow
from flow.workspace import Workspace
from tests.test_explore import RECIPE

flow = Flow(recipe.build(RECIPE, "test"), Workspace(Path(sys.argv[1])), Console(quiet=True))
front = explore.explore(flow, trials=12, images=32, storage=sys.argv[2], name="shared")
print(front.trials)
"""


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a fresh database; its server runs as `postgres` where tests run as root, which it refuses."""
    pytest.importorskip("psycopg", reason="needs a driver: pip install 'penstock[postgres]'")
    assert POSTGRES is not None
    home = Path(tempfile.mkdtemp(prefix="penstock-postgres-", dir="/tmp"))  # the path of a socket has to be short
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
        other = {"user": "postgres", "cwd": home}

    def call(program: str, *arguments: str) -> None:
        subprocess.run([POSTGRES / program, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=120, **other)

    data, options = str(home / "data"), f"-c listen_addresses='' -c unix_socket_directories={home}"
    try:
        call("initdb", "-D", data, "--auth=trust", "--username=penstock", "--no-sync")
        call("pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
        yield f"postgresql://penstock@/postgres?host={home}"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.mark.full
@pytest.mark.skipif(POSTGRES is None, reason="needs a PostgreSQL server (Debian: apt-get install postgresql)")
def test_two_workers_share_a_study_on_postgresql(postgres: str, tmp_path: Path) -> None:
    """Both start on an empty database, whose tables are made by one of them."""
    flow = Flow(recipes.build(RECIPE, "test"), Workspace(tmp_path / "one"), Console(quiet=True))
    flow.run(hardware=False)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, folder, postgres], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for folder in folders
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=500)
        assert worker.returncode == 0, err.decode()
        assert 12 <= int(out) <= 13
    study = optuna.load_study(study_name="shared", storage=postgres)
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert 12 <= len(done) <= 13
    tried = [tuple(sorted(trial.params.items())) for trial in done]
    assert len(set(tried)) > len(tried) // 2  # they do not draw the same
    fronts = [explore.Front.model_validate_json(Path(folder, "front.json").read_text()) for folder in folders]
    assert {front.study for front in fronts} == {"shared"}


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"psycopg.*pip install 'penstock\[postgres\]'") as caught:
        explore.opened("postgresql://someone:secret@nowhere/x", "a", 1, ["bytes"])
    assert "'postgresql://someone:***@nowhere/x' is no database" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_search_goes_on_with_other_draws(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    drawn = []
    for _ in range(2):
        study = explore.opened(url, "a", 1, ["bytes"])
        study.optimize(lambda trial: (drawn.append(trial.suggest_float("x", 0, 1)) or 0.0, 0.0), n_trials=2)
    assert len(set(drawn)) == 4
    with pytest.raises(UserError, match="study 'a' has 2 objectives; accepted: a name that is not taken"):
        explore.opened(url, "a", 1, ["bytes", "cycles"])


# -- what is refused ---------------------------------------------------------------------------------------------------
def test_a_trained_network_is_not_trained_again() -> None:
    given = RECIPE | {"model": {"name": "digits_cnn", "checkpoint": "a.npz"}, "explore": {"weights": [4]}}
    with pytest.raises(
        UserError, match=r"explore.weights with a network that comes trained; accepted: \[model\] without"
    ):
        recipes.build(given, "test")


def test_a_cost_that_there_is_not(tmp_path: Path) -> None:
    flow = Flow(recipes.build(RECIPE, "test"), Workspace(tmp_path), Console(quiet=True))
    with pytest.raises(
        UserError, match="objectives are bytes, euros; accepted: some of bytes, cycles, energy, multipliers, memory"
    ):
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
