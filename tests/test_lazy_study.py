"""The study of who chooses, against whole runs of the golden model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow import lazy
from sim import golden
from tests.designs import digits_like, random_frames

DESIGN = digits_like(1)
FRAMES = random_frames(DESIGN, 24, 3)
SHARES = (1.0, 0.5, 0.25)


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "CHUNK_VALUES", 20_000)  # several chunks
        yield


def points(choosers: dict[str, lazy.Ranking], labels: np.ndarray) -> list[lazy.Point]:
    return lazy.study(DESIGN, FRAMES, labels, choosers, SHARES)


def test_predicted_choices_are_those_of_the_accelerator() -> None:
    labels = golden.run(DESIGN, FRAMES).outputs.argmax(axis=1)
    for point, share in zip(points({"predicted": lazy.predicted}, labels), SHARES, strict=True):
        keep = {layer.name: round(layer.filters * share) for layer in DESIGN.lazy_layers}
        run = golden.run(DESIGN, FRAMES, keep)
        assert (point.chooser, point.share) == ("predicted", share)
        assert point.accuracy == (run.outputs.argmax(axis=1) == labels).mean()
        fetched = {trace.name: int(trace.bytes.sum()) for trace in run.layers}
        assert point.bytes == sum(fetched[layer.name] for layer in DESIGN.lazy_layers) / len(FRAMES)
        assert point.all_bytes == sum(fetched.values()) / len(FRAMES)
        macs = 0.0
        for layer in DESIGN.lazy_layers:
            trace = run.layer(layer.name)
            for frame in range(len(FRAMES)):
                kept = layer.kept_taps[trace.strengths[frame] > 0].sum()
                macs += trace.chosen[frame].sum() * kept * layer.grid[0] * layer.grid[1] / len(FRAMES)
        assert point.macs == pytest.approx(macs)


def test_the_oracle_recalls_all_and_everybody_does_at_full_share() -> None:
    labels = np.zeros(len(FRAMES), np.int64)
    strengths = lazy.mean_strengths(DESIGN, FRAMES)
    choosers: dict[str, lazy.Ranking] = {
        "oracle": lazy.oracle,
        "predicted": lazy.predicted,
        "static": lazy.static(strengths),
        "random": lazy.chance(1),
    }
    found = {(point.chooser, point.share): point for point in points(choosers, labels)}
    assert len(found) == 12
    for (chooser, share), point in found.items():
        full = list(point.recall.values()) == [1.0] * len(DESIGN.lazy_layers)
        assert full == (chooser == "oracle" or share == 1.0), (chooser, share)
        assert point.accuracy == found["oracle", 1.0].accuracy or share < 1
    layer = DESIGN.lazy_layers[0]
    dense = golden.run(DESIGN, FRAMES, {x.name: x.filters for x in DESIGN.lazy_layers}).layer(layer.name)
    assert (strengths[layer.name] == np.abs(dense.output).sum(axis=(0, 2, 3))).all()


def test_filters_per_layer_can_be_given() -> None:
    labels = np.zeros(len(FRAMES), np.int64)
    keeps = [{layer.name: 3 + index for index, layer in enumerate(DESIGN.lazy_layers)}]
    (point,) = lazy.study(DESIGN, FRAMES, labels, {"predicted": lazy.predicted}, [0.0], keeps)
    run = golden.run(DESIGN, FRAMES, keeps[0])
    fetched = sum(int(run.layer(layer.name).bytes.sum()) for layer in DESIGN.lazy_layers)
    assert point.bytes == fetched / len(FRAMES)


def test_layers_give_way_in_the_proportions_of_the_design() -> None:
    ratios = np.array([0.5, 0.25])
    lazy_names = [layer.name for layer in DESIGN.lazy_layers]
    assert len(lazy_names) == len(ratios)
    tail = tuple(
        replace(layer, keep=round(layer.filters * ratios[lazy_names.index(layer.name)])) if layer.lazy else layer
        for layer in DESIGN.tail
    )
    design = replace(DESIGN, tail=tail)
    (point,) = lazy.study(design, FRAMES, np.zeros(len(FRAMES)), {"predicted": lazy.predicted}, [0.125])
    shares = 0.125 ** (np.log(ratios) / np.log(ratios).mean())  # 1/4 and 1/16
    assert shares == pytest.approx([0.25, 0.0625])
    keep = {layer.name: round(layer.filters * share) for layer, share in zip(design.lazy_layers, shares, strict=True)}
    run = golden.run(design, FRAMES, keep)
    assert point.bytes == sum(run.layer(name).bytes.sum() for name in lazy_names) / len(FRAMES)


def test_lots_are_drawn_anew_for_every_frame_and_from_the_seed() -> None:
    layer = DESIGN.lazy_layers[0]
    trace = golden.run(DESIGN, FRAMES).layer(layer.name)
    first, again = (lazy.chance(4)(layer, trace) for _ in range(2))
    assert (first == again).all()
    assert (np.sort(first, axis=1) == np.arange(layer.filters)).all()
    assert len({row.tobytes() for row in first}) > 20
