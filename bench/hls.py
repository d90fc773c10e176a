"""The same designs as C++ for Vitis HLS: how long it takes to write them, and are they equal?

    python bench/hls.py [--json FILE] [--quick]

Networks of `bench/networks.py` with random weights, their upper layers lazy. Their C simulation (g++) is compared with
the golden model by ``==``: logits, strengths, scores, chosen filters, feature maps, bytes read through the memory
port. Times are CPU seconds of this process. ``--quick`` leaves VGG-16 out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from bench.networks import CIFAR, DIGITS, VGG16, network
from bench.table import Report, parser
from flow.compare import differences
from hw.design import Engine, Lanes
from hw.emit.hls import emit_hls
from sim import golden, hls

BUILD = Path("build") / "bench" / "hls"
SEED = 5
NETS = {
    "digits": (DIGITS, Lanes(4, 8), 1, 8),
    "cifar": (CIFAR, Lanes(4, 16), 3, 2),
    "vgg16": (VGG16, Lanes(16, 4), 3, 1),
}


def main() -> int:
    """Write, compile and run each network."""
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="without VGG-16")
    arguments = options.parse_args()
    report = Report("C++ for Vitis HLS")
    figures: dict[str, JsonValue] = {}
    for name, (net, lanes, lazy, count) in NETS.items():
        if arguments.quick and name == "vgg16":
            continue
        engine = Engine(lanes, bus_bytes=8)
        design = network(f"hls_{name}", *net, engine, (Lanes(2, 8),), lazy=lazy, pinned=4, seed=SEED)
        project = BUILD / name
        started = time.process_time()
        emit_hls(design, project)
        emission = time.process_time() - started
        model = hls.HlsModel(
            hls.build(project, design.name, BUILD / "libraries"), design, (project / "weights.bin").read_bytes()
        )
        shape, number = design.input, design.input_format
        rng = np.random.default_rng(SEED)
        frames = rng.integers(number.low, number.high + 1, (count, shape.channels, shape.height, shape.width))
        started = time.process_time()
        run = model.run(frames)
        simulation = (time.process_time() - started) / count
        equal = report.equal(
            f"{name}: {len(design.layers)} layers, {len(design.lazy_layers)} of them lazy, {count} frames",
            differences(golden.run(design, frames), run) == (),
        )
        report.row(f"{name}: written in", f"{emission:.1f} s")
        report.row(f"{name}: C simulation, a frame", f"{simulation:.2f} s")
        figures[name] = {"equal": equal, "emission_s": emission, "frame_s": simulation, "lazy": len(design.lazy_layers)}
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
