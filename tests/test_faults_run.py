"""Runs that are killed, find the disk full, may not write, or meet another run: what is there is whole."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from rich.console import Console
from torch import nn

from flow import cli, recipe
from flow.steps import INPUTS, Flow
from flow.workspace import Workspace, digest
from tests.brevitas_nets import Net, conv, identity, linear, relu

SHAPE = (2, 6, 6)
STEPS = ("adopt", "predict", "emit")
RESULTS = sorted({name for step in STEPS for name in INPUTS[step].writes})
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> recipe.Recipe:
    """A recipe of a small network."""
    folder = tmp_path_factory.mktemp("inputs")
    net = Net(
        *(identity(), conv(2, 4, padding=1), relu(), conv(4, 6, padding=1), relu()),
        *(nn.MaxPool2d(2), nn.Flatten(), linear(6 * 3 * 3, 3)),
        shape=SHAPE,
    )
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        onnx.save(export_qonnx(net.module, args=torch.zeros(1, *SHAPE), dynamo=False), folder / "my.onnx")
    np.savez(folder / "my.npz", x=np.random.default_rng(1).random((6, *SHAPE), np.float32))
    files = {"file": str(folder / "my.onnx"), "calibration": str(folder / "my.npz")}
    return recipe.build({"name": "my", "onnx": files}, "test")


def emitted(made: recipe.Recipe, folder: Path) -> None:
    """Everything but simulation."""
    flow = Flow(made, Workspace(folder), Console(quiet=True))
    flow.run(hardware=False)
    with flow.workspace.locked():
        from flow import steps

        flow.step("emit", "", lambda aside: steps.emit(flow, aside), INPUTS["emit"])


def found(folder: Path) -> dict[str, str]:
    """What results there are."""
    return {name: digest(folder / name) for name in RESULTS if (folder / name).exists()}


@pytest.fixture(scope="module")
def whole(made: recipe.Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "my"
    emitted(made, folder)
    result = found(folder)
    assert sorted(result) == RESULTS
    return result


def child(action: Callable[[], None]) -> tuple[int, str]:
    """How a forked process ends that does `action` as the command line would, and what it says."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            os.dup2(writing, 2)
            sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0), write_through=True)
            with cli.user_errors():
                action()
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException as error:  # the parent asserts that there is none
            os.write(2, f"traceback: {error!r}".encode())
            os._exit(99)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text


def writes(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an audit event is about to change the disk."""
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) != 0
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def changing(folder: Path, change: Callable[[int], None]) -> None:
    """From now on, call `change` before every change of something in `folder`, with its number."""
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if writes(event, arguments) and str(folder) in str(arguments[0]):
            count += 1
            change(count)

    sys.addaudithook(hook)


@pytest.mark.parametrize("places", [4, pytest.param(40, marks=pytest.mark.full)])
def test_a_run_that_is_killed_anywhere_goes_on(
    places: int, made: recipe.Recipe, whole: dict[str, str], tmp_path: Path, record_property: Record
) -> None:
    """Before a change that it makes, from the first to the last one: what it leaves is whole, the next one right."""

    def counted() -> None:
        changing(tmp_path / "counted", lambda number: (tmp_path / "count").write_text(str(number)) and None)
        emitted(made, tmp_path / "counted")

    assert child(counted) == (0, "")
    changes = int((tmp_path / "count").read_text())
    assert changes > 30
    folder = tmp_path / "my"
    for place in np.linspace(1, changes, places).astype(int).tolist():
        shutil.rmtree(folder, ignore_errors=True)

        def killed(place: int = place) -> None:
            changing(folder, lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == place else None)
            emitted(made, folder)

        code, said = child(killed)
        assert code == -signal.SIGKILL, said
        left = found(folder)
        assert left.items() <= whole.items(), place
    emitted(made, folder)
    assert found(folder) == whole
    assert not list(folder.glob(".*.tmp"))
    record_property("killed", f"at {places} of {changes} places; what was there was whole, the next run finished")


@pytest.mark.parametrize(
    "limit", [100, pytest.param(0, marks=pytest.mark.full), pytest.param(20_000, marks=pytest.mark.full)]
)
def test_a_full_disk_leaves_whole_results_and_a_sentence(
    limit: int, made: recipe.Recipe, whole: dict[str, str], tmp_path: Path, record_property: Record
) -> None:
    """No file may be larger than `limit`: writing ends in the middle of one."""
    folder = tmp_path / "my"

    def action() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        emitted(made, folder)

    code, said = child(action)
    assert code == 2, said
    assert "File too large" in said
    assert said.count("\n") == 1
    for name, value in found(folder).items():
        assert value == whole[name], name
    emitted(made, folder)
    assert found(folder) == whole
    record_property(f"files up to {limit} bytes", said.strip())


def test_a_folder_that_cannot_be_written_is_named(made: recipe.Recipe, tmp_path: Path, record_property: Record) -> None:
    """A file in its place, no permission, a file system without room for it."""
    (tmp_path / "file").touch()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    folders = [tmp_path / "file", Path("/proc/none")] + ([closed] if os.geteuid() else [])
    for folder in folders:
        code, said = child(lambda folder=folder: emitted(made, folder / "my"))  # type: ignore[misc]
        assert code == 2, said
        assert str(folder) in said
        record_property(str(folder.name), said.strip())


def test_two_runs_in_one_folder_wait_for_each_other(
    made: recipe.Recipe, whole: dict[str, str], tmp_path: Path, record_property: Record
) -> None:
    folder = tmp_path / "my"
    waiting = os.fork()  # before the lock is taken, which a child would share
    if waiting == 0:
        while not (tmp_path / "taken").exists():
            time.sleep(0.02)
        sys.stderr = (tmp_path / "said").open("w", buffering=1)
        emitted(made, folder)
        os._exit(0)
    with Workspace(folder).locked():
        (tmp_path / "taken").touch()
        while not (tmp_path / "said").exists() or "waiting" not in (tmp_path / "said").read_text():
            assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
            time.sleep(0.05)
        assert not found(folder)
    code, said = child(lambda: emitted(made, folder))
    assert code == 0, said
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 0
    assert found(folder) == whole
    record_property("two runs", (tmp_path / "said").read_text().strip())


def test_results_that_were_changed_are_made_again(made: recipe.Recipe, whole: dict[str, str], tmp_path: Path) -> None:
    """Whatever somebody has done to files in the build folder, the next run has the right ones."""
    folder = tmp_path / "my"
    emitted(made, folder)
    for name in ("model.onnx", "predictors.npz", "weights.bin", "manifest.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"!")
    (folder / ".steps" / "adopt.json").write_bytes(b"\xff no stamp")
    emitted(made, folder)
    assert found(folder) == whole
