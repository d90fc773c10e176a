"""What a frame takes in energy: an estimate, from counts of operations and bytes and a table of what each costs.

Dynamic energy only. Leakage, clock trees and boards are left out, so figures compare designs and networks; they are no
promise about a power supply. Every constant stands beside its source, and a table of one's own can take its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.design import Design, IntArray, Layer, LowRankPredictor
from sim.cycles import Cause, CycleRun, Masks

FloatArray = NDArray[np.float64]
PICO = 1e-12


@dataclass(frozen=True)
class Constant:
    """A number and where it is from."""

    value: float
    source: str


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules per operation: `multiply` of 8 x 8 bits, `add` of 32 bits, `memory` per byte on chip, and `external`
    per byte by the kind of memory, which is how the names of `sim.memory.DRAMS` begin. `fabric` is a factor: how many
    times as much programmable logic takes on chip as cells of the table's technology.
    """

    name: str
    multiply: Constant
    add: Constant
    memory: Constant
    external: Mapping[str, Constant]
    fabric: Constant

    def per_byte(self, memory: str) -> Constant:
        """Of external `memory`, such as "DDR4-2400 x64"; KeyError that lists the kinds."""
        for kind, constant in self.external.items():
            if memory.startswith(kind):
                return constant
        raise KeyError(f"energy table '{self.name}' has no memory '{memory}'; there are: {', '.join(self.external)}")


_HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V)"
_JOUPPI = "Jouppi et al., Ten lessons from three generations shaped Google's TPUv4i, ISCA 2021, table 2 (7 nm)"
_OCONNOR = "O'Connor et al., Fine-grained DRAM, MICRO 2017: 3.9 pJ per bit"
_DDR = Constant(1300 / 8, f"{_HOROWITZ}: 1.3 nJ per 64 bits, the lower end of its range")
_KUON = Constant(
    14.0, "Kuon and Rose, Measuring the gap between FPGAs and ASICs, TCAD 2007: about 14, less with hard blocks"
)
_EXTERNAL = {"SDRAM": _DDR, "DDR3": _DDR, "DDR4": _DDR, "LPDDR4": _DDR, "HBM2": Constant(3.9 * 8, _OCONNOR)}

HOROWITZ = EnergyTable(
    "45 nm",
    multiply=Constant(0.2, f"{_HOROWITZ}: 8-bit integer multiplication"),
    add=Constant(0.1, f"{_HOROWITZ}: 32-bit integer addition"),
    memory=Constant(20 / 8, f"{_HOROWITZ}: 64 bits of a 32 KB memory"),
    external=_EXTERNAL,
    fabric=_KUON,
)
JOUPPI = EnergyTable(
    "7 nm",
    multiply=Constant(0.07, f"{_JOUPPI}: int8 multiplication"),
    add=Constant(0.03, f"{_JOUPPI}: int32 addition"),
    memory=Constant(8.5 / 8, f"{_JOUPPI}: 64 bits of a 32 KB memory"),
    external=_EXTERNAL,
    fabric=_KUON,
)
USUAL = "DDR3"
"""Memory that is taken where nothing else is known."""
TABLES = {table.name: table for table in (HOROWITZ, JOUPPI)}


@dataclass(frozen=True, eq=False)
class Energy:
    """Joules per frame, (n,) each: products and their sums, on-chip memory, external memory. An estimate."""

    arithmetic: FloatArray
    memory: FloatArray
    external: FloatArray

    @property
    def total(self) -> FloatArray:
        """All of it."""
        result: FloatArray = self.arithmetic + self.memory + self.external
        return result


def energy(design: Design, masks: Masks, run: CycleRun, memory: str, table: EnergyTable = HOROWITZ) -> Energy:
    """What the frames of `masks` take in `design`, whose cycles `run` tells, with external `memory` of that name.

    Products are those of chosen filters over present channels and kept taps, and the predictors'; one of a x b bits
    takes a b / 64 of one of 8 x 8. On chip, every cycle in which an array of F x P works reads F bytes of weights and
    2 P of the map (its two banks); fetched bytes and finished pixels are written once.
    """
    products = np.zeros(masks.frames)
    written = np.zeros(masks.frames)
    for layer in design.head:
        products += _products(layer, layer.filters, int(layer.kept_taps.sum()))
        written += layer.filters * layer.output.pixels
    for layer, present, told, chosen in zip(design.tail, masks.present, masks.told, masks.chosen, strict=True):
        filters = chosen.sum(axis=1)
        products += _products(layer, filters, present @ layer.kept_taps.sum(axis=(1, 2)))
        products += _predictor(layer, told.sum(axis=1))
        written += filters * layer.output.pixels
    lanes = design.engine.lanes
    working = np.sum([layer.causes[:, Cause.COMPUTE] for layer in run.layers], axis=0)
    touched = working * (lanes.filters + 2 * lanes.pixels) + written + run.bytes
    for layer, busy in zip(design.head, run.stage_busy, strict=True):
        assert layer.lanes is not None
        touched = touched + busy / max(1, masks.frames) * (layer.lanes.filters + 2 * layer.lanes.pixels)
    on_chip = PICO * table.fabric.value
    return Energy(
        arithmetic=products * (table.multiply.value + table.add.value) * on_chip,
        memory=touched * table.memory.value * on_chip,
        external=np.asarray(run.bytes * table.per_byte(memory).value * PICO, np.float64),
    )


def macs(design: Design, masks: Masks) -> IntArray:
    """Multiplications (n,) of chosen filters over present channels and kept taps, padding counted as work."""
    total = np.full(masks.frames, sum(x.filters * int(x.kept_taps.sum()) * _places(x) for x in design.head), np.int64)
    for layer, present, chosen in zip(design.tail, masks.present, masks.chosen, strict=True):
        total += chosen.sum(axis=1) * (present @ layer.kept_taps.sum(axis=(1, 2))) * _places(layer)
    return total


def _places(layer: Layer) -> int:
    rows, columns = layer.grid
    return rows * columns


def _products(layer: Layer, filters: IntArray | int, taps: IntArray | int) -> FloatArray:
    """In products of 8 x 8 bits."""
    return np.asarray(filters * taps * (_places(layer) * layer.weight_bits * layer.input_format.bits / 64), np.float64)


def _predictor(layer: Layer, told: IntArray) -> FloatArray:
    """Of int8 weights with strengths, and with hidden values where the predictor has some; (n,)."""
    predictor = layer.predictor
    if predictor is None or predictor.macs == 0:
        return np.zeros(len(told))
    share = layer.strength_high.bit_length() / 8
    if isinstance(predictor, LowRankPredictor):
        hidden = predictor.second.size * predictor.hidden_bits / 8
        return np.asarray(told * (predictor.rank * share) + hidden, np.float64)
    return np.asarray(told * (layer.filters * share), np.float64)
