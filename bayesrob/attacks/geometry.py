"""Norm balls around an input, intersected with the data's bounds: steepest steps, exact projections, random points.

Everything here acts on each point of a batch `[batch, *shape]` on its own.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.arguments import number
from bayesrob.numerics import per_point
from bayesrob.types import Batch, Bounds, Real

__all__ = ["NORMS", "BallNorm", "check_radius", "clip", "norms", "project", "random_point", "steepest"]

BallNorm = Literal["l_inf", "l_2"]
"""The norm of a ball of attacked inputs."""
NORMS = ("l_2", "l_inf")


def check_radius(eps: object) -> float:
    """Return `eps` as a float if it is the radius of a ball, else raise `InputError`."""
    return number("eps", eps, "It is the radius of the ball that the attack stays in, in the inputs' own unit.", least=0)


def norms(delta: Batch, norm: str) -> Float[Tensor, " batch"]:
    """The norm of each point's perturbation: "l_inf", "l_2", "l_1", or "l_0", the number of components that changed."""
    flat = delta.flatten(1)
    if norm == "l_inf":
        return flat.abs().amax(1)
    if norm == "l_0":
        return (flat != 0).sum(1).to(delta.dtype)
    return flat.abs().sum(1) if norm == "l_1" else flat.norm(dim=1)


def clip(x: Batch, bounds: Bounds | None) -> Batch:
    """`x` with every component inside `bounds`; None changes nothing."""
    return x if bounds is None else x.clamp(*bounds)


def steepest(gradient: Batch, norm: str) -> Batch:
    """The perturbation of norm one that climbs fastest: the sign (l_inf), or the normalised gradient (l_2).

    Where the gradient is exactly zero there is no such direction, and the step is zero.
    """
    if norm == "l_inf":
        return gradient.sign()
    # Scaled by the largest component first: squares of gradients of 1e-30 would underflow to zero.
    top = gradient.flatten(1).abs().amax(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    scaled = gradient / per_point(top, gradient)
    length = scaled.flatten(1).norm(dim=1)
    return scaled / per_point(torch.where(length > 0, length, 1.0), gradient)


def project(candidate: Batch, x: Batch, eps: Real, norm: str, bounds: Bounds | None) -> Batch:
    """The point of {z : ||z - x|| <= eps, lo <= z <= hi} nearest to `candidate` in the Euclidean norm.

    Exact for both norms. `x` itself must lie inside `bounds`.
    """
    if norm == "l_inf":
        nearest = torch.clamp(candidate, x - eps, x + eps)
        return nearest if bounds is None else nearest.clamp_(*bounds)
    delta = candidate - x
    return x + (_shrink(delta, eps) if bounds is None else _ball_and_box(delta, eps, bounds[0] - x, bounds[1] - x))


def _shrink(delta: Batch, eps: Real) -> Batch:
    length = norms(delta, "l_2")
    return delta * per_point(torch.where(length > eps, eps / length, 1.0), delta)


def _ball_and_box(delta: Batch, eps: Real, lo: Batch, hi: Batch) -> Batch:
    """Nearest point of a ball and a box that both hold the origin.

    By the optimality conditions it is clamp(s * delta, lo, hi) with the largest s in [0, 1] whose norm is at most eps.
    Once the clamped set is known, s solves a quadratic; starting without clamping, s and the set only grow, so the
    iteration ends, exactly, after a few rounds.
    """
    scale = torch.where(norms(delta, "l_2") > eps, eps / norms(delta, "l_2").clamp(min=1e-45), 1.0)
    if eps == 0:
        return torch.zeros_like(delta)
    for _ in range(delta[0].numel() + 1 if len(delta) else 0):
        moved = delta * per_point(scale, delta)
        clamped = moved.clamp(lo, hi)
        stopped = clamped != moved
        spent = torch.where(stopped, clamped, 0.0).flatten(1).square().sum(1)
        free = torch.where(stopped, 0.0, delta).flatten(1).square().sum(1)
        larger = ((eps**2 - spent).clamp(min=0) / free.clamp(min=1e-45)).sqrt().clamp(max=1.0)
        # Rounding may lower s by a last bit once the set is stable.
        larger = torch.maximum(torch.where(free > 0, larger, scale), scale)
        if bool((larger <= scale * (1 + 1e-7)).all()):
            break
        scale = larger
    return (delta * per_point(scale, delta)).clamp(lo, hi)


def random_point(x: Batch, eps: Real, norm: str, bounds: Bounds | None, generator: torch.Generator) -> Batch:
    """A point drawn uniformly from the ball around each `x`, then clipped to `bounds`."""
    if norm == "l_inf":
        noise = torch.empty(x.shape, dtype=torch.float32).uniform_(-1, 1, generator=generator).to(x)
        start = noise.mul_(eps).add_(x)
        return start if bounds is None else start.clamp_(*bounds)
    direction = steepest(torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x), "l_2")
    # A ball's volume grows as radius^d: this radius makes the point uniform in it.
    radius = torch.rand(len(x), generator=generator, dtype=torch.float32).to(x) ** (
        1 / max(1, x[0].numel() if len(x) else 1)
    )
    return clip(x + eps * direction * per_point(radius, x), bounds)
