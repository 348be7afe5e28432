"""The cheap checks of an evaluation, and the verdict beside each of its figures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis import checks
from bayesrob.analysis.findings import NOT_JUDGED, QUESTIONS, Finding, allowed, attempt, limits, not_applicable, verdict
from bayesrob.analysis.intervals import binomial_interval
from bayesrob.attacks import Attack, Transfer
from bayesrob.evaluation.evidence import FORWARDS, Evidence, Figure, at_random, by_gradients
from bayesrob.evaluation.looks import draws_seen, fixed_steps, iterated, objectives_of, takes_new
from bayesrob.predictive import HeldDraws

__all__ = ["CHEAP", "verdicts"]

Answer = Callable[[Evidence, Figure, float], Finding]
CHEAP: dict[str, Answer] = {}
"""What an evaluation answers of `analysis.findings.QUESTIONS`, by name."""
COMPARED = {"objectives", "single_step", "gradient_free", "random_search", "transfer"}
"""Checks that compare attacks: of a worst case all attacks are part."""
ABOUT = "the cheap checks, on what this evaluation computed; br.audit makes all sixteen, and runs for them"
ALONE = "Nothing to compare with was run in this ball."


def verdicts(seen: Evidence, scores: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The group `checks`, and `scores` with a verdict beside each figure.

    An attack's verdict says whether its accuracy can be read as robustness: it is not if another attack in the same ball
    leaves clearly less (`objectives`), and that alone is no fault. A worst case is judged by the attack that carries it, of
    those that leave least the one with most to believe, and by what random points and attacks without gradients add.

    Args:
        scores: the group `robustness`, with `adversarial_accuracy` `[attack]` and `worst_case_accuracy` `[threat]`.
    """
    bounds = limits(CHEAP_QUESTIONS, len(seen.x))
    found = {name: _judge(seen, seen.figure(name), bounds) for name in seen.attacks}
    worst: dict[str, dict[str, Finding]] = {}
    for threat in scores["threat"].values.tolist():
        at, robust = scores.sel(threat=threat), seen.points["robust"].sel(threat=threat).values
        where = str(at["norm"].item()), float(at["eps"].item())
        carrier = _carrier(seen, where, found, bounds["objectives"])
        worst[threat] = _judge(seen, seen.worst(where, carrier, robust), bounds)
    # Of an evaluation without attacks the posterior is judged all the same.
    posterior = attempt(functools.partial(CHEAP["inference"], seen, _NONE, bounds["inference"]))
    judged = xr.merge([_columns(found, "attack"), _columns(worst, "threat", "worst_case_")])
    for column, values in {
        "number": [one.number for one in CHEAP_QUESTIONS.values()],
        "question": [one.question for one in CHEAP_QUESTIONS.values()],
        "threshold": list(bounds.values()),
        "source": [one.source for one in CHEAP_QUESTIONS.values()],
        "about": [one.verdict for one in CHEAP_QUESTIONS.values()],
    }.items():
        judged[column] = "check", np.array(values)
    judged.attrs.update(checks=ABOUT, posterior_reason=posterior.reason)
    stated = NOT_JUDGED if posterior.outcome == "not_applicable" else verdict([] if posterior.passed else ["inference"])
    return judged, scores.assign(
        verdict=("attack", _words(found)), worst_case_verdict=("threat", _words(worst)), posterior_verdict=stated
    )


def _judge(seen: Evidence, figure: Figure, bounds: Mapping[str, float]) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for name, answer in CHEAP.items():
        found[name] = attempt(functools.partial(answer, seen, figure, allowed(QUESTIONS[name], bounds[name])))
    return found


def _failed(findings: Mapping[str, Finding]) -> list[str]:
    return [name for name, one in findings.items() if not one.passed and QUESTIONS[name].verdict == "attack"]


def _words(found: Mapping[str, Mapping[str, Finding]]) -> np.ndarray:
    return np.array([verdict(_failed(findings)) for findings in found.values()], dtype=str)


def _carrier(seen: Evidence, where: tuple[str, float], found: Mapping[str, Mapping[str, Finding]], margin: float) -> str:
    """The attack that the worst case in a ball rests on."""
    accuracy = {name: float(seen.right[name].mean()) for name in found if seen.balls.get(name) == where}
    near = [name for name in accuracy if accuracy[name] <= min(accuracy.values()) + margin]
    return min(near, key=lambda name: (len(set(_failed(found[name])) - COMPARED), accuracy[name]))


def _columns(found: Mapping[str, Mapping[str, Finding]], dim: str, prefix: str = "") -> xr.Dataset:
    def column(read: Callable[[Finding], Any], dtype: type) -> tuple[tuple[str, str], np.ndarray]:
        rows = [[read(findings[name]) for findings in found.values()] for name in CHEAP]
        return ("check", dim), np.array(rows, dtype=dtype).reshape(len(CHEAP), len(found))

    return xr.Dataset(
        {
            f"{prefix}value": column(lambda one: one.value, float),
            f"{prefix}passed": column(lambda one: one.passed, bool),
            f"{prefix}status": column(lambda one: one.outcome, str),
            f"{prefix}reason": column(lambda one: one.reason, str),
        },
        coords={"check": list(CHEAP), dim: np.array(list(found), dtype=str)},
    )


# ---- the checks, in the order of their numbers --------------------------------------------------------------------------


def _outputs(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    return checks.outputs(seen.points["log_probability"].values, seen.suspicious, threshold)


def _randomness(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    attack = seen.attacks[figure.attack]
    if attack.sees == "nothing" and seen.change > threshold:
        return not_applicable("Predictions are random, and the attack does not look at them.")
    return checks.randomness(seen.change, FORWARDS, draws_seen(attack, seen.predictive), takes_new(attack), threshold)


def _zero_gradients(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    names = objectives_of(seen.attacks[figure.attack])
    zero = seen.zero(figure.attack) if names else seen.clean
    return checks.zero_gradients(zero, names, seen.at_zero(zero) if names and zero.any() else "", threshold)


def _objectives(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    others = _lower(seen, figure, lambda attack: by_gradients(attack) and iterated(attack))
    if not others:
        return not_applicable(ALONE)
    return checks.objectives(float(figure.right.mean()), others, "others in this ball leave", threshold)


def _single_step(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    others = _lower(seen, figure, lambda attack: by_gradients(attack) and not iterated(attack) and not attack.minimal)
    if not others or not iterated(seen.attacks[figure.attack]):
        return not_applicable("No attack of one step was run beside one of several.")
    return checks.single_step(float(figure.right.mean()), others, threshold)


def _gradient_free(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    others = seen.others(figure, lambda one: one.sees in ("probabilities", "classes") and not at_random(one))
    return _on_survivors(checks.gradient_free, others, figure, threshold)


def _random_search(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    return _on_survivors(checks.random_search, seen.others(figure, at_random), figure, threshold)


def _accuracy_falls(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    where, chance = seen.balls.get(figure.attack), 1 / seen.points.sizes["class"]
    if seen.attacks[figure.attack].minimal:  # no radius stops it: what it leaves it failed at, and is not robust
        ends = {0.0: float(seen.clean.mean()), math.inf: float(figure.right.mean())}
        return checks.accuracy_falls(ends, chance, None, math.inf, threshold)
    if where is None or seen.attacks[figure.attack].sees == "nothing":
        return not_applicable("The attack fills no ball, or does not look at the model.")
    curve, bounds, norm = seen.curve(figure.attack), seen.predictive.bounds, where[0]
    width = math.inf if bounds is None else bounds[1] - bounds[0]
    reach = {"l_inf": 1.0, "l_2": math.sqrt(seen.x[0].numel())}.get(norm, math.inf) * width
    grey = [eps for eps in curve if eps >= checks.GREY and norm == "l_inf" and bounds == (0, 1)]
    unbounded = [eps for eps in curve if eps >= reach]
    return checks.accuracy_falls(curve, chance, min(grey, default=None), max(unbounded, default=None), threshold)


def _convergence(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    attack, where = seen.attacks[figure.attack], seen.balls.get(figure.attack)
    if where is None or not iterated(attack):
        return not_applicable("The attack has no steps in a ball.")
    return checks.convergence(float(figure.right.mean()), None, fixed_steps(attack), where[1], "", threshold)


def _attack_draws(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    number, random = draws_seen(seen.attacks[figure.attack], seen.predictive), seen.change > checks.SAME
    return checks.attack_draws(number, seen.scoring, random, {number: float(figure.right.mean())}, threshold)


def _rescored(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    if seen.change <= checks.SAME:
        return not_applicable("Draws are held: there are no others.")
    right = seen.right[figure.attack]
    interval = binomial_interval(int(right.sum()), len(right), seen.level)
    return checks.rescored(seen.rescored[figure.attack], right, seen.clean, interval, threshold)


def _nothing_dropped(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    outside = [seen.outside(name, seen.balls.get(name)) for name in figure.members]
    finite = [seen.finite(name) for name in figure.members]
    return checks.nothing_dropped(
        np.logical_or.reduce(outside), np.logical_and.reduce(finite), figure.right, seen.clean, threshold
    )


def _transfer(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    others = _lower(seen, figure, lambda attack: isinstance(attack, Transfer))
    return checks.transfer(float(figure.right.mean()), others, threshold) if others else not_applicable(ALONE)


def _gradient_noise(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    names = objectives_of(seen.attacks[figure.attack])
    if not names:
        return checks.gradient_noise(None, "", None, 0, threshold)
    known = seen.groups["gradients"].sel(objective="expected_loss")
    small = None
    if known["standard_error"].notnull().all():
        small = (known["norm"] < 2 * known["standard_error"]).values
    looks = seen.gradients(names[0], seen.num_draws(figure.attack))
    return checks.gradient_noise(looks, names[0], small, seen.scoring, threshold)


def _inference(seen: Evidence, figure: Figure, threshold: float) -> Finding:
    post = seen.predictive
    same = seen.distinct if isinstance(post, HeldDraws) and post.num_draws > 1 else None
    return checks.inference(seen.groups.get("diagnostics"), same, post.num_draws, post.info, threshold)


def _lower(seen: Evidence, figure: Figure, chosen: Callable[[Attack], bool]) -> dict[str, float]:
    """Accuracy that others leave in the ball, for attacks that look at the model: the others claim nothing."""
    if seen.attacks[figure.attack].sees == "nothing":
        return {}
    return {name: float(right.mean()) for name, right in seen.others(figure, chosen).items()}


def _on_survivors(
    judge: Callable[..., Finding], others: Mapping[str, np.ndarray], figure: Figure, threshold: float
) -> Finding:
    if figure.survivors is None or not others:
        return not_applicable(ALONE)
    rows = np.flatnonzero(figure.survivors)
    broken = {name: ~right[rows] for name, right in others.items()}
    return judge(broken, len(rows), len(figure.right), "what this evaluation gave them", threshold)


_NONE = Figure("", (), np.zeros(0, dtype=bool), None)
CHEAP |= {
    "outputs": _outputs,
    "randomness": _randomness,
    "zero_gradients": _zero_gradients,
    "objectives": _objectives,
    "single_step": _single_step,
    "gradient_free": _gradient_free,
    "random_search": _random_search,
    "accuracy_falls": _accuracy_falls,
    "convergence": _convergence,
    "attack_draws": _attack_draws,
    "rescored": _rescored,
    "nothing_dropped": _nothing_dropped,
    "transfer": _transfer,
    "gradient_noise": _gradient_noise,
    "inference": _inference,
}
CHEAP_QUESTIONS = {name: QUESTIONS[name] for name in CHEAP}
