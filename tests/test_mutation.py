"""What mutation testing is made of."""

from __future__ import annotations

import ast
from pathlib import Path

from tests import mutation

ROOT = Path(__file__).parents[1]


def test_a_bug_of_python_is_one_change_that_still_parses() -> None:
    file = ROOT / "sim" / "golden.py"
    right = ast.unparse(ast.parse(file.read_text())).splitlines()
    changes = list(mutation.python(file, 25, 1))
    assert len({change.text for change in changes}) == len(changes) == 25
    for change in changes:
        found = [(a, b) for a, b in zip(right, change.text.splitlines(), strict=True) if a != b]
        assert len(found) == 1, change.said


def test_a_bug_of_verilog_is_one_change_outside_comments_and_assertions() -> None:
    for block in ("pen_select", "pen_requant"):
        file = ROOT / "hw" / "rtl" / f"{block}.sv"
        right = file.read_text().splitlines()
        changes = list(mutation.verilog(file, 8, 1))
        assert len(changes) == 8
        for change in changes:
            found = [(a, b) for a, b in zip(right, change.text.splitlines(), strict=True) if a != b]
            assert len(found) == 1, change.said
            assert not found[0][0].lstrip().startswith(("//", "assert"))


def test_a_bug_that_a_test_finds_is_caught(tmp_path: Path) -> None:
    """In a checkout of one module and one test."""
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "__init__.py").touch()
    (tmp_path / "test_it.py").write_text("from sim.it import one\n\ndef test_one():\n    assert one() == 1\n")
    (tmp_path / "sim" / "it.py").write_text("def one():\n    return 1\n")
    file = mutation.ROOT / "sim" / "it.py"
    for text, found in (("def one():\n    return 2\n", True), ("def one():\n    return 2 - 1\n", False)):
        assert mutation.caught(mutation.Change(file, "", text), ("test_it.py",), tmp_path) == found
    assert (tmp_path / "sim" / "it.py").read_text() == "def one():\n    return 1\n"
