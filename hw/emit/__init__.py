"""SystemVerilog, tables, weight image and manifest from a `Design`."""

from hw.emit.systemverilog import emit, sources

__all__ = ["emit", "sources"]
