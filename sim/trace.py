"""Every layer's output on frames that hardware has run.

Only the HLS C++ tells feature maps; the RTL tells their strengths, and which filters it chose. So the maps are the
golden model's, and given only if everything that the run does tell is equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hw.control import Changes
from hw.design import BoolArray, Design, IntArray
from sim import golden


class TraceError(RuntimeError):
    """A run is not the golden model's, so its feature maps are not known."""


class TracedLayer(Protocol):
    """What a run tells about a layer of the tail."""

    @property
    def name(self) -> str:
        """The layer's name."""

    @property
    def strengths(self) -> IntArray:
        """Of its input, (n, channels)."""

    @property
    def chosen(self) -> BoolArray:
        """(n, filters)."""


def maps(
    design: Design, frames: IntArray, keep: Changes, outputs: IntArray, layers: Sequence[TracedLayer]
) -> dict[str, IntArray]:
    """Outputs (n, filters, h, w) of all layers by name, for a run that has answered `outputs` and told `layers`."""
    expected = golden.run(design, frames, keep)
    for layer in layers:
        trace = expected.layer(layer.name)
        given = getattr(layer, "output", None)
        same = np.array_equal(layer.strengths, trace.strengths) and np.array_equal(layer.chosen, trace.chosen)
        if not same or (given is not None and not np.array_equal(given, trace.output)):
            raise TraceError(
                f"layer '{layer.name}' has not done what the golden model does; 'penstock verify' says more"
            )
    if not np.array_equal(outputs, expected.outputs):
        raise TraceError("answers are not the golden model's; 'penstock verify' says more")
    return {trace.name: trace.output for trace in expected.layers}
