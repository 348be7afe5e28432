"""Several small networks trained at once: one batched product where each would wait for its own small ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.inference.base import Inference, require
from bayesrob.inference.closed_form import ClosedForm
from bayesrob.inference.optimise import RECORDS, Batches, Minimised, let_fall, num_epochs
from bayesrob.inference.sgd import SGD
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.nets import initialise
from bayesrob.types import Batch, Labels

__all__ = ["SMALL", "batches", "train_together"]

SMALL = 2**15
"""Weights of a network from which on a member's own products take longer than their dispatch: see `Ensemble.members`."""

SHARED = 4
"""Times as many where torch has several threads, which share a batch of products better than a small one."""


def batches(base: Inference, net: nn.Module, likelihood: Likelihood, dataset: Dataset, members: str | None) -> bool:
    """Whether members are to be trained by `train_together`: asked for ("batched"), or (None) faster.

    Raises:
        InputError: asked for where they cannot be.
    """
    # A subclass of SGD may train otherwise.
    can = type(base) is SGD and ClosedForm.takes(net, likelihood, dataset.x_train)
    require(
        can or members != "batched",
        'members="batched" for other networks than stacks of linear layers, or another method than SGD.',
        "Only their members are trained by batched products.",
        'Give members="in_turn", or None.',
    )
    limit = SMALL * (SHARED if torch.get_num_threads() > 1 else 1)
    small = sum(parameter.numel() for parameter in net.parameters()) < limit
    return can and (small if members is None else members == "batched")


def train_together(
    base: SGD,
    net: nn.Module,
    bnn: BayesianNetwork | None,
    likelihood: Likelihood,
    x: Batch,
    y: Labels,
    seeds: list[int],
    points: list[Tensor] | None,
    description: str,
) -> tuple[dict[str, Tensor], list[Minimised]]:
    """What `base` makes of `net` with each of `seeds`, up to the rounding of batched products.

    Adam and momentum work weight by weight, so no member sees another. One whose loss is not finite ends with its last
    finite weights, as alone; the others go on.

    Args:
        base: settings. net: one that `ClosedForm.takes`; bnn: where there is a prior. x, y: the data.
        seeds: one for each member. points: which each sees, int64 `[n]`, as many for all; None: all, once.
        description: of the progress bar.

    Returns:
        Weights `[member, *shape]` by name, and how each member's run went.
    """
    num_data = len(x) if points is None else len(points[0])
    begin = [initialise(net, seed, "sgd") if base.initial == "fresh" else net for seed in seeds]
    starts = {name: torch.stack([member.get_parameter(name) for member in begin]) for name, _ in net.named_parameters()}
    closed = ClosedForm(copy.deepcopy(net), bnn, likelihood, x, num_data, starts)
    optimizer = base.make_optimizer([closed.theta])
    epochs = num_epochs(base.epochs, num_data, base.batch_size, least=10, min_steps=2000)
    per_epoch = math.ceil(num_data / base.batch_size)
    steps = epochs * per_epoch
    every = max(1, steps // RECORDS)
    generators = [rng.generator(seed, "sgd") for seed in seeds]
    seen = [torch.arange(num_data)] * len(seeds) if points is None else [index.cpu() for index in points]

    def order() -> Tensor:
        if per_epoch == 1:
            return torch.stack(seen)
        own = zip(seen, generators, strict=True)
        return torch.stack([index[torch.randperm(num_data, generator=generator)] for index, generator in own])

    losses: list[list[float]] = [[] for _ in seeds]
    failed_at: list[int | None] = [None for _ in seeds]
    recent: list[Tensor] = []
    # As in `minimise`: weights are trusted once the losses after them were finite.
    theta = closed.theta.detach()
    trusted, newest = theta.clone(), theta.clone()
    step, parts = 0, Batches(x, y, per_epoch, None if per_epoch == 1 and points is None else order, closed.split)
    with progress.bar(description, steps) as advance:
        for _ in range(epochs):
            for (batch,) in parts:
                if base.decay:
                    let_fall(optimizer, [base.lr], step / steps)
                recent.append(closed(batch))
                optimizer.step()
                step += 1
                if step % every and step != steps:
                    continue
                means = torch.stack(recent).mean(0)
                recent.clear()
                good = (means.isfinite() & theta.sum(1).isfinite()).tolist()
                for member, (mean, fine) in enumerate(zip(means.tolist(), good, strict=True)):
                    if failed_at[member] is None and fine:
                        losses[member].append(mean)
                    elif failed_at[member] is None:
                        failed_at[member] = step
                going = torch.tensor([failed is None for failed in failed_at], device=x.device)
                if not going.any():
                    break
                trusted[going] = newest[going]
                newest[going] = theta[going]
                advance(every, note=f"loss {means[going].mean():.4f}")
            if all(failed is not None for failed in failed_at):
                break
    ended = torch.tensor([failed is not None for failed in failed_at], device=x.device)
    theta[ended] = trusted[ended]
    return closed.weights(), [Minimised(row, steps, failed) for row, failed in zip(losses, failed_at, strict=True)]
