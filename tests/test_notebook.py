"""The manual's notebook runs from its first cell to its last, and leaves what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "notebooks" / "brevitas_to_waveforms.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs() -> None:
    assert CELLS
    assert not any(cell["outputs"] or cell["execution_count"] for cell in CELLS)


def test_every_cell_runs(tmp_path: Path) -> None:
    """As Jupyter would run them: one after the other in one namespace, here without its kernel."""
    pytest.importorskip("matplotlib", reason="needs the extra 'analysis'")
    script = tmp_path / "notebook.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in CELLS))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "build" / "notebook"
    for picture in ("sweep.png", "filters.png", "waves.png"):
        assert (made / picture).stat().st_size > 5000
    accuracy = float(done.stdout.split("%")[0])
    assert accuracy > 85
    assert "Conv_1     engine  lazy" in done.stdout
