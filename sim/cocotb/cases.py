"""The layers that benches of the compute path run: named, so that builder and bench agree on tables and parameters."""

from __future__ import annotations

from hw.design import Lanes
from sim.cocotb.stimulus import LayerSet, random_conv

LANES = Lanes(3, 4)

# On one instance, one after another. Maps narrower than a window, windows of several rows, taps that reach nothing.
WINDOWS = {
    "four_lanes": LayerSet(
        (
            random_conv(1, channels=3, size=(5, 7), filters=4, lanes=LANES),
            random_conv(
                2, channels=2, size=(6, 3), filters=2, lanes=LANES, kernel=(2, 3), padding=(0, 1, 1, 1), kept=0.7
            ),
            random_conv(3, channels=1, size=(4, 1), filters=1, lanes=LANES, kernel=(3, 1), padding=(1, 1, 0, 0)),
        ),
        4,
    ),
    "eight_lanes": LayerSet(
        (
            random_conv(4, channels=2, size=(3, 5), filters=2, lanes=LANES, kernel=(1, 3), padding=(0, 0, 1, 1)),
            random_conv(5, channels=1, size=(4, 3), filters=3, lanes=LANES, kernel=(3, 2), padding=(2, 0, 0, 1)),
        ),
        8,
    ),
    "one_lane_one_tap": LayerSet(
        (random_conv(6, channels=2, size=(3, 2), filters=3, lanes=LANES, kernel=(1, 1), padding=(0, 0, 0, 0)),), 1
    ),
}
