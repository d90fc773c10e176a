"""Every kind of layer over a grid of its parameters, and whole models: what converts, and is it equal everywhere?

    python bench/layers.py [--json FILE] [--quick | --full] [--only TEXT]

Networks are small, with random weights (`tests/layer_nets.py`). The golden model's answers are compared by ``==`` with
executing the QONNX file and with Brevitas; of models and of some cases of the grid (all with ``--full``, none with
``--quick``) also with what has to be compiled: hls4ml's own C simulation, our HLS C++, and the RTL in Verilator. A last
softmax is left out, so there Brevitas is asked for the class, and hls4ml's C simulation not at all.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue
from torch import nn

from bench.table import Report, parser
from hw.design import Design, DesignError, IntArray
from hw.emit import emit
from hw.emit.hls import emit_hls
from hw.frames import dequantise_output, quantise_input
from hw.qonnx import convert
from sim import csim, golden, hls, verilated
from tests.brevitas_nets import Net, conv, execute, identity, linear, relu
from tests.layer_nets import ACCEPTED, Branches, ResidualBlock, jet_tagging, plain_relu, residual

BUILD = Path("build") / "bench" / "layers"
FRAMES = 8


def lenet() -> Net:
    """LeNet-5 for 28 x 28 images."""
    return Net(
        identity(),
        conv(1, 6, 5, padding=2),
        relu(),
        nn.MaxPool2d(2),
        conv(6, 16, 5),
        relu(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        linear(400, 120, return_quant_tensor=True),
        relu(),
        linear(120, 84, return_quant_tensor=True),
        relu(),
        linear(84, 10),
        shape=(1, 28, 28),
    )


def vgg() -> Net:
    """Two blocks of VGG at 16 x 16."""
    return Net(
        identity(),
        *(conv(3, 8, padding=1), relu(), conv(8, 8, padding=1), relu(), nn.MaxPool2d(2)),
        *(conv(8, 16, padding=1), relu(), conv(16, 16, padding=1), relu(), nn.MaxPool2d(2)),
        nn.Flatten(),
        linear(256, 10),
        shape=(3, 16, 16),
    )


def mobilenet() -> Net:
    """Depthwise and pointwise convolutions in turn, then a global average."""
    return Net(
        identity(),
        *(conv(3, 8, stride=2, padding=1), relu()),
        *(conv(8, 8, groups=8, padding=1), relu(), conv(8, 16, 1), relu()),
        *(conv(16, 16, groups=16, stride=2, padding=1), relu(), conv(16, 16, 1)),
        plain_relu(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        linear(16, 10, bias=False, bias_quant=None),
        shape=(3, 16, 16),
    )


def resnet(blocks: int, size: int = 16) -> Net:
    """ResNet of three stages of so many blocks: 16, 32 and 64 channels."""
    layers: list[nn.Module] = []
    channels = 16
    for filters in (16, 32, 64):
        for _ in range(blocks):
            grows = filters != channels
            layers += [ResidualBlock(channels, filters, stride=1 + grows, around=grows), relu()]
            channels = filters
    layers[-1] = plain_relu()
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(64, 10, bias=False, bias_quant=None))
    return Net(identity(), conv(3, 16, padding=1), relu(), *layers, *tail, shape=(3, size, size))


def squeezenet() -> Net:
    """Two fire modules, whose expanding convolutions are joined, then a global average."""
    return Net(
        *(identity(), conv(3, 8, stride=2, padding=1), relu(), conv(8, 4, 1), relu(), Branches(4, 8, 8)),
        *(nn.MaxPool2d(2), conv(16, 6, 1), relu(), Branches(6, 8, 8), nn.Flatten(), linear(256, 10)),
        shape=(3, 16, 16),
    )


MODELS: dict[str, Callable[[], Net]] = {
    "LeNet": lenet,
    "VGG-like": vgg,
    "MobileNet-like": mobilenet,
    "jet tagging 16-64-32-32-5": jet_tagging,
    "SqueezeNet-like": squeezenet,
    "ResNet block": residual,
    "ResNet-8": lambda: resnet(1),
    "ResNet-20": lambda: resnet(3),
}


@dataclass(frozen=True)
class Witnesses:
    """What a converted network is compared with, and the frames."""

    net: Net
    model: Any
    design: Design
    x: np.ndarray[Any, Any]
    frames: IntArray
    name: str

    @staticmethod
    def of(net: Net, name: str) -> Witnesses:
        """Convert; raises `DesignError`."""
        model = net.qonnx()
        accelerator = convert(model, "build/unwritten", "".join(c if c.isalnum() else "_" for c in name)).penstock
        x = net.frames(FRAMES)
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim > 2 else x
        frames = quantise_input(accelerator.design, last, accelerator.layout)
        return Witnesses(net, model, accelerator.design, x, frames, accelerator.design.name)

    def equal(self, softmax: bool, quick: bool) -> dict[str, bool]:
        """By witness, whether its answers are the golden model's."""
        expected = golden.run(self.design, self.frames).outputs
        real = dequantise_output(self.design, expected)
        result: dict[str, bool] = {}
        if softmax:
            result["brevitas"] = np.array_equal(real.argmax(axis=1), self.net.outputs(self.x).argmax(axis=1))
        else:
            result["brevitas"] = np.array_equal(real, self.net.outputs(self.x))
            x = self.x[:, :, np.newaxis] if self.x.ndim == 3 else self.x
            result["qonnx"] = np.array_equal(real, execute(self.model, x))
        if quick:
            return result
        folder = BUILD / self.name
        if not softmax:
            simulation = csim.build(self.model, self.design, folder / "csim")
            result["hls4ml"] = np.array_equal(simulation.run(self.frames), expected)
        emit(self.design, folder)
        library = verilated.build(folder / "rtl", folder / "verilated", f"{self.design.name}_probed")
        image = (folder / "weights.bin").read_bytes()
        rtl = verilated.VerilatedModel(library, self.design, image).run(self.frames)
        result["rtl"] = np.array_equal(rtl.outputs, expected) and not rtl.bad.any()
        emit_hls(self.design, folder / "hls")
        cpp = hls.HlsModel(hls.build(folder / "hls", self.design.name), self.design, image).run(self.frames)
        result["hls_cpp"] = np.array_equal(cpp.outputs, expected)
        return result


def main() -> int:
    """Judge the grid and the models."""
    options = parser(__doc__ or "")
    effort = options.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="only witnesses that need no compiler")
    effort.add_argument("--full", action="store_true", help="all witnesses for every case")
    options.add_argument("--only", default="", metavar="TEXT", help="cases and models whose name has it")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    report = Report("layers: equal to the golden model")
    grid: list[JsonValue] = []
    for case in (case for case in ACCEPTED if arguments.only in case.name):
        quick = arguments.quick or not (arguments.full or "rtl" in case.tags)
        found = Witnesses.of(case.net(), case.name).equal(case.same_order, quick)
        report.equal(f"{case.name} ({', '.join(found)})", all(found.values()))
        grid.append(
            {
                "layer": case.layer,
                "parameters": dict(case.parameters),
                "equal": all(found.values()),
                "witnesses": dict(found),
            }
        )
    models: list[JsonValue] = []
    for name, make in ((name, make) for name, make in MODELS.items() if arguments.only in name):
        try:
            witnesses = Witnesses.of(make(), name)
        except DesignError as error:
            report.row(name, f"refused: {error}")
            models.append({"name": name, "converts": False, "equal": None, "error": str(error)})
            continue
        found = witnesses.equal(name.startswith("jet"), arguments.quick)
        report.equal(f"{name} ({', '.join(found)})", all(found.values()))
        models.append({"name": name, "converts": True, "equal": all(found.values()), "witnesses": dict(found)})
    return report.finish({"grid": grid, "models": models}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
