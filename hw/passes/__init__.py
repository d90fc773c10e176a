"""Passes over hls4ml's `ModelGraph`, one per file; their order is the table in `hw.pipeline`."""
