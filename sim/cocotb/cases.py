"""The layers that benches of the compute path run: named, so that builder and bench agree on tables and parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.design import Conv, IntFormat, Lanes
from hw.emit.stage import Stage
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


@dataclass(frozen=True)
class Computed:
    """Layers that one instance of pen_datapath computes, group by group or window by window.

    With `groups` = 1 groups follow each other, as on the engine, and maps lie whole; else groups alternate in every
    window, as in a head stage, and maps lie in rings of `ring` words.
    """

    layers: LayerSet
    filters: int  # lanes
    groups: int
    out_pixels: int
    ring: int


# The last layer of the engine leaves its sums; of a map of one pixel.
_RAW = random_conv(13, channels=3, size=(2, 3), filters=5, lanes=LANES, kernel=(2, 3), padding=(0, 0, 0, 0))
DATAPATHS = {
    "engine": Computed(
        LayerSet(
            (
                random_conv(10, channels=4, size=(5, 6), filters=7, lanes=LANES, pool=2, kept=0.8),
                random_conv(11, channels=2, size=(4, 3), filters=3, lanes=LANES, signed=(True, True)),
                random_conv(
                    12, channels=5, size=(5, 5), filters=2, lanes=LANES, stride=2, kernel=(3, 1), padding=(1, 0, 0, 0)
                ),
                replace(_RAW, shift=None, output_format=IntFormat(48, True, 0)),
            ),
            4,
        ),
        *(3, 1, 4, 0),
    ),
    "stage": Computed(
        LayerSet(
            (
                random_conv(14, channels=3, size=(6, 7), filters=4, lanes=LANES, pool=2),
                random_conv(15, channels=2, size=(7, 5), filters=3, lanes=LANES, signed=(True, False), kept=0.6),
            ),
            8,
        ),
        *(2, 2, 4, 16),
    ),
}


@dataclass(frozen=True)
class Drained:
    """Maps whose sums one instance of pen_drain turns into words; of the layers only their geometry matters.

    With `residual` something is added to all of them but every third. With `quarters` those leave in quarters that have
    as many even rows and columns as odd ones.
    """

    maps: LayerSet
    filters: int
    groups: int
    out_pixels: int
    acc_bits: int
    residual: bool = False
    quarters: bool = False


def _geometry(
    seed: int, size: tuple[int, int], stride: int = 1, pool: int = 1, kernel: int = 3, signed: bool = False
) -> Conv:
    edge = kernel // 2
    return random_conv(
        seed,
        channels=1,
        size=size,
        filters=1,
        lanes=LANES,
        kernel=(kernel, kernel),
        padding=(edge, edge, edge, edge),
        stride=stride,
        pool=pool,
        signed=(False, signed),
    )


# Odd edges that pooling drops, strides, maps that end within a word, words larger and smaller than a window.
DRAINS = {
    "engine": Drained(
        LayerSet(
            (
                _geometry(1, (5, 7)),
                _geometry(2, (5, 6), pool=2, signed=True),
                _geometry(3, (7, 5), stride=2, kernel=1),
                _geometry(4, (9, 8), pool=4),
            ),
            4,
        ),
        *(3, 1, 4, 20),
    ),
    "stage": Drained(
        LayerSet(
            (_geometry(5, (4, 5), signed=True), _geometry(6, (6, 9), stride=2, pool=2), _geometry(7, (5, 5), pool=2)), 8
        ),
        *(2, 3, 2, 35),
    ),
    "residual": Drained(
        LayerSet((_geometry(10, (5, 7)), _geometry(11, (4, 6), pool=2, signed=True)), 4), *(3, 1, 4, 20), residual=True
    ),
    "quarters": Drained(
        LayerSet(
            (
                _geometry(12, (6, 8)),
                _geometry(13, (4, 2)),
                _geometry(14, (8, 12), pool=2, signed=True),
                _geometry(15, (5, 6)),
                _geometry(16, (7, 11), stride=2, kernel=1),
                _geometry(17, (10, 34)),
            ),
            4,
        ),
        *(3, 1, 4, 20),
        quarters=True,
    ),
    "one_lane": Drained(LayerSet((_geometry(8, (3, 5)), _geometry(9, (4, 4), pool=2, signed=True)), 1), 1, 2, 8, 12),
}


# Several groups of filters with a remainder, pooling; words that come in bursts, strides, pruned taps, windows wider
# than a row; a single lane.
STAGES = {
    "groups": Stage(random_conv(20, channels=3, size=(6, 7), filters=5, lanes=Lanes(2, 4), pool=2), 4, 1),
    "wide": Stage(
        random_conv(
            21,
            channels=4,
            size=(7, 6),
            filters=3,
            lanes=Lanes(4, 8),
            kernel=(5, 3),
            stride=2,
            padding=(2, 2, 1, 1),
            signed=(True, True),
            kept=0.6,
        ),
        2,
        3,
    ),
    "one_lane": Stage(
        random_conv(
            22, channels=1, size=(4, 5), filters=2, lanes=Lanes(1, 1), kernel=(2, 2), padding=(0, 1, 0, 0), kept=0.8
        ),
        8,
        1,
    ),
}
FULL_STAGES = {
    "narrow": Stage(random_conv(23, channels=2, size=(9, 2), filters=4, lanes=Lanes(3, 4), pool=2), 4, 2),
    "pointwise": Stage(
        random_conv(24, channels=6, size=(5, 5), filters=7, lanes=Lanes(4, 2), kernel=(1, 1), padding=(0, 0, 0, 0)),
        4,
        2,
    ),
    "large_kernel": Stage(
        random_conv(
            25, channels=1, size=(9, 11), filters=4, lanes=Lanes(4, 8), kernel=(7, 7), padding=(3,) * 4, pool=4
        ),
        1,
        1,
    ),
}
