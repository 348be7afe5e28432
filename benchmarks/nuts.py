"""NUTS: effective draws of predictions a second, beside Pyro's and NumPyro's, on half moons under 2-32-32-2.

python benchmarks/nuts.py [--runs 5] [--no-peers] [--warmup 100] [--samples 100] [--chains 1] [--smoke]

All start at the same weights (of a random initialisation, and of HMC chains of 80 transitions under two priors), adapt the
step to an acceptance of 0.8 in the warm-up, keep unit mass, and double a trajectory at most six times; chains run in turn.
The time includes the warm-up; NumPyro's is given with and without what it takes to compile (without: its kernel in a
compiled scan, as a second `MCMC.run` compiles again). Effective draws (bulk, ArviZ's) are those of the posterior predictive
probability of class 1 at 50 fixed test points; ratios are of the seconds per effective draw at the median point, so that
above 1.00 is slower. Each run has a seed of its own, so runs differ by more than the machine's noise.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from typing import Any

import arviz
import numpy as np
from problems import PRIORS, name_of, network, trained
from timing import Ways, alternate, header, options, table
from torch import Tensor

import bayesrob as br
from bayesrob.data import Dataset

SIZES, DEPTH, POINTS = (2, 32, 32, 2), 6, 50


def effective_draws(bnn: br.models.BayesianNetwork, draws: Tensor, x: Tensor) -> np.ndarray:
    """Bulk effective sample size at each point, from weights `[chain, draw, weight]`."""
    outputs = bnn.outputs(draws.flatten(0, 1), x).softmax(-1)[..., 1]
    values = outputs.unflatten(0, draws.shape[:2]).double().numpy()
    ess: Any = arviz.ess(values, chain_axis=0, draw_axis=1, method="bulk")
    stuck = (values == values[:1, :1]).all((0, 1))  # of which ArviZ says that every draw counts
    return np.where(stuck, 1.0, np.asarray(ess))


def per_effective_draw(
    seconds: dict[str, list[float]], effective: dict[str, list[np.ndarray]]
) -> tuple[dict[str, list[float]], dict[str, dict[str, str]]]:
    """Seconds per effective draw at the median point, of which ratios are taken (below 1.00 is faster), and columns."""
    each: dict[str, list[float]] = {}
    columns: dict[str, dict[str, str]] = {
        "effective draws/s, median point": {}, "worst point": {}, "effective draws, median point": {}, "seconds": {}
    }  # fmt: skip
    for name in seconds:
        middle = [float(np.median(draws)) for draws in effective[name]]
        least = [float(np.min(draws)) for draws in effective[name]]
        each[name] = [s / m for s, m in zip(seconds[name], middle, strict=True)]
        texts = (
            statistics.median(m / s for s, m in zip(seconds[name], middle, strict=True)),
            statistics.median(m / s for s, m in zip(seconds[name], least, strict=True)),
            statistics.median(middle),
            statistics.median(seconds[name]),
        )
        for column, value in zip(columns.values(), texts, strict=True):
            column[name] = f"{value:.3g}"
    return each, columns


class FromStarts(br.inference.NUTS):
    """NUTS whose chains start at given weights."""

    def _start(self, bnn: br.models.BayesianNetwork, generator: Any, seed: int, chain: int) -> Tensor:
        return bnn.starts[chain]  # type: ignore[attr-defined, return-value]


def main() -> None:
    number = {"type": int, "metavar": "N"}
    settings = options(
        __doc__, warmup={**number, "default": 100}, samples={**number, "default": 100}, chains={**number, "default": 1}
    )
    print(header())
    num_train = 100 if settings.smoke else 2000
    dataset = br.data.load("half_moons", n_train=num_train, n_test=500, seed=0)
    bnn = br.models.BayesianNetwork(network(SIZES))
    nets = [br.nets.initialise(bnn.net, 0, "nuts", chain) for chain in range(settings.chains)]
    compare(dataset, bnn, [bnn.flatten(dict(net.named_parameters())).detach() for net in nets], "", settings)
    for prior in PRIORS:
        data, at_draw, post = trained(SIZES, prior, num_train, draws=10 * settings.chains)
        starts = list(at_draw.flatten(post.weights)[9::10])
        compare(data, at_draw, starts, f", from a draw of a chain under a {prior} prior", settings)


def compare(
    dataset: Dataset, bnn: br.models.BayesianNetwork, starts: list[Tensor], where: str, settings: argparse.Namespace
) -> None:
    """Print the table of all ways from the same starts, one flat vector for each chain."""
    warmup, samples = (20, 20) if settings.smoke else (settings.warmup, settings.samples)
    x, y, fixed = dataset.x_train, dataset.y_train, dataset.x_test[:POINTS]
    reference = br.models.LogJoint(bnn, x, y).gradient(bnn.flatten(dict(bnn.net.named_parameters())).detach())[1]
    seeds = itertools.count()
    bnn.starts = starts  # type: ignore[assignment]

    def ours() -> Tensor:
        method = FromStarts(
            num_samples=samples, warmup=warmup, num_chains=settings.chains, max_tree_depth=DEPTH, chains="in_turn"
        )
        post = method.fit(bnn, dataset, seed=next(seeds))
        draws = bnn.flatten(post.weights)  # type: ignore[attr-defined]  # chains are interleaved
        steps["bayesrob"].append(float(np.mean(post.sample_stats["n_steps"])))  # type: ignore[attr-defined]
        return draws.unflatten(0, (samples, settings.chains)).transpose(0, 1)

    steps: dict[str, list[float]] = {"bayesrob": []}
    ways = Ways(settings.peers)
    ways.add("bayesrob", ours)
    job = (bnn, [bnn.unflatten(start) for start in starts], x, y, warmup, samples, DEPTH)
    ways.peer("Pyro NUTS(model)", "with_pyro", "nuts", *job, reference=reference)
    ways.peer("NumPyro NUTS kernel, compiled before", "with_numpyro", "nuts_kernel", *job, reference=reference)
    name = "NumPyro MCMC.run(potential), compilation included"
    ways.peer(name, "with_numpyro", "nuts_run", *job, reference=reference, flat=True)
    effective: dict[str, list[np.ndarray]] = {name: [] for name in ways.run}
    seconds = alternate(ways, settings.runs, lambda name, draws: effective[name].append(effective_draws(bnn, draws, fixed)))

    chains = f"{settings.chains} chain{'s in turn' if settings.chains > 1 else ''}"
    title = (
        f"NUTS, {name_of(SIZES)}, {len(x):,} half moons, depth {DEPTH}, {chains}, {warmup} + {samples} transitions{where}"
    )
    each, columns = per_effective_draw(seconds, effective)
    print(table(title, each, unit="ms per effective draw", ways=ways, columns=columns))
    print(f"bayesrob took {np.mean(steps['bayesrob']):.1f} leapfrog steps a transition after the warm-up.\n")


if __name__ == "__main__":
    main()
