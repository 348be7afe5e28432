"""HMC: milliseconds per gradient, and whole fits, beside a hand-written leapfrog and the peers' kernels.

python benchmarks/hmc.py [--runs 5] [--no-peers] [--fit-samples N] [--smoke]

The tables "at a draw of a chain" start at the weights that 80 transitions on 1,000 images of MNIST (or half moons) led to,
in ours and in every other way; "bayesrob, initial weights" is the same work on the same data at a random initialisation.

A whole fit is of 500 samples at 2-32-32-2, of fewer at the larger networks, where 500 would take minutes for every way and
run (`--fit-samples` asks for as many at all of them): the fewer, the more compilation counts.
"""

from __future__ import annotations

import argparse
from typing import Any

from by_hand import HandHMC
from problems import PRIORS, FromOwnWeights, dataset_and_model, fast_route, name_of, share_of_denormals, trained
from timing import Ways, alternate, header, options, table

import bayesrob as br

STEPS, STEP = 10, 1e-4
# Sizes, points, samples (enough gradients that the first one, which is not counted, does not count), samples of a whole fit.
CASES = (((2, 32, 32, 2), 2000, 200, 500), ((2, 128, 128, 2), 5000, 30, 60), ((784, 512, 512, 10), 5000, 4, 4))
SMOKE = (((2, 8, 8, 2), 50, 5, 5), ((20, 128, 128, 10), 50, 3, 5))
# Sizes and samples at trained weights.
TRAINED = (((2, 32, 32, 2), 60), ((784, 32, 32, 10), 20), ((784, 128, 10), 15), ((784, 512, 512, 10), 3))
SMOKE_TRAINED = (((2, 8, 8, 2), 5), ((20, 128, 128, 10), 3))


def main() -> None:
    settings = options(__doc__, fit_samples={"type": int, "metavar": "N", "default": 0})
    print(header())
    for sizes, num_points, samples, fit_samples in SMOKE if settings.smoke else CASES:
        dataset, bnn = dataset_and_model(sizes, num_points)
        x, y = dataset.x_train, dataset.y_train
        hand = HandHMC(sizes, x, y, bnn.prior_scales)
        theta = bnn.flatten(dict(bnn.net.named_parameters())).detach()
        reference = br.models.LogJoint(bnn, x, y).gradient(theta)[1]
        error = float((hand.gradient(theta)[1] - reference).abs().max() / reference.abs().max())
        assert error < 1e-3, f"the hand-written gradient differs by {error}"
        title = f"{name_of(sizes)}, {num_points:,} points, {STEPS} leapfrog steps"

        def fit(samples: int, bnn=bnn, dataset=dataset) -> object:
            hmc = br.inference.HMC(num_samples=samples, warmup=0, step_size=STEP, num_steps=STEPS, num_chains=1)
            return hmc.fit(bnn, dataset)

        def by_hand_fast(samples=samples, hand=hand, theta=theta, bnn=bnn) -> object:
            found = fast_route(bnn.net)
            assert found is not None
            with found[1]:
                return hand.run(theta, samples, STEPS, STEP)

        ways = Ways(settings.peers)
        ways.add("by hand", lambda hand=hand, theta=theta, samples=samples: hand.run(theta, samples, STEPS, STEP))
        if found := fast_route(bnn.net):
            ways.add(f"by hand, fast route ({found[0]})", by_hand_fast)
        ways.add("bayesrob", lambda fit=fit, samples=samples: fit(samples))
        job = (bnn, x, y, samples, STEPS, STEP, reference)
        ways.peer("Pyro HMC(model)", "with_pyro", "hmc", *job)
        ways.peer("Pyro HMC(flat potential)", "with_pyro", "hmc", *job, flat=True)
        ways.peer("NumPyro HMC kernel, compiled", "with_numpyro", "hmc_kernel", *job)
        ways.peer("BlackJAX HMC kernel, compiled", "with_blackjax", "hmc", *job)
        ways.peer("posteriors BAOA (Langevin; it has no HMC)", "with_posteriors", "langevin", *job)
        seconds = alternate(ways, settings.runs)
        print(table(f"HMC, {title}", seconds, samples * STEPS, "ms per gradient", ways), flush=True)

        samples = settings.fit_samples or fit_samples
        ways = Ways(settings.peers)
        ways.add("bayesrob", lambda fit=fit, samples=samples: fit(samples))
        job = (bnn, x, y, samples, STEPS, STEP, reference)
        ways.peer("NumPyro MCMC.run(model), compilation included", "with_numpyro", "hmc_fit", *job)
        ways.peer("NumPyro MCMC.run(potential), compilation included", "with_numpyro", "hmc_fit", *job, flat=True)
        if settings.peers:
            seconds = alternate(ways, settings.runs)
            print(table(f"Whole fit of {samples} samples, {title}", seconds, unit="s", ways=ways), flush=True)
    for sizes, samples in SMOKE_TRAINED if settings.smoke else TRAINED:
        for prior in PRIORS:
            at_trained_weights(sizes, samples, prior, settings)


def at_trained_weights(sizes: tuple[int, ...], samples: int, prior: str, settings: argparse.Namespace) -> None:
    """Print the table of gradients at a draw of a chain under the prior."""
    dataset, bnn, _ = trained(sizes, prior)
    x, y = dataset.x_train, dataset.y_train
    hand = HandHMC(sizes, x, y, bnn.prior_scales)
    theta = bnn.flatten(dict(bnn.net.named_parameters())).detach()
    reference = br.models.LogJoint(bnn, x, y).gradient(theta)[1]
    scale: Any = bnn.prior_scale
    at_first = br.models.BayesianNetwork(br.nets.initialise(bnn.net, 0), prior_scale=scale)
    # Small steps, so that the chain stays at such weights and every way does as many gradients there.
    method = FromOwnWeights(num_samples=samples, warmup=0, step_size=1e-5, num_steps=STEPS, num_chains=1)
    ways = Ways(settings.peers)
    ways.add("by hand", lambda: hand.run(theta, samples, STEPS, 1e-5))
    ways.add("bayesrob", lambda: method.fit(bnn, dataset))
    ways.add("bayesrob, initial weights", lambda: method.fit(at_first, dataset))
    job = (bnn, x, y, samples, STEPS, 1e-5, reference)
    ways.peer("Pyro HMC(model)", "with_pyro", "hmc", *job)
    ways.peer("Pyro HMC(flat potential)", "with_pyro", "hmc", *job, flat=True)
    ways.peer("NumPyro HMC kernel, compiled", "with_numpyro", "hmc_kernel", *job)
    ways.peer("BlackJAX HMC kernel, compiled", "with_blackjax", "hmc", *job)
    ways.peer("posteriors BAOA (Langevin; it has no HMC)", "with_posteriors", "langevin", *job)
    seconds = alternate(ways, settings.runs)
    title = (
        f"HMC at a draw of a chain, {prior} prior, {name_of(sizes)}, {len(x):,} points; {share_of_denormals(bnn, dataset)}"
    )
    print(table(title, seconds, samples * STEPS, "ms per gradient", ways), flush=True)


if __name__ == "__main__":
    main()
