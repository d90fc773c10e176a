"""Lazy evaluation with sliced weights, against the witness that computes everything and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quant import lazy
from quant import train as quant_train
from quant.layers import QuantNetwork
from quant.sliced import SlicedNetwork
from sw import data, models, predictors, train

DIGITS = data.load("digits", 0)
FRAMES = DIGITS.test_x[:30]


@pytest.fixture(scope="module")
def network() -> QuantNetwork:
    model = models.build("digits_cnn", DIGITS.shape, DIGITS.classes, 0)
    train.fit(model, DIGITS, train.TrainSettings(epochs=2, seed=0), progress=False)
    return quant_train.quantise(model, DIGITS, train.TrainSettings(epochs=1, seed=0, rate=1e-3), progress=False)


@pytest.mark.parametrize("keep", [{"conv2": 32, "conv3": 64}, {"conv2": 9, "conv3": 20}, {"conv2": 1, "conv3": 1}, {}])
def test_sliced_weights_give_the_same_logits(network: QuantNetwork, keep: dict[str, int]) -> None:
    layers = {}
    for name, count in keep.items():
        run = lazy.run(network, DIGITS.train_x[:100], {})
        following = {"conv2": "conv3", "conv3": "dense"}[name]
        predictor = predictors.fit(run.layer(name).strengths, run.layer(following).strengths)
        layers[name] = lazy.LazyLayer(predictor, count)
    sliced = SlicedNetwork(network, layers)
    found = np.stack([sliced.run(torch.tensor(frame)).numpy() for frame in FRAMES])
    assert (found == lazy.run(network, FRAMES, layers).logits).all()


def test_an_image_of_nothing_has_an_answer(network: QuantNetwork) -> None:
    black = np.zeros((1, 1, 8, 8), np.float32)
    assert (SlicedNetwork(network, {}).run(torch.tensor(black[0])).numpy() == lazy.run(network, black, {}).logits).all()


def test_a_sum_that_float32_cannot_hold_is_refused(network: QuantNetwork) -> None:
    sliced = SlicedNetwork(network, {})
    sliced.weights["conv2"].bias[3] = 2.0**24
    with pytest.raises(ArithmeticError, match=r"layer 'conv2': a sum of 16[78]"):
        sliced.run(torch.tensor(FRAMES[0]))
