"""The cycle model: what a `Design` takes for given masks on a given memory, cycle for cycle as the RTL does.

Time depends on data only through masks: which channels are present (not all zero) and which filters are chosen. From
these, `CycleModel` works out when every pass of the array, every read burst and every beat happens, as recurrences over
windows, groups of filters and bursts (sim/cpp/model); nothing is computed cycle by cycle. The answer equals the RTL's
exactly, on any memory of sim.memory. docs/cycle-model.md tells how it works and where it ends.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hw.control import Changes, Control
from hw.design import BoolArray, ClassPredictor, Design, IntArray, Layer, Mode, PathPredictor
from hw.emit.geometry import Geometry
from hw.emit.program import Program
from hw.emit.stage import Stage, head_stages
from hw.image import RecordLayout
from sim.golden import GoldenRun
from sim.memory import IMAGE_BASE, RESET_CYCLES, FixedLatency, Memory, MemoryTiming
from sim.native import load

Int32Array = NDArray[np.int32]


class Cause(IntEnum):
    """What a cycle of the engine is put down to: what its multiplier array does, or waits for."""

    START = 0
    """The sequence between layers; in the first, the replay of the input's strengths."""
    COMPUTE = 1
    SELECT = 2
    """Filters that are not chosen yet."""
    FETCH = 3
    """Weights that have not come yet."""
    WINDOW = 4
    """The next window, whose taps are not looked up yet."""
    DRAIN = 5
    """Sums of the pass before that have not left the drain; at a layer's end, its last beats."""
    PREDICT = 6
    """The next layer's list and scores, which have not taken all finished channels."""


# -- what goes in -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Masks:
    """What n frames do in each layer of the tail: `present` (n, input channels), `chosen` (n, filters).

    `told` (n, input channels) are the channels that the layer's predictor takes: of paths the active ones, of classes
    none, and else those that are present; it says nothing for a layer that is not lazy, and neither does its mode in
    `modes`. Mode and wanted `classes` take their time.
    """

    present: tuple[BoolArray, ...]
    told: tuple[BoolArray, ...]
    chosen: tuple[BoolArray, ...]
    modes: tuple[Mode, ...]
    classes: tuple[bool, ...]

    @classmethod
    def of(cls, design: Design, run: GoldenRun, keep: Changes = None) -> Masks:
        """Those of the golden model's run of `design` with `keep`."""
        control = Control.of(design, keep)
        traces = [run.layer(layer.name) for layer in design.tail]
        return cls(
            tuple(t.strengths > 0 for t in traces),
            tuple(_told(layer, t.strengths) for layer, t in zip(design.tail, traces, strict=True)),
            tuple(t.chosen for t in traces),
            tuple(control.selections.get(layer.name, layer.selection).mode for layer in design.tail),
            control.classes,
        )

    @classmethod
    def drawn(cls, design: Design, keep: Changes, frames: int, seed: int, present: float = 1.0) -> Masks:
        """At random, for shapes without weights that mean something: of each lazy layer as many filters as `keep` says
        are chosen, its pinned ones among them, and of the channels that come a share `present` is not all zero.
        """
        rng = np.random.default_rng(seed)
        control = Control.of(design, keep)
        there: list[BoolArray] = []
        chosen: list[BoolArray] = []
        given = np.ones((frames, design.tail[0].input.channels), np.bool_)
        for layer, source in zip(design.tail, design.tail_sources, strict=True):
            computed = given if source < 0 else chosen[source]
            there.append(computed & (rng.random(computed.shape) < present))
            selection = control.selections.get(layer.name, layer.selection)
            count = layer.filters if selection.mode is Mode.ALL else max(selection.keep, len(layer.pinned))
            ranking = rng.random((frames, layer.filters))
            ranking[:, list(layer.pinned)] = -1
            computed = np.zeros((frames, layer.filters), np.bool_)
            np.put_along_axis(computed, np.argsort(ranking, axis=1)[:, :count], True, axis=1)
            chosen.append(computed)
        modes = tuple(Mode.TOP for _ in design.tail)
        return cls(tuple(there), tuple(there), tuple(chosen), modes, control.classes)

    def followed_by(self, rest: Masks) -> Masks:
        """These layers, then those of `rest`, whose classes count."""
        return Masks(
            self.present + rest.present,
            self.told + rest.told,
            self.chosen + rest.chosen,
            self.modes + rest.modes,
            rest.classes,
        )

    @property
    def frames(self) -> int:
        """Number of frames, n."""
        return len(self.present[0])

    def check(self, design: Design) -> None:
        """Raise `ValueError` where the masks are not those of `design`, or contradict one another."""
        found = {len(self.present), len(self.told), len(self.chosen), len(self.modes)}
        if found != {len(design.tail)}:
            raise ValueError(
                f"masks and modes of {', '.join(map(str, sorted(found)))} layers; "
                f"the tail of '{design.name}' has {len(design.tail)}"
            )
        if len(self.classes) != design.classes:
            raise ValueError(f"{len(self.classes)} classes; '{design.name}' has {design.classes}")
        sources = design.tail_sources
        for layer, source, present, told, chosen in zip(
            design.tail, sources, self.present, self.told, self.chosen, strict=True
        ):
            for what, mask, width in (
                ("present", present, layer.input.channels),
                ("told", told, layer.input.channels),
                ("chosen", chosen, layer.filters),
            ):
                if mask.shape != (self.frames, width) or mask.dtype != np.bool_:
                    raise ValueError(
                        f"layer '{layer.name}': '{what}' is {mask.shape} of {mask.dtype}; "
                        f"accepted: ({self.frames}, {width}) of bool"
                    )
            if not chosen[:, list(layer.pinned)].all() or not (layer.lazy or chosen.all()):
                raise ValueError(
                    f"layer '{layer.name}': a filter is not chosen that is pinned, or of a layer that is not lazy"
                )
            if source >= 0 and (present & ~self.chosen[source]).any():
                raise ValueError(f"layer '{layer.name}': a channel is present whose filter was not chosen before")


def _told(layer: Layer, strengths: IntArray) -> BoolArray:
    """The channels (n, input channels) that the predictor of `layer` takes."""
    match layer.predictor:
        case PathPredictor(theta=theta):
            return strengths > theta
        case ClassPredictor():
            return np.zeros(strengths.shape, np.bool_)
        case _:
            return strengths > 0


# -- what comes out ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class LayerCycles:
    """What one layer of the tail took on n frames.

    `cycles` (n,), as the RTL's own counter says; `causes` (n, len(Cause)) add up to them. `bytes` (n,) fetched in
    `bursts` (n,).
    """

    name: str
    cycles: IntArray
    causes: IntArray
    bytes: IntArray
    bursts: IntArray


@dataclass(frozen=True, eq=False)
class CycleRun:
    """When n frames pass through an accelerator. Cycles are counted from the start of the reset.

    `first_in`, `last_in` and `last_out` (n,) are the cycles of the handshakes of first and last pixel and of the last
    logit; `begin` (n,) those in which the engine begins a frame. `stage_busy` holds, per head stage, the cycles in
    which its array works, over all frames.
    """

    layers: tuple[LayerCycles, ...]
    first_in: IntArray
    last_in: IntArray
    begin: IntArray
    last_out: IntArray
    stage_busy: tuple[int, ...]

    @property
    def latency(self) -> IntArray:
        """Cycles from the first pixel to the last logit, both included."""
        return self.last_out - self.first_in + 1

    @property
    def engine(self) -> IntArray:
        """Cycles of the engine, all layers."""
        return np.sum([layer.cycles for layer in self.layers], axis=0, dtype=np.int64)

    @property
    def bytes(self) -> IntArray:
        """Bytes on the memory port."""
        return np.sum([layer.bytes for layer in self.layers], axis=0, dtype=np.int64)

    @property
    def interval(self) -> float:
        """Cycles between answers, in steady state: (n - 1) frames over first to last completion."""
        if len(self.last_out) < 2:
            raise ValueError("one frame has no steady state; give at least two")
        return float(self.last_out[-1] - self.last_out[0]) / (len(self.last_out) - 1)

    def layer(self, name: str) -> LayerCycles:
        """The tail layer called `name`; raises KeyError that lists the names."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no tail layer '{name}'; there are: {', '.join(x.name for x in self.layers)}")


# -- a layer's walk ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Walk:
    """How a layer's windows go, whatever is in the map.

    Windows of the same class reach the same taps: `window_class` (windows,), `reach` (classes, taps). Window w
    completes the output words ``first_word[w]:first_word[w + 1]`` (windows + 1,), each with the last lane that it
    needs: `word_lane` (words,).
    """

    geometry: Geometry
    window_class: Int32Array
    reach: BoolArray
    first_word: Int32Array
    word_lane: Int32Array

    @classmethod
    def of(cls, geometry: Geometry, out_pixels: int, *, quartered: bool = False) -> Walk:
        """The walk over a layer whose output words have `out_pixels` pixels; its map may be left in quarters."""
        layer, pixels, height, width = geometry.layer, geometry.pixels, geometry.height, geometry.width
        y, x = np.divmod(np.arange(geometry.windows * pixels), width)

        reach = np.empty((geometry.windows, len(geometry.taps)), np.bool_)
        for tap, (dy, dx, _) in enumerate(geometry.taps):
            row, column = y + dy, x + dx
            inside = (y < height) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            reach[:, tap] = inside.reshape(-1, pixels).any(axis=1)
        classes, window_class = np.unique(reach, axis=0, return_inverse=True)

        (limit_y, limit_x), stride, last = geometry.limits, geometry.stride, layer.pool_size - 1
        output = (y < limit_y) & (x < limit_x) & (y % stride == 0) & (x % stride == 0)
        output &= (y // stride % layer.pool_size == last) & (x // stride % layer.pool_size == last)
        places = np.flatnonzero(output)  # of the input pixels with which an output, after pooling, is complete
        row, column = np.divmod(np.arange(len(places)), layer.output.width)
        part = 2 * (row % 2) + column % 2 if quartered else np.zeros(len(places), np.int64)
        ends = np.sort(np.concatenate([_word_ends(places[part == p], out_pixels) for p in np.unique(part)]))
        first_word = np.searchsorted(ends, np.arange(geometry.windows + 1) * pixels)
        return cls(
            geometry,
            window_class.reshape(-1).astype(np.int32),
            classes,
            first_word.astype(np.int32),
            (ends % pixels).astype(np.int32),
        )

    @property
    def steps(self) -> Int32Array:
        """Steps of a pass for each channel, (classes, channels): a cycle per kept tap that is reached, at least one."""
        kept = self.geometry.layer.kept_taps.reshape(self.geometry.layer.input.channels, -1)
        reached: Int32Array = self.reach.astype(np.int32) @ kept.astype(np.int32).T
        return np.maximum(reached, 1)


def _word_ends(places: IntArray, pixels: int) -> IntArray:
    """The last place of every word of `pixels` places; the last word may have fewer."""
    return places[np.minimum(np.arange(pixels, len(places) + pixels, pixels), len(places)) - 1]


# -- the C interface; cycles.cpp has the same structures --------------------------------------------------------------
def _integers(*names: str) -> tuple[tuple[str, type[ctypes.c_int64]], ...]:
    return tuple((name, ctypes.c_int64) for name in names)


def _pointers(*names: str) -> tuple[tuple[str, type[ctypes.c_void_p]], ...]:
    return tuple((name, ctypes.c_void_p) for name in names)


class _Walk(ctypes.Structure):
    _fields_ = (
        *_integers("windows", "taps", "classes"),
        *_pointers("window_class", "first_word", "word_lane"),
    )


class _Stage(ctypes.Structure):
    _fields_ = (
        *_integers("channels", "filters", "lane_filters", "pixels", "words", "before", "after", "ring_words"),
        ("walk", _Walk),
        *_pointers("steps"),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *_integers("channels", "filters", "pinned", "score_words", "offset", "stride"),
        ("walk", _Walk),
        *_pointers("order", "place_channel", "place_first", "place_end", "class_steps"),
        *_integers("above", "rank", "hidden_words", "by_class", "replayed"),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *_integers("channels", "frame_pixels", "pixels", "in_channels", "in_words"),
        *_integers("lanes", "lane_pixels", "predictor_lanes", "score_digits", "gap_words", "image_base"),
        *_integers("bus_bytes", "max_burst", "outstanding", "join_words"),
        ("memory", MemoryTiming),
        *_integers("reset_end", "first_in", "stages", "layers"),
        ("stage", ctypes.POINTER(_Stage)),
        ("layer", ctypes.POINTER(_Layer)),
        *_integers("classes"),
        *_pointers("wanted"),
    )


class _Cycles(ctypes.Structure):
    _fields_ = _pointers(
        *("present", "told", "chosen", "cycles", "words", "bursts", "causes"),
        *("first_in", "last_in", "begin", "last_out", "stage_busy"),
    )


def _library() -> ctypes.CDLL:
    lib = load("cycles.cpp")
    lib.pen_causes.restype = ctypes.c_int64
    lib.pen_stream.argtypes = [ctypes.POINTER(_Model), ctypes.POINTER(_Cycles), ctypes.c_int64]
    lib.pen_stream.restype = None
    lib.pen_alone.argtypes = [ctypes.POINTER(_Model), ctypes.POINTER(_Cycles), ctypes.c_int64, ctypes.c_int64]
    lib.pen_alone.restype = None
    assert lib.pen_causes() == len(Cause)
    return lib


# -- the model --------------------------------------------------------------------------------------------------------
class CycleModel:
    """The timing of `design` with its weight image in `memory`; made once, run on any masks.

    Raises `sim.native.NativeError` where there is no C++ compiler.
    """

    def __init__(self, design: Design, memory: Memory | None = None) -> None:
        self.design, self.memory = design, memory or FixedLatency()
        self._lib = _library()
        self._kept: list[NDArray[np.generic]] = []  # tables that the structures point to
        program = Program(design)
        self._layers = [
            self._layer(layer, record, Walk.of(g, g.pixels, quartered=program.maps.quartered(i)), program)
            for i, (layer, record, g) in enumerate(zip(program.steps, program.records, program.geometries, strict=True))
        ]
        self._stages = [self._stage(stage) for stage in head_stages(design)]
        first = head_stages(design)[0].geometry if design.head else program.geometries[0]
        engine = design.engine
        self._model = _Model(
            channels=design.input.channels,
            frame_pixels=design.input.pixels,
            pixels=first.pixels,
            in_channels=program.steps[0].input.channels,
            in_words=program.geometries[0].words,
            lanes=engine.lanes.filters,
            lane_pixels=engine.lanes.pixels,
            predictor_lanes=engine.predictor_lanes,
            score_digits=-(-program.score_bits // 4),
            gap_words=engine.gap_words,
            image_base=IMAGE_BASE,
            bus_bytes=engine.bus_bytes,
            max_burst=engine.max_burst,
            outstanding=engine.outstanding,
            join_words=engine.join_words,
            memory=self.memory.timing,
            reset_end=RESET_CYCLES,
            stages=len(self._stages),
            layers=len(self._layers),
            stage=(_Stage * len(self._stages))(*self._stages),
            layer=(_Layer * len(self._layers))(*self._layers),
        )

    def stream(self, masks: Masks, first_in: int = 100) -> CycleRun:
        """Frames one behind the other, the first pixel offered in cycle `first_in`, and no pause between pixels."""
        return self._run(masks, first_in, 0)

    def alone(self, masks: Masks, first_in: int = 100, threads: int = 1) -> CycleRun:
        """Each frame by itself, out of reset, its first pixel offered in cycle `first_in`; on so many threads."""
        if threads < 1:
            raise ValueError(f"threads: {threads}; accepted: at least 1")
        return self._run(masks, first_in, threads)

    def _run(self, masks: Masks, first_in: int, threads: int) -> CycleRun:
        """One stream, or with `threads` every frame alone."""
        masks.check(self.design)
        if first_in < RESET_CYCLES:
            raise ValueError(f"first_in is {first_in}; accepted: at least {RESET_CYCLES}, the end of the reset")
        n, layers = masks.frames, self.design.tail
        present = [np.ascontiguousarray(mask, np.uint8) for mask in masks.present]
        told = [np.ascontiguousarray(mask, np.uint8) for mask in masks.told]
        chosen = [np.ascontiguousarray(mask, np.uint8) for mask in masks.chosen]
        wanted = np.array(masks.classes, np.uint8)
        per_layer = {name: np.zeros((n, len(layers)), np.int64) for name in ("cycles", "words", "bursts")}
        causes = np.zeros((n, len(layers), len(Cause)), np.int64)
        stamps = {name: np.zeros(n, np.int64) for name in ("first_in", "last_in", "begin", "last_out")}
        busy = np.zeros(len(self._stages), np.int64)
        pointers = ctypes.c_void_p * len(layers)
        rows = [pointers(*(mask.ctypes.data for mask in layer_masks)) for layer_masks in (present, told, chosen)]
        arrays = _Cycles(
            present=ctypes.cast(rows[0], ctypes.c_void_p),
            told=ctypes.cast(rows[1], ctypes.c_void_p),
            chosen=ctypes.cast(rows[2], ctypes.c_void_p),
            causes=causes.ctypes.data,
            stage_busy=busy.ctypes.data,
            **{name: array.ctypes.data for name, array in {**per_layer, **stamps}.items()},
        )
        self._model.first_in = first_in
        self._model.classes, self._model.wanted = len(wanted), wanted.ctypes.data
        for i, (layer, mode) in enumerate(zip(layers, masks.modes, strict=True)):
            self._model.layer[i].above = layer.lazy and mode is Mode.THRESHOLD
        if threads:
            self._lib.pen_alone(ctypes.byref(self._model), ctypes.byref(arrays), n, threads)
        else:
            self._lib.pen_stream(ctypes.byref(self._model), ctypes.byref(arrays), n)
        return CycleRun(
            layers=tuple(
                LayerCycles(
                    name=layer.name,
                    cycles=per_layer["cycles"][:, i],
                    causes=causes[:, i],
                    bytes=per_layer["words"][:, i] * self.design.engine.bus_bytes,
                    bursts=per_layer["bursts"][:, i],
                )
                for i, layer in enumerate(layers)
            ),
            stage_busy=tuple(busy.tolist()),
            **stamps,
        )

    # -- tables
    def _table(self, values: NDArray[np.integer] | Sequence[int]) -> int:
        """The address of `values` as int32, which stay where they are for as long as the model lives."""
        array = np.ascontiguousarray(values, np.int32)
        self._kept.append(array)
        return array.ctypes.data

    def _walk(self, walk: Walk) -> _Walk:
        return _Walk(
            windows=walk.geometry.windows,
            taps=len(walk.geometry.taps),
            classes=len(walk.reach),
            window_class=self._table(walk.window_class),
            first_word=self._table(walk.first_word),
            word_lane=self._table(walk.word_lane),
        )

    def _layer(self, layer: Layer, record: RecordLayout, walk: Walk, program: Program) -> _Layer:
        first, end = record.fetched
        listed = end > first  # a channel without taps is not even listed
        steps = np.where(layer.kept_taps.any(axis=(1, 2)), walk.steps, 0)
        tables = program.predictors[program.steps.index(layer)]
        return _Layer(
            channels=layer.input.channels,
            filters=layer.filters,
            pinned=len(layer.pinned),
            score_words=program.score_words(layer) if layer.lazy else 0,
            offset=record.offset,
            stride=record.stride,
            walk=self._walk(walk),
            order=self._table(layer.order),
            place_channel=self._table(record.order),
            place_first=self._table(first),
            place_end=self._table(np.where(listed, end, first)),
            class_steps=self._table(steps),
            rank=tables.rank if tables else 0,
            hidden_words=-(-tables.rank // program.predict_lanes) if tables else 0,
            by_class=tables.by_class if tables else False,
            replayed=not self.design.chained[program.steps.index(layer)],
        )

    def _stage(self, stage: Stage) -> _Stage:
        walk = Walk.of(stage.geometry, stage.out_pixels)
        before, after = stage.reach
        return _Stage(
            channels=stage.layer.input.channels,
            filters=stage.layer.filters,
            lane_filters=stage.lane_filters,
            pixels=stage.geometry.pixels,
            words=stage.geometry.words,
            before=before,
            after=after,
            ring_words=stage.ring_words,
            walk=self._walk(walk),
            steps=self._table(walk.steps.sum(axis=1)),  # every channel of a head stage is walked
        )
