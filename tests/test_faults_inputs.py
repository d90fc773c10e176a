"""Recipes, options and ONNX files that are nonsense, or made to do harm: one sentence, or a right result."""

from __future__ import annotations

import io
import string
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from hypothesis import HealthCheck, given, settings
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper
from torch import nn

from flow import explore, recipe
from flow.errors import UserError
from flow.recipe import Recipe
from flow.steps import check
from hw.design import DesignError
from hw.options import LAYER_KNOBS, MODEL_KNOBS, check_names, engine_options, layer_options
from tests.brevitas_nets import Net, conv, identity, linear, relu
from tests.faults import TAKEN, broken, outcome

SHAPE = (2, 6, 6)
Record = Callable[[str, object], None]

HEAD = 'name = "my"\n[data]\nset = "digits"\n[model]\nname = "digits_cnn"\n'


# -- recipes ----------------------------------------------------------------------------------------------------------
def tried(path: Path, content: str | bytes) -> str:
    """How a recipe ends: refused, or fit to be built."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return outcome(lambda: check(recipe.load(path)), "my")


RECIPES = {
    "empty": "",
    "no TOML": "name my\n",
    "a key twice": 'name = "my"\nname = "my"\n',
    "a table for a name": "[name]\n",
    "a list for a table": HEAD + "[[engine]]\nfilter_lanes = 4\n",
    "an unknown section": HEAD + "[speed]\n",
    "an unknown key": HEAD + "[engine]\nspeed = 1\n",
    "a layer that there is not": HEAD + '[layers.conv99]\nweights = "dense"\n',
    "a number of 5000 digits": f"seed = {'9' * 5000}\n" + HEAD,
    "a number of 40 digits": f"seed = {'9' * 40}\n" + HEAD,
    "deep nesting": HEAD + f"x = {'[' * 100_000}\n",
    "lanes without bound": HEAD + "[engine]\nfilter_lanes = 100000000000\n",
    "latency without bound": HEAD + "[memory]\nlatency = 100000000000000000000\n",
    "frequency inf": HEAD + "[synthesis]\nfrequency = inf\n",
    "rate nan": HEAD + "[train]\nrate = nan\n",
    "keep nan": HEAD + '[layers.conv2]\nweights = "lazy"\nkeep = nan\n',
    "keep true": HEAD + '[layers.conv2]\nweights = "lazy"\nkeep = true\n',
    "an integer as text": HEAD + '[engine]\nfilter_lanes = "4"\n',
    "a name that leaves the folder": HEAD.replace('"my"', '"../my"'),
    "a dataset that leaves the folder": HEAD.replace('"digits"', '"../digits"'),
    "a checkpoint with a null byte": HEAD + 'checkpoint = "a\\u0000b"\n',
    "a checkpoint that is a folder": HEAD + 'checkpoint = "."\n',
    "a checkpoint that is the recipe": HEAD + 'checkpoint = "my.toml"\n',
    "an ONNX file with a null byte": 'name = "my"\n[onnx]\nfile = "a\\u0000b"\ncalibration = "x"\n',
    "an ONNX file that is the recipe": 'name = "my"\n[onnx]\nfile = "my.toml"\ncalibration = "my.toml"\n',
}
RIGHT = {"a checkpoint that is the recipe"}  # it is looked at when it is read, in the first step


@pytest.mark.parametrize("fault", RECIPES)
def test_a_recipe_that_is_wrong_is_refused(fault: str, tmp_path: Path, record_property: Record) -> None:
    said = tried(tmp_path / "my.toml", RECIPES[fault])
    assert (said == TAKEN) == (fault in RIGHT), said
    record_property(fault, said)


def test_a_recipe_whose_bytes_are_broken_is_refused(tmp_path: Path, record_property: Record) -> None:
    for fault, bad in broken((HEAD + "[engine]\nfilter_lanes = 4\n").encode(), 1):
        record_property(fault, tried(tmp_path / "my.toml", bad))


SECTIONS = {name: getattr(field.annotation, "model_fields", {}) for name, field in Recipe.model_fields.items()}
KEYS = sorted((section, key) for section, keys in SECTIONS.items() for key in keys)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1 << 31, 1 << 63, 10**30, 0.0, 1.0, 1e308]))
VALUES = st.one_of(NUMBERS, st.booleans(), st.text(string.printable, max_size=12), st.lists(NUMBERS, max_size=3))


def as_toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(x):04x}" for x in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return str(value)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(where=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key_is_taken_or_refused(tmp_path: Path, where: tuple[str, str], value: object) -> None:
    section, key = where
    tables: dict[str, dict[str, str]] = {"data": {"set": '"digits"'}, "model": {"name": '"digits_cnn"'}}
    tables.setdefault(section, {})[key] = as_toml(value)
    text = "".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for name, keys in tables.items())
    tried(tmp_path / "my.toml", f'name = "my"\n{text}')


# -- options of hls4ml ------------------------------------------------------------------------------------------------
NONSENSE = st.one_of(
    VALUES,
    st.none(),
    st.binary(max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(
        [object(), np.float32("nan"), np.array([1, 2]), np.array([0.5]), 1 << 70, [1 << 70], Path("nowhere")]
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(knob=st.sampled_from(sorted(LAYER_KNOBS)), value=NONSENSE)
def test_any_value_of_a_layers_option_is_taken_or_refused(knob: str, value: object) -> None:
    try:
        layer_options("conv", {LAYER_KNOBS[knob].attribute: value})
    except DesignError as error:
        said = str(error)
    else:
        return
    assert "layer 'conv'" in said
    assert knob in said


@settings(max_examples=300, deadline=None, derandomize=True)
@given(knob=st.sampled_from(sorted(MODEL_KNOBS)), value=NONSENSE)
def test_any_value_of_the_engines_options_is_taken_or_refused(knob: str, value: object) -> None:
    try:
        engine_options({knob: value})
    except DesignError as error:
        said = str(error)
    else:
        return
    assert "accepted: " in said or "must be" in said


@pytest.mark.parametrize("value", [None, 3, "text", [], {"conv": 3}, {"conv": None}, {"conv": ["Keep"]}], ids=repr)
def test_tables_of_options_may_be_anything(value: object) -> None:
    check_names({"Model": value, "LayerName": value}, ["conv"])


# -- ONNX -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def network() -> ModelProto:
    net = Net(
        identity(), conv(2, 4, padding=1), relu(), nn.MaxPool2d(2), nn.Flatten(), linear(4 * 3 * 3, 3), shape=SHAPE
    )
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return export_qonnx(net.module, args=torch.zeros(1, *SHAPE), dynamo=False)


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | ModelProto], str]:
    """How an ONNX file ends: refused, or converted to a design."""
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=np.zeros((4, *SHAPE), np.float32))
    chosen = recipe.build({"name": "my", "onnx": {"file": __file__, "calibration": "my.npz"}}, "test")

    def run(content: bytes | ModelProto) -> str:
        Path("my.onnx").write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        assert chosen.onnx is not None
        mine = chosen.model_copy(update={"onnx": chosen.onnx.model_copy(update={"file": Path("my.onnx")})})
        return outcome(lambda: check(mine), "")

    return run


def _weights(model: ModelProto) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)


def _external(location: str, **more: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = _weights(model)
        external_data_helper.set_external_data(tensor, location, **more)
        tensor.ClearField("raw_data")

    return change


def _quant(model: ModelProto) -> str:
    return next(node for node in model.graph.node if node.op_type == "Quant").input[1]


def _set_scale(value: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        name = _quant(model)
        held = [tensor for tensor in model.graph.initializer if tensor.name == name]
        held += [node.attribute[0].t for node in model.graph.node if name in node.output]
        held[0].CopyFrom(numpy_helper.from_array(np.array(value, np.float32), held[0].name))

    return change


def _conv(model: ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "Conv")


def _attribute(name: str, value: object) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        node = _conv(model)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def _input_shape(*shape: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        axes = model.graph.input[0].type.tensor_type.shape
        del axes.dim[:]
        for size in shape:
            axes.dim.add().dim_value = size

    return change


def _dims(*dims: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = _weights(model)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _filled(value: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = _weights(model)
        tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), value, np.float32), tensor.name))

    return change


NETWORKS: dict[str, Callable[[ModelProto], None]] = {
    "data outside the folder": _external("../secret"),
    "data at an absolute path": _external("/etc/hostname"),
    "data in a device": _external("/dev/zero", length=1 << 40),
    "data behind a link": _external("link"),
    "data that is missing": _external("nowhere"),
    "data beyond the end": _external("short", offset=1 << 40, length=1 << 40),
    "data before the start": _external("short", offset=-5, length=16),
    "data that is too short": _external("short"),
    "weights nan": _filled(float("nan")),
    "weights inf": _filled(float("inf")),
    "weights 1e38": _filled(1e38),
    "scale nan": _set_scale(float("nan")),
    "scale inf": _set_scale(float("inf")),
    "scale 0": _set_scale(0.0),
    "scale negative": _set_scale(-0.5),
    "scale of 2**-140": _set_scale(2.0**-140),
    "huge axes": _dims(1 << 31, 1 << 31, 3, 3),
    "axes whose product overflows": _dims(1 << 32, 1 << 32, 1, 1),
    "negative axes": _dims(-4, 2, 3, 3),
    "no axes": _dims(),
    "axes without values": _dims(0, 2, 3, 3),
    "an unknown type of numbers": lambda model: setattr(_weights(model), "data_type", 99),
    "text for weights": lambda model: setattr(_weights(model), "data_type", TensorProto.STRING),
    "a huge input": _input_shape(1, 2, 1 << 20, 1 << 20),
    "a negative input": _input_shape(1, 2, -6, -6),
    "an input without axes": _input_shape(),
    "an input of eight axes": _input_shape(1, 2, 6, 6, 1, 1, 1, 1),
    "strides of 0": _attribute("strides", [0, 0]),
    "strides that are huge": _attribute("strides", [1 << 40, 1 << 40]),
    "strides as text": _attribute("strides", "two"),
    "pads that are huge": _attribute("pads", [1 << 20] * 4),
    "pads that are negative": _attribute("pads", [-1] * 4),
    "one pad": _attribute("pads", [1]),
    "a kernel that is huge": _attribute("kernel_shape", [1 << 20, 1 << 20]),
    "groups that do not divide": _attribute("group", 3),
    "groups of 0": _attribute("group", 0),
    "a layer of itself": lambda model: _conv(model).input.__setitem__(0, _conv(model).output[0]),
    "a layer of nothing": lambda model: _conv(model).input.__setitem__(0, "nothing"),
    "a layer without inputs": lambda model: _conv(model).ClearField("input"),
    "a layer without outputs": lambda model: _conv(model).ClearField("output"),
    "a layer twice": lambda model: model.graph.node.add().CopyFrom(_conv(model)),
    "an unknown layer": lambda model: setattr(_conv(model), "op_type", "__import__('os').system('touch executed')"),
    "an unknown domain": lambda model: setattr(_conv(model), "domain", "os.path"),
    "no layers": lambda model: model.graph.ClearField("node"),
    "no inputs": lambda model: model.graph.ClearField("input"),
    "no outputs": lambda model: model.graph.ClearField("output"),
    "no initialisers": lambda model: model.graph.ClearField("initializer"),
    "no operator sets": lambda model: model.ClearField("opset_import"),
    "an operator set of the future": lambda model: setattr(model.opset_import[0], "version", 1 << 40),
}
TAKEN_NETWORKS = {"an operator set of the future", "no operator sets", "a kernel that is huge", "a layer twice"}
TAKEN_NETWORKS |= {"weights 1e38", "scale of 2**-140"}  # the quantiser clips the one, the other is a power of two


@pytest.mark.parametrize("fault", NETWORKS)
def test_a_network_that_is_wrong_is_refused(
    fault: str, network: ModelProto, converted: Callable[[bytes | ModelProto], str], record_property: Record
) -> None:
    """A secret beside the folder is not read, and nothing is executed."""
    model = ModelProto()
    model.CopyFrom(network)
    NETWORKS[fault](model)
    Path("../secret").write_bytes(bytes(10_000))
    Path("short").write_bytes(bytes(10))
    Path("link").symlink_to("/etc/hostname")
    said = converted(model)
    record_property(fault, said)
    assert not Path("executed").exists()
    assert said != TAKEN or fault in TAKEN_NETWORKS, said


def test_a_network_whose_bytes_are_broken_is_refused(
    network: ModelProto, converted: Callable[[bytes | ModelProto], str], record_property: Record
) -> None:
    """Or converted: protobuf has no checksum, so that other weights are other weights."""
    assert converted(network) == TAKEN
    for fault, bad in broken(network.SerializeToString(), 4):
        record_property(fault, converted(bad))


# -- databases --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////proc/none/x.db", "oracle://x", "sqlite:///{}"])
def test_a_database_that_is_none_is_refused(storage: str, tmp_path: Path, record_property: Record) -> None:
    pytest.importorskip("optuna", reason="extra 'explore' is not installed")
    file = tmp_path / "explore.db"
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="is no database that a search can use") as caught:
        explore.opened(storage.format(file), "name", 1, ("bytes",))
    record_property(storage, str(caught.value))
