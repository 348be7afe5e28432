"""Perturbations found on one predictive, tried on every other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr
from torch import Tensor

from bayesrob import progress, rng
from bayesrob._version import __version__
from bayesrob.analysis import LEVEL, binomial_interval
from bayesrob.arguments import whole
from bayesrob.attacks import Attack
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.evaluation.attacked import attack_points
from bayesrob.evaluation.points import check_arguments, chosen_points
from bayesrob.evaluation.scoring import BATCH, Scorer
from bayesrob.predictive import Predictive

__all__ = ["transfer_matrix"]


def transfer_matrix(
    predictives: Mapping[str, Predictive],
    dataset: Dataset,
    attack: Attack,
    *,
    num_points: int | None = 500,
    seed: int = 0,
    num_draws: int | None = None,
) -> xr.Dataset:
    """Return the accuracy of every target on what `attack` finds on every source (Papernot et al. 2016).

    Each source is attacked once; its perturbations are given to every target, the source itself among them (the white-box
    attack).
    Points and scoring draws are those of `evaluate` with the same seed: fresh draws are scored on draws that no attack saw.

    Args:
        predictives: classifiers of the same inputs and bounds, by the names of source and target.
        dataset: its test points are used.
        attack: run on the sources. An attack that looks for the smallest perturbation stops just beyond the source's
            boundary, and transfers little for that reason alone: take one of fixed radius.
        num_points: how many test points, a subset drawn from `seed`; None, or more than there are: all.
        seed: fixes points, attacks and scoring draws.
        num_draws: draws for scoring; None: each predictive's own number.

    Returns:
        Dataset over `source`, `target` (and `bound`): `adversarial_accuracy`, over all points, and `accuracy` `[target]`
        without an attack, both with Wilson intervals (`<name>_interval`); and `both_right_accuracy`, with its interval, over
        the `both_right` points that source and target had right before: a point that the target has wrong anyway says
        nothing about transfer. NaN where there is none. Attributes hold settings as JSON.

    Raises:
        InputError: no predictives, a regression, bounds that differ, points that do not fit: before any attack.

    Example:
        >>> matrix = br.evaluation.transfer_matrix({"first": post[:1], "all": post}, ds, br.attacks.FGSM(eps=0.1))
        >>> matrix["adversarial_accuracy"].shape
        (2, 2)
    """
    _check(predictives, dataset, attack, num_points, num_draws)
    _, x, y = chosen_points(dataset, num_points, seed)
    for predictive in predictives.values():
        predictive.check_inputs(x)
        predictive.check_labels(x, y)
        attack.check_fits(predictive)
    score_seed = rng.derive(seed, "evaluate", "score")

    def right(target: Predictive, inputs: Tensor) -> np.ndarray:
        guesses = Scorer(target, num_draws, score_seed)(inputs).argmax(-1)
        return (guesses.cpu() == y.cpu()).numpy()

    names = list(predictives)
    clean = np.stack([right(target, x) for target in predictives.values()])
    survived = np.empty((len(names), len(names), len(x)), dtype=bool)
    with progress.bar("transfer", len(names) * math.ceil(len(x) / BATCH)) as advance:
        for i, (name, source) in enumerate(predictives.items()):
            seeds = (seed, "transfer", "attack", name)
            done = partial(advance, 1, note=name)
            z = attack_points(attack, source, x, y, batch_size=BATCH, seeds=seeds, done=done).x.to(x)
            for j, target in enumerate(predictives.values()):
                survived[i, j] = right(target, z)
    both = clean[:, None] & clean[None]
    pair, count = ("source", "target"), both.sum(-1)
    both_right = (survived & both).sum(-1)
    settings = {"attack": attack.settings(), "dataset": dataset.name, "num_points": len(x), "num_draws": num_draws}
    return xr.Dataset(
        {
            "accuracy": ("target", clean.mean(-1)),
            "accuracy_interval": (("target", "bound"), _intervals(clean.sum(-1), np.full(len(names), len(x)))),
            "adversarial_accuracy": (pair, survived.mean(-1)),
            "adversarial_accuracy_interval": ((*pair, "bound"), _intervals(survived.sum(-1), np.full_like(count, len(x)))),
            "both_right": (pair, count),
            "both_right_accuracy": (pair, np.where(count > 0, both_right / np.maximum(count, 1), np.nan)),
            "both_right_accuracy_interval": ((*pair, "bound"), _intervals(both_right, count)),
        },
        coords={"source": names, "target": names, "bound": ["lower", "upper"]},
        attrs={"level": LEVEL, "transfer": json.dumps({**settings, "seed": int(seed), "bayesrob": __version__})},
    )


def _intervals(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Return Wilson intervals `[..., bound]`; NaN where there were no trials."""
    pairs = zip(successes.ravel(), trials.ravel(), strict=True)
    intervals = [binomial_interval(k, n) if n else (np.nan, np.nan) for k, n in pairs]
    return np.array(intervals).reshape(*successes.shape, 2)


def _check(
    predictives: Mapping[str, Predictive], dataset: Dataset, attack: Attack, num_points: int | None, num_draws: int | None
) -> None:
    if not isinstance(predictives, Mapping) or not predictives:
        raise InputError(
            "There are no predictives by name.",
            "Perturbations found on one are tried on the others.",
            'Give {"HMC": post, "SGD": net}.',
        )
    if not isinstance(attack, Attack):
        raise InputError(f"The attack is a {type(attack).__name__}.", "It must be one.", "Pass e.g. PGD(eps=0.1).")
    whole("num_points", num_points, or_none=True)
    first = getattr(next(iter(predictives.values())), "bounds", None)
    for name, predictive in predictives.items():
        check_arguments("transfer_matrix", predictive, dataset)
        if predictive.likelihood.name != "categorical":
            raise InputError(f"{name} is a regression.", "Accuracy needs classes.", "Leave it out.")
        if predictive.bounds != first:
            raise InputError(
                f"{name} has the bounds {predictive.bounds}, others {first}.",
                "An input inside one's bounds may lie outside another's.",
                "Give all the same: br.predictive.from_modules(..., bounds=(0, 1)).",
            )
        for number in (num_draws, attack.num_draws):
            predictive.resolve(number, 0)  # refuses a number of draws that cannot be had
