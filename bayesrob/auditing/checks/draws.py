"""Checks 10, 11 and 12: which draws the attack sees, and on which it is scored."""

from __future__ import annotations

import torch

from bayesrob import rng
from bayesrob.analysis import checks
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import changed
from bayesrob.auditing.registry import Finding, check, not_applicable, shared
from bayesrob.evaluation.looks import draws_seen

__all__ = ["attack_draws", "frozen_draw", "rescored"]

RESCORED = 5
"""Sets of fresh draws on which successes are scored again."""


@check(10, threshold=0.005, accuracy=True, source="Athalye et al. 2018, section 4.2; Carlini et al. 2019, section 5.8")
def frozen_draw(bench: Bench, threshold: float) -> Finding:
    """Does the attack succeed on a single draw, where nothing is random?

    The value is what the attack leaves on one frozen draw, scored on that draw, minus what PGD on its margin leaves.
    """
    if bench.post.num_draws == 1 and not bench.random:
        return not_applicable("There is one network: the other checks look at it.")
    post = bench.post.freeze(1, rng.derive(bench.seed, "audit", "frozen"))
    own = bench.run("frozen draw", changed(bench.attack, num_draws=None), post=post).accuracy
    reference = bench.run("frozen draw, reference", bench.pgd("margin", restarts=2), post=post).accuracy
    value = own - reference
    return Finding(value, value <= threshold, f"On one draw the attack leaves {own:.3f}, PGD on its margin {reference:.3f}.")


@shared
def attack_draws(bench: Bench, threshold: float) -> Finding:
    seen, scoring = draws_seen(bench.attack, bench.post), bench.post.num_draws
    curve = {seen: bench.audited.accuracy}
    most = scoring if not bench.random else max(*bench.level.draws, scoring)
    if seen > 0 and most > 1:
        for n in sorted({n for n in (*bench.level.draws, scoring) if n <= most} - {seen}):
            if bench.random or n < scoring or seen < scoring:
                curve[n] = bench.run(f"{n} draws", changed(bench.attack, num_draws=n)).accuracy
    return checks.attack_draws(seen, scoring, bench.random, curve, threshold)


@shared
def rescored(bench: Bench, threshold: float) -> Finding:
    if not bench.random:
        return not_applicable("Draws are held: there are no others.")
    scores = torch.stack([bench.right(bench.audited.x, draws=f"score {i}") for i in range(RESCORED)])
    points = (one.cpu().numpy() for one in (scores, bench.audited.right, bench.clean))
    return checks.rescored(*points, None, threshold)
