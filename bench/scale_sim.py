"""Our dense cycles beside SCALE-Sim v3's: as many multipliers, as wide a memory, layer by layer.

    python bench/scale_sim.py --python VENV/bin/python [--network digits|cifar] [--dataflow os|ws|is]
        [--json FILE]

SCALE-Sim (Samajdar et al. 2020, Raj et al. 2025) models a systolic array in each of three dataflows. It wants an older
numpy than we do and so an environment of its own, whose interpreter is named: `python -m venv VENV` and
`VENV/bin/pip install scalesim==3.0.0 "numpy<2.4"`. Without it nothing is measured. Ours: all layers on the engine, all
filters, one frame alone, by the cycle model. Of SCALE-Sim its cycles without and with the prefetch before each layer,
which it does not overlap with the layer before.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from bench.engine import MEMORY, SEED
from bench.networks import CIFAR, DIGITS, network
from bench.table import Report, parser
from hw.design import Conv, Design, Engine, Lanes
from sim.cycles import CycleModel, Masks

SIDE, BUS = 8, 4  # of the array; bytes per cycle
DATAFLOWS = ("os", "ws", "is")
NETWORKS = {"digits": DIGITS, "cifar": CIFAR}
CONFIG = """[general]
run_name = run
[run_presets]
InterfaceBandwidth = USER
UseRamulatorTrace = False
[architecture_presets]
ArrayHeight = {side}
ArrayWidth = {side}
IfmapSramSzkB = 64
FilterSramSzkB = 64
OfmapSramSzkB = 64
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = {bus}
Dataflow = {dataflow}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {bus}
IfmapSRAMBankNum = 1
IfmapSRAMBankPort = 1
FilterCustomLayout = False
FilterSRAMBankBandwidth = {bus}
FilterSRAMBankNum = 1
FilterSRAMBankPort = 1
[sparsity]
SparsitySupport = false
"""
RUN = """
import sys
from scalesim.scale_sim import scalesim
config, topology, layout, results = sys.argv[1:]
run = scalesim(save_disk_space=True, verbose=False, config=config, topology=topology, layout=layout)
run.run_scale(top_path=results)
"""


def topology(design: Design) -> str:
    """The layers as SCALE-Sim's table of convolutions, borders included; a dense layer is one of its whole input."""
    rows = ["Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,"]
    for layer in design.layers:
        height, width = layer.input.height, layer.input.width
        if isinstance(layer, Conv):
            top, bottom, left, right = layer.padding
            size = (height + top + bottom, width + left + right, *layer.weights.shape[2:])
        else:
            size = (height, width, height, width)
        rows.append(",".join(map(str, (layer.name, *size, layer.input.channels, layer.filters, layer.stride))) + ",")
    return "\n".join(rows) + "\n"


def scale_sim(python: Path, design: Design, dataflow: str) -> list[tuple[int, int]]:
    """Cycles of each layer, without and with prefetch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.cfg").write_text(CONFIG.format(side=SIDE, bus=BUS, dataflow=dataflow))
        (folder / "topology.csv").write_text(topology(design))
        (folder / "layout.csv").write_text("Layer name,\n")
        files = [str(folder / file) for file in ("config.cfg", "topology.csv", "layout.csv")]
        subprocess.run([python, "-c", RUN, *files, name], check=True, stdout=subprocess.DEVNULL, cwd=name)
        with (folder / "run" / "COMPUTE_REPORT.csv").open() as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    return [(round(float(row["Total Cycles"])), round(float(row["Total Cycles (incl. prefetch)"]))) for row in rows]


def _pair(cycles: list[tuple[int, int]]) -> str:
    return ", ".join(f"{sum(column):,}" for column in zip(*cycles, strict=True))


def main() -> int:
    """Run both, print and write."""
    options = parser(__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--python", type=Path, help="an interpreter that has scalesim")
    options.add_argument("--network", choices=NETWORKS, action="append", help="only this one")
    options.add_argument("--dataflow", choices=DATAFLOWS, action="append", help="only this one")
    arguments = options.parse_args()
    report = Report(f"{SIDE * SIDE} multipliers, {8 * BUS}-bit memory, all filters")
    figures: dict[str, JsonValue] = {}
    if arguments.python is None:
        report.row("SCALE-Sim", "skipped: --python names no interpreter that has it")
        return report.finish(figures, arguments.json)
    for name in arguments.network or NETWORKS:
        shape, blocks = NETWORKS[name]
        design = network(name, shape, blocks, Engine(Lanes(SIDE, SIDE), bus_bytes=BUS), (), seed=SEED)
        masks = Masks.drawn(design, {layer.name: layer.filters for layer in design.lazy_layers}, 1, SEED)
        run = CycleModel(design, MEMORY).alone(masks)
        ours = [int(layer.cycles[0]) for layer in run.layers]
        work = [layer.filters * int(layer.kept_taps.sum()) * int(np.prod(layer.grid)) for layer in design.layers]
        theirs = {
            dataflow: scale_sim(arguments.python, design, dataflow) for dataflow in arguments.dataflow or DATAFLOWS
        }
        for index, layer in enumerate(design.layers):
            columns = "; ".join(f"{dataflow} {_pair(found[index : index + 1])}" for dataflow, found in theirs.items())
            report.row(
                f"{name}, {layer.name}: MACs / multipliers; ours; SCALE-Sim",
                f"{work[index] / SIDE**2:,.0f}; {ours[index]:,}; {columns}",
            )
        totals = "; ".join(f"{dataflow} {_pair(found)}" for dataflow, found in theirs.items())
        report.row(f"{name}: ours; SCALE-Sim", f"{sum(ours):,}; {totals}")
        figures[name] = {
            "layers": [layer.name for layer in design.layers],
            "limit": [each / SIDE**2 for each in work],
            "ours": [*ours],
            "scale_sim": {dataflow: [[*pair] for pair in found] for dataflow, found in theirs.items()},
        }
    return report.finish(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
