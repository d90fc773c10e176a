"""The engine's modules around the compute path in cocotb, one by one: from strengths to weights in their banks."""

from __future__ import annotations

import pytest

from sim.cocotb import pen_fetch, pen_predict, pen_present
from sim.cocotb.runner import RTL, simulate

pytestmark = pytest.mark.sim


def run(top: str, case: str, parameters: dict[str, int], tables: dict[str, str] | None = None) -> None:
    simulate(top, [RTL / f"{top}.sv"], f"sim.cocotb.{top}", case, parameters, tables=tables)


@pytest.mark.parametrize(("pixels", "depth"), [(1, 1), (8, 3)])
def test_strength(pixels: int, depth: int) -> None:
    parameters = {"Pixels": pixels, "Depth": depth, "ChannelBits": 5, "StrengthBits": 15}
    run("pen_strength", f"{pixels}x{depth}", parameters)


@pytest.mark.parametrize(("channels", "words", "pixels", "signed"), [(1, 1, 1, 0), (3, 5, 4, 1)])
def test_tail_in(channels: int, words: int, pixels: int, signed: int) -> None:
    sizes = {"Channels": channels, "Words": words, "Pixels": pixels}
    run("pen_tail_in", f"{channels}x{words}x{pixels}", {**sizes, "StrengthBits": 14, "InSigned": signed})


@pytest.mark.parametrize(("filters", "bus_bytes", "words"), [(1, 4, 1), (3, 8, 4)])
def test_bank(filters: int, bus_bytes: int, words: int) -> None:
    parameters = {"Filters": filters, "BusBytes": bus_bytes, "RecordWords": words}
    run("pen_bank", f"{filters}x{bus_bytes}x{words}", parameters)


@pytest.mark.parametrize("channels", [1, 13])
def test_present(channels: int) -> None:
    tables = {"ChannelFile": pen_present.channel_table(channels)}
    run("pen_present", str(channels), pen_present.parameters(channels), tables)


@pytest.mark.parametrize(("lanes", "words"), [(1, 1), (4, 3), (2, 9)])
def test_predict(lanes: int, words: int) -> None:
    tables = pen_predict.tables(lanes, words)
    run("pen_predict", f"{lanes}x{words}", pen_predict.parameters(lanes, words), tables)


@pytest.mark.parametrize(("lanes", "words", "score_bits"), [(1, 5, 3), (8, 2, 13), (4, 3, 32)])
def test_select(lanes: int, words: int, score_bits: int) -> None:
    sizes = {"Lanes": lanes, "MaxWords": words, "ScoreBits": score_bits, "IndexBits": (lanes * words).bit_length()}
    run("pen_select", f"{lanes}x{words}x{score_bits}", sizes)


@pytest.mark.parametrize(("lanes", "bus_bytes", "words"), [(1, 4, 2), (3, 8, 16)])
def test_fetch(lanes: int, bus_bytes: int, words: int) -> None:
    tables = {"FilterFile": pen_fetch.filter_table()}
    run("pen_fetch", f"{lanes}x{bus_bytes}x{words}", pen_fetch.parameters(lanes, bus_bytes, words), tables)
