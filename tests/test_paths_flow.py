"""`penstock paths`: the study of a recipe's network from its front door."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("matplotlib", reason="extra 'analysis' is not installed")
pytest.importorskip("rsatoolbox", reason="extra 'analysis' is not installed")

import quant.train
from flow import cli, recipe, results, study
from flow.errors import UserError
from flow.recipe import PathsSection, PredictorSection, TrainSection
from flow.steps import Flow
from flow.study import Study
from flow.workspace import Workspace, digest
from quant.plain import dequantised
from sim import golden
from sw.paths import path as paths
from sw.paths.hardware import HardwarePaths
from sw.train import TrainSettings

RECIPE = Path(__file__).parents[1] / "recipes" / "digits.toml"
SECTION = PathsSection(scores=("contribution", "random"), images=300, stimuli=20)

Run = Callable[..., tuple[Study, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Study the digits network, trained briefly, in a folder of this name."""
    root = tmp_path_factory.mktemp("build")

    def go(name: str) -> tuple[Study, str]:
        said = io.StringIO()
        chosen = recipe.load(RECIPE).model_copy(update={"train": TrainSection(epochs=3), "paths": SECTION})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study, "RATIOS", (0.25, 1.0))
            patch.setattr(study, "SHARES", (0.5, 1.0))
            found = Study(Flow(chosen, Workspace(root / name), Console(file=said, width=200)))
            found.run()
        return found, said.getvalue()

    return go


@pytest.fixture(scope="module")
def digits(run: Run) -> Study:
    return run("first")[0]


def test_all_results_and_pictures_are_there(digits: Study) -> None:
    for name in results.RESULTS:
        assert digits.flow.path(name).exists(), name
    pictures = {file.name for file in digits.flow.path(results.DRAWINGS).iterdir()}
    assert pictures >= {"scores.png", "cut.svg", "iou.svg", "trend.svg", "components.png", "patterns.png"}
    for file in digits.flow.path(results.DRAWINGS).iterdir():
        assert file.stat().st_size < 150_000, file
        if file.suffix == ".svg":
            assert file.read_text().rstrip().endswith("</svg>")


def test_nothing_is_pickled(digits: Study) -> None:
    for name in results.RESULTS:
        if name.endswith(".npz"):
            with np.load(digits.flow.path(name), allow_pickle=False) as archive:
                assert all(isinstance(archive[key], np.ndarray) for key in archive.files)
        elif name.endswith(".json"):
            json.loads(digits.flow.path(name).read_text())


@pytest.mark.usefixtures("digits")
def test_a_second_run_redoes_nothing(run: Run) -> None:
    _, said = run("first")
    assert said.count("unchanged") == 8


def test_an_interrupted_study_goes_on_to_identical_files(
    run: Run, digits: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    *numbers, drawing = study.STEPS
    assert drawing[0] == "draw"  # half of the time, and made from the others' files
    monkeypatch.setattr(study, "STEPS", (*numbers[:2], ("compare", "", broken)))
    with pytest.raises(KeyboardInterrupt):
        run("second")
    monkeypatch.setattr(study, "STEPS", tuple(numbers))
    again, said = run("second")
    assert said.count("unchanged") == 3  # train, score, cut
    for name in results.RESULTS:
        if name not in (results.TABLES, results.DRAWINGS):
            assert digest(again.flow.path(name)) == digest(digits.flow.path(name)), name


def test_the_file_for_the_hardware_is_this_networks(digits: Study) -> None:
    found = HardwarePaths.load(digits.flow.path(results.HARDWARE), paths.fingerprint(digits.network))
    assert [layer.name for layer in found.layers] == ["conv2", "conv3"]  # the recipe's lazy layers
    assert found.layer("conv3").matrix.shape == (32, 64)
    critical = paths.load(digits.flow.path(results.PATH), digits.network)
    assert np.array_equal(found.layer("conv2").masks, critical.of("conv2"))
    assert critical.of("conv2").sum(axis=1).tolist() == [8] * 10


def test_with_all_filters_nothing_is_lost(digits: Study) -> None:
    result = results.PredictorResult.model_validate_json(digits.flow.path(results.WORTH).read_text())
    assert result.images == 360
    for point in result.points:
        if point.share == 1.0 and point.kind in ("linear", "static", "random"):
            assert point.accuracy == result.accuracy
            assert point.recall == [1.0, 1.0]
        if point.kind == "random" and point.share == 0.5:
            assert point.recall == pytest.approx([0.5, 0.5], abs=0.1)
    whole = results.CutResult.model_validate_json(digits.flow.path(results.CUT).read_text())
    of_all = [point for point in whole.points if point.ratio == 1.0]
    assert of_all[0].tp == of_all[1].tp  # whatever the score: the path is the whole network
    assert of_all[0].megabytes == whole.megabytes
    assert np.mean(of_all[0].tp) > 0.8


def test_scores_are_read_back(digits: Study) -> None:
    assert set(digits.scores) >= {"activation", "contribution", "product", "selectivity", "random", "apoz"}
    assert digits.scores["activation"].layers == ("conv1", "conv2", "conv3")
    assert digits.scores["apoz"].of("conv1") == pytest.approx(1 - digits.scores["positives"].of("conv1"))


def test_people_are_asked(digits: Study, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrix = random.random((12, 12))
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0)
    np.savez(tmp_path / "people.npz", images=np.arange(12), rdm=matrix)
    flow, section = digits.flow, SECTION.model_copy(update={"human": tmp_path / "people.npz"})
    asked = Study(Flow(flow.recipe.model_copy(update={"paths": section}), flow.workspace, flow.console))
    study.find_geometry(asked, tmp_path)
    with np.load(tmp_path / results.GEOMETRY) as archive:
        assert archive["images"].tolist() == list(range(12))
        assert archive["conv1.human"].shape == archive["conv1.full"].shape
        assert (archive["conv1.human"] < 0.5).all()


def test_kept_integers_are_studied_too(digits: Study) -> None:
    """The network of a checkpoint: its weights, without rounding of activations."""
    data = digits.flow.data
    quantised = quant.train.quantise(digits.network, data, TrainSettings(epochs=1, seed=1))
    plain = dequantised(quantised)
    x = torch.tensor(data.test_x)
    with torch.no_grad():
        same = plain(x).argmax(dim=1) == quantised.integer_logits(x).argmax(dim=1)
    assert same.double().mean() > 0.97
    assert [name for name, _ in plain.named_children()] == [name for name, _ in digits.network.named_children()]


# -- what the accelerator reads of it ----------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["paths", "classes"])
def handed(request: pytest.FixtureRequest, digits: Study) -> Flow:
    """The digits accelerator with the predictors, pinned filters and order of the study's file."""
    flow, file = digits.flow, digits.flow.path(results.HARDWARE)
    assert flow.recipe.layers is not None
    layers = flow.recipe.layers | {"conv2": flow.recipe.layers["conv2"].model_copy(update={"pinned": 3})}
    updates = {
        "predictor": PredictorSection(kind=request.param, paths=file, frames=200),
        "order": "paths",
        "layers": layers,
        "quantise": flow.recipe.quantise.model_copy(update={"epochs": 1}),
    }
    found = Flow(flow.recipe.model_copy(update=updates), flow.workspace, Console(file=io.StringIO()))
    found.run(hardware=False)
    return found


def test_the_accelerator_chooses_as_the_file_says(handed: Flow) -> None:
    """In units of activations, and filters as trained: what the file says needs neither integers nor another order."""
    file, kind = HardwarePaths.load(handed.path(results.HARDWARE)), handed.recipe.predictor.kind
    run = golden.run(handed.design, handed.test_frames, maps=False)
    computed = []
    for before, layer in pairwise(handed.design.layers):
        if not layer.lazy:
            continue
        own, trace = file.layer(layer.name), run.layer(layer.name)
        expected = np.tile(own.wanted(list(range(10))), (len(trace.chosen), 1))
        if kind == "paths":
            strengths = np.zeros_like(trace.strengths, np.float64)
            sources = file.layer(before.name).order if before.lazy else np.arange(before.filters)
            strengths[:, sources] = trace.strengths * 2.0**layer.input_format.exponent / layer.input.pixels
            expected = own.chosen(strengths)
        expected = expected[:, own.order]
        if layer.name == "conv2":
            pinned = np.flatnonzero(np.isin(own.order, own.most_frequent(3)))
            assert layer.pinned == tuple(pinned)
            expected[:, pinned] = True
        assert np.array_equal(trace.chosen, expected), layer.name
        computed.append(expected.mean())
    assert 0.1 < np.mean(computed) < 0.98


def test_paths_of_another_network_are_refused(digits: Study, tmp_path: Path) -> None:
    kept = HardwarePaths.load(digits.flow.path(results.HARDWARE))
    replace(kept, fingerprint="0" * 64).save(tmp_path / "other.npz")
    replace(kept, layers=kept.layers[:1]).save(tmp_path / "fewer.npz")
    for name, message in (
        ("other.npz", "'predictor.paths': .*other.npz' holds paths of the network 0000"),
        ("fewer.npz", "fewer.npz' has no paths of layer 'conv3'"),
    ):
        section = PredictorSection(kind="paths", paths=tmp_path / name, frames=200)
        asked = replace(digits.flow, recipe=digits.flow.recipe.model_copy(update={"predictor": section}))
        with pytest.raises(UserError, match=message):
            asked.run(hardware=False)


# -- what is refused ---------------------------------------------------------------------------------------------------
@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `penstock paths` on a recipe with these lines; what it says before it ends with code 2."""
    monkeypatch.chdir(tmp_path)

    def go(text: str, network: str = '[data]\nset = "digits"\n[model]\nname = "digits_cnn"\n') -> str:
        Path("my.toml").write_text(f'name = "my"\n{network}{text}')
        monkeypatch.setattr(sys, "argv", ["penstock", "paths", "--recipe", "my.toml"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr().err
        assert caught.value.code == 2, said
        assert said.startswith("penstock: ")
        assert said.count("\n") == 1
        assert not Path("build").exists()
        return said

    return go


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('scores = ["taylor"]', "'paths.scores' has 'taylor'; accepted: activation, contribution"),
        ("scores = []", "'paths.scores' is []; accepted: a list of one or more names"),
        ('scores = "random"', "'paths.scores' is 'random'; accepted: a list of one or more names"),
        ('layers = ["conv9"]', "'paths.layers' has 'conv9'; accepted, followed by a ReLU: conv1, conv2, conv3"),
        ('layers = ["dense"]', "'paths.layers' has 'dense'"),
        ("ratio = 0.0", "'paths.ratio' is 0.0; accepted: more than 0"),
        ("images = 1", "'paths.images' is 1; accepted: at least 2"),
        ("stimuli = 5000", "'paths.stimuli' is 5000; accepted: at most 1000"),
        ('human = "nobody.npz"', "'paths.human' names 'nobody.npz', which is not a file"),
        ('precision = "int8"', "'paths.precision' is 'int8'; accepted: 'float32' or 'bfloat16'"),
        ("speed = 3", "unknown key 'paths.speed'; accepted: scores, ratio"),
    ],
)
def test_nonsense_is_refused(refused: Callable[..., str], lines: str, said: str) -> None:
    assert said in refused(f"[paths]\n{lines}\n")


def test_a_file_of_people_that_is_none(refused: Callable[..., str]) -> None:
    Path("people.npz").write_text("nothing of the kind")
    assert "'paths.human': 'people.npz' is not a file of human similarity" in refused('[paths]\nhuman = "people.npz"\n')


def test_a_network_of_ones_own_is_not_trained_here(refused: Callable[..., str]) -> None:
    Path("my.onnx").write_bytes(b"")
    Path("my.npz").write_bytes(b"")
    own = '[onnx]\nfile = "my.onnx"\ncalibration = "my.npz"\n'
    assert "accepted: [model]" in refused("", own)


def test_the_missing_extra_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None if name == "rsatoolbox" else object())
    assert "paths need rsatoolbox, which is not installed: pip install 'penstock[analysis]'" in refused("")
