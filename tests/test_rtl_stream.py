"""pen_fifo and pen_skid in cocotb."""

from __future__ import annotations

import pytest

from sim.cocotb.runner import RTL, build_folder, simulate

pytestmark = pytest.mark.sim
BENCH = "sim.cocotb.pen_stream"


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 2), (33, 5)])
def test_fifo(width: int, depth: int) -> None:
    simulate("pen_fifo", [RTL / "pen_fifo.sv"], BENCH, f"{width}x{depth}", {"Width": width, "Depth": depth})


@pytest.mark.parametrize("width", [1, 72])
def test_skid(width: int) -> None:
    simulate("pen_skid", [RTL / "pen_skid.sv"], BENCH, f"{width}", {"Width": width})


@pytest.mark.parametrize("top", ["pen_fifo", "pen_skid"])
def test_a_withdrawn_offer_fails_an_assertion(top: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, RuntimeError)):
        simulate(
            *(top, [RTL / f"{top}.sv"], BENCH, "break", {"Width": 8}),
            testcase="withdraw_an_offer",
            environment={"PEN_BREAK": "1"},
        )
    assert "valid_i was withdrawn before ready_o" in capfd.readouterr().out


def test_illegal_parameters_stop_the_build() -> None:
    with pytest.raises(RuntimeError):
        simulate("pen_fifo", [RTL / "pen_fifo.sv"], BENCH, "illegal", {"Width": 8, "Depth": 0})
    assert "Depth must be at least 1" in (build_folder("pen_fifo", "illegal") / "build.log").read_text()
