"""Files that are broken, or made to do harm: a sentence that names them, or the right result; nothing is executed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flow import gather
from flow.network import load_calibration
from hw import image, options
from hw.design import DesignError, LinearPredictor
from quant import checkpoint
from quant.layers import QuantNetwork
from quant.train import quantise
from sw import archive, data, models, predictors, train
from sw.driver.description import Description
from sw.driver.driver import Driver, DriverError
from sw.paths import cut, geometry, hardware, path
from sw.paths.path import CriticalPath
from tests.designs import digits_like
from tests.faults import TAKEN, broken, broken_archive, outcome, plain
from tests.path_nets import small_net

SHAPE = (2, 6, 6)
Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Kind:
    """A kind of file: writes a right one, and reads it."""

    write: Callable[[Path], None]
    read: Callable[[Path], object]


def _digits() -> torch.nn.Sequential:
    return models.build("digits_cnn", (1, 8, 8), 10, 5).eval()


@pytest.fixture(scope="module")
def network() -> QuantNetwork:
    digits = data.load("digits", 0)
    settings = train.TrainSettings(epochs=1, seed=0, batch=512)
    return quantise(_digits(), digits, settings, progress=False)


def _provenance() -> checkpoint.Provenance:
    return checkpoint.Provenance(
        model="digits_cnn",
        data="digits",
        recipe="digits",
        seed=0,
        command="make hls",
        training="one epoch",
        accuracy={"float": 1, "int8": 1},
    )


def _predictor() -> LinearPredictor:
    return LinearPredictor(np.arange(12).reshape(3, 4), np.arange(4))


def _paths() -> CriticalPath:
    rng = np.random.default_rng(1)
    masks = tuple(rng.random((4, filters)) < 0.5 for filters in (6, 8))
    for mask in masks:
        mask[:, 0] = True
    return CriticalPath("by hand", 0.5, ("conv1", "conv2"), masks)


def _write_hardware(file: Path) -> None:
    rng = np.random.default_rng(2)
    layer = hardware.derive("conv", rng.random((2, 5)) < 0.5, rng.random((9, 3)), rng.random((9, 5)))
    hardware.HardwarePaths("0" * 64, (layer,)).save(file)


def _write_npz(**arrays: NDArray[np.generic]) -> Callable[[Path], None]:
    return lambda file: np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


ARCHIVES = {
    "calibration": Kind(
        _write_npz(x=np.linspace(-1, 1, 288, dtype=np.float32).reshape(4, *SHAPE)),
        lambda file: load_calibration(file, SHAPE),
    ),
    "checkpoint": Kind(lambda _: None, lambda file: checkpoint.load(file, _digits())),
    "predictors": Kind(lambda file: predictors.save(file, {"conv": _predictor()}), predictors.load),
    "predictor option": Kind(
        lambda file: predictors.save(file, {"conv": _predictor()}), lambda file: options.load_predictor("conv", file)
    ),
    "taps option": Kind(
        _write_npz(**{"conv.taps": np.eye(3, dtype=bool)[:, None]}),
        lambda file: options.kept_columns("conv", file, np.ones((2, 3, 1, 3), np.int64)),
    ),
    "critical path": Kind(
        lambda file: path.save(file, _paths(), small_net()), lambda file: path.load(file, small_net())
    ),
    "network of a class": Kind(
        lambda file: cut.save(file, cut.distilled(small_net(), _paths(), 1, SHAPE), _paths(), 1, small_net()),
        lambda file: cut.load(file, small_net()),
    ),
    "paths for the hardware": Kind(_write_hardware, hardware.HardwarePaths.load),
    "people's judgements": Kind(
        _write_npz(images=np.arange(4), rdm=1 - np.eye(4)), lambda file: geometry.load_human(file, 10)
    ),
}


@pytest.fixture
def written(request: pytest.FixtureRequest, tmp_path: Path, network: QuantNetwork) -> Path:
    """The file of the kind that the test is about."""
    file = tmp_path / "my.npz"
    if request.param == "checkpoint":
        checkpoint.save(file, network, _provenance())
    else:
        ARCHIVES[request.param].write(file)
    return file


def refused(kind: Kind, file: Path) -> tuple[str, object]:
    """How reading ends, and what it gives; a library's reader speaks through ValueError."""
    read: list[object] = []

    def action() -> None:
        try:
            read.append(kind.read(file))
        except (ValueError, DesignError) as error:
            raise archive.FileError(str(error)) from error

    return outcome(action, file.name), read[0] if read else None


@pytest.mark.parametrize("written", ARCHIVES, indirect=True, ids=str)
def test_an_archive_that_is_broken_is_refused(
    written: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """Or read as it was, where what is broken does not matter; what unpacks to much is not unpacked."""
    for module in (archive, options):
        monkeypatch.setattr(module, "MOST_BYTES", 1 << 21)
    kind = ARCHIVES[request.node.callspec.params["written"]]
    content, mark = written.read_bytes(), written.with_name("executed")
    right = plain(kind.read(written))
    for fault, bad in _both(content, mark):
        written.write_bytes(bad)
        said, found = refused(kind, written)
        assert said != TAKEN or plain(found) == right, fault
        assert not mark.exists(), fault
        assert said != TAKEN or "bomb" not in fault
        record_property(fault, said)
    written.unlink()
    written.mkdir()
    assert refused(kind, written)[0] != TAKEN


def _both(content: bytes, mark: Path) -> Iterator[tuple[str, bytes]]:
    yield from broken(content, 7)
    yield from broken_archive(content, mark)


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my.npz"
    np.savez_compressed(file, x=np.zeros((4, *SHAPE), np.float32), y=np.zeros(1 << 20))
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"unpacks to 8390\d\d\d bytes; accepted: up to 1048576"):
        archive.read(file, "an archive")


# -- files of torch ---------------------------------------------------------------------------------------------------
def test_a_file_of_weights_that_is_broken_is_refused(tmp_path: Path, record_property: Record) -> None:
    """Bytes of tensors have a checksum that torch does not look at; the workspace's own digests do."""
    from tests.faults import Planted

    file, mark = tmp_path / "float.pt", tmp_path / "executed"
    train.save_state(file, {"weight": torch.arange(600.0)})
    content = file.read_bytes()
    torch.save({"weight": Planted(mark)}, tmp_path / "code.pt")
    for fault, bad in [*broken(content, 5), ("code instead", (tmp_path / "code.pt").read_bytes())]:
        file.write_bytes(bad)
        said, found = refused(Kind(lambda _: None, train.load_state), file)
        assert said != TAKEN or set(found) == {"weight"}, fault  # type: ignore[call-overload]
        assert not mark.exists(), fault
        record_property(fault, said)


# -- text -------------------------------------------------------------------------------------------------------------
DRIVER = {
    "version": 1,
    "design": "net",
    "fingerprint": "00ff",
    "input": {"channels": 1, "height": 2, "width": 2, "bits": 8, "signed": False, "exponent": -8},
    "outputs": {"number": 2, "bytes": 4, "exponent": -3},
    "bus_bytes": 4,
    "classes": 2,
    "layers": [{"name": "conv", "filters": 4, "lazy": True, "pinned": 0}],
    "registers": {"ID": {"address": 0, "fields": {"ID": [0, 31]}}},
}
TEXTS: dict[str, tuple[object, Callable[[Path], object]]] = {
    "driver.json": (DRIVER, Description.load),
    "checkpoint.json": (_provenance().model_dump(), checkpoint.provenance),
    "front.json": (
        {"points": [{"chooser": "predicted", "k": 0.5, "accuracy": 0.9, "bytes_ratio": 0.4}]},
        lambda file: gather.front(file, digits_like(1)),
    ),
    "baseline.json": (
        {"baseline": [{"network": "net", "board": "kv260", "k": 0.5, "fpga_seconds": 0.1, "cpu": {"one": 1.0}}]},
        lambda file: gather.compared(file, "net"),
    ),
}
VALUES = ("null", "true", "-1", "1e999", "NaN", '"text"', '"\\u0000"', "[]", "{}", "9" * 5000, "[" * 100_000)


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_is_broken_is_refused(name: str, tmp_path: Path, record_property: Record) -> None:
    """Broken anywhere, of another shape, or with one value that is nonsense; other numbers are other numbers."""
    content, read = TEXTS[name]
    file = tmp_path / name
    text = json.dumps(content)
    file.write_text(text)
    read(file)
    if name == "checkpoint.json":
        read = lambda file: checkpoint.provenance(file.with_suffix(".npz"))  # noqa: E731
    kind = Kind(lambda _: None, read)
    places = [place for place in range(len(text)) if text[place - 2 : place] == ": "]
    replaced = [(f"{value[:8]} for a value", text, place, value) for place in places for value in VALUES]
    for fault, bad in broken(text.encode(), 3):
        file.write_bytes(bad)
        record_property(fault, refused(kind, file)[0])
    for fault, old, place, value in replaced:
        end = min(old.find(mark, place) for mark in ",]}" if old.find(mark, place) >= 0)
        file.write_text(old[:place] + value + old[end:])
        said, _ = refused(kind, file)
        if len(value) > 4000:
            assert said != TAKEN, fault
    file.unlink()
    assert refused(kind, file)[0] != TAKEN


# -- datasets ---------------------------------------------------------------------------------------------------------
def test_datasets_that_are_broken_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """No more is unpacked than the dataset has: here 16 bytes and one, of a gigabyte of zeros in a megabyte."""
    monkeypatch.setenv(data.DATA_FOLDER, str(tmp_path))
    folder = tmp_path / "mnist"
    folder.mkdir()
    file = folder / "train-images-idx3-ubyte.gz"
    header = np.array([0x803, 60_000, 28, 28], ">u4").tobytes()
    bomb = gzip.compress(header + bytes(1 << 24))
    content = gzip.compress(header + bytes(1000))
    for fault, bad in [*broken(content, 2), ("a bomb", bomb), ("cut bomb", bomb[:-9])]:
        file.write_bytes(bad)
        said = outcome(lambda: data.load("mnist", 0), file.name)
        assert said != TAKEN
        record_property(fault, said)


# -- weight images ----------------------------------------------------------------------------------------------------
class _Board:
    """Registers that know one accelerator."""

    def __init__(self, description: Description) -> None:
        fingerprint = description.fingerprint
        self.values = {0: 0x534E4550, 8: fingerprint & 0xFFFF_FFFF, 12: fingerprint >> 32}

    def read(self, address: int) -> int:
        return self.values.get(address, 0)

    def write(self, address: int, value: int) -> None:
        self.values[address] = value

    def place(self, image: bytes) -> int:
        return len(image) & 0

    def stream(self, beats: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        return np.zeros((len(beats), 2), np.int64), np.zeros(len(beats), bool)


def test_an_image_that_is_broken_is_refused(tmp_path: Path, record_property: Record) -> None:
    """By flow and driver alike, if its header or its length is wrong; bits of weights are for checksums on chip."""
    from hw.emit import emit

    design = digits_like(2)
    emit(design, tmp_path)
    description = Description.load(tmp_path / "driver.json")
    whole = (tmp_path / "weights.bin").read_bytes()
    image.check(whole, design)
    Driver(_Board(description), description).load(whole)
    for fault, bad in broken(whole, 1):
        taken = []
        for check in (
            lambda bad=bad: image.check(bad, design),
            lambda bad=bad: Driver(_Board(description), description).load(bad),
        ):
            try:
                check()
            except (image.ImageError, DriverError) as error:
                record_property(fault, str(error))
            else:
                taken.append(check)
                record_property(fault, TAKEN)
        assert len(taken) in (0, 2), fault
        if taken:
            assert (len(bad), bad[:32]) == (len(whole), whole[:32]), fault
