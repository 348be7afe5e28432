"""Checks 6, 7 and 14: what finds more without the model's gradients says that they are masked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.attacks import Attack, Boundary, LocalSearch, RandomSearch, Square
from bayesrob.attacks.geometry import project, random_point
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, check, not_applicable
from bayesrob.nets import mlp
from bayesrob.predictive import HeldDraws

__all__ = ["gradient_free", "random_search", "transfer"]

ASKED = 128
"""Queries of LocalSearch in a round, at most."""
COPIES, HIDDEN, TRAINING = 10, 128, 300
"""Of the surrogate: noisy copies of each point, units, steps of Adam."""


@check(6, threshold=0.002, accuracy=True, source="AutoAttack; Carlini et al. 2019, section 5.3")
def gradient_free(bench: Bench, threshold: float) -> Finding:
    """Do attacks without gradients break what those with gradients left?

    The value is the share of all points that Square, the boundary attack or LocalSearch breaks and no attack by gradients
    does, of the survivors looked at. What they find outside the ball is brought back to its nearest point inside.
    """
    q = bench.level.queries
    attacks: dict[str, Attack] = {"Square": Square(eps=bench.eps, norm=bench.norm, queries=q), "Boundary": Boundary(steps=q)}  # pyright: ignore[reportArgumentType]
    if bench.post.bounds is not None:
        # p = -1/4 probes where the cyclic step goes, which suits images that are mostly black or white.
        attacks["LocalSearch"] = LocalSearch(variant="foolbox2", p=-0.25, rounds=max(q // ASKED, 1))
    return _on_survivors(bench, attacks, threshold, f"{q} queries each")


@check(7, threshold=0.0, accuracy=True, source="Carlini et al. 2019, section 5.2; Athalye et al. 2018, section 3.1")
def random_search(bench: Bench, threshold: float) -> Finding:
    """Does random search win anywhere?

    The value is the share of all points that random points of the ball break and no attack by gradients does, of the
    survivors looked at.
    """
    attack = RandomSearch(eps=bench.eps, norm=bench.norm, samples=bench.level.samples)  # pyright: ignore[reportArgumentType]
    return _on_survivors(bench, {"RandomSearch": attack}, threshold, f"{bench.level.samples} points each")


@check(14, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.4; Papernot et al. 2017")
def transfer(bench: Bench, threshold: float) -> Finding:
    """Does what was found on a deterministic surrogate break more than the attack on the model itself?

    The value is the audited robust accuracy minus what PGD on the surrogate leaves. The surrogate, one network of 128
    units, learns the model's predictions at the points and at noisy copies of them.
    """
    z = bench.kept.get("surrogate", {"eps": bench.eps, "norm": bench.norm}, lambda: {"x": _from_surrogate(bench)})["x"]
    right = bench.right(z.to(bench.x))
    accuracy = float(right.double().mean())
    value = bench.audited.accuracy - accuracy
    text = f"PGD on a surrogate leaves {accuracy:.3f}, the audited attack {bench.audited.accuracy:.3f}."
    return Finding(value, value <= threshold, text)


def _on_survivors(bench: Bench, attacks: dict[str, Attack], threshold: float, budget: str) -> Finding:
    rows = bench.sample_of_survivors()
    total = int(bench.survivors.sum())
    if total == 0:
        return not_applicable("No point survives the attacks by gradients.")
    broken: dict[str, Tensor] = {}
    for name, attack in attacks.items():
        found = bench.run(name, attack, rows)
        nearest = project(found.x, bench.x[rows], bench.eps, bench.norm, bench.post.bounds)
        broken[name] = ~bench.right(nearest, rows)
    any_of = torch.stack(list(broken.values())).any(0)
    # Survivors that were not looked at are taken to be like those that were.
    value = float(any_of.double().mean()) * total / len(bench.x)
    each = ", ".join(f"{name} {int(hits.sum())}" for name, hits in broken.items())
    text = f"Of the {total} points that survive gradients {len(rows)} were tried, with {budget}; broken: {each}."
    return Finding(value, value <= threshold, text)


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
