"""Small networks for the tests of critical paths."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sw.paths.scores import Images


def hand_net() -> nn.Sequential:
    """Of frames of 1x1x2, three filters give 1, 2 and 0 times a pixel; then one weight for each of them and class."""
    net = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=nn.Conv2d(1, 3, 1, bias=False), relu=nn.ReLU(), flatten=nn.Flatten(), dense=nn.Linear(6, 2, bias=False)
        )
    ).double()
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([1.0, 2.0, -1.0]).reshape(3, 1, 1, 1))
        net.dense.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, -3.0, 5.0, 5.0], [-1.0, 0.5, 2.0, 2.0, 7.0, 7.0]]))
    return net


def hand_images() -> Images:
    """Class 0: pixels (1, 3); class 1: (2, 0) and (4, 4)."""
    x = np.array([[1, 3], [2, 0], [4, 4]], np.float32).reshape(3, 1, 1, 2)
    return Images(x, np.array([0, 1, 1]), 2)


def small_net(seed: int = 1, classes: int = 4) -> nn.Sequential:
    """Two normalised convolutions, pooling and two dense layers, float64, for frames of 2x6x6."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(2, 6, 3, padding=1, bias=False),
                norm1=nn.BatchNorm2d(6),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(6, 8, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(8),
                relu2=nn.ReLU(),
                pool=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                dense1=nn.Linear(72, 10),
                relu3=nn.ReLU(),
                dense2=nn.Linear(10, classes),
            )
        ).double()
        for norm in (net.norm1, net.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.bias)
    return net.eval()


def small_images(seed: int = 1, classes: int = 4, number: int = 23, batch: int = 7) -> Images:
    rng = np.random.default_rng(seed)
    x = rng.random((number, 2, 6, 6), np.float32)
    return Images(x, np.arange(number) % classes, batch)


class Functional(nn.Module):
    """`small_net` with functions in place of modules, and parts in the wrong order of registration."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.second = nn.Sequential(net.dense1, nn.ReLU(inplace=True))
        self.head = net.dense2
        self.conv2, self.norm2, self.conv1, self.norm1 = net.conv2, net.norm2, net.conv1, net.norm1

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        x = self.norm2(self.conv2(x)).relu()
        return self.head(self.second(functional.max_pool2d(x, 2).flatten(1)))


def order(filters: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(filters)
