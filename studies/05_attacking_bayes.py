"""Attacking Bayes: how much of published robustness and of vanishing gradients is artefact? Does uncertainty detect attacks?

Every posterior is attacked twice: by the reference protocol of Carbone et al. 2020 as its code has it (random signs, FGSM
and PGD on a loss with softmax applied twice, few draws, steps from corner to corner of the ball), and by the attack that
`br.audit` trusts; `br.audit` judges both. The difference is artefact. Then the reference is repaired one fault at a time,
input gradients are compared inside the same balls, and detectors by entropy and mutual information meet attacks that know
nothing of them and attacks that do. Attacks and scores look at the same draws, held.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pandas as pd
import xarray as xr

import bayesrob as br
from bayesrob import plots, rng
from bayesrob.analysis import median_interval
from bayesrob.attacks import Attack, Random
from bayesrob.attacks.geometry import norms
from bayesrob.auditing import verdicts, well_configured
from bayesrob.evaluation import Results
from bayesrob.evaluation.points import chosen_points
from bayesrob.inference import HMC, SGD, SVI, Ensemble, MCDropout
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.report import render
from shared import carbone_2020, detectors
from shared.carbone_2020 import BESIDE, FEW, Recipe, protocol, repairs
from shared.study_tools import (
    CHAINS,
    Scale,
    chain_figures,
    chain_note,
    chain_row,
    difference,
    file_name,
    mcnemar,
    share,
    show,
    thinned,
    with_interval,
)  # fmt: skip

OBJECTIVES = ("double_softmax_per_draw", "expected_loss", "margin_per_draw")
"""Gradients of: the reference code's statistics; the paper's equation 2; what the audited attack climbs first."""

VANISHED = 1e-3
"""An l_2 norm in nats per unit of input below which a gradient counts as vanished: what fills an l_inf ball of 0.1 in 784
pixels, 2.8 long, would change the loss by less than 0.003."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set: its posteriors by name, the radii (l_inf), that which is audited, and those of the detectors."""

    recipes: Mapping[str, Recipe]
    eps: tuple[float, ...]
    audited: float
    detected: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Size:
    """Test points attacked, how many of them are audited and at which level, clean points that set the detectors'
    thresholds, steps of PGD, draws attacked and scored (of the wide networks of VI fewer)."""

    points: int
    audited: int
    level: str
    clean: int
    steps: int
    draws: int
    wide: int


SIZES: dict[Scale, Size] = {
    "smoke": Size(30, 20, "quick", 100, 5, 20, 10),
    "small": Size(200, 100, "quick", 1000, 20, 100, 20),
    "paper": Size(500, 500, "default", 2000, 40, 250, 100),
}


def cases(scale: Scale) -> dict[str, Case]:
    """The posteriors of figures 2, 3 and table 1, found again where their studies trained them, and what those lack."""
    carbone = carbone_2020.recipes(scale, 20 if scale == "smoke" else 500)
    if scale == "smoke":
        digits = {"HMC": carbone["digits/HMC"], "MC dropout": baselines("digits", 200, (16,), 150)["MC dropout"]}
        moons = {"SGD": baselines("half_moons", 200, (8,), None)["SGD"]}
        return {
            "digits": Case(digits, (0.05, 0.2), 0.2, (0.05, 0.2)),
            "half moons": Case(moons, (0.1, 0.3), 0.1, (0.1, 0.3)),
        }
    full = scale == "paper"
    hidden, epochs = ((512, 512), 50) if full else ((256, 256), 5)
    found: dict[str, Case] = {}
    for name, data in (("MNIST", "mnist"), ("Fashion", "fashion_mnist")):
        mine = {key.partition("/")[2]: recipe for key, recipe in carbone.items() if key.startswith(name)}
        if full or name == "MNIST":  # at small scale one data set must do: minutes of training each
            for method in ("HMC", "VI"):
                fan_in = dataclasses.replace(mine[method], prior_scale="fan_in")
                mine.setdefault(f"{method} fan-in prior", fan_in)
        mine |= baselines(data, None, hidden, epochs)
        ordered = {method: mine[method] for method in ORDER if method in mine}
        found[name] = Case(ordered, (0.02, 0.05, 0.1, 0.2, 0.3), 0.1, (0.05, 0.1))
    hmc = HMC(num_samples=63, warmup=200, num_steps=50) if full else HMC(num_samples=25, warmup=100, num_steps=30)
    svi = SVI(num_draws=hmc.num_samples * hmc.num_chains)
    base = Recipe("half_moons", 15_000 if full else 1000, "mlp", (32, 32), "leaky_relu", hmc)
    moons = {"HMC": base, "VI": dataclasses.replace(base, method=svi)}
    moons |= {f"{key} fan-in prior": dataclasses.replace(recipe, prior_scale="fan_in") for key, recipe in moons.items()}
    moons |= baselines("half_moons", base.n_train, base.hidden, None, base.activation)
    found["half moons"] = Case(moons, (0.05, 0.1, 0.2, 0.3, 0.5), 0.1, (0.1, 0.2))
    return found


ORDER = ("HMC", "HMC fan-in prior", "VI", "VI fan-in prior", "SGD", "ensemble", "bagged ensemble", "MC dropout")


def baselines(
    data: str, n_train: int | None, hidden: tuple[int, ...], epochs: int | None, activation: str = "relu"
) -> dict[str, Recipe]:
    """One trained network, five with and without bootstrap, and dropout for twice the epochs (for the masks' noise)."""
    sgd = SGD(epochs=epochs)
    methods = {
        "SGD": sgd,
        "ensemble": Ensemble(size=5, base=sgd),
        "bagged ensemble": Ensemble(size=5, bootstrap=True, base=sgd),
        "MC dropout": MCDropout(epochs=None if epochs is None else 2 * epochs),
    }
    return {name: Recipe(data, n_train, "mlp", hidden, activation, method, None) for name, method in methods.items()}


def main(
    *, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = carbone_2020.POSTERIORS
) -> None:
    """Train (or load) the posteriors, attack them by both protocols, audit both, compare; then detectors.

    Parameters
    ----------
    scale
        smoke: seconds, on digits and half moons; small: chains on fewer images and narrower networks, half an hour on one
        core; paper: the paper's sizes, and 500 points of the audit's default level.
    out
        Folder for results and report; default results/attacking_bayes-SCALE.
    seed
        Fixes data, training, points, draws and attacks.
    posteriors
        Where trained posteriors are kept (default results/posteriors), to be shared with the other studies.
    """
    out = Path("results") / f"attacking_bayes-{scale}" if out is None else out
    size = SIZES[scale]
    settings: dict[str, Any] = {"scale": scale, "seed": seed, "draws of the reference": FEW, **dataclasses.asdict(size)}
    settings |= {name: f"l_inf {case.eps}, audited at {case.audited}" for name, case in cases(scale).items()}
    results = Results(out, "attacking_bayes", (__doc__ or "").splitlines()[0], settings)
    tables: dict[str, list[dict[str, str]]] = {name: [] for name in CAPTIONS}
    figure: dict[str, xr.DataTree] = {}
    for data, case in cases(scale).items():
        parts: dict[str, dict[str, xr.Dataset]] = {}
        for name, recipe in case.recipes.items():
            title = f"{data}/{name}"
            print(f"{title}: training, unless it is kept in {posteriors}", flush=True)
            full, dataset = recipe.fit(posteriors, seed)
            post = attacked_draws(full, size, seed)
            print(f"{title}: {full.info['seconds']:.0f} s of training; {post.num_draws} draws attacked", flush=True)
            tree = br.evaluate(post, dataset, attacks_on(post, case, size), num_points=size.points, seed=seed)
            _, x, y = chosen_points(dataset, size.points, seed)
            parts[name] = {
                "accuracy": by_protocol(tree, case),
                "gradients": gradients(post, x, y, (0.0, *case.eps), seed),
                "detection": detectors.uncertainties(post, dataset, x, y, case.detected, size.steps, size.clean, seed),
            }
            audits = audited(post, x[: size.audited], y[: size.audited], case, size, seed, out / "audits" / file_name(title))
            saved = xr.DataTree.from_dict({**{key: node.to_dataset() for key, node in tree.children.items()}, **parts[name]})  # pyright: ignore[reportArgumentType]
            saved.attrs.update(tree.attrs)
            results.tree(file_name(title), saved, f"evaluation of {title}")
            tables["artefact"] += artefact_rows(data, name, tree, parts[name]["accuracy"])
            mended = repaired(tree, case, post)
            cells = {step: share(right) for step, right in mended.items()}
            tables["repairs"].append({"data": data, "posterior": name, "eps": f"{case.audited:g}", **cells})
            tables["gradients"] += gradient_rows(data, name, parts[name]["gradients"])
            tables["detection"] += detectors.rows(data, name, parts[name]["detection"])
            tables["audits"] += audit_rows(data, name, audits)
            tables["posteriors"].append({"data": data, **recipe.row(name, full), "draws attacked": str(post.num_draws)})
            found = notes(title, parts[name], mended, audits, case)
            if isinstance(full, HeldDraws) and full.sample_stats:  # all draws judge the chains, thinned or not
                judged = br.evaluate(full, dataset, attacks={}, num_points=size.points, seed=seed)
                tables["chains"].append(chain_row(title, judged))
                chain_figures(results, title, judged, "_" + file_name(title))
                found.append(chain_note(title, judged))
            for note in found:
                results.note(note)
                print(note, flush=True)
            for table, caption in CAPTIONS.items():  # anew after each: an interrupted run leaves what it had
                if tables[table]:
                    results.table(table, pd.DataFrame(tables[table]), caption)
        together = {key: joined(parts, key) for key in ("accuracy", "gradients")}
        figure[data] = xr.DataTree.from_dict(together)  # pyright: ignore[reportArgumentType]
        results.tree(f"protocols_{file_name(data)}", figure[data], f"both protocols on {data}")
        results.figure("protocols", plots.protocols(figure), FIGURE)
        for note in summaries(data, parts, case):
            results.note(note)
            print(note, flush=True)
    for table in ("artefact", "repairs", "gradients", "detection", "audits", "posteriors", "chains"):
        if tables[table]:
            show(out / f"{table}.csv")
    print(f"report: {render(results.finish())}")


CAPTIONS = {
    "artefact": "Accuracy over all test points under each attack of the reference protocol, all of them together (a point "
    "counts if it is right before and after each), and under the audited attack, with 95% Wilson intervals; artefact is the "
    "difference of the last two on the same points (Newcombe's paired interval; McNemar's exact test). Published: table 1.",
    "repairs": "Accuracy under the reference's PGD at the audited radius, repaired one fault at a time: each column has the "
    f"repairs before it, but {BESIDE}, which stands beside: the mean of the draws' losses instead of the average's loss.",
    "gradients": "Averaged input gradients, all draws, float32: median l_2 norm over test points (with an interval of order "
    f"statistics at eps 0), share of points whose norm is below {VANISHED:g}, at the point itself and at random corners of "
    "the balls; share of points all of whose components are exactly zero there (eps 0), in both precisions.",
    "detection": "Clean points that are right against attacked ones that were right and are wrong, by predictive entropy "
    "and mutual information: area under the ROC curve (DeLong's interval on the logit scale), share of the successes that "
    f"pass a threshold at {detectors.FALSE_POSITIVES:.0%} false positives, and share of all points that were right which an "
    "attack makes wrong unnoticed (Wilson). McNemar compares the last with the attack on the margin. The best of them: an "
    "attacker who knows the threshold needs one that passes.",
    "audits": "br.audit of the audited attack and of the reference's PGD, in the same ball.",
    "posteriors": "What was trained.",
    "chains": CHAINS,
}
FIGURE = (
    "Accuracy (with 95% intervals) and median norm of the averaged input gradient against eps: dashed by the reference "
    "protocol, solid by the audited one; dotted the gradient that the audited attack climbs first. Gradients are taken at "
    "random corners of the balls."
)


# ---- protocols -----------------------------------------------------------------------------------------------------------


def attacked_draws(post: Predictive, size: Size, seed: int) -> HeldDraws:
    """Draws that are attacked and scored: chains thinned, fresh ones drawn once, of wide networks fewer."""
    if isinstance(post, HeldDraws):
        return thinned(post, size.draws)
    weights = sum(parameter.numel() for parameter in post.net.parameters())
    held = post.freeze(size.wide if weights > 200_000 else size.draws, seed=rng.derive(seed, "attacking_bayes", "held"))
    assert isinstance(held, HeldDraws)
    return held


def attacks_on(post: Predictive, case: Case, size: Size) -> dict[str, Attack]:
    found: dict[str, Attack] = {}
    for eps in case.eps:
        found |= {at(name, eps): attack for name, attack in protocol(eps, post).items()}
        found[at("audited", eps)] = well_configured(eps, steps=size.steps)
    return found | {at(name, case.audited): attack for name, attack in repairs(case.audited, post).items()}


def at(name: str, eps: float) -> str:
    return f"{name}, eps {eps:g}"


def right_after(tree: xr.DataTree, name: str, eps: float) -> np.ndarray:
    """Which points are right before and after an attack."""
    points = tree["points"].to_dataset()
    attacked = points["adversarial_log_probability"].sel(attack=at(name, eps)).argmax("class")
    return ((attacked == points["label"]) & (points["log_probability"].argmax("class") == points["label"])).values


def by_protocol(tree: xr.DataTree, case: Case) -> xr.Dataset:
    """`right` `[protocol, eps, point]`; eps 0 is no attack."""
    points = tree["points"].to_dataset()
    clean = (points["log_probability"].argmax("class") == points["label"]).values
    names = {"reference": ("random", "FGSM", "PGD"), "audited": ("audited",)}
    right = [
        [np.logical_and.reduce([right_after(tree, n, eps) for n in group]) for eps in case.eps] for group in names.values()
    ]
    return xr.Dataset(
        {"right": (("protocol", "eps", "point"), np.array([[clean, *rows] for rows in right]))},
        coords={"protocol": list(names), "eps": [0.0, *case.eps]},
    )


def gradients(post: HeldDraws, x: Any, y: Any, radii: tuple[float, ...], seed: int) -> xr.Dataset:
    """Norms of averaged gradients at random corners of each ball, `[objective, eps, point]`; at eps 0 also who has none."""
    double = copy.deepcopy(post).double()
    norm, zeros = [], {"float32": [], "float64": []}
    for objective in OBJECTIVES:
        norm.append([])
        for eps in radii:
            z = Random(eps=eps)(post, x, y, seed=rng.derive(seed, "attacking_bayes", "gradients", f"{eps:g}"))
            gradient = post.input_gradient(z, y, objective)
            norm[-1].append(norms(gradient, "l_2").numpy())
            if eps == 0:
                zeros["float32"].append((gradient == 0).flatten(1).all(1).numpy())
                exact = double.input_gradient(z.double(), y, objective)
                zeros["float64"].append((exact == 0).flatten(1).all(1).numpy())
    return xr.Dataset(
        {
            "norm": (("objective", "eps", "point"), np.array(norm, dtype=np.float64)),
            "zero": (("precision", "objective", "point"), np.array(list(zeros.values()))),
        },
        coords={"objective": list(OBJECTIVES), "eps": list(radii), "precision": list(zeros)},
    )


def audited(post: HeldDraws, x: Any, y: Any, case: Case, size: Size, seed: int, folder: Path) -> dict[str, xr.DataTree]:
    """Of the attack that the audit trusts, and of the reference's PGD; runs that both need are made once."""
    common: Any = {"eps": case.audited, "seed": seed, "level": size.level, "folder": folder}
    return {
        "audited": br.audit(post, x, y, **common),
        "reference PGD": br.audit(post, x, y, attack=protocol(case.audited, post)["PGD"], **common),
    }


def joined(parts: Mapping[str, Mapping[str, xr.Dataset]], key: str) -> xr.Dataset:
    along = xr.DataArray(list(parts), dims="posterior", name="posterior")
    return xr.concat([part[key] for part in parts.values()], along)


# ---- tables --------------------------------------------------------------------------------------------------------------


def artefact_rows(data: str, name: str, tree: xr.DataTree, accuracy: xr.Dataset) -> list[dict[str, str]]:
    rows = []
    for eps in accuracy["eps"].values[1:].tolist():
        published, strong = (accuracy["right"].sel(protocol=which, eps=eps).values for which in ("reference", "audited"))
        rows.append(
            {
                "data": data,
                "posterior": name,
                "eps": f"{eps:g}",
                "clean": share(accuracy["right"].sel(protocol="audited", eps=0.0).values),
                **{attack: share(right_after(tree, attack, eps)) for attack in ("random", "FGSM", "PGD")},
                "reference": share(published),
                "audited": share(strong),
                "artefact": difference(published, strong),
                "McNemar p": f"{mcnemar(published, strong):.2g}",
                "published": printed(f"{data}/{name}", eps),
            }
        )
    return rows


def printed(title: str, eps: float) -> str:
    """Table 1's accuracies, where it has this posterior (of another size at small scale); its eps is recalled as 0.1."""
    row = carbone_2020.PUBLISHED.get(title, {}) if eps == 0.1 else {}
    return ", ".join(f"{attack} {accuracy:.3f}" for attack, accuracy in row.items())


def repaired(tree: xr.DataTree, case: Case, post: Predictive) -> dict[str, np.ndarray]:
    """Which points are right after the reference's PGD, after each repair, and after the audited attack."""
    steps = {"reference PGD": "PGD", **{step: step for step in repairs(case.audited, post)}, "audited": "audited"}
    return {step: right_after(tree, attack, case.audited) for step, attack in steps.items()}


def gradient_rows(data: str, name: str, found: xr.Dataset) -> list[dict[str, str]]:
    rows = []
    for objective in OBJECTIVES:
        here = found.sel(objective=objective)
        first = here["norm"].sel(eps=0.0)
        row = {"data": data, "posterior": name, "gradient of": objective}
        row["median norm"] = f"{float(first.median()):.3g} [{', '.join(f'{v:.3g}' for v in median_interval(first.values))}]"
        for eps in here["eps"].values[1:].tolist():
            row[f"at eps {eps:g}"] = f"{float(here['norm'].sel(eps=eps).median()):.3g}"
        row["vanished"] = share(first.values < VANISHED)
        for eps in here["eps"].values[1:].tolist():
            row[f"vanished, eps {eps:g}"] = f"{float((here['norm'].sel(eps=eps) < VANISHED).mean()):.3f}"
        for precision in ("float32", "float64"):
            row[f"exactly zero, {precision}"] = f"{float(here['zero'].sel(precision=precision).mean()):.3f}"
        rows.append(row)
    return rows


def audit_rows(data: str, name: str, audits: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    rows = []
    for attack, tree in audits.items():
        figures = tree["figures"].to_dataset()
        cells = {
            key: with_interval(figures[variable], figures[f"{variable}_interval"].values)
            for key, variable in (("robust accuracy", "robust_accuracy"), ("strongest found", "strongest_accuracy"))
        }
        verdict = dict(zip(("about the attack", "about the posterior"), (text for _, text in verdicts(tree)), strict=True))
        rows.append({"data": data, "posterior": name, "attack": attack, **cells, **verdict})
    return rows


# ---- notes ---------------------------------------------------------------------------------------------------------------


def notes(
    title: str,
    parts: Mapping[str, xr.Dataset],
    mended: Mapping[str, np.ndarray],
    audits: Mapping[str, xr.DataTree],
    case: Case,
) -> list[str]:
    """How much is artefact, of accuracy and of gradients, at each eps, and whose; what audits and detectors say."""
    right, norm = parts["accuracy"]["right"], parts["gradients"]["norm"]
    texts = []
    for eps in case.eps:
        published, strong = (right.sel(protocol=which, eps=eps).values for which in ("reference", "audited"))
        texts.append(
            f"eps {eps:g}: {published.mean():.3f} - {strong.mean():.3f} = {difference(published, strong)} "
            f"(McNemar p = {mcnemar(published, strong):.2g})"
        )
    lines = [f"{title}, accuracy by the reference protocol less the audited, artefact: {'; '.join(texts)}."]
    if beside := printed(title, case.audited):
        left = {which: float(right.sel(protocol=which, eps=case.audited).mean()) for which in ("reference", "audited")}
        lines.append(
            f"{title}, eps {case.audited:g}: table 1 has {beside}; here the reference protocol leaves "
            f"{left['reference']:.3f} and the audited attack {left['audited']:.3f}."
        )
    chain = [step for step in mended if step != BESIDE]
    texts = [f"{later} {difference(mended[step], mended[later])}" for step, later in itertools.pairwise(chain)]
    lines.append(
        f"{title}, eps {case.audited:g}, what each repair of the reference's PGD ({mended[chain[0]].mean():.3f}) takes "
        f"away: {'; '.join(texts)}; {BESIDE} leaves {mended[BESIDE].mean():.3f}."
    )
    texts = []
    for eps in norm["eps"].values.tolist():
        here = norm.sel(eps=eps)
        twice, once, margin = ((here.sel(objective=name) < VANISHED).values for name in OBJECTIVES)
        middle = ", ".join(f"{float(here.sel(objective=name).median()):.3g}" for name in OBJECTIVES)
        texts.append(
            f"eps {eps:g}: {twice.mean():.3f} with softmax twice, {once.mean():.3f} once, {margin.mean():.3f} of the "
            f"margin; twice less once {difference(twice, once)}, less the margin {difference(twice, margin)}; median norms "
            f"{middle}"
        )
    zero = parts["gradients"]["zero"].mean("point")
    exactly = ", ".join(f"{float(zero.sel(precision='float32', objective=name)):.3f} ({name})" for name in OBJECTIVES)
    lines.append(
        f"{title}, share of points whose averaged gradient has vanished (norm < {VANISHED:g}): {'; '.join(texts)}. Exactly "
        f"zero in float32 at eps 0: {exactly}; in float64 {float(zero.sel(precision='float64').max()):.3f} at most."
    )
    (good, attack), (_, posterior) = verdicts(audits["audited"])
    (caught, text), _ = verdicts(audits["reference PGD"])
    lines.append(
        f"{title}, audit at eps {case.audited:g}: of the audited attack: {attack} Of the reference's PGD: {text} {posterior}"
        + ("" if good else " The audited figure is an upper bound.")
        + ("" if not caught else " The reference's figure passed here.")
    )
    return [*lines, *detectors.notes(title, parts["detection"])]


def summaries(data: str, parts: Mapping[str, Mapping[str, xr.Dataset]], case: Case) -> list[str]:
    """Posteriors side by side: the order by either protocol, the largest artefact, what detectors leave."""
    lines = []
    for eps in case.eps:
        left = {
            which: {
                name: float(part["accuracy"]["right"].sel(protocol=which, eps=eps).mean()) for name, part in parts.items()
            }
            for which in ("reference", "audited")
        }
        orders = {which: ", ".join(f"{n} {s[n]:.3f}" for n in sorted(s, key=lambda n: -s[n])) for which, s in left.items()}
        gaps = {name: left["reference"][name] - left["audited"][name] for name in parts}
        most = max(gaps, key=lambda name: gaps[name])
        lines.append(
            f"{data}, eps {eps:g}, most robust first: by the reference {orders['reference']}; audited {orders['audited']}. "
            f"Largest artefact: {most}, {gaps[most]:.3f}."
        )
    for eps in case.detected:
        texts = []
        for name, part in parts.items():
            found = part["detection"]
            passed = [detectors.unnoticed(found, score, eps, detectors.BEST).mean() for score in detectors.SCORES]
            broken = detectors.wrong(found, eps, detectors.BEST).mean()
            texts.append(f"{name} {passed[0]:.3f} and {passed[1]:.3f} of {broken:.3f} made wrong")
        lines.append(
            f"{data}, eps {eps:g}, of the points that were right, wrong and unnoticed by entropy and by mutual information "
            f"under the best of the attacks on each: {'; '.join(texts)}."
        )
    return lines


if __name__ == "__main__":
    cyclopts.run(main)
