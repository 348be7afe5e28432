"""Figure 1 of Aboutalebi et al. 2020 on bias and variance under attack: simulated data whose truth is known.

(a) A linear target in R^2 under uniform noise, one hidden layer of 100, five models: squared bias, variance and loss under
FGSM, and what theorem 2 says of them. (b) Two normal classes in R^50, hidden [50, 100], trained plainly, on PGD and on BV:
the same of cross-entropy and theorem 3. (c) On the models of (a) the bias and variance attacks, beside random directions of
the same length. The paper's figures have no printed numbers: its claims are checked in words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import torch
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import BV, FGSM, PGD
from bayesrob.data.simulated import simulated_target
from bayesrob.inference import SGD, AdversarialTraining, Inference, Replicates
from shared import directions
from shared.first_order import ORDERS, first_order, order_note, with_predictions
from shared.model_sets import attacked, curves, rows
from shared.study import Scale, Study
from shared.tables import file_name

NOISE = 0.5
"""Half the length of the noise's interval: its variance is NOISE^2 / 3."""

TRAINED_EPS = 2.0
"""Radius of PGD in training, and root mean square of BV's steps.

The paper gives none; the class means are 10 apart, so that at 5 a point may lie where both classes are as likely.
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        n_train: number of training points of each problem.
        n_test: number of test points of each problem.
        epochs: passes over the training points.
        models: number of models of a set.
        directions: number of random directions at each point.
        regression: root mean squares of the perturbations of (a).
        classes: radii of the attacks of (b).
    """

    n_train: int = 1000
    n_test: int = 500
    epochs: int = 100
    models: int = 5
    directions: int = 1000
    regression: tuple[float, ...] = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
    classes: tuple[float, ...] = (0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


SIZES: dict[Scale, Size] = {
    "smoke": Size(100, 40, 10, 3, 50, (0, 0.1, 1), (0, 2, 5, 10)),
    "small": Size(),
    "paper": Size(n_train=10_000, n_test=5000, epochs=100),
}


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0) -> None:
    """Train the models, attack them, split their losses, compare with the theorems.

    Args:
        scale: smoke: seconds; small: 1,000 training points and five models, a minute on one core; paper: its five seeds on
            10,000 points.
        out: Folder for results and report; default results/bias_variance_simulated-SCALE.
        seed: Fixes data, training and attacks.
    """
    size = SIZES[scale]
    settings: dict[str, Any] = {"noise": NOISE, "trained eps": TRAINED_EPS}
    settings |= {key: str(value) for key, value in dataclasses.asdict(size).items()}
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS,
        printed=("regression", "classes", "directions"),
    ) as study:  # fmt: skip
        texts = regression(study, size, seed)
        study.note(*texts, *classes(study, size, seed))


CAPTIONS = {
    "regression": "(a) Squared bias, variance, noise and loss under FGSM, unbiased estimates with 95% bootstrap intervals "
    "over models and "
    "points (of five models: too short), and the plug-in's. 'truth moves': squared distance of f_bar(x + beta) from "
    "f(x + beta), where the paper keeps f(x). 'observed loss': mean (y - f_t)^2 of the noisy y of the same points.",
    "first_order_regression": ORDERS,
    "directions": directions.TABLE,
    "classes": "(b) Bias, variance and loss (cross-entropy) and accuracy with 95% bootstrap intervals over models and "
    "points (of five "
    "models: too short). Spreads: standard deviations over models of the mean loss and of accuracy. From eps 5 on, points "
    "have crossed to where the other class is the likelier.",
    "first_order_classes": ORDERS,
}
FIGURE = "bias, variance and loss against eps, 95% bootstrap intervals over models and points; dashed: first order."


# ---- (a) and (c) ---------------------------------------------------------------------------------------------------------


def regression(study: Study, size: Size, seed: int) -> list[str]:
    """Figure 1 (a) and (c): squared error under FGSM, and single directions."""
    dataset = br.data.load("simulated_regression", n_train=size.n_train, n_test=size.n_test, seed=seed, noise=NOISE)
    net = br.nets.mlp(2, (100,), 1, activation="relu", seed=seed)
    x, observed = dataset.x_test, dataset.y_test
    truth = simulated_target(x)
    sets = {
        "seeds": Replicates(SGD(epochs=size.epochs), size.models).fit(net, dataset, seed=seed),
        # As many steps on a part of the points.
        "disjoint splits": Replicates(
            SGD(epochs=size.epochs * size.models), size.models, over="disjoint_splits"
        ).fit(net, dataset, seed=seed),
    }  # fmt: skip
    attacks = {
        "FGSM on the set": (truth, False),
        "FGSM on each model": (truth, True),
        "FGSM on the set, noisy y": (observed, False),
    }
    drawn, orders = {}, []
    for name, models in sets.items():
        for attack, (label, own) in attacks.items():
            measured = attacked(models, _fgsm, size.regression, x, label, own=own, seed=seed)
            split = split_squares(measured, truth.numpy(), observed.numpy(), seed)
            study.tree(_file("a", name, attack), xr.DataTree(split), f"(a) {name}, {attack}")
            names = ["mean_bias", "mean_variance", "noise", "mean_loss"]
            study.add("regression", rows({"models": name, "attack": attack}, split, [*names, *BESIDE]))
            drawn[f"{name}, {attack}"] = split
        order, measured = first_order(models, x, truth, loss="mse", seed=seed)
        study.tree(_file("a", name, "first order"), xr.DataTree(measured), f"(a) {name}, theorem 2 and what is measured")
        on_the_set = drawn[f"{name}, FGSM on the set"]
        drawn[f"{name}, FGSM on the set"] = with_predictions(models, on_the_set, x, truth, loss="mse", seed=seed)
        orders.append({"problem": "(a) regression", "models": name, "theorem": "2", **order})
    study.figure("regression", plots.bias_variance({k: v for k, v in drawn.items() if "noisy" not in k}), FIGURE)
    study.table("first_order_regression", orders)
    notes = [*regression_notes(drawn, size.regression[-1]), *(order_note(line) for line in orders)]
    tables = directions.compare(sets["seeds"], x, truth, size.directions, seed)
    study.tree("c", xr.DataTree(tables.changes), "(c) bias and variance along each direction")
    study.table("directions", tables.rows)
    return [*notes, *tables.notes]


def regression_notes(drawn: Mapping[str, xr.Dataset], top: float) -> list[str]:
    """What figure 1 (a) is taken to show, and what it hides."""
    base, own, noisy = (
        drawn[f"seeds, {attack}"] for attack in ("FGSM on the set", "FGSM on each model", "FGSM on the set, noisy y")
    )
    end = {
        name: {key: float(split[key][-1]) for key in ("mean_bias", "mean_variance", "mean_loss", "truth_moves")}
        for name, split in {"base": base, "own": own, "noisy": noisy}.items()
    }
    gap, none = (float((split["observed_loss"] - split["mean_loss"])[-1]) for split in (noisy, base))
    return [
        f"(a) Under one FGSM for all models squared bias {moves(base, 'mean_bias')} and variance "
        f"{moves(base, 'mean_variance')} with eps. The paper: both rise. Under FGSM on each model by itself variance "
        f"{moves(own, 'mean_variance')}, and bias to {end['own']['mean_bias']:.3g}: models whose errors differ in "
        f"sign are driven apart.",
        f"(a) The paper keeps f(x) as the truth at x + beta. The linear target moves: at eps {top:g} f_bar is off f(x) by "
        f"{end['base']['mean_bias']:.3g} squared, and off f(x + beta) by {end['base']['truth_moves']:.3g}.",
        f"(a) Where FGSM is given the noisy y, its steps know the noise, and bias + variance + noise is no longer the loss "
        f"of those y: at eps {top:g} that is {gap:.3g} more than their sum of {end['noisy']['mean_loss']:.3g} (given f: "
        f"{none:.3g} more than {end['base']['mean_loss']:.3g}).",
    ]


BESIDE = ("plugin_bias", "plugin_variance", "truth_moves", "observed_loss")


def split_squares(measured: xr.Dataset, truth: np.ndarray, observed: np.ndarray, seed: int) -> xr.Dataset:
    """Squared error against the true f, by both estimators, and what else the table shows of it."""
    noise = NOISE**2 / 3
    split, plugin = (
        curves(measured, truth, seed, estimator=estimator, noise_variance=noise) for estimator in ("unbiased", "plugin")
    )
    values = measured["predictions"]
    errors = (values - xr.DataArray(observed, dims=("point", "output"))) ** 2
    split = split.assign(
        plugin_bias=plugin["mean_bias"], plugin_variance=plugin["mean_variance"], observed_loss=errors.mean(MEAN)
    )
    if "model" not in measured["perturbed"].dims:
        moved = simulated_target(torch.from_numpy(measured["perturbed"].values)).numpy()
        off = (values.mean("model") - xr.DataArray(moved, dims=("eps", "point", "output"))) ** 2
        return split.assign(truth_moves=off.mean(("point", "output")))
    return split.assign(truth_moves=("eps", np.full(split.sizes["eps"], np.nan)))  # each model has its own x + beta


MEAN = ("model", "point", "output")


# ---- (b) -----------------------------------------------------------------------------------------------------------------

LOST = 0.55
"""Half of the points: where every point of one class goes to the other."""


def trainings(size: Size) -> dict[str, Inference]:
    """The ways of training in (b), by name."""
    sgd = SGD(epochs=size.epochs)
    return {
        "plain": sgd,
        "PGD": AdversarialTraining(PGD(eps=TRAINED_EPS, steps=7), sgd),
        "BV": AdversarialTraining(BV(mse=TRAINED_EPS**2), sgd),
        "BV, each point": AdversarialTraining(BV(mse=TRAINED_EPS**2, mse_per="point"), sgd),
    }


def classes(study: Study, size: Size, seed: int) -> list[str]:
    """Figure 1 (b): cross-entropy of models trained plainly, on PGD and on BV."""
    dataset = br.data.load("simulated_classes", n_train=size.n_train, n_test=size.n_test, seed=seed)
    net = br.nets.mlp(50, (50, 100), 2, activation="relu", seed=seed)
    x, y = dataset.x_test, dataset.y_test
    drawn, orders, notes = {}, [], []
    attacks: dict[str, tuple[Any, bool]] = {
        "FGSM on the set": (_fgsm, False),
        "FGSM on each model": (_fgsm, True),
        "PGD on each model": (lambda eps: PGD(eps=eps, steps=20), True),
    }
    for name, method in trainings(size).items():
        models = Replicates(method, size.models).fit(net, dataset, seed=seed)
        for label, (attack, each) in attacks.items():
            split = curves(attacked(models, attack, size.classes, x, y, own=each, seed=seed), y.numpy(), seed)
            study.tree(_file("b", name, label), xr.DataTree(split), f"(b) {name}, {label}")
            names = ["mean_bias", "mean_variance", "mean_loss", "accuracy", "loss_spread", "accuracy_spread"]
            study.add("classes", rows({"training": name, "attack": label}, split, names))
            drawn[name, label] = split
        order, measured = first_order(models, x, y, loss="cross_entropy", seed=seed)
        study.tree(_file("b", name, "first order"), xr.DataTree(measured), f"(b) {name}, theorem 3 and what is measured")
        orders.append({"problem": "(b) classes", "models": name, "theorem": "3", **order})
        base, own = (drawn[name, label] for label in ("FGSM on the set", "PGD on each model"))
        notes.append(
            f"(b) {name}, FGSM on the set: bias {moves(base, 'mean_bias')}, variance {moves(base, 'mean_variance')}, the "
            f"loss's spread over models {moves(base, 'loss_spread')}, accuracy's {moves(base, 'accuracy_spread')}. Accuracy "
            f"is at most {LOST} from eps {lost(base)} on, under PGD on each model from {lost(own)}."
        )
    shared = {name: split for (name, label), split in drawn.items() if label == "FGSM on the set"}
    study.figure("classes", plots.bias_variance(shared), FIGURE)
    study.table("first_order_classes", orders)
    return [*notes, *(order_note(line) for line in orders)]


def lost(split: xr.Dataset) -> str:
    """The first eps of the grid at which accuracy is about half or less."""
    at = split["eps"].values[split["accuracy"].values <= LOST]
    return f"{at[0]:g}" if len(at) else f"beyond {float(split['eps'][-1]):g}"


# ---- words ---------------------------------------------------------------------------------------------------------------


def moves(split: xr.Dataset, name: str) -> str:
    """Says whether a curve rises, falls, or rises and then falls along the grid."""
    values, top = split[name].values, int(split[name].values.argmax())
    first, last = (f"{value:.3g}" for value in values[[0, -1]])
    if values.max() == values.min():
        return "does not change"
    if top == 0:
        return f"falls from {first} to {last}"
    if top == len(values) - 1:
        return f"rises from {first} to {last}"
    return f"rises from {first} to {values[top]:.3g} at eps {split['eps'].values[top]:g} and falls to {last}"


def _fgsm(eps: float) -> FGSM:
    return FGSM(eps=eps)


def _file(part: str, *names: str) -> str:
    return file_name("-".join([part, *names]))


if __name__ == "__main__":
    cyclopts.run(main)
