"""Datasets and the float networks trained on them."""

import gzip
import hashlib
import io
import math
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flow.cli import app
from sw import data, gate, models, train
from sw.gate import Gate, OnlinePredictor, gated


def test_digits_are_exact_and_split_by_class() -> None:
    digits = data.load("digits", 0)
    assert digits.shape == (1, 8, 8)
    assert len(digits.train_x) == 1437
    assert len(digits.test_x) == 360
    for images in (digits.train_x, digits.test_x):
        sixteenths = images * 16
        assert (sixteenths == np.rint(sixteenths)).all()
        assert images.min() == 0
        assert images.max() == 1
    assert set(np.bincount(digits.test_y, minlength=digits.classes)) <= {35, 36, 37}


def test_the_seed_decides_the_split() -> None:
    first, again, other = (data.load("digits", seed) for seed in (3, 3, 4))
    assert (first.test_x == again.test_x).all()
    assert (first.train_y == again.train_y).all()
    assert not (first.test_y == other.test_y).all()


def test_no_image_is_in_both_parts() -> None:
    digits = data.load("digits", 0)
    train_images = {image.tobytes() for image in digits.train_x}
    assert not any(image.tobytes() in train_images for image in digits.test_x)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown dataset 'mnits'; known: cifar10, digits, fashion-mnist, imagenet_"):
        data.load("mnits", 0)
    with pytest.raises(ValueError, match="unknown model 'vgg'; known: digits_cnn"):
        models.build("vgg", (1, 8, 8), 10, 0)


def test_training_is_repeatable_and_leaves_torch_as_it_was() -> None:
    digits = data.load("digits", 0)
    settings = train.TrainSettings(epochs=1, seed=7)
    practice = Gate(("conv2", "conv3"))
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    weights = []
    for _ in range(2):
        model = models.build("digits_cnn", digits.shape, digits.classes, 7)
        train.fit(model, digits, settings, practice, progress=False)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize(
    "practice", [None, Gate(("conv2", "conv3"), by="prediction"), Gate(("conv2", "conv3"), by="training")]
)
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    practice: Gate | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = data.load("digits", 0)
    settings = train.TrainSettings(
        epochs=3,
        seed=7,
        optimiser="sgd",
        rate=0.05,
        warmup=0.3,
        restarts=(2,),
        smoothing=0.1,
        augment=True,
        precision="bfloat16",
    )
    checkpoint = tmp_path / "training.pt"

    def trained() -> dict[str, torch.Tensor]:
        model = models.build("digits_cnn", digits.shape, digits.classes, 7)
        train.fit(model, digits, settings, practice, progress=False, checkpoint=checkpoint)
        return model.state_dict()

    whole = trained()
    checkpoint.unlink()
    batches = iter(range(40))  # 23 are an epoch: interrupted in the second
    shifted = train.augmented
    with monkeypatch.context() as patch:
        patch.setattr(train, "augmented", lambda images: (next(batches), shifted(images))[1])
        with pytest.raises(StopIteration):
            trained()
    assert torch.load(checkpoint, weights_only=True)["epochs"] == 1
    resumed = trained()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    other = train.TrainSettings(epochs=4, seed=7)
    with pytest.raises(ValueError, match="checkpoint of another training; remove it to start anew"):
        train.fit(models.build("digits_cnn", digits.shape, 10, 7), digits, other, progress=False, checkpoint=checkpoint)


def test_the_rate_rises_and_falls_and_does_so_again_to_half_the_peak() -> None:
    settings = train.TrainSettings(epochs=4, seed=1, optimiser="sgd", rate=0.8, warmup=0.5, restarts=(2,))
    model = torch.nn.Linear(1, 1)
    (optimiser,) = settings.optimisers_for(model)
    schedule, rates = settings.schedule(optimiser, steps=4), []
    for _ in range(16):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    cosine = [0.4 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    first = [0.2, 0.35, 0.5, 0.65, *cosine]  # four steps from 1/4 of the peak towards it, four from the peak to zero
    assert rates == pytest.approx([*first, *(rate / 2 for rate in first)])


@pytest.mark.parametrize("restarts", [(0,), (4,), (2, 1), (2, 2)])
def test_restarts_are_epochs_in_order(restarts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="restarts must be epochs within the training, in rising order"):
        train.TrainSettings(epochs=4, seed=1, restarts=restarts)


def test_proportions_meet_the_shares_and_keep_their_mean() -> None:
    shares = {"a": 0.5, "b": 0.125, "c": 1.0}
    exponents = gate.proportions(shares)
    mean = (0.5 * 0.125) ** (1 / 3)
    assert {name: mean**exponent for name, exponent in exponents.items()} == pytest.approx(shares)
    assert np.prod([0.3**exponent for exponent in exponents.values()]) == pytest.approx(0.3**3)
    assert gate.proportions({"a": 0.3, "b": 0.3}) == {"a": 1.0, "b": 1.0}
    assert gate.proportions({}) == {}


@pytest.mark.parametrize("by", ["strength", "prediction"])
def test_a_gate_takes_powers_of_the_share(by: Literal["strength", "prediction"]) -> None:
    model = models.build("digits_cnn", (1, 8, 8), 10, 0)
    images = torch.rand(4, 1, 8, 8)
    practice = Gate(("conv1", "conv2"), least=0.25, by=by, exponents=(0.0, 1e9))
    with gated(model, practice):
        model.train()
        torch.manual_seed(2)
        first = model.get_submodule("conv1")(images)
        second = model.get_submodule("conv2")(first.relu())
    assert ((first != 0).flatten(2).any(dim=2).sum(dim=1) == 16).all()
    assert ((second != 0).flatten(2).any(dim=2).sum(dim=1) == 1).all()


def test_a_teacher_is_imitated_and_left_alone() -> None:
    """With labels that say nothing, the network learns what the teacher knows."""
    digits = data.load("digits", 0)
    tutor = models.build("digits_cnn", digits.shape, digits.classes, 1)
    train.fit(tutor, digits, train.TrainSettings(epochs=8, seed=1), progress=False)
    before = {name: value.clone() for name, value in tutor.state_dict().items()}
    blind = replace(digits, train_y=np.zeros_like(digits.train_y))
    pupil = models.build("digits_cnn", digits.shape, digits.classes, 2)
    settings = train.TrainSettings(epochs=8, seed=2, distil=1.0)
    train.fit(pupil, blind, settings, progress=False, teacher=tutor)
    assert train.accuracy(pupil, digits.test_x, digits.test_y) > 0.9
    assert all(torch.equal(before[name], value) for name, value in tutor.state_dict().items())


def test_an_online_predictor_finds_the_map_behind_its_batches() -> None:
    torch.manual_seed(1)
    weights, bias = torch.randn(5, 7).double(), torch.randn(7).double()
    predictor = OnlinePredictor(every=4, ridge=1e-12)
    for batch in range(8):
        assert (predictor.scores(torch.ones(1, 5).double()) is None) == (batch < 4)
        strengths = torch.rand(32, 5).double() * 9
        predictor.observe(strengths, strengths @ weights + bias)
    found = predictor.scores(strengths)
    assert found is not None
    torch.testing.assert_close(found, strengths @ weights + bias)
    dead = OnlinePredictor(every=1)
    dead.observe(torch.zeros(3, 5).double(), torch.ones(3, 7).double())
    torch.testing.assert_close(dead.scores(torch.zeros(2, 5).double()), torch.ones(2, 7).double())


def test_a_predicted_gate_keeps_one_share_in_all_layers() -> None:
    torch.manual_seed(2)
    model = models.build("digits_cnn", (1, 8, 8), 10, 0).train()
    seen: dict[str, list[int]] = {"conv2": [], "conv3": []}
    with gated(model, Gate(("conv2", "conv3"), least=0.25, by="prediction")):
        for name, counts in seen.items():
            model.get_submodule(name).register_forward_hook(
                lambda _, __, output, counts=counts: counts.append(int((output[0].flatten(1) != 0).any(1).sum()))
            )
        for _ in range(40):
            model(torch.rand(16, 1, 8, 8))
    shares = np.array(seen["conv2"]) / 32
    assert (np.abs(np.array(seen["conv3"]) / 64 - shares) <= 1 / 32).all()
    assert 0.24 <= shares.min() < 0.35
    assert 0.9 < shares.max() <= 1


@pytest.mark.parametrize("by", ["strength", "prediction"])
def test_a_dense_layer_is_gated_by_the_channels_of_the_map_before_it(
    by: Literal["strength", "prediction"],
) -> None:
    torch.manual_seed(3)
    model = models.build("lenet", (1, 28, 28), 10, 0).train()
    kept = []
    with gated(model, Gate(("dense1",), least=0.1, by=by)) as predictors:
        model.get_submodule("dense1").register_forward_hook(
            lambda _, __, output: kept.append((output != 0).sum(1).tolist())
        )
        for _ in range(20):
            model(torch.rand(2, 1, 28, 28))
    assert all(first == second for first, second in kept)
    assert 50 <= min(kept)[0] < 150
    assert max(kept)[0] > 350
    if by == "prediction":
        weights = predictors["dense1"].weights
        assert weights is not None
        assert weights.shape == (1 + 50, 500)  # 800 features are 16 pixels of 50 channels


def test_a_trained_predictor_starts_from_regression_and_learns_what_helps() -> None:
    torch.manual_seed(4)
    strengths = torch.rand(4000, 5).double() * torch.arange(1, 6) + 3
    online = OnlinePredictor(every=1, ridge=0.0, memory=1.0)
    online.observe(strengths, strengths @ torch.randn(5, 8).double() + torch.randn(8).double() * 9)
    trained = gate.TrainedPredictor(5, 8)
    trained.start(online)
    fitted = online.scores(strengths)
    assert fitted is not None
    torch.testing.assert_close(trained(strengths), fitted / fitted.std(correction=0))
    mask = trained.chosen(strengths, 3)
    assert (mask.sum(1) == 3).all()
    assert torch.equal(mask.detach().topk(3, dim=1).indices.sort().values, fitted.topk(3, dim=1).indices.sort().values)
    optimiser = torch.optim.Adam(trained.parameters(), 0.05)
    for _ in range(200):  # filter 0 is worth most in half of the frames, filter 7 in the others
        high = strengths[:, 4] > strengths[:, 4].median()
        gain = torch.stack([high, ~high], dim=1).double()
        loss = -(trained.chosen(strengths, 1)[:, [0, 7]] * gain).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    best = trained(strengths).argmax(dim=1)
    assert ((best == 0) == high).double().mean() > 0.9
    assert ((best == 7) == ~high).double().mean() > 0.9
    assert not trained.chosen(strengths, 8).requires_grad  # with all filters there is nothing to learn


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    image = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6)
    torch.manual_seed(0)
    found = {tuple(each.flatten().tolist()) for each in train.augmented(image.repeat(4000, 1, 1, 1))}
    padded = torch.nn.functional.pad(image, [4] * 4)[0, 0]
    windows = [padded[y : y + 6, x : x + 6] for y in range(9) for x in range(9)]
    assert found == {tuple(each.flatten().tolist()) for window in windows for each in (window, window.flip(1))}


def test_a_gate_keeps_the_strongest_filters_in_training_only() -> None:
    model = models.build("digits_cnn", (1, 8, 8), 10, 0)
    images = torch.rand(4, 1, 8, 8)
    conv1 = model.get_submodule("conv1")
    plain = conv1(images)
    with gated(model, Gate(("conv1",), least=0.25)):
        model.eval()
        assert torch.equal(conv1(images), plain)
        model.train()
        torch.manual_seed(2)
        output = conv1(images)
    left = (output != 0).flatten(2).any(dim=2)
    kept = int(left[0].sum())
    assert 4 <= kept < 16
    assert (left.sum(dim=1) == kept).all()
    assert torch.equal(output[left], plain[left])
    strengths = plain.relu().sum(dim=(2, 3))
    for frame in range(4):
        assert strengths[frame][left[frame]].min() >= strengths[frame][~left[frame]].max()
    assert torch.equal(conv1(images), plain)
    with (
        pytest.raises(ValueError, match="no layer 'conv9'; layers: conv1, relu1"),
        gated(model, Gate(("conv9",))),
    ):
        pass


def test_weights_survive_their_file_and_bad_files_are_named(tmp_path: Path) -> None:
    model = models.build("digits_cnn", (1, 8, 8), 10, 0)
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    train.save_state(first, model.state_dict())
    train.save_state(second, model.state_dict())
    assert first.read_bytes() == second.read_bytes()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in train.load_state(first).items())
    for content in (b"", b"no weights", first.read_bytes()[:1000]):
        second.write_bytes(content)
        with pytest.raises(ValueError, match=r"second\.pt' is not a file of weights"):
            train.load_state(second)
    torch.save([1, 2], second)
    with pytest.raises(ValueError, match=r"second\.pt' is not a file of weights"):
        train.load_state(second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.pt", "second.pt"]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="epochs"):
        train.TrainSettings(epochs=0, seed=0)
    with pytest.raises(ValueError, match="least share 0"):
        Gate((), least=0)


def _idx(path: Path, values: np.ndarray, magic: int = 0x800) -> None:
    header = np.array([magic + values.ndim, *values.shape], ">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), 1))


def test_files_of_datasets_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(data.DATA_FOLDER, raising=False)
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    with pytest.raises(data.DataError, match=r"cache/mnist/.* does not exist; PENSTOCK_DATA names the folder"):
        data.load("mnist", 0)
    monkeypatch.setenv(data.DATA_FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(data.DataError, match="nowhere', which is no folder"):
        data.load("cifar10", 0)
    monkeypatch.setenv(data.DATA_FOLDER, str(tmp_path))
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte\.gz' does not exist"):
        data.load("mnist", 0)
    images = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    _idx(images, np.zeros((3, 28, 28)))
    with pytest.raises(
        data.DataError, match=r"starts with \[2051, 3, 28, 28\]; accepted: the IDX header \[2051, 60000"
    ):
        data.load("mnist", 0)
    images.write_bytes(b"no gzip")
    with pytest.raises(data.DataError, match=r"images-idx3-ubyte\.gz' is not a gzip file"):
        data.load("mnist", 0)
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    batch.parent.mkdir()
    batch.write_bytes(b"short")
    with pytest.raises(data.DataError, match="has 5 bytes; accepted: 10000 records of 3073"):
        data.load("cifar10", 0)
    batch.write_bytes(b"\x0a" * 30_730_000)
    with pytest.raises(data.DataError, match="has class 10; accepted: 0 to 9"):
        data.load("cifar10", 0)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine offers as every dataset's address; data go to another."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv(data.DATA_FOLDER, str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        sources = {name: replace(source, address=address) for name, source in data.SOURCES.items()}
        monkeypatch.setattr(data, "SOURCES", sources)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def _publish(folder: Path, name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for file, content in files.items():
        (folder / file).write_bytes(content)
    sums = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    monkeypatch.setattr(data, "SOURCES", {**data.SOURCES, name: replace(data.SOURCES[name], files=sums)})


def test_downloads_are_whole_or_not_there(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = data.SOURCES["mnist"].files.keys() & {"train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}
    _publish(published, "mnist", {first: b"one", second: b"two"}, monkeypatch)
    assert data.download("mnist", progress=False) == tmp_path / "mnist"
    assert (tmp_path / "mnist" / first).read_bytes() == b"one"
    (tmp_path / "mnist" / second).unlink()
    (published / first).unlink()  # what is there already is not asked for again
    (published / second).write_bytes(b"damaged")
    with pytest.raises(data.DataError, match=rf"'http.*{second}' did not come: .*hash"):
        data.download("mnist", progress=False)
    assert [file.name for file in (tmp_path / "mnist").iterdir()] == [first]
    (published / second).unlink()
    with pytest.raises(data.DataError, match=rf"'http.*{second}' did not come: .*404"):
        data.download("mnist", progress=False)


def test_only_the_batches_of_an_archive_are_unpacked(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in (*(f"cifar/{batch}" for batch in data.CIFAR10_BATCHES), "../outside.bin", "cifar/readme.html"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    _publish(published, "cifar10", {"cifar-10-binary.tar.gz": packed.getvalue()}, monkeypatch)
    folder = data.download("cifar10", progress=False)
    assert sorted(file.name for file in folder.iterdir()) == sorted(data.CIFAR10_BATCHES)
    assert (folder / "test_batch.bin").read_bytes() == b"cifar/test_batch.bin"
    assert not (tmp_path / "outside.bin").exists()
    (published / "cifar-10-binary.tar.gz").unlink()
    data.download("cifar10", progress=False)  # nothing is missing, so nothing is asked for


def test_the_command_downloads_too(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _publish(published, "fashion-mnist", {"train-labels-idx1-ubyte.gz": b"labels"}, monkeypatch)
    result = CliRunner().invoke(app, ["data", "fashion-mnist"])
    assert result.exit_code == 0
    assert "'fashion-mnist' is in " in result.stdout
    result = CliRunner().invoke(app, ["data", "digits"])
    assert "dataset 'digits' is not downloaded; accepted: cifar10, fashion-mnist, mnist" in str(result.exception)


def test_without_its_extra_a_download_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(data.DataError, match=r"extra `download`: pip install penstock\[download\]"):
        data.download("mnist")


@pytest.mark.parametrize(
    ("name", "shape", "numbers"), [("mnist", (1, 28, 28), (60_000, 10_000)), ("cifar10", (3, 32, 32), (50_000, 10_000))]
)
def test_published_sets_are_whole(name: str, shape: tuple[int, int, int], numbers: tuple[int, int]) -> None:
    try:
        found = data.load(name, 0)
    except data.DataError as error:
        pytest.skip(f"{name} is not there: {error}")
    assert found.shape == shape
    assert (len(found.train_x), len(found.test_x)) == numbers
    assert (found.train_x.min(), found.train_x.max()) == (0, 255 / 256)
    classes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009] if name == "mnist" else [1000] * 10
    assert np.bincount(found.test_y).tolist() == classes


def test_networks_have_the_published_sizes() -> None:
    def parameters(name: str, shape: tuple[int, int, int]) -> int:
        return sum(value.numel() for value in models.build(name, shape, 10, 0).parameters())

    assert parameters("lenet", (1, 28, 28)) == 431_080
    vgg = models.build("vgg16_quarter", (3, 32, 32), 10, 0)
    assert [layer.out_channels for layer in vgg if isinstance(layer, torch.nn.Conv2d)][:3] == [16, 16, 32]
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in vgg) == 13
    assert vgg(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert parameters("vgg16", (3, 32, 32)) == 14_724_042
