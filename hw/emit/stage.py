"""A head stage: parameters and tables of pen_conv_stage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw.design import Design, IntArray, Layer
from hw.emit.bits import Table, array, clog2, field, pack, power_of_two, table
from hw.emit.geometry import Geometry

MIN_ACC_BITS = 10  # the requantiser compares with 9-bit bounds


@dataclass(frozen=True)
class Stage:
    """One head layer, between the words that arrive (of its own lanes' pixels) and those that the next one takes."""

    layer: Layer
    out_pixels: int  # of a word for the next stage
    before: int  # words that the stage before may complete for one filter group at once

    @property
    def name(self) -> str:
        """The layer's name, which begins the names of its tables."""
        return self.layer.name

    @cached_property
    def geometry(self) -> Geometry:
        """The layer walked by the stage's own windows."""
        assert self.layer.lanes is not None  # Design verifies
        return Geometry(self.layer, self.layer.lanes.pixels)

    @property
    def lane_filters(self) -> int:
        """Filters computed side by side."""
        assert self.layer.lanes is not None
        return self.layer.lanes.filters

    @property
    def groups(self) -> int:
        """Groups of filters that a window is computed for, one after another."""
        return -(-self.layer.filters // self.lane_filters)

    @property
    def row_weights(self) -> int:
        """Kept weights of one filter."""
        return int(self.layer.kept_taps.sum())

    @property
    def acc_bits(self) -> int:
        """Width of the accumulators."""
        return max(self.layer.accumulator_bits, MIN_ACC_BITS)

    @property
    def reach(self) -> tuple[int, int]:
        """Words before and after a window's own that its taps reach."""
        steps = [step for _, _, step in self.geometry.taps]
        pixels = self.geometry.pixels
        return max(0, -(min(steps) // pixels)), max(0, (pixels - 1 + max(steps)) // pixels)

    @property
    def ring_words(self) -> int:
        """What a window reaches, what may arrive for one group before another, and room to run ahead."""
        first, last = self.reach
        return power_of_two(first + last + 2 + self.before + 1)

    @property
    def words_at_once(self) -> int:
        """Words that a window may complete for one filter group."""
        return -(-self.geometry.pixels // self.out_pixels) + 1

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the instance, as SystemVerilog text; tables are named apart."""
        layer, geometry = self.layer, self.geometry
        first, last = self.reach
        limit_y, limit_x = geometry.limits
        numbers = {
            "Channels": layer.input.channels,
            "Filters": layer.filters,
            "Height": layer.input.height,
            "Width": layer.input.width,
            "LaneFilters": self.lane_filters,
            "Pixels": geometry.pixels,
            "OutPixels": self.out_pixels,
            "Taps": len(geometry.taps),
            "RowWeights": self.row_weights,
            "FirstWord": first,
            "LastWord": last,
            "Windows": geometry.windows,
            "RingWords": self.ring_words,
            "LimitY": limit_y,
            "LimitX": limit_x,
            "LogStride": geometry.log_stride,
            "LogPool": geometry.log_pool,
            "OutMapPixels": geometry.out_pixels,
            "OutWidth": layer.output.width,
            "CoordBits": geometry.coord_bits,
            "PixelBits": geometry.pixel_bits,
            "AccBits": self.acc_bits,
            "InSigned": int(layer.input_format.signed),
            "Low": layer.output_format.low,
            "High": layer.output_format.high,
        }
        return {name: str(value) for name, value in numbers.items()}

    @property
    def tables(self) -> dict[str, Table]:
        """ROM contents by the parameter that names their file."""
        return {
            "TapFile": self._taps,
            "ChannelFile": self._channels,
            "WeightFile": self._weights,
            "FilterFile": self._filters,
        }

    @property
    def _taps(self) -> Table:
        return table(f"{self.name}_taps", self.geometry.tap_words(self.geometry.coord_bits, self.geometry.pixel_bits))

    @property
    def _channels(self) -> Table:
        map_bits = max(clog2(self.layer.input.channels * self.ring_words), 2)
        weight_bits = clog2(self.groups * self.row_weights + 1)
        kept = self.layer.kept_taps.sum(axis=(1, 2))
        first = np.cumsum(kept) - kept
        return table(
            f"{self.name}_channels",
            [
                pack(
                    (
                        field(channel * self.ring_words, map_bits),
                        field(int(first[channel]), weight_bits),
                        field(mask, len(self.geometry.taps)),
                    )
                )
                for channel, mask in enumerate(self.geometry.tap_masks())
            ],
        )

    @property
    def _weights(self) -> Table:
        rows = self._grouped(self.layer.weights[:, self.layer.kept_taps])  # (groups, lanes, kept)
        return table(f"{self.name}_weights", [array(column, 8) for group in rows for column in group.T.tolist()])

    @property
    def _filters(self) -> Table:
        assert self.layer.shift is not None
        bias, shift = self._grouped(self.layer.bias), self._grouped(self.layer.shift)
        return table(
            f"{self.name}_filters",
            [pack((array(b.tolist(), self.acc_bits), array(s.tolist(), 5))) for b, s in zip(bias, shift, strict=True)],
        )

    def _grouped(self, values: IntArray) -> IntArray:
        """Rows per filter, padded with zeros to whole groups: (groups, lanes, ...)."""
        padded = np.zeros((self.groups * self.lane_filters, *values.shape[1:]), np.int64)
        padded[: len(values)] = values
        return padded.reshape(self.groups, self.lane_filters, *values.shape[1:])


def head_stages(design: Design) -> tuple[Stage, ...]:
    """The stages of the design's head, each writing words of the width that the next one reads."""
    widths = [layer.lanes.pixels for layer in design.head if layer.lanes is not None] + [design.engine.lanes.pixels]
    stages: list[Stage] = []
    for layer, out_pixels in zip(design.head, widths[1:], strict=True):
        stages.append(Stage(layer, out_pixels, stages[-1].words_at_once if stages else 1))
    return tuple(stages)
