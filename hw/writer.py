"""Writes a converted network to its output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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

            emit_hls(model.penstock.design, folder / "hls")
