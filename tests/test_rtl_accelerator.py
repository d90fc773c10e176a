"""A whole emitted accelerator in cocotb, with the parts of cocotbext-axi at its ports."""

from __future__ import annotations

import pytest

from hw.emit import emit
from sim.cocotb.runner import BUILD
from tests.designs import digits_like
from tests.rtl_build import run_accelerator

pytestmark = pytest.mark.sim


def test_accelerator() -> None:
    design = digits_like(1)
    emitted = BUILD / f"{design.name}_probed" / "emitted"
    emit(design, emitted)
    run_accelerator(design, emitted, "digits")
