"""Does averaging over a posterior lower the variance of the adversarial loss? Five models each by HMC, SVI, ensembles, SDR.

A model is one posterior predictive, the average of its draws; five of them per method make the bias and variance of
Aboutalebi et al. 2020, with one SGD network each as the baseline. Models differ by their seed alone, on the
same points, or by their points (disjoint splits, as many points each). Two converged posteriors of the same points are one
and the same predictive: over seeds a Bayesian variance is Monte Carlo error, and only over splits it says how much
predictions depend on the data. Every model is attacked by itself; beside it stands the spread of the draws within one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cyclopts
import numpy as np
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import FGSM, PGD, Attack
from bayesrob.evaluation import chosen_points
from bayesrob.inference import HMC, SDR, SGD, SVI, Ensemble, Inference, MCDropout, Replicates
from bayesrob.predictive import HeldDraws, Predictive
from shared.chains import CHAINS, chain_figures, chain_note, chain_row, chains_met, thinned
from shared.model_sets import attacked, cell, curves, rows, spread
from shared.study import POSTERIORS, Scale, Study
from shared.tables import VERDICTS, file_name, verdict_row, worst_case_row

SINGLE = "PGD, one draw"
"""The attack on the first draw of each posterior alone, with which averaging over all draws is compared."""

OVER = ("seeds", "splits")
"""What the models of a set differ by: their seed alone, or their training points."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set and the sizes of its posteriors.

    Args:
        data: name of the data set.
        n_train: number of training points of each model.
        hidden: units of each hidden layer of the network (ReLU).
        eps: radii of the l_inf balls.
        judged: the radius at which the checks of an evaluation judge the first model.
        points: number of test points attacked.
        draws: number of draws of each posterior that are attacked and scored.
        steps: steps of PGD.
        epochs: epochs of SDR, which has no default of its own for few points.
        hmc: the sampler of the chains.
        models: number of models of each method.
        given: epochs of the other four methods; None leaves them their own 2,000 or 4,000 steps.
        apart: whether methods that take long train their models in processes of their own.
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
        """By name, whether the method has a prior (variance 1 / fan in), and how it is trained."""
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
        """The models of one method, trained now or loaded: by seeds on the points of the first split, or on a split each."""
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
    """The data sets of one scale."""
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

    Args:
        scale: smoke: seconds, on half moons; small: half moons and 1,000 MNIST images a model, minutes on one core; paper:
            sizes at which people publish, days.
        out: Folder for results and report; default results/bias_variance_posteriors-SCALE.
        seed: Fixes data, training, points, draws and attacks.
        posteriors: Folder of trained models (default results/posteriors).
    """
    settings = {
        name: "; ".join(f"{key} {value}" for key, value in dataclasses.asdict(task).items())
        for name, task in tasks(scale).items()
    }
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS, printed=("models", "worst")
    ) as study:
        for name, task in tasks(scale).items():
            drawn: dict[str, dict[str, dict[str, xr.Dataset]]] = {over: {} for over in OVER}
            notes: list[str] = []
            for over, method in itertools.product(OVER, task.methods()):
                study.training(f"{name}/{method}, {over}", posteriors)
                models = task.fit(method, over, seed, posteriors)
                seconds = sum(model.info["seconds"] for model in models)
                study.say(f"{name}/{method}, {over}: {seconds:.0f} s of training; attacking")
                if method == "HMC":
                    notes.append(judged_chains(study, f"{name}/HMC, {over}", models, task, seed))
                where = {"data": name, "models differ by": over, "method": method}
                drawn[over][method] = one_set(study, where, models, task, seed)
                if list(drawn[over]) == list(task.methods()):
                    under_pgd = {method: split["PGD"] for method, split in drawn[over].items()}
                    study.figure(f"{file_name(name)}_{over}", plots.bias_variance(under_pgd), f"{name}, {over}: {FIGURE}")
            study.note(*notes, *verdicts(name, drawn))


def one_set(
    study: Study, where: dict[str, str], models: Sequence[Predictive], task: Task, seed: int
) -> dict[str, xr.Dataset]:
    """Attack the models of one method, save their curves by attack, and table them."""
    name, over, method = where.values()
    dataset = task.dataset(seed)
    held = [attacked_draws(model, task.draws, i) for i, model in enumerate(models)]
    splits = under_attack(held, dataset, task, seed)
    study.tree(
        file_name(f"{name}-{method}-{over}"),
        xr.DataTree.from_dict({file_name(label): split for label, split in splits.items()}),
        f"{name}/{method}, {over}: bias, variance, loss, spread of the draws",
    )
    for label, split in splits.items():
        study.add("models", rows({**where, "attack": label}, split, SHOWN))
    if over == "seeds":
        study.add("worst", [{"data": name, "method": method, **checked(held[0], dataset, task, seed)}])
    return splits


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
    """Held draws, drawn once or thinned from all chains: what is attacked is also what is scored."""
    if isinstance(model, HeldDraws):
        return thinned(model, draws)
    return model.freeze(draws, seed)


def attacks_on(task: Task) -> dict[str, tuple[Callable[[float], Attack], bool]]:
    """The attacks of a radius on the loss that is scored, and whether each model is attacked by itself."""

    def fgsm(eps: float) -> Attack:
        return FGSM(eps=eps, objective="predictive_loss")

    def pgd(eps: float) -> Attack:
        return PGD(eps=eps, steps=task.steps, objective="predictive_loss")

    return {"FGSM": (fgsm, True), "PGD": (pgd, True), "FGSM on the set": (fgsm, False)}


def under_attack(models: Sequence[Predictive], dataset: br.Dataset, task: Task, seed: int) -> dict[str, xr.Dataset]:
    """The curves by attack, with the variance of the draws within each model at its own attacked points."""
    _, x, y = chosen_points(dataset, task.points, seed)
    sizes = (0.0, *task.eps)
    splits = {}
    if models[0].num_draws > 1:  # the same posteriors without their averages
        single = attacked([model[:1] for model in models], attacks_on(task)["PGD"][0], sizes, x, y, own=True, seed=seed)
        splits[SINGLE] = curves(single, y.numpy(), seed).assign(draw_variance=("eps", np.full(len(sizes), np.nan)))
    for label, (attack, own) in attacks_on(task).items():
        at = attacked(models, attack, sizes, x, y, own=own, seed=seed)
        within = spread(models, at, x, y) if own else np.full(at.sizes["eps"], np.nan)
        splits[label] = curves(at, y.numpy(), seed).assign(draw_variance=("eps", within))
    return splits


def checked(model: Predictive, dataset: br.Dataset, task: Task, seed: int) -> dict[str, str]:
    """The worst case and the verdicts of one model; the margin finds what a saturated loss hides."""
    eps = task.judged
    attacks = {label: attack(eps) for label, (attack, own) in attacks_on(task).items() if own}
    attacks["PGD margin"] = PGD(eps=eps, steps=2 * task.steps, objective="margin_per_draw")
    tree = br.evaluate(model, dataset, attacks, num_points=task.points, seed=seed)
    return {"eps": f"{eps:g}", **worst_case_row(tree), **{f"checks, {k}": v for k, v in verdict_row(tree).items()}}


def judged_chains(study: Study, title: str, models: Sequence[Predictive], task: Task, seed: int) -> str:
    """Table every model's chains in function space and draw those of the first; returns a note on all."""
    dataset = task.dataset(seed)
    trees = [br.evaluate(model, dataset, attacks={}, num_points=task.points, seed=seed) for model in models]
    study.add("chains", [chain_row(f"{title}, {i + 1}", tree) for i, tree in enumerate(trees)])
    chain_figures(study, title, trees[0], "_" + file_name(title))
    met = sum(chains_met(tree) for tree in trees)
    return f"{title}: chains of {met} of {len(trees)} posteriors agree everywhere. The first: {chain_note(title, trees[0])}"


def verdicts(name: str, drawn: Mapping[str, Mapping[str, Mapping[str, xr.Dataset]]]) -> list[str]:
    """Compares a method's variance with that of single networks, of its own single draws and of its prior's maximum."""
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
    """Both variances at every eps; one is called lower or higher where the intervals do not overlap."""
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
