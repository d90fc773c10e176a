"""Entry point `hls4ml.backends`: makes `backend="Penstock"` known to hls4ml. Importing it has no other effect."""

from __future__ import annotations

from collections.abc import Callable


def register(*, register_backend: Callable[[str, type], None], register_writer: Callable[[str, type], None]) -> None:
    """Register writer and backend with hls4ml (the backend looks its writer up, so the writer comes first)."""
    from hw.backend import PenstockBackend
    from hw.pipeline import BACKEND_NAME
    from hw.writer import PenstockWriter

    register_writer(BACKEND_NAME, PenstockWriter)
    register_backend(BACKEND_NAME, PenstockBackend)
