"""Trained networks as they are kept: the integers that the accelerator computes with, small and readable anywhere.

A checkpoint is an npz file without pickles: per layer the integer weights (int8) and biases (int32), those of a
predictor that was trained with the network (int8 and int64), and the formats that say what they stand for. What it was
made from and what it is worth stand beside it, in a JSON file.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from quant.layers import Format, QuantError, QuantNetwork, folded, quantised
from sw.archive import FileError, read
from sw.gate import PREDICTOR, TrainedPredictor
from sw.train import write_atomically


class Provenance(BaseModel):
    """Where a checkpoint comes from: the recipe that made it, and what was measured on its whole test set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str
    recipe: str
    seed: int
    command: str
    training: str
    accuracy: dict[str, float]


def save(path: Path, network: QuantNetwork, provenance: Provenance) -> None:
    """Write `path` (.npz) and, beside it, the provenance (.json); the same network gives the same bytes."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, form in network.formats.items():
        arrays[f"format/{name}"] = np.array([form.bits, int(form.signed), form.exponent], np.int32)
    for name in network.weighted:
        weights, bias = network.integers(name)
        arrays[f"weights/{name}"] = weights.numpy().astype(np.int8)
        arrays[f"bias/{name}"] = bias.numpy().astype(np.int32)
        predictor = network.predictor(name)
        if predictor is not None:
            arrays[f"predictor/{name}"] = predictor.weights.astype(np.int8)
            arrays[f"predictor_bias/{name}"] = predictor.bias
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy dates the members 1980
    write_atomically(path, buffer.getvalue())
    write_atomically(path.with_suffix(".json"), (provenance.model_dump_json(indent=1) + "\n").encode())


def provenance(path: Path) -> Provenance:
    """What stands beside the checkpoint `path`; `FileError` names the file if it cannot be used."""
    beside = path.with_suffix(".json")
    try:
        return Provenance.model_validate_json(beside.read_bytes())
    except (OSError, ValidationError) as error:
        raise FileError(f"'{beside}' does not say where a checkpoint comes from: {error}") from error


def load(path: Path, model: nn.Sequential) -> QuantNetwork:
    """The network that `save` wrote; `model` is its float twin (architecture only, with or without normalisation).

    Its weights are exactly the integers times their scale. `FileError` names the file and what does not fit.
    """
    try:
        arrays = read(path, "a checkpoint")
    except FileNotFoundError as error:
        raise FileError(f"'{path}' is not a checkpoint: it does not exist") from error
    plain = folded(model)
    layers = dict(plain.named_children())
    wanted = {key for name, x in layers.items() if _weighted(x) for key in (f"weights/{name}", f"bias/{name}")}
    trained = {name for name, x in layers.items() if _weighted(x) and f"predictor/{name}" in arrays}
    wanted |= {key for name in trained for key in (f"predictor/{name}", f"predictor_bias/{name}")}
    found = {key for key in arrays if not key.startswith("format/")}
    if found != wanted:
        key = min(found ^ wanted)
        raise FileError(f"'{path}': '{key}' is {'missing' if key in wanted else 'no layer of this network'}")
    try:
        formats = {}
        for key, value in arrays.items():
            if key.startswith("format/"):
                bits, signed, exponent = value.tolist()
                formats[key.removeprefix("format/")] = Format(bits, bool(signed), exponent)
        network = quantised(plain, formats)
    except (QuantError, TypeError, ValueError) as error:
        raise FileError(f"'{path}' does not hold this network: {error}") from error
    with torch.no_grad():
        for name in network.weighted:
            layer, scale = network.get_submodule(name), 2.0 ** network.formats[name].exponent
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            assert layer.bias is not None
            for key, target, unit in (
                ("weights", layer.weight, scale),
                ("bias", layer.bias, 2.0 ** network.accumulator_exponent_of(name)),
            ):
                given = arrays[f"{key}/{name}"]
                if given.shape != tuple(target.shape) or given.dtype.kind != "i":
                    raise FileError(
                        f"'{path}': '{key}/{name}' is {given.shape} {given.dtype}; accepted: {tuple(target.shape)} "
                        "integers"
                    )
                target.copy_(torch.tensor(given.astype(np.float64) * unit))
            if name in trained:
                layer.add_module(PREDICTOR, _predictor(path, name, arrays, network))
    return network.eval()


def _predictor(
    path: Path, name: str, arrays: dict[str, NDArray[np.generic]], network: QuantNetwork
) -> TrainedPredictor:
    """The predictor of layer `name`; its integers stand for themselves."""
    weights, bias = arrays[f"predictor/{name}"], arrays[f"predictor_bias/{name}"]
    filters = len(network.get_parameter(f"{name}.weight"))
    if weights.ndim != 2 or weights.shape[1] != filters or bias.shape != (filters,) or weights.dtype != np.int8:
        raise ValueError(
            f"'{path}': 'predictor/{name}' is {weights.shape} {weights.dtype} with a bias of {bias.shape}; accepted: "
            f"(channels, {filters}) int8 with ({filters},)"
        )
    result = TrainedPredictor(*weights.shape)
    with torch.no_grad():
        result.weights.copy_(torch.tensor(weights))
        result.bias.copy_(torch.tensor(bias))
        result.scale.fill_(2.0 ** (network.accumulator_exponent_of(name) - network.formats[name].exponent))
        result.started.fill_(True)
    return result


def _weighted(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)
