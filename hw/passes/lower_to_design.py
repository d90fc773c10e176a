"""The last pass: from graph to `Design`."""

from __future__ import annotations

from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hw.accelerator import Accelerator
from hw.lower import lower


class LowerToDesign(ModelOptimizerPass):
    """Afterwards: the `ModelGraph` has an attribute `penstock`, an `Accelerator` with the verified `Design`.

    Its `trace` is the accelerator's; hls4ml asks the backend for `predict`, but not for that.
    """

    def __init__(self) -> None:
        super().__init__("lower_to_design", attach)


def attach(model: Any) -> bool:
    """Lower the `ModelGraph` and attach the result to it."""
    lowered = lower(model)
    model.penstock = Accelerator(lowered.design, lowered.layout)
    model.trace = model.penstock.trace
    return False
