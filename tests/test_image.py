"""The weight image: its bytes, what a fetch costs, and what happens to bytes that are not an image."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw import crc, image
from hw.crc import POLYNOMIALS
from hw.design import Conv, Design, DesignError, Engine, IntFormat, Lanes, MapShape, Place, Source
from tests import brute
from tests.designs import LOGITS, checked, digits_like, random_design


def _tiny(bus_bytes: int = 4) -> Design:
    """Two filters over three channels of 2 x 2 taps, of which channel 1 keeps one and channel 2 three."""
    taps = np.ones((3, 2, 2), np.bool_)
    taps[1] = [[False, False], [True, False]]
    taps[2, 0, 1] = False
    weights = (np.arange(1, 25).reshape(2, 3, 2, 2) - 12) * taps
    layer = Conv(
        name="only",
        input=MapShape(3, 2, 2),
        input_format=IntFormat(8, True, 0),
        weights=weights,
        weight_bits=8,
        bias=np.zeros(2, np.int64),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
        taps=taps,
    )
    return Design("tiny", layer.input, layer.input_format, (), (layer,), Engine(Lanes(1, 1), bus_bytes))


def test_bytes_by_hand() -> None:
    design = _tiny()
    data = image.build(design)
    assert len(data) == 64 + 2 * 8
    assert data[:8] == b"PENSTOCK"
    assert data[8:16] == bytes([2, 0, 0, 0, 4, 0, 0, 0])
    assert data[16:24] == design.fingerprint.to_bytes(8, "little")
    assert data[24:64] == bytes([80]) + bytes(39)
    # channel 0: -11 -10 -9 -8; channel 1: -5; channel 2: -3, -1, 0. And the second filter, 12 above.
    assert np.frombuffer(data[64:], np.int8).tolist() == [-11, -10, -9, -8, -5, -3, -1, 0, 1, 2, 3, 4, 7, 9, 11, 12]


@pytest.mark.parametrize(
    ("bus_bytes", "present", "words"),
    [
        (4, [True, True, True], 2),
        (4, [True, False, False], 1),
        (4, [False, True, False], 1),
        (4, [False, True, True], 1),
        (4, [True, False, True], 2),
        (4, [False, False, False], 0),
        (8, [False, True, False], 1),
        (16, [True, True, True], 1),
        (16, [False, False, False], 0),
    ],
)
def test_words_by_hand(bus_bytes: int, present: list[bool], words: int) -> None:
    (record,) = image.layout(_tiny(bus_bytes))
    assert record.words(np.array([present])).tolist() == [words]


@pytest.mark.parametrize("seed", range(40))
def test_layout_and_words_equal_a_set_of_words(seed: int) -> None:
    design = checked(random_design(seed), bits=0, block=1)
    bus, gap = design.engine.bus_bytes, design.engine.gap_words
    rng = np.random.default_rng(seed)
    end = image.HEADER_BYTES
    first: tuple[int, ...] = ()
    for layer, record in zip(design.tail, image.layout(design), strict=True):
        taps = brute.kept(layer, first)
        assert (record.name, record.offset, record.filters) == (layer.name, end, layer.filters)
        assert record.offset % bus == record.stride % bus == 0
        assert 0 <= record.stride - len(taps) < bus
        for place, channel in enumerate(record.order):
            run = [i for i, tap in enumerate(taps) if tap[0] == channel]
            assert list(range(*record.channel_offset[place : place + 2])) == run
        present = rng.random((20, layer.input.channels)) < rng.random((20, 1))
        present[0], present[1] = True, False
        expected = [len(brute.needed_words(layer, bus, set(np.flatnonzero(row)), gap, first)) for row in present]
        assert record.words(present).tolist() == expected
        assert expected[0] * bus == record.stride
        end, first = record.end, layer.pinned
    assert len(image.build(design)) == end


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([4, 8, 64]),
    st.integers(0, 3),
)
def test_words_of_any_runs(runs: list[tuple[int, bool]], bus_bytes: int, gap: int) -> None:
    offsets = np.concatenate([[0], np.cumsum([length for length, _ in runs])])
    stride = -(-int(offsets[-1]) // bus_bytes) * bus_bytes
    record = image.RecordLayout("x", 64, stride, 1, offsets, bus_bytes, gap)
    words = {
        byte // bus_bytes
        for start, stop, (_, present) in zip(offsets[:-1], offsets[1:], runs, strict=True)
        if present
        for byte in range(start, stop)
    }
    filled = [word for word in range(stride // bus_bytes) if _in_short_gap(word, words, gap)]
    assert record.words(np.array([[present for _, present in runs]])).tolist() == [len(words) + len(filled)]


def _in_short_gap(word: int, words: set[int], gap: int) -> bool:
    """Whether `word` is not in `words` but at most `gap` - 1 others lie between the nearest two that are."""
    before, after = [w for w in words if w < word], [w for w in words if w > word]
    return word not in words and bool(before) and bool(after) and min(after) - max(before) - 1 <= gap


@pytest.mark.parametrize("seed", range(10))
def test_weights_come_back_from_the_image(seed: int) -> None:
    design = checked(random_design(seed), bits=0, block=1)
    data = image.build(design)
    first: tuple[int, ...] = ()
    for layer, record in zip(design.tail, image.layout(design), strict=True):
        table = np.frombuffer(data[record.offset : record.end], np.int8).reshape(layer.filters, record.stride)
        back = np.zeros_like(layer.weights)
        for position, tap in enumerate(brute.kept(layer, first)):
            back[(slice(None), *tap)] = table[:, position]
        assert np.array_equal(back, layer.weights)
        assert not table[:, record.channel_offset[-1] :].any()
        first = layer.pinned


def test_the_default_networks_size() -> None:
    design = digits_like(0)
    assert [(r.offset, r.stride, r.filters) for r in image.layout(design)] == [
        (64, 144, 32),
        (64 + 4608, 288, 64),
        (64 + 4608 + 18432, 256, 10),
    ]
    assert image.build(design) == image.build(digits_like(0))


def test_wrong_shape_of_present_is_refused() -> None:
    (record,) = image.layout(_tiny())
    with pytest.raises(ValueError, match=r"layer 'only': present has shape \(1, 2\); expected \(frames, 3\)"):
        record.words(np.ones((1, 2), np.bool_))


def test_an_image_beyond_the_address_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "ADDRESS_BITS", 6)
    with pytest.raises(DesignError, match="layer 'only': the weight image reaches 80 bytes; accepted: less than 64"):
        image.layout(_tiny())


# -- checksums --------------------------------------------------------------------------------------------------------
CHECKS = [(8, 1), (8, 20), (16, 1), (16, 64), (32, 100), (32, 65536)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("bits", "block"), CHECKS)
def test_every_block_fits_its_place_and_no_other(seed: int, bits: int, block: int) -> None:
    design = checked(random_design(seed), bits, block)
    data, bus = image.build(design), design.engine.bus_bytes
    assert image.read_header(data).crc_bits == bits
    for layer, record, entry in zip(design.tail, image.layout(design), image.manifest(design).layers, strict=True):
        offsets = record.block_offsets.tolist()
        assert entry.block_offsets == tuple(offsets[:-1])
        assert all(offset % bus == 0 for offset in offsets)
        for index in {0, layer.filters - 1}:
            at = record.offset + index * record.stride
            for start, stop in pairwise(offsets):
                state = ~((at + start) // bus)
                assert (serial(state, data[at + start : at + stop], bits) ^ ~((at + stop) // bus)) % (1 << bits) == 0
                assert (serial(state - 1, data[at + start : at + stop], bits) ^ ~((at + stop) // bus)) % (1 << bits)


def serial(state: int, data: bytes, bits: int) -> int:
    """A reflected code bit by bit."""
    state &= (1 << bits) - 1
    for byte in data:
        for bit in range(8):
            out = (state ^ byte >> bit) & 1
            state = state >> 1 ^ out * POLYNOMIALS[bits]
    return state


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("bits", "block"), CHECKS)
def test_blocks_hold_whole_channels_and_are_what_is_fetched(seed: int, bits: int, block: int) -> None:
    design = checked(random_design(seed), bits, block)
    data, bus, gap = image.build(design), design.engine.bus_bytes, design.engine.gap_words
    rng, first = np.random.default_rng(seed), ()
    for layer, record in zip(design.tail, image.layout(design), strict=True):
        taps, offsets = brute.kept(layer, first), record.block_offsets.tolist()
        weights = np.frombuffer(data[record.offset : record.end], np.int8).reshape(layer.filters, record.stride)
        words: dict[int, set[int]] = {}  # of each channel
        for place, channel in enumerate(record.order):
            own = [tap for tap in taps if tap[0] == channel]
            at = int(record.channel_offset[place])
            for position, tap in enumerate(own, at):
                assert np.array_equal(weights[:, position], layer.weights[(slice(None), *tap)])
            inside = [(a, b) for a, b in pairwise(offsets) if a <= at and at + len(own) <= b - bits // 8]
            assert inside or not own
            words[channel] = set(range(inside[0][0] // bus, inside[0][1] // bus)) if own else set()
        blocks = np.diff(record.channel_offset[[*record.blocks]])
        assert (blocks >= block).all() or len(record.blocks) == 1
        present = rng.random((10, layer.input.channels)) < rng.random((10, 1))
        for row, count in zip(present, record.words(present), strict=True):
            needed = set().union(*(words[channel] for channel in np.flatnonzero(row).tolist()))
            gaps = sum(_in_short_gap(word, needed, gap) for word in range(record.stride // bus))
            assert count == len(needed) + gaps
        first = layer.pinned


def test_checksums_are_the_known_ones() -> None:
    """The catalogue's checks of CRC-16/KERMIT and CRC-32/ISCSI, and a bit-serial code for the rest."""
    digits = np.frombuffer(b"123456789", np.uint8)[None]
    assert crc.advance(np.array([0], np.uint32), digits, 16).tolist() == [0x2189]
    assert (~crc.advance(np.array([0xFFFF_FFFF], np.uint32), digits, 32)).tolist() == [0xE306_9283]
    assert crc.advance(np.array([0x5A], np.uint32), digits, 8).tolist() == [serial(0x5A, b"123456789", 8)]


# -- manifest ---------------------------------------------------------------------------------------------------------
def test_manifest_describes_the_image() -> None:
    design = digits_like(0)
    data = image.build(design)
    listing = image.manifest(design)
    assert listing == image.manifest(design, data)
    read = json.loads(listing.to_json())
    assert read["sha256"] == hashlib.sha256(data).hexdigest()
    assert int(read["fingerprint"], 16) == design.fingerprint
    assert (read["design"], read["version"], read["bus_bytes"], read["total_bytes"]) == ("digits_like", 2, 4, len(data))
    assert [(x["name"], x["source"]) for x in read["layers"]] == [
        ("conv2", "lazy"),
        ("conv3", "lazy"),
        ("dense", "dense"),
    ]
    for entry, layer in zip(read["layers"], design.tail, strict=True):
        end = entry["offset"] + entry["stride"] * entry["filters"]
        assert entry["sha256"] == hashlib.sha256(data[entry["offset"] : end]).hexdigest()
        assert entry["order"] == list(range(layer.filters))
        first = np.frombuffer(data[entry["offset"] :][: entry["channel_offsets"][1]], np.int8)
        assert np.array_equal(first, layer.weights[0, 0].ravel())


# -- header -----------------------------------------------------------------------------------------------------------
def test_header_comes_back() -> None:
    design = _tiny(16)
    data = image.build(design)
    assert image.read_header(data) == image.Header(2, 16, design.fingerprint, 64 + 2 * 16, 0)
    assert image.read_header(data[:64]) == image.check(data, design)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes; expected at least its header of 64"),
        (image.MAGIC, "has 8 bytes"),
        (b"\x7fELF" + bytes(60), r"starts with b'\\x7fELF.*expected b'PENSTOCK'"),
        (image.MAGIC + b"\x01" + bytes(55), "version 1; accepted: 2"),
    ],
)
def test_bytes_that_are_no_image_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(image.ImageError, match=message):
        image.read_header(data)


def test_an_image_of_another_design_or_size_is_refused() -> None:
    design = _tiny()
    data = image.build(design)
    with pytest.raises(image.ImageError, match="has 79 bytes; its header says 80"):
        image.check(data[:-1], design)
    weights = design.tail[0].weights.copy()
    weights[0, 0, 0, 0] += 1
    other = replace(design, tail=(replace(design.tail[0], weights=weights),))
    with pytest.raises(image.ImageError, match=f"fingerprint {design.fingerprint:016x}; 'tiny' has"):
        image.check(data, other)
