"""A recipe: the one place where a user says what is built. Read from TOML, checked completely before anything runs.

docs/reference/recipes.md explains every key.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FilePath, ValidationError, model_validator
from pydantic_core import ErrorDetails

from flow.errors import UserError
from hw.design import Mode, Place, Source
from hw.options import Taps

PositiveInt = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
Cycles = Annotated[int, Field(ge=0, lt=1 << 20, strict=True)]  # of simulated memory
Bits = Annotated[int, Field(ge=2, le=8, strict=True)]
PixelLanes = Literal[1, 2, 4, 8, 16, 32, 64]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Rate = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A table of a recipe: immutable, and every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """`set` names a dataset of `sw.data`."""

    set: str


class ModelSection(Section):
    """`name` names a network of `sw.models`. Its trained integers are read from `checkpoint`, if one is named.

    `penstock train` makes the checkpoint, as [train] and [quantise] say.
    """

    name: str
    checkpoint: Path | None = None


class FitSection(Section):
    """How weights are trained, by `optimiser` in steps of `batch` images.

    The learning rate rises linearly to `rate` over a share `warmup` of the steps and falls as a cosine to zero; at each
    epoch in `restarts` this begins again, with half the peak of before.
    `augment` shifts and mirrors images, `smoothing` is that of the labels, `precision` that of convolutions. Without
    epochs, weights stay as they are.
    """

    epochs: Natural
    batch: PositiveInt = 64
    rate: Rate = 3e-3
    decay: Annotated[float, Field(ge=0, lt=1)] = 1e-2
    optimiser: Literal["adamw", "sgd"] = "adamw"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    restarts: tuple[PositiveInt, ...] = ()
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _begins_again_within(self) -> Self:
        if self.restarts and (list(self.restarts) != sorted({*self.restarts}) or self.restarts[-1] >= self.epochs):
            raise ValueError(
                f"restarts = {list(self.restarts)} with {self.epochs} epochs; accepted: epochs from 1 to "
                f"{self.epochs - 1}, in rising order"
            )
        return self


class TrainSection(FitSection):
    """Training in floating point."""

    epochs: Natural = 30


class PruneSection(FitSection):
    """What is removed between training and quantisation: `ratio` of the weights, in `steps` with training after each.

    `form` is what goes at a time: rows and columns of each layer's matrix, whole filters, or single weights (which
    saves nothing in hardware but columns that happen to be empty). `criterion` is one of weights alone (`l1`, `l2`,
    `random`) or measured on training images. `rows` tells matrix form how much of the removal is rows: every layer but
    the last keeps ``(1 - ratio)**rows`` of them. Removed columns are missing taps of the design.
    """

    ratio: Annotated[float, Field(gt=0, lt=1, strict=True)]
    form: Literal["matrix", "filter", "weight"] = "matrix"
    criterion: Literal["l1", "l2", "obd", "obs", "taylor", "apoz", "activation", "random"] = "l2"
    steps: PositiveInt = 1
    rows: Annotated[float, Field(ge=0, le=1)] = 0.25
    epochs: PositiveInt = 10
    rate: Rate = 1e-3

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.form != "filter" and self.criterion in ("taylor", "apoz", "activation"):
            raise ValueError(
                f"criterion '{self.criterion}' judges filters, form '{self.form}' asks for columns or weights; "
                "accepted: l1, l2, obd, obs, random, or form 'filter'"
            )
        return self


class QuantiseSection(FitSection):
    """Quantised training that follows, and the widths of weights and activations.

    Below 1.0, `gate` makes lazy layers practise: a share of their filters, drawn from `gate` to 1 for every batch,
    stays and the weakest are set to zero, so that the network bears what lazy inference does to it. The weakest are
    known by their own strength, by `prediction` as in hardware, fitted beside the network, or by predictors in
    `training` with it, which `predictor.kind` "trained" puts into the hardware. Layers share in it in the proportions
    of their `keep`. `tune` says which layers learn: `all`, or those from the first `lazy` one on, which is faster.
    `distil` is the share of the loss that asks for the answers of the float network.
    """

    epochs: Natural = 15
    rate: Rate = 1e-3
    weights: Bits = 8
    activations: Bits = 8
    gate: Share = 1.0
    gate_by: Literal["strength", "prediction", "training"] = "strength"
    tune: Literal["all", "lazy"] = "all"
    distil: Annotated[float, Field(ge=0, le=1)] = 0.0


class OnnxSection(Section):
    """A trained network of one's own: a QONNX file, and unlabelled inputs under the key `x` of an .npz file."""

    file: FilePath
    calibration: FilePath


class EngineSection(Section):
    """The shared engine: `filter_lanes` x `pixel_lanes` multipliers behind a memory port of `bus_bytes`."""

    filter_lanes: PositiveInt = 8
    pixel_lanes: PixelLanes = 4
    bus_bytes: Literal[4, 8, 16, 32, 64] = 4
    predictor_lanes: Literal[1, 2, 4, 8, 16, 32] = 8
    outstanding: Literal[1, 2, 4, 8, 16] = 4
    max_burst: Literal[1, 2, 4, 8, 16, 32, 64, 128, 256] = 256
    gap_words: Annotated[int, Field(ge=0, le=64)] = 1
    join_words: Annotated[int, Field(ge=0, le=1024)] = 64
    timeout: Annotated[int, Field(ge=0, lt=1 << 32)] = 65536
    crc_bits: Literal[0, 8, 16, 32] = 0
    crc_block: Annotated[int, Field(ge=1, le=65536)] = 256


class LayerSection(Section):
    """Where a layer runs and where its weights come from; what is left out is the backend's choice (`hw.options`).

    `keep` is what a lazy layer computes per frame after reset: a share of its filters (0.5) or their number (16).
    `pinned` filters of an engine layer are computed in every frame from weights on chip: the most often chosen ones.
    `taps` are the columns of the layer's matrix that are kept: all, or those with a weight that is not zero.
    `lanes` is (filters, pixels) of a head stage's own multipliers.
    """

    place: Place | None = None
    weights: Source | None = None
    keep: Share | PositiveInt | None = None
    pinned: Natural = 0
    taps: Taps | None = None
    lanes: tuple[PositiveInt, PixelLanes] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.keep is not None) != (self.weights is Source.LAZY):
            raise ValueError(
                f"keep is {'missing for' if self.keep is None else 'given with'} weights '{self.weights or 'unsaid'}'; "
                "accepted: keep for weights 'lazy', and for them only"
            )
        if self.pinned and Place.HEAD in (self.place, None) and self.weights not in (Source.LAZY, Source.DENSE):
            raise ValueError("pinned is given for a layer that is not said to be on the engine; accepted: 0 there")
        return self


class PredictorSection(Section):
    """How lazy layers predict, fitted on at most `frames` calibration frames.

    `kind`: `linear` is an int8 matrix on activation strengths, `trained` one that was trained with the network (see
    `quantise.gate_by`), `low_rank` two thin ones with `rank` values between, `paths` a Boolean one on which channels
    are activated, `classes` masks of the classes that are wanted. `select` says how filters are taken after reset: the
    best ones (`top`), or those above a `threshold` that leaves as many on average; if nothing is said, `threshold` for
    paths and classes, else `top`. By which `loss` (see `sw.losses`) `linear` follows the filters' strengths.

    `paths` is the file for the hardware that `penstock paths` has written for this network: then `paths` and `classes`
    come from it, and pinned filters are those that it calls wanted most often.
    """

    kind: Literal["linear", "trained", "low_rank", "paths", "classes"] = "linear"
    rank: PositiveInt = 8
    loss: Literal["squared", "absolute", "ranking", "top"] = "squared"
    select: Mode | None = None
    frames: Annotated[int, Field(ge=2, strict=True)] = 4096
    paths: FilePath | None = None

    @model_validator(mode="after")
    def _only_linear_has_a_loss(self) -> Self:
        if self.loss != "squared" and self.kind != "linear":
            raise ValueError(
                f"loss is '{self.loss}' and kind '{self.kind}'; accepted: other losses than squared of linear"
            )
        return self


class BoardSection(Section):
    """The board that the accelerator is for, one of `flow.boards`: lanes and bus are chosen for it, memory is its own.

    At least `frames_per_second`, or at most `latency_ms` for one frame alone, with the fewest multipliers; with neither
    as fast as fits.
    """

    name: str
    frames_per_second: Annotated[float, Field(gt=0)] | None = None
    latency_ms: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.frames_per_second is not None and self.latency_ms is not None:
            raise ValueError("frames_per_second and latency_ms are given; accepted: one of them, or neither")
        return self


class MemorySection(Section):
    """External memory in simulation, in cycles: `latency` from request to first beat, `outstanding` bursts in service.

    After every `gap_every` beats (0: never) the memory idles for `gap_cycles`.
    """

    latency: Annotated[Cycles, Field(ge=1)] = 10
    outstanding: Annotated[Cycles, Field(ge=1)] = 8
    gap_every: Cycles = 0
    gap_cycles: Cycles = 0


class SynthesisSection(Section):
    """What `penstock synth` asks of place and route: `frequency` in MHz, and the `seed` of the placement."""

    frequency: Annotated[float, Field(gt=0)] = 100.0
    seed: Seed = 1


class VerifySection(Section):
    """`frames`: how many held-out frames `penstock hls` runs through the RTL; `penstock verify` runs them all.

    `vectors`: how many of the held-out frames there are for Penstock, in the golden model and its figures; by default
    all of them.
    """

    frames: PositiveInt = 32
    vectors: PositiveInt | None = None


class PathsSection(Section):
    """The study of critical paths. `scores` are those that are cut and drawn; the first one makes the paths.

    A path keeps the share `ratio` of each layer's filters. `layers` (by default the lazy ones, or else the last six)
    are those that are predicted and handed to the hardware, where a `share` of the filters is to be computed. Scores
    and predictors are found on `images` training images, geometry on `stimuli` test images or those of `human`, an
    npz file of people's judgements. `precision` is that of convolutions.
    """

    scores: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "contribution",
        "activation",
        "product",
        "selectivity",
        "random",
    )
    ratio: Share = 0.25
    layers: tuple[str, ...] | None = None
    share: Share = 0.5
    images: Annotated[int, Field(ge=2, strict=True)] = 5000
    stimuli: Annotated[int, Field(ge=3, le=1000, strict=True)] = 100
    human: FilePath | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


class ExploreSection(Section):
    """What `penstock explore` chooses from, beside the share of filters of each lazy layer; by default nothing else.

    Trained anew for every value: widths of `weights` and `activations` in bits, and `pruned` ratios (0: not pruned).
    Fitted anew: kinds of `predictors`, `low_rank` with each of `ranks`. Free: numbers of `pinned` filters in each lazy
    layer, `filter_lanes` and `pixel_lanes` of the engine, `head_lanes` of each head stage. Of every key the first value
    is tried first.
    """

    predictors: tuple[Literal["linear", "low_rank", "paths"], ...] = ()
    ranks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8,)
    weights: tuple[Bits, ...] = ()
    activations: tuple[Bits, ...] = ()
    pruned: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    pinned: tuple[Natural, ...] = ()
    filter_lanes: tuple[PositiveInt, ...] = ()
    pixel_lanes: tuple[PixelLanes, ...] = ()
    head_lanes: tuple[tuple[PositiveInt, PixelLanes], ...] = ()

    @property
    def trained(self) -> tuple[str, ...]:
        """Keys whose values each take a training."""
        return tuple(key for key in ("weights", "activations", "pruned") if getattr(self, key))


class Recipe(Section):
    """What is built: a network (from data and model, or from a QONNX file), its accelerator and how it is verified.

    `order` is that of filters in the weight image: as trained, or such that those that fire together lie together, by
    what the quantised network shows (`coactivation`) or by the file `predictor.paths` (`paths`).
    Without any layer's section, every engine layer but the last is lazy and computes half of its filters.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    seed: Seed = 1
    order: Literal["trained", "coactivation", "paths"] = "trained"
    data: DataSection | None = None
    model: ModelSection | None = None
    train: TrainSection = TrainSection()
    prune: PruneSection | None = None
    quantise: QuantiseSection = QuantiseSection()
    onnx: OnnxSection | None = None
    engine: EngineSection = EngineSection()
    layers: dict[str, LayerSection] | None = None
    predictor: PredictorSection = PredictorSection()
    board: BoardSection | None = None
    memory: MemorySection = MemorySection()
    verify: VerifySection = VerifySection()
    synthesis: SynthesisSection = SynthesisSection()
    paths: PathsSection = PathsSection()
    explore: ExploreSection = ExploreSection()

    @property
    def network(self) -> str:
        """The name without that of a board which `on_board` has added."""
        return self.name if self.board is None else self.name.removesuffix(f"_{self.board.name.replace('-', '_')}")

    @property
    def mode(self) -> Mode:
        """How lazy layers select filters after reset."""
        counting = self.predictor.kind in ("paths", "classes")
        return self.predictor.select or (Mode.THRESHOLD if counting else Mode.TOP)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("data", "model", "onnx") if getattr(self, key) is not None]
        if given not in (["data", "model"], ["onnx"]):
            raise ValueError(
                f"the network comes from {' and '.join(f'[{key}]' for key in given) or 'nowhere'}; "
                "accepted: both [data] and [model], or [onnx] alone"
            )
        if self.prune is not None and self.model is not None and self.model.checkpoint is not None:
            raise ValueError("[prune] with model.checkpoint; accepted: one of them")
        if self.explore.trained and (self.model is None or self.model.checkpoint is not None):
            raise ValueError(
                f"explore.{self.explore.trained[0]} with a network that comes trained; "
                "accepted: [model] without checkpoint"
            )
        if self.predictor.kind == "classes" and self.onnx is not None:
            raise ValueError(
                "predictor.kind is 'classes' with [onnx], whose inputs have no labels; "
                "accepted: linear, low_rank, paths"
            )
        if self.order == "paths" and self.predictor.paths is None:
            raise ValueError("order is 'paths' without predictor.paths; accepted: trained, coactivation")
        if self.predictor.paths is not None and self.onnx is not None:
            raise ValueError("predictor.paths with [onnx]; accepted: [data] and [model], whose network has the paths")
        if self.predictor.kind == "trained" and (
            self.onnx is not None or (self.quantise.gate_by != "training" or self.quantise.gate == 1)
        ):
            raise ValueError(
                "predictor.kind is 'trained', but no predictor trains with the network; accepted: linear, or [data] "
                "and [model] with quantise.gate below 1 and quantise.gate_by = 'training'"
            )
        if self.board is not None:
            given = [f"engine.{key}" for key in CHOSEN if key in self.engine.model_fields_set]
            given += [f"layers.{name}.lanes" for name, x in (self.layers or {}).items() if x.lanes is not None]
            given += ["memory"] if "memory" in self.model_fields_set else []
            if given:
                raise ValueError(f"{given[0]} is given with [board], which chooses it; accepted: one of them")
        if self.prune is not None and self.onnx is not None:
            raise ValueError("[prune] with [onnx]; accepted: [prune] with [data] and [model], which it needs to train")
        return self


CHOSEN = ("filter_lanes", "pixel_lanes", "bus_bytes")
"""Keys of [engine] that a board decides."""


def on_board(recipe: Recipe, name: str) -> Recipe:
    """`recipe` for the board called `name`, under a name of its own; what the board decides is left out."""
    given = {key: getattr(recipe.engine, key) for key in recipe.engine.model_fields_set if key not in CHOSEN}
    layers = {name: layer.model_copy(update={"lanes": None}) for name, layer in (recipe.layers or {}).items()}
    changes = {
        "name": f"{recipe.name}_{name.replace('-', '_')}"[:40],
        "engine": EngineSection(**given),
        "layers": None if recipe.layers is None else layers,
        "board": BoardSection(name=name),
        "memory": MemorySection(),
    }
    return recipe.model_copy(update=changes)


def lazy_layers(recipe: Recipe) -> tuple[str, ...]:
    """Names of the layers that the recipe calls lazy."""
    return tuple(name for name, layer in (recipe.layers or {}).items() if layer.weights is Source.LAZY)


FILES = {"onnx": {"file", "calibration"}, "model": {"checkpoint"}, "predictor": {"paths"}, "paths": {"human"}}
"""Keys that name files, by section."""


def load(path: Path) -> Recipe:
    """The recipe in the TOML file `path`; paths in it are relative to its folder. UserError if it cannot be used."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"recipe '{path}' does not exist; recipes that come with Penstock lie in recipes/") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe '{path}' cannot be read: {error}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # the last two: endless numbers, deep nesting
        raise UserError(f"recipe '{path}' is not TOML: {error}") from error
    for section, keys in FILES.items():
        table = content.get(section)
        if isinstance(table, dict):
            for key in keys & table.keys():
                if isinstance(table[key], str):
                    table[key] = str(path.parent / table[key])
    return build(content, f"recipe '{path}'")


def build(content: dict[str, object], origin: str) -> Recipe:
    """The recipe that `content` describes; UserError names `origin`, the key, what was found and what is accepted."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        others = len({_key(other) for other in errors}) - 1
        more = f" (and {others} more)" if others else ""
        raise UserError(f"{origin}: {_sentence(errors[0])}{more}") from error


def _sentence(error: ErrorDetails) -> str:
    """Key, what was found, what is accepted."""
    location = _key(error)
    key = ".".join(map(str, location))
    found = f"'{key}' is {error['input']!r}; accepted:"
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'; accepted: {', '.join(_keys(location[:-1]))}"
        case "missing":
            return f"key '{key}' is missing"
        case "value_error":
            return f"{f'[{key}]: ' if key else ''}{error['msg'].removeprefix('Value error, ')}"
        case "path_not_file":
            return f"'{key}' names '{error['input']}', which is not a file"
        case _ if location[-1:] == ("keep",):
            return f"{found} a share of the filters above 0 and up to 1.0, or their number"
        case "literal_error" | "enum":
            return f"{found} {context['expected']}"
        case "greater_than_equal":
            return f"{found} at least {context['ge']}"
        case "greater_than":
            return f"{found} more than {context['gt']}"
        case "less_than_equal":
            return f"{found} at most {context['le']}"
        case "less_than":
            return f"{found} less than {context['lt']}"
        case "string_pattern_mismatch" | "string_too_long":
            return f"{found} up to 40 lower-case letters, digits and '_', a letter first"
        case "model_type" | "dict_type":
            return f"{found} a table"
        case "tuple_type" | "too_short" if location[0] == "paths":
            return f"{found} a list of one or more names"
        case kind:
            return f"{found} {_TYPES.get(kind, error['msg'])}"


_UNION_MEMBERS = ("constrained-float", "constrained-int", "float", "int")
_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a string",
    "tuple_type": "a pair, as [4, 4]",
    "too_long": "a pair, as [4, 4]",
}


def _key(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where the error is. A union (`keep` is a share or a number) appends its members' types to the key: left out."""
    return tuple(part for part in error["loc"] if part not in _UNION_MEMBERS)


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at `location` accepts."""
    table: type[BaseModel] = Recipe
    for part in location:
        if table is Recipe and part in _SECTIONS:
            table = _SECTIONS[str(part)]
    return list(table.model_fields)


_SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "model": ModelSection,
    "train": TrainSection,
    "prune": PruneSection,
    "quantise": QuantiseSection,
    "onnx": OnnxSection,
    "engine": EngineSection,
    "layers": LayerSection,
    "predictor": PredictorSection,
    "board": BoardSection,
    "memory": MemorySection,
    "verify": VerifySection,
    "paths": PathsSection,
    "explore": ExploreSection,
}
