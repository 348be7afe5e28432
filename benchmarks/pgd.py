"""PGD over 100 draws: seconds of an attack of 15 steps, beside the same products written by hand and the peers.

python benchmarks/pgd.py [--runs 5] [--no-peers] [--smoke]

l_inf, eps 0.1, no random start, float32. Ours and the floor climb the mean of the draws' losses (`expected_loss`); foolbox,
ART and torchattacks climb the loss of the mean prediction, which is all that a module shows them, as does the row
"bayesrob, predictive_loss". They get the usual module that loops over draws. As modules come its parameters require
gradients, which foolbox and ART then compute and nobody needs; "weights frozen" are the same without. "same" is the share
of components that end within 1e-6 of our attack on the same objective.

The tables "on an HMC posterior" are of 20 draws that a chain reached on 1,000 images of MNIST (or half moons) under N(0, 1)
priors; "random draws" is the same attack on as many random networks. There the floor has no gradient where float32 has none,
and ends elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from by_hand import hand_pgd
from problems import fast_route, held_draws, name_of, points, share_of_denormals, trained
from timing import Ways, alternate, header, options, table
from torch import Tensor

import bayesrob as br

DRAWS, STEPS, EPS = 100, 15, 0.1
CASES = (((784, 512, 512, 10), 128), ((2, 32, 32, 2), 500))
SMOKE = (((20, 128, 128, 10), 16), ((2, 8, 8, 2), 20))
# Sizes and images of the attacks on posteriors.
POSTERIORS = (((784, 32, 32, 10), 100), ((784, 512, 512, 10), 100), ((2, 32, 32, 2), 500))
SMOKE_POSTERIORS = (((20, 128, 128, 10), 16),)
IMAGES = 1
"""Images that the loop over images and draws is timed on; its seconds are then scaled."""


def add_by_hand(ways: Ways, weights: Sequence[Tensor], x: Tensor, y: Tensor, chunk: int, net: torch.nn.Module) -> None:
    found = fast_route(net)

    def fast(size: int) -> Tensor:
        route = fast_route(net)
        assert route is not None
        with route[1]:
            return hand_pgd(weights, x, y, EPS, STEPS, size)

    for size in sorted({1, 5, 20, 100, chunk}):
        name = f"by hand, {size} draws at once"
        ways.add(name, lambda size=size: hand_pgd(weights, x, y, EPS, STEPS, size))
        if found:
            ways.add(f"{name}, fast route ({found[0]})", lambda size=size: fast(size))


def main() -> None:
    settings = options(__doc__)
    print(header())
    for sizes, num_points in SMOKE if settings.smoke else CASES:
        x, y = points(sizes, num_points)
        post = held_draws(sizes, DRAWS)
        attack = br.attacks.PGD(eps=EPS, steps=STEPS, random_start=False)
        predictive = br.attacks.PGD(eps=EPS, steps=STEPS, random_start=False, objective="predictive_loss")
        ways = Ways(settings.peers)
        add_by_hand(ways, list(post.weights.values()), x, y, post.chunk(x), post.net)
        ways.add("bayesrob", lambda a=attack, p=post, x=x, y=y: a(p, x, y))
        ways.add("bayesrob, predictive_loss", lambda a=predictive, p=post, x=x, y=y: a(p, x, y))
        job = (post, x, y, EPS, STEPS)
        for library in ("foolbox", "art", "torchattacks"):
            ways.peer(library, "attacks", library, *job)
            ways.peer(f"{library}, weights frozen", "attacks", library, *job, frozen=True)
        loop = "loop over images and draws (robustBNNs)"
        scale = num_points / IMAGES
        ways.peer(f"{loop}, {IMAGES} image, scaled", "attacks", "robustbnns", *job, num_images=IMAGES, scale=scale)

        ends = {"expected_loss": attack(post, x, y), "predictive_loss": predictive(post, x, y)}
        same: dict[str, str] = {}

        def compare(name: str, attacked: Any, ends=ends, same=same) -> None:
            alike = name.startswith(("by hand", "loop")) or name == "bayesrob"
            end = ends["expected_loss" if alike else "predictive_loss"][: len(attacked)]
            same[name] = f"{float(((attacked.detach() - end).abs() < 1e-6).float().mean()):.2%}"

        seconds = alternate(ways, settings.runs, compare)
        for name in seconds:
            if name.startswith("by hand"):
                assert float(same[name].rstrip("%")) >= 99, f"{name}: {same[name]} of the components agree"
        title = f"PGD-{STEPS}, {DRAWS} draws of {name_of(sizes)}, {num_points} points, {post.chunk(x)} draws at once in ours"
        print(table(title, seconds, 1, "s", ways, {"same": same}), flush=True)
    for sizes, num_points in SMOKE_POSTERIORS if settings.smoke else POSTERIORS:
        on_a_posterior(sizes, num_points, settings)


def on_a_posterior(sizes: tuple[int, ...], num_points: int, settings: argparse.Namespace) -> None:
    """Print the table of attacks on the draws of a chain."""
    dataset, bnn, post = trained(sizes, "N(0, 1)", draws=20)
    post.bounds = dataset.bounds if dataset.bounds is not None else (-10.0, 10.0)
    x, y = dataset.x_test[:num_points], dataset.y_test[:num_points]
    random = held_draws(sizes, post.num_draws)
    random.bounds = post.bounds
    ways = Ways(settings.peers)
    ways.add("by hand, all draws at once", lambda: hand_pgd(list(post.weights.values()), x, y, EPS, STEPS, post.num_draws))
    for objective in ("expected_loss", "predictive_loss", "margin"):
        attack = br.attacks.PGD(eps=EPS, steps=STEPS, random_start=False, objective=objective)
        name = "bayesrob" if objective == "expected_loss" else f"bayesrob, {objective}"
        ways.add(name, lambda attack=attack: attack(post, x, y))
        ways.add(f"{name}, random draws", lambda attack=attack: attack(random, x, y))
    for library in ("foolbox", "art", "torchattacks"):
        ways.peer(f"{library}, weights frozen", "attacks", library, post, x, y, EPS, STEPS, frozen=True)
        ways.peer(f"{library}, weights frozen, random draws", "attacks", library, random, x, y, EPS, STEPS, frozen=True)
    left: dict[str, str] = {}

    def keep(name: str, attacked: Tensor) -> None:
        if "random" not in name:
            left[name] = f"{float((post(attacked.detach()).argmax(1) == y).float().mean()):.1%}"

    seconds = alternate(ways, settings.runs, keep)
    title = f"PGD-{STEPS} on an HMC posterior, 20 draws of {name_of(sizes)}, {num_points} points; of one draw {{}}"
    title = title.format(share_of_denormals(bnn, dataset))
    print(table(title, seconds, 1, "s", ways, {"left right": left}), flush=True)


if __name__ == "__main__":
    main()
