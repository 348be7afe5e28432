"""SGD: milliseconds a step of training one network, at its first and at its last weights, beside the loop everybody writes.

python benchmarks/sgd.py [--runs 5] [--smoke]

Adam at 0.001, batches of 128 of 5,000 images of MNIST (ten learnable classes where it is not on disk). "last" starts at the
weights that 60 epochs led to, where most residuals are tiny. "by hand": `nn.Module`, autograd, `torch.optim.Adam(fused)`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from by_hand import plain_training
from problems import learnable, name_of, network
from timing import Ways, alternate, header, options, table
from torch import nn

import bayesrob as br
from bayesrob.data import Dataset

SIZES = ((784, 512, 10), (784, 100, 100, 10))


class FromOwnWeights(br.inference.SGD):
    """SGD that starts at the network's own weights."""

    def _start(self, model: Any, seed: int) -> nn.Module:
        return copy.deepcopy(model)


def main() -> None:
    settings = options(__doc__)
    print(header())
    for sizes in ((20, 64, 10),) if settings.smoke else SIZES:
        compare(sizes, learnable(sizes, 256 if settings.smoke else 5000), settings)


def compare(sizes: tuple[int, ...], dataset: Dataset, settings: Any) -> None:
    """Print the table of steps at initial and at trained weights."""
    x, y, epochs = dataset.x_train, dataset.y_train, 2
    first = br.nets.initialise(network(sizes), 0)
    last = copy.deepcopy(first)
    post = br.inference.SGD(epochs=4 if settings.smoke else 60, batch_size=128, lr=1e-3).fit(first, dataset)
    with torch.no_grad():
        for name, parameter in last.named_parameters():
            parameter.copy_(post.weights[name][0])  # type: ignore[attr-defined]
    method = FromOwnWeights(epochs=epochs, batch_size=128, lr=1e-3, decay=False)
    ways = Ways(peers=False)
    for name, net in (("", last), (", initial weights", first)):
        ways.add(f"by hand{name}", lambda net=net: plain_training(lambda _: copy.deepcopy(net), x, y, epochs, 1))
        ways.add(f"bayesrob{name}", lambda net=net: method.fit(net, dataset))
    seconds = alternate(ways, settings.runs)
    steps = epochs * -(-len(x) // 128)
    print(table(f"SGD, {name_of(sizes)}, {len(x):,} points, last weights", seconds, steps, "ms per step", ways), flush=True)


if __name__ == "__main__":
    main()
