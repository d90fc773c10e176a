"""How much a weight or channel matters: pure functions of tensors; a high score means keep.

Scores of weights have the weights' shape, and a unit of several weights has the sum of theirs. Scores of channels are
(channels,).

- LeCun, Denker, Solla, "Optimal Brain Damage" (1990)
- Hassibi, Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (1993)
- Han et al., "Learning both weights and connections for efficient neural networks" (2015)
- Polyak, Wolf, "Channel-level acceleration of deep face representations" (2015)
- Hu et al., "Network trimming" (2016)
- Li et al., "Pruning filters for efficient ConvNets" (2017)
- Molchanov et al., "Pruning convolutional neural networks for resource efficient inference" (2017)
- Dong, Chen, Pan, "Learning to prune deep neural networks via layer-wise Optimal Brain Surgeon" (2017)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING = 1e-4  # of the mean of a Hessian's diagonal; inputs that never vary make it singular


# -- of weights alone --------------------------------------------------------------------------------------------------
def magnitude(weight: Tensor, order: int = 1) -> Tensor:
    """``|w|**order``: summed over a unit, its L1 norm (Li et al. 2017, section 3.1) or squared L2 norm.

    For single weights the rule of Han et al. 2015, section 3. ValueError unless `order` is 1 or 2.
    """
    if order not in (1, 2):
        raise ValueError(f"magnitude of order {order}; accepted: 1 or 2")
    return weight.detach().abs() ** order


def random(shape: torch.Size | tuple[int, ...], seed: int) -> Tensor:
    """Even random numbers in 0..1, the baseline that every criterion must beat."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# -- of second derivatives ---------------------------------------------------------------------------------------------
def obd(weight: Tensor, diagonal: Tensor) -> Tensor:
    """Saliency ``h_kk * u_k**2 / 2`` (LeCun et al. 1990, step 4 of the recipe); `diagonal` is the Hessian's."""
    return diagonal * weight.detach() ** 2 / 2


def obs(weight: Tensor, inverse: Tensor) -> Tensor:
    """Saliency ``w_q**2 / (2 * [H^-1]_qq)`` (Hassibi and Stork 1993, eq. 5), for `inverse` (n, n) and `weight` (n,)."""
    return weight.detach() ** 2 / (2 * inverse.diagonal())


def obs_update(weight: Tensor, inverse: Tensor, index: int) -> Tensor:
    """The weights (n,) once weight `index` is gone and the others have made up for it (Hassibi and Stork 1993, eq. 5).

    ``w - w_q / [H^-1]_qq * H^-1 e_q``; the removed weight is exactly zero.
    """
    updated = weight - weight[index] / inverse[index, index] * inverse[:, index]
    updated[index] = 0
    return updated


def without(inverse: Tensor, index: int) -> Tensor:
    """Inverse of a Hessian (n, n) without its row and column `index`, which are zero in the result.

    One step of Gaussian elimination; with it the next removal needs no new inversion.
    """
    reduced = inverse - torch.outer(inverse[:, index], inverse[index]) / inverse[index, index]
    reduced[index] = 0
    reduced[:, index] = 0
    return reduced


def obs_prune(weight: Tensor, hessian: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Remove `number` of the weights (n,) one by one, each time the one of least saliency, and update the others.

    Hassibi and Stork 1993, exact for the quadratic form `hessian` (n, n). Returns weights (n,) and which are kept (n,).
    """
    matrix, kept = obs_columns(weight.reshape(1, -1), hessian, number)
    return matrix[0], kept


def obs_columns(matrix: Tensor, hessian: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Remove `number` columns of `matrix` (rows, n) one by one, and update the columns that are left.

    The block approximation for large layers: the error of a layer's output, ``|W X - W' X|**2``, has the same Hessian
    ``H = 2 X X^T`` (n, n) for every row (Dong et al. 2017, section 3.2), so a column's saliency is the sum of its
    rows' (Hassibi and Stork 1993, eq. 5). Returns the matrix, zero where removed, and which columns are kept (n,).
    """
    columns = matrix.shape[1]
    if hessian.shape != (columns, columns) or not 0 <= number < columns:
        raise ValueError(
            f"{number} of {columns} columns with a Hessian {tuple(hessian.shape)}; accepted: fewer than all, and (n, n)"
        )
    weights, inverse = matrix.detach().double().clone(), inverted(hessian.double())
    kept = torch.ones(columns, dtype=torch.bool)
    for _ in range(number):
        diagonal = inverse.diagonal()
        saliency = torch.where(kept, (weights**2).sum(dim=0) / (2 * diagonal.clamp_min(1e-300)), torch.inf)
        index = int(saliency.argmin())
        weights -= torch.outer(weights[:, index] / diagonal[index], inverse[index])
        kept[index] = False
        weights[:, ~kept] = 0
        inverse = without(inverse, index)
    return weights.to(matrix.dtype), kept


def inverted(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """Inverse of a symmetric `hessian` (n, n), with `damping` times its mean diagonal added to the diagonal."""
    extra = damping * float(hessian.diagonal().mean()) or damping
    return torch.linalg.inv(hessian + extra * torch.eye(len(hessian), dtype=hessian.dtype))


# -- of activations ----------------------------------------------------------------------------------------------------
def apoz(activations: Tensor) -> Tensor:
    """One minus the average percentage of zeros of each channel (Hu et al. 2016, eq. 1).

    `activations` (n, c, ...) come out of a ReLU; returns (c,): how often a channel is at work.
    """
    return (activations > 0).double().transpose(0, 1).flatten(1).mean(dim=1)


def mean_activation(activations: Tensor) -> Tensor:
    """Mean |a| of each channel (c,) of `activations` (n, c, ...) (Molchanov et al. 2017, section 2.2, "Activation")."""
    return activations.abs().double().transpose(0, 1).flatten(1).mean(dim=1)


def taylor(activations: Tensor, gradients: Tensor) -> Tensor:
    """``|mean over the map of a * dC/da|``, averaged over frames (Molchanov et al. 2017, eq. 8); both (n, c, ...)."""
    return (activations * gradients).double().flatten(2).mean(dim=2).abs().mean(dim=0)


def normalised(scores: Tensor) -> Tensor:
    """Scores of one layer over their L2 norm, so that layers can be compared (Molchanov et al. 2017, section 2.2)."""
    norm = scores.norm()
    return scores / norm if norm > 0 else scores


def output_variance(activations: Tensor) -> Tensor:
    """Variance over frames of each channel's Frobenius norm (c,): what "reduce and reuse" ranks by.

    Polyak and Wolf 2015, "Reduce and reuse": channels whose norm hardly varies tell little. `activations` (n, c, ...).
    """
    return activations.double().flatten(2).norm(dim=2).var(dim=0, unbiased=False)


def inbound(weight: Tensor, patches: Tensor) -> Tensor:
    """Variance over frames of the Frobenius norm of what a channel adds to a filter: (filters, channels).

    Polyak and Wolf 2015, "Inbound pruning". `weight` (filters, channels, taps) and `patches` (n, channels, taps,
    positions), the layer's unfolded input.
    """
    added = torch.einsum("fct,nctp->nfcp", weight.double(), patches.double())
    return added.norm(dim=3).var(dim=0, unbiased=False)


@dataclass(frozen=True, eq=False)
class Reuse:
    """All channels as a linear combination of those kept: ``x = combine @ x[kept]``, (channels, kept)."""

    kept: Tensor
    combine: Tensor


def reuse(values: Tensor, kept: Tensor, damping: float = DAMPING) -> Reuse:
    """The least squares combination that gives all channels back from those `kept` (c,), Polyak and Wolf 2015.

    `values` (samples, c) are the channels' values at one position each. Kept channels stand for themselves.
    """
    x = values.double()
    some = x[:, kept]
    moment = some.T @ some
    combine = torch.linalg.solve(
        moment + damping * max(float(moment.diagonal().mean()), 1e-30) * torch.eye(len(moment), dtype=torch.double),
        some.T @ x,
    ).T
    combine[kept] = torch.eye(int(kept.sum()), dtype=torch.double)
    return Reuse(kept, combine)


def folded(weight: Tensor, combination: Reuse) -> Tensor:
    """The next layer's weights (filters, c, kh, kw) with the combination in them; zero in removed channels."""
    result = torch.zeros_like(weight)
    result[:, combination.kept] = torch.einsum("fcyx,ck->fkyx", weight.double(), combination.combine).to(weight.dtype)
    return result
