"""Figures 2 to 6 of the paper on bias and variance under attack: image networks under FGSM, PGD, BV and Adv-BNN's attack.

Five networks of each kind, trained plainly and on FGSM, BV and PGD; each is attacked by itself, and accuracy and loss are
compared at equal injected perturbation, its root mean square. Adv-BNN's attack is PGD with weights drawn anew at each step
on an Adv-BNN, transferred; where the target is an Adv-BNN, on itself. The paper's figures have no printed numbers: its
claims are checked one by one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

from bayesrob import plots
from bayesrob.attacks import BV, FGSM, PGD, Attack, Transfer
from bayesrob.errors import check_name
from bayesrob.evaluation import Results
from bayesrob.predictive import Predictive
from bayesrob.report import render
from shared import image_claims
from shared.image_sets import ADV_BNN, POSTERIORS, Task, tasks
from shared.model_sets import attacked, curves, rows
from shared.study_tools import Scale, file_name

STEPS = 5
"""Of PGD, the paper's."""

ALL = "FGSM on all"
"""One perturbation for the whole set, which is what the theorems speak of."""


def pgd(eps: float, num_draws: int | None = None) -> PGD:
    return PGD(eps=eps, steps=STEPS, step_size=eps / 2, num_draws=num_draws)


def attacks_on(training: str, surrogate: Predictive) -> dict[str, Callable[[float], Attack]]:
    """By size: the radius of FGSM and PGD; of BV the root mean square itself."""
    found: dict[str, Callable[[float], Attack]] = {
        "FGSM": lambda eps: FGSM(eps=eps),
        "BV": lambda eps: BV(mse=eps**2),
        "PGD": lambda eps: pgd(eps),
        ADV_BNN: lambda eps: Transfer(surrogate, pgd(eps, num_draws=1)),
        ALL: lambda eps: FGSM(eps=eps),
    }
    if training == ADV_BNN:
        del found["PGD"]
        found[ADV_BNN] = lambda eps: pgd(eps, num_draws=1)
    return found


def main(
    *,
    scale: Scale = "small",
    out: Path | None = None,
    seed: int = 0,
    posteriors: Path = POSTERIORS,
    networks: list[str] | None = None,
) -> None:
    """Train (or load) the sets of networks, attack each at several sizes, compare with the paper's claims.

    Parameters
    ----------
    scale
        smoke: seconds, on digits; small: CNNs on all images of MNIST and Fashion-MNIST for one epoch, narrow residual
        networks and MobileNetV2 on 2,000 of CIFAR-10, an hour or more on two cores; paper: its networks on CIFAR-10 and
        CIFAR-100.
    out
        Folder for results and report; default results/bias_variance_images-SCALE. An interrupted run goes on from there.
    seed
        Fixes data, training, points and attacks.
    posteriors
        Where trained networks are kept (default results/posteriors).
    networks
        Names of the networks to look at, e.g. "MNIST CNN-32"; default all of the scale.
    """
    chosen = {name: task for name, task in tasks(scale).items() if networks is None or name in networks}
    for name in networks or []:
        check_name("network", name, tasks(scale))
    out = Path("results") / f"bias_variance_images-{scale}" if out is None else out
    settings: dict[str, Any] = {"scale": scale, "seed": seed}
    settings |= {name: described(task) for name, task in chosen.items()}
    results = Results(out, "bias_variance_images", (__doc__ or "").splitlines()[0], settings)
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in CAPTIONS}
    sets: dict[str, dict[str, dict[str, xr.Dataset]]] = {}
    for name, task in chosen.items():
        surrogate = task.surrogate(seed, posteriors)
        sets[name] = {}
        for training in [*task.methods(), *([ADV_BNN] if task.targets else [])]:
            print(f"{name}/{training}: training, unless it is kept in {posteriors}", flush=True)
            models = task.fit(training, seed, posteriors)
            print(f"{name}/{training}: {sum(m.info['seconds'] for m in models):.0f} s of training; attacking", flush=True)
            tree = under_attack(results, f"{name}-{training}", task, training, models, surrogate, seed)
            found = {attack: measured(tree[file_name(attack)].to_dataset()) for attack in attacks_on(training, surrogate)}
            sets[name][training] = found
            for attack, curve in found.items():
                of = {"network": name, "training": training, "attack": attack}
                tables["attacks"] += rows(of, curve, ROW, dim="size")
            tables["costs"] += costs(name, task, training, models, surrogate, seed) if training == "plain" else []
            for table, lines in tables.items():  # anew after each: an interrupted run leaves what it had
                if lines:
                    results.table(table, pd.DataFrame(lines), CAPTIONS[table])
        figures(results, name, sets[name])
    tables["claims"] = image_claims.claims(sets)
    results.table("claims", pd.DataFrame(tables["claims"]), CAPTIONS["claims"])
    for note in image_claims.notes(tables["claims"]):
        results.note(note)
        print(note, flush=True)
    print(f"report: {render(results.finish())}")


ROW = ("accuracy", "accuracy_spread", "mean_loss", "loss_spread", "mean_bias", "mean_variance")
CAPTIONS = {
    "claims": "The paper's claims, one by one, at equal root mean square of the perturbations. Intervals are 95%, by "
    "Student's t over the networks of a set (Welch's for two sets, F for variances): met or contradicted where they leave "
    "no doubt, else open. Of what keeps growing, or rises and falls, the sizes measured decide.",
    "attacks": "Every set under every attack: accuracy and loss of its networks, their standard deviations over networks, "
    "and bias and variance of the cross-entropy; 95% bootstrap intervals over networks and points (of five networks too "
    "short). 'size' is the radius in pixels of [0, 1] (BV: the root mean square), 'rms' what was injected. 'FGSM on all' "
    "moves a point alike for all networks of a set, the others move it for each by itself.",
    "costs": "What an attack costs: gradients and milliseconds for each image, one network.",
}


def described(task: Task) -> str:
    return (
        f"{task.described}; {task.n_train or 'all'} training points, {task.epochs} epochs in batches of {task.batch_size}, "
        f"{task.models} networks of each training; {task.points} points attacked; the paper's eps read as "
        f"{' and as '.join(task.readings)}, a normalised unit being {task.std():.4f} pixels; Adv-BNN: alpha {task.alpha:g}"
    )


def under_attack(
    results: Results,
    name: str,
    task: Task,
    training: str,
    models: Sequence[Predictive],
    surrogate: Predictive,
    seed: int,
) -> xr.DataTree:
    """Predictions by attack, size, network and point; those of an interrupted run of the same settings are taken over."""
    file, caption = file_name(name), f"predictions of {name} under attack"
    made_of = json.dumps(
        [described(task), training, seed, list(task.rms), [repr(sorted(m.info["settings"].items())) for m in models]]
    )
    kept = results.folder / f"{file}.nc"
    if kept.exists():
        with xr.open_datatree(kept, engine="h5netcdf") as opened:
            tree = opened.load()
        if tree.attrs.get("made_of") == made_of:
            results.tree(file, tree, caption)
            return tree
    dataset, groups = task.dataset(seed), {}
    held = [model.freeze(seed=seed) for model in models]  # scored on draws that the attack on fresh ones does not see
    for attack, sized in attacks_on(training, surrogate).items():
        sizes = [0.0, *task.rms]
        victims = models if training == ADV_BNN and attack != ALL else held
        own = attack != ALL and (attack != ADV_BNN or training == ADV_BNN)  # a transferred one is the same for all
        found = attacked(victims, sized, sizes, dataset.x_test, dataset.y_test, own=own, seed=seed, dim="size", scored=held)
        found = found.drop_vars("perturbed")
        found["predictions"] = found["predictions"].astype(np.float32)
        groups[file_name(attack)] = found.assign(label=("point", dataset.y_test.numpy()))
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["made_of"] = made_of
    results.tree(file, tree, caption)
    return tree


def measured(found: xr.Dataset) -> xr.Dataset:
    """Bias, variance, accuracy and loss by size, and each network's accuracy and loss."""
    label = found["label"]
    values = found["predictions"].astype(np.float64)
    split = curves(found.assign(predictions=values), label.values)
    return split.assign(
        model_accuracy=(values.argmax("class") == label).mean("point"),
        model_loss=-values.sel({"class": label}).mean("point"),
    )


def costs(
    name: str, task: Task, training: str, models: Sequence[Predictive], surrogate: Predictive, seed: int
) -> list[dict[str, str]]:
    dataset, eps = task.dataset(seed), task.rms[len(task.rms) // 2]
    lines = []
    for attack, sized in attacks_on(training, surrogate).items():
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


def figures(results: Results, name: str, sets: Mapping[str, Mapping[str, xr.Dataset]]) -> None:
    along = {
        training: {attack: curve.assign_coords(size=curve["mse"] ** 0.5).rename(size="rms") for attack, curve in of.items()}
        for training, of in sets.items()
    }
    own = {training: {attack: curve for attack, curve in of.items() if attack != ALL} for training, of in along.items()}
    results.figure(
        f"spread_{file_name(name)}",
        plots.model_spread(own),
        f"{name}: accuracy and loss against the injected perturbation, mean and standard deviation over networks.",
    )
    results.figure(
        f"split_{file_name(name)}",
        plots.bias_variance({training: of[ALL] for training, of in along.items()}),
        f"{name}: bias, variance and loss under one FGSM for all networks of a set, by training.",
    )


if __name__ == "__main__":
    cyclopts.run(main)
