"""SVI: milliseconds a step of mean-field variational inference, beside a hand-written step and the peers' own.

python benchmarks/svi.py [--runs 5] [--no-peers] [--steps 200] [--smoke]

784-512-10, batches of 256 of 12,800 random images, Adam at 0.01. Ours is a whole `fit` divided by its steps, start-up
included. The peers get their batches cut beforehand; ours and the hand-written steps shuffle and gather. JitTrace_ELBO is
traced and NumPyro compiled before the time. "-ELBO / N" is the mean over the last 50 steps (for ours the last epoch):
labels are random, so it only shows that the ways do the same job. (Ours starts at standard deviations of each layer's own,
and its learning rate falls.) The second table goes on from the means that 40 epochs on MNIST led to; "initial weights"
is the same work on MNIST from a random initialisation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from by_hand_svi import HandSVI
from problems import dataset_and_model, fast_route, learnable, name_of, share_of_denormals
from timing import Ways, alternate, header, options, table
from torch import nn

import bayesrob as br
from bayesrob.data import Dataset
from bayesrob.models import BayesianNetwork


class FromOwnWeights(br.inference.SVI):
    """SVI whose means start at the network's own weights."""

    def learner(self, model: Any, likelihood: Any, dataset: Dataset, seed: int) -> Any:
        learner = super().learner(model, likelihood, dataset, seed)
        with torch.no_grad():
            learner.parameters[0].copy_(model.flatten(dict(model.net.named_parameters())))
        return learner


def main() -> None:
    settings = options(__doc__, steps={"type": int, "default": 200, "metavar": "N"})
    print(header())
    sizes, num, batch = ((20, 128, 10), 512, 64) if settings.smoke else ((784, 512, 10), 12_800, 256)
    epochs = 2 if settings.smoke else max(1, settings.steps // (num // batch))
    dataset, bnn = dataset_and_model(sizes, num)
    compare(dataset, bnn, batch, epochs, None, settings)
    dataset = learnable(sizes, num)
    post = br.inference.SVI(epochs=2 if settings.smoke else 40, batch_size=batch).fit(bnn, dataset)
    with torch.no_grad():
        for name, parameter in bnn.net.named_parameters():
            parameter.copy_(post.loc[name])  # type: ignore[attr-defined]
    compare(dataset, bnn, batch, epochs, br.models.BayesianNetwork(br.nets.initialise(bnn.net, 0)), settings)


def compare(
    dataset: Dataset, bnn: BayesianNetwork, batch: int, epochs: int, at_first: BayesianNetwork | None, settings: Any
) -> None:
    """Print the table of all ways from the weights of `bnn`; `at_first`: the same network at initial ones."""
    sizes = (*(p.shape[1] for p in bnn.net.parameters() if p.ndim == 2), dataset.num_classes or 0)
    x, y = dataset.x_train, dataset.y_train
    num, steps = len(x), epochs * (len(x) // batch)
    start = bnn.flatten(dict(bnn.net.named_parameters())).detach()
    scale = 0.1 * sizes[0] ** -0.5

    ways = Ways(settings.peers)
    hands = {
        f"by hand, {draw}, {how}": HandSVI(sizes, x, y, start, scale, draw == "local", how == "manual backward")
        for draw in ("one draw", "local")
        for how in ("autograd", "manual backward")
    }
    check_by_hand(hands, start, scale)
    for name, hand in hands.items():
        ways.add(name, lambda hand=hand: hand.run(steps, batch).numpy())
        if route := fast_route(bnn.net):
            way = functools.partial(by_fast_route, bnn.net, lambda hand=hand: hand.run(steps, batch).numpy())
            ways.add(f"{name}, fast route ({route[0]})", way)
    for estimator in ("local", "shared_draw"):
        method = FromOwnWeights(epochs=epochs, batch_size=batch, estimator=estimator)
        name = "bayesrob" if estimator == "local" else f"bayesrob, {estimator}"
        ways.add(name, lambda m=method: m.fit(bnn, dataset))
        if at_first is not None:
            ways.add(f"{name}, initial weights", lambda m=method: m.fit(at_first, dataset))
    batches = [(x[i : i + batch], y[i : i + batch]) for i in range(0, num, batch)] * epochs
    job = (bnn, batches, num, scale)
    ways.peer("Pyro AutoDiagonalNormal, Trace_ELBO (our model)", "with_pyro", "svi", *job, jit=False)
    ways.peer("Pyro AutoDiagonalNormal, JitTrace_ELBO (plain model)", "with_pyro", "svi", *job, jit=True)
    ways.peer("NumPyro AutoDiagonalNormal, compiled update", "with_numpyro", "svi", *job, scan=False)
    ways.peer("NumPyro AutoDiagonalNormal, compiled scan", "with_numpyro", "svi", *job, scan=True)
    ways.peer("posteriors vi.diag", "with_posteriors", "svi", *job)
    losses: dict[str, str] = {}

    def keep(name: str, result: Any) -> None:
        if isinstance(result, br.predictive.Predictive):
            assert result.info["steps"] == steps, f"{result.info['steps']} steps, not {steps}"
            last = result.info["losses"][-1]
        else:
            last = float(np.mean(np.asarray(result)[-50:]))
        losses[name] = f"{last:.4g}"

    seconds = alternate(ways, settings.runs, keep)
    where = "random data" if at_first is None else f"after 40 epochs; {share_of_denormals(bnn, dataset)}"
    title = f"SVI, {name_of(sizes)}, batches of {batch}, {steps} steps (bayesrob: the estimator local), {where}"
    print(table(title, seconds, steps, "ms per step", ways, {"-ELBO / N": losses}))


def by_fast_route(net: nn.Module, run: Callable[[], np.ndarray]) -> np.ndarray:
    """What `run` returns under the route of products that bayesrob takes for the network."""
    route = fast_route(net)
    assert route is not None
    with route[1]:
        return run()


def check_by_hand(hands: dict[str, HandSVI], loc: torch.Tensor, scale: float) -> None:
    """The written-out gradients are autograd's for the same noise."""
    for draw in ("one draw", "local"):
        one, other = hands[f"by hand, {draw}, autograd"], hands[f"by hand, {draw}, manual backward"]
        x, target = one.x[:64], one.target[:64]
        noise, log_scale = one.noise(len(x)), torch.full_like(loc, scale).log()
        leaves = loc.clone().requires_grad_(), log_scale.clone().requires_grad_()
        for a, b in zip(
            one.gradient(*leaves, x, target, noise), other.gradient(loc, log_scale, x, target, noise), strict=True
        ):
            error = float((a - b).abs().max() / a.abs().max())
            assert error < 1e-4, f"{draw}: the written-out gradient differs by {error:.1e}"


if __name__ == "__main__":
    main()
