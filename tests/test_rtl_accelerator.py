"""A whole emitted accelerator in cocotb, with the parts of cocotbext-axi at its ports."""

from __future__ import annotations

import pickle
import shutil

import pytest

from hw.emit import emit
from sim.cocotb.runner import BUILD, simulate
from tests.designs import digits_like

pytestmark = pytest.mark.sim


def test_accelerator() -> None:
    design = digits_like(1)
    top, case = f"{design.name}_probed", "digits"
    folder = BUILD / top / case
    emit(design, folder / "emitted")
    rtl = folder / "emitted" / "rtl"
    shutil.copytree(rtl / "mem", folder / "mem", dirs_exist_ok=True)  # where the simulation looks for its tables
    (folder / "design.pickle").write_bytes(pickle.dumps(design))
    simulate(
        top,
        [rtl / name for name in (rtl / "files.f").read_text().split()],
        "sim.cocotb.accelerator",
        case,
        environment={
            "PEN_DESIGN": str(folder / "design.pickle"),
            "PEN_IMAGE": str(folder / "emitted" / "weights.bin"),
        },
    )
