"""Representational geometry and activation maximisation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sw.paths import geometry
from sw.paths.geometry import Zeros
from sw.paths.maximise import Ascent, maximise
from sw.paths.scores import Images
from sw.paths.stream import collect

pytest.importorskip("rsatoolbox", reason="extra 'analysis' is not installed")


# -- zeros and RDMs ----------------------------------------------------------------------------------------------------
def test_zeros_by_hand() -> None:
    zeros = Zeros()
    zeros.take({"a": torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])}, torch.tensor([0]), torch.zeros(1, 1))
    zeros.take({"a": torch.tensor([[[2.0, 1.0], [0.0, 3.0]]])}, torch.tensor([0]), torch.zeros(1, 1))
    assert zeros.result()["a"].tolist() == [0.25, 0.75]


def test_rdm_by_hand() -> None:
    values = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])
    assert geometry.rdm(values).tolist() == [25 / 2, 16 / 2, 9 / 2]
    rows = np.array([[1.0, 2, 3], [2, 4, 6], [3, 2, 1]])
    assert geometry.rdm(rows, "correlation") == pytest.approx([0, 2, 2])


def test_r2_by_hand() -> None:
    one = np.array([1.0, 2, 3, 4, 5, 6])
    assert geometry.explained(one, 2 * one + 1) == pytest.approx(1)
    assert geometry.explained(one, -one) == pytest.approx(1)  # squared
    other = np.array([2.0, 1, 4, 3, 7, 5])
    assert geometry.explained(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1] ** 2)
    assert geometry.explained(one, np.ones(6)) == 0.0


def test_insertion_ends_at_the_whole_and_says_what_is_in() -> None:
    random = np.random.default_rng(0)
    values = random.random((12, 8, 3))
    values[:, 5] *= 100  # one filter makes nearly all of the distances
    order = np.array([5, 0, 1, 2, 3, 4, 6, 7])
    first, last = geometry.insertion(values, order), geometry.insertion(values, order[::-1])
    assert first.counts.tolist() == list(range(1, 9))
    assert first.full[-1] == last.full[-1] == pytest.approx(1)
    assert first.full[0] > 0.999
    assert last.full[-2] < 0.5
    assert first.full[0] == pytest.approx(geometry.explained(geometry.rdm(values[:, [5]]), geometry.rdm(values)))
    human = geometry.rdm(values[:, [5]])
    assert geometry.insertion(values, order, human=human).human == pytest.approx(
        [geometry.explained(geometry.rdm(values[:, order[:count]]), human) for count in range(1, 9)]
    )


def test_geometry_inserts_by_zeros() -> None:
    random = np.random.default_rng(1)
    values, poz = random.random((10, 6, 2)), np.array([0.5, 0.1, 0.9, 0.1, 0.3, 0.7])
    found = geometry.geometry(values, poz, seed=3)
    assert np.array_equal(found.fewest.full, geometry.insertion(values, np.array([1, 3, 4, 0, 5, 2])).full)
    assert np.array_equal(found.most.full, geometry.insertion(values, np.array([2, 5, 0, 4, 3, 1])).full)
    assert np.array_equal(found.random.full, geometry.geometry(values, poz, seed=3).random.full)


def test_permuting_filters_leaves_the_geometry_alone() -> None:
    random = np.random.default_rng(2)
    values, poz, order = random.random((10, 6, 2)), random.random(6), random.permutation(6)
    one, other = geometry.geometry(values, poz), geometry.geometry(values[:, order], poz[order])
    assert one.rdm == pytest.approx(other.rdm)
    assert one.fewest.full == pytest.approx(other.fewest.full)


def test_features_are_the_networks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    x = np.random.default_rng(0).random((130, 1, 4, 4)).astype(np.float32)
    found = geometry.features(model, x)
    assert {layer: values.shape for layer, values in found.items()} == {"0": (130, 3, 4), "3": (130, 4, 1)}
    with torch.no_grad():
        assert found["0"] == pytest.approx(model[:2](torch.tensor(x)).flatten(2).numpy(), abs=1e-6)
    zeros = Zeros()
    collect(model, Images(x, np.zeros(130, np.int64), 50), [zeros])
    assert zeros.result()["0"] == pytest.approx((found["0"] == 0).mean(axis=(0, 2)))


def test_nonsense_is_refused() -> None:
    values = np.zeros((5, 3, 2))
    with pytest.raises(ValueError, match="no permutation of 0 to 2"):
        geometry.insertion(values, np.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"human RDM has \(4,\) pairs; accepted: 10 of 5 images"):
        geometry.insertion(values, np.arange(3), human=np.zeros(4))


def test_without_rsatoolbox_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'penstock\[analysis\]'"):
        geometry.rdm(np.zeros((3, 2)))


# -- people ------------------------------------------------------------------------------------------------------------
def test_human_similarity_is_read(tmp_path: Path) -> None:
    matrix = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    np.savez(tmp_path / "people.npz", images=np.array([7, 0, 3]), rdm=matrix)
    found = geometry.load_human(tmp_path / "people.npz", 10)
    assert found.images.tolist() == [7, 0, 3]
    assert found.rdm.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("images", "rdm", "said"),
    [
        (np.arange(3.0), np.zeros((3, 3)), "images are float64"),
        (np.arange(2), np.zeros((2, 2)), "n at least 3"),
        (np.array([0, 1, 10]), np.zeros((3, 3)), "not different indices of the 10 test images"),
        (np.array([0, 1, 1]), np.zeros((3, 3)), "not different indices"),
        (np.arange(3), np.zeros((3, 2)), r"rdm is float64 \(3, 2\); accepted: finite numbers \(3, 3\)"),
        (np.arange(3), np.full((3, 3), np.nan), "accepted: finite"),
        (np.arange(3), np.arange(9.0).reshape(3, 3), "not symmetric"),
        (np.arange(3), np.ones((3, 3)), "zero diagonal"),
        (np.array([{}] * 3), np.zeros((3, 3)), "is not a file of human similarity"),
    ],
)
def test_other_files_of_people_are_refused(tmp_path: Path, images: np.ndarray, rdm: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "people.npz", images=images, rdm=rdm)
    with pytest.raises(ValueError, match=rf"people\.npz'.*{said}"):
        geometry.load_human(tmp_path / "people.npz", 10)


def test_broken_files_of_people_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.npz"
    with pytest.raises(ValueError, match="does not exist"):
        geometry.load_human(file, 10)
    np.savez(file, images=np.arange(3), rdm=np.zeros((3, 3)))
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"people\.npz' is not a file"):
            geometry.load_human(file, 10)


# -- maximisation ------------------------------------------------------------------------------------------------------
def detector() -> nn.Sequential:
    """Filter 0 answers to brightness, filter 1 to darkness, filter 2 to nothing."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 0.0])[:, None, None, None])
        model[0].bias.copy_(torch.tensor([-0.5, 0.4, -1.0]))
    return model.eval()


PLAIN = Ascent(steps=80, rate=0.05, decay=0, variation=0, seed=4)


def test_the_image_is_what_the_filter_answers_to() -> None:
    found = maximise(detector(), "0", [0, 1], (1, 6, 6), PLAIN)
    assert found.images.shape == (2, 1, 6, 6)
    assert found.images[0] == pytest.approx(1, abs=1e-3)
    assert found.images[1] == pytest.approx(0, abs=1e-3)
    assert (found.after > found.before).all()
    assert found.after[0] == pytest.approx(0.5, abs=1e-3)


def test_a_dead_filter_stays_at_the_start() -> None:
    found = maximise(detector(), "0", [2], (1, 6, 6), PLAIN)
    assert found.after[0] == 0
    assert np.abs(found.images - 0.5).max() < 0.3
    assert found.before[0] == 0


def test_a_filter_that_does_not_fire_is_woken() -> None:
    """At grey, filter 1 is silent: 0.4 - 0.5 < 0, and so is its gradient after the ReLU."""
    found = maximise(detector(), "0", [1], (1, 6, 6), Ascent(steps=60, rate=0.05, noise=0, decay=0, variation=0))
    assert found.before[0] == 0
    assert found.after[0] > 0.3


def test_regularisation_smooths() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 2)).eval()
    rough = maximise(model, "0", [0], (1, 6, 6), PLAIN).images
    smooth = maximise(model, "0", [0], (1, 6, 6), Ascent(steps=80, rate=0.05, decay=0, variation=20, seed=4)).images
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


def test_the_same_seed_gives_the_same_images_and_the_model_is_left_alone() -> None:
    model = detector().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    one, other = (maximise(model, "0", [0, 1], (1, 6, 6), PLAIN) for _ in range(2))
    assert np.array_equal(one.images, other.images)
    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_logits_can_be_maximised_too() -> None:
    """Without jitter: to a dense layer, positions matter."""
    still = Ascent(steps=60, decay=0, variation=0, jitter=0)
    found = maximise(detector(), "4", [0, 1], (1, 6, 6), still)
    assert (found.after > found.before).all()


def test_unknown_layers_and_filters_are_refused() -> None:
    with pytest.raises(ValueError, match="no conv or linear layer '2'; layers: 0, 4"):
        maximise(detector(), "2", [0], (1, 6, 6))
    with pytest.raises(ValueError, match=r"filters \[3\] of layer '0'; accepted: one or more of its 3"):
        maximise(detector(), "0", [3], (1, 6, 6))
    with pytest.raises(ValueError, match="accepted: one or more"):
        maximise(detector(), "0", [], (1, 6, 6))
    with pytest.raises(ValueError, match="one step at least"):
        Ascent(steps=0)
