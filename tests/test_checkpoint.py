"""Networks kept as integers, and recipes that start from one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from flow import recipe as recipes
from flow import steps
from flow.errors import UserError
from flow.workspace import Workspace
from quant import checkpoint
from quant import train as quant_train
from quant.layers import QuantNetwork
from sw import data, models, train

PROVENANCE = checkpoint.Provenance(
    model="digits_cnn",
    data="digits",
    recipe="recipes/digits.toml",
    seed=0,
    command="make hls",
    training="one epoch of each kind",
    accuracy={"float": 0.9, "int8": 0.875},
)


@pytest.fixture(scope="module")
def network() -> QuantNetwork:
    digits = data.load("digits", 0)
    model = models.build("digits_cnn", digits.shape, digits.classes, 0)
    settings = train.TrainSettings(epochs=1, seed=0)
    train.fit(model, digits, settings, progress=False)
    return quant_train.quantise(model, digits, settings, progress=False)


@pytest.fixture(scope="module")
def kept(network: QuantNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "digits.npz"
    checkpoint.save(path, network, PROVENANCE)
    return path


def fresh() -> torch.nn.Sequential:
    return models.build("digits_cnn", (1, 8, 8), 10, 5).eval()


def test_what_is_kept_computes_the_same_integers(network: QuantNetwork, kept: Path, tmp_path: Path) -> None:
    again = checkpoint.load(kept, fresh())
    frames = torch.tensor(data.load("digits", 0).test_x[:50])
    assert torch.equal(again.integer_logits(frames), network.integer_logits(frames))
    for name in network.weighted:
        for ours, theirs in zip(again.integers(name), network.integers(name), strict=True):
            assert torch.equal(ours, theirs)
    checkpoint.save(tmp_path / "twice.npz", again, PROVENANCE)
    assert (tmp_path / "twice.npz").read_bytes() == kept.read_bytes()
    assert checkpoint.provenance(kept) == PROVENANCE
    assert kept.stat().st_size < 40_000  # 26,752 weights


def test_a_recipe_starts_from_a_checkpoint(network: QuantNetwork, kept: Path, tmp_path: Path) -> None:
    text = f'name = "kept"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\ncheckpoint = "{kept.name}"\n'
    path = kept.parent / "kept.toml"  # the checkpoint's path is relative to the recipe's
    path.write_text(text)
    flow = steps.Flow(recipes.load(path), Workspace(tmp_path), Console(quiet=True))
    steps.restore(flow, tmp_path)
    frames = torch.tensor(data.load("digits", 0).test_x[:50])
    assert torch.equal(flow.quantised_network().integer_logits(frames), network.integer_logits(frames))
    known = steps.TrainedAccuracy.model_validate_json((tmp_path / steps.ACCURACY).read_text())
    assert (known.floating, known.int8) == (0.9, 0.875)
    before = steps.INPUTS["restore"].settings(flow.recipe)
    kept.with_suffix(".json").write_text(PROVENANCE.model_copy(update={"seed": 1}).model_dump_json())
    assert steps.INPUTS["restore"].settings(flow.recipe) != before
    kept.with_suffix(".json").write_text("{}")
    with pytest.raises(UserError, match=r"digits\.json' does not say where a checkpoint comes from"):
        steps.restore(flow, tmp_path)


def test_training_writes_the_checkpoint_that_the_recipe_names(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(
        'name = "small"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\ncheckpoint = "small.npz"\n'
        '[train]\nepochs = 1\n[quantise]\nepochs = 1\nbatch = 16\ngate = 0.5\ngate_by = "training"\ntune = "lazy"\n'
        '[layers.conv2]\nweights = "lazy"\nkeep = 0.5\n'
    )
    flow = steps.Flow(recipes.load(path), Workspace(tmp_path / "build"), Console(quiet=True))
    with pytest.raises(UserError, match=r"small.npz', which is not a file; 'penstock train' makes it"):
        flow.run()
    assert flow.train() == tmp_path / "small.npz"
    plain, tuned = train.load_state(tmp_path / "build" / "float.pt"), flow.quantised_network().state_dict()
    assert torch.equal(plain["conv1.weight"], tuned["conv1.weight"])  # before the first lazy layer
    assert not torch.equal(plain["conv2.weight"], tuned["conv2.weight"])
    kept = checkpoint.load(tmp_path / "small.npz", fresh())
    again, trained = kept.predictor("conv2"), flow.quantised_network().predictor("conv2")
    assert again is not None
    assert trained is not None
    assert (again.weights == trained.weights).all()
    assert (again.bias == trained.bias).all()
    assert kept.predictor("conv3") is None
    arrays = dict(np.load(tmp_path / "small.npz"))
    np.savez(tmp_path / "bad.npz", **arrays | {"predictor/conv2": arrays["predictor/conv2"][:, 1:]})
    with pytest.raises(ValueError, match=r"bad\.npz': 'predictor/conv2' is \(16, 31\) .* accepted: \(channels, 32\)"):
        checkpoint.load(tmp_path / "bad.npz", fresh())
    frames = torch.tensor(data.load("digits", 0).test_x)
    assert torch.equal(kept.integer_logits(frames), flow.quantised_network().integer_logits(frames))
    known = checkpoint.provenance(tmp_path / "small.npz")
    assert (known.model, known.data, known.recipe, known.seed) == ("digits_cnn", "digits", "small", 1)
    answers = kept.integer_logits(torch.tensor(flow.data.test_x)).argmax(dim=1).numpy()
    assert known.accuracy["int8"] == float((answers == flow.data.test_y).mean())
    without = recipes.build({"name": "x", "data": {"set": "digits"}, "model": {"name": "digits_cnn"}}, "test")
    with pytest.raises(UserError, match=r"names no model\.checkpoint"):
        steps.Flow(without, Workspace(tmp_path / "x"), Console(quiet=True)).train()


def test_other_files_are_refused(network: QuantNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(ValueError, match=r"model\.npz' is not a checkpoint"):
        checkpoint.load(path, fresh())
    np.savez(path, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="is not a checkpoint: Object arrays"):
        checkpoint.load(path, fresh())
    checkpoint.save(path, network, PROVENANCE)
    with pytest.raises(ValueError, match="'bias/conv1' is no layer of this network"):
        checkpoint.load(path, torch.nn.Sequential(torch.nn.Identity()))
    whole = dict(np.load(path))
    for key, value, message in (
        ("bias/conv2", None, "'bias/conv2' is missing"),
        ("weights/conv9", np.zeros(3, np.int8), "'weights/conv9' is no layer of this network"),
        ("weights/conv2", np.zeros((32, 16, 3, 2), np.int8), r"'weights/conv2' is \(32, 16, 3, 2\) int8; accepted"),
        ("weights/conv2", np.zeros((32, 16, 3, 3)), r"'weights/conv2' is .* float64; accepted: .* integers"),
        ("format/conv2", np.array([9, 1, 0]), "format of 9 bits"),
        ("format/conv2", np.array([8, 1]), "does not hold this network"),
    ):
        arrays = {name: array for name, array in (whole | {key: value}).items() if array is not None}
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            checkpoint.load(path, fresh())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        checkpoint.load(path, fresh())
