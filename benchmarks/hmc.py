"""HMC: milliseconds per gradient of a whole `fit`, beside a hand-written leapfrog and Pyro's kernel, in one run.

python benchmarks/hmc.py [--runs 5] [--pyro]
"""

from __future__ import annotations

import argparse
from typing import Any

import pyro
import torch
from by_hand import HandHMC
from pyro.infer import HMC as PyroHMC
from pyro.infer import MCMC
from timing import alternate, header, table

import bayesrob as br

STEPS, STEP = 10, 1e-4
CASES = (((2, 32, 32, 2), 2000, 40), ((2, 128, 128, 2), 5000, 10), ((784, 512, 512, 10), 5000, 2))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--pyro", action="store_true", help="also Pyro's HMC kernel on the same model")
    options = arguments.parse_args()
    print(header(), "\n")
    for sizes, num_data, samples in CASES:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(num_data, sizes[0], generator=generator)
        y = torch.randint(sizes[-1], (num_data,), generator=generator)
        dataset = br.data.from_arrays(x, y, x[:10], y[:10], num_classes=sizes[-1])
        bnn = br.models.BayesianNetwork(br.nets.mlp(sizes[0], sizes[1:-1], sizes[-1], activation="leaky_relu"))
        hmc = br.inference.HMC(num_samples=samples, warmup=0, step_size=STEP, num_steps=STEPS, num_chains=1)
        hand = HandHMC(sizes, x, y)
        theta = bnn.flatten(dict(bnn.net.named_parameters())).detach()
        check = br.models.LogJoint(bnn, x, y).gradient(theta)[1]
        assert torch.allclose(hand.gradient(theta)[1], check, rtol=1e-3, atol=1e-3 * float(check.abs().max()))

        def with_pyro(bnn=bnn, x=x, y=y, samples=samples) -> None:
            settings: dict[str, Any] = {"step_size": STEP}  # Pyro annotates it as an int
            kernel = PyroHMC(bnn, **settings, num_steps=STEPS, adapt_step_size=False, adapt_mass_matrix=False)
            pyro.clear_param_store()
            MCMC(kernel, num_samples=samples, warmup_steps=0, disable_progbar=True).run(x, y)

        ways = {
            "by hand": lambda hand=hand, theta=theta, samples=samples: hand.run(theta, samples, STEPS, STEP),
            "bayesrob": lambda hmc=hmc, bnn=bnn, dataset=dataset: hmc.fit(bnn, dataset),
        }
        if options.pyro:
            ways["Pyro HMC(model)"] = with_pyro
        seconds = alternate(ways, options.runs)
        title = f"HMC, {'-'.join(map(str, sizes))}, {num_data} points, {STEPS} leapfrog steps"
        print(table(title, seconds, samples * STEPS, "ms per gradient", "by hand"), flush=True)


if __name__ == "__main__":
    main()
