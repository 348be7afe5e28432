"""`br.audit`: every check on one predictive, one attack and one set of points."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import progress, rng
from bayesrob._version import __version__
from bayesrob.analysis import BELIEVED, LEVEL, Finding, allowed, attempt, binomial_interval, verdict
from bayesrob.analysis import thresholds as checked_thresholds
from bayesrob.analysis.checks import CHECKS
from bayesrob.arguments import number
from bayesrob.attacks import Attack
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import LEVELS
from bayesrob.auditing.run_files import RunFiles, fingerprint
from bayesrob.auditing.runs import Runs
from bayesrob.errors import InputError, check_name
from bayesrob.evaluation import ball, record
from bayesrob.predictive import Predictive

__all__ = ["audit"]


def audit(
    post: Predictive,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 0.1,
    seed: int = 0,
    level: str = "default",
    attack: Attack | None = None,
    norm: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> xr.DataTree:
    """Would this robustness number survive scrutiny? Sixteen checks of an attack's accuracy and of the posterior behind it.

    The audited figure is the accuracy of `post` on what `attack` makes of `x`, of all points; beside it stands the strongest
    that any run of the audit found, point by point. Predictives drawn fresh are scored on draws that no attack saw.

    Args:
        post: a classifier.
        x: points `[batch, *shape]`, inside the bounds.
        y: their labels.
        eps: radius of the ball, in the inputs' own unit.
        seed: fixes every random choice.
        level: "quick" (at most a minute for 100 MNIST images and 50 draws of 784-512-512-10 on two cores), "default" (at
            most ten) or "full"; `auditing.LEVELS` says what each spends.
        attack: the one whose figure is audited, in the same ball. None: `auditing.well_configured`, PGD of the level's steps
            (40) on `margin_per_draw`, `predictive_loss` and `margin`, each on what is left.
        norm: "l_inf" or "l_2"; None: the attack's, else "l_inf".
        thresholds: by check, in place of the defaults of `auditing.CHECKS`; those in points of accuracy are never below two
            images.
        folder: where runs are stored, so that an audit that was killed, or is repeated with other thresholds, finds them.

    Returns:
        DataTree. `checks`, over `check`: `number`, `question`, `value`, `threshold` (NaN value: nothing was measured),
        `passed` (it answered and found nothing), `status` ("passed", "failed", "not_applicable" or "error"), `reason`,
        `source`, `about` ("attack" or "posterior"). `figures`: `accuracy`, `robust_accuracy`, `strongest_accuracy` with
        Wilson intervals (`<name>_interval`); `attack_verdict` and `posterior_verdict` in words ("believed", "doubtful
        because of ..." or "not judged because ..."), `attack_believed`, `posterior_believed`. `runs`, over `run`:
        `accuracy` of the points that each was run on, `num_points` and, as a coordinate, `seconds`. Attributes hold
        settings as JSON.

    Raises:
        InputError: a regression, an attack in another ball, points that do not fit, no gradient for an attack that needs it.
        UnknownNameError: a level, norm or check that does not exist.

    Warns:
        SuspiciousOutputs: the networks put out probabilities, where logits belong.
    """
    norm = _check(post, eps, level, attack, norm)
    if len(x) == 0:
        raise InputError("There are no points.", "Accuracy is a share of them.", "Give one at least.")
    limits = checked_thresholds(CHECKS, len(x), thresholds)
    rng.derive(seed)
    post.check_inputs(x)
    post.check_labels(x, y)
    if attack is not None:
        attack.check_fits(post)
    basis = "" if folder is None else f"{fingerprint(post, x, y)} {eps} {norm} {seed} {LEVELS[level]}"
    files = RunFiles(folder, basis)
    runs = Runs(post, x, y, eps=float(eps), norm=norm, seed=seed, level=LEVELS[level], files=files, given=attack)
    findings: dict[str, Finding] = {}
    with progress.bar("auditing", len(CHECKS) + 1) as advance:
        advance(0, note="the audited attack")
        _ = runs.audited  # without a figure there is nothing to audit: its errors are the caller's
        bench = Bench(runs)
        advance(1)
        for name, check in CHECKS.items():
            advance(0, note=name)
            findings[name] = attempt(check.run, bench, allowed(check, limits[name]))
            advance(1)
    checks = _checks(findings, limits)
    tree = xr.DataTree.from_dict({"checks": checks, "figures": _figures(runs, checks, findings), "runs": _runs(runs)})
    settings = {"eps": runs.eps, "norm": norm, "seed": seed, "level": level, "num_points": len(x)}
    tree.attrs.update(
        record(post),
        attack=json.dumps(runs.attack.settings()),
        audit=json.dumps({**settings, "bayesrob": __version__, "torch": torch.__version__}),
    )
    return tree


def _checks(findings: Mapping[str, Finding], limits: Mapping[str, float]) -> xr.Dataset:
    """The group `checks`."""

    def column(values: Iterable[Any]) -> tuple[str, np.ndarray]:
        return "check", np.array(list(values))

    return xr.Dataset(
        {
            "number": column(check.number for check in CHECKS.values()),
            "question": column(check.question for check in CHECKS.values()),
            "value": column(float(finding.value) for finding in findings.values()),
            "threshold": column(limits[name] for name in CHECKS),
            "passed": column(bool(finding.passed) for finding in findings.values()),
            "status": column(finding.outcome for finding in findings.values()),
            "reason": column(finding.reason for finding in findings.values()),
            "source": column(check.source for check in CHECKS.values()),
            "about": column(check.verdict for check in CHECKS.values()),
        },
        coords={"check": list(CHECKS)},
    )


def _figures(runs: Runs, checks: xr.Dataset, findings: Mapping[str, Finding]) -> xr.Dataset:
    """The group `figures`; `checks` gets whether the attack and the posterior are believed as attributes."""
    stated = {"attack": verdict(findings, "attack"), "posterior": verdict(findings, "posterior")}
    believed = {f"{about}_believed": words == BELIEVED for about, words in stated.items()}
    checks.attrs.update({name: int(value) for name, value in believed.items()})
    words = {f"{about}_verdict": text for about, text in stated.items()}
    figures = xr.Dataset(
        {**believed, **words}, coords={"bound": ["lower", "upper"]}, attrs={"level": LEVEL, "num_points": len(runs.x)}
    )
    for name, right in {
        "accuracy": runs.clean,
        "robust_accuracy": runs.audited.right,
        "strongest_accuracy": runs.strongest(),
    }.items():
        figures[name] = float(right.double().mean())
        figures[f"{name}_interval"] = "bound", np.array(binomial_interval(int(right.sum()), len(right)))
    return figures


def _runs(runs: Runs) -> xr.Dataset:
    """The group `runs`."""
    names = list(runs.made)
    return xr.Dataset(
        {
            "accuracy": ("run", np.array([run.accuracy for run in runs.made.values()])),
            "num_points": ("run", np.array([len(run.right) for run in runs.made.values()])),
        },
        coords={"run": names, "seconds": ("run", np.array([runs.seconds[name] for name in names]))},
    )


def _check(post: object, eps: float, level: str, attack: Attack | None, norm: str | None) -> str:
    """Return the norm of the ball, or raise `InputError` for what no check could work with."""
    if not isinstance(post, Predictive):
        raise InputError(
            f"audit got a {type(post).__name__}.",
            "It needs a Predictive.",
            "Wrap networks: predictive.from_modules([net]).",
        )
    if post.likelihood.name != "categorical":
        raise InputError("The predictive is a regression.", "Accuracy needs classes.", "Audit a classifier.")
    number("eps", eps, "It is the radius of the ball, and in a ball without one nothing can be attacked.", above=0)
    check_name("level", level, LEVELS)
    if attack is None:
        return check_name("norm", "l_inf" if norm is None else norm, ["l_inf", "l_2"])
    if not isinstance(attack, Attack):
        raise InputError(f"The attack is a {type(attack).__name__}.", "It must be one.", "Pass e.g. PGD(eps=0.1).")
    where = ball(attack)
    own = where[0] if where is not None else getattr(attack, "norm", "l_inf")
    norm = check_name("norm", own if norm is None else norm, ["l_inf", "l_2"])
    if where is not None and where != (norm, float(eps)):
        raise InputError(
            f"The attack stays in the ball {where[0]} <= {where[1]:g}, the audit is about {norm} <= {eps:g}.",
            "A figure is about one ball.",
            "Give both the same.",
        )
    return norm
