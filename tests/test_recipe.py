"""Recipes: what is read, and that every mistake is one sentence that names key, what was found and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow import recipe
from flow.errors import UserError
from hw.design import Place, Source

ROOT = Path(__file__).parents[1]
MINIMAL = 'name = "net"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\n'


def load(folder: Path, text: str) -> recipe.Recipe:
    file = folder / "net.toml"
    file.write_text(text)
    return recipe.load(file)


def test_the_default_recipe_is_the_documented_one() -> None:
    digits = recipe.load(ROOT / "recipes" / "digits.toml")
    assert digits.layers is not None
    assert digits.layers["conv1"].place is Place.HEAD
    assert recipe.lazy_layers(digits) == ("conv2", "conv3")
    assert digits.layers["dense"].weights is Source.DENSE
    assert digits.layers["conv2"].keep == 0.5


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_that_comes_with_penstock_is_read(file: Path) -> None:
    assert recipe.load(file).name == file.stem


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    net = load(tmp_path, MINIMAL)
    assert net.layers is None
    assert net.engine.bus_bytes == 4


def test_a_board_takes_the_place_of_lanes_and_memory() -> None:
    digits = recipe.on_board(recipe.load(ROOT / "recipes" / "digits.toml"), "zynq-7020")
    assert digits.name == "digits_zynq_7020"
    assert digits.board is not None
    assert not {"filter_lanes", "pixel_lanes", "bus_bytes"} & digits.engine.model_fields_set
    assert digits.engine.outstanding == 4
    assert digits.layers is not None
    assert digits.layers["conv1"].lanes is None
    assert digits.layers["conv2"].keep == 0.5
    assert digits.memory == recipe.MemorySection()


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    for name in ("net.onnx", "x.npz"):
        (tmp_path / name).touch()
    net = load(tmp_path, 'name = "net"\n[onnx]\nfile = "net.onnx"\ncalibration = "x.npz"\n')
    assert net.onnx is not None
    assert net.onnx.file == tmp_path / "net.onnx"


MISTAKES = {
    "two targets": (
        MINIMAL + '[board]\nname = "kv260"\nframes_per_second = 1\nlatency_ms = 1\n',
        "[board]: frames_per_second and latency_ms are given; accepted: one of them, or neither",
    ),
    "a speed of nothing": (
        MINIMAL + '[board]\nname = "kv260"\nframes_per_second = 0\n',
        "'board.frames_per_second' is 0; accepted: more than 0",
    ),
    "lanes with a board": (
        MINIMAL + '[engine]\npixel_lanes = 2\n[board]\nname = "kv260"\n',
        "engine.pixel_lanes is given with [board], which chooses it; accepted: one of them",
    ),
    "memory with a board": (
        MINIMAL + '[memory]\nlatency = 2\n[board]\nname = "kv260"\n',
        "memory is given with [board]",
    ),
    "unknown key": ("sed = 3\n" + MINIMAL, "unknown key 'sed'; accepted: name, seed, order, data"),
    "unknown key in a section": (
        MINIMAL + "[engine]\nlanes = 3\n",
        "unknown key 'engine.lanes'; accepted: filter_",
    ),
    "unknown key in a layer": (
        MINIMAL + "[layers.a]\nkep = 3\n",
        "unknown key 'layers.a.kep'; accepted: place, ",
    ),
    "not among the choices": (MINIMAL + "[engine]\nbus_bytes = 5\n", "'engine.bus_bytes' is 5; accepted: 4, 8, 16"),
    "wrong type": ('seed = "one"\n' + MINIMAL, "'seed' is 'one'; accepted: an integer"),
    "truth for a number": (MINIMAL + "[train]\nepochs = true\n", "'train.epochs' is True; accepted: an integer"),
    "restart after the end": (
        MINIMAL + "[train]\nepochs = 3\nrestarts = [3]\n",
        "restarts = [3] with 3 epochs; accepted: epochs from 1 to 2, in rising order",
    ),
    "too small": (MINIMAL + "[train]\nbatch = 0\n", "'train.batch' is 0; accepted: at least 1"),
    "too large": (MINIMAL + "[quantise]\nweights = 9\n", "'quantise.weights' is 9; accepted: at most 8"),
    "explored width": (MINIMAL + "[explore]\nweights = [8, 1]\n", "'explore.weights.1' is 1; accepted: at least 2"),
    "share above one": (
        MINIMAL + '[layers.a]\nweights = "lazy"\nkeep = 1.5\n',
        "'layers.a.keep' is 1.5; accepted: a share of the filters above 0 and up to 1.0, or their number",
    ),
    "lazy without keep": (MINIMAL + '[layers.a]\nweights = "lazy"\n', "keep is missing for weights 'lazy'"),
    "keep without lazy": (MINIMAL + "[layers.a]\nkeep = 3\n", "keep is given with weights 'unsaid'"),
    "pinned in the head": (
        MINIMAL + '[layers.a]\nplace = "head"\npinned = 2\n',
        "pinned is given for a layer that is not",
    ),
    "lanes not a pair": (MINIMAL + "[layers.a]\nlanes = [4]\n", "key 'layers.a.lanes.1' is missing"),
    "name with a space": (MINIMAL.replace("net", "my net"), "'name' is 'my net'; accepted: up to 40 lower-case"),
    "missing name": (MINIMAL.replace('name = "net"\n', ""), "key 'name' is missing"),
    "no source": (
        'name = "net"\n',
        "comes from nowhere; accepted: both [data] and [model], or [onnx] alone",
    ),
    "half a source": ('name = "net"\n[data]\nset = "digits"\n', "the network comes from [data]; accepted: both"),
    "two sources": (
        MINIMAL + f'[onnx]\nfile = "{ROOT / "LICENSE"}"\ncalibration = "{ROOT / "LICENSE"}"\n',
        "the network comes from [data] and [model] and [onnx]; accepted: both",
    ),
    "missing file": (
        'name = "net"\n[onnx]\nfile = "none.onnx"\ncalibration = "none.npz"\n',
        "none.onnx', which is not a file (and 1 more)",
    ),
    "section that is no table": ("train = 3\n" + MINIMAL, "'train' is 3; accepted: a table"),
    "not TOML": ("name = net", "is not TOML:"),
    "order of no file": ('order = "paths"\n' + MINIMAL, "order is 'paths' without predictor.paths; accepted: trained"),
    "no file of paths": (
        MINIMAL + '[predictor]\npaths = "none.npz"\n',
        "'predictor.paths' names '",
    ),
    "a loss of a kind without": (
        MINIMAL + '[predictor]\nkind = "paths"\nloss = "top"\n',
        "loss is 'top' and kind 'paths'; accepted: other losses than squared of linear",
    ),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"recipe '{tmp_path / 'net.toml'}'")
    assert "\n" not in str(caught.value)


def test_missing_recipe() -> None:
    with pytest.raises(UserError, match=r"recipe 'none\.toml' does not exist"):
        recipe.load(Path("none.toml"))
