"""PGD at equal strength: a trained MNIST posterior, 1,000 test images, 100 held draws, three eps.

python benchmarks/strength.py [--runs 5] [--no-peers] [--smoke]

The posterior is mean-field SVI at its defaults on 784-512-10, trained once and kept in the folder for temporary files. The
middle eps is the one at which foolbox leaves about half of the images (found on every fifth of them). Fifteen steps of
2.5 eps / 15 on the loss of the averaged prediction, without a random start, for all; the peers see a module whose weights
require no gradient, which is faster for them. Robust accuracy is scored afresh in float32 on all draws. The outer eps are
timed once, to see whether the middle one is special. A way is of
"equal" strength if it leaves no more than one binomial standard error above the strongest one's robust accuracy.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import torch
from timing import Ways, alternate, header, options, table
from torch import Tensor

import bayesrob as br

STEPS, DRAWS = 15, 100
LIBRARIES = ("foolbox", "art", "torchattacks")


def exact(eps: float, objective: str) -> br.attacks.PGD:
    return br.attacks.PGD(eps=eps, steps=STEPS, random_start=False, objective=objective)


def fast(eps: float) -> br.attacks.PGD:
    """The named option: coarse early steps, bfloat16, broken images leave."""
    return br.attacks.PGD.fast(eps, steps=STEPS, random_start=False, objective="predictive_loss")


def posterior(smoke: bool) -> tuple[br.predictive.HeldDraws, Tensor, Tensor]:
    """Held draws, images and labels."""
    dataset = br.data.load("mnist", n_train=2000, n_test=100) if smoke else br.data.load("mnist")
    bnn = br.models.BayesianNetwork(br.nets.mlp(784, (512,), 10, activation="leaky_relu"))
    folder = Path(tempfile.gettempdir()) / "bayesrob-benchmarks"
    method = br.inference.SVI(epochs=3) if smoke else br.inference.SVI()
    post = br.inference.fit_once(method, bnn, dataset, folder).freeze(10 if smoke else DRAWS)
    assert isinstance(post, br.predictive.HeldDraws)
    images = 50 if smoke else 1000
    return post, dataset.x_test[:images], dataset.y_test[:images]


def robust_accuracy(post: br.predictive.HeldDraws, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((post(x).argmax(-1) == y).float().mean())


def middle_eps(post: br.predictive.HeldDraws, x: Tensor, y: Tensor, peers: bool) -> float:
    """Where foolbox (without peers: ours, of the same objective) leaves half of the images, by bisection to 2%."""

    def left(eps: float) -> float:
        if peers:
            try:
                foolbox = importlib.import_module("peers.attacks").foolbox
                return robust_accuracy(post, foolbox(post, x, y, eps, STEPS, frozen=True)().detach(), y)
            except ImportError:
                pass
        return robust_accuracy(post, exact(eps, "predictive_loss")(post, x, y), y)

    low, high = 0.0, 0.5
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > 0.5 else (low, middle)
    return round(high, 4)


def main() -> None:
    settings = options(__doc__)
    print(header())
    post, x, y = posterior(settings.smoke)
    middle = middle_eps(post, x[::5], y[::5], settings.peers)
    print(f"Accuracy without an attack: {robust_accuracy(post, x, y):.1%} of {len(x)} images.\n")
    for eps in (middle, round(0.75 * middle, 4), round(1.25 * middle, 4)):
        ways = Ways(settings.peers)
        attack = exact(eps, "predictive_loss")
        ways.add("bayesrob, exact", lambda attack=attack: attack(post, x, y))
        attack = fast(eps)
        ways.add("bayesrob, fast", lambda attack=attack: attack(post, x, y))
        for library in LIBRARIES:
            ways.peer(f"{library}, weights frozen", "attacks", library, post, x, y, eps, STEPS, frozen=True)
        left: dict[str, float] = {}

        def score(name: str, attacked: Tensor, left: dict[str, float] = left, eps: float = eps) -> None:
            attacked = attacked.detach()
            assert float((attacked - x).abs().max()) <= eps + 1e-5, f"{name} left the ball"
            left[name] = robust_accuracy(post, attacked, y)

        seconds = alternate(ways, settings.runs if eps == middle else 1, score)
        strongest = min(left.values())
        error = (strongest * (1 - strongest) / len(x)) ** 0.5
        accuracy = {name: f"{value:.1%}" for name, value in left.items()}
        equal = {name: "equal" if value <= strongest + error else "weaker" for name, value in left.items()}
        columns = {"robust accuracy": accuracy, f"strength (within {error:.1%} of the strongest)": equal}
        ours = "bayesrob, fast"
        title = f"PGD-{STEPS}, eps {eps}, {post.num_draws} draws of an SVI posterior 784-512-10 on MNIST, {len(x)} images"
        print(table(title, seconds, 1, "s", ways, columns, ours), flush=True)


if __name__ == "__main__":
    main()
