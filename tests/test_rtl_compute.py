"""Modules of the compute path in cocotb, one by one: multiplier array, requantiser, map memory, windows, walk."""

from __future__ import annotations

import pytest

from sim.cocotb.cases import WINDOWS
from sim.cocotb.runner import RTL, simulate
from tests.rtl_build import refuses

pytestmark = pytest.mark.sim


@pytest.mark.parametrize(("filters", "pixels", "acc_bits"), [(1, 1, 21), (3, 4, 24), (2, 8, 33)])
def test_array(filters: int, pixels: int, acc_bits: int) -> None:
    parameters = {"Filters": filters, "Pixels": pixels, "AccBits": acc_bits}
    simulate("pen_array", [RTL / "pen_array.sv"], "sim.cocotb.pen_array", f"{filters}x{pixels}", parameters)


@pytest.mark.parametrize("acc_bits", [10, 41])
def test_requant(acc_bits: int) -> None:
    simulate("pen_requant", [RTL / "pen_requant.sv"], "sim.cocotb.pen_requant", f"{acc_bits}", {"AccBits": acc_bits})


@pytest.mark.parametrize(("pixels", "words"), [(1, 2), (8, 7)])
def test_map_ram(pixels: int, words: int) -> None:
    parameters = {"Pixels": pixels, "Words": words}
    simulate("pen_map_ram", [RTL / "pen_map_ram.sv"], "sim.cocotb.pen_map_ram", f"{pixels}x{words}", parameters)


@pytest.mark.parametrize("case", WINDOWS)
def test_window(case: str) -> None:
    layers = WINDOWS[case]
    simulate(
        "pen_window",
        [RTL / "pen_window.sv"],
        "sim.cocotb.pen_window",
        case,
        {
            "Pixels": layers.pixels,
            "CoordBits": layers.coord_bits,
            "PixelBits": layers.pixel_bits,
            "MaxTaps": layers.max_taps,
            "TapDepth": layers.tap_depth,
        },
        environment={"PEN_CASE": case},
        tables={"TapFile": layers.tap_table},
    )


@pytest.mark.parametrize(("pixels", "max_taps", "ring"), [(4, 9, 0), (8, 5, 4), (1, 1, 8)])
def test_walk(pixels: int, max_taps: int, ring: int) -> None:
    parameters = {"Pixels": pixels, "MaxTaps": max_taps, "RingWords": ring}
    widths = {"PixelBits": 8, "IndexBits": 4, "WordBits": 8, "WeightBits": 9}
    case = f"{pixels}_lanes_{max_taps}_taps_ring_{ring}"
    simulate("pen_walk", [RTL / "pen_walk.sv"], "sim.cocotb.pen_walk", case, parameters | widths)


@pytest.mark.parametrize(
    ("top", "parameters", "sentence"),
    [
        ("pen_array", {"Pixels": 0}, "Filters and Pixels must be at least 1"),
        ("pen_requant", {"AccBits": 8}, "AccBits must be at least 9"),
        ("pen_map_ram", {"Pixels": 3}, "Pixels must be a power of two"),
        ("pen_window", {"MaxTaps": 10}, "MaxTaps at least 1 and at most TapDepth"),
        ("pen_walk", {"Pixels": 6}, "Pixels must be a power of two"),
        ("pen_walk", {"RingWords": 6}, "RingWords must be 0 or a power of two"),
    ],
)
def test_illegal_parameters_stop_the_build(top: str, parameters: dict[str, int], sentence: str) -> None:
    refuses(top, sentence, parameters)
