"""The whole engine in cocotb: a program of four layers on two structures, with every kind of predictor."""

from __future__ import annotations

import pytest

from sim.cocotb import pen_engine
from sim.cocotb.runner import RTL, simulate

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("case", list(pen_engine.CASES))
def test_engine(case: str) -> None:
    simulate(
        *("pen_engine", [RTL / "pen_engine.sv"], "sim.cocotb.pen_engine", case, pen_engine.parameters(case)),
        tables=pen_engine.tables(case),
        environment={"PEN_CASE": case},
    )
