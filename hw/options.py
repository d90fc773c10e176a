"""What a user may say about layers and engine in `hls_config`; the documented interface of the backend.

Per layer, under ``hls_config["LayerName"][<name of the ONNX node>]``; every option may be left out or ``"auto"``:

- ``Place``: ``head`` (a streaming stage of its own) or ``engine`` (a step of the shared engine).
- ``Weights``: ``resident`` (on chip; the head), ``lazy`` (external memory, the predicted filters) or ``dense``
  (external memory, every filter).
- ``Keep``: filters that a lazy layer computes per frame after reset, as a number (int) or a share (float up to 1.0).
- ``Predictor``: what tells which filters matter, for lazy layers: one of the kinds of `hw.design` (or any object with
  the fields of one), or an ``.npz`` file with these fields as arrays ``<layer>.<field>``. Linear: `weights` (input
  channels, filters) and `bias` (filters,), integers.
- ``Select``: which filters of a lazy layer are computed after reset: ``top`` (`Keep` of highest score), ``threshold``
  (those whose score is above ``Threshold``, an int) or ``all``. If nothing is said, ``threshold`` for critical paths
  and classes without `Keep`, else ``top``.
- ``Taps``: which columns (channel, ky, kx) of the layer's matrix are kept: ``all``, ``nonzero`` (those with a weight
  that is not zero, which changes no result), or an ``.npz`` file with a Boolean array ``<layer>.taps`` (channels, kh,
  kw), false only where every weight is zero. A removed column has no weights in the image and costs no cycles. Of a
  dense layer, channels, kh and kw are those of the map that was flattened.
- ``Pinned``: filters of an engine layer that are computed in every frame from weights on chip (indices, or how many of
  the first ones). Behind their compute the others are selected and fetched; they count among `Keep`.
- ``FilterLanes`` and ``PixelLanes`` (a power of two): the multipliers of a head stage.

What is left out: a convolution before any engine layer, with less than 4 KiB of weights, is a head stage; the last
layer and everything after the first engine layer is on the engine. There, a layer with a predictor is lazy, others
are dense; a lazy layer without `Keep` keeps all filters until its register says otherwise.

Of the engine, under ``hls_config["Model"]``: ``EngineFilterLanes``, ``EnginePixelLanes``, ``BusBytes``,
``PredictorLanes``, ``Outstanding``, ``MaxBurst``, ``GapWords``, ``JoinWords``, ``Timeout``,
``CrcBits``, ``CrcBlock``; see `hw.design.Engine`.
"""

from __future__ import annotations

import difflib
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hw.design import (
    BoolArray,
    ClassPredictor,
    DesignError,
    Engine,
    IntArray,
    Lanes,
    LinearPredictor,
    LowRankPredictor,
    Mode,
    PathPredictor,
    Place,
    Predictor,
    Source,
)

MOST_FILTERS = 1 << 16  # of a layer, as their indices have 16 bits
AUTO = "auto"  # the value of an option that is left to the backend
MOST_BYTES = 1 << 30  # that the arrays of a file may take in memory: no network has predictors or taps of this size
HEAD_WEIGHT_BYTES = 4096  # a convolution with fewer bytes of weights streams in the head, if nothing else is said

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


KINDS: tuple[type[Predictor], ...] = (LinearPredictor, LowRankPredictor, PathPredictor, ClassPredictor)


def _fields(kind: type[Predictor]) -> list[str]:
    return [field.name for field in fields(kind)]


class Taps(StrEnum):
    """Columns of a layer's matrix that are kept, without a list of them."""

    ALL = "all"
    NONZERO = "nonzero"


@dataclass(frozen=True)
class Fitted:
    """A predictor that was given: its kind, and the values of its fields."""

    kind: type[Predictor]
    values: Mapping[str, object]


@dataclass(frozen=True)
class Knob(Generic[T_co]):
    """One option: how hls4ml stores it, what it may be, and how a value is read (None if it is refused)."""

    attribute: str
    accepted: str
    read: Callable[[object], T_co | None]


def _integer(value: object) -> int | None:
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1 else None


def _power_of_two(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and number & (number - 1) == 0 else None


def _keep(value: object) -> int | float | None:
    if isinstance(value, float | np.floating):
        return float(value) if 0.0 < value <= 1.0 else None
    return _integer(value)


def _place(value: object) -> Place | None:
    return Place(value) if isinstance(value, str) and value in tuple(Place) else None


def _source(value: object) -> Source | None:
    return Source(value) if isinstance(value, str) and value in tuple(Source) else None


def _predictor(value: object) -> Path | Fitted | None:
    if isinstance(value, str | os.PathLike):
        return Path(value)
    for kind in KINDS:
        if all(hasattr(value, name) for name in _fields(kind)):
            return Fitted(kind, {name: getattr(value, name) for name in _fields(kind)})
    return None


def _mode(value: object) -> Mode | None:
    return Mode(value) if isinstance(value, str) and value in tuple(Mode) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


def _taps(value: object) -> Taps | Path | None:
    if isinstance(value, str) and value in tuple(Taps):
        return Taps(value)
    return Path(value) if isinstance(value, str | os.PathLike) else None


def _pinned(value: object) -> tuple[int, ...] | None:
    if (number := _integer(value)) is not None:
        return tuple(range(number)) if number <= MOST_FILTERS else None
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    if any(isinstance(item, bool) or not isinstance(item, int | np.integer) for item in value):
        return None
    return tuple(sorted({int(item) for item in value}))


PLACE = Knob("place", "head or engine", _place)
WEIGHTS = Knob("weights", "resident, lazy or dense", _source)
KEEP = Knob("keep", "a number of filters (int, at least 1) or a share of them (float, above 0.0 up to 1.0)", _keep)
PREDICTOR: Knob[Path | Fitted] = Knob(
    "predictor",
    "the path of an .npz file, or an object with the fields of a predictor: "
    + "; or ".join(", ".join(_fields(kind)) for kind in KINDS),
    _predictor,
)
SELECT = Knob("select", "all, top or threshold", _mode)
THRESHOLD = Knob("threshold", "an int", _whole)
PINNED: Knob[tuple[int, ...]] = Knob("pinned", "indices of filters, or how many of the first ones", _pinned)
TAPS: Knob[Taps | Path] = Knob("taps", "all, nonzero, or the path of an .npz file", _taps)
FILTER_LANES = Knob("filter_lanes", "an int of at least 1", _integer)
PIXEL_LANES = Knob("pixel_lanes", "a power of two", _power_of_two)

LAYER_KNOBS: dict[str, Knob[object]] = {
    "Place": PLACE,
    "Weights": WEIGHTS,
    "Keep": KEEP,
    "Predictor": PREDICTOR,
    "Select": SELECT,
    "Threshold": THRESHOLD,
    "Pinned": PINNED,
    "Taps": TAPS,
    "FilterLanes": FILTER_LANES,
    "PixelLanes": PIXEL_LANES,
}

MODEL_KNOBS: dict[str, int] = {
    "EngineFilterLanes": 8,
    "EnginePixelLanes": 8,
    "BusBytes": Engine.bus_bytes,
    "PredictorLanes": Engine.predictor_lanes,
    "Outstanding": Engine.outstanding,
    "MaxBurst": Engine.max_burst,
    "GapWords": Engine.gap_words,
    "JoinWords": Engine.join_words,
    "Timeout": Engine.timeout,
    "CrcBits": Engine.crc_bits,
    "CrcBlock": Engine.crc_block,
}
"""Name and default."""

# Keys of hls4ml's that look like ours, and are none of our business.
_FOREIGN = ("Trace", "Strategy", "Precision", "ReuseFactor", "ParallelizationFactor")


@dataclass(frozen=True)
class LayerOptions:
    """What was said about one layer; None where nothing was."""

    place: Place | None = None
    weights: Source | None = None
    keep: int | float | None = None
    predictor: Path | Fitted | None = None
    select: Mode | None = None
    threshold: int | None = None
    pinned: tuple[int, ...] | None = None
    taps: Taps | Path | None = None
    filter_lanes: int | None = None
    pixel_lanes: int | None = None


def layer_options(layer: str, values: Mapping[str, object]) -> LayerOptions:
    """Read the options of `layer` from attributes named as `Knob.attribute`; raise `DesignError` for bad values."""

    def read(knob: Knob[T]) -> T | None:
        value = values.get(knob.attribute, AUTO)
        if value is None or (isinstance(value, str) and value == AUTO):
            return None
        result = knob.read(value)
        if result is None:
            name = next(name for name, other in LAYER_KNOBS.items() if other is knob)
            raise DesignError(f"layer '{layer}': {name} is {value!r}; accepted: {knob.accepted}")
        return result

    return LayerOptions(
        place=read(PLACE),
        weights=read(WEIGHTS),
        keep=read(KEEP),
        predictor=read(PREDICTOR),
        select=read(SELECT),
        threshold=read(THRESHOLD),
        pinned=read(PINNED),
        taps=read(TAPS),
        filter_lanes=read(FILTER_LANES),
        pixel_lanes=read(PIXEL_LANES),
    )


def engine_options(model: Mapping[str, object]) -> Engine:
    """The engine of ``hls_config["Model"]``; raises `DesignError` for bad values."""
    numbers: dict[str, int] = {}
    for name, default in MODEL_KNOBS.items():
        given = model.get(name, default)
        number = _whole(given)
        if number is None or number < 0:  # what 0 means, and whether it is accepted, Engine knows
            raise DesignError(f"hls_config['Model']: {name} is {given!r}; accepted: an int of at least 0")
        numbers[name] = number
    return Engine(
        lanes=Lanes(numbers["EngineFilterLanes"], numbers["EnginePixelLanes"]),
        bus_bytes=numbers["BusBytes"],
        predictor_lanes=numbers["PredictorLanes"],
        outstanding=numbers["Outstanding"],
        max_burst=numbers["MaxBurst"],
        gap_words=numbers["GapWords"],
        join_words=numbers["JoinWords"],
        timeout=numbers["Timeout"],
        crc_bits=numbers["CrcBits"],
        crc_block=numbers["CrcBlock"],
    )


def check_names(hls_config: Mapping[str, object], layers: Iterable[str]) -> None:
    """Raise `DesignError` for an option that is misspelt, or given for a name that is none of `layers`."""
    layers = list(layers)
    _check_spelling("hls_config['Model']", _mapping(hls_config, "Model"), MODEL_KNOBS)
    for name, options in _mapping(hls_config, "LayerName").items():
        given = options if isinstance(options, Mapping) else {}
        _check_spelling(f"layer '{name}'", given, LAYER_KNOBS)
        ours = [key for key in given if key in LAYER_KNOBS]
        if ours and name not in layers:
            raise DesignError(
                f"hls_config['LayerName']['{name}'] sets {', '.join(ours)}, but '{name}' is no layer with weights; "
                f"accepted: {', '.join(layers)}"
            )


def _mapping(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _check_spelling(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Other backends' keys pass, so that a configuration can be shared; what nearly is one of ours does not."""
    known = list(known)
    for key in given:
        if key in known or key in _FOREIGN:
            continue
        close = difflib.get_close_matches(key.lower().replace("_", ""), [name.lower() for name in known], 1, 0.8)
        if close:
            raise DesignError(f"{where}: unknown option '{key}'; accepted: {', '.join(known)}")


def kept_filters(layer: str, keep: int | float | None, filters: int) -> int:
    """How many of `filters` filters `keep` means; shares round half up, and to one filter at least."""
    if keep is None:
        return filters
    if isinstance(keep, float):
        return max(1, int(keep * filters + 0.5))
    if keep > filters:
        raise DesignError(f"layer '{layer}': Keep is {keep}; accepted: 1 to {filters} filters, or a share such as 0.5")
    return keep


def load_predictor(layer: str, predictor: Path | Fitted) -> Predictor:
    """The predictor of `layer`: a given one, or that in the arrays ``<layer>.<field>`` of an ``.npz`` file."""
    where = f"layer '{layer}'" if isinstance(predictor, Fitted) else f"layer '{layer}': predictor file '{predictor}'"
    given = predictor if isinstance(predictor, Fitted) else _load(where, layer, predictor)
    for name, value in given.values.items():
        array = np.asarray(value)
        if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.integer):
            raise DesignError(f"{where}: predictor {name} are {array.dtype}; accepted: integers, or bool")
    values = {name: int(np.asarray(x)) if np.ndim(np.asarray(x)) == 0 else x for name, x in given.values.items()}
    try:
        return given.kind(**values)
    except DesignError as error:
        raise DesignError(f"{where}: {error}") from None


def kept_columns(layer: str, taps: Taps | Path | None, weights: IntArray) -> BoolArray | None:
    """Columns (channels, kh, kw) that `layer` keeps of integer `weights` (filters, channels, kh, kw); None for all.

    A layer whose weights are all zero keeps its first column.
    """
    if taps is None or taps is Taps.ALL:
        return None
    if taps is Taps.NONZERO:
        nonzero: BoolArray = (weights != 0).any(axis=0)
        if not nonzero.any():
            nonzero.flat[0] = True
        return nonzero
    assert isinstance(taps, Path)
    where = f"layer '{layer}': file of taps '{taps}'"
    (found,) = _arrays(where, taps, [f"{layer}.taps"])
    fits = found.dtype == np.bool_ and found.shape == weights.shape[1:]
    if not fits or not found.any():
        raise DesignError(
            f"{where}: '{layer}.taps' is {found.dtype} {found.shape}{', all false' if fits else ''}; "
            f"accepted: bool {weights.shape[1:]}, at least one true"
        )
    return found


def _load(where: str, layer: str, predictor: Path) -> Fitted:
    arrays = _archive(where, predictor)
    for kind in KINDS:
        values = {name: arrays.get(f"{layer}.{name}") for name in _fields(kind)}
        if all(value is not None for value in values.values()):
            return Fitted(kind, values)
    accepted = "; or ".join(", ".join(f"'{layer}.{name}'" for name in _fields(kind)) for kind in KINDS)
    raise DesignError(f"{where} has no predictor of it; found: {', '.join(arrays) or 'none'}; accepted: {accepted}")


def _archive(where: str, file: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file; `DesignError` opens with `where`."""
    try:
        with zipfile.ZipFile(file) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MOST_BYTES:
            raise DesignError(f"{where} unpacks to {size} bytes; accepted: up to {MOST_BYTES}")
        with np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise DesignError(f"{where} does not exist") from None
    except DesignError:
        raise
    except Exception:  # whatever zipfile, zlib and numpy's parser of headers raise for broken bytes
        raise DesignError(f"{where} is not readable; accepted: an .npz file of numpy.savez, without pickles") from None


def _arrays(where: str, file: Path, names: list[str]) -> list[NDArray[Any]]:
    """The arrays `names` of an ``.npz`` file; `DesignError` opens with `where`."""
    arrays = _archive(where, file)
    for name in names:
        if name not in arrays:
            raise DesignError(f"{where} has no array '{name}'; found: {', '.join(arrays) or 'none'}")
    return [arrays[name] for name in names]
