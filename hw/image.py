"""The weight image: the bytes in external memory that the engine fetches from, and what a fetch costs.

Little endian throughout. A header of 64 bytes,

| bytes | content                                  |
|-------|------------------------------------------|
| 0-7   | ``PENSTOCK``                             |
| 8-11  | version of this layout, 2                |
| 12-15 | width of the memory bus in bytes         |
| 16-23 | fingerprint of the design                |
| 24-31 | size of the whole image in bytes         |
| 32-35 | bits of a checksum, 0 where there are none |
| 36-63 | zero                                     |

is followed, per layer of the tail in program order, by one record per filter in filter order. A record holds, for
each input channel and each kept tap of it in (ky, kx) order, one signed byte. Channels lie in the order in which they
are listed: that in which the layer before computes them (its pinned filters first), or by index where another map is
read; they are not padded, the record is, with zeros, to whole bus
words. So a channel is a run of bytes that can be left out of a fetch when the
channel is absent in this frame, and a filter is an aligned run of words that can be left out when it is not chosen.

With checksums (`Engine.crc_bits`), a record is a row of blocks instead, each of some whole channels, then zeros, then a
check word (`hw.crc`) that fills the block up to whole bus words. What can be left out is a block: it is fetched when
any of its channels is present, and checked.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hw.crc import advance, border, check_words
from hw.design import BoolArray, Design, DesignError, Engine, IntArray, Layer

HEADER_BYTES = 64
IDENTITY_BYTES = 24  # of the header: up to the fingerprint, what the accelerator compares
MAGIC = b"PENSTOCK"
VERSION = 2
ADDRESS_BITS = 32  # of the memory port; the base address takes its share of them too

_HEADER = struct.Struct("<8sIIQQI28x")


class ImageError(ValueError):
    """Bytes that are not a weight image, or not the one of this design."""


@dataclass(frozen=True, eq=False)
class RecordLayout:
    """Where the records of one layer lie.

    `offset` counts from the image's base and `stride` from record to record, in bytes, both multiples of `bus_bytes`.
    The i-th input channel in `order` has the bytes ``channel_offset[i]:channel_offset[i + 1]`` of each record; it is
    (channels + 1,). Gaps of up to `gap_words` between what is fetched are fetched too.

    With checksums of `crc_bits`, `blocks` are the places in `order` at which blocks begin, and a channel's bytes end
    where its weights do, `channel_bytes` (channels,) after they begin: behind a block's last one come zeros and check.
    """

    name: str
    offset: int
    stride: int
    filters: int
    channel_offset: IntArray
    bus_bytes: int
    gap_words: int = 0
    channel_order: tuple[int, ...] | None = None
    crc_bits: int = 0
    blocks: tuple[int, ...] = ()
    channel_bytes: IntArray | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """Input channels in the order in which they lie in a record."""
        return self.channel_order or tuple(range(self.channel_offset.size - 1))

    @property
    def end(self) -> int:
        """First byte after the layer, from the image's base."""
        return self.offset + self.stride * self.filters

    @property
    def sizes(self) -> IntArray:
        """Bytes of weights of each channel in a record, (channels,) in the order of `order`."""
        return np.diff(self.channel_offset) if self.channel_bytes is None else self.channel_bytes

    @property
    def block_offsets(self) -> IntArray:
        """Bytes of a record at which its blocks begin, and its end: (blocks + 1,)."""
        return np.array([*self.channel_offset[list(self.blocks)], self.stride], np.int64)

    @property
    def fetched(self) -> tuple[IntArray, IntArray]:
        """First bus word, and the one behind the last, that are fetched for each channel alone; both (channels,).

        The two are equal for channels without weights. Both ascend.
        """
        start = self.channel_offset[:-1]
        first, end = start // self.bus_bytes, -(-(start + self.sizes) // self.bus_bytes)
        if self.blocks:
            block = np.searchsorted(self.blocks, np.arange(start.size), side="right") - 1
            words = self.block_offsets // self.bus_bytes
            first, end = words[block], words[block + 1]
        return first, np.where(self.sizes > 0, end, first)

    def words(self, present: BoolArray) -> IntArray:
        """Bus words that are fetched per chosen filter: those of present channels, and short gaps between.

        `present` is (frames, channels); the result (frames,).
        """
        if present.ndim != 2 or present.shape[1] != self.channel_offset.size - 1:
            raise ValueError(
                f"layer '{self.name}': present has shape {present.shape}; "
                f"expected (frames, {self.channel_offset.size - 1})"
            )
        first, end = self.fetched
        needed, last = present[:, self.order] & (end > first), end - 1
        # Runs are in ascending order, so of a run only the words after the last one needed so far are new, and those of
        # a short gap before it. Before the first run there is no gap.
        reached = np.maximum.accumulate(np.where(needed, last, -1), axis=1)
        before = np.concatenate([np.full((len(present), 1), -1, np.int64), reached[:, :-1]], axis=1)
        joins = (before >= 0) & (first - before - 1 <= self.gap_words)
        new = last - np.where(joins, before + 1, np.maximum(first, before + 1)) + 1
        words: IntArray = np.where(needed, new, 0).sum(axis=1, dtype=np.int64)
        return words


@dataclass(frozen=True)
class Header:
    """What an image says about itself."""

    version: int
    bus_bytes: int
    fingerprint: int
    total_bytes: int
    crc_bits: int


@dataclass(frozen=True)
class LayerManifest:
    """One layer of the image. `order[i]` is the filter of record i, `channel_order` and `channel_offsets` those of
    `RecordLayout`; `block_offsets` the bytes of a record at which its blocks begin, where there are checksums.
    """

    name: str
    source: str
    offset: int
    stride: int
    filters: int
    order: tuple[int, ...]
    channel_order: tuple[int, ...]
    channel_offsets: tuple[int, ...]
    block_offsets: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an image holds, for people and for loaders; checksums are those of the bytes of image and layers."""

    design: str
    version: int
    fingerprint: str  # hexadecimal: JSON readers lose the low bits of 64-bit numbers
    bus_bytes: int
    crc_bits: int
    total_bytes: int
    sha256: str
    layers: tuple[LayerManifest, ...]

    def to_json(self) -> str:
        """The manifest as JSON text; equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def layout(design: Design) -> tuple[RecordLayout, ...]:
    """The records of each layer of `design.tail`, in its order.

    Raises `DesignError` when the image would leave the address range.
    """
    engine, bus = design.engine, design.engine.bus_bytes
    records: list[RecordLayout] = []
    offset = HEADER_BYTES  # a multiple of every bus width, and so are the strides
    for index, (layer, chained) in enumerate(zip(design.tail, design.chained, strict=True)):
        # Channels are listed in the order in which they finish, or are replayed.
        channel_order = design.tail[index - 1].order if chained else tuple(range(layer.input.channels))
        sizes = layer.kept_taps.sum(axis=(1, 2))[list(channel_order)].astype(np.int64)
        blocks = _blocks(sizes, engine) if engine.crc_bits else (0,)
        edges = [*blocks, sizes.size]
        filled = np.concatenate([[0], np.cumsum(sizes)])  # without zeros and checks
        stored = -(-(np.diff(filled[edges]) + engine.crc_bits // 8) // bus) * bus  # of each block
        block = np.repeat(np.arange(len(blocks)), np.diff(edges))  # of each channel
        start = (np.cumsum(stored) - stored - filled[list(blocks)])[block] + filled[:-1]
        channel_offset = np.append(start, start[-1] + sizes[-1])
        channel_offset.setflags(write=False)
        records.append(
            RecordLayout(
                layer.name,
                offset,
                int(stored.sum()),
                layer.filters,
                channel_offset,
                bus,
                engine.gap_words,
                channel_order,
                engine.crc_bits,
                blocks if engine.crc_bits else (),
                sizes if engine.crc_bits else None,
            )
        )
        offset = records[-1].end
        if offset >> ADDRESS_BITS:
            raise DesignError(
                f"layer '{layer.name}': the weight image reaches {offset} bytes; "
                f"accepted: less than {1 << ADDRESS_BITS}"
            )
    return tuple(records)


def _blocks(sizes: IntArray, engine: Engine) -> tuple[int, ...]:
    """Where blocks begin among channels of so many bytes: each of at least `crc_block` bytes, or of up to twice as many
    where that leaves a smaller share to zeros and check word.
    """
    least, filled = engine.crc_block, np.concatenate([[0], np.cumsum(sizes)])
    blocks = [0]
    while True:
        size = filled - filled[blocks[-1]]
        ends = np.flatnonzero((size >= least) & (filled[-1] - filled >= least))
        if not ends.size:
            return tuple(blocks)
        ends = ends[size[ends] <= max(2 * least, size[ends[0]])]
        stored = -(-(size[ends] + engine.crc_bits // 8) // engine.bus_bytes)
        blocks.append(int(ends[np.argmin(stored / size[ends])]))


def identity(design: Design) -> bytes:
    """The first bytes of the design's image, which no other image has."""
    return _header(design, 0)[:IDENTITY_BYTES]


def _header(design: Design, total_bytes: int) -> bytes:
    engine = design.engine
    return _HEADER.pack(MAGIC, VERSION, engine.bus_bytes, design.fingerprint, total_bytes, engine.crc_bits)


def build(design: Design) -> bytes:
    """The weight image of `design`; the same design gives the same bytes."""
    records = layout(design)
    body = b"".join(_records(layer, record) for layer, record in zip(design.tail, records, strict=True))
    return _header(design, HEADER_BYTES + len(body)) + body


def weights_in_place(
    layer: Layer, record: RecordLayout, filters: Sequence[int] | slice = slice(None)
) -> NDArray[np.int8]:
    """The weights of a layer's `filters` at their places in its records, zeros between them, (filters, stride)."""
    weights = layer.weights[filters if isinstance(filters, slice) else list(filters)].astype(np.int8)
    table = np.zeros((len(weights), record.stride), np.int8)
    channels, places = list(record.order), zip(record.channel_offset[:-1], record.sizes, strict=True)
    taken = np.concatenate([np.arange(start, start + size) for start, size in places])
    table[:, taken] = weights[:, channels][:, layer.kept_taps[channels]]
    return table


def _records(layer: Layer, record: RecordLayout) -> bytes:
    """All records of a layer, (filters, stride) bytes."""
    table = weights_in_place(layer, record).view(np.uint8)
    if record.crc_bits:
        check, words = record.crc_bits // 8, record.block_offsets // record.bus_bytes
        filters = (record.offset + np.arange(record.filters) * record.stride) // record.bus_bytes
        for first, end in pairwise(words):
            covered = slice(first * record.bus_bytes, end * record.bus_bytes - check)
            states = advance(border(filters + first, record.crc_bits), table[:, covered], record.crc_bits)
            found = check_words(states, border(filters + end, record.crc_bits), record.crc_bits)
            table[:, covered.stop : covered.stop + check] = found.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :check]
    return table.tobytes()


def manifest(design: Design, image: bytes | None = None) -> Manifest:
    """The manifest of the design's image; `image` spares building it once more."""
    image = build(design) if image is None else image
    layers = tuple(
        LayerManifest(
            name=layer.name,
            source=str(layer.source),
            offset=record.offset,
            stride=record.stride,
            filters=record.filters,
            order=tuple(range(record.filters)),
            channel_order=record.order,
            channel_offsets=tuple(record.channel_offset.tolist()),
            block_offsets=tuple(record.block_offsets.tolist()[:-1]) if record.crc_bits else (),
            sha256=hashlib.sha256(image[record.offset : record.end]).hexdigest(),
        )
        for layer, record in zip(design.tail, layout(design), strict=True)
    )
    return Manifest(
        design=design.name,
        version=VERSION,
        fingerprint=f"{design.fingerprint:016x}",
        bus_bytes=design.engine.bus_bytes,
        crc_bits=design.engine.crc_bits,
        total_bytes=len(image),
        sha256=hashlib.sha256(image).hexdigest(),
        layers=layers,
    )


def read_header(data: bytes) -> Header:
    """The header at the start of `data`; raises `ImageError` when there is none that this version can read."""
    if len(data) < HEADER_BYTES:
        raise ImageError(f"weight image has {len(data)} bytes; expected at least its header of {HEADER_BYTES}")
    magic, version, bus_bytes, fingerprint, total_bytes, crc_bits = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ImageError(f"weight image starts with {magic!r}; expected {MAGIC!r}")
    if version != VERSION:
        raise ImageError(f"weight image has version {version}; accepted: {VERSION}")
    return Header(version, bus_bytes, fingerprint, total_bytes, crc_bits)


def check(image: bytes, design: Design) -> Header:
    """The header of `image`; raises `ImageError` unless it is whole and made for `design`."""
    header = read_header(image)
    if header.total_bytes != len(image):
        raise ImageError(f"weight image has {len(image)} bytes; its header says {header.total_bytes}")
    if header.fingerprint != design.fingerprint:
        raise ImageError(
            f"weight image was made for the design with fingerprint {header.fingerprint:016x}; "
            f"'{design.name}' has {design.fingerprint:016x}"
        )
    return header
