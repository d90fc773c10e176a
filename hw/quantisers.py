"""What hls4ml's quantiser objects mean in integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw.design import IntArray, IntFormat

FloatArray = NDArray[np.float64]


def exponents_of(scale: ArrayLike) -> IntArray | None:
    """The exponents e of scales ``2**e``, in the shape of `scale`; None if any is not a positive power of two."""
    values = np.asarray(scale, np.float64)
    if not np.isfinite(values).all() or (values <= 0).any():
        return None
    mantissa, exponent = np.frexp(values)
    if (mantissa != 0.5).any():
        return None
    return exponent.astype(np.int64) - 1


class ConstantQuantizer:
    """The grid of a constant that has been folded: signed integers of `bits` bits times ``2**exponents``.

    `exponents` is (1,) or one per filter. The data it is attached to lies on the grid already, so calling it changes
    nothing, whatever layout hls4ml has brought the data into. To hls4ml it is a quantiser: a call, `bits`, `hls_type`.
    """

    def __init__(self, bits: int, exponents: IntArray) -> None:
        from hls4ml.model.types import FixedPrecisionType

        low, high = int(exponents.min()), int(exponents.max())
        self.bits = bits
        self.exponents = exponents
        self.hls_type = FixedPrecisionType(bits + high - low, bits + high, True, "RND_CONV", "SAT")

    def __call__(self, data: FloatArray) -> FloatArray:
        """Return `data` itself."""
        return data


@dataclass(frozen=True)
class ActivationGrid:
    """An activation quantiser: `format`, and whether a signed format leaves its lowest value out."""

    format: IntFormat
    narrow: bool

    def rectified(self) -> ActivationGrid:
        """The grid of ``max(0, x)``: without sign, and the sign's bit is free."""
        if not self.format.signed:
            return self
        return ActivationGrid(IntFormat(self.format.bits - 1, False, self.format.exponent), False)


def activation_grid(precision: Any) -> ActivationGrid | None:
    """The grid of one of hls4ml's types that rounds half to even and saturates; None for any other type."""
    rounding, saturation = (str(getattr(precision, f"{mode}_mode", None)) for mode in ("rounding", "saturation"))
    if rounding != "RND_CONV" or saturation not in ("SAT", "SAT_SYM"):
        return None
    bits, integer = math.ceil(precision.width), math.ceil(precision.integer)
    narrow = bool(precision.signed) and saturation == "SAT_SYM"
    return ActivationGrid(IntFormat(bits, bool(precision.signed), integer - bits), narrow)
