"""Networks by name, in floating point.

A network is an `nn.Sequential` of named layers, because what follows (quantisation, export, lazy inference) walks
them in order, and because their names are those that users meet in recipes, ONNX files and reports. One with branches
is `Branched`: still layers in order, some of which read or add what an earlier one gave.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn


class Branched(nn.Sequential):
    """Layers in order, with branches: layer `name` is given what layer ``reads[name]`` gave, not the one before it,
    and what layer ``adds[name]`` gave is added to what it gives. Both name earlier layers.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], reads: Mapping[str, str], adds: Mapping[str, str]) -> None:
        super().__init__(layers)
        self.reads, self.adds = dict(reads), dict(adds)
        places = {name: place for place, name in enumerate(layers)}
        for name, earlier in [*self.reads.items(), *self.adds.items()]:
            if name not in places or earlier not in places or places[earlier] >= places[name]:
                raise ValueError(f"layer '{name}' reads or adds '{earlier}'; accepted: layers, an earlier one")

    def forward(self, values: Any) -> Any:
        """What the last layer gives for `values` (n, ...)."""
        *_, (_, _, values) = walk(self, values)
        return values

    def join(self, values: Any, added: Any) -> Any:
        """The sum of two branches."""
        return values + added


def walk(model: nn.Sequential, values: Any) -> Iterator[tuple[str, nn.Module, Any]]:
    """Every layer of `model` in order: its name, itself, and what it gives for frames `values`, sums included."""
    reads, adds = branches(model)
    kept: dict[str, Any] = {}
    for name, layer in model.named_children():
        values = layer(kept[reads[name]] if name in reads else values)
        if name in adds:
            assert isinstance(model, Branched)
            values = model.join(values, kept[adds[name]])
        if name in reads.values() or name in adds.values():
            kept[name] = values
        yield name, layer, values


def branches(model: nn.Sequential) -> tuple[dict[str, str], dict[str, str]]:
    """What layers of `model` read instead of the layer before them, and add; nothing, of a chain."""
    return (model.reads, model.adds) if isinstance(model, Branched) else ({}, {})


def require_chain(model: nn.Sequential, what: str) -> None:
    """Raise ValueError for a network with branches, which `what` cannot do."""
    _, adds = branches(model)
    if adds:
        joins = ", ".join(f"'{name}'" for name in adds)
        raise ValueError(f"{what} of a network with branches, which join at {joins}; accepted: chains of layers")


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


def lenet(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two convolutions and two dense layers, 431,080 parameters for 28x28x1 images and 10 classes.

    The sizes are those of Caffe's variant of LeNet-5 (LeCun et al. 1998), with ReLU.
    """
    channels, height, width = shape
    height, width = ((height - 4) // 2 - 4) // 2, ((width - 4) // 2 - 4) // 2
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(channels, 20, 5),  # (n, c, h, w) -> (n, 20, h-4, w-4)
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),  # (n, 50, 4, 4) of 28x28
            flatten=nn.Flatten(),
            dense1=nn.Linear(50 * height * width, 500),
            relu3=nn.ReLU(),
            dense2=nn.Linear(500, classes),  # (n, classes)
        )
    )


VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Filters of VGG-16's convolutions; a pooling follows each group."""


def vgg16(shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Sequential:
    """VGG-16 with batch normalisation for 32x32 images: 13 convolutions and one dense layer.

    Simonyan and Zisserman 2015, configuration D; as usual for CIFAR-10, one dense layer instead of three. `width`
    scales the number of filters.
    """
    channels, height, wide = shape
    layers = OrderedDict[str, nn.Module]()
    number = 0
    for group, filters in enumerate(VGG16, 1):
        for full in filters:
            number += 1
            outputs = max(1, round(full * width))
            layers[f"conv{number}"] = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{number}"] = nn.ReLU()
            channels = outputs
        layers[f"pool{group}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["dense"] = nn.Linear(channels * (height // 32) * (wide // 32), classes)
    return nn.Sequential(layers)


def vgg16_quarter(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """VGG-16 with a quarter of the filters."""
    return vgg16(shape, classes, 0.25)


VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Filters of VGG-19's convolutions."""


def vgg19(shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Sequential:
    """VGG-19 for 224x224 images: 16 convolutions and three dense layers, 144 million parameters with 1,000 classes.

    Simonyan and Zisserman 2015, configuration E. `width` scales the number of filters.
    """
    channels, height, wide = shape
    layers = OrderedDict[str, nn.Module]()
    number = 0
    for group, filters in enumerate(VGG19, 1):
        for full in filters:
            number += 1
            outputs = max(1, round(full * width))
            layers[f"conv{number}"] = nn.Conv2d(channels, outputs, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            channels = outputs
        layers[f"pool{group}"] = nn.MaxPool2d(2)
    hidden = max(1, round(4096 * width))
    layers["flatten"] = nn.Flatten()
    layers["dense1"] = nn.Linear(channels * (height // 32) * (wide // 32), hidden)
    layers["relu17"] = nn.ReLU()
    layers["dense2"] = nn.Linear(hidden, hidden)
    layers["relu18"] = nn.ReLU()
    layers["dense3"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)


def vgg19_eighth(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """VGG-19 with an eighth of the filters."""
    return vgg19(shape, classes, 0.125)


RESNET = (16, 32, 64)
"""Channels of the stages of a ResNet for 32x32 images."""


def resnet(shape: tuple[int, int, int], classes: int, blocks: int) -> Branched:
    """A residual network of three stages of `blocks` blocks: 6 x `blocks` + 2 layers with weights on the longest way.

    He et al. 2016, section 4.2; where the shape changes, a 1x1 convolution of stride 2 is on the way around. With one
    block a stage it is the network of MLPerf Tiny (Banbury et al. 2021).
    """
    channels, height, width = shape
    layers = OrderedDict[str, nn.Module]()
    reads, adds = dict[str, str](), dict[str, str]()

    def convolution(name: str, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        layers[name] = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        layers[f"{name}_norm"] = nn.BatchNorm2d(outputs)

    convolution("stem", channels, RESNET[0], 3, 1)
    layers["stem_relu"] = nn.ReLU()
    channels, before = RESNET[0], "stem_relu"
    for stage, outputs in enumerate(RESNET, 1):
        for block in range(1, blocks + 1):
            name = f"block{stage}" if blocks == 1 else f"block{stage}_{block}"
            stride, added = 1 if channels == outputs else 2, before
            if stride == 2:
                convolution(f"{name}_around", channels, outputs, 1, 2)
                layers[f"{name}_around_out"] = nn.Identity()  # quantised, it has a format of its own
                added, reads[f"{name}_conv1"] = f"{name}_around_out", before
            convolution(f"{name}_conv1", channels, outputs, 3, stride)
            layers[f"{name}_relu1"] = nn.ReLU()
            convolution(f"{name}_conv2", outputs, outputs, 3, 1)
            adds[f"{name}_conv2_norm"] = added
            layers[f"{name}_relu2"] = nn.ReLU()
            channels, before = outputs, f"{name}_relu2"
    layers["pool"] = nn.AvgPool2d((height // 4, width // 4))
    layers["flatten"] = nn.Flatten()
    layers["dense"] = nn.Linear(channels, classes)
    return Branched(layers, reads, adds)


def resnet8(shape: tuple[int, int, int], classes: int) -> Branched:
    """ResNet with a block a stage: 12.5 million multiplications and 78 thousand weights for 32x32x3 images."""
    return resnet(shape, classes, 1)


def resnet20(shape: tuple[int, int, int], classes: int) -> Branched:
    """ResNet with three blocks a stage."""
    return resnet(shape, classes, 3)


MODELS: dict[str, Callable[[tuple[int, int, int], int], nn.Sequential]] = {
    "digits_cnn": digits_cnn,
    "lenet": lenet,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "vgg16": vgg16,
    "vgg16_quarter": vgg16_quarter,
    "vgg19": vgg19,
    "vgg19_eighth": vgg19_eighth,
}


def build(name: str, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Sequential:
    """The untrained network `name` for images of `shape` (c, h, w), with weights drawn from `seed`.

    The caller's random state is left alone. ValueError names the known networks if `name` is not one.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; known: {', '.join(sorted(MODELS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape, classes)
