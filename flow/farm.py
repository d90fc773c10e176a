"""The simulations of a regression: one after the other here, or side by side on the workers of a Dask cluster.

Workers have the same version of Penstock and a C++ compiler; everything else is sent to them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from flow.compare import Difference, differences
from flow.errors import UserError
from hw.design import Design, IntArray
from sim import golden
from sim.memory import Memory, Stalls
from sim.verilated import VerilatedModel, build
from sw.train import write_atomically

Task = TypeVar("Task")
Result = TypeVar("Result")
PATIENCE = 10  # seconds for a scheduler to answer


def spread(work: Callable[[Task], Result], tasks: Sequence[Task], address: str | None = None) -> Iterator[Result]:
    """What `work` makes of each task, in their order; on the cluster whose scheduler is at `address`, if one is given.

    UserError if it is not reached, or if Dask is not installed. What a task raises is raised here.
    """
    if address is None:
        yield from map(work, tasks)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("--dask needs Dask; install it with: pip install 'penstock[dask]'") from error
    try:
        client = Client(address, timeout=PATIENCE)  # type: ignore[no-untyped-call]  # as all of Dask
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at '{address}'; accepted: the address that 'dask scheduler' prints"
        ) from error
    with client:
        yield from client.gather(client.map(work, tasks, pure=False))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Simulation:
    """A design's emitted RTL as `files` by name, its weight image and its memory: all that a worker needs to run it."""

    design: Design
    files: Mapping[str, bytes]
    image: bytes
    memory: Memory
    stalls: Stalls | None = None

    @staticmethod
    def of(design: Design, rtl: Path, image: bytes, memory: Memory, stalls: Stalls | None = None) -> Simulation:
        """From the folder of emitted RTL."""
        files = {path.relative_to(rtl).as_posix(): path.read_bytes() for path in rtl.rglob("*") if path.is_file()}
        return Simulation(design, files, image, memory, stalls)

    def differences(self, frames: IntArray) -> tuple[Difference, ...]:
        """What RTL and golden model do not agree on, for integer `frames` (n, c, h, w) in a row."""
        model = VerilatedModel(self._library(), self.design, self.image, self.memory, self.stalls)
        return differences(golden.run(self.design, frames), model.run(frames))

    def _library(self) -> Path:
        """Of the Verilated model, built once on each machine."""
        digest = hashlib.sha256(b"".join(f"{n} {len(x)}\0".encode() + x for n, x in sorted(self.files.items())))
        folder = Path(tempfile.gettempdir()) / f"penstock-{digest.hexdigest()[:16]}"
        for name, content in self.files.items():
            if not (folder / "rtl" / name).is_file():
                write_atomically(folder / "rtl" / name, content)
        return build(folder / "rtl", folder / "simulation", f"{self.design.name}_probed")


def compare(simulation: Simulation, frames: IntArray, chunk: int, address: str | None = None) -> list[Difference]:
    """`Simulation.differences` of all `frames`, so many in a row at a time; indices count through all of them."""
    starts = range(0, len(frames), chunk)
    found = spread(simulation.differences, [frames[start : start + chunk] for start in starts], address)
    return [replace(each, first=each.first + start) for start, some in zip(starts, found, strict=True) for each in some]
