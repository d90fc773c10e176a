"""Projects for other tools beside the emitted sources: a Tcl script for Vivado, a core file for FuseSoC."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from hw.emit.registers import VERSION


def projects(name: str, sources: Sequence[str], tables: Sequence[str]) -> dict[str, str]:
    """Texts by file name, for module `name` in `sources` that reads `tables`; all lie in one folder."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no HTML
    return {
        target: environment.from_string((files("hw") / "emit" / template).read_text()).render(
            name=name, version=VERSION, sources=sources, tables=tables
        )
        for target, template in (("vivado.tcl", "vivado.tcl.j2"), (f"{name}.core", "fusesoc.core.j2"))
    }
