"""Building modules in tests."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hw.design import Design, IntArray
from sim.cocotb.runner import RTL, build_folder, simulate


def refuses(top: str, sentence: str, parameters: Mapping[str, int]) -> None:
    """`top` does not build with `parameters`, and says why."""
    with pytest.raises(RuntimeError):
        simulate(top, [RTL / f"{top}.sv"], f"sim.cocotb.{top}", "illegal", parameters)
    assert sentence in (build_folder(top, "illegal") / "build.log").read_text()


def run_accelerator(design: Design, emitted: Path, case: str, frames: IntArray | None = None) -> None:
    """The bench of whole accelerators on `design`, emitted to `emitted`; with `frames`, only equality on these."""
    top, rtl = f"{design.name}_probed", emitted / "rtl"
    folder = build_folder(top, case)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(rtl / "mem", folder / "mem", dirs_exist_ok=True)  # where the simulation looks for its tables
    (folder / "design.pickle").write_bytes(pickle.dumps(design))
    environment = {"PEN_DESIGN": str(folder / "design.pickle"), "PEN_IMAGE": str(emitted / "weights.bin")}
    if frames is not None:
        np.savez(folder / "frames.npz", frames=frames)
        environment["PEN_FRAMES"] = str(folder / "frames.npz")
    simulate(
        top,
        [rtl / name for name in (rtl / "files.f").read_text().split()],
        "sim.cocotb.accelerator",
        case,
        testcase=None if frames is None else "answers_are_the_golden_models/pause=0.3",
        environment=environment,
    )
