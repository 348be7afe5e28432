"""PGD over 100 draws: milliseconds per step, beside the same products written by hand, in one run.

python benchmarks/pgd.py [--runs 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from by_hand import hand_pgd
from timing import alternate, header, table

import bayesrob as br

DRAWS, STEPS, EPS = 100, 15, 0.1
CASES = (((784, 512, 512, 10), 128), ((2, 32, 32, 2), 500))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    options = arguments.parse_args()
    print(header(), "\n")
    for sizes, num_points in CASES:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(num_points, sizes[0], generator=generator)
        y = torch.randint(sizes[-1], (num_points,), generator=generator)
        net = br.nets.mlp(sizes[0], sizes[1:-1], sizes[-1], activation="leaky_relu")
        weights = {
            name: torch.randn(DRAWS, *parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
            for name, parameter in net.named_parameters()
        }
        post = br.predictive.HeldDraws(net, weights, bounds=(0, 1), input_shape=(sizes[0],))
        chunk = post.chunk(x)
        attack = br.attacks.PGD(eps=EPS, steps=STEPS, random_start=False)
        tensors = list(weights.values())
        same = (attack(post, x, y) - hand_pgd(tensors, x, y, EPS, STEPS, chunk)).abs() < 1e-6
        print(f"{float(same.float().mean()):.4f} of the components agree with the hand-written attack")
        ways: dict[str, Callable[[], object]] = {
            "by hand": lambda t=tensors, x=x, y=y, c=chunk: hand_pgd(t, x, y, EPS, STEPS, c)
        }
        for size in (1, 5, 20, 100):
            ways[f"by hand, {size} draws at once"] = lambda t=tensors, x=x, y=y, c=size: hand_pgd(t, x, y, EPS, STEPS, c)
        ways["bayesrob"] = lambda post=post, x=x, y=y, attack=attack: attack(post, x, y)
        seconds = alternate(ways, options.runs)
        title = f"PGD-{STEPS}, {DRAWS} draws of {'-'.join(map(str, sizes))}, {num_points} points, {chunk} draws at once"
        print(table(title, seconds, STEPS, "ms per step", "by hand"), flush=True)


if __name__ == "__main__":
    main()
