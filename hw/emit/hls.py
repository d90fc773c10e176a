"""Writes an accelerator as a Vitis HLS project in C++: the same `Design`, the same weight image, the same bits.

Head stages are hls4ml's own templates (padding, convolution with strategy resource, pooling) around our requantisation,
the tail is our engine (hw/hls/pen_engine.h); docs/adr/0009-vitis-hls.md says why.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined

from hw import image
from hw.design import (
    ClassPredictor,
    Design,
    IntArray,
    IntFormat,
    Layer,
    LinearPredictor,
    LowRankPredictor,
    PathPredictor,
    Predictor,
    signed_bits,
)
from hw.emit.geometry import Geometry
from hw.emit.maps import slots

PART = "xcku5p-ffvb676-2-e"  # any part will do; PENSTOCK_PART names another
CLOCK_NS = 5
LINE = 118  # characters of a line of numbers
LIBRARY = ("pen_types.h", "pen_trace.h", "pen_head.h", "pen_predict.h", "pen_engine.h")
HLS4ML_FOLDERS = ("vivado/nnet_utils", "vitis/nnet_utils")  # the second replaces files of the first, as hls4ml does


@dataclass(frozen=True)
class Vectors:
    """Integer frames (n, c, h, w) and logits (n, outputs) for the project's own test bench."""

    frames: IntArray
    logits: IntArray


def emit_hls(design: Design, folder: Path, vectors: Vectors | None = None) -> None:
    """Write `design` to `folder`, replacing what an earlier call left there; nothing half-written stays behind.

    The folder holds then ``firmware/`` (the sources, with hls4ml's templates and ap_types beside them), ``weights.bin``
    and ``manifest.json`` (those of the RTL), a test bench with `vectors`, a bridge for ctypes, and ``build_prj.tcl``.
    """
    texts = sources(design)
    weights = image.build(design)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".hls-") as name:
        aside = Path(name) / "project"
        _copy_hls4ml(aside / "firmware")
        (aside / "firmware" / "pen").mkdir()
        for path, text in texts.items():
            (aside / path).write_text(text)
        (aside / "weights.bin").write_bytes(weights)
        (aside / "manifest.json").write_text(image.manifest(design, weights).to_json())
        (aside / "tb_data").mkdir()
        if vectors is not None:
            pixels = vectors.frames.transpose(0, 2, 3, 1).reshape(len(vectors.frames), -1)
            (aside / "tb_data" / "frames.txt").write_text(_lines(pixels))
            (aside / "tb_data" / "logits.txt").write_text(_lines(vectors.logits))
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)


def sources(design: Design) -> dict[str, str]:
    """Every text of the project that depends on the design, and our library, by path below the project's folder."""
    context = _context(design)
    library = {f"firmware/pen/{name}": (files("hw") / "hls" / name).read_text() for name in LIBRARY}
    return library | {
        f"firmware/{design.name}.h": _render("accelerator.h.j2", context),
        f"firmware/{design.name}.cpp": _render("accelerator.cpp.j2", context),
        f"firmware/{design.name}_config.h": _render("config.h.j2", context),
        f"{design.name}_bridge.cpp": _render("bridge.cpp.j2", context),
        f"{design.name}_test.cpp": _render("test.cpp.j2", context),
        "build_prj.tcl": _render("build_prj.tcl.j2", context),
    }


def _copy_hls4ml(firmware: Path) -> None:
    """hls4ml's templates and Xilinx's ap_types, as hls4ml copies them into its own projects."""
    with as_file(files("hls4ml")) as root:
        templates = root / "templates"
        for name in HLS4ML_FOLDERS:
            shutil.copytree(templates / name, firmware / "nnet_utils", dirs_exist_ok=True)
        shutil.copytree(templates / "vivado" / "ap_types", firmware / "ap_types")


def _lines(table: IntArray) -> str:
    return "".join(" ".join(map(str, row)) + "\n" for row in table.tolist())


def _render(template: str, context: dict[str, object]) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - C++
    environment.filters["numbers"] = numbers
    text = (files("hw") / "hls" / template).read_text()
    return environment.from_string(text).render(context)


def numbers(values: Iterable[int]) -> str:
    """`values` as the rows of an initialiser."""
    rows, row = [], "   "
    for value in values:
        text = f" {int(value)},"
        if len(row) + len(text) > LINE:
            rows.append(row)
            row = "   "
        row += text
    return "\n".join([*rows, row]) + "\n"


def ctype(number: IntFormat) -> str:
    """The C++ type of integers of a format."""
    return f"ap_{'' if number.signed else 'u'}int<{number.bits}>"


def _sum_bits(layer: Layer) -> int:
    """Width of a layer's accumulators, in which its largest shift leaves at least one bit."""
    shift = 0 if layer.shift is None else int(layer.shift.max())
    return max(layer.accumulator_bits, shift + 2)


# -- head stages -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Stage:
    """One head layer as hls4ml's templates take it; `input` is the stream that feeds it, of beats `source`."""

    layer: Layer
    id: str
    input: str
    source: str
    last: bool

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @cached_property
    def pad(self) -> tuple[int, int, int, int]:
        """Rows and columns of zeros (top, bottom, left, right); what windows never reach is left out."""
        (top, left), (rows, columns) = self.layer.pad, self.layer.grid
        bottom = (rows - 1) * self.stride + self.kernel_height - top - self.height
        right = (columns - 1) * self.stride + self.kernel_width - left - self.width
        return (top, max(0, bottom), left, max(0, right))

    @property
    def padded(self) -> bool:
        """Whether a padding stage is needed."""
        return any(self.pad)

    @property
    def height(self) -> int:
        """Rows of the input."""
        return self.layer.input.height

    @property
    def width(self) -> int:
        """Columns of the input."""
        return self.layer.input.width

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.layer.input.channels

    @property
    def padded_height(self) -> int:
        """Rows of the padded input."""
        return self.height + self.pad[0] + self.pad[1]

    @property
    def padded_width(self) -> int:
        """Columns of the padded input."""
        return self.width + self.pad[2] + self.pad[3]

    @cached_property
    def kernel(self) -> IntArray:
        """Weights (filters, kh, kw, channels); hls4ml's windows of one row know no vertical stride and get a second."""
        weights = self.layer.weights.transpose(0, 2, 3, 1)
        if self.stride > 1 and weights.shape[1] == 1:
            weights = np.concatenate([weights, np.zeros_like(weights)], axis=1)
        return weights

    @property
    def weights(self) -> list[int]:
        """The kernel, flat."""
        flat: list[int] = self.kernel.reshape(-1).tolist()
        return flat

    @property
    def kernel_height(self) -> int:
        """Rows of the kernel."""
        return int(self.kernel.shape[1])

    @property
    def kernel_width(self) -> int:
        """Columns of the kernel."""
        return int(self.kernel.shape[2])

    @property
    def weight_bits(self) -> int:
        """Width of the weights."""
        return self.layer.weight_bits

    @property
    def stride(self) -> int:
        """Stride in both directions."""
        return self.layer.stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns before pooling."""
        return self.layer.grid

    @property
    def pool(self) -> int:
        """Size of the pooling, 1 for none."""
        return self.layer.pool_size

    @property
    def filters(self) -> int:
        """Filters."""
        return self.layer.filters

    @property
    def fan_in(self) -> int:
        """Weights of one filter."""
        return int(self.kernel[0].size)

    @property
    def bias(self) -> list[int]:
        """Of each filter, at accumulator scale."""
        values: list[int] = self.layer.bias.tolist()
        return values

    @property
    def shift(self) -> list[int]:
        """Of each filter."""
        assert self.layer.shift is not None  # Design verifies
        values: list[int] = self.layer.shift.tolist()
        return values

    @property
    def sum_bits(self) -> int:
        """Width of the accumulators."""
        return _sum_bits(self.layer)

    @property
    def out_type(self) -> str:
        """C++ type of an output."""
        return ctype(self.layer.output_format)

    @property
    def low(self) -> int:
        """Lower bound of an output."""
        return self.layer.output_format.low

    @property
    def high(self) -> int:
        """Upper bound of an output."""
        return self.layer.output_format.high

    @cached_property
    def reuse(self) -> int:
        """hls4ml's reuse factor: the valid one whose number of multipliers is closest to that of the stage's lanes."""
        assert self.layer.lanes is not None  # Design verifies
        valid = [rf for rf in range(1, self.fan_in * self.filters + 1) if valid_reuse(self.fan_in, self.filters, rf)]
        wanted = self.fan_in * self.filters / self.layer.lanes.multipliers
        return min(valid, key=lambda rf: abs(math.log(rf / wanted)))

    @property
    def kernel_class(self) -> str:
        """hls4ml's class of matrix product for the reuse factor."""
        return "DenseResource_rf_leq_nin" if self.reuse <= self.fan_in else "DenseResource_rf_gt_nin_rem0"

    @property
    def output_stream(self) -> str:
        """Name of the stream that leaves."""
        return f"{self.id}_{'pooled' if self.pool > 1 else 'map'}"

    @property
    def map_depth(self) -> int:
        """Depth of the stream after requantisation; the head's last stream holds a frame, so that it can run ahead."""
        return self.layer.output.pixels if self.last and self.pool == 1 else 2

    @property
    def pooled_depth(self) -> int:
        """Depth of the stream after pooling."""
        return self.layer.output.pixels if self.last else 2


def valid_reuse(fan_in: int, filters: int, reuse: int) -> bool:
    """hls4ml's rule for its matrix products with strategy resource (`FPGABackend._validate_reuse_factor`)."""
    multiplier_limit = -(-fan_in * filters // min(fan_in, reuse))
    exact = multiplier_limit % filters == 0 or reuse >= fan_in
    return exact and (reuse % fan_in == 0 or reuse < fan_in) and fan_in * filters % reuse == 0


def head_stages(design: Design) -> list[Stage]:
    """The head's stages, each reading the stream that the one before writes."""
    stages: list[Stage] = []
    stream, source = "frames", "input_t"
    for index, layer in enumerate(design.head):
        stages.append(Stage(layer, f"stage{index}", stream, source, layer is design.head[-1]))
        stream, source = stages[-1].output_stream, f"stage{index}_t"
    return stages


# -- the tail ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Table:
    """A constant array of the generated config; an empty one has a single 0, for C++ knows none."""

    name: str
    type: str
    values: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return max(1, len(self.values))

    @property
    def rows(self) -> str:
        """Its initialiser."""
        return "\n" + numbers(self.values or (0,))


class Tables:
    """Arrays that all steps share: `add` returns where an addition begins."""

    TYPES = {  # noqa: RUF012 - a constant
        "tap": "pen::Tap",
        "channel_order": "short",
        "channel_offset": "int",
        "channel_word": "int",
        "channel_end": "int",
        "kept": "bool",
        "order": "short",
        "bias": "long long",
        "shift": "unsigned char",
        "pinned": "signed char",
        "int8": "signed char",
        "votes": "bool",
        "numbers": "long long",
        "header": "unsigned char",
    }

    def __init__(self) -> None:
        self.values: dict[str, list[int]] = {name: [] for name in self.TYPES}
        self.taps: list[tuple[int, int, int]] = []

    def add(self, name: str, values: Iterable[int]) -> int:
        """Append `values` to the table `name`."""
        start = len(self.values[name])
        self.values[name].extend(int(value) for value in values)
        return start

    def add_taps(self, taps: Sequence[tuple[int, int, int]]) -> int:
        """Append taps (y, x, step in the flat map)."""
        start = len(self.taps)
        self.taps.extend(taps)
        return start

    def all(self) -> list[Table | TapTable]:
        """The tables, in the order of `TYPES`."""
        return [
            TapTable(tuple(self.taps)) if name == "tap" else Table(name, kind, tuple(self.values[name]))
            for name, kind in self.TYPES.items()
        ]


@dataclass(frozen=True)
class TapTable:
    """The table of taps."""

    taps: tuple[tuple[int, int, int], ...]
    name: str = "tap"
    type: str = "pen::Tap"

    @property
    def size(self) -> int:
        """Elements."""
        return len(self.taps)

    @property
    def rows(self) -> str:
        """Its initialiser."""
        return "\n" + "\n".join(f"    {{{y}, {x}, {flat}}}," for y, x, flat in self.taps) + "\n"


@dataclass(frozen=True)
class Step:
    """pen::Step of one layer; fields as there, in its order."""

    channels: int
    height: int
    width: int
    words: int
    in_signed: bool
    filters: int
    out_width: int
    out_pixels: int
    out_words: int
    out_signed: bool
    low: int
    high: int
    last: bool
    limit_y: int
    limit_x: int
    log_stride: int
    log_pool: int
    windows: int
    window_y: int
    window_x: int
    first_tap: int
    taps: int
    first_kept: int
    first_channel: int
    image_word: int
    record_words: int
    pinned: int
    first_pinned: int
    first_filter: int
    loaded: int
    kept: int
    added: int
    added_signed: bool
    added_shift: int
    lazy: bool
    kind: str
    first_weight: int
    first_second: int
    rank: int
    shift: int
    hidden_low: int
    hidden_high: int
    first_vote: int
    first_bias: int
    first_theta: int


@dataclass(frozen=True)
class Store:
    """Which maps of the tail are kept beside the two that steps read and write in turn, and where.

    Map 0 is the tail's input, map i + 1 what step i leaves; a kept one gets one of some equal parts.
    """

    design: Design

    @cached_property
    def _added(self) -> tuple[int | None, ...]:
        """For each step, the map that it adds."""
        places = {layer.name: index + 1 for index, layer in enumerate(self.design.tail)}
        return tuple(None if x.residual is None else places[x.residual.layer] for x in self.design.tail)

    @cached_property
    def _loaded(self) -> tuple[int | None, ...]:
        """For each step, the map that it reads, unless the step before has just left it."""
        sources = [max(source, -1) + 1 for source in self.design.tail_sources]
        return tuple(None if source == index else source for index, source in enumerate(sources))

    @cached_property
    def _parts(self) -> tuple[int | None, ...]:
        steps = list(enumerate(zip(self._added, self._loaded, strict=True), start=1))
        last = [max((i for i, used in steps if kept in used), default=None) for kept in range(len(steps) + 1)]
        return slots(last, over=True)

    @cached_property
    def _part_words(self) -> int:
        pixels = self.design.engine.lanes.pixels
        first = self.design.tail[0].input
        maps = (first, *(layer.output for layer in self.design.tail))
        kept = (shape for shape, part in zip(maps, self._parts, strict=True) if part is not None)
        return max((shape.channels * -(-shape.pixels // pixels) for shape in kept), default=0)

    @property
    def words(self) -> int:
        """Words of `pixels` pixels; 0 if nothing is kept."""
        return self._part_words * max((part + 1 for part in self._parts if part is not None), default=0)

    def _place(self, kept: int | None) -> int:
        """The first word of a map; -1 if there is none, or it is not kept."""
        part = None if kept is None else self._parts[kept]
        return -1 if part is None else part * self._part_words

    @property
    def input(self) -> int:
        """Where the tail's input is kept; here and below, -1: nowhere."""
        return self._place(0)

    def kept(self, step: int) -> int:
        """Where step's output is kept."""
        return self._place(step + 1)

    def loaded(self, step: int) -> int:
        """Where step's input lies, if it is not what the step before leaves."""
        return self._place(self._loaded[step])

    def added(self, step: int) -> int:
        """Where that lies which step adds."""
        return self._place(self._added[step])


@dataclass(frozen=True)
class Program:
    """The steps of the tail, by layer, and the tables that they share."""

    steps: tuple[Step, ...]
    tables: tuple[Table | TapTable, ...]


@dataclass(frozen=True)
class NamedStep:
    """A step as the template takes it."""

    name: str
    fields: str


def program(design: Design) -> Program:
    """The layer program of the design's tail."""
    tables = Tables()
    lanes, bus = design.engine.lanes, design.engine.bus_bytes
    weights = image.build(design)
    tables.add("header", weights[: image.HEADER_BYTES])
    store = Store(design)
    steps = []
    for index, (layer, record) in enumerate(zip(design.tail, image.layout(design), strict=True)):
        geometry = Geometry(layer, lanes.pixels)
        last, residual = layer is design.tail[-1], layer.residual
        limit_y, limit_x = geometry.limits
        window_y, window_x = geometry.steps
        kept = layer.kept_taps[list(record.order)].reshape(layer.input.channels, -1)
        pinned = b"".join(weights[record.offset + f * record.stride :][: record.stride] for f in layer.pinned)
        first_filter = tables.add("order", layer.order)
        tables.add("bias", layer.bias)
        tables.add("shift", np.zeros(layer.filters, np.int64) if layer.shift is None else layer.shift)
        first_channel = tables.add("channel_order", (*record.order, 0))  # as long as the offsets
        tables.add("channel_offset", record.channel_offset)
        for name, words in zip(("channel_word", "channel_end"), record.fetched, strict=True):
            tables.add(name, np.append(words, 0))
        steps.append(
            Step(
                channels=layer.input.channels,
                height=layer.input.height,
                width=layer.input.width,
                words=geometry.words,
                in_signed=layer.input_format.signed,
                filters=layer.filters,
                out_width=layer.output.width,
                out_pixels=layer.output.pixels,
                out_words=-(-layer.output.pixels // lanes.pixels),
                out_signed=layer.output_format.signed,
                low=0 if last else layer.output_format.low,
                high=0 if last else layer.output_format.high,
                last=last,
                limit_y=limit_y,
                limit_x=limit_x,
                log_stride=geometry.log_stride,
                log_pool=geometry.log_pool,
                windows=geometry.windows,
                window_y=window_y,
                window_x=window_x,
                first_tap=tables.add_taps(geometry.taps),
                taps=len(geometry.taps),
                first_kept=-1 if kept.all() else tables.add("kept", kept.reshape(-1)),
                first_channel=first_channel,
                image_word=record.offset // bus,
                record_words=record.stride // bus,
                pinned=len(layer.pinned),
                first_pinned=tables.add("pinned", np.frombuffer(pinned, np.int8)) // bus,
                first_filter=first_filter,
                loaded=store.loaded(index),
                kept=store.kept(index),
                added=store.added(index),
                added_signed=residual is not None and residual.format.signed,
                added_shift=0 if residual is None else residual.format.exponent - layer.output_format.exponent,
                lazy=layer.lazy,
                **_choice(layer.predictor, tables, design.engine.predictor_lanes),  # type: ignore[arg-type]
            )
        )
    return Program(tuple(steps), tuple(tables.all()))


def _choice(predictor: Predictor | None, tables: Tables, lanes: int) -> dict[str, int | str]:
    """The fields of a step that say how filters are scored."""
    unused = ("first_weight", "first_second", "rank", "shift", "hidden_low", "hidden_high")
    fields: dict[str, int | str] = dict.fromkeys((*unused, "first_vote", "first_bias", "first_theta"), 0)
    match predictor:
        case None:
            return fields | {"kind": "pen::KIND_NONE"}
        case LinearPredictor():
            return fields | {
                "kind": "pen::KIND_LINEAR",
                "first_weight": tables.add("int8", _padded(predictor.weights, lanes)),
                "first_bias": tables.add("numbers", predictor.bias),
            }
        case LowRankPredictor():
            return fields | {
                "kind": "pen::KIND_LOW_RANK",
                "first_weight": tables.add("int8", _padded(predictor.first, lanes)),
                "first_second": tables.add("int8", _padded(predictor.second, lanes)),
                "rank": predictor.rank,
                "shift": predictor.shift,
                "hidden_low": predictor.hidden.low,
                "hidden_high": predictor.hidden.high,
                "first_bias": tables.add("numbers", predictor.bias),
                "first_theta": tables.add("numbers", predictor.first_bias),
            }
        case PathPredictor():
            return fields | {
                "kind": "pen::KIND_PATHS",
                "first_vote": tables.add("votes", predictor.paths.reshape(-1)),
                "first_bias": tables.add("numbers", predictor.tau),
                "first_theta": tables.add("numbers", predictor.theta),
            }
        case ClassPredictor():
            return fields | {
                "kind": "pen::KIND_CLASSES",
                "first_vote": tables.add("votes", predictor.masks.reshape(-1)),
                "first_bias": tables.add("numbers", np.zeros(predictor.filters, np.int64)),
            }
    raise TypeError(f"the HLS emitter has no entry for {type(predictor).__name__}")


def _padded(weights: IntArray, lanes: int) -> IntArray:
    """`weights` (rows, filters) flat, with zeros up to whole groups of lanes."""
    missing = -weights.shape[1] % lanes
    flat: IntArray = np.pad(weights, ((0, 0), (0, missing))).reshape(-1)
    return flat


def _literal(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- what the templates say --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TraceSizes:
    """Numbers per frame that a C simulation tells."""

    strengths: int
    filters: int
    maps: int


def trace_sizes(design: Design) -> TraceSizes:
    """How much a C simulation of `design` tells per frame."""
    return TraceSizes(
        sum(layer.input.channels for layer in design.tail),
        sum(layer.filters for layer in design.tail),
        sum(layer.filters * layer.output.pixels for layer in design.tail[:-1]),
    )


@dataclass(frozen=True)
class Controls:
    """Registers of the tail's layers after reset, as the rows of initialisers."""

    mode: str
    keep: str
    threshold: str


def _context(design: Design) -> dict[str, object]:
    lowered, stages, engine, store = program(design), head_stages(design), design.engine, Store(design)
    kinds = {type(layer.predictor) for layer in design.tail}
    ranks = [layer.predictor.rank for layer in design.tail if isinstance(layer.predictor, LowRankPredictor)]
    lanes = engine.predictor_lanes
    selections = [layer.selection for layer in design.tail]
    scores = [
        max(
            layer.predictor.score_bits(layer.strength_high),
            getattr(layer.predictor, "shift", 0) + 2,
        )
        for layer in design.tail
        if layer.predictor is not None
    ]
    return {
        "name": design.name,
        "channels": design.input.channels,
        "pixels": design.input.pixels,
        "input_type": ctype(design.input_format),
        "outputs": design.outputs,
        "logit_bits": 32 if design.tail[-1].accumulator_bits <= 32 else 64,
        "bus_bytes": engine.bus_bytes,
        "image_words": (image.layout(design)[-1].end) // engine.bus_bytes,
        "max_burst": engine.max_burst,
        "outstanding": engine.outstanding,
        "gap_words": engine.gap_words,
        "classes": design.classes,
        "stages": stages,
        "tail_input": stages[-1].output_stream if stages else "frames",
        "steps": [
            NamedStep(
                layer.name,
                ", ".join(_literal(getattr(step, field.name)) for field in dataclasses.fields(step)),
            )
            for layer, step in zip(design.tail, lowered.steps, strict=True)
        ],
        "tables": lowered.tables,
        "sum_bits": max(_sum_bits(layer) for layer in design.tail),
        "score_bits": max(scores, default=2) + 1,  # votes and thresholds are compared without a carry
        "strength_bits": signed_bits(0, max(layer.strength_high for layer in design.tail)) - 1,
        "lane_filters": engine.lanes.filters,
        "lane_pixels": engine.lanes.pixels,
        "score_lanes": lanes,
        "max_channels": _up(max(max(layer.input.channels, layer.filters) for layer in design.tail), lanes),
        "max_rank": _up(max(ranks, default=1), lanes),
        "max_columns": max(int(layer.kept_taps.sum()) for layer in design.tail),
        "max_record_words": max(step.record_words for step in lowered.steps),
        "map_words": max(
            max(step.channels * step.words, 0 if step.last else step.filters * step.out_words) for step in lowered.steps
        ),
        "store_words": max(1, store.words),
        "input_kept": store.input,
        "has_branches": store.words > 0,
        "has_linear": LinearPredictor in kinds,
        "has_low_rank": LowRankPredictor in kinds,
        "has_votes": bool({PathPredictor, ClassPredictor} & kinds),
        "trace": trace_sizes(design),
        "controls": Controls(
            ", ".join(str(selection.mode.code) for selection in selections),
            ", ".join(str(selection.keep) for selection in selections),
            ", ".join(str(selection.threshold) for selection in selections),
        ),
        "part": PART,
        "clock": CLOCK_NS,
    }


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
