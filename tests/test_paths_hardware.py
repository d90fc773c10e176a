"""Paths for the accelerator: the file, the Boolean predictor, its thresholds, the order of filters."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from sw.paths import hardware, lazy
from sw.paths.hardware import Calibration, HardwarePaths, LayerPaths
from sw.paths.lazy import Kind
from sw.paths.path import CriticalPath
from sw.paths.strengths import strengths

PRINT = "0123456789abcdef" * 4


def layer(name: str = "conv2", **changes: object) -> LayerPaths:
    """Three sources, four filters, two classes."""
    fields: dict[str, object] = {
        "masks": np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool),
        "matrix": np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]], bool),
        "theta": np.array([0.5, 0.0, 2.0]),
        "tau": np.array([1, 0, 3, 0]),
        "always": np.array([0, 0, 1, 0], bool),
        "order": np.array([3, 0, 1, 2]),
        "frequency": np.array([0.25, 0.5, 0.5, 0.0]),
    }
    return LayerPaths(name, **(fields | changes))  # type: ignore[arg-type]


# -- by hand -----------------------------------------------------------------------------------------------------------
def test_votes_and_choices_by_hand() -> None:
    found = layer()
    inputs = np.array([[0.6, 0.1, 0.0], [0.5, 0.0, 2.0], [0.6, 0.0, 2.1]])
    assert found.votes(inputs).tolist() == [[2, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]]  # at theta itself: not activated
    assert found.chosen(inputs).tolist() == [
        [True, True, True, True],
        [False, False, True, False],  # filter 2 is always on
        [False, True, True, True],
    ]


def test_class_union_and_most_frequent() -> None:
    assert layer().wanted([0]).tolist() == [True, True, False, False]
    assert layer().wanted([0, 1]).tolist() == [True, True, True, False]
    assert layer().wanted([]).tolist() == [False] * 4
    assert layer().most_frequent(1).tolist() == [1]  # of equals the lower index
    assert layer().most_frequent(3).tolist() == [0, 1, 2]


@given(st.integers(0, 2**31), st.integers(1, 64), st.integers(-8, 0))
@settings(max_examples=50, deadline=None)
def test_integer_thresholds_decide_as_real_ones(seed: int, positions: int, exponent: int) -> None:
    random = np.random.default_rng(seed)
    scale = 2.0**exponent
    integers = random.integers(0, 256, (20, 3, positions)).sum(axis=2)
    theta = integers[random.integers(20, size=3), range(3)] * scale / positions * random.choice([1, 1, 1.1], 3)
    found = layer(theta=theta)
    means = integers * scale / positions
    margin = np.abs(means - theta) > 1e-9  # where division has rounded, either side is right
    assert ((integers > found.integer_theta(positions, scale)) == (means > theta))[margin].all()


def test_thresholds_spend_the_budget_where_it_catches_most() -> None:
    """Filter 0 is told exactly by one vote, filter 1 not at all; the budget is enough for filter 0 alone."""
    votes = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    want = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], bool)
    index, tau = hardware.thresholds([votes], want, np.zeros(2, bool), 2)
    assert (index.tolist(), tau.tolist()) == ([0, 0], [0, 1])
    index, tau = hardware.thresholds([votes], want, np.array([False, True]), 6)
    assert tau.tolist() == [0, -1]  # always on: computed in all four frames
    _, tau = hardware.thresholds([np.zeros_like(votes), votes], want, np.zeros(2, bool), 2)
    assert _[0] == 1  # goes by the count that tells it
    _, tau = hardware.thresholds([votes], want, np.zeros(2, bool), 0)
    assert (votes > tau).sum() == 0


@given(st.integers(0, 2**31), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_thresholds_keep_the_budget_and_beat_equal_ones(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    votes, want = random.integers(0, 5, (40, 6)), random.random((40, 6)) < 0.4
    _, tau = hardware.thresholds([votes], want, np.zeros(6, bool), share * want.size)
    chosen = votes > tau
    assert chosen.sum() <= share * want.size
    for common in range(-1, 5):  # one tau for all filters that computes as little is no better
        same = votes > common
        if same.sum() <= chosen.sum():
            assert (same & want).sum() <= (chosen & want).sum()


def test_a_relation_between_channels_is_found() -> None:
    """Filter f is strong exactly where source f is; the last source is dead."""
    random = np.random.default_rng(3)
    inputs = np.where(random.random((400, 4)) < 0.5, random.random((400, 4)) + 0.5, 0.0)
    inputs[:, 3] = 0
    outputs = np.concatenate([inputs[:, :3], np.zeros((400, 3))], axis=1)
    masks = np.zeros((2, 6), bool)
    found = hardware.derive("conv", masks, inputs, outputs, Calibration(share=0.5))
    choice = hardware.judged(found.chosen(inputs), outputs, 0.5)
    assert choice.recall == 1.0
    assert choice.share <= 0.5
    assert not found.matrix[3].any()
    assert found.matrix[:3, :3].diagonal().all()


def test_always_on_filters() -> None:
    random = np.random.default_rng(4)
    inputs, outputs = random.random((50, 3)), random.random((50, 4)) * [1, 5, 1, 3]
    masks = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    every_class = hardware.derive("conv", masks, inputs, outputs)
    assert every_class.always.tolist() == [True, False, False, False]
    often = hardware.derive("conv", masks, inputs, outputs, Calibration(always=2))
    assert often.always.tolist() == [False, True, False, True]
    assert (often.tau[often.always] == -1).all()
    assert often.chosen(inputs)[:, often.always].all()


def test_evidence_of_classes() -> None:
    """Sources and filters that share class paths vote for each other; evidence of frames is not looked at."""
    before = np.array([[1, 1, 0], [0, 0, 1]], bool)
    masks = np.array([[1, 0, 1], [0, 1, 1]], bool)
    random = np.random.default_rng(5)
    inputs, outputs = random.random((60, 3)), random.random((60, 3))
    chosen = Calibration(share=1 / 3, evidence="classes", voters=(3,))
    found = hardware.derive("conv", masks, inputs, outputs, chosen, before)
    assert found.matrix.tolist() == [[True, False, False], [True, False, False], [False, True, False]]
    with pytest.raises(ValueError, match=r"class paths of its sources are None; accepted .*\(2, 3\)"):
        hardware.derive("conv", masks, inputs, outputs, chosen)


def test_order_puts_together_what_fires_together() -> None:
    groups = np.array([0, 1, 2] * 4)
    fired = np.random.default_rng(6).random((200, 3)) < 0.4
    order = hardware.co_activation_order(fired[:, groups])
    assert sorted(order) == list(range(12))
    assert (np.diff(groups[order]) != 0).sum() == 2
    assert hardware.runs(fired[:, groups], order) == pytest.approx(
        np.diff(np.pad(fired[:, groups][:, order], ((0, 0), (1, 0))).astype(int)).clip(0).sum(axis=1).mean()
    )
    assert hardware.runs(fired[:, groups], order) < hardware.runs(fired[:, groups], np.arange(12))


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_permuting_filters_permutes_what_is_derived(seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs, outputs = random.random((60, 5)), random.random((60, 7))
    masks, order = random.random((3, 7)) < 0.5, random.permutation(7)
    one = hardware.derive("conv", masks, inputs, outputs)
    other = hardware.derive("conv", masks[:, order], inputs, outputs[:, order])
    assert np.array_equal(one.chosen(inputs)[:, order], other.chosen(inputs))
    assert np.array_equal(one.frequency[order], other.frequency)


# -- of a network ------------------------------------------------------------------------------------------------------
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 4, 2),
    )


def test_strengths_are_means_of_what_layers_read() -> None:
    model, x = network().eval(), torch.rand(7, 1, 4, 4)
    found = strengths(model, x, batch=3)
    assert found.layers == ("0", "4", "7")
    assert [found.before(name) for name in found.layers] == [None, "0", "4"]
    with torch.no_grad():
        pooled, last = model[:4](x), model[:6](x)
    assert np.allclose(found.read("4"), pooled.abs().mean(dim=(2, 3)))
    assert np.allclose(found.made("4"), last.abs().mean(dim=(2, 3)))
    assert found.made("0") is found.read("4")
    with pytest.raises(ValueError, match="no layer reads what '7' makes"):
        found.made("7")
    with pytest.raises(ValueError, match="no layer '5'; layers: 0, 4, 7"):
        found.read("5")


def test_branches_are_refused() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 1)
            self.last = nn.Conv2d(5, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.last(torch.cat([self.one(x), self.two(x)], dim=1))
            return answer

    with pytest.raises(ValueError, match="layer 'two' reads 1 channels where the layer before makes 2"):
        strengths(Branches(), torch.zeros(1, 1, 2, 2))


def test_paths_of_a_network() -> None:
    model, x = network().eval(), torch.rand(30, 1, 4, 4)
    path = CriticalPath("by hand", 0.5, ("0", "4"), (np.eye(2, 3, dtype=bool), np.eye(2, 5, dtype=bool)))
    found = hardware.for_hardware(path, strengths(model, x), ["4"], PRINT, Calibration(evidence="classes"))
    assert [paths.name for paths in found.layers] == ["4"]
    assert found.layer("4").matrix.shape == (3, 5)
    with pytest.raises(ValueError, match="no paths of layer '0'; layers: 4"):
        found.layer("0")


# -- the file ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "paths.npz"
    HardwarePaths(PRINT, (layer("conv2"), layer("conv3.inner"))).save(path)
    return path


def test_saved_and_loaded(file: Path) -> None:
    found = HardwarePaths.load(file, PRINT)
    assert [paths.name for paths in found.layers] == ["conv2", "conv3.inner"]
    for field in ("masks", "matrix", "theta", "tau", "always", "order", "frequency"):
        loaded, made = getattr(found.layers[0], field), getattr(layer(), field)
        assert loaded.dtype == made.dtype
        assert np.array_equal(loaded, made)
        assert not loaded.flags.writeable
    written = file.read_bytes()
    found.save(file)
    assert file.read_bytes() == written


def test_paths_of_another_network_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"paths.npz' holds paths of the network 0123456789abcdef\.\.\., not of ffff"):
        HardwarePaths.load(file, "f" * 64)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HardwarePaths.load(tmp_path / "none.npz")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_refused_or_read_as_written(data: st.DataObject) -> None:
    """Cut off or with a byte changed: ValueError that names the file, never anything else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paths.npz"
        HardwarePaths(PRINT, (layer(),)).save(path)
        whole = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            damaged = bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        else:
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
            damaged = bytes(whole)
        path.write_bytes(damaged)
        found, said = None, ""
        try:
            found = HardwarePaths.load(path)
        except ValueError as error:
            said = str(error)
        if found is None:
            assert "paths.npz" in said
        else:  # a byte that nothing reads, such as a date
            assert found.fingerprint == PRINT
            assert np.array_equal(found.layers[0].matrix, layer().matrix)


def rewritten(file: Path, change: Callable[[dict[str, NDArray[np.generic]]], object], pickled: bool = False) -> None:
    with np.load(file) as archive:
        arrays = {key: archive[key] for key in archive.files}
    change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=pickled, **arrays)  # type: ignore[arg-type]
    file.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("format"), "format is missing; accepted: 1"),
        (lambda a: a.update(format=np.array(2)), "format is 2; accepted: 1"),
        (lambda a: a.update(fingerprint=np.array(3)), "fingerprint is int64"),
        (lambda a: a.update(fingerprint=np.array("short")), "fingerprint 'short'; accepted: 64 lower-case"),
        (lambda a: a.pop("layers"), "layers is missing"),
        (lambda a: a.update(layers=np.array(["conv2", "conv2"])), "key 'conv2.masks' is missing"),
        (lambda a: a.pop("conv2.tau"), "key 'conv2.tau' is missing"),
        (lambda a: a.update(more=np.zeros(2)), "key 'more' belongs to none of the layers conv2, conv3.inner"),
        (lambda a: a.update({"conv2.tau": np.zeros(4)}), "layer 'conv2': tau has dtype float64; accepted: integers"),
        (lambda a: a.update({"conv2.tau": np.full(4, 5)}), "tau spans 5 to 5; accepted: -1 to 3"),
        (lambda a: a.update({"conv2.theta": np.array([0, 1, np.nan])}), "theta holds negative, infinite or NaN"),
        (lambda a: a.update({"conv2.theta": -np.ones(3)}), "theta holds negative"),
        (lambda a: a.update({"conv2.matrix": np.zeros((3, 4))}), "matrix has dtype float64; accepted: bool"),
        (lambda a: a.update({"conv2.matrix": np.zeros(3, bool)}), r"matrix \(3,\) with masks \(2, 4\)"),
        (lambda a: a.update({"conv2.always": np.zeros(3, bool)}), r"always \(3,\); accepted: \(4,\)"),
        (lambda a: a.update({"conv2.order": np.array([0, 1, 1, 2])}), "order is no permutation of 0 to 3"),
        (lambda a: a.update({"conv2.frequency": np.full(4, 1.5)}), "frequency leaves 0 to 1"),
        (lambda a: a.update({"conv2.masks": np.zeros((3, 4), bool)}), "different numbers of classes: 'conv2' 3"),
    ],
)
def test_other_contents_are_refused(
    file: Path, change: Callable[[dict[str, NDArray[np.generic]]], object], said: str
) -> None:
    rewritten(file, change)
    with pytest.raises(ValueError, match=f"paths.npz': .*{said}"):
        HardwarePaths.load(file)


def test_pickles_are_refused(file: Path) -> None:
    rewritten(file, lambda arrays: arrays.update({"conv2.tau": np.array([{}] * 4)}), pickled=True)
    with pytest.raises(ValueError, match=r"paths\.npz' is not a file of paths for the hardware: .*pickle"):
        HardwarePaths.load(file)


def test_other_files_are_refused(file: Path) -> None:
    np.save(file.with_suffix(".npy"), np.zeros(3))
    file.with_suffix(".npy").replace(file)
    with pytest.raises(ValueError, match="is not a file of paths"):
        HardwarePaths.load(file)
    file.write_text("nothing of the kind")
    with pytest.raises(ValueError, match="is not a file of paths"):
        HardwarePaths.load(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("format.npy", b"no array")
    with pytest.raises(ValueError, match=r"paths\.npz"):
        HardwarePaths.load(file)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inputs \(3, 2\) with outputs \(4, 5\)"):
        hardware.derive("conv", np.zeros((2, 5), bool), np.zeros((3, 2)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="accepted: equal filters"):
        hardware.derive("conv", np.zeros((2, 6), bool), np.zeros((4, 2)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="share must be above 0"):
        Calibration(share=0)
    with pytest.raises(ValueError, match="voters at least 1"):
        Calibration(voters=(0,))


# -- in a lazy network -------------------------------------------------------------------------------------------------
def lazy_network(share: float = 0.5) -> lazy.Lazy:
    torch.manual_seed(1)
    model, random = network().eval(), np.random.default_rng(1)
    x, y = random.random((60, 1, 4, 4)).astype(np.float32), random.integers(0, 2, 60)
    path = CriticalPath("by hand", share, ("0", "4"), (np.eye(2, 3, dtype=bool), np.eye(2, 5, dtype=bool)))
    return lazy.Lazy(model, ("4",), path, x[:40], x[40:], y[40:], batch=7)


@pytest.mark.parametrize("kind", [Kind.LINEAR, Kind.STATIC, Kind.ORACLE, Kind.RANDOM])
def test_all_filters_compute_the_whole_network(kind: Kind) -> None:
    judge = lazy_network()
    (worth,) = judge.worth([kind], [1.0])
    with torch.no_grad():
        right = judge.model(torch.tensor(judge.x)).argmax(dim=1).numpy() == judge.y
    assert worth.accuracy == judge.dense() == right.mean()
    assert (worth.recall, worth.computed) == (1.0, 1.0)


def test_the_oracle_catches_all_and_a_network_without_the_others_answers_as_it_does() -> None:
    judge = lazy_network()
    (worth,) = judge.worth([Kind.ORACLE], [0.4])  # two of five filters
    assert worth.recall == 1.0
    assert worth.computed == 0.4
    with torch.no_grad():
        maps = judge.model[:6](torch.tensor(judge.x))  # (n, 5, 2, 2)
        strongest = maps.mean(dim=(2, 3)).topk(2, dim=1).indices
        mask = torch.zeros(len(maps), 5).scatter_(1, strongest, 1.0)
        right = judge.model[6:](maps * mask[:, :, None, None]).argmax(dim=1).numpy() == judge.y
    assert worth.accuracy == right.mean()


def test_predictors_are_what_is_handed_to_the_hardware() -> None:
    """With the first lazy layer of a network, nothing lies before it that is lazy."""
    judge = lazy_network()
    seen, test = (strengths(judge.model, torch.tensor(x)) for x in (judge.calibration, judge.x))
    handed = hardware.for_hardware(judge.path, seen, ["4"], PRINT, Calibration(0.4, always=0))
    (worth,) = judge.worth([Kind.BOOLEAN], [0.4])
    expected = hardware.judged(handed.layer("4").chosen(test.read("4")), test.made("4"), 0.4)
    assert worth.recall == pytest.approx(expected.recall)
    assert worth.computed == pytest.approx(expected.share)


def test_lazy_layers_must_be_there() -> None:
    with pytest.raises(ValueError, match="layer '7'"):
        replace(lazy_network(), layers=("7",)).worth([Kind.ORACLE], [0.5])
