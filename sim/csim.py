"""hls4ml's own C simulation of the same network: a witness that shares neither our lowering nor our golden model.

The QONNX file goes through hls4ml's Vitis backend and g++; every filter is computed, so the answers are those of the
design with all filters kept.
"""

from __future__ import annotations

import shutil
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import hls4ml
import numpy as np
from onnx import ModelProto

from hw.design import Design, IntArray
from hw.frames import Layout, dequantise_input
from hw.qonnx import prepare

IO_TYPES = ("io_stream", "io_parallel")


class CSimulationError(RuntimeError):
    """hls4ml or the C++ compiler failed, or answered what is no integer of the accumulators' scale."""


@dataclass(frozen=True)
class CSimulation:
    """A compiled C simulation of the network that `design` was lowered from."""

    design: Design
    model: Any  # hls4ml's ModelGraph; it has no types

    def run(self, frames: IntArray) -> IntArray:
        """Logits (n, outputs) of integer frames (n, c, h, w), in units of ``2**design.output_format.exponent``."""
        (variable,) = self.model.get_input_variables()
        layout = Layout.FLAT if len(variable.shape) == 1 else Layout.CHANNELS_LAST
        answers = np.asarray(self.model.predict(dequantise_input(self.design, frames, layout)), np.float64)
        scaled = np.ldexp(answers.reshape(len(frames), -1), -self.design.output_format.exponent)
        logits = scaled.astype(np.int64)
        if (logits != scaled).any():
            frame, output = (int(index) for index in np.argwhere(logits != scaled)[0])
            raise CSimulationError(
                f"frame {frame}: logit {output} is {answers[frame, output]:.9g}, no multiple of "
                f"2**{self.design.output_format.exponent}"
            )
        return logits


def build(source: str | Path | ModelProto, design: Design, folder: Path, io_type: str = "io_stream") -> CSimulation:
    """Convert QONNX `source` with hls4ml's Vitis backend under `folder`, and compile it.

    `design` gives the formats of input and output. Raises `CSimulationError` with the compiler's words.
    """
    if io_type not in IO_TYPES:
        raise ValueError(f"io_type is '{io_type}'; accepted: {', '.join(IO_TYPES)}")
    if shutil.which("g++") is None:
        raise CSimulationError("'g++' is not installed; hls4ml's C simulation needs it")
    model = prepare(source)
    said = StringIO()
    with warnings.catch_warnings(), redirect_stdout(said):
        warnings.simplefilter("ignore")
        config = hls4ml.utils.config_from_onnx_model(
            model, granularity="name", backend="Vitis", default_precision="fixed<16,6>"
        )
        # Everything else is inferred exactly; what comes in is not.
        name = model.graph.input[0].name.replace(".", "_")
        config["LayerName"][name]["Precision"] = {"result": precision(design)}
        graph = hls4ml.converters.convert_from_onnx_model(
            model, hls_config=config, output_dir=str(folder), project_name="csim", backend="Vitis", io_type=io_type
        )
        try:
            graph.compile()
        except Exception as error:  # hls4ml raises no class of its own
            raise CSimulationError(f"hls4ml's C simulation in '{folder}': {error}\n{said.getvalue()}") from error
    return CSimulation(design, graph)


def precision(design: Design) -> str:
    """hls4ml's fixed-point type of the input, which holds every integer of `design.input_format`."""
    number = design.input_format
    return f"{'' if number.signed else 'u'}fixed<{number.bits},{number.bits + number.exponent}>"
