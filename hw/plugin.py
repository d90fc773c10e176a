"""Entry point `hls4ml.backends`: makes `backend="Penstock"` known to hls4ml. Importing it has no other effect."""

from __future__ import annotations

from collections.abc import Callable

from hw.pipeline import BACKEND_NAME


def register(*, register_backend: Callable[[str, type], None], register_writer: Callable[[str, type], None]) -> None:
    """Register writer and backend with hls4ml (the backend looks its writer up, so the writer comes first)."""
    from hw.backend import PenstockBackend
    from hw.writer import PenstockWriter

    register_writer(BACKEND_NAME, PenstockWriter)
    register_backend(BACKEND_NAME, PenstockBackend)


def ensure_registered() -> None:
    """Register where no installed entry point has: in a checkout that is only on the path."""
    from hls4ml.backends import get_available_backends, register_backend
    from hls4ml.writer.writers import register_writer

    if BACKEND_NAME.lower() not in get_available_backends():
        register(register_backend=register_backend, register_writer=register_writer)
