"""Coverage is merged over files, instances and parameters, and waivers leave out what they name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sim import coverage
from sim.coverage import Point, Share, Waiver


def counted(file: str, page: str, line: int, said: str, count: int, column: int = 3) -> str:
    fields = {"f": file, "l": str(line), "n": str(column), "page": page, "o": said, "h": "top.dut"}
    return "C '" + "".join(f"\x01{key}\x02{value}" for key, value in fields.items()) + f"' {count}\n"


FIFO = "/x/hw/rtl/pen_fifo.sv"
POINTS = "/x/sim/sv/pen_cover.sv"
TEXT = (
    "# SystemC::Coverage-3\n"
    + counted(FIFO, "v_line/pen_fifo__D4", 40, "block", 0)
    + counted(FIFO, "v_branch/pen_fifo", 41, "if", 7)
    + counted(FIFO, "v_toggle/pen_fifo", 12, "level_q[0]:0->1", 2)
    + counted(FIFO, "v_toggle/pen_fifo", 12, "level_q[0]:1->0", 0)
    + counted("/x/sim/sv/pen_axi_rules.sv", "v_line/pen_axi_rules", 3, "block", 0)
    + counted(FIFO, "v_user/pen_fifo", 3, "mine", 0)
    + counted(POINTS, "v_user/pen_select_cover__L4", 3, "tie___05Fcut", 0)
    + counted(POINTS, "v_user/pen_select_cover", 9, "tie___05Fcut", 4)
    + counted(POINTS, "v_user/pen_select_cover", 9, "tie___05Fall_in", 0)
)


def test_what_is_counted_is_merged(tmp_path: Path) -> None:
    other = counted(FIFO, "v_line/pen_fifo__D1", 40, "block", 5) + counted(FIFO, "v_line/pen_fifo", 50, "block", 0)
    for name, text in (("a", TEXT), ("b", other)):
        (tmp_path / name).write_text(text)
    merged = coverage.merge([tmp_path / "a", tmp_path / "b"])
    assert merged[Point("pen_fifo", "line", 40, 3, "block")] == 5
    found = coverage.shares(merged)
    none = Share(0, 0)
    assert found == {
        "pen_fifo": {"line": Share(2, 3), "toggle": Share(1, 2), "expression": none, "functional": none},
        "pen_select": {"line": none, "toggle": none, "expression": none, "functional": Share(1, 2)},
    }
    assert coverage.total(found)["line"].percent == pytest.approx(200 / 3)


def test_waivers_leave_out_what_was_not_reached() -> None:
    counts = coverage.parse(TEXT)
    level = Waiver(module="*", kind="toggle", pattern=r"level_q.*0->", reason="why not")
    assert coverage.shares(counts, [level])["pen_fifo"]["toggle"] == Share(1, 2)
    level = Waiver(module="pen_fifo", kind="toggle", pattern=r"level_q.*1->", reason="why not")
    assert coverage.shares(counts, [level])["pen_fifo"]["toggle"] == Share(1, 1, 1)
    page = coverage.markdown(counts, [level])
    assert "| pen_fifo | 50.0% of 2 | 100.0% of 1, 1 waived | none | none |" in page
    assert "| pen_select | tie | 50.0% of 2 | all_in |" in page
    assert "why not" in page
    assert "`pen_fifo.sv:40`" in page


def test_waivers_of_the_project_have_reasons_and_name_modules() -> None:
    modules = {path.stem for path in (coverage.ROOT / "hw" / "rtl").glob("*.sv")} | {"*"}
    for waiver in coverage.waivers():
        assert waiver.module in modules
        assert waiver.kind in coverage.KINDS.values()
        assert len(waiver.reason) > 20


def test_plan_and_points_name_the_same_groups() -> None:
    """The plan names every group of points behind its module, and no other."""
    plan = (coverage.ROOT / "docs" / "verification.md").read_text()
    table = plan[plan.index("## Functional coverage") : plan.index("## Faults in the software")]
    named = set(re.findall(r"`(\w+)\.(\w+)`", table))
    assert named == {(module, group) for module, groups in coverage.groups().items() for group in groups}
    for tests in re.findall(r"`(tests/\w+\.py|sim/cocotb/\w+\.py)`", plan):
        assert (coverage.ROOT / tests).is_file(), tests


def test_clear_forgets_what_was_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "COUNTED", (tmp_path,))
    (tmp_path / "coverage-1-2.dat").write_text(TEXT)
    assert coverage.main(["--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["functional"] == 50
    assert coverage.main(["--clear"]) == 0
    assert coverage.main([]) == 1
