"""The networks of Liu & Sha ("Randomized deep learning models against adversarial attacks", project report), trained once.

They are watched epoch by epoch and shared by the studies of the report's figures 8 and 9 and tables 1 and 2.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.inference import SDR, SGD, DropConnect, Inference, fit_once
from bayesrob.predictive import GaussianDraws, Predictive
from shared.study import Scale

__all__ = ["METHODS", "Task", "correct", "tasks", "trained"]

BATCH = 250
"""Number of test points in a batch: the activations of a ResNet take 2 MB a point."""

METHODS: dict[str, Callable[[int], Inference]] = {
    "vanilla": lambda epochs: SGD(epochs=epochs, lr=1e-3, batch_size=64, decay=False),
    "decay": lambda epochs: SDR(variance="decay", epochs=epochs, predict="draws"),  # its means are known then, too
    "decay 2018": lambda epochs: SDR(variance="decay", growth="at_decays", epochs=epochs, predict="draws"),
    "learnable": lambda epochs: SDR(variance="learnable", epochs=epochs),
    "DropConnect": lambda epochs: DropConnect(p=0.2, epochs=epochs, batch_size=64, decay=False, num_draws=50),
}
"""How each method trains for a number of epochs: Adam at 0.001 in batches of 64.

"decay" is as the report prints it, "decay 2018" as the code of Frazier-Logue & Hanson, in which sigma grows only where it
decays.
"""


@dataclasses.dataclass(frozen=True)
class Task:
    """One network on one data set, at one size.

    Args:
        name: name of the network, as in the report.
        data: name of the data set.
        n_train: number of training points, None for all.
        n_test: number of test points.
        net: makes the network from the shape of an input, the number of classes and a seed.
        described: the network in words.
        epochs: passes over the data.
        num_seeds: number of trained networks of each method.
        votes: number of draws in the majority vote after each epoch.
        eps: radius of the FGSM after each epoch, l_inf.
        num_attacked: number of points that FGSM attacks.
        num_attacks: number of times it does, each on new draws.
    """

    name: str
    data: str
    n_train: int | None
    n_test: int
    net: Callable[[torch.Size, int, int], nn.Module]
    described: str
    epochs: int
    num_seeds: int
    votes: int
    eps: float
    num_attacked: int
    num_attacks: int

    @functools.cache  # noqa: B019 - a study has a handful of tasks, and each its data once
    def dataset(self, seed: int) -> br.Dataset:
        """The data set, loaded once."""
        return br.data.load(self.data, n_train=self.n_train, n_test=self.n_test, seed=seed)


def mlp(hidden: tuple[int, ...]) -> Any:
    """Makes fully connected networks."""
    return lambda shape, classes, seed: br.nets.mlp(shape.numel(), hidden, classes, seed=seed)


def lstm(hidden: int, reads: Any) -> Any:
    """Makes recurrent networks that read an image pixel by pixel or row by row."""
    return lambda shape, classes, seed: br.nets.lstm(shape, hidden, classes, reads=reads, seed=seed)


def resnet(shape: torch.Size, classes: int, seed: int) -> nn.Module:
    """A ResNet-18 for small images."""
    return br.nets.resnet18(classes, in_channels=shape[0], seed=seed)


def smoke_tasks() -> dict[str, Task]:
    """The three networks at sizes of seconds, on the digits."""
    quick: Any = {
        "data": "digits",
        "epochs": 2,
        "num_seeds": 2,
        "votes": 5,
        "eps": 0.1,
        "num_attacked": 10,
        "num_attacks": 2,
    }
    return {
        "MLP": Task("MLP", n_train=100, n_test=40, net=mlp((8, 8, 8)), described="64-8-8-8-10", **quick),
        "ResNet-18": Task(
            "ResNet-18",
            n_train=20,
            n_test=10,
            net=resnet,
            described="CIFAR stem",
            **{**quick, "epochs": 1, "num_seeds": 1},
        ),
        "LSTM rows": Task("LSTM rows", n_train=100, n_test=40, net=lstm(6, "rows"), described="LSTM of 6, rows", **quick),
    }


def tasks(scale: Scale) -> dict[str, Task]:
    """The report's three networks.

    The LSTM reads pixel by pixel there. At small scale it reads rows: pixel by pixel, after 4,000 images and 3 epochs (11
    minutes of one core), vanilla and decay were both at 0.117 of 1,000 test images.
    """
    if scale == "smoke":
        return smoke_tasks()
    pixel = 8 / 255
    shape_of_mlp = "784-100-100-100-10, relu"
    paper: Any = {"epochs": 20, "votes": 50, "num_attacked": 1000, "num_attacks": 20, "num_seeds": 3}
    full = Task("MLP", "mnist", None, 10_000, mlp((100, 100, 100)), shape_of_mlp, eps=0.1, **{**paper, "num_attacks": 5})
    if scale == "paper":
        return {
            "MLP": full,
            "ResNet-18": Task("ResNet-18", "cifar10", None, 10_000, resnet, "CIFAR stem", eps=pixel, **paper),
            "LSTM": Task("LSTM", "mnist", None, 10_000, lstm(130, "pixels"), "LSTM of 130, pixels", eps=0.1, **paper),
        }
    quick: Any = {"num_attacked": 100, "num_attacks": 3, "num_seeds": 1}
    return {
        "MLP": full,
        "ResNet-18": Task("ResNet-18", "cifar10", 5000, 500, resnet, "CIFAR stem", epochs=3, votes=10, eps=pixel, **quick),
        "LSTM rows": Task(
            "LSTM rows", "mnist", 20_000, 2000, lstm(130, "rows"), "LSTM of 130, rows", epochs=10, votes=50, eps=0.1, **quick
        ),
    }


def trained(task: Task, method: str, seed: int, folder: Path) -> Predictive:
    """A network, trained now or loaded; `info["epochs"]` has what `watch` returned after each epoch."""
    dataset = task.dataset(seed)
    net = task.net(dataset.x_train[0].shape, dataset.out_features, seed)
    attacked = method in ("vanilla", "learnable")
    key = f"{task.name} {task.votes} {task.eps} {task.num_attacked if attacked else 0} {task.num_attacks}"
    seen = functools.partial(watch, task=task, dataset=dataset, attacked=attacked, seed=seed)
    return fit_once(METHODS[method](task.epochs), net, dataset, folder, seed, key=key, each_epoch=seen)


def watch(epoch: int, post: Predictive, *, task: Task, dataset: br.Dataset, attacked: bool, seed: int) -> dict[str, Any]:
    """Accuracies after an epoch: of one draw, of the means, of the votes of several draws, and under FGSM.

    FGSM is as in figure 9: each set of images is attacked on one draw and scored on another, as the report does where it
    says nothing; and, as `fgsm_eot`, attacked on the mean over draws and scored on the mean over others.

    Args:
        epoch: number of the epoch.
        post: the network after it.
        task: the sizes of the votes and of FGSM.
        dataset: whose test points are predicted.
        attacked: whether FGSM is run.
        seed: fixes the draws.
    """
    x, y, drawn = dataset.x_test, dataset.y_test, post.num_draws > 1
    one = post.freeze(1, seed=seed + epoch) if drawn else post
    record: dict[str, Any] = {"accuracy": share(correct(one, x, y))}
    if isinstance(post, GaussianDraws):
        record["means"] = share(correct(post.means(), x, y))
    if drawn:
        voters = post.freeze(task.votes, seed=seed + epoch)
        logits = torch.cat([voters.logits(part) for part in x.split(BATCH)], dim=1)  # the draws' products once, for both
        votes = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).sum(0)
        record["vote"] = share(votes.argmax(1) == y)
        record["mean"] = share(post.likelihood.predictive(logits).argmax(1) == y)
    if attacked:
        images, labels = x[: task.num_attacked], y[: task.num_attacked]
        record["attacked_clean"] = share(correct(one, images, labels))
        fgsm, sets = br.attacks.FGSM(eps=task.eps), task.num_attacks if drawn else 1
        pairs = post.freeze(2 * sets, seed=seed + 1000 * epoch) if drawn else post
        scores = []
        for i in range(sets):
            on, off = (pairs[2 * i], pairs[2 * i + 1]) if drawn else (pairs, pairs)
            scores.append(share(torch.cat(broken(fgsm, on, off, images, labels))))
        record["fgsm"] = scores
        if drawn:
            on, off = voters, post.freeze(task.votes, seed=seed + 1000 * epoch + 1)
            record["fgsm_eot"] = share(torch.cat(broken(fgsm, on, off, images, labels)))
    return record


def broken(attack: Any, on: Predictive, off: Predictive, x: Tensor, y: Tensor) -> list[Tensor]:
    """Whether `off` is still right at what `attack` made on `on`, batch by batch."""
    parts = zip(x.split(BATCH), y.split(BATCH), strict=True)
    return [correct(off, attack(on, part, labels), labels) for part, labels in parts]


@torch.no_grad()
def correct(post: Predictive, x: Tensor, y: Tensor) -> Tensor:
    """Whether the averaged prediction is right, `[point]`."""
    return torch.cat([post(part).argmax(1) for part in x.split(BATCH)]) == y


def share(right: Tensor) -> float:
    """The share of true values."""
    return float(right.double().mean())
