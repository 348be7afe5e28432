"""BlackJAX: HMC's kernel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from peers.jax_net import check_gradient, log_joint, parameters, prior_scales

import blackjax  # isort: skip  # after jax_net, which says which device JAX uses

__all__ = ["hmc"]


def hmc(bnn, x, y, samples, num_steps, step, reference):
    """The kernel in one compiled scan, compiled before the time."""
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    check_gradient(bnn, x, y, reference)
    weights = parameters(bnn)
    scales, size = prior_scales(bnn), len(ravel_pytree(weights)[0])
    kernel = blackjax.hmc(lambda w: log_joint(w, scales, x, y), step, jnp.ones(size), num_steps)
    start = kernel.init(weights)

    def one(state, key):
        state, _ = kernel.step(key, state)
        return state, state.position

    keys = jax.random.split(jax.random.PRNGKey(0), samples)
    run = jax.jit(lambda state: jax.lax.scan(one, state, keys)[1]).lower(start).compile()
    return lambda: jax.block_until_ready(run(start))
