"""Every attack of the registry on SGD, HMC and SVI: what is left, how far they had to go, and what that cost.

Attacks of fixed radius in l_inf and l_2, smallest perturbations in l_inf, l_2 and l_0, AutoAttack; MNIST and half moons. The
worst case of all attacks in one ball, point by point, is what a robust accuracy should be. Where an attack without gradients
leaves less than those with gradients, these are masked (Carlini et al. 2019). Attacks and scores look at the same draws,
held.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import pandas as pd
import xarray as xr

import bayesrob as br
from bayesrob import plots
from bayesrob.attacks import ATTACKS, Attack
from bayesrob.errors import InputError
from bayesrob.evaluation import Results, transfer_matrix
from bayesrob.inference import HMC, SGD, SVI, Inference, fit_once
from bayesrob.report import render
from shared import carbone_2020
from shared.study_tools import (
    CHAINS,
    VERDICTS,
    Scale,
    chain_figures,
    chain_note,
    chain_row,
    file_name,
    show,
    verdict_row,
    with_interval,
)

Budget = Mapping[str, dict[str, Any]]
"""Settings by the name of an attack; what is not named has its defaults. An ensemble's members have the same budgets."""

BUDGETS: dict[Scale, Budget] = {
    "smoke": {
        "APGD": {"steps": 4},
        "Boundary": {"steps": 20},
        "CarliniWagner": {"searches": 3, "steps": 20, "lr": 0.1, "initial_c": 1.0},
        "DeepFool": {"steps": 5},
        "FAB": {"steps": 4},
        "LocalSearch": {"rounds": 2, "half_side": 1},
        "NES": {"steps": 3, "samples": 10},
        "PGD": {"steps": 5},
        "RandomSearch": {"samples": 20},
        "SinglePixel": {"tries": 20},
        "SmallestFGSM": {"grid": 30},
        "Square": {"queries": 30},
    },
    "small": {
        "APGD": {"steps": 50},
        "Boundary": {"steps": 2000},
        "CarliniWagner": {"searches": 5, "steps": 200, "lr": 0.05, "initial_c": 0.1},
        "FAB": {"steps": 50},
        "LocalSearch": {"rounds": 20, "half_side": 2},
        "NES": {"steps": 40},
        "SmallestFGSM": {"grid": 500},
        "Square": {"queries": 2000},
    },
    "paper": {},
}

COSTLY = ("AutoAttack", "NES", "Square")
"""Of fixed radius, and run in l_inf alone: their queries are most of the time."""

MASKED = 0.002
"""An attack that sees less and leaves less, by more than this share of the points, says that gradients are masked."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set, three posteriors of one architecture, and the balls."""

    data: str
    n_train: int | None
    hidden: tuple[int, ...]
    num_points: int
    eps: dict[str, float]
    methods: dict[str, Inference]
    budget: Budget = dataclasses.field(default_factory=dict)

    def load(self, seed: int) -> br.Dataset:
        return br.data.load(self.data, n_train=self.n_train, seed=seed)

    def fit(self, method: Inference, dataset: br.Dataset, folder: Path, seed: int) -> br.predictive.Predictive:
        """Trained now or loaded; its draws held, as many of SVI as of HMC."""
        net = br.nets.mlp(dataset.x_train[0].numel(), self.hidden, dataset.out_features, activation="leaky_relu", seed=seed)
        model = net if isinstance(method, SGD) else br.models.BayesianNetwork(net, prior_scale=1.0)
        return fit_once(method, model, dataset, folder, seed).freeze(seed=seed)


def cases(scale: Scale) -> dict[str, Case]:
    """The data sets; digits stand in for MNIST at smoke scale."""

    def methods(num_samples: int, warmup: int, num_steps: int, num_chains: int = 4, **epochs: Any) -> dict[str, Inference]:
        hmc = HMC(num_samples=num_samples, warmup=warmup, num_steps=num_steps, num_chains=num_chains)
        return {"SGD": SGD(**epochs), "HMC": hmc, "SVI": SVI(num_draws=num_samples * num_chains, **epochs)}

    # Images of [0, 1] are mostly black: with p > 0 LocalSearch looks away from the pixels that it can change.
    image, plane = {"LocalSearch": {"p": -0.25}}, {"JSMA": {"gamma": 1.0}}
    moons = {"l_inf": 0.1, "l_2": 0.1}
    if scale == "smoke":
        few = methods(4, 15, 5, num_chains=2, epochs=100)
        return {
            "digits": Case("digits", 200, (16,), 20, {"l_inf": 0.1, "l_2": 0.5}, few, image),
            "half moons": Case("half_moons", 1000, (8,), 20, moons, few, plane),
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


def main(
    *, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = carbone_2020.POSTERIORS
) -> None:
    """Train (or load) the posteriors, run every attack that fits, compare.

    Parameters
    ----------
    scale
        smoke: seconds, on digits and half moons; small: 100 points and reduced budgets, minutes on two cores; paper: 500
        points and the attacks' own defaults, hours.
    out
        Folder for results and report; default results/attack_gauntlet-SCALE.
    seed
        Fixes data, training, points, draws and attacks.
    posteriors
        Where trained posteriors are kept (default results/posteriors).
    """
    out = Path("results") / f"attack_gauntlet-{scale}" if out is None else out
    settings: dict[str, Any] = {"scale": scale, "seed": seed, "prior": "N(0, 1) on every weight and bias"}
    for name, case in cases(scale).items():
        settings[name] = f"{case.n_train or 'all'} training points, network {case.hidden}, {case.num_points} test points"
    results = Results(out, "attack_gauntlet", (__doc__ or "").splitlines()[0], settings)
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in CAPTIONS}
    for name, case in cases(scale).items():
        dataset, predictives = case.load(seed), {}
        for method_name, method in case.methods.items():
            print(f"{name}/{method_name}: training, unless it is kept in {posteriors}", flush=True)
            predictives[method_name] = case.fit(method, dataset, posteriors, seed)
        attacks, left_out = gauntlet(case.eps, merged(BUDGETS[scale], case.budget), predictives)
        for attack, reason in left_out.items():
            results.note(f"{name}: {attack} is left out. {reason}")
            print(f"{name}: {attack} is left out. {reason}", flush=True)
        tables["settings"] += settings_rows(name, attacks)
        tables["posteriors"] += posterior_rows(name, case, predictives)
        trees = {}
        for method_name, predictive in predictives.items():
            print(
                f"{name}/{method_name}: {predictive.info['seconds']:.0f} s of training; {len(attacks)} attacks", flush=True
            )
            tree = br.evaluate(predictive, dataset, attacks, num_points=case.num_points, seed=seed)
            trees[method_name] = tree
            results.tree(file_name(f"{name}/{method_name}"), tree, f"evaluation of {name}/{method_name}")
            if "diagnostics" in tree.children:
                tables["chains"].append(chain_row(f"{name}/{method_name}", tree))
                results.note(chain_note(f"{name}/{method_name}", tree))
                chain_figures(results, f"{name}/{method_name}", tree, "_" + file_name(f"{name}/{method_name}"))
        tables["accuracy"] += accuracy_rows(name, trees)
        tables["verdicts"] += verdict_rows(name, trees)
        tables["smallest"] += smallest_rows(name, trees)
        tables["cost"] += cost_rows(name, trees)
        for table, caption in CAPTIONS.items():  # written anew after every data set: an interrupted run leaves what it had
            if tables[table]:
                results.table(table, pd.DataFrame(tables[table]), caption)
        results.figure(f"threats_{file_name(name)}", plots.threats(trees), f"{name}: {THREATS}")
        results.figure(f"curves_{file_name(name)}", plots.robustness_curves(trees), f"{name}: {CURVES}")
        attack = br.attacks.PGD(eps=case.eps["l_inf"], objective="predictive_loss")
        matrix = transfer_matrix(predictives, dataset, attack, num_points=case.num_points, seed=seed)
        transfer = xr.DataTree.from_dict({"transfer": matrix})
        results.tree(f"transfer_{file_name(name)}", transfer, f"transfer among the posteriors of {name}")
        results.figure(f"transfer_{file_name(name)}", plots.transfer(transfer), f"{name}: {TRANSFER}")
        for note in [*notes(name, trees), *transfer_notes(name, matrix)]:
            results.note(note)
            print(note, flush=True)
    for table in ("accuracy", "smallest", "cost"):
        show(out / f"{table}.csv")
    print(f"report: {render(results.finish())}")


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


def merged(*budgets: Budget) -> Budget:
    found: dict[str, dict[str, Any]] = {}
    for budget in budgets:
        for name, settings in budget.items():
            found[name] = {**found.get(name, {}), **settings}
    return found


def gauntlet(
    eps: Mapping[str, float], budget: Budget, predictives: Mapping[str, br.predictive.Predictive]
) -> tuple[dict[str, Attack], dict[str, str]]:
    """Every attack of the registry in every norm that fits, by name, and why others are left out."""
    attacks: dict[str, Attack] = {}
    left_out: dict[str, str] = {}
    for name, attack in ATTACKS.items():
        fields = {field.name for field in dataclasses.fields(attack)}
        if "norm" not in fields:
            left_out[name] = "It has no norm of its own to be judged in."
            continue
        radius = "eps" in fields and not attack.minimal
        norms = [norm for norm in ("l_inf", "l_2", "l_0") if norm in attack.norms and not (radius and norm not in eps)]
        for norm in norms[:1] if name in COSTLY else norms:
            ball = {"norm": norm, "eps": eps[norm]} if radius else {"norm": norm}
            try:
                made = attack(**{**budget.get(name, {}), **ball})
                members = getattr(made, "members", None)
                if members:
                    smaller = tuple(dataclasses.replace(one, **budget.get(type(one).__name__, {})) for one in members)
                    made = dataclasses.replace(made, attacks=smaller)  # pyright: ignore[reportCallIssue]
                for predictive in predictives.values():
                    made.check_fits(predictive)
            except InputError as error:
                left_out[f"{name} {norm}"] = str(error)
                continue
            attacks[f"{name} {norm}"] = made
    # Which average over draws an attack sees makes a difference that its other settings do not.
    for norm, radius in eps.items():
        for objective in ("predictive_loss", "margin", "margin_per_draw"):
            ball: Any = {"eps": radius, "norm": norm}
            pgd = br.attacks.PGD(**ball, objective=objective, **budget.get("PGD", {}))
            attacks[f"PGD {objective} {norm}"] = pgd
    for name in ("DeepFool", "FAB"):
        for norm in ("l_inf", "l_2"):
            attacks[f"{name} logits {norm}"] = dataclasses.replace(attacks[f"{name} {norm}"], average="logits")  # pyright: ignore[reportCallIssue]
    per_draw: Any = {"objective": "margin_per_draw"}
    attacks["CarliniWagner margin_per_draw l_2"] = dataclasses.replace(attacks["CarliniWagner l_2"], **per_draw)
    return attacks, left_out


# ---- tables --------------------------------------------------------------------------------------------------------------


def members_of(tree: xr.DataTree) -> dict[str, list[str]]:
    """The attacks of fixed radius by their threat model."""
    settings, scores = json.loads(tree.attrs["attacks"]), tree["robustness"].to_dataset()
    balls = {
        threat: (scores["norm"].sel(threat=threat).item(), scores["eps"].sel(threat=threat).item())
        for threat in scores["threat"].values.tolist()
    }
    fixed = [name for name in settings if not looks_for_little(tree, name)]
    return {
        threat: [name for name in fixed if (settings[name].get("norm"), settings[name].get("eps")) == ball]
        for threat, ball in balls.items()
    }


def looks_for_little(tree: xr.DataTree, name: str) -> bool:
    return not bool(tree["points"]["smallest_perturbation"].sel(attack=name).isnull().any())


def sees(tree: xr.DataTree, name: str) -> str:
    """What the attack sees, or "ensemble"."""
    attack = ATTACKS[json.loads(tree.attrs["attacks"])[name]["attack"]]
    return "ensemble" if hasattr(attack, "members") else attack.sees


def accuracy_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    scores = {name: tree["robustness"].to_dataset().transpose(..., "bound") for name, tree in trees.items()}
    first = next(iter(trees.values()))

    def row(threat: str, attack: str, what: str, variable: str, where: dict[str, str]) -> dict[str, str]:
        cells = {}
        for name, result in scores.items():
            at = result.sel(where)
            cells[name] = with_interval(at[variable], at[f"{variable}_interval"].values)
        return {"data": data, "threat": threat, "attack": attack, "sees": what, **cells}

    rows = [row("", "none", "", "accuracy", {})]
    for threat, attacks in members_of(first).items():
        rows += [row(threat, name, sees(first, name), "adversarial_accuracy", {"attack": name}) for name in attacks]
        rows.append(row(threat, "all, point by point", "", "worst_case_accuracy", {"threat": threat}))
    return rows


def verdict_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A line an attack, a ball's worst case, and the posterior itself."""
    said = {name: verdict_row(tree) for name, tree in trees.items()}
    figures = next(iter(said.values()))
    return [{"data": data, "figure": figure, **{name: row[figure] for name, row in said.items()}} for figure in figures]


def smallest_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    scores = {name: tree["robustness"].to_dataset().transpose(..., "bound") for name, tree in trees.items()}
    first, rows = next(iter(trees.values())), []
    for attack in json.loads(first.attrs["attacks"]):
        if not looks_for_little(first, attack):
            continue
        rows.append({"data": data, "attack": attack, "sees": sees(first, attack)})
        for name, result in scores.items():
            at = result.sel(attack=attack)
            median, interval = at["median_perturbation"], at["median_perturbation_interval"].values
            rows[-1][name] = with_interval(median, interval)
            left = at["adversarial_accuracy"], at["adversarial_accuracy_interval"].values
            rows[-1][f"{name} accuracy"] = with_interval(*left)
    return rows


def cost_rows(data: str, trees: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
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
    return [{"data": data, "attack": name, "settings": described(attack.settings())} for name, attack in attacks.items()]


def posterior_rows(data: str, case: Case, predictives: Mapping[str, br.predictive.Predictive]) -> list[dict[str, str]]:
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


def described(settings: Mapping[str, Any]) -> str:
    """Settings in words, without those that every attack has and that are at their defaults."""
    usual = {"target": None, "label": "true", "skip_misclassified": False, "num_draws": None}
    words = []
    for key, value in settings.items():
        if key in usual and value == usual[key]:
            continue
        if isinstance(value, list):
            value = "; ".join(f"({described(one)})" for one in value)
        words.append(f"{key} {value}")
    return ", ".join(words)


# ---- notes ---------------------------------------------------------------------------------------------------------------


def notes(data: str, trees: Mapping[str, xr.DataTree]) -> list[str]:
    """The strongest attack, what all leave together, and whether anything without gradients did better."""
    found = []
    for name, tree in trees.items():
        result, points = tree["robustness"].to_dataset(), tree["points"].to_dataset()
        left, right = result["adversarial_accuracy"], _right(points)
        for threat, attacks in members_of(tree).items():
            strongest = left.sel(attack=attacks).idxmin("attack").item()
            low, high = result["adversarial_accuracy_interval"].sel(attack=strongest).values
            worst = float(result["worst_case_accuracy"].sel(threat=threat))
            text = f"{data}/{name}, {threat}: of {len(attacks)} attacks {strongest} leaves the least, "
            text += f"{float(left.sel(attack=strongest)):.3f} [{low:.3f}, {high:.3f}]; all together leave {worst:.3f}."
            with_gradients = [a for a in attacks if sees(tree, a) == "gradients"]
            without = [a for a in attacks if sees(tree, a) in ("probabilities", "classes", "nothing")]
            if with_gradients and without:
                text += " " + masking(right, with_gradients, without)
            found.append(text)
        text = random_search(right, members_of(tree))
        if text:
            found.append(f"{data}/{name}: {text}")
    return found


def _right(points: xr.Dataset) -> xr.DataArray:
    return points["adversarial_log_probability"].argmax("class") == points["label"]


def masking(right: xr.DataArray, with_gradients: list[str], without: list[str]) -> str:
    """Whether attacks `without` gradients find what those with gradients do not; `right` is `[attack, point]`."""
    share = right.mean("point")
    best, other = (share.sel(attack=names).idxmin("attack").item() for names in (with_gradients, without))
    behind = float(share.sel(attack=best) - share.sel(attack=other))
    only = int((right.sel(attack=with_gradients).all("attack") & ~right.sel(attack=without).all("attack")).sum())
    beside = f"{other} without gradients leaves {float(share.sel(attack=other)):.3f}, {best} with them "
    beside += f"{float(share.sel(attack=best)):.3f}; {only} points fall only to attacks without gradients"
    if behind > MASKED:
        return f"Flag of masked gradients: {beside}."
    return f"No flag of masked gradients: {beside}."


def random_search(right: xr.DataArray, threats: Mapping[str, list[str]]) -> str:
    """Where uniform random points do better than PGD at its defaults, which they should not; "" if it was not run."""
    verdicts = []
    for threat, attacks in threats.items():
        norm = threat.partition(" ")[0]
        pair = f"RandomSearch {norm}", f"PGD {norm}"
        if not set(pair) <= set(attacks):
            continue
        searched, climbed = (right.sel(attack=name).values for name in pair)
        wins = "wins" if searched.mean() < climbed.mean() else "does not win"
        only = int((climbed & ~searched).sum())
        verdicts.append(
            f"{wins} against PGD ({threat}: {searched.mean():.3f} and {climbed.mean():.3f}, {only} points to it alone)"
        )
    return f"random search {'; '.join(verdicts)}." if verdicts else ""


def transfer_notes(data: str, matrix: xr.Dataset) -> list[str]:
    """For each target: does an attack on another posterior do as much as the attack on itself?"""
    found = []
    accuracy = matrix["adversarial_accuracy"]
    for target in matrix["target"].values.tolist():
        column = accuracy.sel(target=target)
        others = column.drop_sel(source=target)
        own, best = float(column.sel(source=target)), others.idxmin("source").item()
        least = float(others.min())
        flag = "a flag of masked gradients" if own - least > MASKED else "more is left, as it should be"
        if abs(own - least) <= MASKED:
            flag = "as much as on itself"
        clean = float(matrix["accuracy"].sel(target=target))
        found.append(
            f"{data}, transfer to {target} (accuracy {clean:.3f}): attacked itself it keeps {own:.3f}, by what was found on "
            f"{best} {least:.3f}: {flag}."
        )
    return found


if __name__ == "__main__":
    cyclopts.run(main)
