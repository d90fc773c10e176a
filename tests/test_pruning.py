"""Pruning: criteria against brute force, masks and the smaller network they leave, schedules."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from quant import train as quant_train
from quant.layers import quantised
from sw import data, models, train
from sw.pruning import criteria, forms, masks, schedules, scores
from sw.pruning.masks import Unit

FRAME = (1, 8, 8)
X = torch.rand(24, *FRAME, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 10


def digits_cnn(seed: int = 0) -> nn.Sequential:
    return models.build("digits_cnn", FRAME, 10, seed).eval()


def normed(seed: int = 0) -> nn.Sequential:
    """Two normalised convolutions, the second with stride and padding, and two dense layers."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 6, 3, bias=False),
            norm1=nn.BatchNorm2d(6),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 5, 3, stride=2, padding=1),
            norm2=nn.BatchNorm2d(5),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            dense1=nn.Linear(5 * 9, 7),
            relu3=nn.ReLU(),
            dense2=nn.Linear(7, 10),
        )
    )
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight, layer.bias, layer.running_mean):
                assert value is not None
                nn.init.uniform_(value, -1, 1)
    return model.eval()


def random_masks(model: nn.Sequential, seed: int, keep: float) -> masks.Masks:
    """Rows and columns and single weights at random; every layer keeps some of each."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, form in forms.forms(model, FRAME).items():
        filters, channels, height, width = form.shape
        rows = torch.rand(filters, 1, 1, 1, generator=generator) < keep
        columns = torch.rand(1, channels, height, width, generator=generator) < keep
        rows[0], columns[0, 0] = True, True
        found[name] = rows & columns & (torch.rand(form.shape, generator=generator) < 0.9)
        found[name][0] |= columns[0]
    return found


# -- second derivatives, against brute force ---------------------------------------------------------------------------
def toy() -> tuple[Tensor, Tensor, Tensor]:
    """Weights (6,) of a small network at its trained minimum, the Hessian of its loss there, and that loss' inputs."""
    torch.manual_seed(3)
    inputs = torch.randn(40, 3, dtype=torch.double)
    targets = (inputs @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)).tanh()[:, None]
    weights = torch.randn(8, dtype=torch.double)

    def loss(w: Tensor) -> Tensor:
        hidden = (inputs @ w[:6].reshape(3, 2)).tanh()
        return ((hidden @ w[6:].reshape(2, 1) - targets - 0.3) ** 2).mean()

    optimiser = torch.optim.LBFGS([weights.requires_grad_()], max_iter=500, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(weights)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    minimum = weights.detach()
    hessian = torch.autograd.functional.hessian(loss, minimum)  # type: ignore[no-untyped-call]
    return minimum, hessian + 1e-3 * torch.eye(8, dtype=torch.double), inputs


def best_without(weights: Tensor, hessian: Tensor, gone: list[int]) -> tuple[float, Tensor]:
    """Smallest rise of the quadratic form when the weights `gone` become zero, by solving for all the others."""
    rest = [index for index in range(len(weights)) if index not in gone]
    change = torch.zeros_like(weights)
    change[gone] = -weights[gone]
    change[rest] = torch.linalg.solve(hessian[rest][:, rest], -hessian[rest][:, gone] @ change[gone])
    return float(change @ hessian @ change / 2), weights + change


def test_obs_is_the_best_removal_of_each_weight() -> None:
    weights, hessian, _ = toy()
    inverse = torch.linalg.inv(hessian)
    saliency = criteria.obs(weights, inverse)
    for index in range(len(weights)):
        rise, expected = best_without(weights, hessian, [index])
        assert float(saliency[index]) == pytest.approx(rise, rel=1e-6)
        torch.testing.assert_close(criteria.obs_update(weights, inverse, index), expected, rtol=1e-6, atol=1e-9)
        reduced = criteria.without(inverse, index)
        rest = [other for other in range(len(weights)) if other != index]
        torch.testing.assert_close(
            reduced[rest][:, rest], torch.linalg.inv(hessian[rest][:, rest]), rtol=1e-6, atol=1e-6
        )
        assert not reduced[index].any()


def test_obs_removes_one_by_one_and_updates_the_rest() -> None:
    weights, hessian, _ = toy()
    left, kept = criteria.obs_prune(weights, hessian, 3)
    gone = (~kept).nonzero().flatten().tolist()
    assert len(gone) == 3
    assert not left[gone].any()
    _, expected = best_without(weights, hessian, gone)
    torch.testing.assert_close(left, expected, rtol=1e-2, atol=1e-3)  # obs_prune damps the Hessian a little


def test_obs_of_columns_sums_over_rows() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(7, 50, dtype=torch.double)
    inputs[3] = inputs[1] + 1e-3 * inputs[3]  # a column that another one can stand for
    matrix = torch.randn(4, 7, dtype=torch.double)
    left, kept = criteria.obs_columns(matrix, 2 * inputs @ inputs.T, 1)
    assert (~kept).nonzero().flatten().tolist() in ([1], [3])
    assert float((left @ inputs - matrix @ inputs).norm() / (matrix @ inputs).norm()) < 1e-3
    with pytest.raises(ValueError, match="7 of 7 columns"):
        criteria.obs_columns(matrix, inputs @ inputs.T, 7)


def test_obd_is_the_rise_without_interaction() -> None:
    weights, hessian, _ = toy()
    saliency = criteria.obd(weights, hessian.diagonal())
    for index in range(len(weights)):
        change = torch.zeros_like(weights)
        change[index] = -weights[index]
        assert float(saliency[index]) == pytest.approx(float(change @ hessian @ change / 2))


def test_the_fisher_diagonal_is_the_mean_of_squared_gradients() -> None:
    model = normed()
    found = scores.fisher_diagonal(model, X[:5], Y[:5])
    for name, layer in forms.weighted(model).items():
        total = torch.zeros_like(layer.weight)
        for frame, label in zip(X[:5], Y[:5], strict=True):
            loss = functional.cross_entropy(model(frame[None]), label[None])
            total += torch.autograd.grad(loss, layer.weight)[0] ** 2 / 5
        torch.testing.assert_close(found[name], total, rtol=1e-4, atol=1e-8)


# -- the other criteria ------------------------------------------------------------------------------------------------
def test_criteria_of_activations() -> None:
    maps = torch.tensor([[[[1.0, 0.0]], [[-2.0, 2.0]]], [[[0.0, 0.0]], [[4.0, 0.0]]]])  # (2, 2, 1, 2)
    assert criteria.apoz(maps).tolist() == [0.25, 0.5]
    assert criteria.mean_activation(maps).tolist() == [0.25, 2.0]
    gradients = torch.ones_like(maps)
    assert criteria.taylor(maps, gradients).tolist() == [0.25, 1.0]
    torch.testing.assert_close(
        criteria.output_variance(maps), torch.tensor([0.25, (16 - 2 * 4 * 8**0.5 + 8) / 4], dtype=torch.double)
    )
    assert criteria.normalised(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])
    assert criteria.normalised(torch.zeros(2)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="order 3; accepted: 1 or 2"):
        criteria.magnitude(maps, 3)


def test_inbound_scores_follow_what_a_channel_adds() -> None:
    model = digits_cnn()
    found = scores.by_inbound(X)(model)["conv2"]
    before = nn.Sequential(*list(model)[:3])(X)
    conv2 = model.get_submodule("conv2")
    for f, c in ((0, 0), (5, 3), (31, 15)):
        added = functional.conv2d(before[:, c : c + 1], conv2.weight[f : f + 1, c : c + 1], padding=1)  # type: ignore[index]
        variance = added.detach().double().flatten(1).norm(dim=1).var(unbiased=False)
        assert float(found[f, c, 0, 0]) == pytest.approx(float(variance), rel=1e-4)


def test_reuse_gives_removed_channels_back() -> None:
    torch.manual_seed(0)
    base = torch.randn(200, 3, dtype=torch.double)
    values = torch.cat([base, base @ torch.randn(3, 2, dtype=torch.double)], dim=1)
    kept = torch.tensor([True, True, True, False, False])
    combination = criteria.reuse(values, kept)
    torch.testing.assert_close(values[:, kept] @ combination.combine.T, values, rtol=1e-2, atol=1e-3)
    weight = torch.randn(2, 5, 1, 1, dtype=torch.double)
    folded = criteria.folded(weight, combination)
    assert not folded[:, 3:].any()
    maps = values[:, :, None, None]
    torch.testing.assert_close(functional.conv2d(maps, folded), functional.conv2d(maps, weight), rtol=1e-2, atol=1e-2)


SCORERS = {
    "L1": scores.by_magnitude(FRAME),
    "L2": scores.by_magnitude(FRAME, 2),
    "random": scores.by_chance(FRAME, 1),
    "OBD": scores.by_obd(X, Y),
    "OBS": scores.by_obs(X),
    "Taylor": scores.by_taylor(X, Y),
    "APoZ": scores.by_apoz(X),
    "activation": scores.by_activation(X),
    "variance": scores.by_variance(X),
    "inbound": scores.by_inbound(X),
}


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_scores_every_filter(name: str) -> None:
    model = normed()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = SCORERS[name](model)
    shapes = forms.forms(model, FRAME)
    assert set(shapes) - {"dense2"} <= set(found)
    for layer, values in found.items():
        assert values.isfinite().all()
        assert (values >= 0).all()
        expected = (len(values), 1, 1, 1)
        assert masks.summed(values, Unit.FILTER).shape == expected
        torch.broadcast_shapes(values.shape, shapes[layer].shape)
        assert values.max() > values.min()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(values, found[layer]) for layer, values in SCORERS[name](model).items())


# -- choosing ----------------------------------------------------------------------------------------------------------
@given(ratio=st.floats(0, 1), seed=st.integers(0, 99), unit=st.sampled_from(Unit), across=st.booleans())
@settings(max_examples=60, deadline=None)
def test_chosen_units_are_whole_and_as_many_as_asked(ratio: float, seed: int, unit: Unit, across: bool) -> None:
    model = normed()
    full = masks.everything(forms.forms(model, FRAME))
    values = scores.by_chance(FRAME, seed)(model)
    found = masks.choose(full, values, unit, ratio, across)
    removed = total = 0
    for mask in found.values():
        whole = masks.summed(mask.double(), unit) / masks.summed(torch.ones_like(mask).double(), unit)
        assert set(whole.flatten().tolist()) <= {0.0, 1.0}
        assert whole.any()
        removed, total = removed + int((whole == 0).sum()), total + whole.numel()
        if not across:
            assert int((whole == 0).sum()) == min(round(ratio * whole.numel()), whole.numel() - 1)
    if across:
        assert round(ratio * total) - len(found) <= removed <= round(ratio * total)
    again = masks.choose(found, values, unit, ratio, across)
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_equal_scores_keep_the_lower_index() -> None:
    assert masks.strongest(torch.tensor([1.0, 2.0, 2.0, 2.0]), 2).tolist() == [False, True, True, False]


def test_bad_ratios_are_named() -> None:
    full = masks.everything(forms.forms(normed(), FRAME))
    with pytest.raises(ValueError, match=r"ratio 1\.5; accepted: 0 to 1"):
        masks.choose(full, {}, Unit.WEIGHT, 1.5)
    with pytest.raises(ValueError, match="ratio 1 with rows"):
        masks.in_matrix_form(full, {}, 1)
    with pytest.raises(ValueError, match="stride 0"):
        masks.strided(torch.ones(1, 1, 3, 3), 0)
    with pytest.raises(ValueError, match="rising"):
        list(schedules.iterative(normed(), schedules.matrix(SCORERS["L1"]), [0.5, 0.2], FRAME))


def test_strided_taps_keep_the_best_offset_of_every_channel() -> None:
    values = torch.zeros(2, 2, 3, 3)
    values[:, 0, 0, 1] = 1  # offset 1 of stride 3
    values[:, 1, 2, 2] = 1  # offset 2
    found = masks.strided(values, 3)
    assert found[0, 0].flatten().nonzero().flatten().tolist() == [1, 4, 7]
    assert found[0, 1].flatten().nonzero().flatten().tolist() == [2, 5, 8]
    assert torch.equal(found[0], found[1])
    assert masks.strided(values, 1).all()


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.8, 0.95])
def test_matrix_form_keeps_whole_rows_and_columns_of_the_size_asked(ratio: float) -> None:
    model = models.build("lenet", (1, 28, 28), 10, 0)
    shapes = forms.forms(model, (1, 28, 28))
    values = scores.by_magnitude((1, 28, 28), 2)(model)
    found = masks.in_matrix_form(masks.everything(shapes), values, ratio)
    for name, mask in found.items():
        rows, columns = mask.flatten(1).any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None, None, None] & columns)
        assert name != "dense2" or rows.all()
        if name in ("conv2", "dense1"):
            assert float(mask.double().mean()) == pytest.approx(1 - ratio, abs=0.02)
    assert masks.removed(found) == pytest.approx(ratio, abs=0.03)


def test_rows_come_in_multiples_of_the_lanes() -> None:
    model = models.build("lenet", (1, 28, 28), 10, 0)
    full = masks.everything(forms.forms(model, (1, 28, 28)))
    found = masks.in_matrix_form(full, scores.by_magnitude((1, 28, 28))(model), 0.8, multiple=8)
    rows = {name: int(mask.flatten(1).any(dim=1).sum()) for name, mask in found.items()}
    assert rows == {"conv1": 16, "conv2": 32, "dense1": 336, "dense2": 10}
    with pytest.raises(ValueError, match="multiple 0"):
        masks.in_matrix_form(full, {}, 0.5, multiple=0)


# -- masks and the smaller network -------------------------------------------------------------------------------------
@pytest.mark.parametrize("build", [digits_cnn, normed])
@pytest.mark.parametrize("seed", range(4))
def test_the_smaller_network_equals_the_masked_one(build: object, seed: int) -> None:
    assert callable(build)
    model = build(seed)
    chosen = random_masks(model, seed, keep=0.6)
    small = masks.shrink(model, chosen, FRAME)
    masks.apply(model, chosen)
    with torch.no_grad():
        torch.testing.assert_close(small.model(X), model(X), rtol=1e-4, atol=1e-5)
    sizes = forms.forms(small.model, FRAME)
    assert {name: form.shape for name, form in sizes.items()} == {n: tuple(m.shape) for n, m in small.masks.items()}
    kept = {name: mask for name, mask in small.masks.items() if name != list(small.masks)[-1]}
    assert all(mask.flatten(1).any(dim=1).all() for mask in kept.values())
    for name, layer in forms.weighted(small.model).items():
        assert not layer.weight.reshape(sizes[name].shape)[~small.masks[name]].any()
    whole = forms.cost(forms.forms(model, FRAME), chosen, biases=False)
    after = forms.cost(sizes, small.masks, biases=False)
    assert (whole.macs, whole.parameters) == (after.macs, after.parameters)


def test_pruning_nothing_changes_nothing() -> None:
    for model in (digits_cnn(), normed()):
        full = masks.everything(forms.forms(model, FRAME))
        small = masks.shrink(model, full, FRAME)
        assert all(torch.equal(value, small.model.state_dict()[key]) for key, value in model.state_dict().items())
        for name, scorer in SCORERS.items():
            for chooser in (schedules.matrix(scorer), schedules.units(scorer, Unit.FILTER)):
                if name in ("Taylor", "APoZ", "activation", "variance") and chooser is not None:
                    continue
                step = schedules.direct(model, chooser, 0.0, FRAME)
                assert all(mask.all() for mask in step.masks.values())


def test_unread_filters_and_unfed_columns_go_too() -> None:
    model = digits_cnn()
    chosen = masks.everything(forms.forms(model, FRAME))
    chosen["conv2"][:, 3] = False  # nobody reads channel 3 of conv1
    chosen["conv3"][7] = False
    small = masks.shrink(model, chosen, FRAME)
    assert {name: tuple(mask.shape) for name, mask in small.masks.items()} == {
        "conv1": (15, 1, 3, 3),
        "conv2": (32, 15, 3, 3),
        "conv3": (63, 32, 3, 3),
        "dense": (10, 63, 2, 2),
    }
    assert all(mask.all() for mask in small.masks.values())


def test_what_cannot_be_pruned_is_named() -> None:
    model = digits_cnn()
    chosen = masks.everything(forms.forms(model, FRAME))
    chosen["conv2"][:] = False
    with pytest.raises(ValueError, match="layer 'conv2' would lose all of its 32 filters"):
        masks.shrink(model, chosen, FRAME)
    with pytest.raises(ValueError, match="mask of 'conv9': no such layer with weights; layers: conv1, conv2"):
        masks.apply(model, {"conv9": torch.ones(1, 1, 1, 1, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"mask of 'conv1' is \(1, 1, 3, 3\)"):
        masks.apply(model, {"conv1": torch.ones(1, 1, 3, 3, dtype=torch.bool)})
    network = quantised(model, quant_train.calibrate(model, X.numpy()))
    with pytest.raises(ValueError, match=r"is quantised .*; accepted: prune, then quantise"):
        masks.shrink(network, {}, FRAME)


# -- schedules ---------------------------------------------------------------------------------------------------------
def test_training_between_steps_leaves_removed_weights_alone() -> None:
    digits = data.load("digits", 0)

    def trainer(model: nn.Sequential) -> None:
        train.fit(model, digits, train.TrainSettings(epochs=1, seed=0), progress=False)

    model = digits_cnn()
    steps = list(schedules.iterative(model, schedules.units(SCORERS["L1"], Unit.WEIGHT), [0.3, 0.6], FRAME, trainer))
    for step in steps:
        assert masks.removed(step.masks) == pytest.approx(step.ratio, abs=0.01)
        for name, layer in forms.weighted(step.model).items():
            assert not layer.weight.reshape(step.masks[name].shape)[~step.masks[name]].any()
    for name, mask in steps[1].masks.items():
        assert not (mask & ~steps[0].masks[name]).any()
    assert not torch.equal(steps[1].model.get_parameter("conv2.weight"), model.get_parameter("conv2.weight"))


def test_a_budget_is_kept_and_just_so() -> None:
    model = digits_cnn()
    shapes = forms.forms(model, FRAME)
    full = forms.cost(shapes, {})
    assert full.macs == 380_416
    for budget, target in ((schedules.Budget.MACS, 0.5), (schedules.Budget.BYTES, 0.3)):
        found = schedules.within(shapes, SCORERS["L2"](model), target, budget)
        spent = forms.cost(shapes, found)
        share = spent.macs / full.macs if budget is schedules.Budget.MACS else spent.parameters / full.parameters
        assert target - 0.05 < share <= target
    with pytest.raises(ValueError, match=r"macs at 0\.0 of the full network's"):
        schedules.within(shapes, SCORERS["L2"](model), 0.0)


def test_a_budget_of_multiplications_is_not_spent_where_there_are_few() -> None:
    model = models.build("lenet", (1, 28, 28), 10, 0)
    shapes = forms.forms(model, (1, 28, 28))
    alike = {name: torch.ones(form.shape) for name, form in shapes.items()}
    found = schedules.within(shapes, alike, 0.5)
    assert found["dense1"].all()  # of equally good filters, those of the convolutions save far more
    assert not found["conv1"].all()


def test_sensitivity_prunes_one_layer_at_a_time() -> None:
    model = digits_cnn()
    found = schedules.sensitivity(
        model,
        schedules.units(SCORERS["L1"], Unit.WEIGHT),
        [0.0, 0.5],
        FRAME,
        lambda trial: float(sum((layer.weight == 0).sum() for layer in forms.weighted(trial).values())),
    )
    shapes = forms.forms(model, FRAME)
    assert found == {name: [0.0, round(form.weights / 2)] for name, form in shapes.items()}


def test_reconstruction_beats_plain_removal_of_the_same_size() -> None:
    model = digits_cnn()
    plain = schedules.direct(model, schedules.matrix(SCORERS["L2"], rows=0.0), 0.6, FRAME)
    better = schedules.reconstructed(model, plain.masks, X)
    columns, others = (masks.columns(step.masks) for step in (plain, better))
    assert {n: int(m.sum()) for n, m in columns.items()} == {n: int(m.sum()) for n, m in others.items()}
    with torch.no_grad():
        errors = [float((step.model(X) - model(X)).norm()) for step in (plain, better)]
    assert errors[1] < errors[0] / 2
