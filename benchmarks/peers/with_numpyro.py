"""NumPyro: HMC's kernel, whole runs of MCMC, NUTS, SVI."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import torch
from numpyro import distributions, handlers, optim
from numpyro.infer import HMC, MCMC, NUTS, SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoDiagonalNormal

from peers.jax_net import check_gradient, log_joint, logits, parameters, prior_scales

__all__ = ["hmc_fit", "hmc_kernel", "nuts_kernel", "nuts_run", "svi"]

FIXED = {"adapt_step_size": False, "adapt_mass_matrix": False}


def model_of(bnn):
    shapes, scales = {name: p.shape for name, p in parameters(bnn).items()}, prior_scales(bnn)

    def model(x, y, num_data=None):
        weights = {
            name: numpyro.sample(name, distributions.Normal(0.0, scales[name]).expand(shape).to_event(len(shape)))
            for name, shape in shapes.items()
        }
        outputs = logits(weights, list(shapes), x)
        with handlers.scale(scale=(num_data or len(x)) / len(x)):
            numpyro.sample("obs", distributions.Categorical(logits=outputs).to_event(1), obs=y)

    return model


def potential_of(bnn, x, y):
    scales = prior_scales(bnn)
    return lambda weights: -log_joint(weights, scales, x, y)


def hmc_kernel(bnn, x, y, samples, num_steps, step, reference):
    """The kernel in one compiled scan, compiled and started before the time: per gradient, NumPyro's best."""
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    check_gradient(bnn, x, y, reference)
    kernel = HMC(potential_fn=potential_of(bnn, x, y), step_size=step, num_steps=num_steps, **FIXED)
    start = kernel.init(jax.random.PRNGKey(0), 0, parameters(bnn), (), {})

    def one(state, _):
        state = kernel.sample(state, (), {})
        return state, (state.z, state.num_steps)

    run = jax.jit(lambda state: jax.lax.scan(one, state, None, length=samples)[1]).lower(start).compile()
    steps = np.asarray(run(start)[1])
    if (steps != num_steps).any():
        raise ValueError(f"it took {steps} leapfrog steps, not {num_steps}")
    return lambda: jax.block_until_ready(run(start))


def hmc_fit(bnn, x, y, samples, num_steps, step, reference, flat=False):
    """`MCMC.run`, compilation included: caches are cleared before each run."""
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    check_gradient(bnn, x, y, reference)

    def way():
        target = {"potential_fn": potential_of(bnn, x, y)} if flat else {"model": model_of(bnn)}
        kernel = HMC(**target, step_size=step, num_steps=num_steps, **FIXED)
        mcmc = MCMC(kernel, num_warmup=0, num_samples=samples, progress_bar=False)
        arguments = () if flat else (x, y)
        mcmc.run(jax.random.PRNGKey(0), *arguments, init_params=parameters(bnn))
        return jax.block_until_ready(mcmc.get_samples())

    return way, jax.clear_caches


def nuts_kernel(bnn, starts, x, y, warmup, samples, max_tree_depth, reference):
    """The kernel in one compiled scan, compiled and started before the time; draws `[chain, draw, weight]`.

    Not a second `MCMC.run`: that one starts the kernel anew and compiles much of it again.
    """
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    check_gradient(bnn, x, y, reference)
    kernel = NUTS(potential_fn=potential_of(bnn, x, y), max_tree_depth=max_tree_depth, adapt_mass_matrix=False)
    firsts = [{name: jnp.asarray(p.numpy()) for name, p in start.items()} for start in starts]
    states = [kernel.init(jax.random.PRNGKey(0), warmup, first, (), {}) for first in firsts]

    def one(state, _):
        state = kernel.sample(state, (), {})
        return state, state.z

    run = jax.jit(lambda state: jax.lax.scan(one, state, None, length=warmup + samples)[1]).lower(states[0]).compile()
    seeds = itertools.count()

    def new_keys():
        states[:] = [state._replace(rng_key=jax.random.PRNGKey(next(seeds))) for state in states]

    def way():
        chains = [jax.block_until_ready(run(state)) for state in states]
        return flat_draws([{name: np.asarray(z)[warmup:] for name, z in draws.items()} for draws in chains], bnn)

    return way, new_keys


def nuts_run(bnn, starts, x, y, warmup, samples, max_tree_depth, reference, flat=False):
    """`MCMC.run`, compilation included: caches are cleared before each run; draws `[chain, draw, weight]`."""
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    check_gradient(bnn, x, y, reference)
    firsts = {name: jnp.asarray(torch.stack([start[name] for start in starts]).numpy()) for name in starts[0]}
    firsts = firsts if len(starts) > 1 else {name: values[0] for name, values in firsts.items()}
    seeds = itertools.count()

    def way():
        target = {"potential_fn": potential_of(bnn, x, y)} if flat else {"model": model_of(bnn)}
        kernel = NUTS(**target, max_tree_depth=max_tree_depth, adapt_mass_matrix=False)
        settings = {"num_chains": len(starts), "chain_method": "sequential", "progress_bar": False}
        mcmc = MCMC(kernel, num_warmup=warmup, num_samples=samples, **settings)
        mcmc.run(jax.random.PRNGKey(next(seeds)), *(() if flat else (x, y)), init_params=firsts)
        draws = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
        return flat_draws([{name: np.asarray(z)[c] for name, z in draws.items()} for c in range(len(starts))], bnn)

    return way, jax.clear_caches


def flat_draws(chains, bnn):
    """`[chain, draw, weight]` in torch's order from each chain's draws by name."""
    rows = [[draws[name].reshape(len(draws[name]), -1) for name in parameters(bnn)] for draws in chains]
    return torch.from_numpy(np.stack([np.concatenate(row, -1) for row in rows]))


def svi(bnn, batches, num_data, scale, scan):
    """AutoDiagonalNormal's compiled update, a call each or all in one scan; returns the losses of the steps, `[step]`."""
    xs, ys = (jnp.asarray(np.stack([part.numpy() for part in parts])) for parts in zip(*batches, strict=True))
    model = functools.partial(model_of(bnn), num_data=num_data)
    guide = AutoDiagonalNormal(model, init_loc_fn=init_to_value(values=parameters(bnn)), init_scale=scale)
    job = SVI(model, guide, optim.Adam(0.01, b1=0.9, b2=0.99), Trace_ELBO())
    start = job.init(jax.random.PRNGKey(0), xs[0], ys[0])
    if scan:
        run = jax.jit(lambda state: jax.lax.scan(lambda s, batch: job.update(s, *batch), state, (xs, ys)))
        return lambda: np.asarray(jax.block_until_ready(run(start))[1]) / num_data
    update, pieces = jax.jit(job.update), list(zip(xs, ys, strict=True))

    def way():
        state, losses = start, []
        for x, y in pieces:
            state, loss = update(state, x, y)
            losses.append(loss)
        return np.asarray(jax.block_until_ready(losses)) / num_data

    return way
