"""Adversarial training: milliseconds a step, in plain steps of the same training.

python benchmarks/adversarial.py [--runs 5] [--steps 60] [--threads 1] [--smoke]

784-512-10, batches of 128, and 784-100-100-100-10, batches of 64, of random images, Adam. Each is a whole `fit` divided by
its steps, start-up included. PGD-k takes k gradients with respect to the inputs and one step: at most 1.1 (k + 1) plain
steps are allowed. FGSM with clean_weight 0.5 is one backward pass for the clean loss's two gradients and one for the other
loss; "two passes" takes the attack's gradient apart.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from problems import dataset_and_model, name_of
from timing import Ways, alternate, header, options, table

import bayesrob as br
from bayesrob.attacks import FGSM, PGD
from bayesrob.inference import SGD, TRADES, AdversarialTraining, Inference

ONE_PASS = "bayesrob.inference.adversarial_training.alike_in_both_modes"


def main() -> None:
    steps_of = {"type": int, "default": 60, "metavar": "N"}
    settings = options(__doc__, steps=steps_of, threads={"type": int, "default": 1, "metavar": "N"})
    torch.set_num_threads(settings.threads)
    print(header())
    cases = [((20, 16, 10), 32)] if settings.smoke else [((784, 512, 10), 128), ((784, 100, 100, 100, 10), 64)]
    for sizes, batch in cases:
        dataset, bnn = dataset_and_model(sizes, 10 * batch)
        epochs = 1 if settings.smoke else max(1, settings.steps // 10)
        base = SGD(epochs=epochs, batch_size=batch)

        def fit(
            method: Inference, dataset: br.data.Dataset = dataset, net: torch.nn.Module = bnn.net
        ) -> Callable[[], object]:
            return lambda: method.fit(net, dataset)

        mixed = AdversarialTraining(FGSM(eps=0.1), base, clean_weight=0.5)

        def two_passes(mixed: AdversarialTraining = mixed, run: Callable[[Inference], Callable[[], object]] = fit) -> object:
            with mock.patch(ONE_PASS, return_value=False):
                return run(mixed)()

        ways = Ways()
        ways.add("plain", fit(base))
        for k in (1, 7, 10):
            ways.add(f"PGD-{k}, allowed {1.1 * (k + 1):.1f}", fit(AdversarialTraining(PGD(eps=0.1, steps=k), base)))
        ways.add("FGSM", fit(AdversarialTraining(FGSM(eps=0.1), base)))
        ways.add("FGSM, clean_weight 0.5", fit(mixed))
        ways.add("FGSM, clean_weight 0.5, two passes", two_passes)
        ways.add("TRADES, 10 steps", fit(TRADES(base=base)))
        seconds = alternate(ways, settings.runs)
        title = f"Adversarial training, {name_of(sizes)}, batches of {batch}, {10 * epochs} steps"
        print(table(title, seconds, 10 * epochs, "ms per step", ways, ours="plain"))


if __name__ == "__main__":
    main()
