"""Activation maximisation: images that make chosen filters fire (Erhan et al. 2009; Olah et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sw.paths.scores import placed
from sw.paths.watch import LAYERS, NORMS, frozen

LEAK = 0.1


@dataclass(frozen=True)
class Ascent:
    """Gradient ascent by Adam on a filter's mean activation, for `steps` at `rate`.

    Below zero, the ReLU gives way to a tenth of its input, so that silent positions have a gradient.

    It starts at grey with noise from `seed`. Regularisation: `decay` pulls pixels back to grey, `variation` weighs the
    total variation (mean absolute difference of neighbours), and the image is rolled by up to `jitter` pixels in each
    step, so that no pattern hangs on a position. Pixels stay in 0..1.
    """

    steps: int = 64
    rate: float = 0.03
    decay: float = 0.05
    variation: float = 0.5
    jitter: int = 2
    noise: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0 or min(self.decay, self.variation, self.noise) < 0 or self.jitter < 0:
            raise ValueError(f"{self}: one step at least, a positive rate, everything else not negative")


@dataclass(frozen=True, eq=False)
class Patterns:
    """`images` float32 (k, c, h, w) in 0..1 that maximise `filters` (k,) of `layer`.

    `before` and `after` (k,) are the filters' mean activations after ReLU, on what the ascent started from and on
    `images`.
    """

    layer: str
    filters: NDArray[np.int64]
    images: NDArray[np.float32]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def maximise(
    model: nn.Module,
    layer: str,
    filters: Sequence[int],
    shape: tuple[int, int, int],
    settings: Ascent = Ascent(),
) -> Patterns:
    """Images of `shape` (c, h, w) for `filters` of `layer`, all at once; the same seed gives the same images.

    ValueError for a layer that is not there and for filters that it does not have.
    """
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, LAYERS):
        names = [name for name, other in model.named_modules() if isinstance(other, LAYERS)]
        raise ValueError(f"no conv or linear layer '{layer}'; layers: {', '.join(names)}")
    if not filters or not 0 <= min(filters) <= max(filters) < len(module.weight):
        raise ValueError(
            f"filters {list(filters)} of layer '{layer}'; accepted: one or more of its {len(module.weight)}"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    # One start for all filters, so that what differs is theirs.
    noise = torch.randn(1, *shape, generator=generator) * settings.noise
    start = placed(model, (0.5 + noise).clamp(0, 1).repeat(len(filters), 1, 1, 1))
    image = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([image], settings.rate)
    model = _prefix(model, layer)
    with frozen(model):
        before = _means(model, layer, filters, start).fired
        for _ in range(settings.steps):
            down, right = torch.randint(-settings.jitter, settings.jitter + 1, (2,), generator=generator).tolist()
            means = _means(model, layer, filters, torch.roll(image, (down, right), dims=(2, 3)))
            scale = means.driven.detach().abs().clamp_min(1e-3)  # filters whose activations are large move no faster
            rough = sum(image.diff(dim=axis).abs().mean() for axis in (2, 3) if image.shape[axis] > 1)
            far = ((image - 0.5) ** 2).mean()
            loss = -(means.driven / scale).sum() + len(filters) * (settings.variation * rough + settings.decay * far)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                image.clamp_(0, 1)
        found = image.detach()
        after = _means(model, layer, filters, found).fired
    return Patterns(
        layer,
        np.array(filters, np.int64),
        found.cpu().numpy(),
        before.detach().double().cpu().numpy(),
        after.detach().double().cpu().numpy(),
    )


def _prefix(model: nn.Module, layer: str) -> nn.Module:
    """What of an `nn.Sequential` runs before the layer after `layer`; other modules as they are."""
    names = [name for name, _ in model.named_children()]
    if not isinstance(model, nn.Sequential) or layer not in names:
        return model
    after = [index for index, module in enumerate(model) if isinstance(module, LAYERS) and index > names.index(layer)]
    return model[: after[0]] if after else model


@dataclass(frozen=True)
class _Means:
    """Of one filter per image (k,): mean over the map after a leaky ReLU (`driven`) and after a ReLU (`fired`)."""

    driven: Tensor
    fired: Tensor


def _means(model: nn.Module, layer: str, filters: Sequence[int], images: Tensor) -> _Means:
    """What image i (k, c, h, w) does to filter i of `filters`; normalisation is included."""
    seen: list[Tensor] = []

    def own(_: nn.Module, __: object, output: Tensor) -> None:
        seen[:] = [output]

    def normalised(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if seen and inputs[0] is seen[0]:
            seen[:] = [output]

    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    handles = [model.get_submodule(layer).register_forward_hook(own)]
    handles += [module.register_forward_hook(normalised) for module in norms]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    maps = seen[0].flatten(2) if seen[0].ndim > 2 else seen[0][:, :, None]
    chosen = maps[torch.arange(len(images)), torch.as_tensor(filters)]  # (k, positions)
    return _Means(functional.leaky_relu(chosen, LEAK).mean(dim=1), chosen.relu().mean(dim=1))
