"""C simulation of the Vitis HLS project: g++ compiles it into a shared library, which runs in this process."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.control import Changes, Control
from hw.design import BoolArray, Design, IntArray, Mode, Selection
from hw.emit.hls import trace_sizes
from sim.trace import maps

NO_SCORE = np.iinfo(np.int64).min
FLAGS = (
    "-std=c++14",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",  # several designs live in one process: nothing may be shared between libraries
    "-fno-gnu-unique",
    "-Wno-unknown-pragmas",
    "-w",  # hls4ml's headers and ap_types warn on their own account
)


class HlsError(RuntimeError):
    """There is no C++ compiler, it refused the sources, or the accelerator refused the image."""


@dataclass(frozen=True, eq=False)
class HlsLayer:
    """What the C++ did in one layer of the tail on n frames.

    `strengths` (n, input channels), `scores` (n, filters) or None where none were needed, `chosen` (n, filters),
    `bytes` (n,) as read through the memory port, `output` (n, filters, h, w), zero where not chosen; None for the last
    layer.
    """

    name: str
    strengths: IntArray
    scores: IntArray | None
    chosen: BoolArray
    bytes: IntArray
    output: IntArray | None


@dataclass(frozen=True, eq=False)
class HlsRun:
    """Logits (n, outputs), frames refused (n,), and what every layer of the tail did."""

    outputs: IntArray
    bad: BoolArray
    layers: tuple[HlsLayer, ...]

    def layer(self, name: str) -> HlsLayer:
        """The tail layer called `name`; raises KeyError that lists the names."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no tail layer '{name}'; there are: {', '.join(x.name for x in self.layers)}")


def build(project: Path, name: str, folder: Path | None = None) -> Path:
    """Compile the project that `hw.emit.hls.emit_hls` wrote for the design `name`; gives the library.

    It lies in `folder`, by default ``project/build``, and is reused while nothing has changed. Raises `HlsError` with
    the compiler's words.
    """
    project = project.resolve()
    library = (folder or project / "build").resolve() / f"{name}-{_digest(project, name)}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with (library.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            aside = library.with_suffix(".tmp")
            _compile([project / "firmware" / f"{name}.cpp", project / f"{name}_bridge.cpp"], project, aside, "-shared")
            aside.replace(library)
    return library


def run_test_bench(project: Path, name: str) -> str:
    """Compile and run the project's own test bench; what it says. Raises `HlsError` unless all logits are equal."""
    project = project.resolve()
    program = project / "build" / f"{name}_test"
    program.parent.mkdir(parents=True, exist_ok=True)
    _compile([project / "firmware" / f"{name}.cpp", project / f"{name}_test.cpp"], project, program)
    done = subprocess.run(
        [str(program), str(project)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise HlsError(f"test bench of '{name}': {done.stdout.strip()}")
    return done.stdout.strip()


def _digest(project: Path, name: str) -> str:
    digest = hashlib.sha256(" ".join((_compiler(), *FLAGS)).encode())
    own = [project / f"{name}_bridge.cpp", *sorted((project / "firmware").glob(f"{name}*"))]
    for path in (*own, *sorted((project / "firmware" / "pen").iterdir())):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def _compile(sources: list[Path], project: Path, out: Path, *options: str) -> None:
    if shutil.which(_compiler()) is None:
        raise HlsError(f"'{_compiler()}' is not installed; C simulation needs a C++ compiler")
    includes = [f"-I{project / folder}" for folder in (".", "firmware", "firmware/ap_types")]
    command = [_compiler(), *FLAGS, *includes, *options, *map(str, sources), "-o", str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise HlsError(f"{_compiler()} failed ({done.returncode}):\n{done.stdout.strip()}")


class HlsModel:
    """The C++ accelerator; `image` is the weight image in its external memory."""

    def __init__(self, library: Path, design: Design, image: bytes) -> None:
        self.design = design
        self.image = np.frombuffer(image, np.uint8)
        self._run = ctypes.CDLL(str(library.resolve())).pen_hls_run
        pointer, count = ctypes.c_void_p, ctypes.c_longlong
        self._run.argtypes = [pointer, count, pointer, count, *[pointer] * 13]
        self._run.restype = None

    def run(self, frames: IntArray, keep: Changes = None) -> HlsRun:
        """Run integer `frames` (n, c, h, w); `keep` changes what named lazy layers compute.

        Frames are `bad` where the accelerator refuses the image. `ValueError` for frames that the input cannot hold.
        """
        design, number = self.design, self.design.input_format
        shape = (design.input.channels, design.input.height, design.input.width)
        if frames.ndim != 4 or frames.shape[1:] != shape or not np.issubdtype(frames.dtype, np.integer):
            raise ValueError(f"frames are {frames.shape} of {frames.dtype}; accepted: integers of (n, {shape})")
        if frames.size and (frames.min() < number.low or frames.max() > number.high):
            raise ValueError(f"frames hold {frames.min()} to {frames.max()}; accepted: {number.low} to {number.high}")
        control = Control.of(design, keep)
        selections = [control.selections.get(layer.name, layer.selection) for layer in design.tail]
        sizes, n, steps = trace_sizes(design), len(frames), len(design.tail)
        logits = np.zeros((n, design.outputs), np.int64)
        strengths, scores = np.zeros((n, sizes.strengths), np.int64), np.full((n, sizes.filters), NO_SCORE, np.int64)
        chosen, words = np.zeros((n, sizes.filters), np.uint8), np.zeros((n, steps), np.int64)
        maps, status = np.zeros((n, sizes.maps), np.intc), np.zeros(n, np.intc)
        counted, fetched = np.zeros((n, steps), np.intc), np.zeros((n, steps), np.intc)
        arrays: list[NDArray[np.generic]] = [
            np.array([selection.mode.code for selection in selections], np.intc),
            np.array([selection.keep for selection in selections], np.intc),
            np.array([selection.threshold for selection in selections], np.intc),
            np.array([*control.classes, False], np.uint8),
            *(logits, strengths, scores, chosen, words, maps, counted, fetched, status),
        ]
        pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1), np.int16)
        memory = (self.image.ctypes.data, self.image.size)
        self._run(pixels.ctypes.data, n, *memory, *(array.ctypes.data for array in arrays))
        bad = status != 0
        if (counted.sum(axis=1) != chosen.sum(axis=1))[~bad].any() or (
            fetched.astype(np.int64) != words * design.engine.bus_bytes
        )[~bad].any():
            raise HlsError(f"'{design.name}': counters do not say what was chosen and read")
        return HlsRun(logits, bad, tuple(self._layers(selections, strengths, scores, chosen, words, maps)))

    def trace(self, frames: IntArray, keep: Changes = None) -> tuple[HlsRun, dict[str, IntArray]]:
        """As `run`, and the outputs (n, filters, h, w) of all layers by name; see `sim.trace`."""
        run = self.run(frames, keep)
        return run, maps(self.design, frames, keep, run.outputs, run.layers)

    def _layers(
        self,
        selections: list[Selection],
        strengths: IntArray,
        scores: IntArray,
        chosen: NDArray[np.uint8],
        words: IntArray,
        maps: NDArray[np.intc],
    ) -> list[HlsLayer]:
        """Each layer's share of what was told."""
        layers, channel, first, place = [], 0, 0, 0
        for index, (layer, selection) in enumerate(zip(self.design.tail, selections, strict=True)):
            own, shape, output = slice(first, first + layer.filters), layer.output, None
            if layer is not self.design.tail[-1]:
                size = layer.filters * shape.pixels
                flat = maps[:, place : place + size].astype(np.int64)
                output = flat.reshape(len(flat), layer.filters, shape.height, shape.width)
                place += size
            layers.append(
                HlsLayer(
                    layer.name,
                    strengths[:, channel : channel + layer.input.channels].copy(),
                    scores[:, own].copy() if layer.lazy and selection.mode is not Mode.ALL else None,
                    chosen[:, own] != 0,
                    words[:, index] * self.design.engine.bus_bytes,
                    output,
                )
            )
            channel += layer.input.channels
            first += layer.filters
        return layers


def simulator(design: Design, folder: Path) -> HlsModel:
    """The C++ accelerator that was written to ``folder/hls``, compiled; entry point of `penstock.simulators`."""
    project = folder / "hls"
    return HlsModel(build(project, design.name), design, (project / "weights.bin").read_bytes())
