"""Every attack of the registry on SGD, HMC and SVI: what is left, how far they had to go, and what that cost.

Attacks of fixed radius in l_inf and l_2, smallest perturbations in l_inf, l_2 and l_0, AutoAttack; MNIST and half moons. The
worst case of all attacks in one ball, point by point, is what a robust accuracy should be. Where an attack without gradients
leaves less than those with gradients, these are masked (Carlini et al. 2019). Attacks and scores use the same draws,
held.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import Attack
from bayesrob.evaluation import transfer_matrix
from bayesrob.inference import HMC, SGD, SVI, Inference, fit_once
from shared.chains import CHAINS, chain_figures, chain_note, chain_row
from shared.gauntlet import BUDGETS, Budget, described, gauntlet, merged
from shared.gauntlet_notes import is_minimal, members_of, notes, sees, transfer_notes
from shared.study import POSTERIORS, Scale, Study
from shared.tables import VERDICTS, estimate, file_name, verdict_row


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set, three posteriors of one architecture, and the balls.

    Args:
        data: name of the data set.
        n_train: number of training points, None for all.
        hidden: units of each hidden layer.
        num_points: number of test points attacked.
        eps: radius of the ball by norm.
        methods: how the posteriors are trained, by name.
        budget: settings of attacks that this data set needs.
    """

    data: str
    n_train: int | None
    hidden: tuple[int, ...]
    num_points: int
    eps: dict[str, float]
    methods: dict[str, Inference]
    budget: Budget = dataclasses.field(default_factory=dict)

    def load(self, seed: int) -> br.Dataset:
        """The data set."""
        return br.data.load(self.data, n_train=self.n_train, seed=seed)

    def fit(self, method: Inference, dataset: br.Dataset, folder: Path, seed: int) -> br.predictive.Predictive:
        """The posterior, trained now or loaded, with held draws: as many of SVI as of HMC."""
        net = br.nets.mlp(dataset.x_train[0].numel(), self.hidden, dataset.out_features, activation="leaky_relu", seed=seed)
        model = net if isinstance(method, SGD) else br.models.BayesianNetwork(net, prior_scale=1.0)
        return fit_once(method, model, dataset, folder, seed).freeze(seed=seed)


def cases(scale: Scale) -> dict[str, Case]:
    """The data sets; digits stand in for MNIST at smoke scale."""

    def methods(num_samples: int, warmup: int, num_steps: int, num_chains: int = 4, **epochs: Any) -> dict[str, Inference]:
        hmc = HMC(num_samples=num_samples, warmup=warmup, num_steps=num_steps, num_chains=num_chains)
        return {"SGD": SGD(**epochs), "HMC": hmc, "SVI": SVI(num_draws=num_samples * num_chains, **epochs)}

    # Images of [0, 1] are mostly black: with p > 0 LocalSearch prefers pixels that it cannot change.
    image, plane = {"LocalSearch": {"p": -0.25}}, {"JSMA": {"gamma": 1.0}}
    moons = {"l_inf": 0.1, "l_2": 0.1}
    if scale == "smoke":
        quick = methods(4, 15, 5, num_chains=2, epochs=100)
        return {
            "digits": Case("digits", 200, (16,), 20, {"l_inf": 0.1, "l_2": 0.5}, quick, image),
            "half moons": Case("half_moons", 1000, (8,), 20, moons, quick, plane),
        }
    if scale == "small":
        return {
            "MNIST": Case("mnist", 1000, (128,), 100, {"l_inf": 0.1, "l_2": 1.5}, methods(8, 60, 50), image),
            "half moons": Case("half_moons", 1000, (32, 32), 100, moons, methods(25, 100, 30), plane),
        }
    return {
        "MNIST": Case("mnist", None, (512, 512), 500, {"l_inf": 0.1, "l_2": 1.5}, methods(25, 100, 50), image),
        "half moons": Case("half_moons", 15000, (32, 32), 500, moons, methods(63, 200, 50), plane),
    }


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) the posteriors, run every attack that fits, compare.

    Args:
        scale: smoke: seconds, on digits and half moons; small: 100 points and reduced budgets, minutes on two cores; paper:
            500 points and the attacks' own defaults, hours.
        out: Folder for results and report; default results/attack_gauntlet-SCALE.
        seed: Fixes data, training, points, draws and attacks.
        posteriors: Folder of trained posteriors (default results/posteriors).
    """
    settings = {"prior": "N(0, 1) on every weight and bias"}
    for name, case in cases(scale).items():
        settings[name] = f"{case.n_train or 'all'} training points, network {case.hidden}, {case.num_points} test points"
    with Study(
        __file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS,
        printed=("accuracy", "smallest", "cost"),
    ) as study:  # fmt: skip
        for name, case in cases(scale).items():
            dataset, predictives = case.load(seed), {}
            for method_name, method in case.methods.items():
                study.training(f"{name}/{method_name}", posteriors)
                predictives[method_name] = case.fit(method, dataset, posteriors, seed)
            attacks, left_out = gauntlet(case.eps, merged(BUDGETS[scale], case.budget), predictives)
            study.note(*(f"{name}: {attack} is left out. {reason}" for attack, reason in left_out.items()))
            study.add("settings", settings_rows(name, attacks))
            study.add("posteriors", posterior_rows(name, case, predictives))
            trees = attacked(study, name, predictives, dataset, attacks, num_points=case.num_points, seed=seed)
            study.add("accuracy", accuracy_rows(name, trees))
            study.add("verdicts", verdict_rows(name, trees))
            study.add("smallest", smallest_rows(name, trees))
            study.add("cost", cost_rows(name, trees))
            study.figure(f"threats_{file_name(name)}", plots.threats(trees), f"{name}: {THREATS}")
            study.figure(f"curves_{file_name(name)}", plots.robustness_curves(trees), f"{name}: {CURVES}")
            attack = br.attacks.PGD(eps=case.eps["l_inf"], objective="predictive_loss")
            matrix = transfer_matrix(predictives, dataset, attack, num_points=case.num_points, seed=seed)
            transfer = xr.DataTree.from_dict({"transfer": matrix})
            study.tree(f"transfer_{file_name(name)}", transfer, f"transfer among the posteriors of {name}")
            study.figure(f"transfer_{file_name(name)}", plots.transfer(transfer), f"{name}: {TRANSFER}")
            study.note(*notes(name, trees), *transfer_notes(name, matrix))


def attacked(
    study: Study,
    data: str,
    predictives: Mapping[str, br.predictive.Predictive],
    dataset: br.Dataset,
    attacks: Mapping[str, Attack],
    *,
    num_points: int,
    seed: int,
) -> dict[str, xr.DataTree]:
    """The evaluation of every posterior of one data set under all attacks; chains are judged too."""
    trees: dict[str, xr.DataTree] = {}
    for method, predictive in predictives.items():
        title = f"{data}/{method}"
        study.say(f"{title}: {predictive.info['seconds']:.0f} s of training; {len(attacks)} attacks")
        tree = trees[method] = br.evaluate(predictive, dataset, attacks, num_points=num_points, seed=seed)
        study.tree(file_name(title), tree, f"evaluation of {title}")
        if "diagnostics" in tree.children:
            study.add("chains", [chain_row(title, tree)])
            study.note(chain_note(title, tree))
            chain_figures(study, title, tree, "_" + file_name(title))
    return trees


CAPTIONS = {
    "accuracy": "Accuracy under attacks of fixed radius, over all test points, also those wrong before, with 95% Wilson "
    "intervals; the last row of each threat model counts a point only if none of them broke it, nor any other attack inside "
    "the ball. Targeted attacks count like the others: the true class must be left.",
    "verdicts": VERDICTS,
    "smallest": "Median of the smallest perturbation that an attack found, over the points that were right before, in its "
    "own norm, with an interval of order statistics (at least 95%); inf where it failed at half of them. Beside it the "
    "accuracy that it left.",
    "cost": "Posterior predictions and gradients asked for at a point, on average, and wall-clock seconds of all points.",
    "posteriors": "What was trained; the prior of HMC and SVI is N(0, 1).",
    "settings": "Each attack as it was run.",
    "chains": CHAINS,
}
THREATS = "accuracy with 95% intervals under each attack, and under all of them image by image."
CURVES = "accuracy against eps by the smallest perturbations found (dotted: each attack alone; squares: fixed radius)."
TRANSFER = "accuracy of the column's posterior on what PGD (averaged prediction's loss, l_inf) found on the row's."


# ---- tables --------------------------------------------------------------------------------------------------------------


def accuracy_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A row for each attack of fixed radius, and for the worst case of all attacks in each ball."""
    scores = {name: tree["robustness"].to_dataset().transpose(..., "bound") for name, tree in trees.items()}
    first = next(iter(trees.values()))

    def row(threat: str, attack: str, what: str, variable: str, where: dict[str, str]) -> dict[str, str]:
        cells = {name: estimate(result.sel(where), variable) for name, result in scores.items()}
        return {"data": data, "threat": threat, "attack": attack, "sees": what, **cells}

    rows = [row("", "none", "", "accuracy", {})]
    for threat, attacks in members_of(first).items():
        rows += [row(threat, name, sees(first, name), "adversarial_accuracy", {"attack": name}) for name in attacks]
        rows.append(row(threat, "all, point by point", "", "worst_case_accuracy", {"threat": threat}))
    return rows


def verdict_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A row for each attack, for the worst case in each ball, and for the posterior itself."""
    said = {name: verdict_row(tree) for name, tree in trees.items()}
    figures = next(iter(said.values()))
    return [{"data": data, "figure": figure, **{name: row[figure] for name, row in said.items()}} for figure in figures]


def smallest_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A row for each attack that searches for the smallest perturbation."""
    scores = {name: tree["robustness"].to_dataset().transpose(..., "bound") for name, tree in trees.items()}
    first, rows = next(iter(trees.values())), []
    for attack in json.loads(first.attrs["attacks"]):
        if not is_minimal(first, attack):
            continue
        rows.append({"data": data, "attack": attack, "sees": sees(first, attack)})
        for name, result in scores.items():
            at = result.sel(attack=attack)
            rows[-1][name] = estimate(at, "median_perturbation")
            rows[-1][f"{name} accuracy"] = estimate(at, "adversarial_accuracy")
    return rows


def cost_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A row for each attack: queries, gradients and seconds."""
    rows = []
    for attack in json.loads(next(iter(trees.values())).attrs["attacks"]):
        rows.append({"data": data, "attack": attack})
        for name, tree in trees.items():
            at = tree["robustness"].to_dataset().sel(attack=attack)
            rows[-1][f"{name} queries"] = f"{float(at['queries']):.0f}"
            rows[-1][f"{name} gradients"] = f"{float(at['gradients']):.0f}"
            rows[-1][f"{name} seconds"] = f"{float(at['seconds']):.1f}"
    return rows


def settings_rows(data: str, attacks: Mapping[str, Attack]) -> list[dict[str, str]]:
    """A row for each attack: the settings with which it ran."""
    return [{"data": data, "attack": name, "settings": described(attack.settings())} for name, attack in attacks.items()]


def posterior_rows(data: str, case: Case, predictives: Mapping[str, br.predictive.Predictive]) -> list[dict[str, str]]:
    """A row for each posterior: how it was trained."""
    return [
        {
            "data": data,
            "method": name,
            "training points": f"{predictive.info['dataset']['n_train']:,}",
            "network": f"mlp {'-'.join(map(str, case.hidden))}, leaky_relu",
            "draws": str(predictive.num_draws),
            "training seconds": f"{predictive.info['seconds']:.0f}",
        }
        for name, predictive in predictives.items()
    ]


if __name__ == "__main__":
    cyclopts.run(main)
