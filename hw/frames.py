"""Between real values, as hls4ml's users have them, and the integers of a `Design`."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw.design import Design, IntArray, MapShape


class Layout(StrEnum):
    """Order of a frame's axes at the network's input."""

    CHANNELS_LAST = "(height, width, channels)"
    CHANNELS_FIRST = "(channels, height, width)"
    FLAT = "(values,)"


def frame_shape(shape: MapShape, layout: Layout) -> tuple[int, ...]:
    """The shape of one frame of `shape` in `layout`."""
    if layout is Layout.FLAT:
        return (shape.channels,)
    if layout is Layout.CHANNELS_FIRST:
        return (shape.channels, shape.height, shape.width)
    return (shape.height, shape.width, shape.channels)


def quantise_input(design: Design, x: ArrayLike, layout: Layout = Layout.CHANNELS_LAST) -> IntArray:
    """Integer frames (n, c, h, w) of real-valued ones (n, then axes as in `layout`; a single frame may leave n out).

    ``saturate(round_half_even(x * 2**-exponent))``, exactly; infinities saturate. Raises ValueError for a wrong shape,
    a dtype that is not real, and NaN.
    """
    values = np.asarray(x)
    if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"input has dtype {values.dtype}; accepted: real numbers")
    expected = frame_shape(design.input, layout)
    if design.input.height == 1 and layout is not Layout.FLAT and 1 < values.ndim <= 3:
        row = 0 if layout is Layout.CHANNELS_LAST else 1  # of a frame's axes; networks of one dimension have none
        if values.shape[-2:] == expected[:row] + expected[row + 1 :]:
            values = np.expand_dims(values, row - 3 + 1 if row else -3)
    if values.shape == expected:
        values = values[np.newaxis]
    if values.shape[1:] != expected:
        raise ValueError(
            f"input has shape {values.shape}; accepted: (n, {', '.join(map(str, expected))}), frames of {layout}"
        )
    values = values.astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(f"input has {int(np.isnan(values).sum())} NaN values; accepted: numbers")
    number = design.input_format
    integers = np.clip(np.rint(np.ldexp(values, -number.exponent)), number.low, number.high).astype(np.int64)
    if layout is Layout.CHANNELS_LAST:
        integers = integers.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(integers.reshape(len(integers), *_canonical(design.input)))


def dequantise_input(design: Design, frames: IntArray, layout: Layout = Layout.CHANNELS_LAST) -> NDArray[np.float64]:
    """Real values of integer frames (n, c, h, w), in `layout`; `quantise_input` undoes it."""
    values = np.ldexp(frames.astype(np.float64), design.input_format.exponent)
    if layout is Layout.CHANNELS_LAST:
        values = values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(values.reshape(len(frames), *frame_shape(design.input, layout)))


def dequantise_output(design: Design, outputs: IntArray) -> NDArray[np.float64]:
    """Real values of integer logits (n, outputs)."""
    return np.ldexp(outputs.astype(np.float64), design.output_format.exponent)


def _canonical(shape: MapShape) -> tuple[int, int, int]:
    return (shape.channels, shape.height, shape.width)
