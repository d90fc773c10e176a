"""What runs the emitted RTL: found through the entry point group `penstock.simulators`, so that `hw` needs none.

An entry point is a function ``simulator(design, folder)`` that builds the RTL under `folder` (as `hw.emit.emit` wrote
it) and returns a `Simulator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from hw.control import Changes
from hw.design import BoolArray, Design, IntArray

GROUP = "penstock.simulators"


class SimulatorError(RuntimeError):
    """No simulator is installed, or the one asked for is not."""


class Run(Protocol):
    """What the RTL answered; simulators add cycles, bytes and choices."""

    @property
    def outputs(self) -> IntArray:
        """Logits, (n, outputs)."""

    @property
    def bad(self) -> BoolArray:
        """Frames marked bad, (n,)."""


class Simulator(Protocol):
    """A live accelerator in simulation."""

    def run(self, frames: IntArray, keep: Changes = None) -> Run:
        """Run integer frames (n, c, h, w); `keep` changes what named lazy layers compute."""

    def trace(self, frames: IntArray, keep: Changes = None) -> tuple[Run, Mapping[str, IntArray]]:
        """As `run`, and the outputs (n, filters, h, w) of all layers by name."""


SimulatorFactory = Callable[[Design, Path], Simulator]


def find_simulator(name: str | None = None) -> SimulatorFactory:
    """The simulator `name`, or the only one installed; raises `SimulatorError` that lists what there is."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if not found:
        raise SimulatorError(
            f"no simulator is installed (entry point group '{GROUP}'); "
            "the package 'penstock' brings one named 'verilator'"
        )
    if name is None:
        name = "verilator" if "verilator" in found else sorted(found)[0]
    if name not in found:
        raise SimulatorError(f"simulator '{name}' is not installed; installed: {', '.join(sorted(found))}")
    factory: SimulatorFactory = found[name].load()
    return factory
