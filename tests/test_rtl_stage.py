"""The larger modules of the compute path in cocotb: drain, datapath, pixel input, head stage."""

from __future__ import annotations

import pytest

from sim.cocotb.cases import DATAPATHS, DRAINS, FULL_STAGES, STAGES
from sim.cocotb.runner import RTL, simulate
from tests.rtl_build import refuses

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("case", DRAINS)
def test_drain(case: str) -> None:
    drained = DRAINS[case]
    parameters = {
        "Filters": drained.filters,
        "Pixels": drained.maps.pixels,
        "OutPixels": drained.out_pixels,
        "Groups": drained.groups,
        "AccBits": drained.acc_bits,
        "CoordBits": drained.maps.coord_bits,
        "PixelBits": drained.maps.pixel_bits,
        "PoolWidth": max(layer.output.width for layer in drained.maps.layers),
        "Residual": int(drained.residual),
        "Quarters": int(drained.quarters),
    }
    simulate(
        *("pen_drain", [RTL / "pen_drain.sv"], "sim.cocotb.pen_drain", case, parameters),
        environment={"PEN_CASE": case},
    )


@pytest.mark.parametrize(("channels", "frame", "pixels"), [(1, 10, 4), (3, 7, 2), (2, 5, 8)])
def test_pixel_in(channels: int, frame: int, pixels: int) -> None:
    parameters = {"Channels": channels, "FramePixels": frame, "Pixels": pixels}
    case = f"{channels}x{frame}_by_{pixels}"
    simulate("pen_pixel_in", [RTL / "pen_pixel_in.sv"], "sim.cocotb.pen_pixel_in", case, parameters)


@pytest.mark.parametrize("case", DATAPATHS)
def test_datapath(case: str) -> None:
    computed = DATAPATHS[case]
    layers = computed.layers
    parameters = {
        "Filters": computed.filters,
        "Pixels": layers.pixels,
        "OutPixels": computed.out_pixels,
        "Groups": computed.groups,
        "AccBits": layers.acc_bits,
        "CoordBits": layers.coord_bits,
        "PixelBits": layers.pixel_bits,
        "IndexBits": 4,
        "WordBits": 8,
        "WeightBits": 9,
        "PoolWidth": max(layer.output.width for layer in layers.layers),
        "MaxTaps": layers.max_taps,
        "TapDepth": layers.tap_depth,
        "RingWords": computed.ring,
        "TagBits": 2,
    }
    simulate(
        *("pen_datapath", [RTL / "pen_datapath.sv"], "sim.cocotb.pen_datapath", case, parameters),
        environment={"PEN_CASE": case},
        tables={"TapFile": layers.tap_table},
    )


@pytest.mark.parametrize("case", [*STAGES, *(pytest.param(case, marks=pytest.mark.full) for case in FULL_STAGES)])
def test_conv_stage(case: str) -> None:
    stage = (STAGES | FULL_STAGES)[case]
    simulate(
        *("pen_conv_stage", [RTL / "pen_conv_stage.sv"], "sim.cocotb.pen_conv_stage", case),
        parameters={name: int(value) for name, value in stage.parameters.items()},
        environment={"PEN_CASE": case},
        tables={name: table.hexadecimal() for name, table in stage.tables.items()},
    )


@pytest.mark.parametrize(
    ("top", "parameters", "sentence"),
    [
        ("pen_drain", {"OutPixels": 3}, "OutPixels must be a power of two"),
        ("pen_drain", {"Groups": 0}, "Groups and PoolWidth must be at least 1"),
        ("pen_drain", {"Groups": 2, "Quarters": 1}, "Quarters leave no room for several Groups"),
        ("pen_datapath", {"Pixels": 5}, "Pixels must be a power of two"),
        ("pen_pixel_in", {"Pixels": 6}, "Pixels must be a power of two"),
        ("pen_pixel_in", {"FramePixels": 0}, "FramePixels must be at least 1"),
        ("pen_conv_stage", {"RingWords": 6}, "RingWords must be a power of two"),
        ("pen_conv_stage", {"FirstWord": 4, "LastWord": 3}, "RingWords must hold the words that a window reaches"),
        ("pen_conv_stage", {"LogPool": 3}, "LogPool 0, 1 or 2"),
    ],
)
def test_illegal_parameters_stop_the_build(top: str, parameters: dict[str, int], sentence: str) -> None:
    refuses(top, sentence, parameters)
