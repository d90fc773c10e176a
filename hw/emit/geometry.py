"""How a layer's outputs are found on the flat map of its input: the numbers that windows, taps and drain work with."""

from __future__ import annotations

from dataclasses import dataclass

from hw.design import MAX_KERNEL, Layer, MapShape, signed_bits
from hw.emit.bits import field, pack

QUARTERS = 4


def quarter_words(shape: MapShape, pixels: int) -> int:
    """Words of `pixels` pixels that hold a quarter of one channel of a map of even height and width."""
    return -(-(shape.pixels // QUARTERS) // pixels)


@dataclass(frozen=True)
class Geometry:
    """A layer walked by windows of `pixels` lanes over its input map.

    An output is anchored at the input pixel (row * stride, column * stride); a tap is a fixed step from there.

    With `quartered` (stride 2, even height and width) the input lies in quarters, of its even and odd rows and columns,
    one behind the other. Windows then walk a quarter, with a pixel per output, and a tap is a fixed step into the
    quarter that all its pixels are in: a layer of stride 1 as far as windows and drain can tell.
    """

    layer: Layer
    pixels: int
    quartered: bool = False

    @property
    def height(self) -> int:
        """Rows that windows walk."""
        return self.layer.input.height // (2 if self.quartered else 1)

    @property
    def width(self) -> int:
        """Columns that windows walk."""
        return self.layer.input.width // (2 if self.quartered else 1)

    @property
    def stride(self) -> int:
        """Between the pixels that anchor outputs, on what windows walk."""
        return 1 if self.quartered else self.layer.stride

    @property
    def words(self) -> int:
        """Words of `pixels` pixels that hold one channel of the input."""
        return (QUARTERS if self.quartered else 1) * self.walked_words

    @property
    def walked_words(self) -> int:
        """Words of what windows walk: the input, or a quarter of it."""
        return -(-self.height * self.width // self.pixels)

    @property
    def out_pixels(self) -> int:
        """Pixels of one output channel, after pooling."""
        return self.layer.output.pixels

    @property
    def limits(self) -> tuple[int, int]:
        """One past the last row and column that anchor an output."""
        shape, pool, stride = self.layer.output, self.layer.pool_size, self.stride
        return (shape.height * pool - 1) * stride + 1, (shape.width * pool - 1) * stride + 1

    @property
    def windows(self) -> int:
        """Windows up to the one that holds the last anchor."""
        rows, columns = self.limits
        return ((rows - 1) * self.width + columns - 1) // self.pixels + 1

    @property
    def taps(self) -> list[tuple[int, int, int]]:
        """(dy, dx, step in the flat map) of every tap, in the order of the weights."""
        (kh, kw), (top, left) = self.layer.kernel, self.layer.pad
        return [self._tap(y - top, x - left) for y in range(kh) for x in range(kw)]

    def _tap(self, dy: int, dx: int) -> tuple[int, int, int]:
        """The tap of the pixel `dy` rows and `dx` columns from the anchor."""
        if not self.quartered:
            return dy, dx, dy * self.width + dx
        quarter = 2 * (dy % 2) + dx % 2
        step = (dy // 2) * self.width + dx // 2
        return dy // 2, dx // 2, quarter * self.walked_words * self.pixels + step

    @property
    def lanes(self) -> tuple[list[int], list[int]]:
        """Rows and columns of the first window's lanes."""
        return [p // self.width for p in range(self.pixels)], [p % self.width for p in range(self.pixels)]

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns from a window to the next."""
        return divmod(self.pixels, self.width)

    @property
    def log_stride(self) -> int:
        """Exponent of the stride, a power of two."""
        return self.stride.bit_length() - 1

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
