"""pen_axi_read in cocotb, over the parameters that change its structure."""

from __future__ import annotations

import pytest

from sim.cocotb.runner import RTL, simulate

pytestmark = pytest.mark.sim

# bus bytes, bits of a command's length, longest burst, bursts in flight
CASES = [(4, 12, 16, 4), (1, 9, 256, 2), (16, 5, 1, 16), (64, 8, 256, 1)]


@pytest.mark.parametrize(("bus", "words", "burst", "outstanding"), CASES)
def test_axi_read(bus: int, words: int, burst: int, outstanding: int) -> None:
    parameters = {"BusBytes": bus, "WordsBits": words, "TagBits": 3, "MaxBurst": burst, "Outstanding": outstanding}
    sources = [RTL / "pen_fifo.sv", RTL / "pen_axi_read.sv"]
    simulate("pen_axi_read", sources, "sim.cocotb.pen_axi_read", f"{bus}-{words}-{burst}-{outstanding}", parameters)
