"""Several predictives as the draws of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.held import HeldDraws
from bayesrob.predictive.modules import ModuleDraws

__all__ = ["from_predictives", "stacked"]


def from_predictives(predictives: Sequence[Predictive]) -> Predictive:
    """Return one Predictive whose draws are the given predictives, in their order.

    Attacks on it climb averages over the models, and its `logits` are `[model, batch, class]`. Networks of one
    architecture (predictives of one held draw each, as `inference.Replicates` makes them) become held draws, in batched
    products. Where a predictive has several draws, or another architecture, each becomes one draw by its averaged
    prediction, one after the other; its fresh draws are then held, from a seed of each model's own.

    Args:
        predictives: one or more, with the same likelihood, bounds, inputs and outputs.

    Raises:
        InputError: no predictive, something that is none, or predictives that differ in what they must share.

    Example:
        >>> models = br.predictive.from_predictives([post[:2], post[2:]])
        >>> models.logits(x).shape
        torch.Size([2, 5, 2])
    """
    models = list(predictives) if isinstance(predictives, Sequence) else []
    if not models or not all(isinstance(model, Predictive) for model in models):
        kinds = [type(model).__name__ for model in models] if models else type(predictives).__name__
        raise InputError(
            f"from_predictives got {kinds}.",
            "Each predictive becomes one draw.",
            "Pass a list of one predictive or more; of networks, use predictive.from_modules.",
        )
    _check_shared(models)
    widths = {model.out_features for model in models} - {None}
    info = {"method": "predictives", "members": [model.info for model in models]}
    common = {**models[0]._common(), "out_features": next(iter(widths), None), "info": info}
    frozen = [model.freeze(seed=number) for number, model in enumerate(models)]
    single = [model for model in frozen if isinstance(model, HeldDraws) and model.num_draws == 1]
    if len(single) == len(frozen) and all(_architecture(model) == _architecture(single[0]) for model in single):
        return HeldDraws(single[0].net, stacked(single), **common)
    return ModuleDraws(frozen, **common)


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


def _check_shared(models: Sequence[Predictive]) -> None:
    """Raise `InputError` unless all models answer the same question about the same inputs."""
    first = _shared(models[0])
    for number, model in enumerate(models[1:], 2):
        for what, value in _shared(model).items():
            unknown = what == "outputs" and None in (value, first[what])
            if value != first[what] and not unknown:
                raise InputError(
                    f"Models 1 and {number} differ in {what}.",
                    "The draws of one predictive have one likelihood, for the same inputs.",
                    "Give predictives that agree.",
                )


def _shared(model: Predictive) -> dict[str, Any]:
    """What the draws of one predictive have in common."""
    tensors = list(model.example_weights().values())
    return {
        "likelihood": model.likelihood.spec(),
        "the dtypes or devices of their weights": {(tensor.dtype, tensor.device) for tensor in tensors},
        "bounds": model.bounds,
        "the shape of their inputs": model.input_shape,
        "outputs": model.out_features,
    }


def _architecture(model: HeldDraws) -> Any:
    """What makes the same function of the same weights."""
    tensors = {**dict(model.net.named_buffers()), **model.example_weights()}
    layers = [(name, type(module)) for name, module in model.net.named_modules()]
    return layers, repr(model.net), {name: tensor.shape for name, tensor in tensors.items()}
