"""How a layer's outputs are found on the flat map of its input: the numbers that windows, taps and drain work with."""

from __future__ import annotations

from dataclasses import dataclass

from hw.design import MAX_KERNEL, Layer, signed_bits
from hw.emit.bits import field, pack


@dataclass(frozen=True)
class Geometry:
    """A layer walked by windows of `pixels` lanes over its input map.

    An output is anchored at the input pixel (row * stride, column * stride); a tap is a fixed step from there.
    """

    layer: Layer
    pixels: int

    @property
    def words(self) -> int:
        """Words of `pixels` pixels that hold one channel of the input."""
        return -(-self.layer.input.pixels // self.pixels)

    @property
    def out_pixels(self) -> int:
        """Pixels of one output channel, after pooling."""
        return self.layer.output.pixels

    @property
    def limits(self) -> tuple[int, int]:
        """One past the last row and column that anchor an output."""
        shape, pool, stride = self.layer.output, self.layer.pool_size, self.layer.stride
        return (shape.height * pool - 1) * stride + 1, (shape.width * pool - 1) * stride + 1

    @property
    def windows(self) -> int:
        """Windows up to the one that holds the last anchor."""
        rows, columns = self.limits
        return ((rows - 1) * self.layer.input.width + columns - 1) // self.pixels + 1

    @property
    def taps(self) -> list[tuple[int, int, int]]:
        """(dy, dx, step in the flat map) of every tap, in the order of the weights."""
        (kh, kw), (top, left) = self.layer.kernel, self.layer.pad
        width = self.layer.input.width
        return [(y - top, x - left, (y - top) * width + x - left) for y in range(kh) for x in range(kw)]

    @property
    def lanes(self) -> tuple[list[int], list[int]]:
        """Rows and columns of the first window's lanes."""
        width = self.layer.input.width
        return [p // width for p in range(self.pixels)], [p % width for p in range(self.pixels)]

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns from a window to the next."""
        return divmod(self.pixels, self.layer.input.width)

    @property
    def log_stride(self) -> int:
        """Exponent of the stride, a power of two."""
        return self.layer.stride.bit_length() - 1

    @property
    def log_pool(self) -> int:
        """Exponent of the pooling size, a power of two."""
        return self.layer.pool_size.bit_length() - 1

    @property
    def coord_bits(self) -> int:
        """Signed width of every row and column that occurs, taps and lanes beyond the map included."""
        return signed_bits(
            -MAX_KERNEL - 1, max(self.layer.input.height, self.layer.input.width) + self.pixels + MAX_KERNEL
        )

    @property
    def pixel_bits(self) -> int:
        """Signed width of every place in the flat map that occurs."""
        reach = MAX_KERNEL * self.layer.input.width + MAX_KERNEL + self.pixels
        return signed_bits(-reach, self.words * self.pixels + reach)

    def tap_words(self, coord_bits: int, pixel_bits: int) -> list[tuple[int, int]]:
        """The layer's words of the tap table (tap_t of pen_window)."""
        return [
            pack((field(dy, coord_bits), field(dx, coord_bits), field(step, pixel_bits))) for dy, dx, step in self.taps
        ]

    def tap_masks(self) -> list[int]:
        """Per channel, which taps are kept: bit t for tap t."""
        flat = self.layer.kept_taps.reshape(self.layer.input.channels, -1)
        return [sum(1 << t for t, kept in enumerate(row) if kept) for row in flat.tolist()]
