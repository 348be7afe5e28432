"""Trained defences side by side: adversarial training, TRADES, Adv-BNN, distillation, random resizing, attacked in earnest.

Each defence on MNIST (an MLP and a convolutional network) and Fashion-MNIST (the MLP), clean and under FGSM, PGD on the mean
loss and on the draws' margins, APGD on the DLR, Square without gradients, and under what PGD found on the plainly trained
network. Attacks on random defences average over fresh draws at every step (expectation over transformation), and scores
are on draws that no attack has seen. What is known: distillation and random resizing fall to attacks that know them (Carlini
& Wagner 2017; Athalye et al. 2018), and training on one-step attacks resists one-step attacks (Kurakin et al. 2017).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cyclopts
import xarray as xr
from torch import nn

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import APGD, BV, FGSM, PGD, Attack, Square, Transfer
from bayesrob.inference import SDR, SGD, SVI, TRADES, AdvBNN, AdversarialTraining, DefensiveDistillation, Inference, fit_once
from bayesrob.predictive import Predictive, RandomResizePad
from shared.study import POSTERIORS, Scale, Study
from shared.tables import estimate, file_name, mcnemar, right_after

MOST = 0.85
"""Robust accuracy that an adversarially trained MNIST CNN should have at eps 0.3 (Madry et al. 2018: 0.89 to 0.93)."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One network on one data set, and the ball.

    Args:
        data: name of the data set.
        n_train: number of training points, None for all.
        net: makes the network, given an input's shape, the number of classes and a seed.
        described: the network in words.
        eps: radius of the l_inf ball, in pixels of [0, 1].
        epochs: passes over the data of every defence.
        steps: steps of the PGD that is trained on.
        num_points: number of test points attacked.
        draws: number of draws of a random defence at each step of an attack.
        queries: queries of Square.
        only: the defences that are tried; () for all.
    """

    data: str
    n_train: int | None
    net: Callable[[Any, int, int], nn.Module]
    described: str
    eps: float
    epochs: int
    steps: int
    num_points: int
    draws: int
    queries: int
    only: tuple[str, ...] = ()


def tasks(scale: Scale) -> dict[str, Task]:
    """The networks and data sets of one scale."""

    def mlp(*hidden: int) -> Any:
        return lambda shape, classes, seed: br.nets.mlp(shape.numel(), hidden, classes, seed=seed)

    def cnn(channels: int) -> Any:
        return lambda shape, classes, seed: br.nets.cnn(shape, channels, classes, activation="relu", seed=seed)

    wide, chosen = "784-256-256-10", ("plain", "FGSM", "PGD", "TRADES")
    if scale == "smoke":
        size: Any = {"epochs": 4, "steps": 3, "num_points": 20, "draws": 4, "queries": 20}
        return {"digits MLP": Task("digits", 200, mlp(16), "64-16-10", 0.1, **size)}
    if scale == "small":
        size = {"epochs": 5, "steps": 7, "num_points": 300, "draws": 20, "queries": 500}
        conv: Any = {**size, "epochs": 12, "only": chosen}
        return {
            "MNIST MLP": Task("mnist", None, mlp(256, 256), wide, 0.1, **size),
            "MNIST CNN": Task("mnist", 10_000, cnn(32), "5x5x32, 5x5x32, linear", 0.3, **conv),
            "Fashion MLP": Task("fashion_mnist", None, mlp(256, 256), wide, 0.1, **size),
        }
    size = {"epochs": 50, "steps": 10, "num_points": 1000, "draws": 50, "queries": 5000}
    return {
        "MNIST MLP": Task("mnist", None, mlp(512, 512), "784-512-512-10", 0.1, **size),
        "MNIST CNN": Task("mnist", None, cnn(64), "5x5x32, 5x5x64, linear", 0.3, **{**size, "steps": 40}),
        "Fashion MLP": Task("fashion_mnist", None, mlp(512, 512), "784-512-512-10", 0.1, **size),
    }


def defences(task: Task) -> dict[str, tuple[str, Inference]]:
    """By name, whether the defence trains the network or a Bayesian network of it, and how."""
    eps, epochs = task.eps, task.epochs
    sgd = SGD(epochs=epochs)
    pgd = PGD(eps=eps, steps=task.steps, step_size=2.5 * eps / task.steps)
    svi = SVI(epochs=epochs, lr=0.003, batch_size=128, estimator="shared_draw")
    sdr = SDR(variance="learnable", epochs=epochs)
    methods: dict[str, tuple[str, Inference]] = {
        "plain": ("net", sgd),
        "FGSM": ("net", AdversarialTraining(FGSM(eps=eps), sgd)),
        "FGSM, half clean": ("net", AdversarialTraining(FGSM(eps=eps), sgd, clean_weight=0.5)),
        "BV": ("net", AdversarialTraining(BV(mse=eps**2 / 4), sgd)),
        "PGD": ("net", AdversarialTraining(pgd, sgd)),
        "TRADES": ("net", TRADES(eps=eps, steps=task.steps, step_size=2.5 * eps / task.steps, base=sgd)),
        "distillation": ("net", DefensiveDistillation(base=sgd)),
        "resize and pad": ("net", sgd),
        "SVI": ("bayesian", svi),
        "Adv-BNN": ("bayesian", AdvBNN(attack=pgd, epochs=epochs)),
        "SDR": ("net", sdr),
        "SDR, PGD": ("net", AdversarialTraining(pgd, sdr)),
    }
    return {name: how for name, how in methods.items() if not task.only or name in task.only}


def trained(task: Task, name: str, seed: int, folder: Path) -> Predictive:
    """A defended network, trained now or loaded; random resizing is put in front of the plain network."""
    dataset = loaded(task, seed)
    kind, method = defences(task)[name]
    net = task.net(dataset.x_train[0].shape, dataset.out_features, seed)
    # Adv-BNN's prior; SVI beside it under the same.
    model = br.models.BayesianNetwork(net, prior_scale=0.1) if kind == "bayesian" else net
    post = fit_once(method, model, dataset, folder, seed)
    return RandomResizePad(post, num_draws=task.draws, seed=seed) if name == "resize and pad" else post


@functools.cache
def loaded(task: Task, seed: int) -> br.Dataset:
    """The data set, loaded once."""
    return br.data.load(task.data, n_train=task.n_train, seed=seed)


def attacks_on(task: Task, plain: Predictive, draws: int | None) -> dict[str, Attack]:
    """The attacks; on a random defence each step averages over `draws` fresh draws."""
    ball: Any = {"eps": task.eps, "num_draws": draws}
    long = PGD(eps=task.eps, steps=40, step_size=task.eps / 10)
    return {
        "FGSM": FGSM(**ball),
        "PGD": dataclasses.replace(long, num_draws=draws),
        "PGD margin": dataclasses.replace(long, num_draws=draws, objective="margin_per_draw"),
        "APGD DLR": APGD(**ball, objective="dlr", steps=40),
        "Square": Square(**ball, queries=task.queries),
        "PGD on plain": Transfer(plain, dataclasses.replace(long, objective="margin_per_draw")),
    }


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) every defence, attack it, compare.

    Args:
        scale: smoke: seconds, on digits; small: MLPs on all images for 5 epochs and a CNN on 10,000, minutes on two cores;
            paper: sizes at which people publish, a day.
        out: Folder for results and report; default results/defences-SCALE.
        seed: Fixes data, training, points, draws and attacks.
        posteriors: Folder of trained networks (default results/posteriors).
    """
    settings = {
        name: f"{task.described}; {task.n_train or 'all'} training points, {task.epochs} epochs, l_inf {task.eps}, PGD of "
        f"{task.steps} steps in training; {task.num_points} points attacked, {task.draws} draws, {task.queries} queries"
        for name, task in tasks(scale).items()
    }
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS, printed=("defences",)
    ) as study:
        for name, task in tasks(scale).items():
            dataset, trees = loaded(task, seed), {}
            plain = trained(task, "plain", seed, posteriors)
            for defence in defences(task):
                study.training(f"{name}/{defence}", posteriors)
                post = trained(task, defence, seed, posteriors)
                draws = task.draws if post.num_draws > 1 else None
                study.say(f"{name}/{defence}: {post.info['seconds']:.0f} s of training; attacking")
                attacks = attacks_on(task, plain, draws)
                tree = br.evaluate(post, dataset, attacks, num_points=task.num_points, num_draws=draws, seed=seed)
                trees[defence] = tree
                study.tree(file_name(f"{name}-{defence}"), tree, f"evaluation of {name}/{defence}")
                study.add("defences", [row(name, defence, tree, post.info["seconds"])])
            study.figure(f"threats_{file_name(name)}", plots.threats(trees), f"{name}: {THREATS}")
            study.note(*notes(name, task, trees))
        study.table("methods", described(scale))


CAPTIONS = {
    "defences": "Accuracy without and under each attack, all points, 95% Wilson intervals; 'worst case' counts a point only "
    "if no "
    "attack in the ball broke it, and 'verdict' is what the evaluation's cheap checks say of that (br.audit makes all). "
    "'PGD on plain': what PGD found on the plainly trained network.",
    "methods": "Each defence as it was trained.",
}
THREATS = "accuracy under each attack with 95% intervals."


def row(name: str, defence: str, tree: xr.DataTree, seconds: float) -> dict[str, str]:
    """One row of the table of defences."""
    scores = tree["robustness"].to_dataset().transpose(..., "bound")
    cells = {
        "network": name,
        "defence": defence,
        "clean": estimate(scores, "accuracy"),
    }
    for attack in scores["attack"].values.tolist():
        at = scores.sel(attack=attack)
        cells[attack] = estimate(at, "adversarial_accuracy")
    worst = worst_case(tree)
    cells["worst case"] = estimate(worst, "worst_case_accuracy")
    cells["verdict"] = str(worst["worst_case_verdict"].item())
    return {**cells, "training seconds": f"{seconds:.0f}"}


def worst_case(tree: xr.DataTree) -> xr.Dataset:
    """The scores of all attacks in the ball, point by point."""
    return tree["robustness"].to_dataset().isel(threat=0).transpose(..., "bound")


def stronger(tree: xr.DataTree, one: str, other: str) -> str:
    """What two attacks leave, and whether the points that only one of them broke decide between them (McNemar, exact)."""
    left = right_after(tree)
    a, b = left.sel(attack=one).values, left.sel(attack=other).values
    only_one, only_other = int((~a & b).sum()), int((a & ~b).sum())
    level = mcnemar(a, b)
    verdict = "not to be told apart"
    if level < 0.05:
        verdict = f"{one if only_one > only_other else other} is stronger"
    return f"{one} leaves {a.mean():.3f}, {other} {b.mean():.3f}: {verdict} (McNemar p = {level:.2g})"


def notes(name: str, task: Task, trees: Mapping[str, xr.DataTree]) -> list[str]:
    """Says whether the known pattern appears."""
    texts: list[str] = []
    one_step = [defence for defence in trees if defence.startswith("FGSM")]
    texts += [f"{name}/{defence}, trained on one step: {stronger(trees[defence], 'PGD', 'FGSM')}." for defence in one_step]
    if "distillation" in trees:
        tree = trees["distillation"]
        texts.append(f"{name}/distillation: {stronger(tree, 'PGD margin', 'PGD')}; {stronger(tree, 'Square', 'PGD')}.")
    if "resize and pad" in trees:
        text = stronger(trees["resize and pad"], "PGD margin", "PGD on plain")
        texts.append(f"{name}/resize and pad, over fresh transformations against what the plain network gives: {text}.")
    worst = {defence: float(worst_case(tree)["worst_case_accuracy"]) for defence, tree in trees.items()}
    order = sorted(worst, key=lambda defence: -worst[defence])
    texts.append(f"{name}, worst case: " + "; ".join(f"{defence} {worst[defence]:.3f}" for defence in order) + ".")
    if name == "MNIST CNN":
        left = float(right_after(trees["PGD"]).sel(attack="PGD").mean())
        verdict = (
            "as it should" if left >= MOST else f"less than {MOST}: {task.n_train or 'all'} images, {task.epochs} epochs"
        )
        texts.append(f"{name}/PGD keeps {left:.3f} under PGD-40 at l_inf {task.eps}: {verdict}.")
    return texts


def described(scale: Scale) -> list[dict[str, str]]:
    """A row for each defence: how it was trained."""
    rows = []
    for name, task in tasks(scale).items():
        for defence, (_, method) in defences(task).items():
            settings = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(method).items())
            rows.append({"network": name, "defence": defence, "method": type(method).__name__, "settings": settings})
    return rows


if __name__ == "__main__":
    cyclopts.run(main)
