"""The proofs of the RTL hold, and fail for a wrong RTL. Slow ones: `make formal`, `make test-full`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sim import formal
from sim.formal import PROOFS, RTL, FormalError, Mutant, Proof, Status, catches, missing_tools, mutated, prove

tools = pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}")
slow = {proof.name: () if proof.quick else (pytest.mark.full,) for proof in PROOFS}
FIFO = next(proof for proof in PROOFS if proof.name == "pen_fifo Depth=4")


@tools
@pytest.mark.parametrize("proof", [pytest.param(proof, id=proof.name, marks=slow[proof.name]) for proof in PROOFS])
def test_holds(tmp_path: Path, proof: Proof) -> None:
    result = prove(proof, tmp_path)
    assert result.holds, str(result)
    assert result.assertions > 0


@tools
@pytest.mark.parametrize(
    ("proof", "mutant"),
    [
        pytest.param(proof, mutant, id=f"{proof.name}-{number}", marks=slow[proof.name])
        for proof in PROOFS
        for number, mutant in enumerate(proof.mutants)
    ],
)
def test_a_mutant_is_found_out(tmp_path: Path, proof: Proof, mutant: Mutant) -> None:
    assert catches(proof, mutant, tmp_path)


@tools
def test_what_fails_is_told_with_a_waveform(tmp_path: Path) -> None:
    result = prove(replace(FIFO, cover=2), tmp_path)
    assert (result.status, result.holds) == (Status.UNREACHED, False)
    assert "full" in str(result)
    never_full = replace(FIFO, mutants=(Mutant("pen_fifo", "level_q != LevelBits'(Depth - 1)", "1'b1"),))
    assert catches(never_full, never_full.mutants[0], tmp_path)
    assert list(tmp_path.glob("*-mutant0/trace.vcd"))


@tools
def test_an_induction_that_does_not_close_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (formal.HARNESSES / "pen_fifo.sv").read_text()
    invariant = "assert (32'(dut.read_q) < Places);"
    assert invariant in text
    (tmp_path / "pen_fifo.sv").write_text(text.replace(invariant, ""))
    monkeypatch.setattr(formal, "HARNESSES", tmp_path)
    assert prove(FIFO, tmp_path / "build").status is Status.UNDECIDED


@tools
def test_a_harness_that_yosys_does_not_take_is_told(tmp_path: Path) -> None:
    with pytest.raises(FormalError, match="does not take"):
        prove(replace(FIFO, parameters={"Depth": 0}), tmp_path)


def test_a_mutant_that_does_not_apply_is_refused() -> None:
    with pytest.raises(FormalError, match="occurs 0 times"):
        mutated(Mutant("pen_fifo", "no such text", ""))


def test_a_missing_tool_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formal, "SEARCH", str(tmp_path))
    assert missing_tools() == list(formal.TOOLS)
    with pytest.raises(FormalError, match="not installed"):
        prove(FIFO, tmp_path)


def test_every_harness_belongs_to_a_block_and_has_mutants() -> None:
    assert {path.stem for path in formal.HARNESSES.glob("*.sv")} == set(formal.BLOCKS)
    assert {proof.block for proof in PROOFS if proof.mutants} == set(formal.BLOCKS)
    assert all((RTL / f"{block}.sv").exists() for block in formal.BLOCKS)
    for proof in PROOFS:
        assert all(mutated(mutant) for mutant in proof.mutants)


def test_the_plan_lists_every_proof() -> None:
    text = (formal.ROOT / "docs" / "verification.md").read_text()
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `pen_")]
    listed = [(name.strip(" `"), how.strip(), int(mutants)) for name, how, mutants in rows]
    assert listed == [(proof.name, formal.extent(proof), len(proof.mutants)) for proof in PROOFS]
