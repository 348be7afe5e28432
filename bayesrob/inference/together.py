"""Several small networks trained at once: one batched product where each would wait for its own small ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.inference.base import Inference, require
from bayesrob.inference.optimise import RECORDS, Minimised, num_epochs
from bayesrob.inference.sgd import SGD
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.nets import Stack, draws_forward, initialise, sequence
from bayesrob.types import Batch, Labels

__all__ = ["SMALL", "batches", "train_together"]

SMALL = 2**15
"""Weights of a network from which on a member's own products take longer than their dispatch: see `Ensemble.members`."""

SHARED = 4
"""Times as many where torch has several threads, which share a batch of products better than a small one."""


def batches(base: Inference, net: nn.Module, dataset: Dataset, members: str | None) -> bool:
    """Whether members are to be trained by `train_together`: asked for ("batched"), or (None) faster.

    Raises:
        InputError: asked for where they cannot be.
    """
    stack = Stack.of(net) if type(base) is SGD else None  # a subclass may train otherwise
    can = stack is not None and stack.takes(dataset.x_train)
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

    The loss is the sum of the members': none sees another's gradient, and Adam and momentum work weight by weight. A member
    whose loss is not finite ends with its last finite weights, as alone; the others go on.

    Args:
        base: settings. net: a stack of linear layers (`nets.sequence`); bnn: where there is a prior. x, y: the data.
        seeds: one for each member. points: which each sees, int64 `[n]`, as many for all; None: all, once.
        description: of the progress bar.

    Returns:
        Weights `[member, *shape]` by name, and how each member's run went.
    """
    steps_of, count = sequence(net), len(seeds)
    num_data = len(x) if points is None else len(points[0])
    begin = [initialise(net, seed, "sgd") if base.initial == "fresh" else copy.deepcopy(net) for seed in seeds]
    named = [dict(member.named_parameters()) for member in begin]
    weights = {n: torch.stack([own[n].detach() for own in named]).requires_grad_() for n in named[0]}
    optimizer = base.make_optimizer(list(weights.values()))
    epochs = num_epochs(base.epochs, num_data, base.batch_size, least=10, min_steps=2000)
    per_epoch = math.ceil(num_data / base.batch_size)
    steps = epochs * per_epoch
    every = max(1, steps // RECORDS)
    orders = [rng.generator(seed, "sgd") for seed in seeds]
    seen = [torch.arange(num_data)] * count if points is None else [index.cpu() for index in points]
    losses: list[list[float]] = [[] for _ in seeds]
    failed_at: list[int | None] = [None] * count
    recent: list[Tensor] = []
    # As in `minimise`: weights are trusted once the losses after them were finite.
    trusted, newest = ([tensor.detach().clone() for tensor in weights.values()] for _ in range(2))
    step = 0

    def loss(index: Tensor) -> Tensor:
        """Of each member on its own points `[member, batch]`."""
        outputs = draws_forward(net, steps_of, weights, x[index], per_draw=True)
        terms = likelihood.log_prob(outputs.flatten(0, 1), y[index].flatten(0, 1)).unflatten(0, index.shape)
        value = -terms.sum(-1, dtype=torch.float64) / index.shape[1]
        return value if bnn is None else value - bnn.log_prior(bnn.flatten(weights)) / num_data

    with progress.bar(description, steps) as advance, torch.enable_grad():
        for _ in range(epochs):
            if per_epoch > 1:
                rows = [s[torch.randperm(num_data, generator=g)] for s, g in zip(seen, orders, strict=True)]
            else:
                rows = seen
            for index in torch.stack(rows).to(x.device).tensor_split(per_epoch, dim=1):
                if base.decay:
                    for group in optimizer.param_groups:
                        group["lr"] = base.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.zero_grad(set_to_none=True)
                values = loss(index)
                values.sum().backward()
                optimizer.step()
                recent.append(values.detach())
                step += 1
                if step % every and step != steps:
                    continue
                means = torch.stack(recent).mean(0)
                recent.clear()
                sums = torch.stack([tensor.detach().flatten(1).sum(1) for tensor in weights.values()]).sum(0)
                good = (means.isfinite() & sums.isfinite()).tolist()
                for member, (mean, fine) in enumerate(zip(means.tolist(), good, strict=True)):
                    if failed_at[member] is None and fine:
                        losses[member].append(mean)
                    elif failed_at[member] is None:
                        failed_at[member] = step
                going = torch.tensor([failed is None for failed in failed_at], device=x.device)
                if not going.any():
                    break
                for older, new, tensor in zip(trusted, newest, weights.values(), strict=True):
                    older[going] = new[going]
                    new[going] = tensor.detach()[going]
                advance(every, note=f"loss {means[going].mean():.4f}")
            if all(failed is not None for failed in failed_at):
                break
    ended = torch.tensor([failed is not None for failed in failed_at], device=x.device)
    final = {name: tensor.detach() for name, tensor in weights.items()}
    for tensor, old in zip(final.values(), trusted, strict=True):
        tensor[ended] = old[ended]
    return final, [Minimised(row, steps, failed) for row, failed in zip(losses, failed_at, strict=True)]
