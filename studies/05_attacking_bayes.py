"""Attacking Bayes: how much of published robustness and of vanishing gradients is artefact? Does uncertainty detect attacks?

Every posterior is attacked twice: by the reference protocol of Carbone et al. 2020 as its code has it (random signs, FGSM
and PGD on a loss with softmax applied twice, few draws, steps from corner to corner of the ball), and by the attack that
`br.audit` trusts; `br.audit` judges both. The difference is artefact. Then the reference is repaired one fault at a time,
input gradients are compared inside the same balls, and detectors by entropy and mutual information meet attacks that know
nothing of them and attacks that do. Attacks and scores use the same draws, held.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts
import xarray as xr

import bayesrob as br
from bayesrob import plots, rng
from bayesrob.attacks import Attack
from bayesrob.auditing import well_configured
from bayesrob.evaluation import chosen_points
from bayesrob.inference import HMC, SGD, SVI, Ensemble, MCDropout
from bayesrob.predictive import HeldDraws, Predictive
from shared import carbone_2020, detectors
from shared.artefact_notes import notes, summaries
from shared.artefacts import VANISHED, artefact_rows, at, audit_rows, by_protocol, gradient_rows, gradients, joined, repaired
from shared.carbone_2020 import BESIDE, FEW, Recipe, protocol, repairs
from shared.chains import CHAINS, chain_figures, chain_note, chain_row, thinned
from shared.study import POSTERIORS, Scale, Study
from shared.tables import file_name, share


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set.

    Args:
        recipes: how its posteriors are made, by name.
        eps: the radii of the l_inf balls.
        audited: the radius that is audited.
        detected: the radii at which the detectors are tried.
    """

    recipes: Mapping[str, Recipe]
    eps: tuple[float, ...]
    audited: float
    detected: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of one run.

    Args:
        points: number of test points attacked.
        audited: number of them that are audited.
        level: level of the audit.
        clean: number of clean points that set the detectors' thresholds.
        steps: steps of PGD.
        draws: number of draws attacked and scored.
        wide: the same of the wide networks of variational inference, which are slower.
    """

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
    """The posteriors of figures 2, 3 and table 1, shared with their studies, and those that these lack."""
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
    made: dict[str, Case] = {}
    for name, data in (("MNIST", "mnist"), ("Fashion", "fashion_mnist")):
        mine = {key.partition("/")[2]: recipe for key, recipe in carbone.items() if key.startswith(name)}
        if full or name == "MNIST":  # at small scale one data set must do: minutes of training each
            for method in ("HMC", "VI"):
                fan_in = dataclasses.replace(mine[method], prior_scale="fan_in")
                mine.setdefault(f"{method} fan-in prior", fan_in)
        mine |= baselines(data, None, hidden, epochs)
        ordered = {method: mine[method] for method in ORDER if method in mine}
        made[name] = Case(ordered, (0.02, 0.05, 0.1, 0.2, 0.3), 0.1, (0.05, 0.1))
    hmc = HMC(num_samples=63, warmup=200, num_steps=50) if full else HMC(num_samples=25, warmup=100, num_steps=30)
    svi = SVI(num_draws=hmc.num_samples * hmc.num_chains)
    base = Recipe("half_moons", 15_000 if full else 1000, "mlp", (32, 32), "leaky_relu", hmc)
    moons = {"HMC": base, "VI": dataclasses.replace(base, method=svi)}
    moons |= {f"{key} fan-in prior": dataclasses.replace(recipe, prior_scale="fan_in") for key, recipe in moons.items()}
    moons |= baselines("half_moons", base.n_train, base.hidden, None, base.activation)
    made["half moons"] = Case(moons, (0.05, 0.1, 0.2, 0.3, 0.5), 0.1, (0.1, 0.2))
    return made


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


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0, posteriors: Path = POSTERIORS) -> None:
    """Train (or load) the posteriors, attack them by both protocols, audit both, compare; then detectors.

    Args:
        scale: smoke: seconds, on digits and half moons; small: chains on fewer images and narrower networks, half an hour on
            one core; paper: the paper's sizes, and 500 points of the audit's default level.
        out: Folder for results and report; default results/attacking_bayes-SCALE.
        seed: Fixes data, training, points, draws and attacks.
        posteriors: Folder of trained posteriors (default results/posteriors), shared with the other studies.
    """
    size = SIZES[scale]
    settings: dict[str, Any] = {"draws of the reference": FEW, **dataclasses.asdict(size)}
    settings |= {name: f"l_inf {case.eps}, audited at {case.audited}" for name, case in cases(scale).items()}
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        figure: dict[str, xr.DataTree] = {}
        for data, case in cases(scale).items():
            parts: dict[str, dict[str, xr.Dataset]] = {}
            for name, recipe in case.recipes.items():
                study.training(f"{data}/{name}", posteriors)
                full, dataset = recipe.fit(posteriors, seed)
                parts[name], draws = one_posterior(study, f"{data}/{name}", full, dataset, case=case, size=size, seed=seed)
                study.add("posteriors", [{"data": data, **recipe.row(name, full), "draws attacked": str(draws)}])
            protocols = {key: joined(parts, key) for key in ("accuracy", "gradients")}
            figure[data] = xr.DataTree.from_dict(protocols)  # pyright: ignore[reportArgumentType]
            study.tree(f"protocols_{file_name(data)}", figure[data], f"both protocols on {data}")
            study.figure("protocols", plots.protocols(figure), FIGURE)
            study.note(*summaries(data, parts, case.eps, case.detected))


def one_posterior(
    study: Study, title: str, full: Predictive, dataset: br.Dataset, *, case: Case, size: Size, seed: int
) -> tuple[dict[str, xr.Dataset], int]:
    """Attack, audit and table one posterior.

    Returns:
        Its accuracies by protocol, its gradients and its detectors' scores; and the number of draws that were attacked.
    """
    data, _, name = title.partition("/")
    post = attacked_draws(full, size, seed)
    study.say(f"{title}: {full.info['seconds']:.0f} s of training; {post.num_draws} draws attacked")
    tree = br.evaluate(post, dataset, attacks_on(post, case, size), num_points=size.points, seed=seed)
    _, x, y = chosen_points(dataset, size.points, seed)
    parts = {
        "accuracy": by_protocol(tree, case.eps),
        "gradients": gradients(post, x, y, (0.0, *case.eps), seed),
        "detection": detectors.uncertainties(
            post, dataset, x, y, radii=case.detected, steps=size.steps, num_clean=size.clean, seed=seed
        ),
    }
    audited_x, audited_y, folder = x[: size.audited], y[: size.audited], study.folder / "audits" / file_name(title)
    audits = audited(post, audited_x, audited_y, case=case, size=size, seed=seed, folder=folder)
    saved = xr.DataTree.from_dict({**{key: node.to_dataset() for key, node in tree.children.items()}, **parts})  # pyright: ignore[reportArgumentType]
    saved.attrs.update(tree.attrs)
    study.tree(file_name(title), saved, f"evaluation of {title}")
    study.add("artefact", artefact_rows(data, name, tree, parts["accuracy"]))
    mended = repaired(tree, case.audited, post)
    cells = {step: share(right) for step, right in mended.items()}
    study.add("repairs", [{"data": data, "posterior": name, "eps": f"{case.audited:g}", **cells}])
    study.add("gradients", gradient_rows(data, name, parts["gradients"]))
    study.add("detection", detectors.rows(data, name, parts["detection"]))
    study.add("audits", audit_rows(data, name, audits))
    study.note(*notes(title, parts, mended, audits, radii=case.eps, eps=case.audited))
    if isinstance(full, HeldDraws) and full.sample_stats:  # all draws judge the chains, thinned or not
        judged = br.evaluate(full, dataset, attacks={}, num_points=size.points, seed=seed)
        study.add("chains", [chain_row(title, judged)])
        chain_figures(study, title, judged, "_" + file_name(title))
        study.note(chain_note(title, judged))
    return parts, post.num_draws


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
    """The draws that are attacked and scored: chains thinned, fresh draws drawn once, fewer of wide networks."""
    if isinstance(post, HeldDraws):
        return thinned(post, size.draws)
    weights = sum(parameter.numel() for parameter in post.net.parameters())
    held = post.freeze(size.wide if weights > 200_000 else size.draws, seed=rng.derive(seed, "attacking_bayes", "held"))
    assert isinstance(held, HeldDraws)
    return held


def attacks_on(post: Predictive, case: Case, size: Size) -> dict[str, Attack]:
    """The attacks of both protocols at every radius, and the repaired ones at the audited radius."""
    attacks: dict[str, Attack] = {}
    for eps in case.eps:
        attacks |= {at(name, eps): attack for name, attack in protocol(eps, post).items()}
        attacks[at("audited", eps)] = well_configured(eps, steps=size.steps)
    return attacks | {at(name, case.audited): attack for name, attack in repairs(case.audited, post).items()}


def audited(post: HeldDraws, x: Any, y: Any, *, case: Case, size: Size, seed: int, folder: Path) -> dict[str, xr.DataTree]:
    """The audits of the attack that the audit trusts and of the reference's PGD; runs that both need are made once."""
    common: Any = {"eps": case.audited, "seed": seed, "level": size.level, "folder": folder}
    return {
        "audited": br.audit(post, x, y, **common),
        "reference PGD": br.audit(post, x, y, attack=protocol(case.audited, post)["PGD"], **common),
    }


if __name__ == "__main__":
    cyclopts.run(main)
