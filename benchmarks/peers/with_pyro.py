"""Pyro: its kernels on our model and on a flat potential, and its SVI. Pyro's checks of arguments are on, as by default."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import torch
from pyro.infer import HMC, MCMC, NUTS, SVI, JitTrace_ELBO, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, init_to_value
from pyro.optim import Adam

__all__ = ["hmc", "nuts", "svi"]

FIXED = {"adapt_step_size": False, "adapt_mass_matrix": False}


def potential_of(bnn, x, y):
    """The negative log joint of one flat vector, by autograd, with nothing of Pyro's in it."""

    def potential(parameters):
        theta = parameters["theta"]
        log_p = bnn.outputs(theta, x).log_softmax(-1)
        return 0.5 * (theta / bnn.prior_scales).square().sum() - log_p.gather(1, y[:, None]).sum()

    return potential


def theta_of(bnn):
    return bnn.flatten(dict(bnn.net.named_parameters())).detach()


def check(bnn, x, y, reference):
    theta = theta_of(bnn).requires_grad_()
    weights = {name: w.unsqueeze(0)[0] for name, w in bnn.unflatten(theta).items()}
    trace = pyro.poutine.trace(pyro.condition(bnn, data=weights)).get_trace(x, y)
    for value in (trace.log_prob_sum(), -potential_of(bnn, x, y)({"theta": theta})):
        (gradient,) = torch.autograd.grad(value, theta, retain_graph=True)
        error = float((gradient - reference).abs().max() / reference.abs().max())
        if error > 1e-3:
            raise ValueError(f"its gradient differs from ours by {error:.1e} of the largest component")


def hmc(bnn, x, y, samples, num_steps, step, reference, flat=False):
    check(bnn, x, y, reference)

    def way():
        pyro.clear_param_store()
        target = {"potential_fn": potential_of(bnn, x, y)} if flat else {"model": bnn}
        kernel = HMC(**target, step_size=step, num_steps=num_steps, **FIXED)
        start = {"theta": theta_of(bnn)} if flat else {name: p.detach() for name, p in bnn.net.named_parameters()}
        mcmc = MCMC(kernel, num_samples=samples, warmup_steps=0, initial_params=start, disable_progbar=True)
        mcmc.run(*(() if flat else (x, y)))
        return mcmc.get_samples()

    return way


def nuts(bnn, starts, x, y, warmup, samples, max_tree_depth, reference, flat=False):
    """Draws `[chain, draw, weight]`, chains in turn."""
    check(bnn, x, y, reference)
    seeds = itertools.count()

    def way():
        pyro.set_rng_seed(next(seeds))
        chains = []
        for start in starts:
            target = {"potential_fn": potential_of(bnn, x, y)} if flat else {"model": bnn}
            kernel = NUTS(**target, max_tree_depth=max_tree_depth, adapt_mass_matrix=False)
            first = {"theta": bnn.flatten(start)} if flat else start
            mcmc = MCMC(kernel, num_samples=samples, warmup_steps=warmup, initial_params=first, disable_progbar=True)
            mcmc.run(*(() if flat else (x, y)))
            draws = mcmc.get_samples()
            chains.append(draws["theta"] if flat else bnn.flatten(draws))
        return torch.stack(chains)

    return way


def plain_model(bnn):
    """Our model of an mlp without `functional_call`, which torch's tracer refuses."""

    def model(x, y, num_data):
        weights = []
        for name, p in bnn.net.named_parameters():
            prior = pyro.distributions.Normal(p.new_zeros(()), p.new_ones(())).expand(p.shape).to_event(p.ndim)
            weights.append(pyro.sample(name, prior))
        for i in range(0, len(weights), 2):
            x = torch.nn.functional.linear(x, weights[i], weights[i + 1])
            x = torch.nn.functional.leaky_relu(x) if i + 2 < len(weights) else x
        with pyro.poutine.scale(scale=num_data / len(y)), pyro.plate("data", len(y)):
            pyro.sample("obs", pyro.distributions.Categorical(logits=x), obs=y)

    return model


def svi(bnn, batches, num_data, scale, jit):
    """AutoDiagonalNormal; returns the losses of the steps. With `jit` the trace is made, untimed, before each run."""
    start = {name: p.detach() for name, p in bnn.net.named_parameters()}
    made = {}

    def prepare():  # every run starts anew
        model = plain_model(bnn) if jit else bnn
        pyro.clear_param_store()
        guide = AutoDiagonalNormal(model, init_loc_fn=init_to_value(values=start), init_scale=scale)
        loss = (JitTrace_ELBO if jit else Trace_ELBO)()
        made["svi"] = SVI(model, guide, Adam({"lr": 0.01, "betas": (0.9, 0.99)}), loss)
        made["svi"].step(*batches[0], num_data=num_data)  # sets the guide up, and traces

    def way():
        if "svi" not in made:
            prepare()
        return np.array([made["svi"].step(x, y, num_data=num_data) for x, y in batches]) / num_data

    return way, prepare
