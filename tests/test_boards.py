"""Boards: the choice of lanes fits, keeps pace, reaches its target, and says what cannot be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.networks import Full, outline
from flow.boards import BOARDS, USABLE, Board, Expected, Target, board, choose
from flow.errors import UserError
from hw.design import Design, Lanes, MapShape
from hw.resources import resources
from sim.cycles import CycleModel, Masks
from tests.designs import digits_like

HALF = {"conv2": 16, "conv3": 32}
ZYNQ = BOARDS["zynq-7020"]


@pytest.fixture(scope="module")
def design() -> Design:
    return digits_like(7)


@pytest.mark.parametrize("on", BOARDS.values(), ids=BOARDS)
def test_the_fastest_fits_and_is_what_the_cycle_model_expects(design: Design, on: Board) -> None:
    choice = choose(design, HALF, on)
    needs = resources(choice.design)
    assert (choice.multipliers, choice.memory_bits) == (needs.multipliers, needs.memory_bits)
    assert needs.multipliers <= USABLE * on.multipliers
    assert needs.memory_bits <= USABLE * on.memory_bits
    assert choice.design.engine.bus_bytes == on.port_bytes
    masks = Masks.drawn(choice.design, HALF, 4, 1)
    run = CycleModel(choice.design, on.dram).stream(masks)
    assert choice.frames_per_second == on.clock_mhz * 1e6 / run.interval


def test_layers_with_more_filters_than_an_array_may_have_lanes() -> None:
    """4,096 filters x 32 pixels would be more multipliers than a design may have."""
    wide = outline("wide", MapShape(4, 2, 2), (Full(4096),), head=0, lazy=(), rank=1, classes=10)
    sizes = Expected(wide, {}, ZYNQ).engines(0.0), Expected(wide, {}, ZYNQ).engines(float("inf"))
    assert sizes[0] == []
    assert {lanes.pixels for lanes in sizes[1]} == {1, 2, 4, 8, 16, 32, 64}


def test_a_larger_board_is_faster(design: Design) -> None:
    speeds = [choose(design, HALF, replace(ZYNQ, multipliers=count)).frames_per_second for count in (24, 60, 220)]
    assert speeds == sorted(speeds)
    assert speeds[2] > 2 * speeds[0]


def test_the_head_keeps_pace_and_no_more(design: Design) -> None:
    """Half of the filters make the engine faster, so the head has to be; one lane less and it would hold it up."""
    choice = choose(design, HALF, ZYNQ)
    expected = Expected(design, HALF, ZYNQ)
    engine = expected.engine_cycles(choice.design.engine.lanes)
    lanes = choice.design.head[0].lanes
    assert lanes is not None
    assert expected.stage_cycles(choice.design) <= 1.05 * engine
    cycles = expected.stage(0, lanes.pixels).cycles
    assert lanes.filters == 1 or cycles(design.head[0].filters, lanes.filters - 1) > engine


@pytest.mark.parametrize("speed", [2000, 9000])
def test_frames_per_second_are_reached_with_few_multipliers(design: Design, speed: float) -> None:
    choice = choose(design, HALF, ZYNQ, Target(frames_per_second=speed))
    assert choice.frames_per_second >= speed
    most = choose(design, HALF, ZYNQ)
    assert choice.multipliers <= most.multipliers
    if speed == 2000:
        assert choice.design.engine.lanes.multipliers < most.design.engine.lanes.multipliers / 4


def test_a_latency_is_reached(design: Design) -> None:
    choice = choose(design, HALF, ZYNQ, Target(latency=2e-4))
    assert choice.latency <= 2e-4
    assert choice.multipliers < choose(design, HALF, ZYNQ).multipliers


def test_where_memory_is_short_pixels_take_the_place_of_filters(design: Design) -> None:
    """Every filter lane has a bank of weights; a lane of pixels has none."""
    plenty = choose(design, HALF, ZYNQ)
    short = replace(ZYNQ, memory_bits=round(0.8 * plenty.memory_bits / USABLE))
    choice = choose(design, HALF, short)
    assert choice.memory_bits <= USABLE * short.memory_bits
    assert choice.design.engine.lanes.filters < plenty.design.engine.lanes.filters
    assert choice.design.engine.lanes.pixels >= plenty.design.engine.lanes.pixels
    assert choice.frames_per_second > 0.5 * plenty.frames_per_second


def test_lazier_takes_a_smaller_engine_and_the_same_head(design: Design) -> None:
    cycles = 4000.0
    dense = Expected(design, {"conv2": 32, "conv3": 64}, ZYNQ).smallest(cycles, cycles)
    lazy = Expected(design, {"conv2": 8, "conv3": 16}, ZYNQ).smallest(cycles, cycles)
    assert dense is not None
    assert lazy is not None
    assert lazy.engine.lanes.multipliers < dense.engine.lanes.multipliers / 2
    assert lazy.head[0].lanes == dense.head[0].lanes


def test_what_cannot_be_had_is_said(design: Design) -> None:
    with pytest.raises(UserError, match="no board 'zynq'; accepted: ecp5-85f, zynq-7020, kv260"):
        board("zynq")
    with pytest.raises(UserError, match=r"does not fit zynq-7020 .* it takes \d+ multipliers and \d+ KiB on chip; acc"):
        choose(design, HALF, replace(ZYNQ, memory_bits=1000))
    with pytest.raises(UserError, match=r"does not reach 1e\+09 frames per second on zynq-7020 .* up to [\d,]+ frames"):
        choose(design, HALF, ZYNQ, Target(frames_per_second=1e9))
    with pytest.raises(UserError, match="does not reach 1e-06 ms for a frame on zynq-7020"):
        choose(design, HALF, ZYNQ, Target(latency=1e-9))


def test_lanes_of_one_layer_are_as_the_cycle_model_has_them(design: Design) -> None:
    """The rough cycles that sizes are searched by lie near those of the exact model."""
    for lanes in (Lanes(2, 4), Lanes(8, 8), Lanes(16, 2)):
        sized = replace(design, engine=replace(design.engine, lanes=lanes))
        masks = Masks.drawn(sized, HALF, 4, 1)
        exact = CycleModel(sized, ZYNQ.dram).alone(masks).engine.mean()
        assert 0.5 < Expected(sized, HALF, ZYNQ).engine_cycles(lanes) / exact < 1.1
