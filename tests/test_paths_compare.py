"""Comparing paths: with chance, between scores, along depth, on and off the path, and how separable classes are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from sw.paths import compare
from sw.paths.compare import Distributions, Moments, Projections
from sw.paths.path import CriticalPath
from sw.paths.scores import Images, Scores
from sw.paths.stream import collect


# -- overlap -----------------------------------------------------------------------------------------------------------
def test_iou_by_hand() -> None:
    masks = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert np.array_equal(compare.iou(masks), [[1, 0.25, 0, 0], [0.25, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert compare.between(compare.iou(masks[:2])) == 0.25
    assert np.isnan(compare.between(np.ones((1, 1))))


def test_chance_by_hand() -> None:
    """Two masks of one of two filters: the same one (IoU 1) or not (0), each half of the time."""
    assert compare.chance_iou(2, 1, 1) == (0.5, 0.5)
    assert compare.chance_iou(4, 4, 2) == (0.5, 0.0)
    assert compare.chance_iou(5, 0, 0) == (1.0, 0.0)
    with pytest.raises(ValueError, match="masks of 3 and 1 of 2 filters"):
        compare.chance_iou(2, 3, 1)


@pytest.mark.parametrize("sizes", [(16, 4, 4), (16, 8, 3), (64, 6, 6), (512, 51, 51)])
def test_chance_is_what_sampling_finds(sizes: tuple[int, int, int]) -> None:
    filters, some, others = sizes
    random = np.random.default_rng(0)
    masks = np.zeros((2, filters), bool)
    masks[0, :some], masks[1, :others] = True, True
    found = [compare.between(compare.iou(random.permuted(masks, axis=1))) for _ in range(4000)]
    mean, deviation = compare.chance_iou(*sizes)
    assert np.mean(found) == pytest.approx(mean, abs=4 * deviation / np.sqrt(4000))
    assert np.std(found) == pytest.approx(deviation, rel=0.1)


def test_the_trend_tells_chance_from_more_and_less() -> None:
    random = np.random.default_rng(1)
    apart = np.kron(np.eye(4, dtype=bool), np.ones((1, 8), bool))  # four classes share nothing
    alike = np.tile(np.arange(32) < 8, (4, 1))
    chance = random.permuted(alike, axis=1)
    path = CriticalPath("by hand", 0.25, ("a", "b", "c"), (alike, chance, apart))
    found = compare.trend(path, draws=400, seed=2)
    assert found.verdicts == ("more", "as", "less")
    assert found.iou[0] == 1.0
    assert found.iou[2] == 0.0
    assert found.expected == pytest.approx(compare.chance_iou(32, 8, 8)[0])
    assert (found.low < found.expected).all()
    assert (found.expected < found.high).all()
    again = compare.trend(path, draws=400, seed=2)
    assert np.array_equal(found.low, again.low)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_iou_is_symmetric_and_blind_to_the_order_of_filters(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((4, 9)) < random.random()
    found = compare.iou(masks)
    assert np.array_equal(found, found.T)
    assert (found.diagonal() == 1).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert np.array_equal(found, compare.iou(masks[:, random.permutation(9)]))


def test_the_whole_network_overlaps_completely_as_by_chance() -> None:
    path = CriticalPath("all", 1.0, ("a",), (np.ones((3, 5), bool),))
    found = compare.trend(path, draws=10)
    assert found.iou[0] == found.expected[0] == found.low[0] == 1.0
    assert found.verdicts == ("as",)


# -- scores ------------------------------------------------------------------------------------------------------------
def scores(name: str, *values: object) -> Scores:
    arrays = tuple(np.array(value, np.float64) for value in values)
    return Scores(name, tuple(f"conv{number}" for number in range(len(arrays))), arrays)


def test_rank_agreement_by_hand() -> None:
    rising, falling = scores("up", [[1, 2, 3], [5, 6, 9]]), scores("down", [[3, 2, 1], [0, -1, -8]])
    nearly, dead = scores("nearly", [[1, 3, 2], [1, 3, 2]]), scores("dead", [[0, 0, 0], [0, 0, 0]])
    found = compare.rank_agreement({"up": rising, "down": falling, "nearly": nearly, "dead": dead})
    assert found.spearman[0, 0] == pytest.approx([1, -1, 0.5, np.nan], nan_ok=True)
    assert found.kendall[0, 0] == pytest.approx([1, -1, 1 / 3, np.nan], nan_ok=True)
    assert np.array_equal(found.spearman, found.spearman.transpose(0, 2, 1), equal_nan=True)


def test_scores_of_different_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="'b' and 'a' are not of the same layers"):
        compare.rank_agreement({"a": scores("a", [[1, 2]]), "b": scores("b", [[1, 2, 3]])})


def test_spread_of_class_means_by_hand() -> None:
    found = compare.class_spread(scores("activation", [[1, 5, 0], [3, 5, 0]], [[0, 0], [0, 0]]))
    assert found.deviation == pytest.approx([1 / 3, 0])  # standard deviations 1, 0, 0
    assert found.relative == pytest.approx([0.25, 0])  # 1/2 and 0/5; the dead filter is left out


# -- streams -----------------------------------------------------------------------------------------------------------
def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 8), nn.ReLU(), nn.Linear(8, 3))


def frames(number: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is in their brightness."""
    random = np.random.default_rng(seed)
    y = np.arange(number) % 3
    return (random.random((number, 1, 4, 4)) + y[:, None, None, None]).astype(np.float32), y.astype(np.int64)


def test_distributions_by_hand() -> None:
    """Activations given outright: on the path of class 0 lies filter 0 alone."""
    path = CriticalPath("by hand", 0.5, ("a",), (np.array([[1, 0], [0, 1]], bool),))
    counted = Distributions(path, bins=4, frames=2)
    values = torch.tensor([[[0.0, 4.0], [1.5, 0.0]], [[0.5, 0.5], [0.0, 9.0]]])  # (2 frames, 2 filters, 2 positions)
    counted.take({"a": values[:1]}, torch.tensor([0]), torch.zeros(1, 2))
    counted.take({"a": values[1:]}, torch.tensor([1]), torch.zeros(1, 2))
    counted.take({"a": 99 * values[1:]}, torch.tensor([1]), torch.zeros(1, 2))  # more than were asked for
    found = counted.result()["a"]
    assert found.edges.tolist() == [0, 1, 2, 3, 4]
    assert found.on.tolist() == [0, 0, 0, 0.5]  # 4 at the top edge, 9 above it
    assert found.off.tolist() == [0.5, 0.25, 0, 0]
    assert found.zeros.tolist() == [0.5, 0.25]
    assert found.means.tolist() == [13 / 4, 2.5 / 4]


def test_batches_do_not_matter() -> None:
    model, (x, y) = network(), frames(60)
    path = CriticalPath("half", 0.5, ("0", "3"), (np.eye(3, 6, dtype=bool), np.eye(3, 8, dtype=bool)))
    for size in (60, 7):
        moments, counted = Moments(3), Distributions(path)
        counted._tops = {"0": 3.0, "3": 3.0}
        collect(model, Images(x, y, size), [moments, counted])
        if size == 60:
            whole = moments, counted.result()
    assert np.array_equal(whole[0].frames, moments.frames)
    for layer in ("0", "3"):
        assert moments.sums[layer] == pytest.approx(whole[0].sums[layer], rel=1e-5)
        assert moments.squares[layer] == pytest.approx(whole[0].squares[layer], rel=1e-5)
        assert counted.result()[layer].means == pytest.approx(whole[1][layer].means, rel=1e-5)


def test_components_and_probe_are_scikit_learns() -> None:
    model, (x, y) = network(), frames(300)
    moments = Moments(3)
    collect(model, Images(x, y), [moments])
    found = {layer: compare.components(moments, layer, ridge=0) for layer in ("0", "3")}
    other_x, other_y = frames(90, seed=6)
    projected = Projections(found, 3, shown=50)
    collect(model, Images(other_x, other_y, 20), [projected])
    with torch.no_grad():
        maps = {"0": model[:2](torch.tensor(x)).mean(dim=(2, 3)).numpy(), "3": model[:5](torch.tensor(x)).numpy()}
        others = {"0": model[:2](torch.tensor(other_x)).mean(dim=(2, 3)).numpy()}
    for layer, features in maps.items():
        pca = PCA(2).fit(features.astype(np.float64))
        assert found[layer].explained == pytest.approx(pca.explained_variance_ratio_, abs=1e-6)
        assert np.abs((found[layer].axes.T * pca.components_).sum(axis=1)) == pytest.approx(1, abs=1e-4)
    probe = LinearDiscriminantAnalysis(solver="lsqr").fit(maps["0"].astype(np.float64), y)
    result = projected.result()["0"]
    assert result.accuracy == pytest.approx(probe.score(others["0"].astype(np.float64), other_y), abs=0.012)
    assert result.points.shape == (50, 2)
    assert np.array_equal(result.labels, other_y[:50])
    assert result.points == pytest.approx((others["0"][:50] - found["0"].centre) @ found["0"].axes, abs=1e-4)


def test_fisher_ratio_by_hand() -> None:
    """Two classes at 0 +- 1 and 10 +- 1 in one feature, 0 +- 1 in the other: 25 between, 1 + 1 within."""
    moments = Moments(2)
    values = torch.tensor([[-1.0, -1], [1, 1], [9, -1], [11, 1]])[:, :, None]
    moments.take({"a": values}, torch.tensor([0, 0, 1, 1]), torch.zeros(4, 2))
    assert compare.components(moments, "a").fisher == pytest.approx(25 / 2)


def test_dead_filters_do_not_break_components() -> None:
    moments = Moments(2)
    moments.take({"a": torch.zeros(4, 3, 2)}, torch.tensor([0, 1, 0, 1]), torch.zeros(4, 2))
    found = compare.components(moments, "a")
    assert found.fisher == 0.0
    assert found.explained.tolist() == [0, 0]
    assert np.isfinite(found.probe).all()


def test_a_class_without_frames_is_refused() -> None:
    moments = Moments(3)
    moments.take({"a": torch.ones(2, 3, 2)}, torch.tensor([0, 2]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no frame of class 1"):
        compare.components(moments, "a")


def test_layers_that_are_not_there_are_refused() -> None:
    model, (x, y) = network(), frames(6)
    with pytest.raises(ValueError, match="layer '5'"):
        collect(model, Images(x, y), [Moments(3)], layers=["5"])
