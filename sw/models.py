"""Networks by name, in floating point.

A network is an `nn.Sequential` of named layers, because what follows (quantisation, export, lazy inference) walks
them in order, and because their names are those that users meet in recipes, ONNX files and reports.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn


def digits_cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Three convolutions and a classifier: 380,416 multiplications for 8x8x1 images and 10 classes."""
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(channels, 16, 3, padding=1),  # (n, c, h, w) -> (n, 16, h, w)
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),  # (n, 16, h/2, w/2)
            conv2=nn.Conv2d(16, 32, 3, padding=1),  # (n, 32, h/2, w/2)
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(32, 64, 3, padding=1),  # (n, 64, h/2, w/2)
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),  # (n, 64, h/4, w/4)
            flatten=nn.Flatten(),  # (n, 4*h*w), channel-major
            dense=nn.Linear(64 * (height // 4) * (width // 4), classes),  # (n, classes)
        )
    )


MODELS: dict[str, Callable[[tuple[int, int, int], int], nn.Sequential]] = {"digits_cnn": digits_cnn}


def build(name: str, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Sequential:
    """The untrained network `name` for images of `shape` (c, h, w), with weights drawn from `seed`.

    The caller's random state is left alone. ValueError names the known networks if `name` is not one.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; known: {', '.join(sorted(MODELS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape, classes)
