"""Steps are redone when what they are made from changed, and only then; an interrupted one leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flow.workspace import Step, Workspace, digest
from flow.workspace import replace as move

STEP = Step("double", settings={"factor": 2}, code=("flow.errors",), reads=("in.txt",), writes=("out.txt", "folder"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "in.txt").write_text("21")
    return Workspace(tmp_path)


def doubling(workspace: Workspace) -> Callable[[Path], None]:
    def make(aside: Path) -> None:
        (aside / "out.txt").write_text(str(2 * int(workspace.path("in.txt").read_text())))
        (aside / "folder").mkdir()
        (aside / "folder" / "note.txt").write_text("made")

    return make


def test_a_step_runs_once(workspace: Workspace) -> None:
    assert workspace.run(STEP, doubling(workspace))
    assert not workspace.run(STEP, doubling(workspace))
    assert workspace.path("out.txt").read_text() == "42"


@pytest.mark.parametrize("changed", ["in.txt", "out.txt", "folder/note.txt"])
def test_a_changed_file_makes_it_run_again(workspace: Workspace, changed: str) -> None:
    workspace.run(STEP, doubling(workspace))
    workspace.path(changed).write_text("4")
    assert workspace.run(STEP, doubling(workspace))


def test_a_lost_result_makes_it_run_again(workspace: Workspace) -> None:
    workspace.run(STEP, doubling(workspace))
    workspace.path("out.txt").unlink()
    assert workspace.run(STEP, doubling(workspace))


@pytest.mark.parametrize("change", [{"settings": {"factor": 3}}, {"code": ("flow.recipe",)}])
def test_changed_settings_or_code_make_it_run_again(workspace: Workspace, change: dict[str, object]) -> None:
    workspace.run(STEP, doubling(workspace))
    assert workspace.run(replace(STEP, **change), doubling(workspace))  # type: ignore[arg-type]


def test_an_interrupted_step_leaves_the_old_results_or_none(workspace: Workspace) -> None:
    def interrupted(aside: Path) -> None:
        (aside / "out.txt").write_text("half")
        raise KeyboardInterrupt

    before = digest(workspace.folder)
    with pytest.raises(KeyboardInterrupt):
        workspace.run(STEP, interrupted)
    assert digest(workspace.folder) == before
    assert workspace.run(STEP, doubling(workspace))


def test_leftovers_of_a_killed_run_are_cleared(workspace: Workspace) -> None:
    (workspace.folder / ".double.1.tmp").mkdir()
    with workspace.locked():
        assert not (workspace.folder / ".double.1.tmp").exists()


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").touch()
    move(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new.txt"]
