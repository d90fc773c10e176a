"""The recipe with half of the weights removed, against every witness, alone and together with lazy layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from bench.digits import Digits, same_choices
from flow import recipe
from flow.compare import differences
from flow.errors import UserError
from flow.steps import Flow, all_filters
from flow.workspace import Workspace
from hw.design import Design
from hw.image import layout
from sim import golden

RECIPE = Path(__file__).parents[1] / "recipes" / "digits_pruned.toml"
MACS = 380_416  # of the network before pruning


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    flow = Flow(recipe.load(RECIPE), Workspace(tmp_path_factory.mktemp("build") / "pruned"), Console(quiet=True))
    flow.run()
    return Digits(flow)


def macs(design: Design) -> int:
    return sum(x.filters * int(x.kept_taps.sum()) * x.grid[0] * x.grid[1] for x in design.layers)


@pytest.mark.parametrize("percent", [50, 100])
def test_rtl_golden_and_brevitas_are_equal(pruned: Digits, percent: int) -> None:
    assert differences(pruned.golden[percent], pruned.rtl[percent]) == ()
    witness = pruned.brevitas(percent)
    assert np.array_equal(pruned.rtl[percent].outputs, witness.logits)
    assert same_choices(pruned.golden[percent], witness)


def test_all_filters_equal_hls4ml_and_the_quantised_network(pruned: Digits) -> None:
    run = golden.run(pruned.flow.design, pruned.flow.test_frames, all_filters(pruned.flow.design))
    assert np.array_equal(run.outputs, pruned.hls4ml())
    logits = pruned.flow.quantised_network().integer_logits(torch.tensor(pruned.flow.data.test_x))
    assert np.array_equal(run.outputs, logits.numpy())


def test_what_was_removed_is_gone(pruned: Digits) -> None:
    design = pruned.flow.design
    masks = pruned.flow.trained().masks
    assert sum(int(mask.sum()) for mask in masks.values()) < 0.55 * 26_000
    for layer in design.layers:
        assert layer.filters == len(masks[layer.name])
        assert not (layer.kept_taps & ~masks[layer.name].any(dim=0).numpy()).any()
    for record, layer in zip(layout(design), design.tail, strict=True):
        assert 0 <= record.stride - int(layer.kept_taps.sum()) < design.engine.bus_bytes
    assert macs(design) < 0.6 * MACS
    assert pruned.accuracy(100) > 0.95


def test_bad_prune_sections_are_refused() -> None:
    base = {"name": "net", "data": {"set": "digits"}, "model": {"name": "digits_cnn"}}
    for section, said in (
        ({"ratio": 1.0}, "'prune.ratio' is 1.0; accepted: less than 1"),
        ({"ratio": 0.5, "form": "rows"}, "'prune.form' is 'rows'; accepted: 'matrix', 'filter' or 'weight'"),
        ({"ratio": 0.5, "criterion": "apoz"}, "criterion 'apoz' judges filters, form 'matrix' asks for columns"),
        ({"raito": 0.5}, "'prune.ratio' is missing"),
    ):
        with pytest.raises(UserError, match=said.replace(".", r"\.")):
            recipe.build(base | {"prune": section}, "test")
