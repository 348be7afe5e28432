"""Figures 2 to 6 of Aboutalebi et al. 2020 on bias and variance: image networks under FGSM, PGD, BV and Adv-BNN's attack.

Five networks of each kind, trained plainly and on FGSM, BV and PGD; each is attacked by itself, and accuracy and loss are
compared at equal injected perturbation, its root mean square. Adv-BNN's attack is PGD with weights drawn anew at each step
on an Adv-BNN, transferred; where the target is an Adv-BNN, on itself. The paper's figures have no printed numbers: its
claims are checked one by one.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cyclopts
import numpy as np
import xarray as xr

from bayesrob import plots
from bayesrob.attacks import BV, FGSM, PGD, Attack, Transfer
from bayesrob.errors import check_name
from bayesrob.predictive import Predictive
from shared import image_claims
from shared.image_sets import ADV_BNN, Task, tasks
from shared.model_sets import attacked, curves, rows
from shared.study import POSTERIORS, Scale, Study
from shared.tables import file_name

STEPS = 5
"""Steps of PGD, as in the paper."""

ALL = "FGSM on all"
"""The attack that makes one perturbation for the whole set, which is what the theorems are about."""


def pgd(eps: float, num_draws: int | None = None) -> PGD:
    """The paper's PGD: five steps of half the radius."""
    return PGD(eps=eps, steps=STEPS, step_size=eps / 2, num_draws=num_draws)


def attacks_on(training: str, surrogate: Predictive) -> dict[str, Callable[[float], Attack]]:
    """The attacks by name, each as a function of its size: a radius, of BV the root mean square of the perturbation."""
    attacks: dict[str, Callable[[float], Attack]] = {
        "FGSM": lambda eps: FGSM(eps=eps),
        "BV": lambda eps: BV(mse=eps**2),
        "PGD": lambda eps: pgd(eps),
        ADV_BNN: lambda eps: Transfer(surrogate, pgd(eps, num_draws=1)),
        ALL: lambda eps: FGSM(eps=eps),
    }
    if training == ADV_BNN:
        del attacks["PGD"]
        attacks[ADV_BNN] = lambda eps: pgd(eps, num_draws=1)
    return attacks


def main(
    *,
    scale: Scale = "small",
    out: Path | None = None,
    seed: int = 0,
    posteriors: Path = POSTERIORS,
    networks: list[str] | None = None,
) -> None:
    """Train (or load) the sets of networks, attack each at several sizes, compare with the paper's claims.

    Args:
        scale: smoke: seconds, on digits; small: CNNs on all images of MNIST and Fashion-MNIST for one epoch, narrow residual
            networks and MobileNetV2 on 2,000 of CIFAR-10, an hour or more on two cores; paper: its networks on CIFAR-10 and
            CIFAR-100.
        out: Folder for results and report; default results/bias_variance_images-SCALE; an interrupted run goes on there.
        seed: Fixes data, training, points and attacks.
        posteriors: Folder of trained networks (default results/posteriors).
        networks: Names of the networks that are attacked, e.g. "MNIST CNN-32"; default all of the scale.
    """
    for name in networks or []:
        check_name("network", name, tasks(scale))
    chosen = {name: task for name, task in tasks(scale).items() if networks is None or name in networks}
    settings = {name: described(task) for name, task in chosen.items()}
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS, printed=()
    ) as study:
        sets: dict[str, dict[str, dict[str, xr.Dataset]]] = {}
        for name, task in chosen.items():
            surrogate = task.surrogate(seed, posteriors)
            sets[name] = {}
            for training in [*task.methods(), *([ADV_BNN] if task.targets else [])]:
                study.training(f"{name}/{training}", posteriors)
                models = task.fit(training, seed, posteriors)
                study.say(f"{name}/{training}: {sum(m.info['seconds'] for m in models):.0f} s of training; attacking")
                against = Attacked(f"{name}-{training}", task, training, models, surrogate)
                tree = under_attack(study, against, seed)
                attacks = attacks_on(training, surrogate)
                curves_of = {attack: measured(tree[file_name(attack)].to_dataset()) for attack in attacks}
                sets[name][training] = curves_of
                for attack, curve in curves_of.items():
                    where = {"network": name, "training": training, "attack": attack}
                    study.add("attacks", rows(where, curve, ROW, dim="size"))
                if training == "plain":
                    study.add("costs", costs(name, against, seed))
            figures(study, name, sets[name])
        claims = image_claims.claims(sets)
        study.table("claims", claims)
        study.note(*image_claims.notes(claims))


ROW = ("accuracy", "accuracy_spread", "mean_loss", "loss_spread", "mean_bias", "mean_variance")
CAPTIONS = {
    "attacks": "Every set under every attack: accuracy and loss of its networks, their standard deviations over networks, "
    "and bias and variance of the cross-entropy; 95% bootstrap intervals over networks and points (of five networks too "
    "short). 'size' is the radius in pixels of [0, 1] (BV: the root mean square), 'rms' what was injected. 'FGSM on all' "
    "moves a point alike for all networks of a set, the others move it for each by itself.",
    "costs": "What an attack costs: gradients and milliseconds for each image, one network.",
    "claims": "The paper's claims, one by one, at equal root mean square of the perturbations. Intervals are 95%, by "
    "Student's t over the networks of a set (Welch's for two sets, F for variances): met or contradicted where they leave "
    "no doubt, else open. Of what keeps growing, or rises and falls, the sizes measured decide.",
}


def described(task: Task) -> str:
    """The network, its data and its training in words."""
    return (
        f"{task.described}; {task.n_train or 'all'} training points, {task.epochs} epochs in batches of {task.batch_size}, "
        f"{task.models} networks of each training; {task.points} points attacked; the paper's eps read as "
        f"{' and as '.join(task.readings)}, a normalised unit being {task.std():.4f} pixels; Adv-BNN: alpha {task.alpha:g}"
    )


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A set of networks under attack.

    Args:
        name: of the network and its training, as in file names.
        task: the network and its data.
        training: how the networks were trained.
        models: the networks of the set.
        surrogate: the Adv-BNN on which the transferred attack is made.
    """

    name: str
    task: Task
    training: str
    models: Sequence[Predictive]
    surrogate: Predictive


def under_attack(study: Study, target: Attacked, seed: int) -> xr.DataTree:
    """Predictions by attack, size, network and point.

    Those of an interrupted run of the same settings are loaded instead of attacking again.
    """
    task, training, models = target.task, target.training, target.models
    file, caption = file_name(target.name), f"predictions of {target.name} under attack"
    made_of = json.dumps(
        [described(task), training, seed, list(task.rms), [repr(sorted(m.info["settings"].items())) for m in models]]
    )
    earlier = study.folder / f"{file}.nc"
    if earlier.exists():
        with xr.open_datatree(earlier, engine="h5netcdf") as opened:
            tree = opened.load()
        if tree.attrs.get("made_of") == made_of:
            study.tree(file, tree, caption)
            return tree
    dataset, groups = task.dataset(seed), {}
    held = [model.freeze(seed=seed) for model in models]  # scored on draws that the attack on fresh ones does not see
    for attack, sized in attacks_on(training, target.surrogate).items():
        sizes = [0.0, *task.rms]
        victims = models if training == ADV_BNN and attack != ALL else held
        own = attack != ALL and (attack != ADV_BNN or training == ADV_BNN)  # a transferred one is the same for all
        predicted = attacked(
            victims, sized, sizes, dataset.x_test, dataset.y_test, own=own, seed=seed, dim="size", scored=held
        )
        predicted = predicted.drop_vars("perturbed")
        predicted["predictions"] = predicted["predictions"].astype(np.float32)
        groups[file_name(attack)] = predicted.assign(label=("point", dataset.y_test.numpy()))
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["made_of"] = made_of
    study.tree(file, tree, caption)
    return tree


def measured(predicted: xr.Dataset) -> xr.Dataset:
    """Bias, variance, accuracy and loss by size, and each network's accuracy and loss."""
    label = predicted["label"]
    values = predicted["predictions"].astype(np.float64)
    split = curves(predicted.assign(predictions=values), label.values)
    return split.assign(
        model_accuracy=(values.argmax("class") == label).mean("point"),
        model_loss=-values.sel({"class": label}).mean("point"),
    )


def costs(name: str, target: Attacked, seed: int) -> list[dict[str, str]]:
    """A row for each attack: gradients and milliseconds for each image, on the first network of the set."""
    task, models = target.task, target.models
    dataset, eps = task.dataset(seed), task.rms[len(task.rms) // 2]
    lines = []
    for attack, sized in attacks_on(target.training, target.surrogate).items():
        if attack == ALL:
            continue
        start = time.perf_counter()
        one = sized(eps).run(models[0], dataset.x_test, dataset.y_test, seed)
        seconds = (time.perf_counter() - start) / len(one.x)
        gradients = STEPS if attack == ADV_BNN else float(one.gradients.double().mean())  # a transfer's are the surrogate's
        lines.append(
            {"network": name, "attack": attack, "gradients": f"{gradients:g}", "ms per image": f"{1000 * seconds:.3g}"}
        )
    return lines


def figures(study: Study, name: str, sets: Mapping[str, Mapping[str, xr.Dataset]]) -> None:
    """Save the figures of one network: spread over networks, and bias and variance."""
    along = {
        training: {attack: curve.assign_coords(size=curve["mse"] ** 0.5).rename(size="rms") for attack, curve in of.items()}
        for training, of in sets.items()
    }
    own = {training: {attack: curve for attack, curve in of.items() if attack != ALL} for training, of in along.items()}
    study.figure(
        f"spread_{file_name(name)}",
        plots.model_spread(own),
        f"{name}: accuracy and loss against the injected perturbation, mean and standard deviation over networks.",
    )
    study.figure(
        f"split_{file_name(name)}",
        plots.bias_variance({training: of[ALL] for training, of in along.items()}),
        f"{name}: bias, variance and loss under one FGSM for all networks of a set, by training.",
    )


if __name__ == "__main__":
    cyclopts.run(main)
