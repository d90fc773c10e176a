"""The weight image: the bytes in external memory that the engine fetches from, and what a fetch costs.

Little endian throughout. A header of 64 bytes,

| bytes | content                                  |
|-------|------------------------------------------|
| 0-7   | ``PENSTOCK``                             |
| 8-11  | version of this layout, 1                |
| 12-15 | width of the memory bus in bytes         |
| 16-23 | fingerprint of the design                |
| 24-31 | size of the whole image in bytes         |
| 32-63 | zero                                     |

is followed, per layer of the tail in program order, by one record per filter in filter order. A record holds, for
each input channel and each kept tap of it in (ky, kx) order, one signed byte. Channels lie in the order in which the
layer before computes them (its pinned filters first); they are not padded, the record is, with zeros, to whole bus
words. So a channel is a run of bytes that can be left out of a fetch when the
channel is absent in this frame, and a filter is an aligned run of words that can be left out when it is not chosen.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass

import numpy as np

from hw.design import BoolArray, Design, DesignError, IntArray, Layer

HEADER_BYTES = 64
MAGIC = b"PENSTOCK"
VERSION = 1
ADDRESS_BITS = 32  # of the memory port; the base address takes its share of them too

_HEADER = struct.Struct("<8sIIQQ32x")


class ImageError(ValueError):
    """Bytes that are not a weight image, or not the one of this design."""


@dataclass(frozen=True, eq=False)
class RecordLayout:
    """Where the records of one layer lie.

    `offset` counts from the image's base and `stride` from record to record, in bytes, both multiples of `bus_bytes`.
    The i-th input channel in `order` has the bytes ``channel_offset[i]:channel_offset[i + 1]`` of each record; it is
    (channels + 1,). Gaps of up to `gap_words` between what is fetched are fetched too.
    """

    name: str
    offset: int
    stride: int
    filters: int
    channel_offset: IntArray
    bus_bytes: int
    gap_words: int = 0
    channel_order: tuple[int, ...] | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """Input channels in the order in which they lie in a record."""
        return self.channel_order or tuple(range(self.channel_offset.size - 1))

    @property
    def end(self) -> int:
        """First byte after the layer, from the image's base."""
        return self.offset + self.stride * self.filters

    def words(self, present: BoolArray) -> IntArray:
        """Bus words that are fetched per chosen filter: those with a byte of a present channel, and short gaps between.

        `present` is (frames, channels); the result (frames,).
        """
        if present.ndim != 2 or present.shape[1] != self.channel_offset.size - 1:
            raise ValueError(
                f"layer '{self.name}': present has shape {present.shape}; "
                f"expected (frames, {self.channel_offset.size - 1})"
            )
        start, stop = self.channel_offset[:-1], self.channel_offset[1:]
        needed = present[:, self.order] & (stop > start)  # a channel without taps has no bytes
        first, last = start // self.bus_bytes, (stop - 1) // self.bus_bytes
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


@dataclass(frozen=True)
class LayerManifest:
    """One layer of the image. `order[i]` is the filter of record i, `channel_order` and `channel_offsets` those of
    `RecordLayout`.
    """

    name: str
    source: str
    offset: int
    stride: int
    filters: int
    order: tuple[int, ...]
    channel_order: tuple[int, ...]
    channel_offsets: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an image holds, for people and for loaders; checksums are those of the bytes of image and layers."""

    design: str
    version: int
    fingerprint: str  # hexadecimal: JSON readers lose the low bits of 64-bit numbers
    bus_bytes: int
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
    bus = design.engine.bus_bytes
    records: list[RecordLayout] = []
    offset = HEADER_BYTES  # a multiple of every bus width, and so are the strides
    channel_order = tuple(range(design.tail[0].input.channels))
    for layer in design.tail:
        weights = layer.kept_taps.sum(axis=(1, 2))[list(channel_order)]
        channel_offset = np.concatenate([[0], np.cumsum(weights)]).astype(np.int64)
        channel_offset.setflags(write=False)
        stride = -(-int(channel_offset[-1]) // bus) * bus
        records.append(
            RecordLayout(
                layer.name,
                offset,
                stride,
                layer.filters,
                channel_offset,
                bus,
                design.engine.gap_words,
                channel_order,
            )
        )
        channel_order = layer.order  # channels are listed for the next layer in the order in which they finish
        offset = records[-1].end
        if offset >> ADDRESS_BITS:
            raise DesignError(
                f"layer '{layer.name}': the weight image reaches {offset} bytes; "
                f"accepted: less than {1 << ADDRESS_BITS}"
            )
    return tuple(records)


def build(design: Design) -> bytes:
    """The weight image of `design`; the same design gives the same bytes."""
    records = layout(design)
    body = b"".join(_records(layer, record) for layer, record in zip(design.tail, records, strict=True))
    return _HEADER.pack(MAGIC, VERSION, design.engine.bus_bytes, design.fingerprint, HEADER_BYTES + len(body)) + body


def _records(layer: Layer, record: RecordLayout) -> bytes:
    """All records of a layer, (filters, stride) bytes."""
    table = np.zeros((record.filters, record.stride), np.int8)
    channels = list(record.order)
    table[:, : record.channel_offset[-1]] = layer.weights[:, channels][:, layer.kept_taps[channels]]
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
            sha256=hashlib.sha256(image[record.offset : record.end]).hexdigest(),
        )
        for layer, record in zip(design.tail, layout(design), strict=True)
    )
    return Manifest(
        design=design.name,
        version=VERSION,
        fingerprint=f"{design.fingerprint:016x}",
        bus_bytes=design.engine.bus_bytes,
        total_bytes=len(image),
        sha256=hashlib.sha256(image).hexdigest(),
        layers=layers,
    )


def read_header(data: bytes) -> Header:
    """The header at the start of `data`; raises `ImageError` when there is none that this version can read."""
    if len(data) < HEADER_BYTES:
        raise ImageError(f"weight image has {len(data)} bytes; expected at least its header of {HEADER_BYTES}")
    magic, version, bus_bytes, fingerprint, total_bytes = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ImageError(f"weight image starts with {magic!r}; expected {MAGIC!r}")
    if version != VERSION:
        raise ImageError(f"weight image has version {version}; accepted: {VERSION}")
    return Header(version, bus_bytes, fingerprint, total_bytes)


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
