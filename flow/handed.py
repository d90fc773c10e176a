"""What `penstock paths` hands to the accelerator, in the integers and the order of filters of a design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from torch import nn

from flow.errors import UserError
from flow.recipe import Recipe
from hw.design import Design, IntArray
from sw.paths.hardware import HardwarePaths, LayerPaths
from sw.paths.path import fingerprint
from sw.predictors import ClassPredictor, PathPredictor, Predictor

READ = ("paths", "classes")  # kinds of predictor that the file has


def load(recipe: Recipe, network: nn.Module) -> HardwarePaths:
    """The paths in the file that the recipe names; UserError unless it holds those of `network`."""
    assert recipe.predictor.paths is not None
    try:
        return HardwarePaths.load(recipe.predictor.paths, fingerprint(network))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"recipe '{recipe.name}': 'predictor.paths': {error}") from error


def predictors(
    recipe: Recipe, paths: HardwarePaths, design: Design, lazy: Sequence[str], orders: Mapping[str, IntArray]
) -> dict[str, Predictor]:
    """Predictors of the `lazy` layers of `design`, by name; none of a kind that is fitted.

    Filter i of layer x of the design is filter ``orders[x][i]`` of the network that the paths are of; without an entry,
    filter i.
    """
    feeding = {layer.name: before for before, layer in pairwise(design.layers)}
    result: dict[str, Predictor] = {}
    for layer in design.layers:
        if layer.name not in lazy or recipe.predictor.kind not in READ:
            continue
        channels = layer.input.channels
        own = _of(recipe, paths, layer.name, channels, layer.filters)
        filters, sources = orders.get(layer.name, np.arange(layer.filters)), np.arange(channels)
        if layer.name in feeding:
            sources = orders.get(feeding[layer.name].name, sources)
        if recipe.predictor.kind == "classes":
            result[layer.name] = ClassPredictor(own.masks[:, filters])
        else:
            theta = own.integer_theta(layer.input.pixels, 2.0**layer.input_format.exponent)
            result[layer.name] = PathPredictor(own.matrix[sources][:, filters], theta[sources], own.tau[filters])
    return result


def ranking(paths: HardwarePaths, orders: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """Filters (filters,) of the layers that have paths, those first that are wanted most often."""
    found = {}
    for layer in paths.layers:
        place = np.argsort(orders.get(layer.name, np.arange(len(layer.frequency))))  # of each filter, in the design
        found[layer.name] = place[layer.ranking()]
    return found


def _of(recipe: Recipe, paths: HardwarePaths, name: str, sources: int, filters: int) -> LayerPaths:
    try:
        own = paths.layer(name)
    except ValueError as error:
        raise UserError(f"recipe '{recipe.name}': '{recipe.predictor.paths}' has {error}") from error
    if own.matrix.shape != (sources, filters):
        raise UserError(
            f"recipe '{recipe.name}': '{recipe.predictor.paths}' has a matrix {own.matrix.shape} of layer '{name}'; "
            f"accepted: {sources, filters}"
        )
    return own
