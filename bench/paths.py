"""Critical paths of VGG-16 on CIFAR-10: one class against the rest, ADMM, predictors, and what the scores cost.

    PENSTOCK_DATA=DIR python bench/paths.py [--json FILE] [--details FILE] [--checkpoint FILE] [--parts one_vs_all,...]

The network has the weights of the committed checkpoint, without rounding of activations, and is not trained further
but by ADMM. The whole test set of 10,000 images judges. Of the training images (seed 1), 3,000 give the scores and the
least squares fit, and 10,000 others the thresholds: shifted and mirrored at random as in training, and with a square of
`COVER` pixels in grey, which makes them about as hard as images that the network has not seen. No test image does, but
the share that thresholds let pass (`TARGET`) was picked among `TARGETS` with a look at them, and so was `COVER`. One
thread; bfloat16 but for ADMM and the comparison with Captum.

`--json` writes the figures of one-vs-all, ADMM and the times; `--details` adds the rest, and keeps what an earlier run
with the same network found in parts that are not asked for. What the first seven layers give, and what cut networks
answer, lies in build/bench/paths: a run that was stopped goes on there. Empty it after changes of this script.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum import attr
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional

import quant.checkpoint
from bench.table import Report, parser
from quant.plain import dequantised
from sw import data, models, train
from sw.paths import admm, cut, path, routing, scores
from sw.paths.cut import Cut, OneVsAll, Responses, Size
from sw.paths.lazy import Kind, Lazy
from sw.paths.path import CriticalPath
from sw.paths.scores import Images, ScoreConfig, Scores
from sw.paths.watch import frozen, split

SEED = 1
FIT, THRESHOLDS = 300, 1000  # training images of each class
TAIL = tuple(f"conv{number}" for number in range(8, 14))
RATIO = 0.1
PUBLISHED_SIZE = 0.26  # the ratio at which a network has the published 11.4 MB
COVER = 8
TARGET = 0.9965  # of the covered training images to be accepted: about the published share of test images then are
TARGETS = (0.99, 0.995, TARGET, 0.9975)
STEPS = 5  # of iterative pruning, by contribution
WHOLE, ITERATIVE, LARGER, UNFITTED = "all filters", "iterative", "11.4 MB", "not fitted"
SOME = ("contribution", "coefficient", "random")  # scores that are tried at the published size too
OTHERS = (*(name for name in scores.STREAMED if name not in SOME), "routing", "ablation", ITERATIVE)
ADMM_RATIOS = (0.25, 0.25, 0.2, 0.1, 0.1, 0.1)  # of TAIL: 4 x 4 positions need more filters than 2 x 2
ADMM_SCORE, ADMM_EVERY = "coefficient", 2
CIFAR = admm.AdmmConfig(weights=0.3, filters=0, rounds=1, epochs=3, seed=SEED)
MNIST = admm.AdmmConfig(weights=0.88, filters=0.7, rate=1e-3, seed=SEED, layers=("dense1",))
KINDS = (Kind.LINEAR, Kind.BOOLEAN, Kind.RANDOM)
SHARES = (0.25, 0.5, 0.75)
CAPTUM = 250  # images
CHECKPOINT = Path(__file__).parents[1] / "models" / "cifar10_vgg16.npz"
PARTS = ("one_vs_all", "admm", "mnist", "predictors", "times")
JSON = ("admm", "seconds_all_scores", "speedup_over_captum")  # written by --json as they are
KEPT = Path("build/bench/paths")
Figures = dict[str, JsonValue]


@dataclass(frozen=True, eq=False)
class Task:
    """A network whose last layers are cut, and what the rest of it, up to conv7, gives for images (n, c, h, w)."""

    model: nn.Sequential
    fit: Images
    thresholds: Images
    test: Images

    @cached_property
    def head(self) -> nn.Sequential:
        """Up to conv7."""
        return nn.Sequential(*split(self.model, TAIL)[0].children())

    @cached_property
    def tail(self) -> nn.Sequential:
        """From conv8 on."""
        _, tail = split(self.model, TAIL)
        assert isinstance(tail, nn.Sequential)
        return tail

    @property
    def frame(self) -> tuple[int, int, int]:
        """Shape of what the tail reads."""
        _, channels, height, width = self.test.x.shape
        return channels, height, width

    def after_first(self, images: Images) -> Images:
        """What conv8 gives for `images`: every class's network reads some of its filters."""
        return Images(_run(cut.shared(self.tail, TAIL)[0], torch.tensor(images.x)).numpy(), images.y)

    @cached_property
    def judged(self) -> Images:
        """`after_first` of the test images."""
        return self.after_first(self.test)

    @cached_property
    def calibrating(self) -> Images:
        """`after_first` of the images for thresholds."""
        return self.after_first(self.thresholds)

    @cached_property
    def ranked(self) -> dict[str, Scores]:
        """All scores of the tail's filters, from the training images of the fit."""
        config = ScoreConfig(10, TAIL, "bfloat16", SEED)
        found = scores.all_scores(self.tail, self.fit, config)
        few = np.concatenate([np.flatnonzero(self.fit.y == cls)[:20] for cls in range(10)])
        found["routing"] = routing.routing(self.tail, Images(self.fit.x[few], self.fit.y[few], 50), config)
        fewer = np.concatenate([np.flatnonzero(self.fit.y == cls)[:2] for cls in range(10)])
        found["ablation"] = scores.ablation(self.tail, Images(self.fit.x[fewer], self.fit.y[fewer], 50), config)
        return found

    @cached_property
    def fitting(self) -> cut.Fitting:
        """What weights are fitted to."""
        return cut.fitting(self.tail, TAIL, self.fit, "bfloat16")


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """What `module` gives for frames `x`, in bfloat16."""
    with frozen(module), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat([module(some).float().contiguous() for some in train.batches(x, 250)])


# -- preparation -------------------------------------------------------------------------------------------------------
def picked(labels: data.LabelArray) -> tuple[data.LabelArray, data.LabelArray]:
    """Indices of the training images for scores and fit, and of those for thresholds."""
    mixed = np.random.default_rng(SEED).permutation(len(labels))
    of = [mixed[labels[mixed] == cls] for cls in range(10)]
    return np.concatenate([own[:FIT] for own in of]), np.concatenate([own[FIT : FIT + THRESHOLDS] for own in of])


def covered(images: Tensor) -> Tensor:
    """`images` (n, c, h, w), a square of `COVER` pixels in each set to the mean of all (DeVries and Taylor 2017)."""
    n, _, height, width = images.shape
    middle = torch.stack([torch.randint(height, (n,)), torch.randint(width, (n,))])
    rows, columns = (torch.arange(size) - at[:, None] for size, at in zip((height, width), middle, strict=True))
    inside = [(near >= -COVER // 2) & (near < COVER // 2) for near in (rows, columns)]
    return torch.where(inside[0][:, None, :, None] & inside[1][:, None, None, :], images.mean(), images)


def prepared(model: nn.Sequential, images: data.Dataset, folder: Path) -> Task:
    """The head's output is kept in `folder`, for the next run with this network."""
    first, second = picked(images.train_y)
    with train.deterministic(SEED):
        shifted = covered(train.augmented(torch.tensor(images.train_x[second]))).contiguous().numpy()
    parts = {
        "fit": (images.train_x[first], images.train_y[first]),
        "thresholds": (shifted, images.train_y[second]),
        "test": (images.test_x, images.test_y),
    }
    head = copy.deepcopy(split(model, TAIL)[0]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = {}
    for name, (x, y) in parts.items():
        file = folder / f"{path.fingerprint(model)[:16]}_{name}_{len(x)}.npy"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            out = _run(head, torch.tensor(x).contiguous(memory_format=torch.channels_last))
            np.save(file, out.half().numpy())
        found[name] = Images(np.load(file).astype(np.float32), y)
    return Task(model, found["fit"], found["thresholds"], found["test"])


# -- what scores cost --------------------------------------------------------------------------------------------------
def with_captum(model: nn.Sequential, images: Images, layers: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
    """Activation and contribution scores class by class, each attribution asked for all layers at once."""
    children = dict(model.named_children())
    relus = [children[name.replace("conv", "relu")] for name in layers]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(model(x), y, reduction="none")

    asked = {
        "activation": attr.LayerActivation(model, relus),
        "contribution": attr.LayerGradientXActivation(model, relus),
        "contribution_loss": attr.LayerGradientXActivation(loss, relus),
    }
    found: dict[str, list[np.ndarray]] = {}
    for name, attribution in asked.items():
        rows = []
        for cls in range(10):
            own, totals = images.x[images.y == cls], [0.0] * len(layers)
            for x, y in Images(own, np.full(len(own), cls), images.batch):
                if name == "activation":
                    values = [value.mean(dim=(2, 3)) for value in attribution.attribute(x)]
                else:
                    given = {"target": cls} if name == "contribution" else {"additional_forward_args": y}
                    values = [value.sum(dim=(2, 3)).abs() for value in attribution.attribute(x, **given)]
                totals = [t + v.detach().double().sum(dim=0).numpy() for t, v in zip(totals, values, strict=True)]
            rows.append([total / len(own) for total in totals])
        found[name] = [np.stack(values) for values in zip(*rows, strict=True)]
    return found


def times(model: nn.Sequential, images: data.Dataset, report: Report) -> tuple[float, float]:
    """CPU seconds for all scores of the whole test set in bfloat16, and Captum's for three of them over ours for all.

    With one thread they are the seconds of a machine that does nothing else. The comparison is in float32, on `CAPTUM`
    images.
    """
    config, few = ScoreConfig(10), Images(images.test_x[:CAPTUM], images.test_y[:CAPTUM])
    ours, theirs = [], []
    for _ in range(2):
        started = time.process_time()
        found = scores.all_scores(model, few, config)
        ours.append(time.process_time() - started)
        started = time.process_time()
        expected = with_captum(model, few, found["random"].layers)
        theirs.append(time.process_time() - started)
    for name, values in expected.items():
        same = all(np.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(found[name].values, values, strict=True))
        report.equal(f"{name}: ours = Captum's (float32, within 1e-3)", same)
    started = time.process_time()
    scores.all_scores(model, Images(images.test_x, images.test_y), ScoreConfig(10, precision="bfloat16"))
    seconds = time.process_time() - started
    report.row("all scores, all layers, 10,000 images, one thread", f"{seconds:.0f} s of CPU")
    report.row(f"Captum for three scores, over ours for nine ({CAPTUM} images)", f"{min(theirs) / min(ours):.2f} x")
    return seconds, min(theirs) / min(ours)


# -- one class against the rest ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Answers:
    """A way of cutting: what its networks say of their own class's images for thresholds, of those of the fit, and of
    the test images; and their size.
    """

    thresholds: Responses
    fit: Responses
    test: Responses
    size: Size

    def save(self, file: Path) -> None:
        """For `load`."""
        logits = {"thresholds": self.thresholds.logits, "fit": self.fit.logits, "test": self.test.logits}
        size = np.array([self.size.megabytes, self.size.macs])
        np.savez(file, size=size, **{name: value.astype(np.float32) for name, value in logits.items()})

    @staticmethod
    def load(file: Path, task: Task) -> Answers:
        """What `save` wrote."""
        labels = {"thresholds": task.thresholds.y, "fit": task.fit.y, "test": task.test.y}
        with np.load(file, allow_pickle=False) as found:
            several = [Responses(found[name].astype(np.float64), y) for name, y in labels.items()]
            megabytes, macs = found["size"].tolist()
        return Answers(several[0], several[1], several[2], Size(megabytes, int(macs)))

    def figures(self) -> Figures:
        """One against the rest by the largest logit, and by every rule at every share of `TARGETS`."""
        rules: Figures = {}
        for kind in cut.Statistic:
            for name, rule in (("each", cut.calibrated), ("mean", None)):
                by: Figures = {}
                for target in TARGETS:
                    found = (
                        rule(self.thresholds, kind, target)
                        if rule
                        else cut.balanced(self.thresholds, self.fit, kind, target)
                    )
                    seen = float(cut.one_vs_all(self.fit, found).fp.mean())
                    by[str(target)] = {**columns(cut.one_vs_all(self.test, found)), "fp_of_fit": round(seen, 5)}
                rules[f"{kind}, {name}"] = by
        largest = columns(cut.one_vs_all(self.test, cut.as_published(10)))
        return {"size_mb": self.size.megabytes, "macs": self.size.macs, "largest": largest, "rules": rules}


def columns(found: OneVsAll) -> Figures:
    """A figure for each class."""
    return {"tp": found.tp.round(5).tolist(), "fp": found.fp.round(5).tolist()}


def chosen(case: Mapping[str, Any], target: float = TARGET) -> tuple[str, Mapping[str, Any]]:
    """The statistic of fewest false positives among the images of the fit, and what it gives for the test images."""
    rules = {kind: by[str(target)] for kind, by in case["rules"].items()}
    kind = min(rules, key=lambda name: float(rules[name]["fp_of_fit"]))
    return kind, rules[kind]


def answers(task: Task, critical: CriticalPath, fitted: bool) -> Answers:
    networks = cut.cut(task.tail, critical, task.frame, fit=task.fitting if fitted else None).networks
    rest = Cut(nn.Identity(), networks)
    fit = Images(task.fitting.x.numpy(), task.fit.y)
    return Answers(
        cut.responses(rest, task.calibrating, "bfloat16", own=True),
        cut.responses(rest, fit, "bfloat16"),
        cut.responses(rest, task.judged, "bfloat16"),
        cut.size(cut.distilled(task.model, critical, 0, (3, 32, 32)), (3, 32, 32)),
    )


def whole(task: Task) -> Answers:
    """The network without a cut, which is the same for every class; its logits keep their biases."""

    def answered(images: Images) -> Responses:
        logits = _run(task.tail, torch.tensor(images.x)).double().numpy()
        return Responses(np.broadcast_to(logits, (10, *logits.shape)), images.y)

    size = cut.size(task.model, (3, 32, 32))
    return Answers(answered(task.thresholds), answered(task.fit), answered(task.test), size)


def one_vs_all(task: Task, folder: Path) -> Iterator[tuple[str, Figures]]:
    """For each way of cutting its figures, as they are found; what networks answer is kept in `folder`."""
    config = ScoreConfig(10, TAIL, "bfloat16", SEED)
    network = path.fingerprint(task.model)[:16]

    def cut_by(name: str, ratio: float, fitted: bool) -> Answers:
        if name == WHOLE:
            return whole(task)
        if name == ITERATIVE:
            *_, critical = path.iterative(task.tail, task.fit, config, "contribution", ratio, STEPS)
        else:
            critical = path.from_scores(task.ranked[name], ratio)
        return answers(task, critical, fitted)

    folder.mkdir(parents=True, exist_ok=True)
    cases = [(WHOLE, WHOLE, 1.0, False)]
    for name in (*SOME, *OTHERS):
        cases.append((f"{name}, {LARGER}", name, PUBLISHED_SIZE, True))
        cases.append((name, name, RATIO, True))
        cases.append((f"{name}, {UNFITTED}", name, RATIO, False))
    for case, name, ratio, fitted in cases:
        if ratio == PUBLISHED_SIZE and name not in SOME:
            continue
        file = folder / f"{network}_{case.replace(', ', '_').replace(' ', '_')}.npz"
        if not file.exists():
            cut_by(name, ratio, fitted).save(file)
        yield case, Answers.load(file, task).figures()


# -- ADMM --------------------------------------------------------------------------------------------------------------
def summary(before: list[float], after: list[float], gone: list[admm.Sparsity]) -> Figures:
    return {
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "weights_pruned": float(np.mean([each.weights for each in gone])),
        "filters_pruned": float(np.mean([each.filters for each in gone])),
    }


def row(report: Report, name: str, found: Figures) -> Figures:
    report.row(
        f"ADMM, {name}: accuracy before, after; weights, filters gone",
        ", ".join(f"{100 * float(str(found[key])):.2f} %" for key in found),
    )
    print(report.rows[-1], flush=True)
    return found


def on_cifar(task: Task, report: Report) -> Figures:
    """The tail starts as a fitted path; conv1 to conv8 are frozen, and count among what is left."""
    few = Images(task.fit.x[::10], task.fit.y[::10])
    ranked = scores.measure(task.tail, few, ScoreConfig(10, TAIL, "bfloat16", SEED), [ADMM_SCORE])[ADMM_SCORE]
    masks = tuple(path.best(ranked.of(name), ratio) for name, ratio in zip(TAIL, ADMM_RATIOS, strict=True))
    critical = CriticalPath(ADMM_SCORE, float(np.mean(ADMM_RATIOS)), TAIL, masks)
    start = cut.cut(task.tail, critical, task.frame, fit=task.fitting).networks
    some = slice(None, None, ADMM_EVERY)
    x = torch.cat([task.fitting.x, torch.tensor(task.calibrating.x[some])])
    y = torch.cat([task.fitting.y, torch.tensor(task.calibrating.y[some])])
    test_x, test_y = torch.tensor(task.judged.x), torch.tensor(task.judged.y)
    body = cut.shared(task.tail, TAIL)[1]
    features, test_features = _run(body[:-1], x), _run(body[:-1], test_x)
    with torch.no_grad():
        soft = body[-1](features).softmax(dim=1)  # what the whole network says
    before, after, gone = [], [], []
    for cls in range(10):
        head = admm.two_way(nn.Sequential(body[-1]), cls)
        admm.fit_head(head, features, y == cls, CIFAR)
        before.append(admm.accuracy(head, test_features, test_y == cls))
        network = start[cls]
        assert isinstance(network, nn.Sequential)
        own, own_test = network[0](x), network[0](test_x)
        following = network[1:]
        assert isinstance(following, nn.Sequential)
        rest = admm.two_way(following, cls).requires_grad_(True)
        admm.fit_head(rest, own, soft[:, cls], CIFAR)
        admm.compress(rest, own, soft[:, cls], CIFAR)
        after.append(admm.accuracy(rest, own_test, test_y == cls))
        small = list(cut.distilled(task.tail, critical, cls, task.frame).children())
        left = nn.Sequential(*task.head.children(), *small[: len(small) - len(rest)], *rest.children())
        gone.append(admm.sparsity(task.model, left, (3, 32, 32)))
        print(cls, before[-1], after[-1], gone[-1], flush=True)
    return row(report, "VGG-16 on CIFAR-10", summary(before, after, gone))


def on_mnist(report: Report) -> Figures:
    """LeNet, trained here for three epochs; its large dense layer is pruned, on all training images."""
    images = data.load("mnist", SEED)
    model = models.build("lenet", images.shape, 10, SEED)
    train.fit(model, images, train.TrainSettings(epochs=3, seed=SEED), progress=False)
    report.row("LeNet on MNIST, ten classes", f"{100 * train.accuracy(model, images.test_x, images.test_y):.2f} %")
    head, tail = split(model, ["dense1"])
    assert isinstance(tail, nn.Sequential)
    with torch.no_grad():
        x = torch.cat([head(some) for some in train.batches(torch.tensor(images.train_x), 250)])
        test_x = torch.cat([head(some) for some in train.batches(torch.tensor(images.test_x), 250)])
    y, test_y = torch.tensor(images.train_y), torch.tensor(images.test_y)
    before, after, gone = [], [], []
    for cls in range(10):
        found = admm.distil(tail, x, y, cls, MNIST)
        before.append(admm.accuracy(found.before, test_x, test_y == cls))
        after.append(admm.accuracy(found.after, test_x, test_y == cls))
        gone.append(admm.sparsity(model, nn.Sequential(*head.children(), *found.after), images.shape))
        print(cls, before[-1], after[-1], gone[-1], flush=True)
    return row(report, "LeNet on MNIST", summary(before, after, gone))


# -- predictors --------------------------------------------------------------------------------------------------------
def predictors(task: Task, report: Report) -> JsonValue:
    """What predictors of the tail's filters are worth, found on the images of the fit; nothing is trained."""
    ranked = scores.measure(task.tail, task.fit, ScoreConfig(10, TAIL, "bfloat16", SEED), ["contribution"])
    critical = path.from_scores(ranked["contribution"], RATIO)
    judge = Lazy(task.tail, TAIL, critical, task.fit.x, task.test.x, task.test.y, "bfloat16", SEED)
    found: list[JsonValue] = []
    for share in SHARES:
        for kind in KINDS:
            (worth,) = judge.worth([kind], [share])
            found.append(
                {
                    "kind": str(kind),
                    "share": share,
                    "accuracy": worth.accuracy,
                    "recall": worth.recall,
                    "computed": worth.computed,
                }
            )
            report.row(
                f"{100 * share:g} % of the filters, {kind}: recall, computed, accuracy",
                f"{100 * worth.recall:.1f} %, {100 * worth.computed:.1f} %, {100 * worth.accuracy:.2f} %",
            )
            print(report.rows[-1], flush=True)
    return {"accuracy": judge.dense(), "images": len(task.test.x), "points": found}


# -- the whole of it ---------------------------------------------------------------------------------------------------
def main() -> int:
    """Measure, print, write."""
    options = parser((__doc__ or "").splitlines()[0])
    options.add_argument("--details", type=Path, metavar="FILE", help="write what the tables of the documentation show")
    options.add_argument("--checkpoint", type=Path, metavar="FILE", default=CHECKPOINT, help="of a quantised VGG-16")
    options.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    report = Report("critical paths: VGG-16 on CIFAR-10")
    images = data.load("cifar10", SEED)
    twin = models.build("vgg16", images.shape, 10, SEED).eval()
    model = dequantised(quant.checkpoint.load(arguments.checkpoint, twin))
    network = path.fingerprint(model)
    report.row("network", network[:16])
    found = earlier(arguments.details, network)
    task = prepared(model, images, KEPT)
    for part in arguments.parts.split(","):
        if part == "one_vs_all":
            cases: Figures = {}
            for name, figures in one_vs_all(task, KEPT):
                cases[name] = figures
                report.row(f"TP / FP, {name}", said(figures))
                print(report.rows[-1], flush=True)
            found[part] = cases
        elif part == "admm":
            found[part] = on_cifar(task, report)
        elif part == "mnist":
            found[part] = on_mnist(report)
        elif part == "predictors":
            found[part] = predictors(task, report)
        elif part == "times":
            found["seconds_all_scores"], found["speedup_over_captum"] = times(model, images, report)
        else:
            options.error(f"--parts has '{part}'; accepted: some of {', '.join(PARTS)}")
        write(arguments.details, found)
    return report.finish(asked(found), arguments.json)


def write(file: Path | None, found: Figures) -> None:
    """All of it, as far as it is."""
    if file is not None:
        train.write_atomically(file, (json.dumps(found, indent=1) + "\n").encode())


def earlier(file: Path | None, network: str) -> Figures:
    """What `file` holds of this network."""
    if file is not None and file.exists():
        found: Figures = json.loads(file.read_text())
        if found.get("network") == network:
            return found
    return {"network": network, "images": 10_000}


def asked(found: Figures) -> Figures:
    """The figures of `--json`."""
    figures = {key: value for key, value in found.items() if key in JSON}
    cases = found.get("one_vs_all")
    if isinstance(cases, dict):
        kept: Figures = {}
        for name, case in cases.items():
            assert isinstance(case, dict)
            rule = chosen(case)[1]
            kept[name] = {"tp": rule["tp"], "fp": rule["fp"], "size_mb": case["size_mb"]}
        figures["one_vs_all"] = kept
    return figures


def said(case: Mapping[str, Any]) -> str:
    """A row of the table."""
    kind, rule = chosen(case)
    tp, fp = (100 * np.mean(rule[key]) for key in ("tp", "fp"))
    largest = [f"{100 * np.mean(case['largest'][key]):.1f}" for key in ("tp", "fp")]
    return f"{tp:.2f} / {fp:.2f} % by {kind}; largest logit {' / '.join(largest)} %; {case['size_mb']:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
