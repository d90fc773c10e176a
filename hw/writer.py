"""Writes a converted network to its output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hls4ml.writer.writers import Writer


class PenstockWriter(Writer):  # type: ignore[misc, unused-ignore]  # hls4ml has no types
    """SystemVerilog, weight image and manifest, under the folder `output_dir` of the conversion."""

    def write_hls(self, model: Any) -> None:
        """Emit the design of a `ModelGraph` (the method's name is hls4ml's)."""
        from hw.emit import emit  # conversion alone needs no emitter

        emit(model.penstock.design, Path(model.config.get_output_dir()))
