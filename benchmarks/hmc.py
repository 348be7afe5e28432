"""HMC: milliseconds per gradient, and whole fits, beside a hand-written leapfrog and the peers' kernels.

python benchmarks/hmc.py [--runs 5] [--no-peers] [--fit-samples 500] [--fit-samples-large 20] [--smoke]
"""

from __future__ import annotations

import itertools

from by_hand import HandHMC
from problems import dataset_and_model, fast_route, name_of
from timing import Ways, alternate, header, options, table

import bayesrob as br

STEPS, STEP = 10, 1e-4
# Sizes, points, samples: enough gradients that the first one, which is not counted, does not count.
CASES = (((2, 32, 32, 2), 2000, 300), ((2, 128, 128, 2), 5000, 60), ((784, 512, 512, 10), 5000, 10))
SMOKE = (((2, 8, 8, 2), 50, 5), ((20, 128, 128, 10), 50, 3))
LARGE = 10**9
"""Multiplications of one pass from which on a whole fit of 500 samples takes minutes for each way."""


def main() -> None:
    number = {"type": int, "metavar": "N"}
    settings = options(__doc__, fit_samples={**number, "default": 500}, fit_samples_large={**number, "default": 20})
    print(header())
    for sizes, num_points, samples in SMOKE if settings.smoke else CASES:
        dataset, bnn = dataset_and_model(sizes, num_points)
        x, y = dataset.x_train, dataset.y_train
        hand = HandHMC(sizes, x, y)
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

        multiplications = num_points * sum(a * b for a, b in itertools.pairwise(sizes))
        samples = settings.fit_samples if multiplications < LARGE else settings.fit_samples_large
        samples = 5 if settings.smoke else samples
        ways = Ways(settings.peers)
        ways.add("bayesrob", lambda fit=fit, samples=samples: fit(samples))
        job = (bnn, x, y, samples, STEPS, STEP, reference)
        ways.peer("NumPyro MCMC.run(model), compilation included", "with_numpyro", "hmc_fit", *job)
        ways.peer("NumPyro MCMC.run(potential), compilation included", "with_numpyro", "hmc_fit", *job, flat=True)
        if settings.peers:
            seconds = alternate(ways, settings.runs)
            print(table(f"Whole fit of {samples} samples, {title}", seconds, unit="s", ways=ways), flush=True)


if __name__ == "__main__":
    main()
