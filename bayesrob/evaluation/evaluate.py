"""The robustness of one Predictive under several attacks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import progress, rng
from bayesrob._version import __version__
from bayesrob.analysis import LEVEL, robustness
from bayesrob.arguments import number, whole
from bayesrob.attacks import FGSM, PGD, Attack, Random, norms
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.evaluation.attacked import Run, add_worst_case, attack_points, measures
from bayesrob.evaluation.chains import chain_groups
from bayesrob.evaluation.datatree import record
from bayesrob.evaluation.evaluated import Evaluated
from bayesrob.evaluation.points import check_arguments, chosen_points
from bayesrob.evaluation.scoring import BATCH, Scorer
from bayesrob.evaluation.verdict import verdicts
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels

__all__ = ["evaluate"]

DEFAULT: dict[str, Attack] = {
    "random": Random(),
    "fgsm": FGSM(),
    "pgd": PGD(),
    "pgd_margin": PGD(objective="margin_per_draw"),
}
"""Attacks where none are given. The last is there because a figure is not judged unless something as strong was tried."""
GRADIENTS = ("expected_loss", "predictive_loss")
"""Objectives whose averaged gradients are measured."""
IMAGES = 10
"""Points whose inputs the tree shows."""


def evaluate(
    predictive: Predictive,
    dataset: Dataset,
    attacks: Mapping[str, Attack] | None = None,
    *,
    num_points: int | None = 500,
    seed: int = 0,
    num_draws: int | None = None,
    batch_size: int = BATCH,
    level: float = LEVEL,
) -> xr.DataTree:
    """Attack the posterior predictive at test points and score it, with everything needed to check the score.

    Predictives drawn fresh are scored on draws that no attack has seen; held draws are attacked and scored on the same.
    Nothing is dropped: points that are wrong before the attack count, as what the attack makes of them. Attacks that leave
    points once they are misclassified (`only_accuracy`) get no softmax robustness (NaN): it would be overstated.

    Args:
        predictive: a classifier.
        dataset: its test points are used.
        attacks: by the name that the result gives them. None: random signs, FGSM, PGD, and PGD on the draws' margin, each
            with its defaults.
        num_points: how many test points, a subset drawn from `seed`; None, or more than there are: all.
        seed: fixes points, attacks and scoring draws.
        num_draws: draws for scoring and gradients; None: the predictive's own number.
        batch_size: points attacked at once.
        level: coverage of the intervals.

    Returns:
        A DataTree whose attributes hold settings, seeds and versions as JSON, with these groups:

        `robustness`, over `attack`: what `analysis.robustness` returns; mean `queries` and `gradients` of a point;
        wall-clock `seconds`; for attacks that look for the smallest perturbation, `median_perturbation` in their own norm
        (NaN for the others). Over `threat`: the worst case of all attacks in one ball, point by point
        (`analysis.worst_case`). Beside each accuracy the verdict of the checks, "believed", "doubtful
        because of ..." with the names of checks, or "not judged because ...": `verdict` (can this accuracy be read as
        robustness?), `worst_case_verdict`, and `posterior_verdict`.

        `checks`, over `check` and `attack`: `value`, `passed`, `status`, `reason` (`worst_case_<name>` over `threat`), and
        `number`, `question`, `threshold`, `source`, `about` as in `br.audit`, which makes all checks.

        `points`: labels; log probabilities, clean and attacked; size, queries and gradients of each perturbation; `robust`
        and `smallest_perturbation` (`analysis.robustness_curve` makes curves of it).

        `gradients`: norm of the averaged input gradient, its Monte Carlo standard error, and the fraction of components
        that are exactly zero. `examples`: the first inputs, clean and attacked.

        Of chains also `sample_stats`, `log_likelihood` (of each draw at these points), `input_gradients`, `posterior`
        (some weights) and `diagnostics`.

    Raises:
        InputError: a regression model, an attack that is none, test points that do not fit the predictive: before any work.

    Example:
        >>> tree = br.evaluate(post, ds, attacks={"pgd": br.attacks.PGD(eps=0.1, steps=3)}, num_points=10)
        >>> scores = tree["robustness"]
        >>> bool(scores["adversarial_accuracy"].sel(attack="pgd") <= scores["accuracy"])
        True
    """
    attacks = DEFAULT if attacks is None else dict(attacks)
    _check(predictive, dataset, attacks, level)
    whole("batch_size", batch_size)
    for draws in (num_draws, *(attack.num_draws for attack in attacks.values())):
        predictive.resolve(draws, 0)  # refuses a number of draws that cannot be had
    index, x, y = chosen_points(dataset, num_points, seed)
    predictive.check_inputs(x)
    predictive.check_labels(x, y)
    scorer = Scorer(predictive, num_draws, rng.derive(seed, "evaluate", "score"), batch_size)
    runs: dict[str, Run] = {}
    with progress.bar("attacking", len(attacks) * math.ceil(len(x) / batch_size)) as advance:
        for name, attack in attacks.items():
            seeds, done = (seed, "evaluate", "attack", name), partial(advance, 1, note=name)
            runs[name] = attack_points(attack, predictive, x, y, batch_size=batch_size, seeds=seeds, done=done)
    labels = xr.DataArray(y.numpy(), dims="point", coords={"point": index.numpy()})
    points, scores = _scores(scorer, x, attacks, runs, labels=labels, level=level)
    groups = {
        "robustness": scores,
        "points": points,
        "gradients": _gradients(scorer, x, y, rng.derive(seed, "evaluate", "gradients")).assign_coords(point=index.numpy()),
        "examples": _examples(x, {name: run.x for name, run in runs.items()}, index),
        **chain_groups(predictive, x, y, index, seed),
    }
    evaluated = Evaluated(scorer, x, y, attacks, runs, groups, seed, level)
    groups["checks"], groups["robustness"] = verdicts(evaluated, scores)
    tree = xr.DataTree.from_dict(groups)  # pyright: ignore[reportArgumentType]
    protocol = {
        "dataset": dataset.name,
        "num_points": len(x),
        "num_draws": evaluated.scoring_draws,
        "diagnostics": "of all draws that are held",
        "scored_on": "the draws attacked" if isinstance(predictive, HeldDraws) else "fresh draws that no attack has seen",
        "seed": seed,
        "versions": {"bayesrob": __version__, "torch": torch.__version__, "xarray": xr.__version__},
    }
    settings = {name: attack.settings() for name, attack in attacks.items()}
    tree.attrs.update(record(predictive), attacks=json.dumps(settings), protocol=json.dumps(protocol))
    return tree


def _scores(
    scorer: Scorer, x: Batch, attacks: Mapping[str, Attack], runs: Mapping[str, Run], *, labels: xr.DataArray, level: float
) -> tuple[xr.Dataset, xr.Dataset]:
    """The groups `points` and `robustness`; the verdicts are still missing."""
    clean = xr.DataArray(scorer(x).cpu().numpy(), dims=("point", "class"), coords=labels.coords)
    attacked = [scorer(run.x.to(x)).cpu().numpy() for run in runs.values()]
    adversarial = xr.DataArray(
        np.stack(attacked) if attacked else np.empty((0, *clean.shape)),
        dims=("attack", "point", "class"),
        coords={"attack": list(attacks), **labels.coords},
    )
    points = xr.Dataset({"label": labels, "log_probability": clean, "adversarial_log_probability": adversarial})
    points = points.merge(measures(x, runs, scorer.predictive.bounds))
    points, scores = add_worst_case(points, robustness(clean, adversarial, labels, level), attacks, runs, level)
    stopped = [name for name, attack in attacks.items() if attack.only_accuracy]
    for name in ("softmax_robustness", "softmax_robustness_interval"):
        scores[name] = scores[name].where(~scores["attack"].isin(stopped))
    return points, scores


def _check(predictive: object, dataset: object, attacks: Mapping[str, object], level: object) -> None:
    """Raise `InputError` for what no evaluation could work with."""
    if check_arguments("evaluate", predictive, dataset).likelihood.name != "categorical":
        raise InputError(
            "The predictive is a regression.", "Accuracy needs classes.", "Call attacks and objective_value directly."
        )
    for name, attack in attacks.items():
        if not isinstance(attack, Attack):
            raise InputError(
                f"The attack {name!r} is a {type(attack).__name__}.", "It must be one.", "Pass e.g. PGD(eps=0.1)."
            )
    number("level", level, "It is the probability that an interval covers.", above=0, below=1)


def _gradients(scorer: Scorer, x: Batch, y: Labels, seed: int) -> xr.Dataset:
    """Is the averaged gradient vanishing, or lost in noise?"""
    names = ("norm", "standard_error", "zero_fraction")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for objective in GRADIENTS:
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for part in slices(len(x), scorer.batch_size):
            gradient, error = scorer.predictive.input_gradient(
                x[part], y[part], objective, scorer.num_draws, seed, standard_error=True
            )
            parts["norm"].append(norms(gradient, "l_2").cpu())
            parts["standard_error"].append(norms(error, "l_2").cpu())
            parts["zero_fraction"].append((gradient == 0).flatten(1).float().mean(1).cpu())
        for name in names:
            columns[name].append(torch.cat(parts[name]).numpy())
    return xr.Dataset(
        {name: (("objective", "point"), np.array(columns[name])) for name in names},
        coords={"objective": list(GRADIENTS)},
        attrs={
            "norm": "l_2 over the components of one input",
            "standard_error": "Monte Carlo; of four Markov chains or more batch means by chain, else draws as independent",
        },
    )


def _examples(x: Batch, attacked: Mapping[str, Tensor], index: Tensor) -> xr.Dataset:
    """The first inputs, clean and attacked."""
    axes = tuple(f"axis_{i}" for i in range(x.ndim - 1))
    examples = xr.Dataset({"clean": (("point", *axes), x[:IMAGES].cpu().numpy())}, coords={"point": index[:IMAGES].numpy()})
    if attacked:
        stacked = np.stack([z[:IMAGES].cpu().numpy() for z in attacked.values()])
        examples["adversarial"] = (("attack", "point", *axes), stacked)
        examples = examples.assign_coords(attack=list(attacked))
    return examples
