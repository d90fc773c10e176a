"""The energy estimate: counts worked out by hand, and what must hold for any table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sim import golden
from sim.cycles import Cause, CycleModel, Masks
from sim.energy import HOROWITZ, JOUPPI, TABLES, Constant, EnergyTable, energy, macs
from sim.memory import DRAMS
from tests.designs import digits_like, random_frames

FREE = Constant(0.0, "")
ONE = Constant(1.0, "")


def table(**costs: Constant) -> EnergyTable:
    nothing = {"multiply": FREE, "add": FREE, "memory": FREE, "external": {"DDR3": FREE}, "fabric": ONE}
    return EnergyTable("one at a time", **(nothing | costs))


def test_each_count_is_that_of_the_run() -> None:
    design = digits_like(7)
    frames = random_frames(design, 3, 1)
    traced = golden.run(design, frames)
    masks = Masks.of(design, traced)
    run = CycleModel(design).alone(masks)

    def joules(**costs: Constant) -> np.ndarray:
        return 1e12 * energy(design, masks, run, "DDR3-1600 x32", table(**costs)).total

    products = np.zeros(3)
    for layer, trace in zip(design.layers, traced.layers, strict=True):
        rows, columns = layer.grid
        weights = layer.weights.shape[2] * layer.weights.shape[3]
        channels = layer.input.channels if layer in design.head else (trace.strengths > 0).sum(axis=1)
        filters = layer.filters if layer in design.head else trace.chosen.sum(axis=1)
        products += filters * channels * weights * rows * columns
    assert np.array_equal(macs(design, masks), products)
    predictors = np.zeros(3)
    for layer in design.lazy_layers:
        present = (traced.layer(layer.name).strengths > 0).sum(axis=1)
        predictors += present * layer.filters * layer.strength_high.bit_length() / 8
    assert {x.weight_bits * x.input_format.bits for x in design.layers} == {64}
    assert np.allclose(joules(multiply=ONE), products + predictors)
    assert np.allclose(joules(add=ONE), joules(multiply=ONE))
    assert np.allclose(joules(external={"DDR3": ONE}), run.bytes)

    working = sum(layer.causes[:, Cause.COMPUTE] for layer in run.layers)
    lanes, head = design.engine.lanes, design.head[0].lanes
    assert head is not None
    written = sum(traced.layer(x.name).chosen.sum(axis=1) * x.output.pixels for x in design.tail)
    written = written + design.head[0].filters * design.head[0].output.pixels
    read = working * (lanes.filters + 2 * lanes.pixels) + run.stage_busy[0] / 3 * (head.filters + 2 * head.pixels)
    assert np.allclose(joules(memory=ONE), read + written + run.bytes)
    assert np.allclose(joules(memory=ONE, fabric=Constant(14, "")), 14 * joules(memory=ONE))


def test_fewer_filters_take_less_everywhere() -> None:
    design = digits_like(7)
    frames = random_frames(design, 4, 2)

    def of(keep: dict[str, int]) -> tuple[float, float, float]:
        masks = Masks.of(design, golden.run(design, frames, keep), keep)
        result = energy(design, masks, CycleModel(design).alone(masks), "DDR4-2400 x64")
        return result.arithmetic.sum(), result.memory.sum(), result.external.sum()

    all_of_them, half = of({"conv2": 32, "conv3": 64}), of({"conv2": 16, "conv3": 32})
    assert all(a > b for a, b in zip(all_of_them, half, strict=True))


def test_narrow_operands_take_less() -> None:
    design = digits_like(7)
    masks = Masks.of(design, golden.run(design, random_frames(design, 1, 1)))
    run = CycleModel(design).alone(masks)
    narrow = replace(design, tail=(*design.tail[:-1], replace(design.tail[-1], weight_bits=8)))
    assert energy(narrow, masks, run, "DDR3").total == energy(design, masks, run, "DDR3").total
    costs = table(multiply=ONE)
    last = replace(design.tail[-1], weights=np.clip(design.tail[-1].weights, -2, 1), weight_bits=2)
    narrow = replace(design, tail=(*design.tail[:-1], last))
    whole = energy(design, masks, run, "DDR3", costs).total - energy(narrow, masks, run, "DDR3", costs).total
    dense = int((masks.present[-1] @ last.kept_taps.sum(axis=(1, 2)))[0]) * last.filters
    assert np.allclose(1e12 * whole, dense * 6 / 8)


@pytest.mark.parametrize("each", TABLES.values(), ids=TABLES)
def test_every_constant_has_a_source_and_every_memory_a_cost(each: EnergyTable) -> None:
    constants = [each.multiply, each.add, each.memory, each.fabric, *each.external.values()]
    assert all(constant.value > 0 and len(constant.source) > 20 for constant in constants)
    assert all(each.per_byte(name).value > 1 for name in DRAMS)
    with pytest.raises(KeyError, match="has no memory 'core'; there are: SDRAM, DDR3"):
        each.per_byte("core")


def test_a_newer_technology_takes_less() -> None:
    assert JOUPPI.multiply.value < HOROWITZ.multiply.value
    assert JOUPPI.memory.value < HOROWITZ.memory.value
