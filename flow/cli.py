"""The command line: `penstock hls` builds, `verify` runs all frames through the RTL, `synth` synthesises it, `paths`
studies the network.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flow import figures, recipe
from flow.errors import UserError, VerificationError
from flow.recipe import Recipe
from hw.design import DesignError
from hw.synthesis import SynthesisError
from sim.verilated import BuildError
from sw.archive import FileError

if TYPE_CHECKING:
    from flow.steps import Flow

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="CNN accelerators for FPGAs that fetch and compute only the filters that this input needs.",
)

RecipeFile = Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="what to build, a .toml file")]
OnnxFile = Annotated[Path | None, typer.Option("--onnx", help="build a network of your own instead: a QONNX file")]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="unlabelled inputs for it, array x of an .npz file")
]
Name = Annotated[str | None, typer.Option("--name", help="what to call it; by default after the ONNX file")]
BoardName = Annotated[
    str | None, typer.Option("--board", help="choose lanes for a board, and build under a name of its own")
]
BuildFolder = Annotated[Path, typer.Option("--build", help="folder of the results, one folder per name in it")]


class Hls(StrEnum):
    """Who makes hardware of the design."""

    PENSTOCK = "penstock"
    VITIS = "vitis"


HlsOption = Annotated[
    Hls, typer.Option("--hls", help="penstock: SystemVerilog; vitis: the same design as C++ for Vitis HLS")
]


def main() -> None:
    """Entry point of `penstock`."""
    with user_errors():
        app()


@contextmanager
def user_errors() -> Iterator[None]:
    """One sentence and exit code 2 for input that cannot be used, 1 for results that are not equal."""
    try:
        yield
    except (UserError, DesignError, SynthesisError, FileError, BuildError) as error:
        _fail(error, 2)
    except OSError as error:
        file = f"'{error.filename}': " if error.filename else ""
        _fail(f"{file}{error.strerror or error}; steps that were finished are kept, and the next run goes on there", 2)
    except MemoryError as error:
        _fail(f"there is not enough memory for this: {error or 'no size is known'}", 2)
    except VerificationError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on where this one stopped", 130)


def _fail(error: object, code: int) -> None:
    sentence = " ".join(str(error).split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"penstock: {sentence}", markup=False)
    sys.exit(code)


@app.command()
def hls(
    recipe_file: RecipeFile = None,
    onnx: OnnxFile = None,
    calibration: CalibrationFile = None,
    name: Name = None,
    target: HlsOption = Hls.PENSTOCK,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
) -> None:
    """Build RTL, weight image and golden vectors, verify some frames in the RTL, and print the summary."""
    started = time.monotonic()
    flow = _flow(_on(board, _chosen(recipe_file, onnx, calibration, name)), build)
    again = _again(recipe_file, onnx, calibration, board)
    if target is Hls.VITIS:
        flow.vitis()
        figures.show_vitis(flow.console, flow.workspace.folder, f"{again} --hls vitis")
        return
    flow.run()
    figures.show(flow.console, flow.recipe.name, figures.load(flow.path("figures.json")), flow.workspace.folder, again)
    flow.console.print(f"\n{time.monotonic() - started:.0f} s", highlight=False)


@app.command()
def data(name: Annotated[str, typer.Argument(help="cifar10, fashion-mnist or mnist")]) -> None:
    """Download a dataset into the folder that PENSTOCK_DATA names, or the user's cache; every file's sum is checked."""
    from sw.data import DataError, download

    try:
        folder = download(name)
    except (DataError, ValueError) as error:
        raise UserError(str(error)) from error
    typer.echo(f"'{name}' is in {folder}")


@app.command()
def train(
    recipe_file: Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe that names model.checkpoint")],
    build: BuildFolder = Path("build"),
) -> None:
    """Train a recipe's network and write its checkpoint, from which `hls` starts."""
    flow = _flow(recipe.load(recipe_file), build)
    flow.console.print(f"wrote {flow.train()}", highlight=False)


@app.command()
def explore(
    recipe_file: Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe with [data] and lazy layers")],
    trials: Annotated[int, typer.Option(help="finished trials after which the search ends", min=1)] = 100,
    images: Annotated[int, typer.Option(help="training images that judge a trial", min=1)] = 512,
    storage: Annotated[
        str | None, typer.Option(help="database URL that several searches share; by default a file in the build folder")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="name that searches on several machines share; by default made of all settings")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="a cost beside accuracy, or several: bytes (the default), cycles, energy, multipliers, memory"
        ),
    ] = None,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
) -> None:
    """Search shares of filters, and what [explore] lists, for most accuracy at least cost; goes on where it stopped."""
    flow = _flow(_on(board, recipe.load(recipe_file)), build)
    from flow.explore import explore as search
    from flow.explore import table

    front = search(flow, trials, images, storage, objective or ["bytes"], study)
    flow.console.print(table(front), highlight=False)


@app.command()
def verify(
    recipe_file: RecipeFile = None,
    onnx: OnnxFile = None,
    calibration: CalibrationFile = None,
    name: Name = None,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
    stalls: Annotated[float, typer.Option(help="probability of a stall on every channel in each cycle", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="of the stalls", min=0)] = 1,
    target: HlsOption = Hls.PENSTOCK,
    dask: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler, on whose workers the RTL then runs")
    ] = None,
    chunk: Annotated[
        int, typer.Option(help="frames in a row of which each worker takes some, with --dask", min=1)
    ] = 64,
) -> None:
    """Run every test frame through the RTL (or HLS C++) and compare logits, choices and bytes with the golden model."""
    if stalls >= 1:
        raise UserError(f"--stalls is {stalls}; accepted: 0 up to, not including, 1")
    if dask is not None and target is not Hls.PENSTOCK:
        raise UserError(f"--dask with --hls {target}; accepted: with the RTL")
    flow = _flow(_on(board, _chosen(recipe_file, onnx, calibration, name)), build)
    what = "RTL" if target is Hls.PENSTOCK else "HLS C++"
    flow.run() if target is Hls.PENSTOCK else flow.vitis()
    from flow import farm
    from flow.steps import IMAGE, RTL, raise_if, require_equal
    from sim import golden
    from sim.memory import Stalls

    with flow.console.status(f"{what} runs ...") if flow.console.is_terminal else _nothing():
        if dask is None:
            model = flow.verilated(Stalls(seed, stalls)) if target is Hls.PENSTOCK else flow.c_simulation()
            require_equal(golden.run(flow.design, flow.test_frames), model.run(flow.test_frames))
        else:
            image, noise = flow.path(IMAGE).read_bytes(), Stalls(seed, stalls)
            simulation = farm.Simulation.of(flow.design, flow.path(RTL), image, flow.memory, noise)
            raise_if(farm.compare(simulation, flow.test_frames, chunk, dask), what)
    flow.console.print(
        f"{what} equals the golden model on all {len(flow.test_frames)} frames: "
        f"logits, strengths, scores, chosen filters, bytes fetched"
    )


@app.command()
def paths(
    recipe_file: Annotated[Path, typer.Option("--recipe", "-r", help="whose network to study, a .toml file")],
    build: BuildFolder = Path("build"),
) -> None:
    """Find the critical paths of a recipe's network, test them, draw them, and write them for the hardware."""
    started = time.monotonic()
    flow = _flow(recipe.load(recipe_file), build)
    from flow.study import Study, summary

    study = Study(flow)
    study.run()
    flow.console.print()
    for what, value in summary(study):
        flow.console.print(f"  {what:<56} {value}", highlight=False, soft_wrap=True)
    flow.console.print(f"\n{time.monotonic() - started:.0f} s", highlight=False)


@app.command()
def synth(
    recipe_file: RecipeFile = None,
    onnx: OnnxFile = None,
    calibration: CalibrationFile = None,
    name: Name = None,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
) -> None:
    """Place and route the RTL for ECP5, estimate its resources on AMD's families, and print the report."""
    flow = _flow(_on(board, _chosen(recipe_file, onnx, calibration, name)), build)
    from flow.synthesis import show

    show(flow.console, flow.synthesise())
    flow.console.print(f"\nwritten to {flow.path('synthesis.json')}; logs and netlists in {flow.path('synthesis')}/")


@app.command()
def verilog(
    recipe_file: RecipeFile = None,
    onnx: OnnxFile = None,
    calibration: CalibrationFile = None,
    name: Name = None,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
) -> None:
    """Write the RTL as one file of plain Verilog-2005, for tools that read no SystemVerilog."""
    flow = _flow(_on(board, _chosen(recipe_file, onnx, calibration, name)), build)
    from hw.synthesis import tools
    from hw.verilog import plain_verilog
    from sw.train import write_atomically

    tools()
    flow.run(hardware=False)
    path = flow.path(f"{flow.design.name}.v")
    write_atomically(path, plain_verilog(flow.design).encode())
    flow.console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command()
def report(
    recipe_file: RecipeFile = None,
    onnx: OnnxFile = None,
    calibration: CalibrationFile = None,
    name: Name = None,
    build: BuildFolder = Path("build"),
    board: BoardName = None,
    frames: Annotated[int, typer.Option(help="test frames that the figures are made from", min=2)] = 64,
    front: Annotated[
        Path | None, typer.Option(help="accuracies of bench/lazy.py, its JSON; by default found on the frames")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="times on processors, the JSON of bench/cycle_model.py")] = None,
) -> None:
    """Write report.html: one page, readable without a network, of what the accelerator does with real frames."""
    for what, file in (("--front", front), ("--baseline", baseline)):
        if file is not None and not file.is_file():
            raise UserError(f"{what} names '{file}', which is not a file")
    flow = _flow(_on(board, _chosen(recipe_file, onnx, calibration, name)), build)
    flow.run(hardware=False)
    from flow.gather import gather
    from flow.report import page
    from sw.train import write_atomically

    command = " ".join(["penstock", *sys.argv[1:]])
    with flow.console.status("report ...") if flow.console.is_terminal else _nothing():
        again = _again(recipe_file, onnx, calibration, board)
        text = page(gather(flow, frames, command, again, front, baseline))
    write_atomically(flow.path("report.html"), text.encode())
    flow.console.print(f"wrote {flow.path('report.html')}", highlight=False, soft_wrap=True)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _again(recipe_file: Path | None, onnx: Path | None, calibration: Path | None, board: str | None) -> str:
    """What a command is given to build the same."""
    again = str(recipe_file) if recipe_file else f"--onnx {onnx} --calibration {calibration}"
    return again + (f" --board {board}" if board else "")


def _chosen(recipe_file: Path | None, onnx: Path | None, calibration: Path | None, name: str | None) -> Recipe:
    """The recipe in a file, or the one that --onnx and --calibration stand for."""
    own = onnx is not None and calibration is not None
    if (recipe_file is None) != own or (onnx is None) != (calibration is None) or (name is not None and not own):
        raise UserError(
            "say what to build: either a recipe, or --onnx and --calibration together (and --name with them)"
        )
    if recipe_file is not None:
        return recipe.load(recipe_file)
    assert onnx is not None
    name = name or re.sub(r"[^a-z0-9_]+", "_", onnx.stem.lower())
    if not name[:1].isalpha():
        name = f"net_{name}"
    for what, file in (("ONNX file", onnx), ("calibration file", calibration)):
        if file is not None and not file.is_file():
            raise UserError(f"{what} '{file}' does not exist")
    return recipe.build({"name": name, "onnx": {"file": str(onnx), "calibration": str(calibration)}}, "options")


def _on(board: str | None, chosen: Recipe) -> Recipe:
    """The recipe for `board`, if one is named."""
    if board is None:
        return chosen
    from flow import boards

    return recipe.on_board(chosen, boards.board(board).name)


def _flow(chosen: Recipe, build: Path) -> Flow:
    """The flow of a recipe; its packages take seconds to load, so not before the recipe is known to be right."""
    warnings.filterwarnings("ignore", module="brevitas")  # of an optional package that nothing here uses
    from flow.steps import Flow
    from flow.workspace import Workspace

    return Flow(chosen, Workspace(build / chosen.name), Console())


if __name__ == "__main__":
    main()
