"""`Design` and its layers: derived figures, what is refused and how the message reads, and the fingerprint."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.design import (
    Conv,
    Dense,
    Design,
    DesignError,
    Engine,
    IntFormat,
    Lanes,
    Layer,
    LinearPredictor,
    MapShape,
    Place,
    Residual,
    Source,
    signed_bits,
)
from hw.emit.maps import Maps
from hw.emit.program import Program
from sim import golden
from tests.designs import (
    digits_like,
    random_design,
    random_frames,
    random_residual_design,
    random_strided_design,
    same_padding,
)

UINT8 = IntFormat(8, False, -4)


def _conv(**changes: object) -> Conv:
    """A 3 x 3 convolution of 2 channels of 6 x 5 to 4 filters on the engine, unless changed."""
    settings: dict[str, object] = {
        "name": "conv",
        "input": MapShape(2, 6, 5),
        "input_format": UINT8,
        "weights": np.ones((4, 2, 3, 3), np.int64),
        "weight_bits": 8,
        "bias": np.zeros(4, np.int64),
        "output_format": UINT8,
        "shift": np.full(4, 5),
        "place": Place.ENGINE,
        "source": Source.DENSE,
    }
    return Conv(**(settings | changes))  # type: ignore[arg-type]


def test_one_number_for_all_weights_takes_no_memory() -> None:
    full = _conv(weights=np.full((4, 2, 3, 3), 7))
    one = _conv(weights=np.broadcast_to(np.int8(7), (4, 2, 3, 3)))
    assert not any(one.weights.strides)
    assert one.weights.dtype == np.int64
    assert not one.weights.flags.writeable
    assert np.array_equal(one.weights, full.weights)


# -- numbers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("number", "low", "high", "magnitude"),
    [
        (IntFormat(8, False, 0), 0, 255, 255),
        (IntFormat(8, True, 0), -128, 127, 128),
        (IntFormat(2, False, 0), 0, 3, 3),
        (IntFormat(2, True, 0), -2, 1, 2),
    ],
)
def test_ranges_of_formats(number: IntFormat, low: int, high: int, magnitude: int) -> None:
    assert (number.low, number.high, number.magnitude) == (low, high, magnitude)


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 1 << 40))
def test_signed_bits_is_the_smallest_width(low: int, span: int) -> None:
    high = low + span
    bits = signed_bits(low, high)
    assert -(1 << (bits - 1)) <= low
    assert high < 1 << (bits - 1)
    if bits > 1:
        assert low < -(1 << (bits - 2)) or high >= 1 << (bits - 2)


@pytest.mark.parametrize("seed", range(15))
def test_no_accumulator_score_or_strength_leaves_its_width(seed: int) -> None:
    design = random_design(seed)
    maps = random_frames(design, 28, seed)
    for layer in design.layers:
        limit = 1 << (layer.accumulator_bits - 1)
        sums = golden.accumulate(layer, maps)
        assert -limit <= sums.min()
        assert sums.max() < limit
        trace = golden.step(layer, maps)
        assert trace.strengths.max() <= layer.strength_high
        if layer.predictor is not None:
            assert trace.scores is not None
            assert np.abs(trace.scores).max() < 1 << (layer.predictor.score_bits(layer.strength_high) - 1)
        maps = trace.output


def test_accumulator_width_follows_fan_in_and_bias() -> None:
    assert _conv().accumulator_bits == signed_bits(-18 * 128 * 255, 18 * 128 * 255) == 21
    taps = np.zeros((2, 3, 3), np.bool_)
    taps[0, 0, 0] = True
    assert _conv(taps=taps, weights=np.ones((4, 2, 3, 3), np.int64) * taps).accumulator_bits == 16
    assert _conv(bias=np.array([0, 0, 1 << 30, 0])).accumulator_bits == 32


# -- geometry ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "grid", "output"),
    [
        ({}, (4, 3), (4, 3)),
        ({"padding": (1, 1, 1, 1)}, (6, 5), (6, 5)),
        ({"padding": (1, 1, 1, 1), "pool": 2}, (6, 5), (3, 2)),
        ({"padding": (1, 1, 1, 1), "strides": 2}, (3, 3), (3, 3)),
        ({"padding": (0, 1, 1, 0), "strides": 2}, (3, 2), (3, 2)),
        ({"pool": 2}, (4, 3), (2, 1)),
    ],
)
def test_shapes(changes: dict[str, object], grid: tuple[int, int], output: tuple[int, int]) -> None:
    layer = _conv(**changes)
    assert layer.grid == grid
    assert (layer.output.channels, layer.output.height, layer.output.width) == (4, *output)


@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.integers(1, 5), st.sampled_from([1, 2]))
def test_same_padding_is_accepted_and_keeps_the_size(size: tuple[int, int], kernel: int, stride: int) -> None:
    layer = _conv(
        input=MapShape(1, *size),
        weights=np.ones((4, 1, kernel, kernel), np.int64),
        padding=same_padding(size, (kernel, kernel), stride),
        strides=stride,
    )
    assert layer.grid == (-(-size[0] // stride), -(-size[1] // stride))


def test_pad_is_what_lies_above_and_left() -> None:
    assert _conv(padding=(1, 0, 0, 1)).pad == (1, 0)


# -- layers are frozen copies -----------------------------------------------------------------------------------------
def test_layers_do_not_change() -> None:
    weights = np.ones((4, 2, 3, 3), np.int64)
    layer = _conv(weights=weights)
    weights[:] = 5
    assert (layer.weights == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0, 0, 0, 0] = 2
    with pytest.raises(FrozenInstanceError):
        layer.name = "other"  # type: ignore[misc]


# -- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones((4, 3, 3, 3))}, r"weights have shape \(4, 3, 3, 3\); accepted: \(filters, 2, kh, kw\)"),
        ({"weights": np.full((4, 2, 3, 3), 128)}, "weights leave the range of 8 bits .*-128 to 127"),
        ({"weights": np.full((4, 2, 3, 3), -9), "weight_bits": 4}, "range of 4 bits"),
        ({"weights": np.ones((0, 2, 3, 3)), "bias": np.zeros(0), "shift": np.zeros(0)}, ""),
        ({"weight_bits": 1}, "weights have 1 bits; accepted: 2 to 8"),
        ({"weight_bits": 9}, "weights have 9 bits"),
        ({"input_format": IntFormat(9, False, 0)}, "activations have 9 bits; accepted: 2 to 8"),
        ({"output_format": IntFormat(16, True, 0)}, "output has 16 bits"),
        ({"bias": np.zeros(3)}, r"bias has shape \(3,\); accepted: \(4,\)"),
        ({"shift": np.zeros(1)}, r"shift has shape \(1,\)"),
        ({"shift": np.array([0, 0, -1, 0])}, "shifts by -1 to 0 bits; accepted: 0 to 31"),
        ({"shift": np.array([0, 0, 32, 0])}, "shifts by 0 to 32 bits"),
        ({"shift": None}, "accumulators of 21 bits leave as"),
        ({"shift": None, "output_format": IntFormat(20, True, 0)}, "accumulators of 21 bits"),
        ({"bias": np.full(4, 1 << 50)}, "accumulators need 52 bits; accepted: at most 48"),
        ({"taps": np.ones((2, 3, 2), np.bool_)}, r"taps have shape \(2, 3, 2\); accepted: \(2, 3, 3\)"),
        ({"taps": np.zeros((2, 3, 3), np.bool_)}, "a removed tap has a weight"),
        ({"strides": 3}, "stride 3; accepted: 1 or 2"),
        ({"pool": 3}, "max-pooling of 3"),
        ({"pool": 4}, "a map of 6 x 5 leaves no output"),
        ({"weights": np.ones((4, 2, 8, 8))}, r"kernel \(8, 8\); accepted: up to 7 x 7"),
        ({"input": MapShape(2, 2, 2)}, "a map of 2 x 2 leaves no output"),
        ({"padding": (2, 1, 1, 1)}, "padding .* makes the output larger than the input"),
        ({"padding": (-1, 1, 1, 1)}, "padding .*; accepted: 0 to 6"),
        ({"place": Place.HEAD}, "place 'head' with weights 'dense'"),
        ({"source": Source.RESIDENT}, "place 'engine' with weights 'resident'"),
        ({"place": Place.HEAD, "source": Source.RESIDENT}, "lanes"),
        ({"lanes": Lanes(1, 1)}, "lanes"),
        ({"source": Source.LAZY}, "predictor and keep"),
        ({"keep": 2}, "predictor and keep"),
    ],
)
def test_bad_layers_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DesignError, match=f"layer 'conv': .*{message}"):
        _conv(**changes)


def _lazy(**changes: object) -> Conv:
    predictor = LinearPredictor(np.ones((2, 4), np.int64), np.zeros(4, np.int64))
    return _conv(**({"source": Source.LAZY, "predictor": predictor, "keep": 2} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": 0}, "keep is 0; accepted: 1 to 4 filters"),
        ({"keep": 5}, "keep is 5"),
        ({"keep": None}, "predictor and keep"),
        ({"predictor": None}, "predictor and keep"),
        (
            {"predictor": LinearPredictor(np.ones((4, 2), np.int64), np.zeros(2, np.int64))},
            r"predictor is \(4, 2\); accepted: \(channels, filters\) = \(2, 4\)",
        ),
    ],
)
def test_bad_lazy_layers_are_named(changes: dict[str, object], message: str) -> None:
    assert _lazy().lazy
    with pytest.raises(DesignError, match=f"layer 'conv': {message}"):
        _lazy(**changes)


def test_dense_kernels_cover_the_map() -> None:
    fields = {name: getattr(_conv(), name) for name in Layer.__dataclass_fields__}
    with pytest.raises(
        DesignError, match=r"layer 'conv': weights have shape \(4, 2, 3, 3\); accepted: a kernel that covers"
    ):
        Dense(**fields)


@pytest.mark.parametrize(
    ("weights", "bias", "message"),
    [
        (np.ones((2, 4)), np.zeros(3), r"weights \(2, 4\) and bias \(3,\)"),
        (np.ones(4), np.zeros(4), r"weights \(4,\)"),
        (np.full((2, 4), 128), np.zeros(4), "leave the range of int8"),
        (np.full((2, 4), -129), np.zeros(4), "leave the range of int8"),
    ],
)
def test_bad_predictors_are_refused(weights: np.ndarray, bias: np.ndarray, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        LinearPredictor(weights, bias)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4, 3)])
def test_bad_lanes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(DesignError, match="lanes"):
        Lanes(*shape)


@pytest.mark.parametrize("setting", ["bus_bytes", "predictor_lanes", "outstanding", "max_burst"])
def test_bad_engines_are_refused(setting: str) -> None:
    with pytest.raises(DesignError, match=f"engine: {setting} is 3; accepted: "):
        Engine(Lanes(1, 1), **{setting: 3})


# -- whole designs ----------------------------------------------------------------------------------------------------
def _swap(design: Design, index: int, **changes: object) -> Design:
    tail = list(design.tail)
    tail[index] = replace(tail[index], **changes)  # type: ignore[arg-type]
    return replace(design, tail=tuple(tail))


def test_designs_that_do_not_fit_together_are_refused() -> None:
    design = digits_like(0)
    with pytest.raises(DesignError, match="'conv2' occurs twice"):
        _swap(design, 1, name="conv2")
    with pytest.raises(DesignError, match=r"layer 'conv3' expects .* but is given"):
        _swap(design, 0, output_format=IntFormat(7, False, -5))
    with pytest.raises(DesignError, match="layer 'conv2' expects"):
        replace(design, head=())
    with pytest.raises(DesignError, match="no layer is placed on the engine"):
        replace(design, tail=())
    with pytest.raises(DesignError, match="layer 'conv2' is placed in 'engine'"):
        replace(design, head=(*design.head, design.tail[0]), tail=design.tail[1:])
    with pytest.raises(DesignError, match="layer 'conv3' ends the network with a 2 x 2 map"):
        replace(design, tail=design.tail[:2])
    for name in ("two words", "small", "größe"):  # small is a keyword of SystemVerilog
        with pytest.raises(DesignError, match=f"design name '{name}'; accepted: letters, digits and underscores"):
            replace(design, name=name)
    with pytest.raises(DesignError, match="layer 'dense' ends the network with a 1 x 1 map"):
        _swap(design, 2, shift=np.full(10, 5), output_format=UINT8)
    with pytest.raises(DesignError, match=r"layer 'conv2': pinned filters are \(3, 2\)"):
        _swap(design, 0, pinned=(3, 2))
    with pytest.raises(DesignError, match=r"layer 'dense' is the last and has pinned filters \(1,\)"):
        _swap(design, 2, pinned=(1,))
    with pytest.raises(DesignError, match="head stage has pinned filters"):
        replace(design.head[0], pinned=(0,))
    lazy = LinearPredictor(np.zeros((64, 10), np.int64), np.zeros(10, np.int64))
    with pytest.raises(DesignError, match="layer 'dense' is the last and lazy"):
        _swap(design, 2, source=Source.LAZY, predictor=lazy, keep=5)
    with pytest.raises(DesignError, match="fully connected layer is placed in the head"):
        replace(design.tail[2], place=Place.HEAD, source=Source.RESIDENT, lanes=Lanes(1, 1))
    with pytest.raises(DesignError, match="layer 'conv2' is not requantised"):
        _swap(design, 0, shift=None, output_format=IntFormat(48, True, 0))


def test_what_a_design_knows_of_its_layers() -> None:
    design = digits_like(0)
    assert [layer.name for layer in design.layers] == ["conv1", "conv2", "conv3", "dense"]
    assert [layer.name for layer in design.lazy_layers] == ["conv2", "conv3"]
    assert design.outputs == 10
    assert design.output_format == design.tail[-1].output_format
    assert (design.engine.lanes.multipliers, design.tail[1].strength_high) == (32, 16 * 255)


def test_fingerprint_sees_every_part() -> None:
    design = digits_like(0)
    layer = design.tail[0]
    weights, bias = layer.weights.copy(), layer.bias.copy()
    weights[3, 2, 1, 0] ^= 1
    bias[5] += 1
    assert layer.predictor is not None
    predictor = LinearPredictor(layer.predictor.weights, layer.predictor.bias + 1)
    others = [
        digits_like(1),
        replace(design, name="other"),
        replace(design, engine=Engine(Lanes(8, 8))),
        _swap(design, 0, weights=weights),
        _swap(design, 0, bias=bias),
        _swap(design, 0, keep=3),
        _swap(design, 0, predictor=predictor),
    ]
    prints = {d.fingerprint for d in [design, *others]}
    assert len(prints) == 1 + len(others)
    assert all(0 <= value < 1 << 64 for value in prints)
    assert digits_like(0).fingerprint == design.fingerprint


def test_fingerprint_does_not_depend_on_how_arrays_were_given() -> None:
    design = digits_like(0)
    layer = design.tail[0]
    fortran = np.asfortranarray(layer.weights.astype(np.int8))
    assert _swap(design, 0, weights=fortran, taps=None).fingerprint == design.fingerprint


# -- branches ---------------------------------------------------------------------------------------------------------
def _branch(first: dict[str, object], inside: dict[str, object], last: dict[str, object]) -> Design:
    """Three convolutions, the last of which adds what the first leaves, and a dense layer."""
    same: dict[str, object] = {"padding": (1, 1, 1, 1)}
    four: dict[str, object] = {"input": MapShape(4, 6, 5), "weights": np.ones((4, 4, 3, 3), np.int64)}
    convolutions = (
        _conv(**(same | {"name": "first"} | first)),
        _conv(**(same | four | {"name": "inside"} | inside)),
        _conv(**(same | four | {"name": "last", "residual": Residual("first", UINT8)} | last)),
    )
    dense = Dense(
        name="dense",
        input=MapShape(4, 6, 5),
        input_format=convolutions[-1].output_format,
        weights=np.ones((3, 4, 6, 5), np.int64),
        weight_bits=8,
        bias=np.zeros(3, np.int64),
        output_format=IntFormat(40, True, 0),
        shift=None,
        place=Place.ENGINE,
        source=Source.DENSE,
    )
    return Design("branch", convolutions[0].input, UINT8, (), (*convolutions, dense), Engine(Lanes(2, 4)))


def test_a_residual_is_added_before_the_rounding() -> None:
    design = _branch({}, {}, {"output_format": replace(UINT8, exponent=-3)})
    last = design.layers[2]
    assert last.residual_shift.tolist() == [4] * 4  # 5 down for a scale of -3, so the accumulators' is -8
    frames = random_frames(design, 3, 1)
    run = golden.run(design, frames)
    sums = golden.accumulate(last, run.layer("inside").output) + (run.layer("first").output << 4)
    assert np.array_equal(run.layer("last").output, golden.requantise(sums, np.full(4, 5), last.output_format))
    assert design.chained == (False, True, True, True)


LAZY: dict[str, object] = {
    "source": Source.LAZY,
    "keep": 2,
    "predictor": LinearPredictor(np.ones((4, 4), np.int64), np.zeros(4, np.int64)),
}
WIDE = np.ones((5, 2, 3, 3), np.int64), np.zeros(5, np.int64), np.full(5, 5)
FIVE = dict(zip(("weights", "bias", "shift"), WIDE, strict=True))


@pytest.mark.parametrize(
    ("first", "inside", "last", "message"),
    [
        ({}, {}, LAZY, "layer 'last': a residual is added in a lazy layer; accepted: a dense one"),
        ({}, {}, {"strides": 2}, "layer 'last': a residual is added to a grid of"),
        ({}, {}, {"shift": np.full(4, 0), "output_format": replace(UINT8, exponent=0)}, "is shifted by -4 to -4 bits"),
        ({}, {}, {"residual": Residual("nobody", UINT8)}, "layer 'last' reads or adds 'nobody'; accepted: an earlier"),
        ({}, {}, {"residual": Residual("first", IntFormat(7, False, -4))}, "layer 'last' adds 'first', a dense layer"),
        ({"pinned": (1,)}, {}, {}, "with pinned filters (1,); accepted: a dense layer that leaves"),
        ({}, {}, {"residual": None, "reads": "first"}, "no layer reads or adds what 'inside' leaves"),
        ({}, LAZY, {"reads": "first"}, "no layer reads or adds what 'inside' leaves"),
        (FIVE, {"reads": "later"}, {}, "layer 'inside' reads or adds 'later'"),
    ],
)
def test_branches_that_cannot_be_built_are_refused(
    first: dict[str, object], inside: dict[str, object], last: dict[str, object], message: str
) -> None:
    with pytest.raises(DesignError, match=re.escape(message)):
        _branch(first, inside, last)


def test_a_branch_begins_at_a_dense_layer() -> None:
    lazy = LAZY | {"predictor": LinearPredictor(np.ones((2, 4), np.int64), np.zeros(4, np.int64))}
    with pytest.raises(DesignError, match="layer 'first' is lazy and 'last', which is not the layer behind it, reads"):
        _branch(lazy, {}, {"residual": Residual("inside", UINT8), "reads": "first"})


@pytest.mark.parametrize("pixels", [1, 4, 16])
def test_a_tap_into_quarters_reads_the_pixel_that_it_means(pixels: int) -> None:
    found = 0
    for seed in range(12):
        program = Program(replace(random_strided_design(seed), engine=Engine(Lanes(2, pixels))))
        for step, (layer, walk) in enumerate(zip(program.steps, program.geometries, strict=True)):
            assert walk.quartered == program.maps.reads_quarters(step)
            if not walk.quartered:
                continue
            found += 1
            shape, words = layer.input, [np.arange(layer.input.pixels).reshape(layer.input.height, -1)]
            memory = np.full(walk.words * pixels, -1)
            for quarter, (row, column) in enumerate(product(range(2), range(2))):
                part = words[0][row::2, column::2].ravel()
                memory[quarter * len(memory) // 4 :][: part.size] = part
            (rows, columns), (top, left) = layer.grid, layer.pad
            taps = product(*map(range, layer.kernel))
            for (ky, kx), (dy, dx, shift) in zip(taps, walk.taps, strict=True):
                for row, column in product(range(rows), range(columns)):
                    y, x = 2 * row + ky - top, 2 * column + kx - left
                    inside = 0 <= y < shape.height and 0 <= x < shape.width
                    assert inside == (0 <= row + dy < walk.height and 0 <= column + dx < walk.width)
                    if inside:
                        assert memory[row * walk.width + column + shift] == y * shape.width + x
    assert found > 12


def test_only_what_layers_of_stride_two_read_lies_in_quarters() -> None:
    kinds = set()
    designs = [*map(random_residual_design, range(40, 60)), *map(random_strided_design, range(6))]
    for design in designs:
        maps = Maps(design, design.engine.lanes.pixels)
        for step, layer in enumerate(design.tail):
            strides = {x.stride for x, source in zip(design.tail, design.tail_sources, strict=True) if source == step}
            even, added = layer.output.height % 2 + layer.output.width % 2 == 0, maps.recorded(step) is not None
            kinds.add((quartered := maps.quartered(step), strides == {2}, even, added))
            assert quartered == (strides == {2} and even and not added)
    assert {(True, True, True, False), (False, True, False, False), (False, False, True, True)} <= kinds


def test_maps_share_no_memory_while_they_are_needed() -> None:
    for seed in range(1, 26):
        design = random_residual_design(seed)
        maps = Maps(design, design.engine.lanes.pixels)
        places = {layer.name: step for step, layer in enumerate(design.tail)}
        regions: dict[int, int] = {}  # by region, the step whose output is there
        tape: dict[int, int] = {}
        for step, (layer, source) in enumerate(zip(design.tail, design.tail_sources, strict=True)):
            if source >= 0:
                assert regions[maps.read(step) or 0] == source
            if layer.residual is not None:
                assert tape[maps.played(step) or 0] == places[layer.residual.layer]
            if (region := maps.stored(step)) is not None:
                assert region != maps.read(step)
                regions[region] = step
            if (entry := maps.recorded(step)) is not None:
                tape[entry] = step
