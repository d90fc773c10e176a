"""pen_axi_read in cocotb, over the parameters that change its structure."""

from __future__ import annotations

import pytest

from sim.cocotb.runner import RTL, simulate

pytestmark = pytest.mark.sim

# bus bytes, bits of a command's length, longest burst, bursts in flight, words in flight above which commands join
CASES = [(4, 12, 16, 4, 0), (1, 9, 256, 2, 0), (16, 5, 1, 16, 0), (64, 8, 256, 1, 1), (4, 7, 256, 4, 24)]


@pytest.mark.parametrize(("bus", "words", "burst", "outstanding", "join"), CASES)
def test_axi_read(bus: int, words: int, burst: int, outstanding: int, join: int) -> None:
    parameters = {
        "BusBytes": bus,
        "WordsBits": words,
        "TagBits": 3,
        "MaxBurst": burst,
        "Outstanding": outstanding,
        "JoinAbove": join,
        "Commands": 32 if join else 2 * outstanding + 2,
    }
    sources = [RTL / "pen_fifo.sv", RTL / "pen_axi_read.sv"]
    case = f"{bus}-{words}-{burst}-{outstanding}-{join}"
    simulate("pen_axi_read", sources, "sim.cocotb.pen_axi_read", case, parameters)
