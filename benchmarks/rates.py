"""How much of the device's measured product rate bayesrob reaches, and chains of a small network in one program.

python benchmarks/rates.py [--device cpu|cuda] [--runs 5] [--smoke]

The product rate is that of a large square matrix product. The gradient is one of the log joint of 784-1024-1024-10 on the
full data, as HMC takes it (`LogJoint.gradient`); its operations are those of its products. Chains: a thousand of 2-32-32-2
on 2,000 half moons in batched products, beside a few in turn on the CPU. On CUDA also with products in tf32.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
from collections.abc import Iterator
from typing import Literal

import torch
from problems import name_of, network, points
from timing import Ways, alternate, header, options

import bayesrob as br

STEPS, STEP = 10, 1e-4


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Products on CUDA in "float32" or "tf32"; set back afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def operations(sizes: tuple[int, ...], num: int) -> int:
    """Of one gradient: forward, weights' gradients, and the inputs' of all layers but the first."""
    products = [a * b for a, b in itertools.pairwise(sizes)]
    return 2 * num * (3 * sum(products) - products[0])


def main() -> None:
    settings = options(__doc__, device={"default": "cuda" if torch.cuda.is_available() else "cpu"})
    cuda = settings.device.startswith("cuda")
    where = torch.cuda.get_device_name() if cuda else "CPU"
    print(header())
    side = 256 if settings.smoke else 8192 if cuda else 2048
    sizes = (784, 64, 64, 10) if settings.smoke else (784, 1024, 1024, 10)
    num = 200 if settings.smoke else 60_000 if cuda else 5_000
    repeats = 10 if cuda else 2

    def finish() -> None:
        if cuda:
            torch.cuda.synchronize()

    square = torch.rand(side, side, device=settings.device)
    bnn = br.models.BayesianNetwork(network(sizes)).to(settings.device)
    target = br.models.LogJoint(bnn, *points(sizes, num))
    theta = bnn.flatten(dict(bnn.net.named_parameters())).detach()
    ways, work = Ways(), {}

    def product(kind: str) -> None:
        # On the CPU by the route that bayesrob takes: the fastest exact one.
        with precision(kind), br.numerics.choose(bnn.net):
            for _ in range(repeats):
                torch.mm(square, square)
            finish()

    def gradient(kind: str) -> None:
        with precision(kind), br.numerics.choose(bnn.net):
            for _ in range(repeats):
                target.gradient(theta)
            finish()

    kinds = ("float32", "tf32") if cuda else ("float32",)
    for kind in kinds:
        for name, way, count in (("product", product, 2 * side**3), ("gradient", gradient, operations(sizes, num))):
            ways.add(f"{name}, {kind}", lambda way=way, kind=kind: way(kind))
            work[f"{name}, {kind}"] = repeats * count
    seconds = alternate(ways, settings.runs)
    rates = {name: [work[name] / s / 1e9 for s in values] for name, values in seconds.items()}
    chunks = len(target.chunks())
    print(f"**{where}: products of {side} x {side}; gradients at {name_of(sizes)}, {num:,} points in {chunks} chunks**\n")
    print("| way | median GFLOP/s | best | share of the product's |\n| --- | --- | --- | --- |")
    for name, values in rates.items():
        own = rates["product, " + name.split(", ")[1]]
        share = statistics.median(a / b for a, b in zip(values, own, strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {max(values):,.0f} | {share:.0%} |")
    print()
    chains(settings, where)


def chains(settings: argparse.Namespace, where: str) -> None:
    small, samples = (2, 32, 32, 2), 2 if settings.smoke else 10
    many, few = (20, 2) if settings.smoke else (1000, 4)
    dataset = br.data.load("half_moons", n_train=100 if settings.smoke else 2000, n_test=500, seed=0)
    on_cpu = br.models.BayesianNetwork(network(small))
    on_device = br.models.BayesianNetwork(network(small)).to(settings.device)

    def fit(bnn: br.models.BayesianNetwork, num: int, how: Literal["in_turn", "batched"]) -> object:
        hmc = br.inference.HMC(samples, warmup=0, step_size=STEP, num_chains=num, num_steps=STEPS, chains=how)
        post = hmc.fit(bnn, dataset)
        if settings.device.startswith("cuda"):
            torch.cuda.synchronize()
        return post

    ways = Ways()
    ways.add(f"{few} chains in turn, CPU", lambda: fit(on_cpu, few, "in_turn"))
    ways.add(f"{many} chains in one program, {where}", lambda: fit(on_device, many, "batched"))
    seconds = alternate(ways, settings.runs)
    gradients = dict(zip(ways.run, (few * samples * STEPS, many * samples * STEPS), strict=True))
    rates = {name: [gradients[name] / s for s in values] for name, values in seconds.items()}
    first = next(iter(rates.values()))
    print(f"**HMC of {name_of(small)}, {len(dataset.x_train):,} half moons, whole fits of {samples} samples a chain**\n")
    print("| way | median gradients/s | best | ratio |\n| --- | --- | --- | --- |")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {max(values):,.0f} | {ratio:.2f} |")
    print()


if __name__ == "__main__":
    main()
