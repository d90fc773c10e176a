"""Distillation-guided routing: gates on filters, fitted to single frames so that the network's answer stays.

Wang, Su, Zhang, Hu, "Interpret neural networks by identifying critical data routing paths" (CVPR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.paths.scores import Batches, ScoreConfig, Scores, Sums, in_precision, placed
from sw.paths.watch import activations, frozen, kept, split, watched


@dataclass(frozen=True)
class RoutingConfig:
    """Gradient descent with momentum of 0.9 over the gates; defaults as published, `sparsity` is gamma."""

    steps: int = 30
    rate: float = 0.1
    sparsity: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0 or not self.sparsity >= 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"{self}: one step at least, a positive rate, sparsity not negative, momentum from 0 up to 1"
            )


def gates(model: nn.Module, x: Tensor, config: ScoreConfig, routing: RoutingConfig) -> dict[str, Tensor]:
    """Control gates (n, filters) >= 0 by layer for frames `x`, all frames at once; a gate multiplies a filter's map.

    They start at 1 and descend on the cross entropy of the gated network's output to the full one's plus gamma times
    their sum (Wang et al. 2018, eq. 2 and 3), each step projected to what is not negative. A frame's gates are those
    of its lowest objective among the steps that left its predicted class as it was.
    """
    x = placed(model, x)
    with frozen(model), in_precision(config.precision, x):
        observed = activations(model, x, config.layers)
        head, tail = split(model, list(observed))
        with torch.no_grad():
            x = head(x)
            full = tail(x).float().softmax(dim=1)
        predicted = full.argmax(dim=1)
        current = {
            name: torch.ones(len(x), values.shape[1], device=x.device, requires_grad=True)
            for name, values in observed.items()
        }
        found = {name: gate.detach().clone() for name, gate in current.items()}
        lowest = torch.full((len(x),), torch.inf, device=x.device)
        optimiser = torch.optim.SGD(list(current.values()), routing.rate, routing.momentum)
        for step in range(routing.steps + 1):
            with torch.enable_grad(), watched(tail, kept(current)):
                logits = tail(x).float()
                distance = functional.cross_entropy(logits, full, reduction="none")
                objective = distance + routing.sparsity * sum(gate.sum(dim=1) for gate in current.values())
            better = (objective < lowest) & (logits.argmax(dim=1) == predicted)
            lowest = torch.where(better, objective.detach(), lowest)
            for name, gate in current.items():
                found[name][better] = gate.detach()[better]
            if step < routing.steps:
                optimiser.zero_grad()
                objective.sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                with torch.no_grad():
                    for gate in current.values():
                        gate.clamp_(min=0)
    return found


def routing(model: nn.Module, data: Batches, config: ScoreConfig, settings: RoutingConfig | None = None) -> Scores:
    """The mean gate of each filter over a class's frames: what a class path is read from (Wang et al. 2018, eq. 4)."""
    sums = Sums(config.classes)
    for x, y in data:
        y = placed(model, y)
        sums.count(y)
        for layer, values in gates(model, x, config, settings or RoutingConfig()).items():
            sums.add("routing", layer, y, values)
    means = sums.means("routing")
    return Scores("routing", tuple(means), tuple(means.values()))
