"""How much each filter matters to each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sw.paths.watch import observed_layers as observed_layers


@dataclass(frozen=True, eq=False)
class Scores:
    """What a filter is worth to a class, the more the higher: `values[l]` is (classes, filters of `layers[l]`).

    ValueError for shapes that do not fit, and for values that are not finite.
    """

    name: str
    layers: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.values) or not self.layers:
            raise ValueError(f"scores '{self.name}': {len(self.layers)} layers with {len(self.values)} arrays")
        for layer, value in zip(self.layers, self.values, strict=True):
            if value.ndim != 2 or value.dtype != np.float64 or len(value) != len(self.values[0]):
                raise ValueError(
                    f"scores '{self.name}' of layer '{layer}': {value.shape} {value.dtype}; "
                    f"accepted: float64 ({len(self.values[0])}, filters)"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"scores '{self.name}' of layer '{layer}' are not all finite")
            value.setflags(write=False)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.values[0])

    def of(self, layer: str) -> NDArray[np.float64]:
        """Scores (classes, filters) of `layer`; ValueError if it is not one of `layers`."""
        if layer not in self.layers:
            raise ValueError(f"scores '{self.name}' have no layer '{layer}'; layers: {', '.join(self.layers)}")
        return self.values[self.layers.index(layer)]
