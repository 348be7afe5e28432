"""A network trained on the audited model's own predictions, for attacks that transfer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bayesrob import rng
from bayesrob.attacks import random_point
from bayesrob.auditing.runs import Runs
from bayesrob.nets import mlp
from bayesrob.numerics import without_negligible
from bayesrob.predictive import HeldDraws
from bayesrob.types import Batch

__all__ = ["surrogate_attack"]

COPIES, HIDDEN, TRAINING = 10, 128, 300
"""Noisy copies of each point, hidden units, and steps of Adam."""


def surrogate_attack(runs: Runs) -> Batch:
    """Return what PGD makes of the points on the surrogate, one network of 128 units.

    It learns the model's predictions at the points and at noisy copies of them.
    """
    classes = runs.post.out_features
    assert classes is not None
    generator = rng.generator(runs.seed, "audit", "surrogate")
    copies = runs.x.repeat_interleave(COPIES, 0)
    inputs = torch.cat([runs.x, random_point(copies, 2 * runs.eps, runs.norm, runs.post.bounds, generator)])
    targets = runs.log_predictive(inputs).exp()
    with rng.global_seed(runs.seed, "audit", "surrogate"), torch.enable_grad():
        net = mlp(inputs[0].numel(), (HIDDEN,), classes).to(inputs)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
        for _ in range(TRAINING):
            optimizer.zero_grad()
            outputs = net(inputs)
            outputs.register_hook(without_negligible)
            nn.functional.cross_entropy(outputs, targets).backward()
            optimizer.step()
    weights = {name: parameter.detach()[None] for name, parameter in net.named_parameters()}
    shape: Any = tuple(runs.x.shape[1:])
    surrogate = HeldDraws(net, weights, bounds=runs.post.bounds, input_shape=shape, out_features=classes)
    attack = runs.pgd("margin", stop_when_broken=False)
    return attack(surrogate, runs.x, runs.y, seed=rng.derive(runs.seed, "audit", "surrogate"))
