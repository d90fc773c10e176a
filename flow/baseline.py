"""What a network takes on processors, one frame at a time: measured on this one, and bounds for others.

One core is timed by its processor time, which a busy machine does not change much; all cores by the clock on the wall.
Bounds are rooflines: no less than all multiplications at the processor's peak, nor than all weights at its bandwidth
where they do not fit its last cache. Real code is slower.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

RUNS = 15
LONGEST = 12.0  # seconds for the runs of one kind; at least three are made
CALIBRATION = 4  # frames that choose the scales of int8


@dataclass(frozen=True)
class Machine:
    """Where times were measured; `load` is that of other processes."""

    processor: str
    cores: int
    load: float

    @staticmethod
    def here() -> Machine:
        """This one, now."""
        names = [
            line.split(":", 1)[1].strip()
            for line in _lines(Path("/proc/cpuinfo"))
            if line.startswith(("model name", "Hardware"))
        ]
        cores = len(os.sched_getaffinity(0))
        return Machine(names[0] if names else platform.processor() or "unknown", cores, os.getloadavg()[0])


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def core_counts() -> tuple[int, ...]:
    """One, and all where they are free: beside other processes, threads that wait for each other say nothing."""
    cores = len(os.sched_getaffinity(0))
    return (1,) if cores == 1 or os.getloadavg()[0] > cores / 2 else (1, cores)


def measure(network: nn.Sequential, frame: NDArray[np.float32], quantised: bool = True) -> dict[str, float]:
    """Median seconds of one `frame` (c, h, w) by library, numbers and cores; int8 only if `quantised` is wanted.

    On one core, and on all of them if the machine is not busy.
    """
    batch = torch.tensor(frame[None])
    counts = core_counts()
    seconds: dict[str, float] = {}
    network = network.eval()
    before = torch.get_num_threads()
    try:
        for threads in counts:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                seconds[f"PyTorch float32, {_cores(threads)}"] = median(lambda: network(batch), threads)
    finally:
        torch.set_num_threads(before)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, narrow = folder / "float.onnx", folder / "int8.onnx"
        torch.onnx.export(network, (batch,), plain, dynamo=False, input_names=["x"])
        files = {"float32": plain}
        if quantised:
            frames = _Frames(frame)
            quantize_static(
                plain,
                narrow,
                frames,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
            files["int8"] = narrow
        for numbers, file in files.items():
            for threads in counts:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
                given = {"x": frame[None]}
                took = median(lambda: session.run(None, given), threads)  # noqa: B023 - called at once
                seconds[f"ONNX Runtime {numbers}, {_cores(threads)}"] = took
    return seconds


def _cores(threads: int) -> str:
    return "one core" if threads == 1 else f"{threads} cores"


class _Frames(CalibrationDataReader):
    """A few frames like the one given."""

    def __init__(self, frame: NDArray[np.float32]) -> None:
        rng = np.random.default_rng(0)
        self._left = [np.abs(frame + rng.normal(0, 0.05, frame.shape)).astype(np.float32) for _ in range(CALIBRATION)]

    def get_next(self) -> dict[str, Any] | None:
        """The next one, as onnxruntime asks for them."""
        return {"x": self._left.pop()[None]} if self._left else None


def median(run: Callable[[], object], threads: int = 1) -> float:
    """Median seconds of `run` over some runs after a first one: processor time on one core, else the wall's."""
    clock = time.process_time if threads == 1 else time.perf_counter
    run()
    took: list[float] = []
    started = time.perf_counter()
    while len(took) < 3 or (len(took) < RUNS and time.perf_counter() - started < LONGEST):
        before = clock()
        run()
        took.append(clock() - before)
    return float(np.median(took))


# -- bounds ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Processor:
    """Multiplications and additions that its cores can start in a cycle, by kind of number; bytes per second.

    `watts` is what it may draw in all, where its maker says so.
    """

    name: str
    cores: int
    gigahertz: float
    per_cycle: Mapping[str, int]
    bandwidth: float
    cache_bytes: int
    watts: float | None = None

    def bound(self, macs: float, weights: float, numbers: str) -> float:
        """Seconds that `macs` multiplications over `weights` weights take at least."""
        size = weights * (4 if numbers == "float32" else 1)
        moved = size / self.bandwidth if size > self.cache_bytes else 0.0
        return max(macs / (self.cores * self.gigahertz * 1e9 * self.per_cycle[numbers]), moved)


PROCESSORS = (
    # Leroux et al. 2016 measured on it. AVX: 8 float products and 8 sums a cycle; PMADDWD: 8 products of 16 bits.
    Processor("Intel i5-2400", 4, 3.1, {"float32": 8, "int8": 8}, 21.3e9, 6 << 20, 95),
    # Of a Zynq UltraScale+ (1.2 GHz, DDR4-2400 x64). NEON, assumed: 4 float or 8 int8 products with sums a cycle.
    Processor("Cortex-A53", 4, 1.2, {"float32": 4, "int8": 8}, 19.2e9, 1 << 20),
    # Of a Raspberry Pi 4 (1.5 GHz, LPDDR4-3200 x32). The same assumption.
    Processor("Cortex-A72", 4, 1.5, {"float32": 4, "int8": 8}, 12.8e9, 1 << 20),
)


def joules(seconds: Mapping[str, float]) -> dict[str, float]:
    """What processors draw in such times by name, where their power is known."""
    return {
        name: took * processor.watts
        for name, took in seconds.items()
        for processor in PROCESSORS
        if processor.watts is not None and name.startswith(processor.name)
    }


def bounds(macs: float, weights: float) -> dict[str, float]:
    """Seconds that all cores of other processors take at least for `macs` multiplications over `weights` weights."""
    return {
        f"{processor.name} {numbers}, bound": processor.bound(macs, weights, numbers)
        for processor in PROCESSORS
        for numbers in ("float32", "int8")
    }
