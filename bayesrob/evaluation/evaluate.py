"""The robustness of one Predictive under several attacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import progress, rng
from bayesrob._version import __version__
from bayesrob.analysis import robustness
from bayesrob.analysis.intervals import LEVEL
from bayesrob.attacks import FGSM, PGD, Attack, Random
from bayesrob.attacks.geometry import norms
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.evaluation.attacked import Run, add_worst_case, attack_points, measures
from bayesrob.evaluation.chains import chain_groups
from bayesrob.evaluation.datatree import record
from bayesrob.evaluation.evidence import Evidence
from bayesrob.evaluation.points import check_arguments, check_count, chosen_points
from bayesrob.evaluation.verdict import verdicts
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels

__all__ = ["evaluate"]

GRADIENTS = ("expected_loss", "predictive_loss")
IMAGES = 10
SCORED = 1000
"""Points scored again at once: drawing networks anew can take longer than running them."""


def evaluate(
    predictive: Predictive,
    dataset: Dataset,
    attacks: Mapping[str, Attack] | None = None,
    *,
    num_points: int | None = 500,
    seed: int = 0,
    num_draws: int | None = None,
    batch_size: int = 250,
    level: float = LEVEL,
) -> xr.DataTree:
    """Attack the posterior predictive at test points and score it, with everything needed to check the score.

    Predictives drawn fresh are scored on draws that no attack has seen; held draws are attacked and scored on the same.
    Nothing is dropped: points that are wrong before the attack count, as what the attack makes of them. Attacks that leave
    points once they are misclassified (`only_accuracy`) get no softmax robustness (NaN): it would be overstated.

    Args:
        predictive: a classifier. dataset: its test points are used.
        attacks: by the name that the result gives them. None: random signs, FGSM and PGD, each with its defaults.
        num_points: how many test points, a subset drawn from `seed`; None, or more than there are: all.
        seed: fixes points, attacks and scoring draws.
        num_draws: draws for scoring and gradients; None: the predictive's own number.
        batch_size: points attacked at once.
        level: coverage of the intervals.

    Returns:
        DataTree with groups `robustness`, `points` (labels, log probabilities clean and attacked; of each perturbation its
        size, queries and gradients; `robust` and `smallest_perturbation`), `gradients` (norm of the averaged input gradient,
        its Monte Carlo standard error and the fraction of components that are exactly zero), `examples` (the first inputs,
        clean and attacked) and, for chains, what `evaluation.chains` says they are judged by: `sample_stats`,
        `log_likelihood` (of each draw at these points), `input_gradients`, `posterior` (some weights) and `diagnostics`.
        `checks` has the audit's checks that are cheap here, over `check` and `attack`: `value`, `passed`, `status`, `reason`
        (`worst_case_<name>` over `threat`), and `number`, `question`, `threshold`, `source`, `about` as `br.audit` has them.
        Attributes hold settings, seeds and versions as JSON.

        `robustness` has what `analysis.robustness` says; over `threat` the per-image worst case of all attacks in one ball
        (`analysis.robust_points`, `worst_case`); over `attack`, for those that look for little instead of filling a ball,
        `median_perturbation` in their own norm (`analysis.median_perturbation`; NaN for the others; `robustness_curve` makes
        curves of `points["smallest_perturbation"]`); mean `queries` and `gradients` of a point; wall-clock `seconds` of all.

        Beside them what the cheap checks say, `br.audit` makes them all: `verdict` of each attack, "believed" or "doubtful
        because of ..." with the names of checks (can this accuracy be read as robustness?); `worst_case_verdict` of each
        threat; `posterior_verdict`, which may also be "not judged".

    Raises:
        InputError: a regression model, an attack that is none, test points that do not fit the predictive: before any work.
    """
    attacks = {"random": Random(), "fgsm": FGSM(), "pgd": PGD()} if attacks is None else dict(attacks)
    _check(predictive, dataset, attacks, num_points, batch_size, level)
    for number in (num_draws, *(getattr(attack, "num_draws", None) for attack in attacks.values())):
        predictive.resolve(number, 0)  # refuses a number of draws that cannot be had
    index, x, y = chosen_points(dataset, num_points, seed)
    predictive.check_inputs(x)
    predictive.check_labels(x, y)
    score_seed = rng.derive(seed, "evaluate", "score")
    batches = list(slices(len(x), batch_size))

    def predict(inputs: Batch, draws: int = score_seed, at_once: int = batch_size) -> Tensor:
        with torch.no_grad():
            parts = slices(len(inputs), at_once)
            return torch.cat([predictive(inputs[part], num_draws, draws).cpu() for part in parts])

    runs: dict[str, Run] = {}
    with progress.bar("attacking", len(attacks) * len(batches)) as advance:
        for name, attack in attacks.items():
            seeds = (seed, "evaluate", "attack", name)
            runs[name] = attack_points(attack, predictive, x, y, batches, seeds, partial(advance, 1, note=name))

    point, names = {"point": index.numpy()}, {"attack": list(attacks)}
    labels = xr.DataArray(y.numpy(), dims="point", coords=point)
    clean = xr.DataArray(predict(x).numpy(), dims=("point", "class"), coords=point)
    adversarial = xr.DataArray(
        torch.stack([predict(run.x.to(x)) for run in runs.values()]).numpy() if attacks else np.empty((0, *clean.shape)),
        dims=("attack", "point", "class"),
        coords={**point, **names},
    )
    points = xr.Dataset({"label": labels, "log_probability": clean, "adversarial_log_probability": adversarial})
    points = points.merge(measures(x, runs, predictive.bounds))
    points, scores = add_worst_case(points, robustness(clean, adversarial, labels, level), attacks, runs, level)
    stopped = [name for name, attack in attacks.items() if attack.only_accuracy]
    for name in ("softmax_robustness", "softmax_robustness_interval"):
        scores[name] = scores[name].where(~scores["attack"].isin(stopped))
    groups = {
        "robustness": scores,
        "points": points,
        "gradients": _gradients(predictive, x, y, index, num_draws, seed, batches),
        "examples": _examples(x, {name: run.x for name, run in runs.items()}, index),
        **chain_groups(predictive, x, y, index, seed),
    }
    scoring = predictive.num_draws if num_draws is None else num_draws
    seen = Evidence(predictive, x, y, attacks, runs, groups, partial(predict, at_once=SCORED), scoring, seed, level)
    groups["checks"], groups["robustness"] = verdicts(seen, scores)
    tree = xr.DataTree.from_dict(groups)  # pyright: ignore[reportArgumentType]
    protocol = {
        "dataset": dataset.name,
        "num_points": len(x),
        "num_draws": scoring,
        "diagnostics": "of all draws that are held",
        "scored_on": "the draws attacked" if isinstance(predictive, HeldDraws) else "fresh draws that no attack has seen",
        "seed": seed,
        "versions": {"bayesrob": __version__, "torch": torch.__version__, "xarray": xr.__version__},
    }
    settings = {name: attack.settings() for name, attack in attacks.items()}
    tree.attrs.update(record(predictive), attacks=json.dumps(settings), protocol=json.dumps(protocol))
    return tree


def _check(
    predictive: Predictive,
    dataset: Dataset,
    attacks: Mapping[str, Attack],
    num_points: int | None,
    batch_size: int,
    level: float,
) -> None:
    check_arguments("evaluate", predictive, dataset)
    if predictive.likelihood.name != "categorical":
        raise InputError(
            "The predictive is a regression.", "Accuracy needs classes.", "Call attacks and objective_value directly."
        )
    for name, attack in attacks.items():
        if not isinstance(attack, Attack):
            raise InputError(
                f"The attack {name!r} is a {type(attack).__name__}.", "It must be one.", "Pass e.g. PGD(eps=0.1)."
            )
    if num_points is not None:
        check_count("num_points", num_points)
    check_count("batch_size", batch_size)
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It is the probability that an interval covers.", "Give e.g. 0.95.")


def _gradients(
    predictive: Predictive, x: Batch, y: Labels, index: Tensor, num_draws: int | None, seed: int, batches: list[slice]
) -> xr.Dataset:
    """Is the averaged gradient vanishing, or lost in noise?"""
    draw_seed = rng.derive(seed, "evaluate", "gradients")
    names = ("norm", "standard_error", "zero_fraction")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for objective in GRADIENTS:
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for part in batches:
            gradient, error = predictive.input_gradient(
                x[part], y[part], objective, num_draws, draw_seed, standard_error=True
            )
            parts["norm"].append(norms(gradient, "l_2").cpu())
            parts["standard_error"].append(norms(error, "l_2").cpu())
            parts["zero_fraction"].append((gradient == 0).flatten(1).float().mean(1).cpu())
        for name in names:
            rows[name].append(torch.cat(parts[name]).numpy())
    return xr.Dataset(
        {name: (("objective", "point"), np.array(rows[name])) for name in names},
        coords={"objective": list(GRADIENTS), "point": index.numpy()},
        attrs={
            "norm": "l_2 over the components of one input",
            "standard_error": "Monte Carlo; of four Markov chains or more batch means by chain, else draws as independent",
        },
    )


def _examples(x: Batch, attacked: Mapping[str, Tensor], index: Tensor) -> xr.Dataset:
    axes = tuple(f"axis_{i}" for i in range(x.ndim - 1))
    examples = xr.Dataset({"clean": (("point", *axes), x[:IMAGES].cpu().numpy())}, coords={"point": index[:IMAGES].numpy()})
    if attacked:
        stacked = np.stack([z[:IMAGES].cpu().numpy() for z in attacked.values()])
        examples["adversarial"] = (("attack", "point", *axes), stacked)
        examples = examples.assign_coords(attack=list(attacked))
    return examples
