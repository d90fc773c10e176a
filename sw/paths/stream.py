"""One pass over the data that several collectors of statistics share; none of them grows with the number of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sw.paths.scores import Batches, Precision, in_precision, placed
from sw.paths.watch import frozen, known, once, watched


class Collector(Protocol):
    """Something that adds up what it sees, batch by batch."""

    def take(self, activations: Mapping[str, Tensor], labels: Tensor, logits: Tensor) -> None:
        """See `activations` float32 (n, filters, positions) by layer, classes `labels` (n,), `logits` (n, outputs)."""


def collect(
    model: nn.Module,
    data: Batches,
    collectors: Sequence[Collector],
    layers: Sequence[str] | None = None,
    precision: Precision = "float32",
) -> None:
    """Run `model` in evaluation mode over `data` once, and show every batch's activations to the `collectors`.

    `layers` are those shown, all that a ReLU follows by default. ValueError for one that is not there.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        once(name, seen)
        if layers is None or name in layers:
            seen[name] = output
        return output

    with frozen(model), torch.no_grad():
        for x, y in data:
            seen.clear()
            x, y = placed(model, x), placed(model, y)
            with watched(model, keep), in_precision(precision, x):
                logits = model(x)
            known(layers or (), list(seen))
            maps = {name: output.float().reshape(*output.shape[:2], -1) for name, output in seen.items()}
            for collector in collectors:
                collector.take(maps, y, logits.float())
