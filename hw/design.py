"""The accelerator as data: everything that is emitted, simulated or reported is read from a `Design`.

All numbers are integers. A real value is ``integer * 2**exponent``; formats carry the exponent, and nothing here
computes with floats. Construction verifies: an object that exists can be built.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw.crc import POLYNOMIALS
from hw.keywords import SYSTEMVERILOG

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_LAYER_BITS = 8  # activations and weights; DESIGN section 3
MAX_KERNEL = 7
MAX_MULTIPLIERS = 1 << 16  # of an array: more than any FPGA has
CHUNK_BYTES = 1 << 24  # of an array that is turned into bytes at a time
MAX_SHIFT = 31
THRESHOLD_BITS = 32  # of the THRESHOLD register, signed
MAX_HIDDEN_BITS = 16  # of a low-rank predictor
MAX_CLASSES = 1024  # that class registers have bits for
ACCUMULATOR_LIMIT = 48  # bits; one DSP accumulator, and well inside the 53 that the golden model needs


class DesignError(ValueError):
    """A network that cannot be built; the message names the layer, what was found and what is accepted."""


class Place(StrEnum):
    """Where a layer runs."""

    HEAD = "head"  # its own streaming stage
    ENGINE = "engine"  # a step of the shared engine's program


class Source(StrEnum):
    """Where a layer's weights come from."""

    RESIDENT = "resident"  # on chip, in the head stage
    LAZY = "lazy"  # external memory, the predicted filters only
    DENSE = "dense"  # external memory, every filter


class Mode(StrEnum):
    """Which filters a lazy layer computes; pinned ones are always among them."""

    ALL = "all"
    TOP = "top"  # the `keep` of highest score, ties to the lower index
    THRESHOLD = "threshold"  # those whose score is above `threshold`

    @property
    def code(self) -> int:
        """The value of the MODE register."""
        return list(Mode).index(self)


@dataclass(frozen=True)
class Selection:
    """What a lazy layer's registers MODE, KEEP and THRESHOLD hold; only that which `mode` looks at counts."""

    mode: Mode
    keep: int = 1
    threshold: int = 0


def signed_bits(low: int, high: int) -> int:
    """Width of the smallest two's complement number that holds both bounds."""
    return max(max(high, 0).bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1


def _frozen(array: NDArray[np.generic], dtype: type[np.generic]) -> NDArray[np.generic]:
    """A read-only copy of `array` as `dtype`; one number that is broadcast to a shape stays one number."""
    if array.size > 1 and not any(array.strides):
        return np.broadcast_to(np.array(array.flat[0], dtype=dtype), array.shape)
    copy = np.array(array, dtype=dtype, copy=True)
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True)
class IntFormat:
    """Integers of `bits` bits that stand for ``integer * 2**exponent``."""

    bits: int
    signed: bool
    exponent: int

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(-self.low, self.high)


@dataclass(frozen=True)
class MapShape:
    """A feature map: channels x height x width."""

    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Lanes:
    """A multiplier array: `filters` x `pixels` products per cycle."""

    filters: int
    pixels: int

    def __post_init__(self) -> None:
        if min(self.filters, self.pixels) < 1 or self.pixels & (self.pixels - 1) or self.multipliers > MAX_MULTIPLIERS:
            raise DesignError(
                f"lanes {self.filters} x {self.pixels}: filters must be at least 1 and pixels a power of two, together "
                f"up to {MAX_MULTIPLIERS} multipliers"
            )

    @property
    def multipliers(self) -> int:
        return self.filters * self.pixels


@dataclass(frozen=True, eq=False)
class Predictor(ABC):
    """What gives every filter of a lazy layer a score before any is computed; the base of the kinds.

    A `Selection` then takes filters by their scores, which are exact integers.
    """

    @property
    @abstractmethod
    def channels(self) -> int | None:
        """Input channels whose strengths it reads; None if it needs none."""

    @property
    @abstractmethod
    def filters(self) -> int:
        """Filters that it scores."""

    @abstractmethod
    def score_bits(self, strength_high: int) -> int:
        """Signed width that no sum can leave when every strength is at most `strength_high`."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiplications per frame in which no channel is absent; counting bits multiplies nothing."""

    @property
    @abstractmethod
    def table_bits(self) -> int:
        """Bits of its tables of weights on chip, thresholds and biases left out."""


def _swing(weights: IntArray, operand_high: int, bias: IntArray) -> int:
    """What no partial sum ``bias + operands @ weights`` exceeds in magnitude, for operands up to `operand_high`."""
    return int((np.abs(weights).sum(axis=0) * operand_high + np.abs(bias)).max(initial=0))


def _check_matrix(what: str, matrix: IntArray, bias: IntArray) -> None:
    if matrix.ndim != 2 or bias.shape != matrix.shape[1:]:
        raise DesignError(
            f"predictor: {what} {matrix.shape} and bias {bias.shape}; expected (channels, filters) and (filters,)"
        )
    if matrix.size and (matrix.min() < -128 or matrix.max() > 127):
        raise DesignError(f"predictor: {what} leave the range of int8")


@dataclass(frozen=True, eq=False)
class LinearPredictor(Predictor):
    """score[j] = bias[j] + sum_c strength[c] * weights[c, j].

    After Leroux et al., "Lazy Evaluation of Convolutional Filters" (2016), in integers. `weights` is
    (input channels, filters) within int8, `bias` (filters,).
    """

    weights: IntArray
    bias: IntArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _frozen(self.weights, np.int64))
        object.__setattr__(self, "bias", _frozen(self.bias, np.int64))
        _check_matrix("weights", self.weights, self.bias)

    @property
    def channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def filters(self) -> int:
        return int(self.weights.shape[1])

    def score_bits(self, strength_high: int) -> int:
        swing = _swing(self.weights, strength_high, self.bias)
        return signed_bits(-swing, swing)

    @property
    def macs(self) -> int:
        return self.weights.size

    @property
    def table_bits(self) -> int:
        return 8 * self.weights.size


@dataclass(frozen=True, eq=False)
class LowRankPredictor(Predictor):
    """Two thin products instead of a thick one: score = bias + hidden @ second, of `rank` hidden values

    hidden[i] = saturate(round_half_even((first_bias[i] + sum_c strength[c] * first[c, i]) * 2**-shift)),

    signed integers of `hidden_bits`. `first` is (input channels, rank) and `second` (rank, filters), both within int8;
    `first_bias` is (rank,), `bias` (filters,).
    """

    first: IntArray
    first_bias: IntArray
    shift: int
    hidden_bits: int
    second: IntArray
    bias: IntArray

    def __post_init__(self) -> None:
        for name in ("first", "first_bias", "second", "bias"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.int64))
        _check_matrix("first weights", self.first, self.first_bias)
        _check_matrix("second weights", self.second, self.bias)
        if self.first.shape[1] != len(self.second) or self.rank < 1:
            raise DesignError(
                f"predictor: {self.first.shape[1]} hidden values and {len(self.second)} rows of second weights; "
                "expected as many, at least 1"
            )
        if not 0 <= self.shift <= MAX_SHIFT or not 2 <= self.hidden_bits <= MAX_HIDDEN_BITS:
            raise DesignError(
                f"predictor: shift {self.shift} to {self.hidden_bits} bits; accepted: 0 to {MAX_SHIFT}, and 2 to "
                f"{MAX_HIDDEN_BITS} bits"
            )

    @property
    def rank(self) -> int:
        """Number of hidden values."""
        return int(self.first.shape[1])

    @property
    def hidden(self) -> IntFormat:
        """What hidden values saturate to."""
        return IntFormat(self.hidden_bits, True, 0)

    @property
    def channels(self) -> int:
        return int(self.first.shape[0])

    @property
    def filters(self) -> int:
        return int(self.second.shape[1])

    def score_bits(self, strength_high: int) -> int:
        swing = max(
            _swing(self.first, strength_high, self.first_bias), _swing(self.second, self.hidden.magnitude, self.bias)
        )
        return signed_bits(-swing, swing)

    @property
    def macs(self) -> int:
        return self.first.size + self.second.size

    @property
    def table_bits(self) -> int:
        return 8 * (self.first.size + self.second.size)


@dataclass(frozen=True, eq=False)
class PathPredictor(Predictor):
    """Critical paths as a Boolean matrix: score[j] = J[j] - tau[j], J = I @ paths, I[c] = strength[c] > theta[c].

    `paths` is Boolean (input channels, filters), `theta` (input channels,) at least 0 and `tau` (filters,) integers.
    With threshold 0 a filter is computed if more than `tau` of the channels that vote for it are active.
    """

    paths: BoolArray
    theta: IntArray
    tau: IntArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", _frozen(self.paths, np.bool_))
        object.__setattr__(self, "theta", _frozen(self.theta, np.int64))
        object.__setattr__(self, "tau", _frozen(self.tau, np.int64))
        if self.paths.ndim != 2 or (self.theta.shape, self.tau.shape) != (self.paths.shape[:1], self.paths.shape[1:]):
            raise DesignError(
                f"predictor: paths {self.paths.shape}, theta {self.theta.shape} and tau {self.tau.shape}; expected "
                "(channels, filters), (channels,) and (filters,)"
            )
        if self.theta.min(initial=0) < 0:
            raise DesignError(f"predictor: theta is {self.theta.min()}; accepted: at least 0, as strengths are")

    @property
    def channels(self) -> int:
        return int(self.paths.shape[0])

    @property
    def filters(self) -> int:
        return int(self.paths.shape[1])

    def score_bits(self, strength_high: int) -> int:  # noqa: ARG002 - as all kinds
        swing = _swing(self.paths.astype(np.int64), 1, self.tau)
        return signed_bits(-swing, swing)

    @property
    def macs(self) -> int:
        return 0

    @property
    def table_bits(self) -> int:
        return self.paths.size


@dataclass(frozen=True, eq=False)
class ClassPredictor(Predictor):
    """score[j] = how many of the wanted classes have filter j on their path; `masks` is Boolean (classes, filters).

    Which classes are wanted is a register. With threshold 0 the union of their paths is computed; one class alone gives
    its one-vs-all network. Strengths are not looked at.
    """

    masks: BoolArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", _frozen(self.masks, np.bool_))
        if self.masks.ndim != 2 or not 1 <= len(self.masks) <= MAX_CLASSES:
            raise DesignError(
                f"predictor: masks {self.masks.shape}; expected (classes, filters) of 1 to {MAX_CLASSES} classes"
            )

    @property
    def channels(self) -> None:
        return None

    @property
    def filters(self) -> int:
        return int(self.masks.shape[1])

    @property
    def classes(self) -> int:
        """Classes that may be wanted."""
        return len(self.masks)

    def score_bits(self, strength_high: int) -> int:  # noqa: ARG002 - as all kinds
        return signed_bits(-self.classes, self.classes)

    @property
    def macs(self) -> int:
        return 0

    @property
    def table_bits(self) -> int:
        return self.masks.size


@dataclass(frozen=True)
class Residual:
    """What a layer adds to its sums: the output of the earlier `layer`, in whose `format` it is."""

    layer: str
    format: IntFormat


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """A layer with weights, its requantisation and the max-pooling that follows it.

    `weights` is (filters, channels, kh, kw); `taps` (channels, kh, kw) tells which columns of the layer's matrix are
    kept (a removed column has no weights and costs nothing). `bias` (filters,) is at accumulator scale.
    With `shift` (filters,) the output is ``saturate(round_half_even((acc + bias) * 2**-shift))``; without, the exact
    accumulators leave (a last layer's logits).

    A layer reads the output of the layer before it (the first one the network's input), or of the one that `reads`
    names. With a `residual` it adds that layer's output, at the same place in the map of the same filter, to its sums.
    """

    name: str
    input: MapShape
    input_format: IntFormat
    weights: IntArray
    weight_bits: int
    bias: IntArray
    output_format: IntFormat
    shift: IntArray | None
    place: Place
    source: Source
    taps: BoolArray | None = None
    predictor: Predictor | None = None
    keep: int | None = None  # filters computed per frame at reset; lazy layers only
    mode: Mode = Mode.TOP  # at reset, as `keep` and `threshold`; lazy layers only
    threshold: int = 0
    pinned: tuple[int, ...] = ()  # filters computed in every frame, their weights on chip; engine only
    lanes: Lanes | None = None  # head stages only; the engine has its own
    reads: str | None = None  # engine only, as `residual`
    residual: Residual | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _frozen(self.weights, np.int64))
        object.__setattr__(self, "bias", _frozen(self.bias, np.int64))
        if self.shift is not None:
            object.__setattr__(self, "shift", _frozen(self.shift, np.int64))
        taps = np.ones(self.weights.shape[1:], bool) if self.taps is None else self.taps
        object.__setattr__(self, "taps", _frozen(taps, np.bool_))
        self.verify()

    # -- geometry; what kinds of layer differ in ----------------------------------------------------------------------
    @property
    def stride(self) -> int:
        return 1

    @property
    def pad(self) -> tuple[int, int]:
        """Rows above and columns left of the map that read as zero."""
        return (0, 0)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the output before pooling."""
        raise NotImplementedError

    @property
    def pool_size(self) -> int:
        return 1

    # -- derived ------------------------------------------------------------------------------------------------------
    @property
    def filters(self) -> int:
        return int(self.weights.shape[0])

    @property
    def kernel(self) -> tuple[int, int]:
        return (int(self.weights.shape[2]), int(self.weights.shape[3]))

    @property
    def output(self) -> MapShape:
        height, width = self.grid
        return MapShape(self.filters, height // self.pool_size, width // self.pool_size)

    @property
    def kept_taps(self) -> BoolArray:
        """`taps`, which construction has filled in."""
        assert self.taps is not None
        return self.taps

    @property
    def order(self) -> tuple[int, ...]:
        """Filters in the order in which the engine computes those that it does: pinned ones, then by index."""
        return (*self.pinned, *sorted(set(range(self.filters)) - set(self.pinned)))

    @property
    def lazy(self) -> bool:
        return self.source is Source.LAZY

    @property
    def selection(self) -> Selection:
        """What is computed after reset."""
        if self.keep is None:
            return Selection(Mode.ALL, self.filters)
        return Selection(self.mode, self.keep, self.threshold)

    @property
    def strength_high(self) -> int:
        """No channel of the input can have a larger activation strength."""
        return self.input.pixels * self.input_format.magnitude

    @cached_property
    def accumulator_bits(self) -> int:
        """Signed width that no partial sum can leave, for any weights of this width and these biases."""
        fan_in = int(self.kept_taps.sum())
        swing = fan_in * (1 << (self.weight_bits - 1)) * self.input_format.magnitude
        swing += int(np.abs(self.bias).max(initial=0))
        if self.residual is not None:
            swing += self.residual.format.magnitude << int(self.residual_shift.max())
        return signed_bits(-swing, swing)

    @property
    def residual_shift(self) -> IntArray:
        """Bits by which the residual is shifted up to the scale of each filter's accumulators, (filters,)."""
        assert self.residual is not None
        assert self.shift is not None
        shift: IntArray = self.shift - (self.output_format.exponent - self.residual.format.exponent)
        return shift

    # -- verification -------------------------------------------------------------------------------------------------
    def verify(self) -> None:
        """Raise `DesignError` where the layer cannot be built."""
        if self.weights.ndim != 4 or self.weights.shape[1] != self.input.channels:
            self._refuse(f"weights have shape {self.weights.shape}", f"(filters, {self.input.channels}, kh, kw)")
        if self.kept_taps.shape != self.weights.shape[1:]:
            self._refuse(f"taps have shape {self.kept_taps.shape}", str(self.weights.shape[1:]))
        if self.weights[:, ~self.kept_taps].any():
            self._refuse("a removed tap has a weight", "zero weights in removed columns")
        if self.bias.shape != (self.filters,):
            self._refuse(f"bias has shape {self.bias.shape}", f"({self.filters},)")
        for what, bits in (("activations", self.input_format.bits), ("weights", self.weight_bits)):
            if not 2 <= bits <= MAX_LAYER_BITS:
                self._refuse(f"{what} have {bits} bits", f"2 to {MAX_LAYER_BITS}")
        bound = 1 << (self.weight_bits - 1)
        if self.weights.size == 0 or self.weights.min() < -bound or self.weights.max() >= bound:
            self._refuse(f"weights leave the range of {self.weight_bits} bits or are empty", f"{-bound} to {bound - 1}")
        if self.shift is not None:
            if self.shift.shape != (self.filters,):
                self._refuse(f"shift has shape {self.shift.shape}", f"({self.filters},)")
            if self.shift.min() < 0 or self.shift.max() > MAX_SHIFT:
                self._refuse(
                    f"requantisation shifts by {int(self.shift.min())} to {int(self.shift.max())} bits",
                    f"0 to {MAX_SHIFT}: an output scale not finer than input scale x weight scale",
                )
            if not 2 <= self.output_format.bits <= MAX_LAYER_BITS:
                self._refuse(f"output has {self.output_format.bits} bits", f"2 to {MAX_LAYER_BITS}")
            self._verify_residual()
        elif self.residual is not None:
            self._refuse("a residual is added to accumulators that leave", "a residual of a layer that is requantised")
        elif self.output_format.bits < self.accumulator_bits or not self.output_format.signed:
            self._refuse(
                f"accumulators of {self.accumulator_bits} bits leave as {self.output_format}",
                "a signed format that holds them",
            )
        if self.accumulator_bits > ACCUMULATOR_LIMIT:
            self._refuse(f"accumulators need {self.accumulator_bits} bits", f"at most {ACCUMULATOR_LIMIT}")
        self._verify_place()

    def _verify_place(self) -> None:
        if (self.place is Place.HEAD) != (self.source is Source.RESIDENT):
            self._refuse(
                f"place '{self.place}' with weights '{self.source}'", "head with resident, engine with lazy or dense"
            )
        if (self.place is Place.HEAD) != (self.lanes is not None):
            self._refuse(
                "lanes are given for an engine layer or missing for a head stage", "lanes for head stages only"
            )
        if self.place is Place.HEAD and (self.reads is not None or self.residual is not None):
            self._refuse("a branch ends at a head stage", "branches on the engine")
        if self.lazy != (self.predictor is not None) or self.lazy != (self.keep is not None):
            self._refuse(
                "predictor and keep do not go with the weights' source", "both for lazy layers, neither for others"
            )
        if self.predictor is not None:
            channels, expected = self.predictor.channels, (self.input.channels, self.filters)
            found = (self.input.channels if channels is None else channels, self.predictor.filters)
            if found != expected:
                self._refuse(f"predictor is {found}", f"(channels, filters) = {expected}")
        if list(self.pinned) != sorted(set(self.pinned)) or not set(self.pinned) <= set(range(self.filters)):
            self._refuse(f"pinned filters are {self.pinned}", f"ascending indices from 0 to {self.filters - 1}")
        if self.pinned and self.place is Place.HEAD:
            self._refuse("a head stage has pinned filters", "pinned filters on the engine; a head's are all on chip")
        self.verify_selection(self.selection)
        if not self.lazy and (self.mode, self.threshold) != (Mode.TOP, 0):
            self._refuse("mode or threshold is given for a layer that is not lazy", "both for lazy layers only")

    def _verify_residual(self) -> None:
        if self.residual is None:
            return
        if self.residual_shift.min() < 0 or self.residual_shift.max() > MAX_SHIFT:
            self._refuse(
                f"the residual '{self.residual.layer}' is shifted by {int(self.residual_shift.min())} to "
                f"{int(self.residual_shift.max())} bits",
                f"0 to {MAX_SHIFT}: a residual whose scale is not finer than input scale x weight scale",
            )
        if self.stride != 1 or self.grid != (self.input.height, self.input.width):
            self._refuse(
                f"a residual is added to a grid of {self.grid} outputs with stride {self.stride}, made of a map of "
                f"{(self.input.height, self.input.width)}",
                "stride 1, and as many outputs as inputs",
            )
        if any(size % self.pool_size for size in self.grid):
            self._refuse(
                f"a residual is added before pooling that drops edges of a grid of {self.grid}", "even grids to pool"
            )
        if self.lazy:
            self._refuse("a residual is added in a lazy layer", "a dense one; layers inside the branch may be lazy")

    def verify_selection(self, selection: Selection) -> None:
        """Raise `DesignError` unless the layer's registers can hold `selection`."""
        bound = 1 << (THRESHOLD_BITS - 1)
        if not 1 <= selection.keep <= self.filters:
            self._refuse(f"keep is {selection.keep}", f"1 to {self.filters} filters")
        if not -bound <= selection.threshold < bound:
            self._refuse(f"threshold is {selection.threshold}", f"{-bound} to {bound - 1}")

    def _refuse(self, found: str, accepted: str) -> None:
        raise DesignError(f"layer '{self.name}': {found}; accepted: {accepted}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Layer):
    """A 2-D convolution, optionally followed by `pool` x `pool` max-pooling of that stride (odd edges are dropped).

    `padding` is (top, bottom, left, right).
    """

    strides: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: int = 1

    @property
    def stride(self) -> int:
        return self.strides

    @property
    def pad(self) -> tuple[int, int]:
        return (self.padding[0], self.padding[2])

    @property
    def pool_size(self) -> int:
        return self.pool

    @property
    def grid(self) -> tuple[int, int]:
        top, bottom, left, right = self.padding
        (kh, kw), s = self.kernel, self.strides
        return (
            (self.input.height + top + bottom - kh) // s + 1,
            (self.input.width + left + right - kw) // s + 1,
        )

    def verify(self) -> None:
        if self.strides not in (1, 2):
            self._refuse(f"stride {self.strides}", "1 or 2")
        if self.pool not in (1, 2, 4):
            self._refuse(f"max-pooling of {self.pool}", "1 (none), 2 or 4, with the same stride")
        if self.weights.ndim == 4 and max(self.kernel) > MAX_KERNEL:
            self._refuse(f"kernel {self.kernel}", f"up to {MAX_KERNEL} x {MAX_KERNEL}")
        if min(self.output.height, self.output.width) < 1:
            self._refuse(
                f"a map of {self.input.height} x {self.input.width} leaves no output",
                "a map at least as large as the kernel",
            )
        # Outputs are anchored at input pixels (the window walks the flat input map), so each needs one.
        rows, columns = ((n - 1) * self.strides + 1 for n in self.grid)
        if rows > self.input.height or columns > self.input.width:
            self._refuse(
                f"padding {self.padding} makes the output larger than the input", "padding up to the kernel's 'same'"
            )
        if max(self.padding) >= MAX_KERNEL or min(self.padding) < 0:
            self._refuse(f"padding {self.padding}", f"0 to {MAX_KERNEL - 1}")
        super().verify()


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Layer):
    """A fully connected layer: a convolution whose kernel is the whole map, so `weights` is (filters, c, h, w)."""

    @property
    def grid(self) -> tuple[int, int]:
        return (1, 1)

    def verify(self) -> None:
        if self.place is Place.HEAD:
            self._refuse("a fully connected layer is placed in the head", "the engine: it needs the whole map")
        if self.weights.ndim == 4 and self.kernel != (self.input.height, self.input.width):
            self._refuse(f"weights have shape {self.weights.shape}", "a kernel that covers the input map")
        super().verify()


@dataclass(frozen=True)
class Engine:
    """Structure of the shared engine.

    `bus_bytes`: width of the external memory port. `predictor_lanes`: scores updated per cycle. `outstanding`: read
    bursts that may wait for data. `max_burst`: beats of one burst. `gap_words`: up to so many bus words of absent
    channels between present ones are fetched along with them, where a burst of its own would cost more. `join_words`:
    while so many words are on their way, records that lie side by side share bursts; 0: never. `timeout`: cycles for
    which the memory may be silent while weights are waited for, after which the frame goes on without it and is marked
    bad; what register TIMEOUT holds after reset; 0: for ever. `crc_bits`: width of the checksums of weights in the
    image, 0 for none. With checksums, weights are fetched in blocks of whole channels that have at least `crc_block`
    bytes, or whole records, each block with a checksum of its own.
    """

    lanes: Lanes
    bus_bytes: int = 4
    predictor_lanes: int = 8
    outstanding: int = 4
    max_burst: int = 256
    gap_words: int = 1
    join_words: int = 64
    timeout: int = 65536
    crc_bits: int = 0
    crc_block: int = 256

    def __post_init__(self) -> None:
        for name, value, accepted in (
            ("bus_bytes", self.bus_bytes, (4, 8, 16, 32, 64)),
            ("predictor_lanes", self.predictor_lanes, (1, 2, 4, 8, 16, 32)),
            ("outstanding", self.outstanding, (1, 2, 4, 8, 16)),
            ("max_burst", self.max_burst, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
            ("gap_words", self.gap_words, range(65)),
            ("join_words", self.join_words, range(1025)),
            ("timeout", self.timeout, range(1 << 32)),
            ("crc_bits", self.crc_bits, (0, *POLYNOMIALS)),
            ("crc_block", self.crc_block, range(1, 65537)),
        ):
            if value not in accepted:
                listed = (
                    f"{accepted[0]} to {accepted[-1]}" if isinstance(accepted, range) else ", ".join(map(str, accepted))
                )
                raise DesignError(f"engine: {name} is {value}; accepted: {listed}")


@dataclass(frozen=True, eq=False)
class Design:
    """A whole accelerator: streaming `head` stages, then the `tail`, a program for the shared `engine`."""

    name: str
    input: MapShape
    input_format: IntFormat
    head: tuple[Layer, ...]
    tail: tuple[Layer, ...]
    engine: Engine

    def __post_init__(self) -> None:
        self.verify()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.head + self.tail

    @property
    def lazy_layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.tail if layer.lazy)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """For each of `layers`, the place among them of the one whose output it reads; -1 is the network's input."""
        places = {layer.name: index for index, layer in enumerate(self.layers)}
        return tuple(
            index - 1 if layer.reads is None else places[layer.reads] for index, layer in enumerate(self.layers)
        )

    @property
    def tail_sources(self) -> tuple[int, ...]:
        """For each layer of the tail, the place in it of the one whose output it reads; below 0 is the tail's input."""
        first = len(self.head)
        return tuple(source - first for source in self.sources[first:])

    @property
    def chained(self) -> tuple[bool, ...]:
        """For each layer of the tail, whether it reads what the one just before it in the tail computes."""
        return tuple(0 <= source == index - 1 for index, source in enumerate(self.tail_sources))

    @property
    def classes(self) -> int:
        """Classes of which some may be wanted; 0 if no predictor asks."""
        return max((x.predictor.classes for x in self.tail if isinstance(x.predictor, ClassPredictor)), default=0)

    @property
    def outputs(self) -> int:
        """Values of one frame's answer."""
        return self.layers[-1].filters

    @property
    def output_format(self) -> IntFormat:
        return self.layers[-1].output_format

    def verify(self) -> None:
        """Raise `DesignError` where the layers do not fit together; names the offending layer."""
        if not (self.name.isidentifier() and self.name.isascii()) or self.name in SYSTEMVERILOG:
            raise DesignError(
                f"design name '{self.name}'; accepted: letters, digits and underscores, but no keyword of SystemVerilog"
            )
        if not self.tail:
            raise DesignError(
                f"design '{self.name}': no layer is placed on the engine; accepted: at least the last one"
            )
        shape, number = self.input, self.input_format
        before: dict[str, Layer] = {}
        for layer, place in [(x, Place.HEAD) for x in self.head] + [(x, Place.ENGINE) for x in self.tail]:
            if layer.name in before:
                raise DesignError(f"layer '{layer.name}' occurs twice")
            if layer.reads is not None:
                source = self._earlier(layer, layer.reads, before)
                shape, number = source.output, source.output_format
            if layer.residual is not None:
                self._verify_residual(layer, self._earlier(layer, layer.residual.layer, before))
            if layer.place is not place:
                raise DesignError(
                    f"layer '{layer.name}' is placed in '{layer.place}' but stands among the {place} layers"
                )
            if (layer.input, layer.input_format) != (shape, number):
                raise DesignError(
                    f"layer '{layer.name}' expects {layer.input}, {layer.input_format} but is given {shape}, {number}"
                )
            if layer.shift is None and layer is not self.tail[-1]:
                raise DesignError(
                    f"layer '{layer.name}' is not requantised; only the last layer may leave accumulators"
                )
            before[layer.name] = layer
            shape, number = layer.output, layer.output_format
        self._verify_branches()
        for layer in self.tail:
            if isinstance(layer.predictor, ClassPredictor) and layer.predictor.classes != self.classes:
                raise DesignError(
                    f"layer '{layer.name}' has masks of {layer.predictor.classes} classes, another layer of "
                    f"{self.classes}; accepted: the same classes everywhere"
                )
        last = self.tail[-1]
        if last.pinned != tuple(range(len(last.pinned))):
            raise DesignError(
                f"layer '{last.name}' is the last and has pinned filters {last.pinned}; accepted: 0, 1, and so on, so "
                "that logits leave in order"
            )
        if (shape.height, shape.width) != (1, 1) or last.shift is not None:
            raise DesignError(
                f"layer '{last.name}' ends the network with a {shape.height} x {shape.width} map; "
                "accepted: a layer of 1 x 1 outputs whose accumulators leave as logits"
            )
        if last.lazy or last.pool_size != 1:
            raise DesignError(
                f"layer '{last.name}' is the last and {'lazy' if last.lazy else 'followed by pooling'}; "
                "accepted: a last layer that computes all of its outputs and is not pooled"
            )

    def _earlier(self, layer: Layer, name: str, before: dict[str, Layer]) -> Layer:
        """The layer called `name` that stands before `layer`, where a branch may begin."""
        known = [*(x.name for x in self.head[-1:]), *(x for x in before if before[x].place is Place.ENGINE)]
        if name not in known:
            raise DesignError(
                f"layer '{layer.name}' reads or adds '{name}'; accepted: an earlier layer of the engine, or to read "
                f"the last of the head: {', '.join(known) or 'none'}"
            )
        return before[name]

    def _verify_residual(self, layer: Layer, added: Layer) -> None:
        assert layer.residual is not None
        wanted = (MapShape(layer.filters, *layer.grid), layer.residual.format, layer.pinned)
        if (added.output, added.output_format, added.pinned) != wanted or added.place is Place.HEAD or added.lazy:
            raise DesignError(
                f"layer '{layer.name}' adds '{added.name}', a {added.source} layer that leaves {added.output}, "
                f"{added.output_format} with pinned filters {added.pinned}; accepted: a dense layer that leaves "
                f"{wanted[0]}, {wanted[1]} with pinned filters {wanted[2]}"
            )

    def _verify_branches(self) -> None:
        used = {layer.residual.layer for layer in self.layers if layer.residual is not None}
        for index, source in enumerate(self.sources):
            if source < 0:
                continue
            layer = self.layers[source]
            used.add(layer.name)
            if index != source + 1 and layer.lazy:
                raise DesignError(
                    f"layer '{layer.name}' is lazy and '{self.layers[index].name}', which is not the layer behind it, "
                    "reads it; accepted: dense layers where branches begin"
                )
        for layer in self.layers[:-1]:
            if layer.name not in used:
                raise DesignError(f"no layer reads or adds what '{layer.name}' leaves")

    @cached_property
    def fingerprint(self) -> int:
        """64 bits that identify the design and its weights: what RTL and weight image must share."""
        digest = hashlib.sha256()
        for chunk in _canonical(self):
            digest.update(chunk)
        return int.from_bytes(digest.digest()[:8], "little")


def _canonical(value: object) -> Iterator[bytes]:
    """The content of dataclasses, tuples, arrays and scalars as bytes that depend on nothing else."""
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield field.name.encode()
            yield from _canonical(getattr(value, field.name))
    elif isinstance(value, tuple):
        yield f"({len(value)}".encode()
        for item in value:
            yield from _canonical(item)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        rows = max(1, CHUNK_BYTES * len(value) // max(1, value.nbytes)) if value.ndim else 1
        parts = (value[start : start + rows] for start in range(0, len(value), rows)) if value.ndim else (value,)
        yield from (np.ascontiguousarray(part).tobytes() for part in parts)
    else:
        yield repr(value).encode()
