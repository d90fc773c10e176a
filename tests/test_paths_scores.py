from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.paths import scores
from sw.paths.scores import STREAMED, Images, ScoreConfig, Scores, observed_layers
from sw.paths.watch import activations, kept, split, watched
from tests.path_nets import Functional, hand_images, hand_net, order, small_images, small_net

EVERY = [*STREAMED, "apoz"]
HAND = ScoreConfig(2)
SMALL = ScoreConfig(4)


def close(one: Scores, other: Scores, tolerance: float = 1e-9) -> bool:
    same = zip(one.values, other.values, strict=True)
    return len(one.layers) == len(other.layers) and all(np.allclose(a, b, rtol=tolerance, atol=1e-12) for a, b in same)


# -- answers known by hand ---------------------------------------------------------------------------------------------
def test_scores_known_by_hand() -> None:
    found = scores.measure(hand_net(), hand_images(), HAND, EVERY)
    # activations: frame 0 (1, 3), (2, 6), (0, 0); frame 1 (2, 0), (4, 0), 0; frame 2 (4, 4), (8, 8), 0
    assert found["activation"].values[0].tolist() == [[2, 4, 0], [2.5, 5, 0]]
    # class 0: |1*1 + 3*2|, |2*3 - 6*3|; class 1: mean of |-2|, |-4 + 2| and of |8|, |32|
    assert found["contribution"].values[0].tolist() == [[7, 12, 0], [2, 20, 0]]
    assert found["product"].values[0].tolist() == [[14, 48, 0], [5, 100, 0]]
    assert found["coefficient"].values[0].tolist() == [[1.5, 3, 5], [0.75, 2, 7]]
    assert found["positives"].values[0].tolist() == [[1, 1, 0], [0.75, 0.75, 0]]
    assert found["apoz"].values[0].tolist() == [[0, 0, 1], [0.25, 0.25, 1]]
    assert found["selectivity"].values[0][:, 0].tolist() == pytest.approx([-0.5 / 4.5, 0.5 / 4.5])
    assert found["selectivity"].values[0][:, 2].tolist() == [0, 0]


def test_the_loss_is_the_cross_entropy() -> None:
    net, images = hand_net(), hand_images()
    expected = np.zeros((2, 3))
    for x, y in zip(torch.tensor(images.x).double(), torch.tensor(images.y), strict=True):
        a = net.relu(net.conv(x[None])).detach().requires_grad_()
        functional.cross_entropy(net.dense(a.flatten(1)), y[None]).backward()
        expected[y] += (a * a.grad).sum(dim=(0, 2, 3)).abs().detach().numpy() / (1 if y == 0 else 2)
    found = scores.contribution(net, images, HAND, "loss").values[0]
    assert np.allclose(found, expected, rtol=1e-12)


def test_ablation_equals_contribution_where_the_rest_is_linear() -> None:
    found = scores.ablation(hand_net(), hand_images(), HAND)
    assert found.values[0].tolist() == [[7, 12, 0], [2, 20, 0]]
    net = small_net()
    last = ScoreConfig(4, ("dense1",))
    ablation = scores.ablation(net, small_images(), last)
    assert close(ablation, scores.contribution(net, small_images(), last))


def test_ablation_is_what_the_network_loses() -> None:
    net, images = small_net(), small_images()
    found = scores.ablation(net, images, SMALL, together=3)
    x, y = torch.tensor(images.x).double(), torch.tensor(images.y)
    with torch.no_grad():
        full = net(x).gather(1, y[:, None])
        mask = torch.ones(8).double()
        mask[5] = 0
        with watched(net, kept({"conv2": mask})):
            effect = (full - net(x).gather(1, y[:, None])).abs().flatten()
    assert np.allclose(found.of("conv2")[:, 5], [effect[y == c].mean() for c in range(4)])
    assert close(found, scores.ablation(Functional(net), images, SMALL))


# -- properties --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 5, 23, 100])
def test_batches_of_any_size_give_equal_scores(batch: int) -> None:
    net, images = small_net(), small_images()
    whole = scores.measure(net, images, SMALL, EVERY)
    found = scores.measure(net, Images(images.x, images.y, batch), SMALL, EVERY)
    assert all(close(whole[name], found[name]) for name in EVERY)


def test_the_order_of_frames_does_not_matter() -> None:
    net, images = small_net(), small_images()
    mixed = order(len(images.x), 3)
    found = scores.measure(net, Images(images.x[mixed], images.y[mixed], 4), SMALL, EVERY)
    whole = scores.measure(net, images, SMALL, EVERY)
    assert all(close(whole[name], found[name]) for name in EVERY)


def test_permuting_filters_permutes_scores() -> None:
    net = small_net()
    moved, new = copy.deepcopy(net), torch.tensor(order(8, 2))
    with torch.no_grad():
        moved.conv2.weight.copy_(net.conv2.weight[new])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(moved.norm2, name).copy_(getattr(net.norm2, name)[new])
        moved.dense1.weight.copy_(net.dense1.weight.reshape(10, 8, 9)[:, new].flatten(1))
    before = scores.measure(net, small_images(), SMALL, EVERY) | {"a": scores.ablation(net, small_images(), SMALL)}
    after = scores.measure(moved, small_images(), SMALL, EVERY) | {"a": scores.ablation(moved, small_images(), SMALL)}
    for name in before:
        if name != "random":
            assert np.allclose(before[name].of("conv2")[:, new.numpy()], after[name].of("conv2")), name
            assert np.allclose(before[name].of("conv1"), after[name].of("conv1")), name
            assert np.allclose(before[name].of("dense1"), after[name].of("dense1")), name


def test_a_dead_filter_scores_zero() -> None:
    net = small_net()
    with torch.no_grad():
        net.norm2.weight[3] = 0
        net.norm2.bias[3] = -1
    found = scores.measure(net, small_images(), SMALL, EVERY) | {"a": scores.ablation(net, small_images(), SMALL)}
    for name, score in found.items():
        if name not in ("random", "coefficient", "apoz"):
            assert (score.of("conv2")[:, 3] == 0).all(), name
    assert (found["apoz"].of("conv2")[:, 3] == 1).all()


def test_masks_cut_every_frame_to_its_class() -> None:
    net, images = small_net(), small_images()
    masks = np.random.default_rng(4).random((4, 8)) < 0.5
    found = scores.measure(net, images, SMALL, ["contribution"], {"conv2": masks})["contribution"]
    assert (found.of("conv2")[~masks] == 0).all()
    for cls in range(4):
        own = copy.deepcopy(net)
        with torch.no_grad():
            off = torch.tensor(~masks[cls])
            own.norm2.weight[off] = 0
            own.norm2.bias[off] = 0
        expected = scores.contribution(own, images, SMALL)
        assert np.allclose(found.of("dense1")[cls], expected.of("dense1")[cls])


def test_the_model_stays_as_it_is() -> None:
    net = small_net().train()
    net.dense2.bias.requires_grad_(False)
    state = copy.deepcopy(net.state_dict())
    scores.all_scores(net, small_images(), SMALL)
    scores.ablation(net, small_images(), SMALL)
    assert net.training
    assert net.norm1.training
    assert not net.dense2.bias.requires_grad
    assert net.dense2.weight.requires_grad
    assert net.dense2.weight.grad is None
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_bfloat16_ranks_as_float32() -> None:
    net, images = small_net().float(), small_images(number=200)
    exact = scores.all_scores(net, images, SMALL)
    narrow = scores.all_scores(net, images, ScoreConfig(4, precision="bfloat16"))
    for name in STREAMED:
        for a, b in zip(exact[name].values, narrow[name].values, strict=True):
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99, name


# -- any network -------------------------------------------------------------------------------------------------------
def test_any_module_gives_the_scores_of_its_sequential_twin() -> None:
    net = small_net()
    whole = scores.measure(net, small_images(), SMALL, EVERY)
    found = scores.measure(Functional(net), small_images(), SMALL, EVERY)
    for name in EVERY:
        if name != "random":
            assert found[name].layers == ("conv1", "conv2", "second.0")
            assert all(np.array_equal(a, b) for a, b in zip(whole[name].values, found[name].values, strict=True)), name


def test_observed_layers() -> None:
    net = small_net()
    x = torch.zeros(1, 2, 6, 6).double()
    assert observed_layers(net) == observed_layers(net, x) == ("conv1", "conv2", "dense1")
    assert observed_layers(Functional(net), x) == ("conv1", "conv2", "second.0")
    with pytest.raises(ValueError, match="followed by a ReLU"):
        observed_layers(nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.ReLU()))


def test_an_activation_is_that_after_normalisation_and_relu() -> None:
    net = small_net()
    x = torch.tensor(small_images().x).double()
    found = activations(net, x, ["conv2"])
    assert list(found) == ["conv2"]
    assert torch.equal(found["conv2"], net[:6](x))


def test_split() -> None:
    net, x = small_net(), torch.tensor(small_images().x).double()
    head, tail = split(net, ["dense1", "conv2"])
    assert len(head) == 3
    assert torch.equal(tail(head(x)), net(x))
    head, tail = split(Functional(net), ["conv2"])
    assert isinstance(head, nn.Identity)
    assert torch.equal(tail(x), net(x))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 1), nn.Linear(72, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.conv(functional.relu(self.conv(x)))).flatten(1))


def test_errors_say_what_is_accepted() -> None:
    net, images = small_net(), small_images()
    with pytest.raises(ValueError, match=r"layer 'conv'.* twice"):
        scores.all_scores(Twice(), images, SMALL)
    with pytest.raises(ValueError, match=r"'dense2'.*accepted: conv1, conv2, dense1"):
        scores.all_scores(net, images, ScoreConfig(4, ("dense2",)))
    with pytest.raises(ValueError, match=r"unknown score 'worth'; accepted: activation"):
        scores.measure(net, images, SMALL, ["worth"])
    with pytest.raises(ValueError, match=r"labels 0 to 3; accepted: 0 to 2"):
        scores.all_scores(net, images, ScoreConfig(3))
    with pytest.raises(ValueError, match=r"no frame of class 4"):
        scores.all_scores(net, images, ScoreConfig(5))


def test_memory_does_not_grow_with_the_data() -> None:
    alive = []

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        import weakref

        for x, y in small_images(number=60, batch=4):
            alive.append(weakref.ref(x))
            assert sum(ref() is not None for ref in alive) <= 3
            yield x, y

    scores.all_scores(small_net(), stream(), SMALL)


# -- Captum ------------------------------------------------------------------------------------------------------------
def test_captum_agrees() -> None:
    attr = pytest.importorskip("captum.attr")
    net, images = small_net(), small_images()
    found = scores.all_scores(net, images, SMALL)
    relus = {"conv1": net.relu1, "conv2": net.relu2, "dense1": net.relu3}
    x, y = torch.tensor(images.x).double(), torch.tensor(images.y)
    for layer, relu in relus.items():
        taylor = attr.LayerGradientXActivation(net, relu)
        loss = attr.LayerGradientXActivation(lambda z, t: functional.cross_entropy(net(z), t, reduction="none"), relu)
        seen = attr.LayerActivation(net, relu)
        for cls in range(4):
            own = x[y == cls]
            of_logit = taylor.attribute(own, target=cls).reshape(len(own), len(found["random"].of(layer)[0]), -1)
            of_loss = loss.attribute(own, additional_forward_args=y[y == cls]).reshape(of_logit.shape)
            values = seen.attribute(own).reshape(of_logit.shape)
            for name, expected in (
                ("contribution", of_logit.sum(dim=2).abs()),
                ("contribution_loss", of_loss.sum(dim=2).abs()),
                ("activation", values.abs().mean(dim=2)),
            ):
                assert np.allclose(found[name].of(layer)[cls], expected.mean(dim=0).detach().numpy(), rtol=1e-6), name
