"""Mutation testing: small bugs, drawn from what can be changed in a source, and whether tests find them.

Python is changed in its syntax tree, SystemVerilog in its text. A mutant that changes nothing that can be seen counts
as one that was missed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPUTED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
TEXT = (  # of SystemVerilog, outside comments, parameters and assertions
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" > ", " >= "),
    (r" < ", " <= "),
    (r" \+ ", " - "),
    (r"(?<=[=(,?:&|]) ?!(?=\w)", ""),
    (r"(?<=<= )1'b0", "1'b1"),
    (r"(?<=<= )1'b1", "1'b0"),
    (r"(?<=<= )'0", "'1"),
)


@dataclass(frozen=True)
class Change:
    """A source with one bug in it; `said` tells which."""

    file: Path
    said: str
    text: str


class _Bug(ast.NodeTransformer):
    """Changes the node with number `at` of those that can be changed; without one, counts them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count, self.said = at, 0, ""

    def _hit(self, node: ast.AST, said: str) -> bool:
        self.count += 1
        if self.count - 1 != self.at:
            return False
        self.said = f"line {getattr(node, 'lineno', 0)}: {said}"
        return True

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        other = COMPARED.get(type(node.ops[0]))
        if other is not None and self._hit(node, f"{type(node.ops[0]).__name__} became {other.__name__}"):
            node.ops[0] = other()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        other = COMPUTED.get(type(node.op))
        if other is not None and self._hit(node, f"{type(node.op).__name__} became {other.__name__}"):
            node.op = other()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.Invert | ast.USub) and self._hit(
            node, f"{type(node.op).__name__} is gone"
        ):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._hit(node, f"{node.value} became {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node  # what is said in an error is not computed

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def python(file: Path, number: int, seed: int) -> Iterator[Change]:
    """`number` bugs drawn from all that can be made in a module of Python."""
    counter = _Bug()
    counter.visit(ast.parse(file.read_text()))
    places = np.random.default_rng(seed).permutation(counter.count)[:number]
    for place in sorted(places.tolist()):
        bug = _Bug(place)
        tree = ast.fix_missing_locations(bug.visit(ast.parse(file.read_text())))
        yield Change(file, bug.said, ast.unparse(tree))


def verilog(file: Path, number: int, seed: int) -> Iterator[Change]:
    """`number` bugs drawn from all that can be made in a module's body, before its assertions."""
    text = file.read_text()
    begins, ends = text.index(");\n"), text.rfind("`ifndef SYNTHESIS")
    ends = ends if ends > 0 else len(text)
    quiet = [match.span() for match in re.finditer(r"//.*|\$fatal.*|\$clog2\(.*|localparam.*|for \(.*", text)]
    found = []
    for pattern, other in TEXT:
        for match in re.finditer(pattern, text):
            first, last = match.span()
            if begins < first < ends and not any(low <= first < high for low, high in quiet):
                found.append((first, last, other))
    for index in sorted(np.random.default_rng(seed).permutation(len(found))[:number].tolist()):
        first, last, other = sorted(found)[index]
        line = text.count("\n", 0, first) + 1
        said = f"line {line}: '{text[first:last].strip()}' became '{other.strip()}'"
        yield Change(file, said, text[:first] + other + text[last:])


def caught(change: Change, tests: tuple[str, ...], copy: Path) -> bool:
    """Whether one of `tests` fails in the checkout `copy` with the change; the copy is put right again."""
    target = copy / change.file.relative_to(ROOT)
    right = target.read_text()
    target.write_text(change.text)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=1800,
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(right)
    return done.returncode != 0
