"""From hls4ml's `ModelGraph` to a `Design`.

hls4ml keeps weights as real numbers that lie on a grid, quantisers as fixed-point types, and bias, activation and
pooling as layers of their own. Here everything becomes integers again: a weighted layer takes up what follows it until
the next weighted layer (its *stage*), and anything that integers cannot follow exactly is refused, naming the layer.
Where branches join, the sum belongs to the stage whose accumulators it takes; a sum of two quantised maps gets a stage
of its own, a convolution that changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hw.design import (
    ACCUMULATOR_LIMIT,
    ClassPredictor,
    Conv,
    Dense,
    Design,
    DesignError,
    IntArray,
    IntFormat,
    Lanes,
    Layer,
    MapShape,
    Mode,
    PathPredictor,
    Place,
    Predictor,
    Residual,
    Source,
)
from hw.frames import Layout, frame_shape
from hw.graph import label
from hw.options import (
    HEAD_WEIGHT_BYTES,
    LayerOptions,
    engine_options,
    kept_columns,
    kept_filters,
    layer_options,
    load_predictor,
)
from hw.quantisers import ActivationGrid, ConstantQuantizer, FloatArray, activation_grid

HEAD_LANES = (2, 4)  # filters and pixels of a head stage, if nothing else is said


@dataclass(frozen=True)
class Lowered:
    """A `Design`, and the order of axes in which the network takes its frames."""

    design: Design
    layout: Layout


@dataclass
class Stage:
    """A weighted layer, and what has been found behind it so far.

    `weights` are integers (filters, channels, kh, kw) in units of ``2**exponents[filter]``; `bias` is real. The output
    of `source` is read (None: the network's input), that of `residual` is added to the sums.
    """

    name: str
    options: LayerOptions
    input: MapShape
    input_format: IntFormat
    weights: IntArray
    weight_bits: int
    exponents: IntArray
    bias: FloatArray
    convolution: bool
    source: Stage | None = None
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    residual: Stage | None = None
    pool: int = 1
    relu: bool = False
    grid: ActivationGrid | None = None

    @property
    def filters(self) -> int:
        """Output channels."""
        return int(self.weights.shape[0])

    def output(self) -> MapShape:
        """Shape of the output, pooling included."""
        if not self.convolution:
            return MapShape(self.filters, 1, 1)
        (top, bottom, left, right), (kh, kw) = self.padding, self.weights.shape[2:]
        rows = (self.input.height + top + bottom - kh) // self.stride + 1
        columns = (self.input.width + left + right - kw) // self.stride + 1
        return MapShape(self.filters, rows // self.pool, columns // self.pool)

    def output_format(self) -> IntFormat:
        """Format of the activations that leave; raises `DesignError` if no quantiser says it."""
        if self.grid is None:
            raise DesignError(
                f"layer '{self.name}': its output is not quantised; "
                "accepted: a quantiser after every layer but the last"
            )
        grid = self.grid.rectified() if self.relu else self.grid
        if grid.narrow:
            raise DesignError(
                f"layer '{self.name}': its output has a narrow range of {grid.format.bits} bits; "
                "accepted: the full range (narrow range is for weights)"
            )
        return grid.format


@dataclass
class Walk:
    """Where lowering stands: a tensor, the `stage` that it is the output of, and all stages so far.

    Several nodes read a `shared` tensor. `order` has the tensor's shape; it tells for every element which element
    (flat, of channel, row, column) of the map `shape` it is. So layers that only move data leave no trace but here.
    """

    order: IntArray
    shape: MapShape
    layout: Layout
    format: IntFormat | None = None
    stages: list[Stage] = field(default_factory=list)
    stage: Stage | None = None
    shared: bool = False


def lower(model: Any) -> Lowered:
    """The `Design` of an optimised hls4ml `ModelGraph`; raises `DesignError` naming layer, found and accepted."""
    walks: dict[str, Walk] = {}  # by name of the tensor
    for node in model.graph.values():
        given = [walks[name] for name in node.inputs if name in walks]
        if node.class_name == "Input":
            walk = _start(node)
        elif not given:
            continue  # a constant
        else:
            walk = replace(given[0])
            if len(given) == 2 and node.class_name == "Merge":
                _sum(walk, given[1], node)
            elif node.class_name in HANDLERS:
                HANDLERS[node.class_name](walk, node)
            else:
                raise DesignError(
                    f"layer '{node.name}' ({label(node)}) is not supported here; supported: {', '.join(HANDLERS)}"
                )
        walk.shared = len(node.get_output_nodes()) > 1
        if walk.shared and walk.stage is None and walk.format is not None:
            _identity(walk, f"{node.name}_copy", walk.format)
        walks[node.outputs[0]] = walk
    walk = walks[model.outputs[0]]
    if not walk.stages:
        raise DesignError("the network has no layer with weights; accepted: at least one Conv or MatMul")
    _finish(walk)
    config = model.config.config["HLSConfig"]
    stages = _ordered(walk.stages)
    layers = _place(stages)
    design = Design(
        name=str(model.config.get_project_name()),
        input=stages[0].input,
        input_format=stages[0].input_format,
        head=tuple(layer for layer in layers if layer.place is Place.HEAD),
        tail=tuple(layer for layer in layers if layer.place is Place.ENGINE),
        engine=engine_options(config.get("Model") or {}),
    )
    return Lowered(design, walk.layout)


# -- the walk from tensor to tensor -----------------------------------------------------------------------------------


def _canonical(shape: MapShape) -> IntArray:
    """Flat indices of a map as (channels, rows, columns)."""
    return np.arange(shape.channels * shape.pixels).reshape(shape.channels, shape.height, shape.width)


def _start(node: Any) -> Walk:
    """The walk at the graph's input, of (h, w, c) frames; (c, h, w) if the first thing done to them is a transpose."""
    variable = node.get_output_variable()
    sizes = tuple(int(size) for size in variable.shape)
    users = node.get_output_nodes()
    while users and users[0].class_name == "Activation":
        users = users[0].get_output_nodes()
    if len(sizes) == 1:
        walk = Walk(np.arange(sizes[0]), MapShape(sizes[0], 1, 1), Layout.FLAT)
    elif len(sizes) != 3:
        raise DesignError(
            f"layer '{node.name}': frames of shape {sizes}; accepted: (height, width, channels) or (values,)"
        )
    elif users and users[0].class_name == "Transpose" and list(users[0].get_attr("perm")) == [1, 2, 0]:
        shape = MapShape(*sizes)
        walk = Walk(_canonical(shape), shape, Layout.CHANNELS_FIRST)
    else:
        shape = MapShape(sizes[2], sizes[0], sizes[1])
        walk = Walk(_canonical(shape).transpose(1, 2, 0), shape, Layout.CHANNELS_LAST)
    assert walk.order.shape == frame_shape(walk.shape, walk.layout)
    # Where the input is given its quantiser's own precision, hls4ml has dropped the latter as a cast that does nothing.
    grid = activation_grid(variable.type.precision)
    if grid is not None:
        _quantise(walk, node, grid)
    return walk


def _activation(walk: Walk, node: Any) -> None:
    kind = str(node.get_attr("activation")).lower()
    quantizer = node.get_attr("quantizer")
    if kind == "relu":
        if walk.stage is None:
            raise DesignError(
                f"layer '{node.name}' is a ReLU before any layer with weights; accepted: after Conv or MatMul"
            )
        _alone(walk, node)
        walk.stage.relu = True
    elif kind != "linear":
        raise DesignError(f"layer '{node.name}' ({kind}) is not supported; supported: ReLU and quantisers")
    if quantizer is not None:
        _quantise(walk, node, _grid(node, quantizer))


def _grid(node: Any, quantizer: Any) -> ActivationGrid:
    grid = activation_grid(quantizer.hls_type)
    if grid is None:
        raise DesignError(
            f"layer '{node.name}' is quantised to {quantizer.hls_type}; accepted: round half to even (RND_CONV) and SAT"
        )
    return grid


def _quantise(walk: Walk, node: Any, grid: ActivationGrid) -> None:
    """The tensor is quantised to `grid`: requantisation of the stage, or the format of the network's input."""
    stage = walk.stage
    if stage is None:
        if grid.narrow:
            raise DesignError(f"layer '{node.name}': the input has a narrow range; accepted: the full range")
        if walk.format not in (None, grid.format):
            raise DesignError(f"layer '{node.name}': the input is quantised twice, to {walk.format} and {grid.format}")
        walk.format = grid.format
    elif stage.grid is None:
        _alone(walk, node)
        stage.grid = grid
    elif stage.grid != grid:
        raise DesignError(
            f"layer '{node.name}': the output of '{stage.name}' is quantised twice, to {stage.grid.format} "
            f"and {grid.format}; accepted: one quantiser"
        )


def _pooling(walk: Walk, node: Any) -> None:
    stage, size = walk.stage, int(node.get_attr("pool_height"))
    if stage is None or not stage.convolution:
        raise DesignError(
            f"layer '{node.name}' ({label(node)}) follows no convolution; accepted: max-pooling after Conv"
        )
    _require_map(walk, node)
    _alone(walk, node)
    stage.pool *= size
    walk.shape = stage.output()
    walk.order = _canonical(walk.shape).transpose(1, 2, 0)


def _softmax(walk: Walk, node: Any) -> None:  # noqa: ARG001 - as all handlers
    """Logits leave instead: softmax changes neither which is largest nor their order."""
    warnings.warn(
        f"layer '{node.name}' (Softmax) is left out: the accelerator answers with the logits, whose order is the same",
        stacklevel=2,
    )


def _reshape(walk: Walk, node: Any) -> None:
    walk.order = walk.order.reshape(tuple(int(size) for size in node.get_output_variable().shape))


def _transpose(walk: Walk, node: Any) -> None:
    walk.order = walk.order.transpose([int(axis) for axis in node.get_attr("perm")])


def _scale(walk: Walk, node: Any) -> None:
    """A bias that hls4ml has not merged into its layer: an `ApplyAlpha` whose scale is one."""
    scale = np.asarray(node.weights["scale"].data, np.float64)
    stage = walk.stage
    if stage is None or (scale != 1).any() or stage.relu or stage.grid is not None or stage.pool != 1:
        raise DesignError(
            f"layer '{node.name}' ({label(node)}) scales or shifts activations; "
            "accepted: a bias right after Conv or MatMul"
        )
    _alone(walk, node)
    bias = np.asarray(node.weights["bias"].data, np.float64).reshape(-1)
    if bias.size not in (1, stage.filters):
        raise DesignError(f"layer '{node.name}': {bias.size} biases; accepted: one for each of {stage.filters} filters")
    stage.bias = stage.bias + bias


def _conv(walk: Walk, node: Any) -> None:
    number = _feed(walk)
    _require_map(walk, node)
    strides = (int(node.get_attr("stride_height")), int(node.get_attr("stride_width")))
    if strides[0] != strides[1]:
        raise DesignError(f"layer '{_name(node)}': strides {strides}; accepted: the same in both directions, 1 or 2")
    real = np.asarray(node.weights["weight"].data, np.float64).transpose(3, 2, 0, 1)
    top, bottom, left, right = (int(node.get_attr(f"pad_{side}")) for side in ("top", "bottom", "left", "right"))
    _push(walk, node, number, real, convolution=True, stride=strides[0], padding=(top, bottom, left, right))


def _dense(walk: Walk, node: Any) -> None:
    number = _feed(walk)
    if walk.order.ndim != 1:
        raise DesignError(f"layer '{_name(node)}': input of shape {walk.order.shape}; accepted: a flattened one")
    real = np.asarray(node.weights["weight"].data, np.float64)
    ordered = np.empty_like(real)
    ordered[walk.order] = real  # row i multiplies element order[i] of the map
    shape = walk.shape
    _push(walk, node, number, ordered.T.reshape(-1, shape.channels, shape.height, shape.width), convolution=False)


def _alone(walk: Walk, node: Any) -> None:
    """`node` becomes a part of the stage before it, so nothing else may read what is between them."""
    if walk.shared:
        before = walk.stage.name if walk.stage is not None else "the input"
        raise DesignError(
            f"layer '{node.name}' ({label(node)}) changes what '{before}' leaves, which other layers read as it is; "
            "accepted: branches behind the quantiser, and behind pooling"
        )


def _sum(walk: Walk, other: Walk, node: Any) -> None:
    """The sum of two tensors: one is the residual of the stage whose accumulators the other is, or of a new stage."""
    for one in (walk, other):
        _require_map(one, node)
    if walk.shape != other.shape:
        raise DesignError(f"layer '{node.name}' adds {walk.shape} and {other.shape}; accepted: maps of the same shape")
    open_, closed = (walk, other) if _open(walk) else (other, walk)
    if _open(closed):
        raise DesignError(
            f"layer '{node.name}' adds two maps that are not quantised, of {_described(walk)} and {_described(other)}; "
            "accepted: at most one of them as its layer's accumulators, the other one behind a quantiser"
        )
    if not _open(open_):  # both are quantised: read the one of finer scale, or the later one
        places = {id(stage): place for place, stage in enumerate(walk.stages)}
        open_, closed = sorted((walk, other), key=lambda one: (_feed(one).exponent, -places[id(one.stage)]))
        open_ = replace(open_)
        _identity(open_, node.name, None)
    stage = open_.stage
    assert stage is not None
    if stage.relu or stage.residual is not None or stage.pool != 1:
        found = "ReLU" if stage.relu else "pooling" if stage.pool != 1 else "sum"
        raise DesignError(
            f"layer '{node.name}' adds to what '{stage.name}' leaves behind its {found} and before a quantiser; "
            "accepted: its plain accumulators, or a quantiser before the sum"
        )
    _alone(open_, node)
    _feed(closed)
    stage.residual = closed.stage
    walk.stage, walk.shape, walk.order, walk.format = stage, open_.shape, open_.order, open_.format
    merged = node.get_attr("quantizer")
    walk.shared = False
    if merged is not None:
        _quantise(walk, node, _grid(node, merged))


def _open(walk: Walk) -> bool:
    """Whether the tensor is accumulators that no quantiser has followed yet."""
    return walk.stage is not None and walk.stage.grid is None


def _described(walk: Walk) -> str:
    return f"'{walk.stage.name}'" if walk.stage is not None else "the input"


def _identity(walk: Walk, name: str, target: IntFormat | None) -> None:
    """Open a stage that leaves what it reads: a convolution with a diagonal of ones, quantised to `target`."""
    channels = walk.shape.channels
    stage = Stage(
        name=name,
        options=LayerOptions(),
        input=walk.shape,
        input_format=_feed(walk),
        weights=np.eye(channels, dtype=np.int64)[:, :, None, None],
        weight_bits=2,
        exponents=np.zeros(channels, np.int64),
        bias=np.zeros(channels),
        convolution=True,
        source=walk.stage,
        grid=None if target is None else ActivationGrid(target, narrow=False),
    )
    walk.stages.append(stage)
    walk.stage, walk.shared = stage, False


def _push(
    walk: Walk,
    node: Any,
    number: IntFormat,
    real: FloatArray,
    *,
    convolution: bool,
    stride: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> None:
    """Open the stage of a weighted layer whose real weights are `real` (filters, channels, kh, kw)."""
    name = _name(node)
    quantizer = node.get_attr("weight_quantizer")
    if not isinstance(quantizer, ConstantQuantizer):
        raise DesignError(f"layer '{name}': its weights are not quantised; accepted: a quantiser of 2 to 8 bits")
    exponents = np.broadcast_to(quantizer.exponents, real.shape[:1])
    stage = Stage(
        name=name,
        options=layer_options(name, dict(node.attributes)),
        input=walk.shape,
        input_format=number,
        weights=_integers(f"layer '{name}': weights", real, exponents),
        weight_bits=quantizer.bits,
        exponents=exponents,
        bias=np.asarray(node.weights["bias"].data, np.float64).reshape(-1),
        convolution=convolution,
        source=walk.stage,
        stride=stride,
        padding=padding,
    )
    walk.stages.append(stage)
    walk.stage, walk.shared = stage, False
    walk.shape = stage.output()
    walk.order = _canonical(walk.shape)
    walk.order = walk.order.transpose(1, 2, 0) if convolution else walk.order.reshape(-1)
    merged = node.get_attr("quantizer")  # hls4ml merges a quantiser that follows directly
    if merged is not None:
        _quantise(walk, node, _grid(node, merged))


def _feed(walk: Walk) -> IntFormat:
    """Format of the activations that the next weighted layer reads."""
    if walk.stage is not None:
        walk.format = walk.stage.output_format()
    if walk.format is None:
        raise DesignError("the network's input is not quantised; accepted: a quantiser before the first layer")
    return walk.format


def _finish(walk: Walk) -> None:
    """The last layer's accumulators leave as they are."""
    stage = walk.stages[-1]
    if walk.stage is not stage:
        raise DesignError(
            f"layer '{stage.name}' comes after the network's output; accepted: one output, of the last layer"
        )
    for found, what in (
        (stage.residual, "a sum"),
        (stage.grid, "a quantiser"),
        (stage.relu or None, "a ReLU"),
        (stage.pool if stage.pool > 1 else None, "pooling"),
    ):
        if found is not None:
            raise DesignError(
                f"layer '{stage.name}': {what} follows the last layer; accepted: nothing, its exact accumulators leave"
            )
    if (walk.order.reshape(-1) != np.arange(walk.order.size)).any():
        raise DesignError(
            f"layer '{stage.name}': its outputs are reordered; accepted: logits in the order of the filters"
        )


def _require_map(walk: Walk, node: Any) -> None:
    expected = _canonical(walk.shape).transpose(1, 2, 0)
    if walk.order.shape != expected.shape or (walk.order != expected).any():
        raise DesignError(
            f"layer '{_name(node)}' reads a tensor of shape {walk.order.shape} that reshapes or transposes have "
            "reordered; accepted: (height, width, channels) as the layer before gave it"
        )


HANDLERS: dict[str, Callable[[Walk, Any], None]] = {
    "Conv2D": _conv,
    "Dense": _dense,
    "Activation": _activation,
    "Pooling2D": _pooling,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Softmax": _softmax,
    "ApplyAlpha": _scale,
    "BatchNormalization": _scale,
}
"""Class of `ModelGraph` node to what it does to the walk."""


def _name(node: Any) -> str:
    """The ONNX node's name: hls4ml puts the class before it when it makes its own layer of the node."""
    return str(node.name).removeprefix(f"{node.class_name}_")


def _integers(what: str, real: FloatArray, exponents: IntArray) -> IntArray:
    """``real / 2**exponents`` (along the first axis); `DesignError` where that is not an integer."""
    if not np.isfinite(real).all():
        raise DesignError(f"{what}: {int((~np.isfinite(real)).sum())} values are not finite; accepted: finite numbers")
    scaled = np.ldexp(real, -exponents.reshape(-1, *[1] * (real.ndim - 1)))
    integers = np.rint(scaled)
    if (integers != scaled).any():
        index = tuple(int(i) for i in np.argwhere(integers != scaled)[0])
        raise DesignError(
            f"{what}: value {real[index]:.9g} of index {index} is no multiple of "
            f"2**{exponents[index[0]]}; accepted: values quantised to the layer's scale "
            "(input scale x weight scale for a bias)"
        )
    return integers.astype(np.int64)


# -- from stages to layers --------------------------------------------------------------------------------------------


def _ordered(stages: list[Stage]) -> list[Stage]:
    """Stages in the order in which they run: what is only added comes right behind what it reads.

    So other layers of a block follow one another, and each may be lazy.
    """
    read = {id(stage.source) for stage in stages}
    ordered: list[Stage] = []
    for stage in stages:
        place = len(ordered)
        if stage.residual is None and id(stage) not in read and stage is not stages[-1]:
            place = next((i + 1 for i, before in enumerate(ordered) if before is stage.source), 0)
        ordered.insert(place, stage)
    return ordered


def _place(stages: list[Stage]) -> list[Layer]:
    """Decide where every stage runs, and build the layers."""
    layers: list[Layer] = []
    engine: str | None = None  # the first layer on the engine
    branches = _branches(stages)
    for stage, before in zip(stages, [None, *stages], strict=False):
        last = stage is stages[-1]
        place = _decide(stage, engine, last=last, branches=id(stage) in branches)
        if place is Place.ENGINE and engine is None:
            engine = stage.name
        layers.append(_layer(stage, place, before, last=last))
    return layers


def _branches(stages: list[Stage]) -> set[int]:
    """The `id` of stages at which branches begin or end."""
    found: set[int] = set()
    for stage, before in zip(stages, [None, *stages], strict=False):
        if stage.source is not before:
            found |= {id(stage), id(stage.source)}
        if stage.residual is not None:
            found |= {id(stage), id(stage.residual)}
    return found


def _decide(stage: Stage, engine: str | None, *, last: bool, branches: bool) -> Place:
    """Where a stage runs, by its options and the rule in `hw.options`."""
    given = stage.options
    wants_engine = given.place is Place.ENGINE or given.weights in (Source.LAZY, Source.DENSE)
    wants_head = given.place is Place.HEAD or given.weights is Source.RESIDENT
    if wants_engine and wants_head:
        raise DesignError(
            f"layer '{stage.name}': Place {given.place or 'auto'} with Weights {given.weights or 'auto'}; "
            "accepted: head with resident, engine with lazy or dense"
        )
    obstacle = None
    if last:
        obstacle = "it is the last layer"
    elif engine is not None:
        obstacle = f"'{engine}' before it is on the engine"
    elif not stage.convolution:
        obstacle = "it is no convolution"
    elif branches:
        obstacle = "a branch begins or ends at it"
    if wants_head and obstacle is not None:
        raise DesignError(f"layer '{stage.name}': it cannot be a head stage, {obstacle}; accepted: Place 'engine'")
    small = stage.weights.size < HEAD_WEIGHT_BYTES and given.predictor is None and given.keep is None
    if wants_head or (not wants_engine and obstacle is None and small):
        return Place.HEAD
    return Place.ENGINE


def _layer(stage: Stage, place: Place, before: Stage | None, *, last: bool) -> Layer:
    """The layer of `stage`, where `before` is the one that runs before it."""
    given = stage.options
    exponents = stage.input_format.exponent + stage.exponents
    bias = _integers(f"layer '{stage.name}': bias", stage.bias, exponents)
    if last:
        if np.unique(exponents).size != 1:
            raise DesignError(
                f"layer '{stage.name}': the last layer has weight scales per output channel; "
                "accepted: one scale, so that logits can be compared"
            )
        number, shift = IntFormat(64, True, int(exponents[0])), None
    else:
        number = stage.output_format()
        shift = number.exponent - exponents
    source = Source.RESIDENT
    if place is Place.ENGINE:
        lazy = given.weights is Source.LAZY or (given.weights is None and given.predictor is not None)
        source = Source.LAZY if lazy else Source.DENSE
    predictor, residual = _predictor(stage, source), stage.residual
    common = {
        "name": stage.name,
        "input": stage.input,
        "input_format": stage.input_format,
        "weights": stage.weights,
        "weight_bits": stage.weight_bits,
        "taps": kept_columns(stage.name, given.taps, stage.weights),
        "bias": bias,
        "output_format": number,
        "shift": shift,
        "place": place,
        "source": source,
        "predictor": predictor,
        "keep": kept_filters(stage.name, given.keep, stage.filters) if source is Source.LAZY else None,
        "mode": _mode(given, predictor) if source is Source.LAZY else Mode.TOP,
        "threshold": given.threshold or 0,
        "lanes": _lanes(stage, place),
        "pinned": given.pinned or (),
        "reads": None if stage.source is before or stage.source is None else stage.source.name,
        "residual": None if residual is None else Residual(residual.name, residual.output_format()),
    }
    layer: Layer
    if stage.convolution:
        layer = Conv(**common, strides=stage.stride, padding=stage.padding, pool=stage.pool)  # type: ignore[arg-type]
    else:
        layer = Dense(**common)  # type: ignore[arg-type]
    if last and layer.accumulator_bits <= ACCUMULATOR_LIMIT:
        layer = replace(layer, output_format=IntFormat(layer.accumulator_bits, True, number.exponent))
    return layer


def _mode(given: LayerOptions, predictor: Predictor | None) -> Mode:
    """How a lazy layer selects after reset."""
    if given.select is not None:
        return given.select
    counting = isinstance(predictor, PathPredictor | ClassPredictor) and given.keep is None
    return Mode.THRESHOLD if counting else Mode.TOP


def _predictor(stage: Stage, source: Source) -> Predictor | None:
    given = stage.options
    if source is Source.LAZY:
        if given.predictor is None:
            raise DesignError(
                f"layer '{stage.name}': Weights 'lazy' without Predictor; accepted: lazy with a Predictor"
            )
        return load_predictor(stage.name, given.predictor)
    lazy = {"Predictor": given.predictor, "Keep": given.keep, "Select": given.select, "Threshold": given.threshold}
    for option, value in lazy.items():
        if value is not None:
            raise DesignError(
                f"layer '{stage.name}': {option} with Weights '{source}'; accepted: {option} for lazy layers only"
            )
    return None


def _lanes(stage: Stage, place: Place) -> Lanes | None:
    given = stage.options
    if place is Place.HEAD:
        return Lanes(given.filter_lanes or min(HEAD_LANES[0], stage.filters), given.pixel_lanes or HEAD_LANES[1])
    for option, value in (("FilterLanes", given.filter_lanes), ("PixelLanes", given.pixel_lanes)):
        if value is not None:
            raise DesignError(
                f"layer '{stage.name}': {option} on the engine; accepted: for head stages only (the engine has "
                "EngineFilterLanes and EnginePixelLanes)"
            )
    return None
