"""Detectors of adversarial examples by a Bayesian network's own uncertainty, and attacks that do and do not know of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

import bayesrob as br
from bayesrob import rng
from bayesrob.analysis import detection, uncertainty
from bayesrob.attacks import PGD, Attack
from bayesrob.auditing import well_configured
from bayesrob.evaluation import chosen_points
from bayesrob.predictive import HeldDraws
from shared.tables import difference, mcnemar, share, with_interval

__all__ = [
    "ADVERSARIES", "BEST", "FALSE_POSITIVES", "SCORES", "adversaries", "judged", "notes", "rows", "uncertainties",
    "unnoticed", "wrong",
]  # fmt: skip

FALSE_POSITIVES = 0.05
"""The share of clean points that a detector may reject."""

SCORES = ("entropy", "mutual_information")
ADVERSARIES = ("stops when wrong", "margin", "evading")
BEST = "best of them"
"""The attacker who knows the threshold: a point is lost if any of the attacks makes it wrong and passes the detector."""


def adversaries(eps: float, steps: int) -> dict[str, Attack]:
    """Three attacks: one stops at the first error, one goes on, and one aims at the detector."""
    attacks = (
        well_configured(eps, steps=steps),
        PGD(eps=eps, steps=steps, objective="margin_per_draw"),
        PGD(eps=eps, steps=steps, objective="confident_error"),
    )
    return dict(zip(ADVERSARIES, attacks, strict=True))


def uncertainties(
    post: HeldDraws,
    dataset: br.Dataset,
    x: Any,
    y: Any,
    *,
    radii: tuple[float, ...],
    steps: int,
    num_clean: int,
    seed: int,
) -> xr.Dataset:
    """The scores that detectors use, and which points are classified correctly.

    Args:
        post: the posterior that is attacked, with held draws.
        dataset: its data; clean points are drawn from the test points that are not attacked.
        x: the attacked test points `[point, *shape]`.
        y: their classes `[point]`.
        radii: radii of the l_inf balls.
        steps: steps of the attacks.
        num_clean: number of clean points.
        seed: fixes which clean points, and the attacks.

    Returns:
        `clean` `[score, clean_point]` of the clean points that are classified correctly; `attacked` `[score, eps, adversary,
        point]`; whether points are right `before` any attack `[point]` and `wrong` after it `[eps, adversary, point]`.
    """

    def scored(inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            log_p = torch.cat([post.logits(part).log_softmax(-1) for part in inputs.split(250)], dim=1)
        values = uncertainty(log_p.numpy())
        return np.stack([values[name].values for name in SCORES]), log_p.logsumexp(0).argmax(-1).numpy()

    index = chosen_points(dataset, len(x), seed)[0]
    others = np.setdiff1d(np.arange(len(dataset.x_test)), index.numpy())
    order = torch.randperm(len(others), generator=rng.generator(seed, "detectors", "clean"))
    rest = torch.from_numpy(others)[order[:num_clean]]
    clean, guess = scored(dataset.x_test[rest])
    runs = []
    for eps in radii:
        for name, attack in adversaries(eps, steps).items():
            runs.append(scored(attack(post, x, y, seed=rng.derive(seed, "detectors", name))))
    shape = (len(radii), len(ADVERSARIES), len(x))
    attacked = np.stack([values for values, _ in runs], axis=1).reshape(len(SCORES), *shape)
    return xr.Dataset(
        {
            "clean": (("score", "clean_point"), clean[:, guess == dataset.y_test[rest].numpy()]),
            "attacked": (("score", "eps", "adversary", "point"), attacked),
            "wrong": (("eps", "adversary", "point"), np.stack([guess != y.numpy() for _, guess in runs]).reshape(shape)),
            "before": ("point", scored(x)[1] == y.numpy()),
        },
        coords={"score": list(SCORES), "eps": list(radii), "adversary": list(ADVERSARIES)},
    )


def unnoticed(scores: xr.Dataset, score: str, eps: float, adversary: str) -> np.ndarray:
    """Which of the points that were right are wrong under attack and pass the detector."""
    if adversary == BEST:
        return np.logical_or.reduce([unnoticed(scores, score, eps, name) for name in ADVERSARIES])
    here = scores.sel(score=score, eps=eps, adversary=adversary)
    passed = here["attacked"].values <= float(judged(scores, score, eps, adversary)["threshold"])
    return (here["wrong"].values & passed)[here["before"].values]


def judged(scores: xr.Dataset, score: str, eps: float, adversary: str) -> xr.Dataset:
    """How well a score tells clean points from points that were right and that the attack made wrong."""
    here = scores.sel(score=score, eps=eps, adversary=adversary)
    success = here["attacked"].values[(here["before"] & here["wrong"]).values]
    return detection(here["clean"].values, success, FALSE_POSITIVES)


def wrong(scores: xr.Dataset, eps: float, adversary: str) -> np.ndarray:
    """Which of the points that were right the attack makes wrong, noticed or not."""
    before = scores["before"].values
    if adversary == BEST:
        return scores["wrong"].sel(eps=eps).any("adversary").values[before]
    return scores["wrong"].sel(eps=eps, adversary=adversary).values[before]


def rows(data: str, name: str, scores: xr.Dataset) -> list[dict[str, str]]:
    """A row for each radius and attack."""
    lines = []
    for eps in scores["eps"].values.tolist():
        for adversary in (*ADVERSARIES, BEST):
            line = {"data": data, "posterior": name, "eps": f"{eps:g}", "attack": adversary}
            line["wrong"] = share(wrong(scores, eps, adversary))
            for score, short in zip(SCORES, ("entropy", "MI"), strict=True):
                record = None if adversary == BEST else judged(scores, score, eps, adversary)
                for label, variable, interval in (
                    ("AUROC", "auroc", "auroc_interval"),
                    ("pass", "false_negative_rate", "false_negative_interval"),
                ):
                    cell = "" if record is None else with_interval(record[variable], record[interval].values)
                    line[f"{label} {short}"] = cell
                passed = unnoticed(scores, score, eps, adversary)
                line[f"unnoticed {short}"] = share(passed)
                line[f"McNemar p {short}"] = f"{mcnemar(passed, unnoticed(scores, score, eps, 'margin')):.2g}"
            lines.append(line)
    return lines


def notes(title: str, scores: xr.Dataset) -> list[str]:
    """For each radius and score, how well it detects each attack, and what passes it."""
    lines = []
    for eps in scores["eps"].values.tolist():
        for score in SCORES:
            areas = ", ".join(f"{name} {float(judged(scores, score, eps, name)['auroc']):.3f}" for name in ADVERSARIES)
            left = {name: unnoticed(scores, score, eps, name) for name in (*ADVERSARIES, BEST)}
            broken = {name: wrong(scores, eps, name).mean() for name in left}
            text = ", ".join(f"{name} {passed.mean():.3f} of {broken[name]:.3f}" for name, passed in left.items())
            plain, evading = left["margin"], left["evading"]
            lines.append(
                f"{title}, eps {eps:g}, {score.replace('_', ' ')}: AUROC {areas}; of the points that were right, wrong and "
                f"unnoticed at {FALSE_POSITIVES:.0%} false positives: {text} made wrong; evading less margin "
                f"{difference(evading, plain)} (McNemar p = {mcnemar(evading, plain):.2g})."
            )
    return lines
