"""What a converted `ModelGraph` carries as its attribute `penstock`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.control import Changes
from hw.design import Design, IntArray
from hw.frames import Layout, dequantise_output, quantise_input
from hw.simulator import Run, Simulator, find_simulator


@dataclass
class Accelerator:
    """The lowered network, and its simulation once `compile` has built one.

    `layout` is the order of a frame's axes as the network takes them. `last_run` is what the latest `predict` saw: the
    simulator's own result, with cycles, bytes and choices.
    """

    design: Design
    layout: Layout = Layout.CHANNELS_LAST
    simulator: Simulator | None = None
    last_run: Run | None = None

    def compile(self, folder: Path, simulator: str | None = None) -> None:
        """Build the RTL that was written to `folder`; raises `SimulatorError` where there is nothing to build it."""
        self.last_run = None
        self.simulator = find_simulator(simulator)(self.design, folder)

    def predict(self, x: NDArray[np.floating], keep: Changes = None) -> NDArray[np.floating]:
        """Run the RTL on real frames (n, h, w, c), or one of (h, w, c); gives logits (n, outputs), or (outputs,).

        Shape and dtype of the answer are those that hls4ml's other backends give. `keep` changes what lazy layers
        compute, by layer name: a number of filters, or a `Selection`.
        """
        simulator, frames = self._ready(x)
        return self._answer(simulator.run(frames, keep), x)

    def trace(
        self, x: NDArray[np.floating], keep: Changes = None
    ) -> tuple[NDArray[np.floating], dict[str, NDArray[np.float64]]]:
        """As `predict`, and the outputs of all layers by name, real numbers (n, h, w, filters).

        A layer's output is what it hands on: after requantisation, ReLU and pooling, zero for filters not computed; of
        the last one, its accumulators.
        """
        simulator, frames = self._ready(x)
        run, maps = simulator.trace(frames, keep)
        exponents = {layer.name: layer.output_format.exponent for layer in self.design.layers}
        real = {
            name: np.ldexp(np.moveaxis(each, 1, 3).astype(np.float64), exponents[name]) for name, each in maps.items()
        }
        return self._answer(run, x), real

    def _ready(self, x: NDArray[np.floating]) -> tuple[Simulator, IntArray]:
        """The simulator, and the frames of `x` in integers."""
        if self.simulator is None:
            raise RuntimeError("the accelerator has not been built: call compile() before predict()")
        if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
            found = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise ValueError(f"input is {found}; accepted: a numpy array of float32 or float64")
        return self.simulator, quantise_input(self.design, x, self.layout)

    def _answer(self, run: Run, x: NDArray[np.floating]) -> NDArray[np.floating]:
        """The logits of `run`, of the dtype of `x`."""
        self.last_run = run
        if run.bad.any():
            raise RuntimeError(f"frames {np.flatnonzero(run.bad).tolist()} came out marked bad")
        logits = dequantise_output(self.design, run.outputs).astype(x.dtype)
        return logits[0] if len(logits) == 1 else logits
