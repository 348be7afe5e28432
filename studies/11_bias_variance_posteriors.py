"""Does averaging over a posterior lower the variance of the adversarial loss? Five models each by HMC, SVI, ensembles, SDR.

A model is one posterior predictive, the average of its draws; five of them per method make the bias and variance of the
paper on bias and variance under attack, with one SGD network each as the baseline. Models differ by their seed alone, on the
same points, or by their points (disjoint splits, as many points each). Two converged posteriors of the same points are one
and the same predictive: over seeds a Bayesian variance is Monte Carlo error, and only over splits it says how much
predictions depend on the data. Every model is attacked by itself; beside it stands the spread of the draws within one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import FGSM, PGD, Attack
from bayesrob.evaluation import Results
from bayesrob.evaluation.points import chosen_points
from bayesrob.inference import HMC, SDR, SGD, SVI, Ensemble, Inference, MCDropout, Replicates
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.report import render
from shared.model_sets import attacked, cell, curves, rows, spread
from shared.study_tools import (
    CHAINS,
    VERDICTS,
    Scale,
    chain_figures,
    chain_note,
    chain_row,
    chains_met,
    file_name,
    show,
    thinned,
    verdict_row,
    worst_case_row,
)

POSTERIORS = Path("results") / "posteriors"
"""Where the studies keep what they have trained, unless told otherwise."""

SINGLE = "PGD, one draw"
"""Each model is the first draw of its posterior: what averaging over the others is compared with."""

OVER = ("seeds", "splits")
"""What the models of a set differ by."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set.

    Args:
        data: name of the set. n_train: points of each model. hidden: layers of the network (ReLU).
        eps: l_inf radii. judged: the one at which an evaluation's checks look at the first model. points: attacked.
        draws: of each posterior, attacked and scored. steps: of PGD. models: of each method.
        epochs: of SDR, which has no default of its own for few points. hmc: the chains. given: epochs of the other four;
            None: their own 2,000 or 4,000 steps. apart: whether methods that take long train their models in processes.
    """

    data: str
    n_train: int
    hidden: tuple[int, ...]
    eps: tuple[float, ...]
    judged: float
    points: int
    draws: int
    steps: int
    epochs: int
    hmc: HMC
    models: int = 5
    given: int | None = None
    apart: bool = True

    def methods(self) -> dict[str, tuple[bool, Inference]]:
        """Whether it has a prior (variance 1 / fan in), and how it is trained."""
        sgd = SGD(epochs=self.given)
        return {
            "SGD": (False, sgd),
            "MAP": (True, sgd),
            "ensemble": (False, Ensemble(size=5, base=sgd)),
            "MC dropout": (False, MCDropout(epochs=self.given, num_draws=self.draws)),
            "SDR": (False, SDR(variance="learnable", epochs=self.epochs, num_draws=self.draws)),
            "SVI": (True, SVI(epochs=self.given, num_draws=self.draws)),
            "HMC": (True, self.hmc),
        }

    def fit(self, name: str, over: str, seed: int, folder: Path) -> list[Predictive]:
        """Five models, trained now or found: by seeds on the points of the first split, or on a split each."""
        prior, method = self.methods()[name]
        dataset = self.dataset(seed)
        net = br.nets.mlp(dataset.x_train[0].numel(), self.hidden, dataset.out_features, activation="relu", seed=seed)
        model = br.models.BayesianNetwork(net, prior_scale="fan_in") if prior else net
        long = self.apart and name in ("SDR", "SVI", "HMC")
        members = None if name in ("SGD", "MAP") else "processes" if long else "in_turn"
        many = Replicates(method, self.models, "disjoint_splits", members)
        if over == "seeds":
            dataset, many = many.part(dataset, seed, 0), dataclasses.replace(many, over="seeds")
        return many.fit(model, dataset, seed=seed, folder=folder)

    def dataset(self, seed: int) -> br.Dataset:
        """All the splits, and the test points of either reading."""
        return br.data.load(self.data, n_train=self.n_train * self.models, seed=seed)


def tasks(scale: Scale) -> dict[str, Task]:
    if scale == "smoke":
        hmc = HMC(num_samples=10, warmup=20, num_steps=5, num_chains=2)
        return {"half moons": Task("half_moons", 40, (8,), (0.1, 0.3), 0.1, 30, 20, 3, 30, hmc, 3, 100, False)}
    if scale == "small":
        hmc = HMC(num_samples=500, warmup=250, num_steps=30)
        mnist = HMC(num_samples=50, warmup=100, num_steps=30)
        return {
            "half moons": Task("half_moons", 200, (32, 32), (0.05, 0.1, 0.2, 0.3), 0.1, 300, 100, 20, 500, hmc),
            "MNIST": Task("mnist", 1000, (32,), (0.02, 0.05, 0.1, 0.2), 0.05, 200, 50, 10, 100, mnist),
        }
    hmc = HMC(num_samples=250, warmup=500, num_steps=100)
    return {
        "half moons": Task("half_moons", 1000, (128, 128), (0.05, 0.1, 0.2, 0.3), 0.1, 500, 250, 40, 250, hmc),
        "MNIST": Task("mnist", 10_000, (256, 256), (0.02, 0.05, 0.1, 0.2), 0.05, 500, 250, 40, 50, hmc),
    }


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) five models by each method, attack each, split the losses, compare.

    Parameters
    ----------
    scale
        smoke: seconds, on half moons; small: half moons and 1,000 MNIST images a model, minutes on one core; paper: sizes at
        which people publish, days.
    out
        Folder for results and report; default results/bias_variance_posteriors-SCALE.
    seed
        Fixes data, training, points, draws and attacks.
    posteriors
        Where trained models are kept (default results/posteriors).
    """
    out = Path("results") / f"bias_variance_posteriors-{scale}" if out is None else out
    settings: dict[str, Any] = {"scale": scale, "seed": seed}
    for name, task in tasks(scale).items():
        settings[name] = "; ".join(f"{key} {value}" for key, value in dataclasses.asdict(task).items())
    results = Results(out, "bias_variance_posteriors", (__doc__ or "").splitlines()[0], settings)
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in CAPTIONS}
    for name, task in tasks(scale).items():
        drawn: dict[str, dict[str, dict[str, xr.Dataset]]] = {over: {} for over in OVER}
        notes: list[str] = []
        for over in OVER:
            for method in task.methods():
                print(f"{name}/{method}, {over}: training, unless it is kept in {posteriors}", flush=True)
                models = task.fit(method, over, seed, posteriors)
                seconds = sum(model.info["seconds"] for model in models)
                print(f"{name}/{method}, {over}: {seconds:.0f} s of training; attacking", flush=True)
                dataset = task.dataset(seed)
                if method == "HMC":
                    found, note = judged_chains(results, f"{name}/HMC, {over}", models, dataset, task, seed)
                    tables["chains"] += found
                    notes.append(note)
                held = [attacked_draws(model, task.draws, i) for i, model in enumerate(models)]
                split = under_attack(held, dataset, task, seed)
                results.tree(
                    file_name(f"{name}-{method}-{over}"),
                    xr.DataTree.from_dict({file_name(look): found for look, found in split.items()}),
                    f"{name}/{method}, {over}: bias, variance, loss, spread of the draws",
                )
                drawn[over][method] = split
                of = {"data": name, "models differ by": over, "method": method}
                for look, found in split.items():
                    tables["models"] += rows({**of, "attack": look}, found, SHOWN)
                if over == "seeds":
                    tables["worst"].append({"data": name, "method": method, **checked(held[0], dataset, task, seed)})
                for key, lines in tables.items():  # anew after each: an interrupted run leaves what it had
                    if lines:
                        results.table(key, pd.DataFrame(lines), CAPTIONS[key])
            under_pgd = {method: split["PGD"] for method, split in drawn[over].items()}
            results.figure(f"{file_name(name)}_{over}", plots.bias_variance(under_pgd), f"{name}, {over}: {FIGURE}")
        for note in [*notes, *verdicts(name, drawn)]:
            results.note(note)
            print(note, flush=True)
    for key in ("models", "worst"):
        show(out / f"{key}.csv")
    print(f"report: {render(results.finish())}")


SHOWN = ("mean_bias", "mean_variance", "mean_loss", "accuracy", "loss_spread", "draw_variance")
CAPTIONS = {
    "models": (
        "Cross-entropy of five posterior predictives, each the average of its draws and attacked by itself ('on the set': "
        "one perturbation for all; 'one draw': the first of each posterior alone): bias, variance across models, loss, "
        "accuracy, with 95% bootstrap intervals over models and points (of five models: too short). 'Loss spread': standard "
        "deviation over models of the mean loss. 'Draw variance': the variance within a posterior, across its draws, mean "
        "over models."
    ),
    "worst": f"The first model at one radius: accuracies with 95% Wilson intervals, verdicts. {VERDICTS}",
    "chains": CHAINS,
}
FIGURE = "bias, variance and loss under PGD on each model, 95% bootstrap intervals."


def attacked_draws(model: Predictive, draws: int, seed: int) -> Predictive:
    """Held: so many drawn once, or so many of all chains; what is attacked is what is scored."""
    if isinstance(model, HeldDraws):
        return thinned(model, draws)
    return model.freeze(draws, seed)


def looks(task: Task) -> dict[str, tuple[Callable[[float], Attack], bool]]:
    """Attacks of a radius on the loss that is scored, and whether each model has its own."""

    def fgsm(eps: float) -> Attack:
        return FGSM(eps=eps, objective="predictive_loss")

    def pgd(eps: float) -> Attack:
        return PGD(eps=eps, steps=task.steps, objective="predictive_loss")

    return {"FGSM": (fgsm, True), "PGD": (pgd, True), "FGSM on the set": (fgsm, False)}


def under_attack(models: Sequence[Predictive], dataset: br.Dataset, task: Task, seed: int) -> dict[str, xr.Dataset]:
    """Curves by attack, with the draws' own variance, at what each model's attack made."""
    _, x, y = chosen_points(dataset, task.points, seed)
    sizes = (0.0, *task.eps)
    found = {}
    if models[0].num_draws > 1:  # the same posteriors without their averages
        single = attacked([model[:1] for model in models], looks(task)["PGD"][0], sizes, x, y, own=True, seed=seed)
        found[SINGLE] = curves(single, y.numpy(), seed).assign(draw_variance=("eps", np.full(len(sizes), np.nan)))
    for look, (attack, own) in looks(task).items():
        at = attacked(models, attack, sizes, x, y, own=own, seed=seed)
        within = spread(models, at, x, y) if own else np.full(at.sizes["eps"], np.nan)
        found[look] = curves(at, y.numpy(), seed).assign(draw_variance=("eps", within))
    return found


def checked(model: Predictive, dataset: br.Dataset, task: Task, seed: int) -> dict[str, str]:
    """Worst case and verdicts of one model; the margin finds what a saturated loss hides."""
    eps = task.judged
    attacks = {look: attack(eps) for look, (attack, own) in looks(task).items() if own}
    attacks["PGD margin"] = PGD(eps=eps, steps=2 * task.steps, objective="margin_per_draw")
    tree = br.evaluate(model, dataset, attacks, num_points=task.points, seed=seed)
    return {"eps": f"{eps:g}", **worst_case_row(tree), **{f"checks, {k}": v for k, v in verdict_row(tree).items()}}


def judged_chains(
    results: Results, title: str, models: Sequence[Predictive], dataset: br.Dataset, task: Task, seed: int
) -> tuple[list[dict[str, str]], str]:
    """Every model's chains in function space; figures of the first, a note of all."""
    trees = [br.evaluate(model, dataset, attacks={}, num_points=task.points, seed=seed) for model in models]
    chain_figures(results, title, trees[0], "_" + file_name(title))
    met = sum(chains_met(tree) for tree in trees)
    note = f"{title}: chains of {met} of {len(trees)} posteriors agree everywhere. The first: {chain_note(title, trees[0])}"
    return [chain_row(f"{title}, {i + 1}", tree) for i, tree in enumerate(trees)], note


def verdicts(name: str, drawn: Mapping[str, Mapping[str, Mapping[str, xr.Dataset]]]) -> list[str]:
    """Is a method's variance below the single network's, that of its own draws taken singly, that of its prior's maximum?"""
    texts = []
    for over, methods in drawn.items():
        for method, split in methods.items():
            if method == "SGD":
                continue
            others = {"SGD's": methods["SGD"]["PGD"]} | ({"one draw's": split[SINGLE]} if SINGLE in split else {})
            if method in ("SVI", "HMC"):  # the same prior, nothing averaged
                others["MAP's"] = methods["MAP"]["PGD"]
            for whose, other in others.items():
                texts.append(f"{name}, {over}, PGD: variance of {method} beside {whose}: {beside(split['PGD'], other)}.")
    return texts


def beside(one: xr.Dataset, other: xr.Dataset) -> str:
    """At every eps; sure where the intervals do not overlap."""
    parts = []
    for eps in one["eps"].values.tolist():
        here, there = one.sel(eps=eps), other.sel(eps=eps)
        (low, high), (least, most) = (at["mean_variance_interval"].values for at in (here, there))
        verdict = "lower" if high < least else "higher" if low > most else "not told apart"
        parts.append(
            f"eps {eps:g}: {cell(here['mean_variance'])} and {cell(there['mean_variance'])}, {verdict} (loss "
            f"{cell(here['mean_loss'])} and {cell(there['mean_loss'])})"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    cyclopts.run(main)
