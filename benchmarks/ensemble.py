"""Ensembles: seconds to train ten networks, all at once in batched products and one after the other.

python benchmarks/ensemble.py [--runs 5] [--epochs 5] [--smoke]

Ten networks of each size, plain Adam at 0.001, batches of 128. "plain torch": the training loop that everybody writes,
`nn.Module`, autograd, `torch.optim.Adam` (its fused kernel too), one network after the other, same data and steps. Ours is a
whole `fit`, checks and start-up included; above 2^15 weights (several threads: 2^17) it trains
in turn by itself.
"""

from __future__ import annotations

from by_hand import plain_training
from problems import dataset_and_model, name_of
from timing import Ways, alternate, header, options, table

import bayesrob as br

SIZES = (((2, 32, 32, 2), 2000), ((64, 32, 10), 1500), ((64, 100, 100, 10), 1500), ((784, 100, 100, 10), 5000))


def main() -> None:
    settings = options(__doc__, epochs={"type": int, "default": 5, "metavar": "N"})
    print(header())
    members, epochs = (2, 1) if settings.smoke else (10, settings.epochs)
    for sizes, num in SIZES[:1] if settings.smoke else SIZES:
        dataset, bnn = dataset_and_model(sizes, num)
        x, y = dataset.x_train, dataset.y_train
        ways = Ways(peers=False)
        for fused in (False, True):
            name = f"plain torch{', fused Adam' if fused else ''}"
            ways.add(
                name,
                lambda s=sizes, a=x, b=y, f=fused: plain_training(
                    lambda i: br.nets.mlp(s[0], s[1:-1], s[-1], seed=i), a, b, epochs, members, f
                ),
            )
        base = br.inference.SGD(epochs=epochs, decay=False)
        for how in (None, "in_turn", "batched"):
            method = br.inference.Ensemble(size=members, base=base, members=how)
            name = "bayesrob" if how is None else f"bayesrob, {how}"
            ways.add(name, lambda m=method, b=bnn.net, d=dataset: m.fit(b, d))
        seconds = alternate(ways, settings.runs)
        print(table(f"{members} networks {name_of(sizes)}, {num:,} points, {epochs} epochs", seconds, 1.0, "s", ways))


if __name__ == "__main__":
    main()
