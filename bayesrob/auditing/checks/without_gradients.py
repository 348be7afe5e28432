"""Checks 6, 7 and 14: what finds more without the model's gradients says that they are masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.analysis import checks
from bayesrob.attacks import Attack, Boundary, LocalSearch, RandomSearch, Square
from bayesrob.attacks.geometry import project, random_point
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, shared
from bayesrob.nets import mlp
from bayesrob.predictive import HeldDraws

__all__ = ["gradient_free", "random_search", "transfer"]

ASKED = 128
"""Queries of LocalSearch in a round, at most."""
COPIES, HIDDEN, TRAINING = 10, 128, 300
"""Of the surrogate: noisy copies of each point, units, steps of Adam."""


@shared
def gradient_free(bench: Bench, threshold: float) -> Finding:
    """Of Square, the boundary attack and LocalSearch; what they find outside is brought to the ball's nearest point."""
    q = bench.level.queries
    attacks: dict[str, Attack] = {"Square": Square(eps=bench.eps, norm=bench.norm, queries=q), "Boundary": Boundary(steps=q)}  # pyright: ignore[reportArgumentType]
    if bench.post.bounds is not None:
        # p = -1/4 probes where the cyclic step goes, which suits images that are mostly black or white.
        attacks["LocalSearch"] = LocalSearch(variant="foolbox2", p=-0.25, rounds=max(q // ASKED, 1))
    return checks.gradient_free(*_broken(bench, attacks), f"{q} queries each", threshold)


@shared
def random_search(bench: Bench, threshold: float) -> Finding:
    attack = RandomSearch(eps=bench.eps, norm=bench.norm, samples=bench.level.samples)  # pyright: ignore[reportArgumentType]
    budget = f"{bench.level.samples} points each"
    return checks.random_search(*_broken(bench, {"RandomSearch": attack}), budget, threshold)


@shared
def transfer(bench: Bench, threshold: float) -> Finding:
    """The surrogate, one network of 128 units, learns the model's predictions at the points and at noisy copies of them."""
    z = bench.kept.get("surrogate", {"eps": bench.eps, "norm": bench.norm}, lambda: {"x": _from_surrogate(bench)})["x"]
    right = bench.right(z.to(bench.x))
    others = {"PGD on a surrogate": float(right.double().mean())}
    return checks.transfer(bench.audited.accuracy, others, threshold)


def _broken(bench: Bench, attacks: dict[str, Attack]) -> tuple[dict[str, np.ndarray], int, int]:
    """By attack, which of the survivors looked at it breaks; how many survivors there are; of how many points."""
    rows, total = bench.sample_of_survivors(), int(bench.survivors.sum())
    broken: dict[str, np.ndarray] = {}
    for name, attack in attacks.items() if total else ():
        found = bench.run(name, attack, rows)
        nearest = project(found.x, bench.x[rows], bench.eps, bench.norm, bench.post.bounds)
        broken[name] = ~bench.right(nearest, rows).cpu().numpy()
    return broken, total, len(bench.x)


def _from_surrogate(bench: Bench) -> Tensor:
    """What PGD finds on a network trained on the model's own predictions."""
    assert bench.post.out_features is not None
    generator = rng.generator(bench.seed, "audit", "surrogate")
    around = bench.x.repeat_interleave(COPIES, 0)
    inputs = torch.cat([bench.x, random_point(around, 2 * bench.eps, bench.norm, bench.post.bounds, generator)])
    targets = bench.log_predictive(inputs).exp()
    with rng.global_seed(bench.seed, "audit", "surrogate"), torch.enable_grad():
        net = mlp(inputs[0].numel(), (HIDDEN,), bench.post.out_features).to(inputs)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
        for _ in range(TRAINING):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
    weights = {name: parameter.detach()[None] for name, parameter in net.named_parameters()}
    shape: Any = tuple(bench.x.shape[1:])
    surrogate = HeldDraws(net, weights, bounds=bench.post.bounds, input_shape=shape, out_features=bench.post.out_features)
    attack = bench.pgd("margin", stop_when_broken=False)
    return attack(surrogate, bench.x, bench.y, seed=rng.derive(bench.seed, "audit", "surrogate"))
