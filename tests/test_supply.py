"""The lock, the page of licences and the bill of materials say the same, and what was changed is found."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from bench import supply

ROOT = Path(__file__).parents[1]
WHEELS = supply.locked(supply.LOCK.read_text())


def test_the_lock_has_every_version_of_the_constraints_with_a_hash() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert sorted(f"{x.name}=={x.version}" for x in WHEELS) == sorted(lines)


def test_direct_dependencies_are_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(x for extra in project["optional-dependencies"].values() for x in extra)]
    names = {supply._plain(re.split(r"[^\w.-]", x)[0]) for x in wanted} - {"penstock"}
    missing = names - {supply._plain(x.name) for x in WHEELS} - supply.INSTALLERS
    assert not missing


def test_page_and_bill_are_about_the_lock() -> None:
    page, bill = supply.PAGE.read_text(), json.loads(supply.BILL.read_text())
    components = {(x["name"], x["version"], x["hashes"][0]["content"]) for x in bill["components"]}
    assert components == {(x.name, x.version, x.sha256) for x in WHEELS}
    known = {x["bom-ref"] for x in bill["components"]}
    assert all(set(x["dependsOn"]) <= known for x in bill["dependencies"])
    for wheel in WHEELS:
        assert re.search(
            rf"^\| \**{re.escape(wheel.name)}\** \| {re.escape(wheel.version)} \| .+ \|$", page, re.MULTILINE
        )


@pytest.mark.parametrize("line", ["numpy", "numpy==2", "numpy>=2 --hash=sha256:" + "0" * 64, "numpy==2 --hash=md5:00"])
def test_a_lock_without_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"requirements\.lock: 'numpy"):
        supply.locked(line)


def test_a_file_that_was_changed_is_found(tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text("right\n")
    folder = tmp_path / "it-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: it\nVersion: 1\n")
    record = (
        "it.py,sha256=Vcl4ArOX702g2OLs9Kj6M8H0dV2g6s7FTGLKy7z9lxM,6\ngone.py,sha256=AAAA,6\nit-1.dist-info/RECORD,,\n"
    )
    (folder / "RECORD").write_text(record)
    distribution = metadata.Distribution.at(folder)
    assert list(supply.changed(distribution)) == ["gone.py: missing"]
    (tmp_path / "it.py").write_text("wrong\n")
    assert list(supply.changed(distribution)) == ["it.py: changed", "gone.py: missing"]
