"""The golden model against witnesses that share no code with it: plain loops, torch in float64, and numbers by hand."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hw import image
from hw.design import (
    ClassPredictor,
    Conv,
    Dense,
    Design,
    IntFormat,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    MapShape,
    Mode,
    PathPredictor,
    Place,
    Predictor,
    Source,
)
from sim import golden
from tests import brute
from tests.designs import LOGITS, MAX_CYCLES, checked, digits_like, random_design, random_frames

UINT8, INT8 = IntFormat(8, False, 0), IntFormat(8, True, 0)


def _kinds(base: type[Layer]) -> Iterator[type[Layer]]:
    """All concrete layer kinds of the package: classes of `hw` that know their grid."""
    for kind in base.__subclasses__():
        yield from _kinds(kind)
        if kind.grid is not Layer.grid and not inspect.isabstract(kind) and kind.__module__.startswith("hw."):
            yield kind


# -- whole networks ---------------------------------------------------------------------------------------------------
def _small(seed: int) -> Design:
    """The first random design from `seed` on that plain loops get through quickly; they know no checksums."""
    while True:
        design = checked(random_design(seed), bits=0, block=1)
        if sum(x.weights.size * x.grid[0] * x.grid[1] for x in design.layers) < 12_000:
            return design
        seed += 1000


@pytest.mark.parametrize("seed", range(24))
def test_equals_plain_loops_that_read_weights_from_fetched_words_only(seed: int) -> None:
    design = _small(seed)
    frames = random_frames(design, 7, seed)
    weights = image.build(design)
    run = golden.run(design, frames)
    for index, frame in enumerate(frames):
        outputs, layers = brute.run_frame(design, weights, frame)
        assert run.outputs[index].tolist() == outputs
        for trace, expected in zip(run.layers, layers, strict=True):
            assert trace.strengths[index].tolist() == expected.strengths
            assert (None if trace.scores is None else trace.scores[index].tolist()) == expected.scores
            assert np.flatnonzero(trace.chosen[index]).tolist() == expected.chosen
            assert trace.bytes[index] == expected.bytes
            assert trace.output[index].tolist() == expected.output


def _torch_scores(predictor: Predictor, strengths: torch.Tensor) -> torch.Tensor:
    """Scores by torch, of every kind of predictor; all classes are wanted."""

    def real(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.copy()).double()

    match predictor:
        case LinearPredictor():
            return F.linear(strengths, real(predictor.weights).T, real(predictor.bias))
        case LowRankPredictor():
            sums = F.linear(strengths, real(predictor.first).T, real(predictor.first_bias))
            bound = 2 ** (predictor.hidden_bits - 1)
            hidden = torch.round(sums / 2**predictor.shift).clamp(-bound, bound - 1)
            return F.linear(hidden, real(predictor.second).T, real(predictor.bias))
        case PathPredictor():
            active = torch.gt(strengths, real(predictor.theta)).double()
            return F.linear(active, real(predictor.paths).T, -real(predictor.tau))
        case ClassPredictor():
            return real(predictor.masks).sum(0).expand(len(strengths), -1).clone()
        case _:
            raise TypeError(type(predictor).__name__)


def _in_torch(design: Design, frames: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits and maps between layers, by torch's own convolution, rounding, sorting and pooling in float64."""
    x = torch.from_numpy(frames).double()
    maps = []
    for layer in design.layers:
        mask = torch.ones(len(x), layer.filters)
        if layer.predictor is not None:
            strengths = x.abs().sum((2, 3))
            scores = _torch_scores(layer.predictor, strengths)
            scores[:, list(layer.pinned)] = torch.inf
            if layer.mode is Mode.TOP:
                keep = max(layer.keep, len(layer.pinned))
                order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :keep]
                mask = torch.zeros_like(mask).scatter(1, order, 1.0)
            elif layer.mode is Mode.THRESHOLD:
                mask = torch.where(scores > layer.threshold, 1.0, 0.0)
        weights = torch.tensor(layer.weights).double()
        if isinstance(layer, Conv):
            top, bottom, left, right = layer.padding
            x = F.conv2d(F.pad(x, (left, right, top, bottom)), weights, stride=layer.strides)
        else:
            x = F.linear(x.flatten(1), weights.flatten(1))[:, :, None, None]
        x = x + torch.tensor(layer.bias)[:, None, None]
        if layer.shift is not None:
            scale = torch.pow(2.0, torch.tensor(layer.shift).double())[:, None, None]
            x = torch.round(x / scale).clamp(layer.output_format.low, layer.output_format.high)
        if isinstance(layer, Conv) and layer.pool > 1:
            x = F.max_pool2d(x, layer.pool)
        x = x * mask[:, :, None, None]
        maps.append(x)
    return x.flatten(1), maps


@pytest.mark.parametrize("seed", range(60))
def test_equals_torch_on_random_designs(seed: int) -> None:
    design = random_design(seed)
    frames = random_frames(design, 28, seed)
    run = golden.run(design, frames)
    logits, maps = _in_torch(design, frames)
    assert np.array_equal(run.outputs, logits.numpy())
    for trace, expected in zip(run.layers, maps, strict=True):
        assert np.array_equal(trace.output, expected.numpy()), trace.name


def test_equals_torch_on_the_default_network() -> None:
    design = digits_like(3)
    frames = random_frames(design, 70, 4)
    logits, _ = _in_torch(design, frames)
    assert np.array_equal(golden.run(design, frames).outputs, logits.numpy())


@pytest.mark.parametrize("seed", range(12))
def test_keeping_all_filters_equals_the_dense_network(seed: int) -> None:
    design = digits_like(seed) if seed < 2 else random_design(seed)
    frames = random_frames(design, 14, seed)
    everything = golden.run(design, frames, keep={layer.name: layer.filters for layer in design.lazy_layers})
    dense = golden.run(_without_laziness(design), frames)
    assert np.array_equal(everything.outputs, dense.outputs)
    for ours, theirs in zip(everything.layers, dense.layers, strict=True):
        assert ours.chosen.all()
        assert np.array_equal(ours.bytes, theirs.bytes)


def _without_laziness(design: Design) -> Design:
    dense = {"source": Source.DENSE, "predictor": None, "keep": None, "mode": Mode.TOP, "threshold": 0}
    tail = (replace(x, **dense) if x.lazy else x for x in design.tail)
    return replace(design, tail=tuple(tail))


@pytest.mark.parametrize("seed", range(8))
def test_removed_taps_equal_zero_weights(seed: int) -> None:
    design = random_design(seed)
    full = replace(
        design,
        head=tuple(replace(x, taps=None) for x in design.head),
        tail=tuple(replace(x, taps=None) for x in design.tail),
    )
    frames = random_frames(design, 14, seed)
    ours, theirs = golden.run(design, frames), golden.run(full, frames)
    assert np.array_equal(ours.outputs, theirs.outputs)
    # Not the bytes of every frame: what is left of channels may straddle bus words that it did not before.
    assert all(x.stride <= y.stride for x, y in zip(image.layout(design), image.layout(full), strict=True))


def test_frames_do_not_influence_one_another_however_they_are_chunked() -> None:
    design = digits_like(1)
    frames = random_frames(design, 13, 2)
    whole = golden.run(design, frames)
    for chunk in (1, 5, 13, 100):
        parts = list(golden.stream(design, frames, chunk=chunk))
        assert [len(part.outputs) for part in parts] == [len(frames[i : i + chunk]) for i in range(0, 13, chunk)]
        assert np.array_equal(np.concatenate([part.outputs for part in parts]), whole.outputs)
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled = golden.run(design, frames[order])
    for trace, expected in zip(shuffled.layers, whole.layers, strict=True):
        for field in ("strengths", "chosen", "bytes", "output"):
            assert np.array_equal(getattr(trace, field), getattr(expected, field)[order])


def test_run_joins_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    design = digits_like(1)
    frames = random_frames(design, 9, 2)
    whole = golden.run(design, frames)
    monkeypatch.setattr(golden, "CHUNK_VALUES", 20_000)
    assert len(list(golden.stream(design, frames))) > 1
    joined = golden.run(design, frames)
    assert np.array_equal(joined.outputs, whole.outputs)
    for ours, theirs in zip(joined.layers, whole.layers, strict=True):
        for field in ("strengths", "scores", "chosen", "bytes", "output"):
            assert np.array_equal(getattr(ours, field), getattr(theirs, field))


@pytest.mark.parametrize("largest", [127, 128])  # 516 weights of 127 reach 2**24 - 5,116 at 255, weights of 128 pass it
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_edge_of_single_precision_are_exact(largest: int, sign: int) -> None:
    weights = np.full((2, 516, 1, 1), sign * (largest if sign < 0 else 127))
    weights[1, ::2] = -sign
    layer = Dense(
        name="edge",
        input=MapShape(516, 1, 1),
        input_format=UINT8,
        weights=weights,
        weight_bits=8,
        bias=np.zeros(2, np.int64),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    maps = np.full((4, 516, 1, 1), 255)
    maps[1:, :, 0, 0] -= np.random.default_rng(0).integers(0, 3, (3, 516))
    expected = maps[:, :, 0, 0] @ weights[:, :, 0, 0].T  # integers throughout
    assert (golden.accumulate(layer, maps)[:, :, 0, 0] == expected).all()
    assert golden._operands(layer, maps) is (np.float64 if (largest, sign) == (128, -1) else np.float32)
    assert golden._operands(layer, maps // 2) is np.float32


def test_no_frames_give_empty_arrays_of_the_right_shape() -> None:
    design = digits_like(0)
    run = golden.run(design, random_frames(design, 0, 0))
    assert run.outputs.shape == (0, 10)
    assert run.layer("conv3").output.shape == (0, 64, 2, 2)
    assert run.layer("conv3").bytes.shape == (0,)


def test_traces_have_the_shapes_that_are_promised() -> None:
    design = digits_like(0)
    run = golden.run(design, random_frames(design, 5, 0).astype(np.uint8))
    assert [trace.name for trace in run.layers] == ["conv1", "conv2", "conv3", "dense"]
    conv3, dense = run.layer("conv3"), run.layer("dense")
    assert (conv3.strengths.shape, conv3.chosen.shape) == ((5, 32), (5, 64))
    assert conv3.scores is not None
    assert conv3.scores.shape == (5, 64)
    assert (run.layer("conv1").scores, dense.scores) == (None, None)
    assert run.layer("conv1").bytes.tolist() == [0] * 5
    assert dense.output.shape == (5, 10, 1, 1)
    assert {array.dtype for array in (run.outputs, conv3.output, conv3.strengths, conv3.bytes)} == {np.dtype(np.int64)}


# -- kinds of layers --------------------------------------------------------------------------------------------------
def test_every_kind_of_layer_has_an_entry() -> None:
    kinds = set(_kinds(Layer))
    assert {Conv, Dense} <= kinds
    missing = {kind.__name__ for kind in kinds - set(golden.ACCUMULATE)}
    assert not missing, f"sim/golden.py: ACCUMULATE has no entry for {missing}"


def test_unknown_kind_of_layer_is_named() -> None:
    class Strange(Conv):
        pass

    layer = digits_like(0).tail[0]
    strange = Strange(**{name: getattr(layer, name) for name in layer.__dataclass_fields__})
    with pytest.raises(TypeError, match=r"'conv2'.*Strange; it knows Conv, Dense"):
        golden.accumulate(strange, np.zeros((1, 16, 4, 4), np.int64))


# -- requantisation ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "shift", "expected"),
    [
        (5, 1, 2),  # 2.5: down to even
        (7, 1, 4),  # 3.5: up to even
        (-5, 1, -2),
        (-7, 1, -4),
        (-1, 1, 0),
        (1, 1, 0),
        (3, 1, 2),
        (-3, 1, -2),
        (6, 2, 2),  # 1.5
        (10, 2, 2),  # 2.5
        (9, 2, 2),  # 2.25
        (11, 2, 3),  # 2.75
        (-9, 2, -2),
        (-11, 2, -3),
        (2047, 4, 128),  # 127.9 saturates below
        (123, 0, 123),
        (-123, 0, -123),
        (1 << 46, 31, 1 << 15),
        (-(1 << 30), 31, 0),  # -0.5
        (-(1 << 30) - 1, 31, -1),
    ],
)
def test_round_shift_by_hand(value: int, shift: int, expected: int) -> None:
    assert golden.round_shift(np.array([value]), shift).tolist() == [expected]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (INT8, [-128, -128, -128, -2, 0, 0, 2, 127, 127, 127]),
        (UINT8, [0, 0, 0, 0, 0, 0, 2, 127, 128, 255]),
        (IntFormat(2, True, 0), [-2, -2, -2, -2, 0, 0, 1, 1, 1, 1]),
        (IntFormat(2, False, 0), [0, 0, 0, 0, 0, 0, 2, 3, 3, 3]),
    ],
)
def test_requantise_saturates_after_rounding(target: IntFormat, expected: list[int]) -> None:
    #           -4097/16  -2064/16=-129  -2056/16=-128.5  -1.5  -.5 .5 1.5 127.0 127.5->128 1e5
    accumulators = np.array([-4097, -2064, -2056, -24, -8, 8, 24, 2032, 2040, 100_000])[None, None, None, :]
    assert golden.requantise(accumulators, np.array([4]), target).ravel().tolist() == expected


def test_shifts_belong_to_filters() -> None:
    accumulators = np.full((2, 3, 1, 2), 20)
    out = golden.requantise(accumulators, np.array([0, 3, 1]), INT8)
    assert out[1, :, 0, 1].tolist() == [20, 2, 10]


@given(st.integers(-(1 << 47), (1 << 47) - 1), st.integers(0, 31))
def test_round_shift_is_the_rounding_of_exact_fractions(value: int, shift: int) -> None:
    assert golden.round_shift(np.array([value]), shift).tolist() == [round(Fraction(value, 1 << shift))]


# -- choosing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scores", "keep", "expected"),
    [
        ([5, 5, 5, 5], 2, [0, 1]),  # ties go to the lower index
        ([1, 5, 5, 5], 2, [1, 2]),
        ([5, 1, 7, 5], 2, [0, 2]),
        ([-3, -1, -2, -1], 3, [1, 2, 3]),
        ([-9, -9, -9, 0], 2, [0, 3]),
        ([1, 2, 3, 4], 4, [0, 1, 2, 3]),
        ([(1 << 60) + 1, 1 << 60, 0, 0], 1, [0]),  # floats could not tell these apart
        ([1 << 60, (1 << 60) + 1, 0, 0], 1, [1]),
    ],
)
def test_choose_by_hand(scores: list[int], keep: int, expected: list[int]) -> None:
    assert np.flatnonzero(golden.choose(np.array([scores]), keep)[0]).tolist() == expected


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_nothing_left_out_ranks_before_what_is_chosen(scores: list[int], data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, len(scores)))
    chosen = golden.choose(np.array([scores]), keep)[0]
    ranks = [(-score, index) for index, score in enumerate(scores)]
    assert chosen.sum() == keep
    assert max(r for r, c in zip(ranks, chosen, strict=True) if c) == sorted(ranks)[keep - 1]


# -- one layer by hand ------------------------------------------------------------------------------------------------
def _conv(**changes: object) -> Conv:
    """Sum of a 2 x 2 window over a 1 x 3 x 3 map, unless changed."""
    settings: dict[str, object] = {
        "name": "conv",
        "input": MapShape(1, 3, 3),
        "input_format": INT8,
        "weights": np.ones((1, 1, 2, 2), np.int64),
        "weight_bits": 8,
        "bias": np.zeros(1, np.int64),
        "output_format": LOGITS,
        "shift": None,
        "place": Place.ENGINE,
        "source": Source.DENSE,
    }
    return Conv(**(settings | changes))  # type: ignore[arg-type]


MAP = np.arange(1, 10).reshape(1, 1, 3, 3)  # 1 2 3 / 4 5 6 / 7 8 9


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[12, 16], [24, 28]]),
        ({"padding": (1, 0, 0, 1)}, [[3, 5, 3], [12, 16, 9], [24, 28, 15]]),
        ({"padding": (0, 1, 1, 0)}, [[5, 12, 16], [11, 24, 28], [7, 15, 17]]),
        ({"strides": 2}, [[12]]),
        ({"strides": 2, "padding": (1, 0, 1, 0)}, [[1, 5], [11, 28]]),
        ({"pool": 2}, [[28]]),
        ({"padding": (1, 0, 1, 0), "pool": 2}, [[12]]),  # the third row and column are dropped
        ({"weights": np.array([[[[1, 0], [0, -2]]]])}, [[-9, -10], [-12, -13]]),
        ({"bias": np.array([-20])}, [[-8, -4], [4, 8]]),
    ],
)
def test_convolution_by_hand(changes: dict[str, object], expected: list[list[int]]) -> None:
    assert golden.step(_conv(**changes), MAP).output[0, 0].tolist() == expected


def test_dense_weights_are_channel_major() -> None:
    layer = Dense(
        name="dense",
        input=MapShape(2, 1, 2),
        input_format=INT8,
        weights=np.array([[[[1, 10]], [[100, -100]]]]),
        weight_bits=8,
        bias=np.array([1000]),
        output_format=LOGITS,
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    assert golden.step(layer, np.array([[[[1, 2]], [[3, -4]]]])).output.ravel().tolist() == [1721]


def test_strength_is_that_of_the_input_after_pooling_and_counts_the_lowest_value_in_full() -> None:
    maps = np.array([[[[-128, 127], [-1, 0]], [[0, 0], [0, 0]]]])
    assert golden.strength(maps).tolist() == [[256, 0]]
    design = digits_like(0)
    run = golden.run(design, random_frames(design, 7, 0))
    assert np.array_equal(run.layer("conv2").strengths, np.abs(run.layer("conv1").output).sum(axis=(2, 3)))


def test_widest_accumulators_are_exact() -> None:
    channels = 4096  # every product at its extreme, all of one sign, plus a bias that float32 could not hold
    layer = _conv(
        input=MapShape(channels, 1, 1),
        weights=np.full((1, channels, 1, 1), -128),
        bias=np.array([-(1 << 46) - 1]),
    )
    maps = np.full((1, channels, 1, 1), -128)
    assert golden.accumulate(layer, maps).item() == channels * 128 * 128 - (1 << 46) - 1


# -- bad input --------------------------------------------------------------------------------------------------------
def test_frames_are_checked() -> None:
    design = digits_like(0)
    good = random_frames(design, 2, 0)
    for frames, message in (
        (good[0], r"shape \(1, 8, 8\); 'digits_like' takes \(frames, 1, 8, 8\)"),
        (good.transpose(0, 2, 3, 1), r"shape \(2, 8, 8, 1\)"),
        (good.astype(np.float32), "dtype float32; accepted: integers"),
        (good + 1000, "values from .* accepted: 0 to 255"),
        (good - 1000, "values from .* accepted: 0 to 255"),
    ):
        with pytest.raises(ValueError, match=message):
            golden.run(design, frames)  # type: ignore[arg-type]


def test_keep_is_checked() -> None:
    design = digits_like(0)
    frames = random_frames(design, 1, 0)
    with pytest.raises(KeyError, match=r"'conv1'.*lazy layers: conv2, conv3") as error:
        golden.run(design, frames, keep={"conv1": 3})
    assert not str(error.value).startswith(("'", '"'))
    for count in (0, 33):
        with pytest.raises(ValueError, match=f"'conv2': keep is {count}; accepted: 1 to 32"):
            golden.run(design, frames, keep={"conv2": count})
    with pytest.raises(ValueError, match="chunks of 0 frames"):
        golden.stream(design, frames, chunk=0)
    with pytest.raises(KeyError, match="no layer 'nope'; there are: conv1, conv2"):
        golden.run(design, frames).layer("nope")


def test_keep_changes_choices_and_bytes() -> None:
    design = digits_like(0)
    frames = random_frames(design, 14, 0)
    runs = {count: golden.run(design, frames, keep={"conv3": count}).layer("conv3") for count in (8, 16, 64)}
    for count, trace in runs.items():
        assert (trace.chosen.sum(axis=1) == count).all()
        assert np.array_equal(trace.bytes * 64, runs[64].bytes * count)
    assert not (runs[8].chosen & ~runs[16].chosen).any()


# -- the generator ----------------------------------------------------------------------------------------------------
def test_random_designs_are_reproducible_small_and_cover_what_they_promise() -> None:
    assert random_design(5).fingerprint == random_design(5).fingerprint != random_design(6).fingerprint
    assert digits_like(1).fingerprint == digits_like(1).fingerprint != digits_like(2).fingerprint
    designs = [random_design(seed) for seed in range(80)]
    layers = [layer for design in designs for layer in design.layers]
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    assert {layer.pool for layer in convs} == {1, 2, 4}
    assert {layer.strides for layer in convs} == {1, 2}
    assert {k for layer in convs for k in layer.kernel} >= {1, 2, 3, 4, 5}
    assert any(layer.padding[0] != layer.padding[1] for layer in convs)
    assert {layer.weight_bits for layer in layers} == set(range(2, 9))
    assert {(f.bits, f.signed) for f in (layer.input_format for layer in layers)} == {
        (bits, signed) for bits in range(2, 9) for signed in (True, False)
    }
    assert {design.engine.bus_bytes for design in designs} == {4, 8, 16}
    assert {len(design.head) for design in designs} == {0, 1, 2, 3}
    assert {len(design.tail) for design in designs} == {1, 2, 3, 4}
    assert any(layer.shift is not None and len(set(layer.shift.tolist())) > 1 for layer in layers)
    assert any(not layer.kept_taps.all() for layer in layers)
    assert {type(design.layers[-1]) for design in designs} == {Conv, Dense}
    limit = max(
        sum(int(x.kept_taps.sum()) * -(-x.filters // n.filters) * -(-x.grid[0] * x.grid[1] // n.pixels) for x in d.tail)
        for d in designs
        for n in [d.engine.lanes]
    )
    assert limit <= MAX_CYCLES
