"""The engine's modules around the compute path in cocotb, one by one: from strengths to weights in their banks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hw.crc import POLYNOMIALS
from sim.cocotb import pen_bank, pen_fetch, pen_header, pen_predict, pen_present
from sim.cocotb.runner import RTL, build_folder, simulate

pytestmark = pytest.mark.sim


def run(top: str, case: str, parameters: Mapping[str, int | str], tables: dict[str, str] | None = None) -> None:
    simulate(top, [RTL / f"{top}.sv"], f"sim.cocotb.{top}", case, parameters, tables=tables)


@pytest.mark.parametrize(("pixels", "depth"), [(1, 1), (8, 3)])
def test_strength(pixels: int, depth: int) -> None:
    parameters = {"Pixels": pixels, "Depth": depth, "ChannelBits": 5, "StrengthBits": 15}
    run("pen_strength", f"{pixels}x{depth}", parameters)


@pytest.mark.parametrize(("channels", "words", "pixels", "signed"), [(1, 1, 1, 0), (3, 5, 4, 1)])
def test_tail_in(channels: int, words: int, pixels: int, signed: int) -> None:
    sizes = {"Channels": channels, "Words": words, "Pixels": pixels}
    run("pen_tail_in", f"{channels}x{words}x{pixels}", {**sizes, "StrengthBits": 14, "InSigned": signed})


@pytest.mark.parametrize(("filters", "pixels", "entries"), [(1, 1, 8), (3, 4, 13)])
def test_tape(filters: int, pixels: int, entries: int) -> None:
    parameters = {"Filters": filters, "Pixels": pixels, "Entries": entries}
    run("pen_tape", f"{filters}x{pixels}x{entries}", parameters)


@pytest.mark.parametrize(("filters", "bus_bytes", "words"), [(1, 4, 1), (3, 8, 4)])
def test_bank(filters: int, bus_bytes: int, words: int) -> None:
    parameters = {"Filters": filters, "BusBytes": bus_bytes, "RecordWords": words, "PinnedRows": 5 * filters}
    tables = {"PinnedFile": pen_bank.pinned_table(filters, parameters["PinnedRows"])}
    run("pen_bank", f"{filters}x{bus_bytes}x{words}", parameters, tables)


@pytest.mark.parametrize(("channels", "gap_words", "boolean"), [(1, 0, False), (13, 0, True), (16, 2, False)])
def test_present(channels: int, gap_words: int, boolean: bool) -> None:
    tables = {"ChannelFile": pen_present.channel_table(channels, boolean=boolean)}
    sizes = pen_present.parameters(channels, gap_words, boolean=boolean)
    run("pen_present", f"{channels}x{gap_words}", sizes, tables)


@pytest.mark.parametrize(("lanes", "words"), [(1, 1), (4, 3), (2, 9)])
def test_predict(lanes: int, words: int) -> None:
    tables = pen_predict.tables(lanes, words)
    run("pen_predict", f"{lanes}x{words}", pen_predict.parameters(lanes, words), tables)


@pytest.mark.parametrize(("classes", "table_bits"), [(1, 1), (10, 7)])
def test_classes(classes: int, table_bits: int) -> None:
    run("pen_classes", f"{classes}x{table_bits}", {"Classes": classes, "TableBits": table_bits})


@pytest.mark.parametrize(("lanes", "score_bits", "hidden_bits"), [(1, 9, 4), (4, 35, 12), (8, 16, 16)])
def test_hidden(lanes: int, score_bits: int, hidden_bits: int) -> None:
    sizes = {"Lanes": lanes, "ScoreBits": score_bits, "HiddenBits": hidden_bits}
    run("pen_hidden", f"{lanes}x{score_bits}x{hidden_bits}", {**sizes, "RankBits": 5, "WordBits": 6, "TableBits": 9})


@pytest.mark.parametrize(("lanes", "words", "score_bits"), [(1, 5, 3), (8, 2, 13), (4, 3, 32)])
def test_select(lanes: int, words: int, score_bits: int) -> None:
    sizes = {"Lanes": lanes, "MaxWords": words, "ScoreBits": score_bits, "IndexBits": (lanes * words).bit_length()}
    run("pen_select", f"{lanes}x{words}x{score_bits}", sizes)


@pytest.mark.parametrize(("lanes", "bus_bytes", "words"), [(1, 4, 2), (3, 8, 16)])
def test_fetch(lanes: int, bus_bytes: int, words: int) -> None:
    tables = {"FilterFile": pen_fetch.filter_table()}
    run("pen_fetch", f"{lanes}x{bus_bytes}x{words}", pen_fetch.parameters(lanes, bus_bytes, words), tables)


@pytest.mark.parametrize(("bits", "bus_bytes"), [(8, 4), (16, 8), (32, 4), (32, 64)])
def test_check(bits: int, bus_bytes: int) -> None:
    polynomial = f"32'h{POLYNOMIALS[bits]:08x}"
    run("pen_check", f"{bits}x{bus_bytes}", {"Bits": bits, "BusBytes": bus_bytes, "Polynomial": polynomial})


@pytest.mark.parametrize("bus_bytes", [4, 16, 64])
def test_header(bus_bytes: int) -> None:
    expected = int.from_bytes(pen_header.EXPECTED, "little")
    parameters = {"BusBytes": bus_bytes, "WordsBits": 3, "Bytes": 24, "Expected": f"192'h{expected:x}"}
    run("pen_header", f"{bus_bytes}", parameters)


@pytest.mark.parametrize(
    ("top", "parameters", "sentence"),
    [
        ("pen_strength", {"Depth": 0}, "Depth, ChannelBits and StrengthBits must be at least 1"),
        ("pen_tail_in", {"Channels": 0}, "Channels, Words and StrengthBits must be at least 1"),
        ("pen_tail_in", {"Pixels": 3}, "Pixels must be a power of two"),
        ("pen_tape", {"Entries": 0}, "Filters, Pixels and Entries must be at least 1"),
        ("pen_present", {"IndexBits": 4, "MaxChannels": 16}, "IndexBits does not hold the number of channels"),
        ("pen_present", {"MaxTaps": 0}, "MaxTaps, MaxChannels and TableDepth must be at least 1"),
        ("pen_predict", {"MaxWords": 0}, "Lanes, MaxWords, OperandBits and ScoreBits must be at least 1"),
        ("pen_classes", {"Classes": 0}, "Classes and TableBits must be at least 1"),
        ("pen_hidden", {"Lanes": 0}, "Lanes, RankBits, WordBits and TableBits must be at least 1"),
        ("pen_hidden", {"HiddenBits": 33}, "HiddenBits must be at least 2 and no more than ScoreBits"),
        ("pen_select", {"Lanes": 3}, "Lanes must be a power of two"),
        ("pen_select", {"ScoreBits": 0}, "MaxWords, ScoreBits and IndexBits must be at least 1"),
        ("pen_bank", {"RecordWords": 3}, "RecordWords must be a power of two"),
        ("pen_bank", {"BusBytes": 1}, "BusBytes must be a power of two of at least 2"),
        ("pen_check", {"Bits": 7}, "Bits must be 8 to 32"),
        ("pen_header", {"Bytes": 0}, "Bytes and BusBytes must be at least 1"),
        ("pen_header", {"WordsBits": 2}, "WordsBits does not hold the number of words"),
        ("pen_fetch", {"RecordWords": 12}, "RecordWords must be a power of two"),
        ("pen_fetch", {"BusBytes": 6}, "BusBytes must be a power of two"),
        ("pen_fetch", {"RunBits": 4}, "RunBits does not hold the end of a run"),
        ("pen_engine", {"RecordWords": 48}, "RecordWords must be a power of two of at least 2"),
        ("pen_engine", {"WordBits": 7}, "WordBits does not reach all words of the map memories"),
        ("pen_engine", {"IndexBits": 6}, "IndexBits does not hold the number of channels or filters"),
    ],
)
def test_illegal_parameters_stop_the_build(top: str, parameters: dict[str, int], sentence: str) -> None:
    with pytest.raises(RuntimeError):
        run(top, "illegal", parameters)
    assert sentence in (build_folder(top, "illegal") / "build.log").read_text()
