"""The pages of docs/rtl and the modules that they describe stay together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "rtl").glob("*.md"))
MODULES = sorted(path.stem for path in (ROOT / "hw" / "rtl").glob("*.sv"))
INDEX = (ROOT / "docs" / "rtl" / "README.md").read_text()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_page_that_the_index_lists(module: str) -> None:
    lines = [line for line in INDEX.splitlines() if line.startswith("|") and f"`{module}`" in line.split("|")[1]]
    assert len(lines) == 1, f"docs/rtl/README.md lists {module} {len(lines)} times"
    page = re.search(r"\]\(([\w.]+)\)", lines[0])
    assert page, lines[0]
    assert f"hw/rtl/{module}.sv" in (ROOT / "docs" / "rtl" / page[1]).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    files = [ROOT / name for name in re.findall(r"`((?:hw|sim|tests)/[\w./]+)`", text)]
    missing = [str(path) for path in links + files if not path.exists()]
    assert not missing, f"{page.name} names {missing}"


@pytest.mark.parametrize("module", [page.stem for page in PAGES if page.stem in MODULES])
def test_ports_that_a_page_names_exist(module: str) -> None:
    page = ROOT / "docs" / "rtl" / f"{module}.md"
    source = (ROOT / "hw" / "rtl" / f"{module}.sv").read_text()
    named = set(re.findall(r"`(\w+_(?:i|o|ni))`", page.read_text()))
    unknown = named - set(re.findall(r"\w+", source))
    assert not unknown, f"{page.name} names {sorted(unknown)}"
