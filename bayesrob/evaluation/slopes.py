"""The change of each model's predictions along a perturbation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor
from torch.autograd import forward_ad

from bayesrob.arguments import whole
from bayesrob.errors import InputError
from bayesrob.numerics import products, slices
from bayesrob.predictive import DrawsFunction, Predictive, from_predictives

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
    """Return each model's predictions and their derivatives along `perturbation`, for `analysis.perturbation_terms`.

    The derivatives are grad log pi_t,c . beta for classes and grad f_t . beta for a regression (Aboutalebi et al. 2020,
    theorems 2 to 4). They are taken by forward-mode differentiation, at the price of two predictions; networks without it
    (custom backward passes) take one backward pass for each class. Logarithms are taken in float64, so that networks that
    are sure of themselves keep their slopes.

    Args:
        predictive: the models are its draws; or several predictives, each one model, the average of its draws
            (`predictive.from_predictives` of them).
        x: inputs `[point, *shape]`.
        y: labels; None leaves `targets` out.
        perturbation: beta, of the shape of `x` and in its unit, a vector for each point.
        num_draws: number of draws: the first of held ones, or as many drawn once; None: the predictive's own number.
        seed: fixes the draws of a predictive drawn fresh.
        batch_size: points at once.

    Returns:
        Dataset over `model`, `point` and `class`, of a regression `output`: `log_predictions` (regression: `predictions`),
        `slopes`, and with `y` `targets`.

    Raises:
        InputError: shapes, labels or values that do not fit, or a network without derivative.

    Example:
        >>> along = br.evaluation.slopes(post, x, y, br.attacks.FGSM(eps=0.1)(post, x, y) - x)
        >>> along["slopes"].dims
        ('model', 'point', 'class')
    """
    post = predictive if isinstance(predictive, Predictive) else from_predictives(list(predictive))
    whole("batch_size", batch_size)
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
    result = xr.Dataset(
        {"log_predictions" if classes else "predictions": (dims, outputs.numpy()), "slopes": (dims, slope.numpy())}
    )
    return result if y is None else result.assign(targets=(("point", "output")[: y.ndim], y.detach().cpu().numpy()))


def _along(held: Predictive, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs `[draw, batch, out]` and their derivatives along `beta`."""
    functions = held.functions(held.chunk(x), held.num_draws, 0)
    outputs, slope = zip(*(_forward(f, x, beta) or _backward(f, x, beta) for f in functions), strict=True)
    return torch.cat(outputs), torch.cat(slope)


@torch.no_grad()
def _forward(f: DrawsFunction, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor] | None:
    """Forward-mode outputs and derivatives; None where torch has no forward mode, or a stand-in's derivative is meant."""
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
