"""Losses other than squared error by which a linear predictor may follow filter strengths.

`descend` begins at the least squares solution and goes down a loss's gradient; `sw.predictors.fit` rounds the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sw.train import deterministic

FloatArray = NDArray[np.float64]
Loss = Literal["squared", "absolute", "ranking", "top"]

SHARES = (0.125, 0.25, 0.375, 0.5, 0.75)  # of the filters, which `top` is to find
STEPS, BATCH = 400, 512
RATE = 0.1  # of a weight, as it begins


def absolute(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of scores (n, filters), by which Leroux et al. (2016, section 3) fit the linear predictor."""
    return functional.l1_loss(scores, targets)


def ranking(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the order of pairs of filters, drawn at random: RankNet (Burges et al. 2005, equation 3).

    A pair counts by the distance of its targets (n, filters), as a multiple of the frame's mean distance, so that what
    hardly differs may stand in any order.
    """
    others = torch.randperm(scores.shape[1])
    apart = targets - targets[:, others]
    apart = apart / apart.abs().mean(dim=1, keepdim=True).clamp(min=1e-9)
    return (apart.abs() * functional.softplus(-apart.sign() * (scores - scores[:, others]))).mean()


def top(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of being one of the k filters of highest target, for a share of the filters drawn from `SHARES`.

    The logit is the score's distance to the middle between the k-th highest score and the next.
    """
    filters = scores.shape[1]
    keep = min(max(1, round(SHARES[int(torch.randint(len(SHARES), ()))] * filters)), filters - 1)
    wanted = torch.zeros_like(scores).scatter_(1, targets.topk(keep).indices, 1.0)
    level = scores.topk(keep + 1).values[:, -2:].mean(dim=1, keepdim=True).detach()
    return functional.binary_cross_entropy_with_logits(scores - level, wanted)


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"absolute": absolute, "ranking": ranking, "top": top}
)
"""Losses that need a descent; squared error has a solution in closed form."""


def descend(
    x: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss, seed: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Weights (channels, filters) and bias (filters,) that do better by `loss` than `weights` for squared error.

    `x` (n, channels), `y` (n, filters). `STEPS` of Adam on batches drawn at random, the rate falling to zero; the same
    seed gives the same result. A layer with one filter, or targets that do not vary, has nothing to learn.
    """
    middle, spread, height = x.mean(axis=0), float(x.std()), float(y.std())
    bias = y.mean(axis=0) - middle @ weights
    if y.shape[1] < 2 or spread == 0 or height == 0:
        return weights, bias
    with deterministic(seed):
        inputs = torch.tensor((x - middle) / spread, dtype=torch.float32)
        targets = torch.tensor((y - y.mean()) / height, dtype=torch.float32)
        matrix = torch.tensor(weights * spread / height, dtype=torch.float32, requires_grad=True)
        offset = torch.tensor((y.mean(axis=0) - y.mean()) / height, dtype=torch.float32, requires_grad=True)
        adam = torch.optim.Adam([matrix, offset], RATE * max(float(matrix.detach().std()), 0.01))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
        for _ in range(STEPS):
            some = torch.randint(len(inputs), (BATCH,))
            adam.zero_grad()
            LOSSES[loss](inputs[some] @ matrix + offset, targets[some]).backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
    found = matrix.detach().numpy().astype(np.float64) * height / spread
    return found, offset.detach().numpy().astype(np.float64) * height + y.mean() - middle @ found
