"""The vendor's tool on an emitted Vitis HLS project: C simulation, synthesis, co-simulation, packaging; what it says.

It is the user's own: nothing here brings it, and without it `run` says what is needed. What it writes is read as hls4ml
reads it (`hls4ml/report/vivado_report.py`), but into types, and what is missing or undefined is None.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

TOOLS = (("vitis-run", ("--mode", "hls", "--tcl")), ("vitis_hls", ("-f",)))  # from 2024.1 on, and before
LOG_LINES = 8  # of the log that an error repeats
SOLUTION = "solution1"


class VitisError(RuntimeError):
    """The tool is not there, failed, or wrote no report; the message says which, and what it said."""


class Step(StrEnum):
    """What ``build_prj.tcl`` can do, in its words."""

    CSIM = "csim"
    CSYNTH = "csynth"
    COSIM = "cosim"
    EXPORT = "export"


@dataclass(frozen=True)
class Cycles:
    """Bounds of a number of cycles; None where the tool knows none, as for loops whose length data decides."""

    low: int | None
    high: int | None


@dataclass(frozen=True)
class VitisResources:
    """Counts of a part's resources."""

    lut: int
    ff: int
    dsp: int
    bram_18k: int
    uram: int


@dataclass(frozen=True)
class Synthesis:
    """Estimates after C synthesis; clocks in ns, `available` of the part."""

    part: str
    target_ns: float
    estimated_ns: float
    latency: Cycles
    interval: Cycles
    used: VitisResources
    available: VitisResources


@dataclass(frozen=True)
class Cosimulation:
    """The synthesised RTL against the C test bench: `status` is "Pass" where all logits were equal."""

    status: str
    latency: Cycles
    interval: Cycles


@dataclass(frozen=True)
class VitisReport:
    """What Vitis HLS says about a design: the `steps` that were run, and their reports."""

    design: str
    tool: str
    steps: tuple[Step, ...]
    synthesis: Synthesis | None
    cosimulation: Cosimulation | None

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str) -> VitisReport:
        """What `to_json` wrote."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(VitisReport)


def tool() -> tuple[str, tuple[str, ...]]:
    """The tool's command and its arguments before a Tcl script. Raises `VitisError` where none is on PATH."""
    for command, arguments in TOOLS:
        if shutil.which(command) is not None:
            return command, arguments
    raise VitisError(
        "Vitis HLS is not on PATH; needed: 'vitis-run' (from 2024.1 on) or 'vitis_hls', as AMD's settings64.sh puts it "
        "there. Without it, compile() runs the same C++ with g++, and hls=None synthesises the RTL with open tools"
    )


def run(design: str, project: Path, steps: Sequence[Step], part: str | None = None) -> VitisReport:
    """Run `steps` of the emitted `project` of `design`; the log stays in ``vitis.log`` beside its script.

    `part` is the device, by default the project's. Raises `VitisError`.
    """
    command, arguments = tool()
    script = project / "build_prj.tcl"
    if not script.is_file():
        raise VitisError(f"'{script}' does not exist; accepted: a folder as write() with hls='vitis' makes it")
    environment = os.environ | {"PENSTOCK_HLS": " ".join(steps)} | ({} if part is None else {"PENSTOCK_PART": part})
    log = project / "vitis.log"
    with log.open("w") as out:
        done = subprocess.run(
            [command, *arguments, script.name],
            cwd=project,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        said = [line for line in lines if "ERROR" in line] or lines
        raise VitisError(f"{command} failed ({done.returncode}), see '{log}': {' '.join(said[-LOG_LINES:])}")
    reports = project / f"{design}_prj" / SOLUTION
    return VitisReport(
        design,
        command,
        tuple(steps),
        synthesis(reports / "syn" / "report" / f"{design}_csynth.xml") if Step.CSYNTH in steps else None,
        cosimulation(reports / "sim" / "report" / f"{design}_cosim.rpt") if Step.COSIM in steps else None,
    )


def synthesis(file: Path) -> Synthesis:
    """The report of C synthesis (XML). Raises `VitisError` that names the file and what it lacks."""
    try:
        root = ET.fromstring(_text(file))  # noqa: S314 - a file of the user's own tool
    except ET.ParseError as error:
        raise VitisError(f"'{file}' is no report of C synthesis: {error}") from None

    def find(path: str) -> str:
        found = root.findtext(path)
        if found is None:
            raise VitisError(f"'{file}' is no report of C synthesis: it has no '{path}'")
        return found.strip()

    def cycles(low: str, high: str) -> Cycles:
        overall = "PerformanceEstimates/SummaryOfOverallLatency"
        return Cycles(_count(find(f"{overall}/{low}")), _count(find(f"{overall}/{high}")))

    def resources(table: str) -> VitisResources:
        def count(name: str, *older: str) -> int:
            place = f"AreaEstimates/{table}"
            known = next((x for x in (name, *older) if root.find(f"{place}/{x}") is not None), name)
            return _count(find(f"{place}/{known}")) or 0

        return VitisResources(count("LUT"), count("FF"), count("DSP", "DSP48E"), count("BRAM_18K"), count("URAM"))

    try:
        return Synthesis(
            part=find("UserAssignments/Part"),
            target_ns=float(find("UserAssignments/TargetClockPeriod")),
            estimated_ns=float(find("PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")),
            latency=cycles("Best-caseLatency", "Worst-caseLatency"),
            interval=cycles("Interval-min", "Interval-max"),
            used=resources("Resources"),
            available=resources("AvailableResources"),
        )
    except ValueError as error:
        raise VitisError(f"'{file}' is no report of C synthesis: {error}") from None


def cosimulation(file: Path) -> Cosimulation:
    """The report of co-simulation: its row of the simulated language. Raises `VitisError` where there is none."""
    for line in _text(file).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] in ("Verilog", "VHDL") and len(cells) >= 8 and cells[1] != "NA":
            low, _, high, every_low, _, every_high = (_count(cell) for cell in cells[2:8])
            return Cosimulation(cells[1], Cycles(low, high), Cycles(every_low, every_high))
    raise VitisError(f"'{file}' is no report of co-simulation: no language has a result")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        raise VitisError(f"Vitis HLS has ended without '{file}'") from None


def _count(text: str) -> int | None:
    """A whole number; None for "undef", "?", "NA" and the like."""
    return int(text) if text.isdigit() else None
