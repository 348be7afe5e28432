"""Replicates: seconds to train five CNNs, in processes side by side and one after the other.

python benchmarks/replicates.py [--runs 5] [--epochs 10] [--points 3000] [--smoke]

`nets.cnn` with 32 channels on MNIST images, Adam at 0.001, batches of 128. Processes have one thread of torch each; their
start is included. "in turn" takes as many threads as torch does by itself, "in turn, one thread" one. "plain torch": the
training loop that everybody writes, one network after the other, with fused Adam, same data, steps and threads as "in turn".
Wanted: processes on two cores at least 1.5 times as fast as one after the other. Five models on two cores are three rounds,
so at most 5 / 3 times as fast as one thread, less the start of the processes (3.6 seconds of each core).
"""

from __future__ import annotations

import torch
from by_hand import plain_training
from loky import cpu_count
from timing import Ways, alternate, header, options, table

import bayesrob as br
from bayesrob.data import Dataset
from bayesrob.inference import SGD, Replicates


def one_thread(method: Replicates, net: torch.nn.Module, dataset: Dataset) -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return method.fit(net, dataset)
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    epochs_of = {"type": int, "default": 10, "metavar": "N"}
    settings = options(__doc__, epochs=epochs_of, points={"type": int, "default": 3000, "metavar": "N"})
    print(header())
    models, hidden, epochs, num = (2, 4, 1, 100) if settings.smoke else (5, 32, settings.epochs, settings.points)
    dataset = br.data.load("mnist", n_train=num, n_test=10, seed=0)
    net = br.nets.cnn(dataset.shape, hidden, 10)
    base = SGD(epochs=epochs, decay=False)
    apart, in_turn = (Replicates(base, models, members=way) for way in ("processes", "in_turn"))
    ways = Ways(peers=False)
    ways.add("bayesrob", lambda: apart.fit(net, dataset))
    ways.add("bayesrob, in turn", lambda: in_turn.fit(net, dataset))
    ways.add("bayesrob, in turn, one thread", lambda: one_thread(in_turn, net, dataset))
    ways.add(
        "plain torch, fused Adam",
        lambda: plain_training(
            lambda i: br.nets.cnn(dataset.shape, hidden, 10, seed=i), dataset.x_train, dataset.y_train, epochs, models
        ),
    )
    seconds = alternate(ways, settings.runs, warm_up=settings.smoke)
    title = f"{models} CNNs, {num:,} images, {epochs} epochs, {min(models, cpu_count())} processes"
    print(table(title, seconds, 1.0, "s", ways))


if __name__ == "__main__":
    main()
