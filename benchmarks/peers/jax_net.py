"""A leaky-ReLU network with normal priors in JAX: what NumPyro and BlackJAX sample."""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported: an accelerator would not be the same machine

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["check_gradient", "log_joint", "logits", "parameters", "prior_scales"]


def parameters(bnn) -> dict[str, jax.Array]:
    """The network's own weights, by torch's names, in torch's order."""
    return {name: jnp.asarray(p.detach().numpy()) for name, p in bnn.net.named_parameters()}


def prior_scales(bnn) -> dict[str, float]:
    """The prior's standard deviation of each parameter, by torch's names."""
    return {name: float(scales.flatten()[0]) for name, scales in bnn.unflatten(bnn.prior_scales).items()}


def logits(weights: dict[str, jax.Array], names: list[str], x: jax.Array) -> jax.Array:
    """`names` in torch's order, as JAX sorts dictionaries."""
    h = x
    for i in range(0, len(names), 2):
        h = h @ weights[names[i]].T + weights[names[i + 1]]
        if i + 2 < len(names):
            h = jax.nn.leaky_relu(h, 0.01)
    return h


def log_joint(weights: dict[str, jax.Array], scales: dict[str, float], x: jax.Array, y: jax.Array) -> jax.Array:
    """`scales` are the priors', in torch's order."""
    log_p = jax.nn.log_softmax(logits(weights, list(scales), x))
    prior = sum(jnp.square(w / scales[name]).sum() for name, w in weights.items())
    return jnp.take_along_axis(log_p, y[:, None], 1).sum() - 0.5 * prior


def check_gradient(bnn, x: jax.Array, y: jax.Array, reference) -> None:
    """Raise unless the gradient of `log_joint` at the network's own weights is `reference`, a flat torch tensor."""
    weights = parameters(bnn)
    gradient = jax.grad(log_joint)(weights, prior_scales(bnn), x, y)
    flat = np.concatenate([np.asarray(gradient[name]).ravel() for name in weights])
    # Of the whole: one point whose unit is at its kink moves single components by a thousandth, on some processors.
    error = float(np.linalg.norm(flat - reference.numpy()) / np.linalg.norm(reference.numpy()))
    if error > 1e-3:
        raise ValueError(f"its gradient differs from ours by {error:.1e} of its length")
