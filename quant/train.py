"""From a trained float network to a quantised one: choose the scales once, then train with them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from quant.layers import INPUT, Format, QuantNetwork, folded, quantised
from sw.data import Dataset, FloatArray
from sw.gate import PREDICTOR, Gate, TrainedPredictor
from sw.models import walk
from sw.pruning.masks import held
from sw.train import TrainSettings, fit, load_state, save_state

CALIBRATION = 2048  # training images, at most, that scales are chosen on


@dataclass(frozen=True)
class Bits:
    """Widths of the network's integers, 2 to 8."""

    weights: int = 8
    activations: int = 8


def calibrate(model: nn.Sequential, frames: FloatArray, bits: Bits = Bits()) -> dict[str, Format]:
    """The finest power-of-two formats that hold `model`'s weights, `frames` (n, c, h, w) and what ReLUs make of them.

    Identities have signed formats: of convolutions that nothing else follows before their sum with another branch.
    Frames without a negative value get an unsigned format.
    """
    formats: dict[str, Format] = {}
    with torch.no_grad():
        values = torch.tensor(frames)
        signed = bool((values < 0).any())
        formats[INPUT] = Format.holding(float(values.abs().max()), bits.activations, signed)
        for name, layer, given in walk(model, values):
            if isinstance(layer, nn.ReLU):
                formats[name] = Format.holding(float(given.max()), bits.activations, signed=False)
            elif isinstance(layer, nn.Identity):
                formats[name] = Format.holding(float(given.abs().max()), bits.activations, signed=True)
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                formats[name] = Format.holding(float(layer.weight.abs().max()), bits.weights, signed=True)
    return formats


def quantise(
    model: nn.Sequential,
    data: Dataset,
    settings: TrainSettings,
    bits: Bits = Bits(),
    gate: Gate | None = None,
    progress: bool = True,
    masks: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    frozen: Collection[str] = (),
) -> QuantNetwork:
    """Calibrate on the training images and train on with quantised weights and activations; scales stay.

    Batch normalisation is folded into the layers before it. An interrupted training goes on from `checkpoint`. Weights
    that `masks` (see `sw.pruning`) remove stay zero. `model` stays as it is; it is the teacher where `settings` ask for
    one. Layers called `frozen` keep what they have. The same arguments give the same network.
    """
    plain = folded(model)
    network = quantised(plain, calibrate(plain, data.train_x[:CALIBRATION], bits))
    for name in frozen:
        network.get_submodule(name).requires_grad_(False)
    with held(network, masks or {}):
        teacher = copy.deepcopy(plain) if settings.distil else None
        fit(network, data, settings, gate, "quantised training", progress, checkpoint, teacher)
    return network


def save(path: Path, network: QuantNetwork) -> None:
    """Write weights and formats; the same network gives the same bytes, and no reader sees half a file."""
    state: dict[str, Tensor] = {f"state/{key}": value for key, value in network.state_dict().items()}
    for name, form in network.formats.items():
        state[f"format/{name}"] = torch.tensor([form.bits, int(form.signed), form.exponent])
    save_state(path, state)


def load(path: Path, model: nn.Sequential) -> QuantNetwork:
    """The network that `save` wrote; `model` is its float twin (architecture only).

    ValueError names the file if it does not fit.
    """
    state = load_state(path)
    try:
        formats = {}
        for key, value in state.items():
            if key.startswith("format/"):
                bits, signed, exponent = value.tolist()
                formats[key.removeprefix("format/")] = Format(bits, bool(signed), exponent)
        network = quantised(folded(model), formats)
        values = {key.removeprefix("state/"): value for key, value in state.items() if key.startswith("state/")}
        for key, value in values.items():
            layer, _, part = key.partition(f".{PREDICTOR}.")
            if part == "weights" and value.ndim == 2:
                network.get_submodule(layer).add_module(PREDICTOR, TrainedPredictor(*value.shape))
        network.load_state_dict(values)
    except (AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(f"'{path}' does not hold this network: {error}") from error
    network.eval()
    return network
