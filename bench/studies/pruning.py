"""What pruning does to accuracy: LeNet on MNIST in all forms, and APoZ trimming on CIFAR-10.

    PENSTOCK_DATA=folder python -m bench.studies.pruning [--results docs/results/pruning.json] [--models build/pruning]

Writes every part into the results as soon as it is measured, and leaves out parts that are there: delete a part (or
the file) to measure it again. Networks are kept in --models; they are not part of the repository. One thread, float32,
channels last; the seed is 1 throughout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import nn

from bench.studies import pruned_rtl
from sw import data, models, train
from sw.data import Dataset
from sw.pruning import forms, masks, schedules, scores
from sw.pruning.masks import Unit

SEED = 1
BATCH = 128
BASE_EPOCHS = 4
RATIOS = (0.25, 0.5, 0.8, 0.9)
DIRECT_RATIOS = (0.5, 0.8, 0.9)
SENSITIVITY_RATIOS = (0.5, 0.8, 0.9, 0.95)
OBSERVED = 512  # training frames that OBS and activation criteria see
CIFAR_EPOCHS = 5
APOZ_ROUNDS = 4
VGG_EPOCHS = 4
APOZ_SHARE = 0.25  # of each round's filters

Part = Callable[["Study"], JsonValue]


class Study:
    """Data, networks on disk, and training as all parts use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: dict[str, Dataset] = {}

    def data(self, name: str) -> Dataset:
        """A dataset, read once."""
        if name not in self.loaded:
            self.loaded[name] = data.load(name, SEED)
        return self.loaded[name]

    def train(self, model: nn.Sequential, name: str, epochs: int, rate: float) -> None:
        """Train in place; removed weights are held by the caller."""
        settings = train.TrainSettings(epochs=epochs, seed=SEED, batch=BATCH, rate=rate)
        train.fit(model.to(memory_format=torch.channels_last), self.data(name), settings, progress=False)

    def accuracy(self, model: nn.Sequential, name: str) -> float:
        """Share of all test images, in float32."""
        return train.accuracy(model, self.data(name).test_x, self.data(name).test_y)

    def base(self, name: str, epochs: int, network: str = "lenet") -> nn.Sequential:
        """The dense network for a dataset."""
        model = models.build(network, self.data(name).shape, 10, SEED)
        path = self.folder / f"{network}_{name}.pt"
        if path.exists():
            model.load_state_dict(train.load_state(path))
        else:
            self.train(model, name, epochs, 2e-3)
            train.save_state(path, {key: value.contiguous() for key, value in model.state_dict().items()})
        return model.eval().to(memory_format=torch.channels_last)

    def keep(self, label: str, model: nn.Sequential, found: masks.Masks) -> None:
        """Store a pruned network with its masks."""
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        train.save_state(
            self.folder / f"{label}.pt", state | {f"mask/{name}": mask.contiguous() for name, mask in found.items()}
        )

    def frames(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The first training frames and their classes."""
        return torch.tensor(self.data(name).train_x[:OBSERVED]), torch.tensor(self.data(name).train_y[:OBSERVED])


def row(study: Study, step: schedules.Step, shape: tuple[int, int, int], before: float | None) -> dict[str, JsonValue]:
    """A step's figures: accuracies, and costs of the network with what is useless removed."""
    small = masks.shrink(step.model, step.masks, shape)
    return {
        "ratio": step.ratio,
        "before": before,
        "accuracy": study.accuracy(step.model, "mnist"),
        **asdict(forms.cost(forms.forms(small.model, shape), small.masks)),
    }


def dense(study: Study) -> JsonValue:
    """The unpruned network."""
    started = time.monotonic()
    model = study.base("mnist", BASE_EPOCHS)
    shape = study.data("mnist").shape
    found = asdict(forms.cost(forms.forms(model, shape), {}))
    return {"accuracy": study.accuracy(model, "mnist"), "seconds": time.monotonic() - started, **found}


def choosers(shape: tuple[int, int, int]) -> dict[str, schedules.Chooser]:
    """Weight pruning and matrix form, both by magnitude."""
    return {
        "weight": schedules.units(scores.by_magnitude(shape), Unit.WEIGHT),
        "matrix": schedules.matrix(scores.by_magnitude(shape, 2)),
    }


def step_by_step(form: str) -> Part:
    """Accuracy against ratio, with one epoch of training after each step."""

    def part(study: Study) -> JsonValue:
        model, shape = study.base("mnist", BASE_EPOCHS), study.data("mnist").shape
        before: list[float] = []

        def trainer(network: nn.Sequential) -> None:
            before.append(study.accuracy(network, "mnist"))
            study.train(network, "mnist", 1, 1e-3)

        rows: list[JsonValue] = []
        for step in schedules.iterative(model, choosers(shape)[form], RATIOS, shape, trainer):
            rows.append(row(study, step, shape, before[-1]))
            study.keep(f"lenet_mnist_{form}_{round(100 * step.ratio)}", step.model, step.masks)
            print(form, "iterative", rows[-1], flush=True)
        return rows

    return part


def at_once(form: str) -> Part:
    """Accuracy against ratio, with two epochs of training of the smaller network after."""

    def part(study: Study) -> JsonValue:
        model, shape = study.base("mnist", BASE_EPOCHS), study.data("mnist").shape
        rows: list[JsonValue] = []
        for ratio in DIRECT_RATIOS:
            step = schedules.direct(model, choosers(shape)[form], ratio, shape)
            small = masks.shrink(step.model, step.masks, shape)
            before = study.accuracy(small.model, "mnist")
            with masks.held(small.model, small.masks):
                study.train(small.model, "mnist", 2, 1e-3)
            rows.append(row(study, schedules.Step(ratio, small.model, small.masks), shape, before))
            print(form, "direct", rows[-1], flush=True)
        return rows

    return part


def untrained(study: Study) -> JsonValue:
    """Without any training after: weights and matrix form by magnitude, and matrix form with columns by OBS."""
    model, shape = study.base("mnist", BASE_EPOCHS), study.data("mnist").shape
    x, _ = study.frames("mnist")
    rows: list[JsonValue] = []
    for ratio in RATIOS:
        plain = {form: schedules.direct(model, chooser, ratio, shape) for form, chooser in choosers(shape).items()}
        steps = plain | {"matrix_obs": schedules.reconstructed(model, plain["matrix"].masks, x)}
        rows.append({"ratio": ratio} | {name: study.accuracy(step.model, "mnist") for name, step in steps.items()})
        print("untrained", rows[-1], flush=True)
    return rows


def obs_at_once(study: Study) -> JsonValue:
    """Matrix form with columns chosen and updated by OBS, then two epochs of training of the smaller network."""
    model, shape = study.base("mnist", BASE_EPOCHS), study.data("mnist").shape
    x, _ = study.frames("mnist")
    rows: list[JsonValue] = []
    for ratio in DIRECT_RATIOS:
        plain = schedules.direct(model, choosers(shape)["matrix"], ratio, shape)
        step = schedules.reconstructed(model, plain.masks, x)
        small = masks.shrink(step.model, step.masks, shape)
        before = study.accuracy(small.model, "mnist")
        with masks.held(small.model, small.masks):
            study.train(small.model, "mnist", 2, 1e-3)
        rows.append(row(study, schedules.Step(ratio, small.model, small.masks), shape, before))
        study.keep(f"lenet_mnist_obs_{round(100 * ratio)}", small.model, small.masks)
        print("matrix OBS, direct", rows[-1], flush=True)
    return rows


def sensitivity(study: Study) -> JsonValue:
    """Accuracy when one layer alone is pruned, without training."""
    model, shape = study.base("mnist", BASE_EPOCHS), study.data("mnist").shape
    by_unit = {
        unit: schedules.units(scores.by_magnitude(shape), unit) for unit in (Unit.WEIGHT, Unit.COLUMN, Unit.FILTER)
    }
    found: dict[str, JsonValue] = {"ratios": list(SENSITIVITY_RATIOS)}
    for unit, chooser in by_unit.items():
        result = schedules.sensitivity(
            model, chooser, SENSITIVITY_RATIOS, shape, lambda trial: study.accuracy(trial, "mnist")
        )
        found[str(unit)] = {name: list(values) for name, values in result.items()}
    return found


def criteria(study: Study) -> JsonValue:
    """Filters removed at half of the multiplications by every criterion, without training."""
    return by_every_criterion(study, study.base("mnist", BASE_EPOCHS), "mnist", 0.5)


def vgg_criteria(study: Study) -> JsonValue:
    """The same for VGG-16 at a quarter of its width on CIFAR-10, at 0.8 (at half, all are close to chance)."""
    model = study.base("cifar10", VGG_EPOCHS, "vgg16_quarter")
    dense: dict[str, JsonValue] = {"accuracy": study.accuracy(model, "cifar10")}
    return {"dense": dense} | by_every_criterion(study, model, "cifar10", 0.8)


def by_every_criterion(study: Study, model: nn.Sequential, name: str, target: float) -> dict[str, JsonValue]:
    """By criterion, multiplications (up to `target` of all) and accuracy right after removal."""
    shape = study.data(name).shape
    x, y = study.frames(name)
    few = x[:128]
    scorers = {
        "L1": scores.by_magnitude(shape),
        "L2": scores.by_magnitude(shape, 2),
        "OBD": scores.by_obd(few, y[:128]),
        "OBS, layer-wise": scores.by_obs(x),
        "Taylor": scores.by_taylor(x, y),
        "APoZ": scores.by_apoz(x),
        "mean activation": scores.by_activation(x),
        "output variance": scores.by_variance(x),
        "inbound": scores.by_inbound(few[:32]),
        **{f"random {seed}": scores.by_chance(shape, 10 * seed) for seed in (1, 2, 3)},
    }
    found: dict[str, JsonValue] = {}
    for criterion, scorer in scorers.items():
        chosen = schedules.within(forms.forms(model, shape), scorer(model), target)
        small = masks.shrink(model, chosen, shape).model
        macs = forms.cost(forms.forms(small, shape), {}).macs
        found[criterion] = {"macs": macs, "accuracy": study.accuracy(small, name)}
        print(name, criterion, found[criterion], flush=True)
    return found


def rtl(study: Study) -> JsonValue:
    """LeNet in the RTL, pruned at once with rows in multiples of the engine's lanes and not trained after."""
    model, mnist = study.base("mnist", BASE_EPOCHS), study.data("mnist")
    chooser = schedules.matrix(scores.by_magnitude(mnist.shape, 2), multiple=pruned_rtl.LANES[0])
    networks = {}
    for ratio in (0.0, 0.25, 0.5, 0.8):
        step = schedules.direct(model, chooser, ratio, mnist.shape)
        networks[ratio] = masks.shrink(step.model, step.masks, mnist.shape)
    return list(pruned_rtl.measure("mnist", networks, mnist, study.folder))


def apoz(study: Study) -> JsonValue:
    """Network trimming (Hu et al. 2016): in rounds, the filters that are most often zero go, then two epochs follow."""
    model, shape = study.base("cifar10", CIFAR_EPOCHS), study.data("cifar10").shape
    full = forms.cost(forms.forms(model, shape), {})
    rows: list[JsonValue] = [{"compression": 1.0, "before": None, "after": study.accuracy(model, "cifar10")}]
    x, _ = study.frames("cifar10")
    for _ in range(APOZ_ROUNDS):
        chooser = schedules.units(scores.by_apoz(x), Unit.FILTER, skip=("conv1",))
        step = schedules.direct(model, chooser, APOZ_SHARE, shape)
        small = masks.shrink(step.model, step.masks, shape)
        before = study.accuracy(small.model, "cifar10")
        study.train(small.model, "cifar10", 2, 1e-3)
        model = small.model
        spent = forms.cost(forms.forms(model, shape), {})
        rows.append(
            {
                "compression": full.parameters / spent.parameters,
                "parameters": spent.parameters,
                "macs": spent.macs,
                "before": before,
                "after": study.accuracy(model, "cifar10"),
            }
        )
        print("apoz", rows[-1], flush=True)
    return rows


PARTS: dict[str, Part] = {
    "dense": dense,
    "matrix_iterative": step_by_step("matrix"),
    "matrix_direct": at_once("matrix"),
    "matrix_obs": obs_at_once,
    "untrained": untrained,
    "sensitivity": sensitivity,
    "criteria": criteria,
    "weight_iterative": step_by_step("weight"),
    "weight_direct": at_once("weight"),
    "rtl_mnist": rtl,
    "apoz": apoz,
    "vgg_criteria": vgg_criteria,
}


def main() -> None:
    """Measure what the results lack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/pruning.json"))
    parser.add_argument("--models", type=Path, default=Path("build/pruning"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.models)
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    for name, part in PARTS.items():
        if name not in results:
            results[name] = part(study)
            train.write_atomically(arguments.results, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
