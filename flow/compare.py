"""Is a run of the hardware the golden model's? Compared with ``==``: answers, strengths, scores, choices and bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.design import BoolArray, IntArray
from sim.golden import GoldenRun
from sim.hls import HlsLayer, HlsRun
from sim.verilated import RtlRun


@dataclass(frozen=True)
class Difference:
    """`what` differs on `frames` of all frames, `first` of them first."""

    what: str
    frames: int
    first: int

    def __str__(self) -> str:
        return f"{self.what} differ on {self.frames} frames, first on frame {self.first}"


def differences(golden: GoldenRun, rtl: RtlRun | HlsRun) -> tuple[Difference, ...]:
    """Everything that is not equal between the golden model and RTL or HLS C++; empty if both runs are the same."""
    pairs: list[tuple[str, IntArray | BoolArray | None, IntArray | BoolArray | None]] = [
        ("logits", golden.outputs, rtl.outputs),
        ("marks of bad frames", np.zeros(len(golden.outputs), bool), rtl.bad),
    ]
    if isinstance(rtl, RtlRun):
        fetched = np.sum([trace.bytes for trace in golden.layers], axis=0)
        pairs.append(("bytes on the memory port", fetched, rtl.bus_bytes))
    for layer in rtl.layers:
        trace = golden.layer(layer.name)
        pairs += [
            (f"{layer.name}: strengths", trace.strengths, layer.strengths),
            (f"{layer.name}: scores", trace.scores if layer.scores is not None else None, layer.scores),
            (f"{layer.name}: chosen filters", trace.chosen, layer.chosen),
            (f"{layer.name}: bytes fetched", trace.bytes, layer.bytes),
        ]
        if isinstance(layer, HlsLayer) and layer.output is not None and trace.output.size:
            pairs.append((f"{layer.name}: outputs", trace.output, layer.output))
    return tuple(found for pair in pairs if (found := _difference(*pair)) is not None)


def _difference(
    what: str, expected: IntArray | BoolArray | None, given: IntArray | BoolArray | None
) -> Difference | None:
    if expected is None and given is None:
        return None
    if expected is None or given is None or expected.shape != given.shape:
        shapes = [None if array is None else array.shape for array in (expected, given)]
        return Difference(f"{what} ({shapes[0]} and {shapes[1]})", 0 if expected is None else len(expected), 0)
    unequal = (expected != given).reshape(len(expected), -1).any(axis=1)
    return Difference(what, int(unequal.sum()), int(unequal.argmax())) if unequal.any() else None
