"""Building modules in tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sim.cocotb.runner import BUILD, RTL, simulate


def refuses(top: str, sentence: str, parameters: Mapping[str, int]) -> None:
    """`top` does not build with `parameters`, and says why."""
    with pytest.raises(RuntimeError):
        simulate(top, [RTL / f"{top}.sv"], f"sim.cocotb.{top}", "illegal", parameters)
    assert sentence in (BUILD / top / "illegal" / "build.log").read_text()
