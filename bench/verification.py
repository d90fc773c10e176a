"""What is proved, what faults end in, and what long runs have shown.

    python bench/verification.py [--json FILE] [--part PART ...] [--quick]

Parts are done anew if they are named, proofs and faults if none is; the figures of the others are those of their last
run, kept in build/verification:

- `proofs`: every proof of `sim/formal.py` and its mutants; with `--quick`, those that take seconds.
- `faults`: the tests of faults, and what each of them ends in.
- `fuzz`: random designs in RTL, golden model and QONNX, `--designs` of them from `--seed` on, 36 frames each; goes on
  where it was stopped. What differs is shrunken, and told as a line for `tests/fuzz_cases.json`.
- `mutants`: bugs drawn in the golden model and in two RTL blocks, `--mutants` each, and whether their tests fail.
- `soak`: one design for `--minutes`, with stalls, changes of k, faults and resets.
- `coverage`: what `make coverage` has counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue
from rich.progress import track

from bench.table import Report, parser
from hw.emit import emit
from sim import coverage
from sim.formal import PROOFS, extent, try_all
from sim.verilated import build
from sw.train import write_atomically
from tests import fuzz as fuzzing
from tests import mutation
from tests.designs import checked, random_design
from tests.soak import soak

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "verification"
FAULTS = (
    "tests/test_faults.py",
    "tests/test_faults_files.py",
    "tests/test_faults_inputs.py",
    "tests/test_faults_run.py",
)
MUTATED = {
    "sim/golden.py": ("tests/test_golden.py",),
    "hw/rtl/pen_select.sv": ("tests/test_rtl_engine_parts.py", "-k", "select"),
    "hw/rtl/pen_requant.sv": ("tests/test_rtl_compute.py", "-k", "requant"),
}


def proofs(options: Namespace, report: Report) -> JsonValue:
    """Every proof and its mutants."""
    wanted = [proof for proof in PROOFS if proof.quick or not options.quick]
    found: list[JsonValue] = []
    for result in track(try_all(wanted, mutants=True), "proofs", len(wanted)):
        mutants = f", {len(result.caught)} of {len(result.proof.mutants)} mutants" if result.proof.mutants else ""
        report.row(result.proof.name, f"{result.status.value}, {extent(result.proof)}{mutants}")
        if not result.holds:
            report.failed.append(str(result))
        found.append(
            {
                "name": result.proof.name,
                "status": result.status.value,
                "depth": result.proof.bound or result.proof.depth,
                "unbounded": result.proof.bound == 0,
                "assertions": result.assertions,
                "mutants": {"seeded": len(result.proof.mutants), "caught": len(result.caught)},
            }
        )
    return found


def faults(options: Namespace, report: Report) -> JsonValue:
    """What each test of faults has told; a test that tells nothing of its own has one fault, its name."""
    KEPT.mkdir(parents=True, exist_ok=True)
    told = KEPT / "faults.xml"
    slow = () if options.quick else ("-m", "")
    command = [sys.executable, "-m", "pytest", "-q", *slow, f"--junitxml={told}", *FAULTS]
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    found: list[JsonValue] = []
    for case in ET.parse(told).iter("testcase"):  # noqa: S314  # pytest has just written it
        name = str(case.get("name")).removeprefix("test_").replace("_", " ")
        ended = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "as promised")
        if ended in ("failure", "error"):
            report.failed.append(name)
        said = [(str(x.get("name")), str(x.get("value"))) for x in case.iter("property")]
        found += [{"name": f"{name}: {fault}", "outcome": outcome} for fault, outcome in said]
        if not said:
            found.append({"name": name, "outcome": ended})
    report.row("faults", f"{len(found)}, {len(report.failed)} with another outcome than promised")
    return found


def fuzz(options: Namespace, report: Report) -> JsonValue:
    """Random designs; every answer, choice, score, strength and byte, in three memories."""
    kept = KEPT / "fuzz-designs.json"
    done: dict[str, list[int]] = json.loads(kept.read_text()) if kept.is_file() else {}
    first = fuzzing.STRUCTURE * options.seed
    left = [number for number in range(first, first + options.designs) if str(number) not in done]
    cases: list[JsonValue] = []
    for number, outcome in track(fuzzing.outcomes(left, KEPT), "designs", len(left)):
        if outcome.wrong:
            shared = fuzzing.Structure(number, KEPT / f"structure-{number // fuzzing.STRUCTURE}")
            case = fuzzing.shrunk(number, lambda case, shared=shared: bool(shared.outcome(case).wrong))  # type: ignore[misc]
            cases.append(None if case is None else asdict(case))
            report.failed.append(f"design {number}: {cases[-1]} {outcome.said}")
        done[str(number)] = [outcome.frames, outcome.witnessed, len(outcome.wrong)]
        write_atomically(kept, json.dumps(done).encode())
    frames, witnessed, wrong = (sum(column) for column in zip(*done.values(), strict=True))
    builds = len({int(number) // fuzzing.STRUCTURE for number in done})
    report.row("random designs, of so many structures", f"{len(done)}, {builds}")
    report.row("frames, with QONNX as third witness", f"{frames}, {witnessed}")
    report.equal("RTL = golden model = QONNX in all of them", not wrong)
    return {
        "designs": len(done),
        "structures": builds,
        "frames": frames,
        "with_qonnx": witnessed,
        "mismatches": wrong,
        "cases": cases,
    }


def mutants(options: Namespace, report: Report) -> JsonValue:
    """In a checkout of its own, from the last commit."""
    copy = KEPT / "checkout"
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    seeded, missed = 0, []
    for name, tests in MUTATED.items():
        file = ROOT / name
        draw = mutation.python if file.suffix == ".py" else mutation.verilog
        changes = list(draw(file, options.mutants, options.seed))
        left = [change for change in track(changes, name) if not mutation.caught(change, tests, copy)]
        seeded += len(changes)
        missed += [f"{name}, {change.said}" for change in left]
        report.row(f"bugs in {name}", f"{len(changes) - len(left)} of {len(changes)} caught")
    return {"seeded": seeded, "caught": seeded - len(missed), "missed": list[JsonValue](missed)}


def soaked(options: Namespace, report: Report) -> JsonValue:
    """A random design with checksums."""
    design = checked(random_design(28), 16, block=20)
    folder = KEPT / "soak"
    emit(design, folder)
    library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
    seen = soak(design, library, (folder / "weights.bin").read_bytes(), 60 * options.minutes, options.seed)
    report.row(
        "soak", f"{options.minutes:g} min, {seen.frames} frames, {seen.resets} resets, {seen.faults.total()} faults"
    )
    report.equal("wrong answers that were not marked: none", seen.wrong == 0)
    report.equal("memory of the process: flat", seen.flat)
    return {
        "minutes": options.minutes,
        "frames": seen.frames,
        "bad": seen.bad,
        "wrong": seen.wrong,
        "resets": seen.resets,
        "faults": dict(seen.faults),
        "memory": [seen.memory[0], seen.memory[-1]],
        "flat": seen.flat,
    }


def covered(_: Namespace, report: Report) -> JsonValue:
    """Line, toggle, expression and functional coverage in percent, without points that are waived."""
    counts = coverage.merge(coverage.counted())
    if not counts:
        report.row("coverage", "not counted; first: make coverage")
        return None
    found = coverage.total(coverage.shares(counts, coverage.waivers()))
    for kind, share in found.items():
        report.row(f"{kind} coverage", str(share))
    return {kind: share.percent for kind, share in found.items()}


PARTS: dict[str, Callable[[Namespace, Report], JsonValue]] = {
    "proofs": proofs,
    "faults": faults,
    "fuzz": fuzz,
    "mutants": mutants,
    "soak": soaked,
    "coverage": covered,
}


def main() -> int:
    options = parser("What is proved, what faults end in, and what long runs have shown.")
    options.add_argument("--part", action="append", choices=PARTS, help="do this one; may be given several times")
    options.add_argument("--quick", action="store_true", help="only proofs and faults that take seconds")
    options.add_argument("--designs", type=int, default=1000, help="of fuzz")
    options.add_argument("--mutants", type=int, default=40, help="of each source")
    options.add_argument("--minutes", type=float, default=60, help="of soak")
    options.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    chosen = options.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    report = Report("Verification")
    figures: dict[str, JsonValue] = {}
    for name, part in PARTS.items():
        kept = KEPT / f"{name}.json"
        if name in (chosen.part or ("proofs", "faults")):
            started = time.strftime("%Y-%m-%d %H:%M")
            found = part(chosen, report)
            figures[name] = found
            write_atomically(kept, json.dumps({"when": started, "found": found}, indent=1).encode())
        elif kept.is_file():
            last = json.loads(kept.read_text())
            figures[name] = last["found"]
            report.row(name, f"as of {last['when']}")
        else:
            figures[name] = None
            report.row(name, f"not run yet: --part {name}")
    return report.finish(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
