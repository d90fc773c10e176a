"""Writes a converted network to its output folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.design import DesignError
from hw.frames import quantise_input

if TYPE_CHECKING:
    from hw.emit.hls import Vectors


class PenstockWriter:
    """SystemVerilog, weight image and manifest, under the folder `output_dir` of the conversion, and ``hls/`` if asked.

    hls4ml asks of a writer `write_hls` and nothing else.
    """

    def write_hls(self, model: Any) -> None:
        """Emit the design of a `ModelGraph` (the method's name is hls4ml's)."""
        from hw.emit import emit  # conversion alone needs no emitter

        folder = Path(model.config.get_output_dir())
        emit(model.penstock.design, folder)
        if model.config.get_config_value("HLS") == "vitis":
            from hw.emit.hls import emit_hls

            emit_hls(model.penstock.design, folder / "hls", _vectors(model))


def _vectors(model: Any) -> Vectors | None:
    """Frames and answers of the conversion's `input_data_tb` and `output_data_tb`; None without the two."""
    from hw.emit.hls import Vectors

    given = {name: model.config.get_config_value(name) for name in ("InputData", "OutputPredictions")}
    if None in given.values():
        return None
    arrays = []
    for name, option in (("InputData", "input_data_tb"), ("OutputPredictions", "output_data_tb")):
        try:
            arrays.append(np.load(given[name], allow_pickle=False))
        except (OSError, ValueError):
            raise DesignError(f"{option} is '{given[name]}'; accepted: an .npy file of numbers that is there") from None
    design = model.penstock.design
    frames = quantise_input(design, arrays[0], model.penstock.layout)
    if arrays[1].size != len(frames) * design.outputs:
        raise DesignError(f"output_data_tb has {arrays[1].shape}; accepted: ({len(frames)}, {design.outputs})")
    logits = np.ldexp(arrays[1].astype(np.float64), -design.output_format.exponent)
    return Vectors(frames, np.rint(logits).astype(np.int64).reshape(len(frames), design.outputs))
