"""Several trained networks as the draws of one predictive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.errors import InputError
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.held import HeldDraws

__all__ = ["from_predictives", "stacked"]


def from_predictives(predictives: Sequence[Predictive]) -> HeldDraws:
    """Models of one architecture, one held draw each, as one Predictive whose draws they are, in their order.

    Attacks on it climb averages over the models (`inference.Replicates`), and its `logits` are `[model, batch, class]`. Of
    a posterior of many draws, `post.freeze(1)` or `post[i]` is one.

    Raises:
        InputError: none; one that holds other than one draw; networks, likelihoods, bounds or inputs that differ.
    """
    models = list(predictives) if isinstance(predictives, Sequence) else []
    held = [model for model in models if isinstance(model, HeldDraws) and model.num_draws == 1]
    if not models or len(held) < len(models):
        kinds = [f"{type(m).__name__} of {m.num_draws}" if isinstance(m, Predictive) else type(m).__name__ for m in models]
        raise InputError(
            f"from_predictives got {kinds}.",
            "Each becomes one draw, so it must hold one.",
            "Pass a list of trained networks: of posteriors, post.freeze(1) each.",
        )
    first = _described(held[0])
    for number, other in enumerate(held[1:], 2):
        for what, value in _described(other).items():
            if value != first[what]:
                raise InputError(
                    f"Models 1 and {number} differ in {what}.",
                    "Draws are weights of one network, with one likelihood, for the same inputs.",
                    "Stack those that agree; other networks: predictive.from_modules.",
                )
    common = {**held[0]._common(), "info": {"method": "predictives", "members": [model.info for model in held]}}
    return HeldDraws(held[0].net, stacked(held), **common)


def stacked(members: Sequence[HeldDraws]) -> dict[str, Tensor]:
    """The members' parameters, and buffers (batch statistics) where they differ, `[draw, *shape]`."""
    tensors = [{n: buffer[None] for n, buffer in member.net.named_buffers()} | member.weights for member in members]
    parameters = {name for name, _ in members[0].net.named_parameters()}
    weights = {}
    for name, first in tensors[0].items():
        counts = name.rpartition(".")[2] == "num_batches_tracked"  # plays no part in a prediction
        apart = any(
            name in member.weights or not torch.equal(first, own[name]) for member, own in zip(members, tensors, strict=True)
        )
        if name in parameters or (apart and not counts):
            weights[name] = torch.cat([own[name] for own in tensors])
    return weights


def _described(model: HeldDraws) -> dict[str, Any]:
    """What draws of one predictive have in common."""
    net: nn.Module = model.net
    tensors = {**dict(net.named_buffers()), **{name: tensor[0] for name, tensor in model.weights.items()}}
    return {
        "architecture": [(name, type(module)) for name, module in net.named_modules()] + [repr(net)],
        "the shapes, dtypes or devices of their weights": {n: (t.shape, t.dtype, t.device) for n, t in tensors.items()},
        "likelihood": model.likelihood.spec(),
        "bounds": model.bounds,
        "the shape of their inputs": model.input_shape,
        "outputs": model.out_features,
    }
