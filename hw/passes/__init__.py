"""Passes over hls4ml's `ModelGraph`, one per file; their order is the table in `hw.pipeline`."""

import hls4ml  # noqa: F401  # loads our plugin and so the passes; they must not be half imported when it does
