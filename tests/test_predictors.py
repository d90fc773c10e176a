"""Predictors: fitting, integers, files."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from flow.recipe import PredictorSection
from sw import predictors
from sw.losses import LOSSES, Loss
from sw.predictors import ClassPredictor, LinearPredictor, PathPredictor


def strengths_and_targets(seed: int, channels: int = 6, filters: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Integer strengths whose targets are an exact linear function of them."""
    random = np.random.default_rng(seed)
    strengths = random.integers(0, 4000, (300, channels))
    return strengths, strengths @ random.integers(-5, 6, (channels, filters)) + random.integers(-9000, 9000, filters)


def test_a_linear_relation_is_ranked_right() -> None:
    strengths, targets = strengths_and_targets(0)
    predictor = predictors.fit(strengths, targets)
    assert predictor.weights.dtype == np.int64
    assert np.abs(predictor.weights).max() == 127
    assert predictors.recall(predictor, strengths, targets, keep=4) > 0.97
    assert predictors.recall(predictor, strengths, targets, keep=9) == 1.0


@pytest.mark.parametrize("hidden_bits", [8, 12, 16])
def test_two_thin_products_rank_what_has_their_rank(hidden_bits: int) -> None:
    random = np.random.default_rng(5)
    strengths = random.integers(0, 4000, (400, 40))
    targets = strengths @ random.normal(0, 1, (40, 3)) @ random.normal(0, 1, (3, 50)) + random.integers(0, 9000, 50)
    thin = predictors.fit_low_rank(strengths, targets, 3, hidden_bits=hidden_bits)
    assert thin.hidden_bits == hidden_bits
    assert thin.first.size + thin.second.size < 40 * 50 / 5
    hidden = thin.hidden(strengths)
    assert np.abs(hidden).max() < 1 << (hidden_bits - 1)
    assert np.abs(hidden).max() >= 1 << (hidden_bits - 3)  # the width is used
    assert predictors.recall(thin, strengths, targets, keep=20) > 0.99
    assert predictors.recall(predictors.fit_low_rank(strengths, targets, 1), strengths, targets, keep=20) < 0.98


def test_a_threshold_takes_a_share_of_all_scores() -> None:
    scores = np.random.default_rng(6).integers(-1000, 1000, (50, 40))
    for share in (0.01, 0.25, 0.5, 1.0):
        taken = scores > predictors.threshold(scores, share)
        assert share <= taken.mean() < share + 0.01
    assert (scores[:, :1] * 0 > predictors.threshold(scores * 0, 0.2)).all()  # equal ones go together


def test_scores_share_one_scale_and_keep_their_offsets() -> None:
    strengths, targets = strengths_and_targets(1)
    scores = predictors.fit(strengths, targets, ridge=0).scores(strengths)
    slope = (scores.max() - scores.min()) / (targets.max() - targets.min())
    assert np.abs(scores / slope - targets).max() < 0.01 * (targets.max() - targets.min())


@pytest.mark.parametrize("loss", ["absolute", "ranking", "top"])
def test_every_loss_betters_itself(loss: Loss) -> None:
    """Of strengths that a rectifier bends and outliers spoil, which least squares serves badly."""
    random = np.random.default_rng(7)
    strengths = random.integers(0, 4000, (600, 12))
    bent = np.maximum(strengths @ random.normal(0, 1, (12, 20)) + random.normal(0, 3000, 20), 0)
    bent[::20] *= 20
    chosen, plain = (predictors.fit(strengths, bent, loss=each) for each in (loss, "squared"))
    assert np.abs(chosen.weights).max() == 127
    kept = [predictors.recall(x, strengths, bent, keep=5) for x in (chosen, plain)]
    assert kept[0] > kept[1] + 0.01
    again = predictors.fit(strengths, bent, loss=loss)
    assert (again.weights == chosen.weights).all() and (again.bias == chosen.bias).all()  # noqa: PT018


@pytest.mark.parametrize("loss", ["absolute", "ranking", "top"])
def test_losses_bear_what_does_not_vary(loss: Loss) -> None:
    strengths, targets = strengths_and_targets(3)
    assert predictors.fit(strengths, targets[:, :1], loss=loss).weights.shape == (6, 1)
    constant = predictors.fit(np.zeros_like(strengths), np.tile([3, 1, 2], (300, 1)), loss=loss)
    assert predictors.top(constant.scores(strengths), 1)[:, 0].all()


def test_losses_are_least_at_the_right_order() -> None:
    targets = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for loss in LOSSES.values():
            right, wrong = (sum(loss(scores, targets) for _ in range(20)) for scores in (targets, targets.flip(1)))
            assert right < wrong
    assert (
        set(LOSSES) | {"squared"}
        == set(get_args(Loss))
        == set(get_args(PredictorSection.model_fields["loss"].annotation))
    )


def test_absent_channels_and_constant_targets_do_not_break_the_fit() -> None:
    strengths, targets = strengths_and_targets(2)
    strengths[:, 1] = 0
    assert (predictors.fit(strengths, targets).weights[1] == 0).all()
    constant = predictors.fit(np.zeros_like(strengths), np.tile([3, 1, 2], (300, 1)))
    assert (constant.weights == 0).all()
    assert (predictors.top(constant.scores(strengths[:2, :]), 1) == [True, False, False]).all()


def test_ties_go_to_the_lower_index() -> None:
    chosen = predictors.top(np.array([[5, 7, 5, 5], [0, 0, 0, 0]]), 2)
    assert chosen.tolist() == [[True, True, False, False], [True, True, False, False]]


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strengths \(3, 2\) with targets \(4, 5\)"):
        predictors.fit(np.zeros((3, 2)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="NaN"):
        predictors.fit(np.zeros((3, 2)), np.full((3, 5), np.nan))
    with pytest.raises(ValueError, match="accepted: int8"):
        LinearPredictor(np.full((2, 2), 128), np.zeros(2, int))
    with pytest.raises(ValueError, match="dtype float64"):
        LinearPredictor(np.zeros((2, 2)), np.zeros(2, int))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"bias \(3,\)"):
        LinearPredictor(np.zeros((2, 2), int), np.zeros(3, int))


def test_files_hold_what_was_saved(tmp_path: Path) -> None:
    saved = {
        "conv2": predictors.fit(*strengths_and_targets(3)),
        "conv3": predictors.fit_low_rank(*strengths_and_targets(4, 9, 12), rank=3),
        "a.b": PathPredictor(np.eye(3, 4, dtype=bool), np.arange(3), np.arange(4) - 1),
        "dense": ClassPredictor(np.eye(2, 5, dtype=bool)),
    }
    path = tmp_path / "predictors.npz"
    predictors.save(path, saved)
    loaded = predictors.load(path)
    assert list(loaded) == list(saved)
    for name, predictor in saved.items():
        assert type(loaded[name]) is type(predictor)
        for field, value in vars(predictor).items():
            assert np.array_equal(getattr(loaded[name], field), value)
    content = path.read_bytes()
    predictors.save(path, saved)
    assert path.read_bytes() == content


def test_bad_files_are_named_with_their_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with pytest.raises(FileNotFoundError, match=r"bad\.npz"):
        predictors.load(path)
    for content in (b"", b"something else"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz' is not a file of predictors"):
            predictors.load(path)
    weights, bias = np.zeros((2, 3), np.int8), np.zeros(3, np.int64)
    for arrays, message in (
        ({"conv2.weights": weights}, r"bad\.npz', layer 'conv2': it has weights; accepted: weights, bias; or first"),
        ({"conv2.bias": bias, "conv2.masks": weights}, r"bad\.npz', layer 'conv2': it has bias, masks; accepted"),
        ({"weights": weights}, r"bad\.npz', layer '': it has weights; accepted"),
        ({"conv2.weights": weights, "conv2.bias": bias[:2]}, r"bad\.npz', layer 'conv2': predictor: weights \(2, 3\)"),
        (
            {"conv2.weights": weights * 0.5, "conv2.bias": bias},
            r"bad\.npz', layer 'conv2': predictor: weights have dtype",
        ),
        ({"conv2.weights": np.array([None]), "conv2.bias": bias}, r"bad\.npz' is not a file of predictors: .*pickle"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            predictors.load(path)
