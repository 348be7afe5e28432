"""posteriors: a Langevin sampler on the full data (it has no HMC), and its diagonal variational inference."""

from __future__ import annotations

import math

import numpy as np
import posteriors
import torch
import torchopt
from torch.func import functional_call

__all__ = ["langevin", "svi"]


def log_joint_of(bnn, num_data):
    """log p(w) + num_data / batch log p(y | x, w), and nothing beside it."""
    constant = 0.5 * bnn.num_weights * math.log(2 * math.pi) + float(bnn.prior_scales.log().sum())
    scales = bnn.unflatten(bnn.prior_scales)

    def log_joint(weights, batch):
        x, y = batch
        log_p = functional_call(bnn.net, weights, (x,)).log_softmax(-1)
        prior = sum((w / scales[name]).square().sum() for name, w in weights.items())
        return log_p.gather(1, y[:, None]).mean() * num_data - 0.5 * prior - constant, torch.tensor([])

    return log_joint


def langevin(bnn, x, y, samples, num_steps, step, reference):
    """BAOA, one gradient a step, no acceptance: `samples` x `num_steps` gradients, a draw kept after each `num_steps`."""
    start = {name: p.detach().clone() for name, p in bnn.net.named_parameters()}
    log_joint = log_joint_of(bnn, len(x))
    gradient = bnn.flatten(torch.func.grad(lambda w: log_joint(w, (x, y))[0])(start))
    error = float((gradient - reference).abs().max() / reference.abs().max())
    if error > 1e-3:
        raise ValueError(f"its gradient differs from ours by {error:.1e} of the largest component")
    transform = posteriors.sgmcmc.baoa.build(log_joint, lr=step)

    def way():
        state, draws = transform.init({name: p.clone() for name, p in start.items()}), []
        for _ in range(samples):
            for _ in range(num_steps):
                state, _ = transform.update(state, (x, y), inplace=True)
            draws.append({name: p.clone() for name, p in state.params.items()})
        return draws

    return way


def svi(bnn, batches, num_data, scale):
    """posteriors.vi.diag at its defaults but the start; returns the losses of the steps."""
    start = {name: p.detach().clone() for name, p in bnn.net.named_parameters()}
    optimizer = torchopt.adam(lr=0.01, betas=(0.9, 0.99))
    transform = posteriors.vi.diag.build(log_joint_of(bnn, num_data), optimizer, init_log_sds=float(np.log(scale)))

    def way():
        state, losses = transform.init({name: p.clone() for name, p in start.items()}), []
        for batch in batches:
            state, _ = transform.update(state, batch, inplace=False)
            losses.append(float(state.nelbo) / num_data)
        return np.array(losses)

    return way
