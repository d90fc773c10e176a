"""Coverage of the RTL: merges what simulations have counted, and says what share of each module was reached.

    PEN_WATCH=coverage pytest ... ; python -m sim.coverage [--json FILE] [--markdown FILE]      (make coverage)

A point is a line (or branch), a bit that goes up or down, a way for an expression to become true, or a situation that
`sim/sv/pen_cover.sv` names, as group__case (functional); it counts once for a module, whatever its instances and
parameters, and is covered when any simulation has reached it. Points that are waived, with a reason, in
`sim/coverage.toml` are not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parent.parent
COUNTED = (ROOT / "build" / "cocotb", ROOT / "build" / "tests")
POINTS = ROOT / "sim" / "sv" / "pen_cover.sv"
WAIVERS = Path(__file__).with_suffix(".toml")
KINDS = {"v_line": "line", "v_branch": "line", "v_toggle": "toggle", "v_expr": "expression", "v_user": "functional"}


class Waiver(BaseModel):
    """Points of `module` whose line, or else whose text or name, `pattern` matches; and why they are not counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module: str
    kind: str
    pattern: str
    reason: str


@dataclass(frozen=True)
class Point:
    """One of Verilator's: in `module`, of a `kind` in `KINDS`' values, at a place in its text."""

    module: str
    kind: str
    line: int
    column: int
    said: str


@dataclass(frozen=True)
class Share:
    """How many points there are, without waived ones, and how many of them were reached."""

    reached: int
    points: int
    waived: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.reached + other.reached, self.points + other.points, self.waived + other.waived)

    @property
    def percent(self) -> float:
        """100 where there is nothing to reach."""
        return 100.0 * self.reached / self.points if self.points else 100.0

    def __str__(self) -> str:
        if not self.points + self.waived:
            return "none"
        waived = f", {self.waived} waived" if self.waived else ""
        return f"{self.percent:.1f}% of {self.points}{waived}"


def parse(text: str) -> dict[Point, int]:
    """Counts by point of the RTL library in one of Verilator's files; those of other sources are left out."""
    counts: dict[Point, int] = {}
    for found in re.finditer(r"^C '(.*)' (\d+)$", text, re.MULTILINE):
        fields = dict(part.split("\x02", 1) for part in found[1].split("\x01") if "\x02" in part)
        page, _, module = fields.get("page", "").partition("/")
        kind, file = KINDS.get(page), Path(fields.get("f", ""))
        if kind == "functional" and file.name == POINTS.name:  # a name, which Verilator encodes, says it all
            module, said = module.partition("_cover")[0], fields.get("o", "").replace("___05F", "__")
            point = Point(module, kind, 0, 0, said)
        elif kind and kind != "functional" and file.stem.startswith("pen_") and file.parent.name == "rtl":
            point = Point(file.stem, kind, int(fields.get("l", 0)), int(fields.get("n", 0)), fields.get("o", ""))
        else:
            continue
        counts[point] = counts.get(point, 0) + int(found[2])
    return counts


def counted() -> list[Path]:
    """The files of counts that there are."""
    return sorted(file for folder in COUNTED for file in folder.rglob("coverage*.dat"))


def merge(files: Iterable[Path]) -> dict[Point, int]:
    """Counts of all files together."""
    merged: dict[Point, int] = {}
    for file in files:
        for point, count in parse(file.read_text(errors="surrogateescape")).items():
            merged[point] = merged.get(point, 0) + count
    return merged


def waivers(file: Path = WAIVERS) -> tuple[Waiver, ...]:
    """The waivers in a TOML file."""
    return tuple(Waiver.model_validate(entry) for entry in tomllib.loads(file.read_text()).get("waiver", []))


def source(module: str) -> list[str]:
    """The lines of a module of the library."""
    return (ROOT / "hw" / "rtl" / f"{module}.sv").read_text().splitlines()


def is_waived(point: Point, waived: Sequence[Waiver], lines: Sequence[str]) -> bool:
    """Whether one of the waivers is about `point`, in a module of these lines."""
    text = lines[point.line - 1] if point.kind == "line" and point.line <= len(lines) else point.said
    return any(
        waiver.module in (point.module, "*") and waiver.kind == point.kind and re.search(waiver.pattern, text)
        for waiver in waived
    )


def shares(counts: Mapping[Point, int], waived: Sequence[Waiver] = ()) -> dict[str, dict[str, Share]]:
    """By module and kind; a point that is waived and reached all the same counts as reached."""
    result: dict[str, dict[str, Share]] = {}
    lines: dict[str, list[str]] = {}
    for point, count in counts.items():
        kinds = result.setdefault(point.module, {kind: Share(0, 0) for kind in dict.fromkeys(KINDS.values())})
        text = lines.setdefault(point.module, source(point.module))
        if not count and is_waived(point, waived, text):
            kinds[point.kind] += Share(0, 0, 1)
        else:
            kinds[point.kind] += Share(int(count > 0), 1)
    return dict(sorted(result.items()))


def total(found: Mapping[str, Mapping[str, Share]]) -> dict[str, Share]:
    """All modules together."""
    kinds = dict.fromkeys(KINDS.values())
    return {kind: sum((module[kind] for module in found.values()), Share(0, 0)) for kind in kinds}


def markdown(counts: Mapping[Point, int], waived: Sequence[Waiver], note: str = "") -> str:
    """A page: `note`, shares by module, waivers with their reasons, and the lines that were not reached."""
    found = shares(counts, waived)
    kinds = list(dict.fromkeys(KINDS.values()))
    rows = [*found.items(), ("**all**", total(found))]
    page = [
        "# Coverage of the RTL",
        "",
        "Made by `make coverage`: the cocotb regressions (`make sim`) and, for functional points, random designs and",
        "faults in emitted RTL, merged.",
        "",
        *([note, ""] if note else []),
    ]
    page += [f"| module | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    page += [f"| {name} | {' | '.join(str(row[kind]) for kind in kinds)} |" for name, row in rows]
    page += ["", "## Waivers", ""]
    page += [f"- `{x.module}`, {x.kind}, `{x.pattern}`: {x.reason}" for x in waived] or ["None."]
    page += ["", "## Lines that were not reached", ""]
    page[page.index("## Waivers") : page.index("## Waivers")] = functional(counts, waived)
    missed = sorted((p for p, n in counts.items() if not n and p.kind == "line"), key=lambda p: (p.module, p.line))
    open_lines = dict.fromkeys((p.module, p.line) for p in missed if not is_waived(p, waived, source(p.module)))
    page += [f"- `{m}.sv:{line}`: `{source(m)[line - 1].strip()}`" for m, line in open_lines] or ["None."]
    return "\n".join(page) + "\n"


def groups() -> dict[str, list[str]]:
    """The groups of functional points that each module has, in the order of `sim/sv/pen_cover.sv`."""
    found: dict[str, list[str]] = {}
    for module, body in re.findall(
        r"^module (\w+)_cover\b(.*?)^endmodule", POINTS.read_text(), re.DOTALL | re.MULTILINE
    ):
        names = re.findall(r"`PEN_\w+\((\w+)|(\w+): cover property", body)
        found[module] = list(dict.fromkeys((first or second).partition("__")[0] for first, second in names))
    return found


def functional(counts: Mapping[Point, int], waived: Sequence[Waiver]) -> list[str]:
    """Lines of the page: of each group of functional points how many were reached, and which were not."""
    rows = []
    for module, names in groups().items():
        points = {p: n for p, n in counts.items() if p.module == module and p.kind == "functional"}
        for name in names:
            own = {p: n for p, n in points.items() if p.said.partition("__")[0] == name}
            share = shares(own, waived).get(module, {}).get("functional", Share(0, 0))
            left = [p.said.partition("__")[2] for p, n in own.items() if not n and not is_waived(p, waived, ())]
            rows.append(f"| {module} | {name} | {share} | {', '.join(sorted(left)) or 'none'} |")
    head = ["## Functional points", "", "What each means says `sim/sv/pen_cover.sv`.", ""]
    return [*head, "| module | group | reached | not reached |", "|---|---|---:|---|", *rows, ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge all counts; 1 if there are none."""
    parser = argparse.ArgumentParser(prog="python -m sim.coverage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="shares in percent")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page")
    parser.add_argument("--note", default="", metavar="TEXT", help="for the page: what was run, if not all")
    parser.add_argument("--clear", action="store_true", help="only forget what was counted")
    chosen = parser.parse_args(arguments)
    if chosen.clear:
        for file in counted():
            file.unlink()
        return 0
    counts = merge(counted())
    if not counts:
        sys.stderr.write("coverage: nothing was counted; first: PEN_WATCH=coverage pytest -m sim\n")
        return 1
    waived = waivers()
    found = shares(counts, waived)
    for name, kinds in [*found.items(), ("all", total(found))]:
        sys.stdout.write(f"{name:<16} " + "  ".join(f"{kind} {share}" for kind, share in kinds.items()) + "\n")
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps({kind: x.percent for kind, x in total(found).items()}, indent=1) + "\n")
    if chosen.markdown:
        chosen.markdown.write_text(markdown(counts, waived, chosen.note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
