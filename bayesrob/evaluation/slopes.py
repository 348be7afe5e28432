"""How the predictions of each model of a set change along a perturbation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor
from torch.autograd import forward_ad

from bayesrob.errors import InputError
from bayesrob.evaluation.points import check_count
from bayesrob.numerics import products, slices
from bayesrob.predictive import Predictive, from_modules
from bayesrob.predictive.gradients import DrawsFunction

__all__ = ["slopes"]


def slopes(
    predictive: Predictive | Sequence[Predictive],
    x: Tensor,
    y: Tensor | None,
    perturbation: Tensor,
    *,
    num_draws: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> xr.Dataset:
    """Each model's predictions and their derivatives along `perturbation`: what `analysis.perturbation_terms` takes.

    Of classes grad log pi_t,c . beta, of a regression grad f_t . beta (seed paper 000, theorems 2 to 4). By forward-mode
    differentiation, at the price of two predictions; of networks that have none (custom backward passes), by one backward
    pass for each class. Logarithms are taken in float64, so that networks that are sure of themselves keep their slopes.

    Args:
        predictive: the models are its draws; or several predictives, each one model, the average of its draws
            (`predictive.from_modules` of them).
        x: inputs `[point, *shape]`. y: labels, or None.
        perturbation: beta, of the shape of `x` and in its unit, a vector for each point.
        num_draws, seed: as in `freeze`: the first so many (held draws), or so many drawn once from `seed`.
        batch_size: points at once.

    Returns:
        Dataset over `model`, `point` and `class`, of a regression `output`: `log_predictions` (regression: `predictions`),
        `slopes`, and with `y` `targets`.

    Raises:
        InputError: shapes, labels or values that do not fit, or a network without derivative.
    """
    post = predictive if isinstance(predictive, Predictive) else from_modules(list(predictive))
    check_count("batch_size", batch_size)
    post.check_inputs(x)
    if y is not None:
        post.check_labels(x, y)
    if not isinstance(perturbation, Tensor) or perturbation.shape != x.shape or not bool(perturbation.isfinite().all()):
        shape = tuple(perturbation.shape) if isinstance(perturbation, Tensor) else type(perturbation).__name__
        raise InputError(
            f"The perturbation is {shape}.",
            f"Each point needs its own, finite, as x: {tuple(x.shape)}.",
            "Give attack(x) - x.",
        )
    held = post.freeze(num_draws, seed)
    x, beta = x.detach(), perturbation.detach().to(x)
    with products(held.net):
        parts = [_along(held, x[part], beta[part]) for part in slices(len(x), batch_size)]
    outputs, slope = (torch.cat(tensors, 1).cpu() for tensors in zip(*parts, strict=True))
    classes = post.likelihood.name == "categorical"
    if classes:
        # Of the likeliest class, what is left is small: relative to it nothing cancels.
        slope = slope.double() - slope.double().gather(-1, outputs.argmax(-1, keepdim=True))
        outputs = outputs.double().log_softmax(-1)
        slope -= (outputs.exp() * slope).sum(-1, keepdim=True)
    dims = ("model", "point", "class" if classes else "output")
    found = xr.Dataset(
        {"log_predictions" if classes else "predictions": (dims, outputs.numpy()), "slopes": (dims, slope.numpy())}
    )
    return found if y is None else found.assign(targets=(("point", "output")[: y.ndim], y.detach().cpu().numpy()))


def _along(held: Predictive, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs `[draw, batch, out]` and their derivatives along `beta`."""
    functions = held.functions(held.chunk(x), held.num_draws, 0)
    outputs, slope = zip(*(_forward(f, x, beta) or _backward(f, x, beta) for f in functions), strict=True)
    return torch.cat(outputs), torch.cat(slope)


@torch.no_grad()
def _forward(f: DrawsFunction, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor] | None:
    """None where torch has no forward mode, or where the input's derivative is lost on the way (a stand-in's is meant)."""
    try:
        with forward_ad.dual_level():
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's own, of its first dual number
                dual = forward_ad.make_dual(x, beta)
            outputs, slope = forward_ad.unpack_dual(f(dual))
            return None if slope is None else (outputs.clone(), slope.clone())
    except RuntimeError:
        return None


@torch.no_grad()
def _backward(f: DrawsFunction, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    copies = x.expand(f.num_draws, *x.shape)
    outputs = f.vjp(copies, per_draw=True)[0].clone()
    slope = torch.empty_like(outputs)
    for k in range(outputs.shape[-1]):
        _, pullback = f.vjp(copies, per_draw=True)
        one, gradient = torch.zeros_like(outputs), x.new_zeros(copies.shape)
        one[..., k] = 1
        try:
            pullback(one, gradient)
        except RuntimeError as error:
            raise InputError(
                f"The outputs have no derivative: {error}.",
                "Something between the input and the outputs is not differentiable.",
                "Give it a differentiable stand-in: predictive.Preprocessed(post, function, surrogate).",
            ) from error
        slope[..., k] = (gradient * beta).flatten(2).sum(-1)
    return outputs, slope
