from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sw.paths import admm, cut, path, routing, scores
from sw.paths.cut import Responses, Statistic
from sw.paths.path import CriticalPath
from sw.paths.scores import ScoreConfig, Scores
from sw.pruning.forms import weighted
from tests.path_nets import Functional, hand_images, hand_net, small_images, small_net

SMALL = ScoreConfig(4)


def scored(values: list[list[float]]) -> Scores:
    return Scores("test", ("layer",), (np.array(values, np.float64),))


# -- paths -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0, [[0, 0, 1, 0], [1, 0, 0, 0]]), (0.25, [[0, 0, 1, 0], [1, 0, 0, 0]]), (0.5, [[1, 0, 1, 0], [1, 1, 0, 0]]),
     (0.6, [[1, 0, 1, 0], [1, 1, 0, 0]]), (0.625, [[1, 0, 1, 1], [1, 1, 1, 0]]), (1, [[1, 1, 1, 1]] * 2)],
)  # fmt: skip
def test_a_path_keeps_the_best_and_of_equals_the_first(ratio: float, expected: list[list[int]]) -> None:
    found = path.from_scores(scored([[2, 1, 3, 2], [5, 5, 5, 5]]), ratio)
    assert found.masks[0].astype(int).tolist() == expected


def test_iterative_pruning_measures_again() -> None:
    net, images = hand_net(), hand_images()
    paths = list(path.iterative(net, images, ScoreConfig(2), "contribution", 1 / 3, 2))
    assert [round(found.ratio, 3) for found in paths] == [0.577, 0.333]
    assert paths[0].masks[0].tolist() == [[True, True, False]] * 2
    assert paths[1].masks[0].tolist() == [[False, True, False]] * 2
    net, images = small_net(), small_images()
    *_, last = path.iterative(net, images, SMALL, "contribution", 0.25, 4)
    previous = None
    for step, found in enumerate(path.iterative(net, images, SMALL, "contribution", 0.25, 4)):
        masks = None if previous is None else dict(zip(previous.layers, previous.masks, strict=True))
        ranked = scores.measure(net, images, SMALL, ["contribution"], masks)["contribution"]
        for layer, mask in zip(found.layers, found.masks, strict=True):
            assert (mask.sum(axis=1) == round(mask.shape[1] * 0.25 ** ((step + 1) / 4) + 1e-9)).all()
            if previous is not None:
                old, value = previous.of(layer), ranked.of(layer)
                assert not (mask & ~old).any()
                for cls in range(4):
                    lost = old[cls] & ~mask[cls]
                    assert not lost.any() or value[cls][lost].max() <= value[cls][mask[cls]].min()
        previous = found
    assert all(np.array_equal(a, b) for a, b in zip(previous.masks, last.masks, strict=True))


def test_paths_are_saved_with_their_model(tmp_path: Path) -> None:
    net = small_net()
    written = path.from_scores(scores.activation(net, small_images(), SMALL), 0.3)
    path.save(tmp_path / "path.npz", written, net)
    read = path.load(tmp_path / "path.npz", net)
    assert (read.score, read.ratio, read.layers) == ("activation", 0.3, written.layers)
    assert all(np.array_equal(a, b) for a, b in zip(read.masks, written.masks, strict=True))
    with torch.no_grad():
        net.dense2.bias[0] += 1
    with pytest.raises(ValueError, match=r"path\.npz' is a path of the model"):
        path.load(tmp_path / "path.npz", net)
    np.savez(tmp_path / "other.npz", header=np.array(json.dumps({"format": "something"})))
    with pytest.raises(ValueError, match=r"other\.npz' is not a file of a critical path: .*\nformat"):
        path.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("masks")
    with pytest.raises(ValueError, match=r"text\.npz' is not a file of a critical path"):
        path.load(tmp_path / "text.npz")


def test_paths_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="a class without filters"):
        CriticalPath("x", 0.5, ("a",), (np.array([[True, False], [False, False]]),))
    with pytest.raises(ValueError, match=r"layer 'b': \(3, 2\) bool; accepted: bool \(2, filters\)"):
        CriticalPath("x", 0.5, ("a", "b"), (np.ones((2, 2), np.bool_), np.ones((3, 2), np.bool_)))
    with pytest.raises(ValueError, match=r"ratio 1\.5"):
        path.from_scores(scored([[1, 2]]), 1.5)


# -- cut networks ------------------------------------------------------------------------------------------------------
def test_the_path_at_ratio_1_is_the_whole_network() -> None:
    net, images = small_net(), small_images()
    whole = path.from_scores(scores.random(net, images, SMALL), 1)
    found = cut.responses(cut.cut(net, whole, (2, 6, 6), biases=True), images)
    with torch.no_grad():
        expected = net(torch.tensor(images.x).double()).numpy()
    assert all(np.allclose(logits, expected, atol=1e-5) for logits in found.logits)
    bare = cut.responses(cut.cut(net, whole, (2, 6, 6)), images)
    assert np.allclose(bare.logits, expected - net.dense2.bias.detach().numpy(), atol=1e-5)
    small = cut.distilled(net, whole, 0, (2, 6, 6), biases=True)
    assert cut.size(small, (2, 6, 6)) == cut.size(net, (2, 6, 6))


@pytest.mark.parametrize("layers", [None, ["conv2"], ["dense1"], ["conv1", "dense1"]])
@pytest.mark.parametrize("wrap", [lambda net: net, Functional])
def test_a_cut_network_is_the_network_with_activations_off_the_path_at_zero(
    layers: list[str] | None, wrap: Callable[[nn.Sequential], nn.Module]
) -> None:
    net, images = small_net(), small_images()
    model = wrap(net)
    found = scores.activation(model, images, SMALL)
    names = layers and [name if model is net else name.replace("dense1", "second.0") for name in layers]
    critical = path.from_scores(found, 0.4, names)
    logits = cut.responses(cut.cut(model, critical, (2, 6, 6)), images).logits
    for cls in range(4):
        x = torch.tensor(images.x).double()
        masks = {n: torch.tensor(m[cls]).double() for n, m in zip(critical.layers, critical.masks, strict=True)}
        for name, layer in net.named_children():
            x = layer(x)
            owner = {"relu1": "conv1", "relu2": "conv2", "relu3": "dense1" if model is net else "second.0"}.get(name)
            if owner in masks:
                x = x * masks[owner].reshape(1, -1, *[1] * (x.ndim - 2))
        assert np.allclose(logits[cls], (x - net.dense2.bias).detach().numpy(), atol=1e-6)


def test_a_distilled_network_is_smaller_and_says_so() -> None:
    net = small_net()
    critical = CriticalPath("x", 0.5, ("conv2",), (np.arange(8) < np.array([[2], [3], [4], [5]]),))
    for cls, filters in enumerate((2, 3, 4, 5)):
        small = cut.distilled(net, critical, cls, (2, 6, 6))
        assert {name: tuple(layer.weight.shape) for name, layer in weighted(small).items()} == {
            "conv1": (6, 2, 3, 3),
            "conv2": (filters, 6, 3, 3),
            "dense1": (10, 9 * filters),
            "dense2": (4, 10),
        }
        parameters = 108 + 24 + 54 * filters + 4 * filters + 90 * filters + 10 + 40 + 4
        assert cut.size(small, (2, 6, 6)).megabytes == pytest.approx(4e-6 * parameters)
        assert cut.size(small, (2, 6, 6)).macs == 108 * 36 + 54 * filters * 36 + 90 * filters + 40
    assert len(net.conv2.weight) == 8
    with pytest.raises(ValueError, match=r"class 4; accepted: 0 to 3"):
        cut.distilled(net, critical, 4, (2, 6, 6))


def test_a_distilled_network_is_kept_in_a_file(tmp_path: Path) -> None:
    net, images = small_net(), small_images()
    critical = path.from_scores(scores.activation(net, images, SMALL), 0.4, ["conv2", "dense1"])
    small = cut.distilled(net, critical, 3, (2, 6, 6))
    cut.save(tmp_path / "3.npz", small, critical, 3, net)
    read = cut.load(tmp_path / "3.npz", net)
    x = torch.tensor(images.x)
    assert torch.equal(read(x), small(x))
    assert str(read) == str(small)
    assert cut.size(read, (2, 6, 6)) == cut.size(small, (2, 6, 6))
    with torch.no_grad():
        net.dense2.bias[0] += 1
    with pytest.raises(ValueError, match=r"3\.npz' was cut from the model"):
        cut.load(tmp_path / "3.npz", net)
    path.save(tmp_path / "path.npz", critical, net)
    with pytest.raises(ValueError, match=r"path\.npz' is not a file of a class's network: .*\nformat"):
        cut.load(tmp_path / "path.npz", net)


def test_paths_of_other_networks_are_refused() -> None:
    net, images = small_net(), small_images()
    alien = CriticalPath("x", 0.5, ("conv9",), (np.ones((4, 8), np.bool_),))
    with pytest.raises(ValueError, match=r"conv9"):
        cut.cut(net, alien, (2, 6, 6))
    with pytest.raises(ValueError, match=r"conv9"):
        cut.responses(cut.cut(Functional(net), alien, (2, 6, 6)), images)
    narrow = CriticalPath("x", 0.5, ("conv2",), (np.ones((4, 7), np.bool_),))
    with pytest.raises(ValueError, match=r"'conv2' has 7 filters; accepted: 8"):
        cut.cut(net, narrow, (2, 6, 6))


def test_compensation_gives_back_what_the_kept_filters_can_express() -> None:
    net, images = small_net().float(), small_images(number=120)
    with torch.no_grad():  # filters 4 to 7 are twice filters 0 to 3
        net.conv2.weight[4:] = 2 * net.conv2.weight[:4]
        net.norm2.running_mean[4:] = 2 * net.norm2.running_mean[:4]
        net.norm2.running_var[4:] = 4 * net.norm2.running_var[:4] + 3 * net.norm2.eps
        net.norm2.weight[4:], net.norm2.bias[4:] = net.norm2.weight[:4].clone(), net.norm2.bias[:4].clone()
    half = CriticalPath("x", 0.5, ("conv2",), (np.tile(np.arange(8) < 4, (4, 1)),))
    whole = net(torch.tensor(images.x)).detach().numpy()

    def error(networks: cut.Cut) -> float:
        return float(np.abs(cut.responses(networks, images).logits - whole).max() / np.abs(whole).max())

    fit = cut.fitting(net, half.layers, small_images(2, number=400))
    fitted = cut.cut(net, half, (2, 6, 6), fit=fit)
    assert cut.size(fitted.networks[0], (8, 3, 3)) == cut.size(cut.cut(net, half, (2, 6, 6)).networks[0], (8, 3, 3))
    assert error(fitted) < 0.1
    assert error(cut.cut(net, half, (2, 6, 6), biases=True)) > 0.2
    for attempt in (
        lambda: cut.fitting(Functional(net), half.layers, images),
        lambda: cut.cut(Functional(net), half, (2, 6, 6), fit=fit),
    ):
        with pytest.raises(ValueError, match=r"cannot fit the weights of Functional"):
            attempt()


def test_what_all_classes_share_runs_once() -> None:
    net, images = small_net(), small_images()
    critical = path.from_scores(scores.activation(net, images, SMALL), 0.4, ["conv2", "dense1"])
    found = cut.cut(net, critical, (2, 6, 6))
    head, tail = cut.shared(net, critical.layers)
    x = torch.tensor(images.x).double()
    assert torch.equal(found.head(x), head(x))
    assert torch.equal(tail(head(x)), net(x))
    assert [name for name, _ in found.networks[0].named_children()][:2] == ["picked", "flatten"]
    assert list(weighted(found.networks[0])) == ["dense1", "dense2"]
    own = cut.responses(found, images, own=True)
    for cls, logits in enumerate(cut.responses(found, images).logits):
        assert np.allclose(own.logits[cls][images.y == cls], logits[images.y == cls])
        assert np.isnan(own.logits[cls][images.y != cls]).all()


# -- decisions ---------------------------------------------------------------------------------------------------------
LOGITS = np.array([[3.0, 1, 0], [1, 2, 0], [0, 0, 5], [2, 1, 1]])


def test_statistics_known_by_hand() -> None:
    assert cut.statistic(LOGITS, 0, Statistic.LOGIT).tolist() == [3, 1, 0, 2]
    assert cut.statistic(LOGITS, 0, Statistic.MARGIN).tolist() == [2, -1, -5, 1]
    odds = cut.statistic(LOGITS, 0, Statistic.ODDS)
    softmax = torch.tensor(LOGITS).softmax(dim=1)[:, 0].numpy()
    assert np.allclose(odds, np.log(softmax / (1 - softmax)))
    assert cut.statistic(np.array([[1.0, 0, -1], [2, 2, 2]]), 0, Statistic.STANDARD).tolist() == [np.sqrt(1.5), 0]


def test_one_vs_all_known_by_hand() -> None:
    found = Responses(np.stack([LOGITS, LOGITS, LOGITS]), np.array([0, 1, 2, 1]))
    result = cut.one_vs_all(found, cut.as_published(3))
    assert result.tp.tolist() == [1, 0.5, 1]
    assert result.fp.tolist() == [1 / 3, 0, 0]
    assert result.precision.tolist() == [0.5, 1, 1]
    assert result.recall is result.tp


def test_calibration_accepts_the_share_that_was_asked_for() -> None:
    logits = np.zeros((2, 20, 2))
    logits[0, :10, 0], logits[0, 10:, 0] = np.arange(10), np.arange(10) - 6
    logits[1, 10:, 1] = 1
    found = Responses(logits, np.repeat([0, 1], 10))
    rule = cut.calibrated(found, Statistic.LOGIT, 0.8)
    assert rule.thresholds.tolist() == [2, 1]
    result = cut.one_vs_all(found, rule)
    assert result.tp.tolist() == [0.8, 1]
    assert result.fp.tolist() == [0.2, 0]
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share of true positives"):
            cut.calibrated(found, Statistic.LOGIT, share)


def test_balanced_thresholds_give_up_what_is_hard_to_tell() -> None:
    labels = np.repeat([0, 1], 10)
    logits = np.zeros((2, 20, 2))
    logits[0, :10, 0], logits[0, 10:, 0] = np.arange(10) + 10, np.arange(10)  # class 0 is apart from the others
    logits[1, 10:, 1], logits[1, :10, 1] = np.arange(10), np.array([0.5] * 5 + [-1] * 5)  # half are above 0 of class 1
    found = Responses(logits, labels)
    rule = cut.balanced(found, found, Statistic.LOGIT, 0.95)
    assert rule.thresholds.tolist() == [10, 1]
    result = cut.one_vs_all(found, rule)
    assert result.tp.tolist() == [1, 0.9]
    assert result.fp.tolist() == [0, 0]
    each = cut.one_vs_all(found, cut.calibrated(found, Statistic.LOGIT, 0.95))
    assert each.tp.tolist() == [1, 1]
    assert each.fp.tolist() == [0, 0.5]
    assert cut.one_vs_all(found, cut.balanced(found, found, Statistic.LOGIT, 1)).tp.tolist() == [1, 1]
    with pytest.raises(ValueError, match="share of true positives"):
        cut.balanced(found, found, Statistic.LOGIT, 0)


def test_the_selected_statistic_has_the_fewest_false_positives() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 50)
    logits = rng.normal(size=(2, 100, 2)) + 10 * rng.normal(size=(2, 100, 1))  # what is common to both logits misleads
    for cls in range(2):
        logits[cls, labels == cls, cls] += 3
    found = Responses(logits, labels)
    rule = cut.selected(found, 0.9)
    fp = {kind: cut.one_vs_all(found, cut.calibrated(found, kind, 0.9)).fp.mean() for kind in Statistic}
    assert fp[rule.kind] == min(fp.values())
    assert rule.kind is not Statistic.LOGIT
    own = np.where((labels == np.arange(2)[:, None])[:, :, None], logits, np.nan)
    assert cut.selected(Responses(own, labels), 0.9, found).kind is rule.kind


def test_a_curve_has_a_point_for_each_path() -> None:
    net, images = small_net(), small_images(number=40)
    found = scores.contribution(net, images, SMALL)
    paths = [path.from_scores(found, ratio) for ratio in (0.25, 0.5, 1)]
    points = list(cut.curve(net, paths, (2, 6, 6), small_images(2), images, 0.9))
    assert [point.ratio for point in points] == [0.25, 0.5, 1]
    full = cut.one_vs_all(cut.responses(cut.cut(net, paths[-1], (2, 6, 6)), small_images(2)), cut.as_published(4))
    assert np.array_equal(points[-1].published.tp, full.tp)


# -- routing -----------------------------------------------------------------------------------------------------------
def test_gates_shrink_where_nothing_depends_on_them() -> None:
    net, images = small_net(), small_images(number=8)
    with torch.no_grad():
        net.dense1.weight.reshape(10, 8, 9)[:, 3] = 0
    x = torch.tensor(images.x)
    settings = routing.RoutingConfig(steps=30, rate=0.1, sparsity=0.05)
    found = routing.gates(net, x, SMALL, settings)
    assert {name: tuple(gate.shape) for name, gate in found.items()} == {
        "conv1": (8, 6), "conv2": (8, 8), "dense1": (8, 10)
    }  # fmt: skip
    assert all((gate >= 0).all() for gate in found.values())
    kept = (found["conv2"] < 1).any(dim=1)
    assert (found["conv2"][kept, 3] <= found["conv2"][kept].min(dim=1).values + 1e-12).all()


def test_gates_keep_the_predicted_class() -> None:
    from sw.paths.watch import kept, watched

    net, images = small_net(), small_images(number=12)
    x = torch.tensor(images.x).double()
    found = routing.gates(net, x, SMALL, routing.RoutingConfig(steps=40, sparsity=0.5))
    with watched(net, kept(found)):
        gated = net(x)
    assert torch.equal(gated.argmax(dim=1), net(x).argmax(dim=1))
    assert any((gate < 1).any() for gate in found.values())


def test_frames_do_not_see_each_other() -> None:
    net, images = small_net(), small_images(number=6)
    x = torch.tensor(images.x)
    together = routing.gates(net, x, SMALL, routing.RoutingConfig(steps=5))
    alone = routing.gates(net, x[2:3], SMALL, routing.RoutingConfig(steps=5))
    assert all(torch.allclose(together[name][2:3], gate) for name, gate in alone.items())
    few = routing.gates(net, x, ScoreConfig(4, ("dense1",)), routing.RoutingConfig(steps=5))
    assert list(few) == ["dense1"]


def test_routing_scores_are_mean_gates() -> None:
    net, images = small_net(), small_images(number=9)
    settings = routing.RoutingConfig(steps=5)
    found = routing.routing(net, images, SMALL, settings)
    gates = routing.gates(net, torch.tensor(images.x), SMALL, settings)
    for layer, gate in gates.items():
        expected = [gate[torch.tensor(images.y == cls)].mean(dim=0).numpy() for cls in range(4)]
        assert np.allclose(found.of(layer), expected)


# -- ADMM --------------------------------------------------------------------------------------------------------------
def test_projection_known_by_hand() -> None:
    weight = torch.tensor([[3.0, 0.1, 0], [2, 2, 2], [0, 0, -5]])
    assert admm.projected(weight, 9, 2).int().tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert admm.projected(weight, 3, 2).int().tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert admm.projected(weight, 2, 3).int().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert admm.projected(weight, 9, 3).all()


def test_two_outputs_start_as_the_class_against_the_mean_of_the_rest() -> None:
    net = small_net()
    x = torch.tensor(small_images().x).double()
    two = admm.two_way(net, 2)
    logits = net(x)
    assert torch.allclose(two(x)[:, 1], logits[:, 2])
    assert torch.allclose(two(x)[:, 0], logits[:, [0, 1, 3]].mean(dim=1))
    assert net.dense2.out_features == 4
    with pytest.raises(ValueError, match=r"'dense2' has no class 4"):
        admm.two_way(net, 4)


def test_admm_holds_its_bounds_and_learns() -> None:
    net = small_net().float()
    images = small_images(number=120, classes=2)
    y = torch.tensor(images.y)
    x = torch.tensor(images.x) + 0.3 * y[:, None, None, None]
    config = admm.AdmmConfig(weights=0.7, filters=0.5, epochs=15, head_epochs=20, rate=3e-3, head_rate=1e-2, batch=10)
    untouched = net.conv1.weight.detach().clone()
    found = admm.distil(net, x, y, 1, config)
    assert torch.equal(net.conv1.weight, untouched)
    for name, filters, weights in (("conv1", 3, 32), ("conv2", 4, 130), ("dense1", 5, 216)):
        weight = found.after.get_submodule(name).weight
        assert int((weight != 0).sum()) <= weights
        assert int((weight != 0).flatten(1).any(dim=1).sum()) <= filters
    gone = admm.sparsity(net, found.after, (2, 6, 6))
    assert gone.weights >= 0.7 and gone.filters >= 0.5  # noqa: PT018
    assert admm.accuracy(found.after, x, y == 1) > 0.85
    again = admm.distil(net, x, y, 1, config)
    assert all(torch.equal(a, b) for a, b in zip(found.after.parameters(), again.after.parameters(), strict=True))


def test_admm_leaves_other_layers_alone() -> None:
    net = small_net().float()
    images = small_images(number=60, classes=2)
    x, positive = torch.tensor(images.x), torch.tensor(images.y == 1)
    two = admm.two_way(net, 1)
    config = admm.AdmmConfig(weights=0.5, filters=0.4, epochs=1, head_epochs=1, layers=("dense1",))
    masks = admm.compress(two, x, positive.float() * 0.9, config)
    assert list(masks) == ["dense1"]
    assert torch.equal(two.conv2.weight, net.conv2.weight)
    assert torch.equal(two.norm2.bias, net.norm2.bias)
    assert int((two.dense1.weight != 0).flatten(1).any(dim=1).sum()) == 6
    assert int((two.dense1.weight != 0).sum()) == 360
    with pytest.raises(ValueError, match=r"'dense2',\).*accepted: some of conv1, conv2, dense1"):
        admm.compress(two, x, positive, admm.AdmmConfig(0.5, 0.5, layers=("dense2",)))


def test_sparsity_counts_what_makes_no_difference() -> None:
    net, left = hand_net(), hand_net()
    assert admm.sparsity(net, left, (1, 1, 2)) == admm.Sparsity(0, 0)
    with torch.no_grad():
        left.conv.weight[0] = 0
        left.dense.weight.reshape(2, 3, 2)[:, 1] = 0
    assert admm.sparsity(net, left, (1, 1, 2)) == admm.Sparsity(pytest.approx(2 / 3), pytest.approx(2 / 3))
