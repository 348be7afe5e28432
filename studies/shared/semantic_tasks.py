"""The networks of study 14, and the classifiers, trained apart from them, that judge their adversarial examples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.attacks import FGSM, PGD, Attack
from bayesrob.inference import SGD, SVI, AdvBNN, AdversarialTraining, Inference, fit_once
from bayesrob.predictive import Predictive
from shared.study import Scale

__all__ = ["NEAREST", "Judge", "Task", "judges", "nearest", "tasks", "trained"]

NEAREST = "nearest images"
"""The judge that was not trained: the majority of the `NEIGHBOURS` training images nearest in l_2."""

NEIGHBOURS = 5

REFERENCE = 10_000
"""The largest number of training images among which neighbours are searched."""

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""Mean and standard deviation of each channel."""

Make = Callable[[Any, int, Any, int], nn.Module]
"""A network of an input's shape, the number of classes, the kind of normalisation layers and a seed."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """How a classifier that judges is trained: on other points, with another architecture, or from another seed.

    Args:
        make: makes the network.
        n_train: number of training points, None for all.
        epochs: passes over the data.
        eps: radius of FGSM in training, None for plain training.
        offset: added to the study's seed, where the architecture is that of the networks it judges.
    """

    make: Make
    n_train: int | None
    epochs: int
    eps: float | None = None
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
    """Networks on one data set.

    Args:
        data: name of the data set.
        n_train: number of training points, None for all.
        make: makes the network.
        described: the network in words.
        eps: l_inf radius of adversarial training.
        steps: steps of its PGD.
        epochs: passes over the data of every network.
        batch_size: points of a minibatch.
        large: radii of the large-eps attacks, by norm.
        num_points: number of test points.
        judges: the classifiers that judge, by name.
        alpha: weight of Adv-BNN's divergence.
        draws: number of draws of a random network that each step of an attack averages.
        networks: names of the networks that are attacked.
    """

    data: str
    n_train: int | None
    make: Make
    described: str
    eps: float
    steps: int
    epochs: int
    batch_size: int
    large: dict[Any, float]
    num_points: int
    judges: dict[str, Judge]
    alpha: float = 1.0
    draws: int = 20
    networks: tuple[str, ...] = ("plain", "PGD", "SVI", "Adv-BNN")

    def dataset(self, seed: int) -> br.Dataset:
        """The data set, loaded once."""
        return _loaded(self.data, self.n_train, self.num_points, seed)

    def method(self, name: str) -> Inference:
        """How the network of this name is trained."""
        sgd = SGD(epochs=self.epochs, batch_size=self.batch_size)
        pgd = PGD(eps=self.eps, steps=self.steps, step_size=2.5 * self.eps / self.steps)
        methods: dict[str, Inference] = {
            "plain": sgd,
            "PGD": AdversarialTraining(pgd, sgd),
            "SVI": SVI(epochs=self.epochs, lr=0.003, batch_size=self.batch_size, estimator="shared_draw"),
            "Adv-BNN": AdvBNN(attack=pgd, alpha=self.alpha, epochs=self.epochs, batch_size=self.batch_size),
        }
        return methods[name]

    def attacks(self, draws: int | None) -> dict[str, Attack]:
        """Untargeted PGD far beyond the radius of training."""
        return {
            f"{norm} {eps:.3g}": PGD(
                eps=eps, norm=norm, steps=40, step_size=2.5 * eps / 40 if norm == "l_inf" else None, num_draws=draws
            )
            for norm, eps in self.large.items()
        }


@functools.cache
def _loaded(data: str, n_train: int | None, n_test: int, seed: int) -> br.Dataset:
    return br.data.load(data, n_train=n_train, n_test=n_test, seed=seed)


def trained(task: Task, name: str, seed: int, folder: Path) -> Predictive:
    """A network, trained now or loaded.

    Bayesian networks have Adv-BNN's prior, and normalise groups of channels instead of batches.
    """
    dataset, bayesian = task.dataset(seed), name in ("SVI", "Adv-BNN")
    net = task.make(dataset.x_train[0].shape, dataset.out_features, "group" if bayesian else "batch", seed)
    model = br.models.BayesianNetwork(net, prior_scale=0.1) if bayesian else net
    return fit_once(task.method(name), model, dataset, folder, seed)


def judges(task: Task, seed: int, folder: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    """The judges by name: each gives the classes `[n]` of images."""
    judges_by_name: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, judge in task.judges.items():
        dataset = _loaded(task.data, judge.n_train, task.num_points, seed)
        net = judge.make(dataset.x_train[0].shape, dataset.out_features, "batch", seed + judge.offset)
        sgd = SGD(epochs=judge.epochs, batch_size=task.batch_size)
        method = sgd if judge.eps is None else AdversarialTraining(FGSM(eps=judge.eps), sgd)
        post = fit_once(method, net, dataset, folder, seed + judge.offset)
        print(f"{task.data}, judge {name}: {post.info['seconds']:.0f} s of training", flush=True)
        judges_by_name[name] = functools.partial(classes, post)
    dataset = task.dataset(seed)
    judges_by_name[NEAREST] = functools.partial(nearest, dataset.x_train[:REFERENCE], dataset.y_train[:REFERENCE])
    return judges_by_name


def classes(post: Predictive, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> Tensor:
    """The classes `[n]` that a network gives to images."""
    with torch.no_grad():
        return post(x, num_draws, seed).argmax(1)


def nearest(x_train: Tensor, y_train: Tensor, x: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """The majority of the nearest training images in l_2; of equal numbers the class of the smallest number."""
    distances = torch.cdist(x.flatten(1), x_train.flatten(1))
    return y_train[distances.topk(neighbours, largest=False).indices].mode(dim=1).values


def mlp(*hidden: int) -> Make:
    """Makes fully connected networks."""
    return lambda shape, classes, norm, seed: br.nets.mlp(shape.numel(), hidden, classes, seed=seed)


def cnn(channels: int) -> Make:
    """Makes convolutional networks."""
    return lambda shape, classes, norm, seed: br.nets.cnn(shape, channels, classes, activation="relu", seed=seed)


def resnet(width: int) -> Make:
    """Makes ResNet-18 whose first block has `width` channels, behind a layer that normalises CIFAR images."""
    return lambda shape, classes, norm, seed: br.nets.normalised(
        br.nets.resnet18(classes, shape[0], norm=norm, seed=seed, width=width), *CIFAR
    )


def tasks(scale: Scale) -> dict[str, Task]:
    """The data sets of one scale."""
    return {"smoke": smoke_tasks, "small": small_tasks, "paper": paper_tasks}[scale]()


def smoke_tasks() -> dict[str, Task]:
    """Small networks on the digits."""
    trained_apart = {"plain MLP-32": Judge(mlp(32), 400, 10), "robust MLP": Judge(mlp(16), 400, 10, 0.1, offset=1)}
    size: Any = {"eps": 0.1, "steps": 3, "epochs": 10, "batch_size": 32, "num_points": 30, "draws": 4}
    return {
        "digits": Task("digits", 400, mlp(16), "64-16-10", large={"l_inf": 0.4, "l_2": 3.0}, judges=trained_apart, **size)
    }


def small_tasks() -> dict[str, Task]:
    """MLPs on MNIST and a narrow ResNet on a small part of CIFAR-10."""
    grey = {
        "plain CNN": Judge(cnn(32), 10_000, 12),
        "robust MLP": Judge(mlp(256, 256), None, 5, 0.1, offset=1),
    }
    eps, n_train, far = 8 / 255, 2000, {"l_inf": 32 / 255, "l_2": 5.0}
    colour = {
        "plain ResNet": Judge(resnet(8), n_train, 6, offset=1),
        "robust ResNet": Judge(resnet(8), n_train, 6, eps, offset=1),
    }
    mnist: Any = {"eps": 0.1, "steps": 7, "epochs": 5, "batch_size": 128, "num_points": 300}
    cifar: Any = {"eps": eps, "steps": 3, "epochs": 6, "batch_size": 32, "num_points": 150, "alpha": 0.1, "draws": 5}
    return {
        "MNIST": Task(
            "mnist", None, mlp(256, 256), "784-256-256-10", large={"l_inf": 0.3, "l_2": 5.0}, judges=grey, **mnist
        ),
        "CIFAR-10": Task(
            "cifar10", n_train, resnet(8), "ResNet-18, width 8 of 64", large=far, judges=colour,
            networks=("plain", "PGD", "Adv-BNN"), **cifar,
        ),
    }  # fmt: skip


def paper_tasks() -> dict[str, Task]:
    """Convolutional networks on all images."""
    eps, far = 8 / 255, {"l_inf": 32 / 255, "l_2": 5.0}
    grey = {"plain CNN": Judge(cnn(64), None, 50), "robust CNN": Judge(cnn(64), None, 50, 0.1, offset=1)}
    colour = {
        "plain ResNet": Judge(resnet(64), None, 100, offset=1),
        "robust ResNet": Judge(resnet(64), None, 100, eps, offset=1),
    }
    mnist: Any = {"eps": 0.1, "steps": 40, "epochs": 50, "batch_size": 128, "num_points": 1000, "draws": 50}
    cifar: Any = {**mnist, "eps": eps, "steps": 7, "epochs": 100, "alpha": 0.1}
    return {
        "MNIST": Task(
            "mnist", None, cnn(64), "5x5x32, 5x5x64, linear", large={"l_inf": 0.3, "l_2": 5.0}, judges=grey, **mnist
        ),
        "CIFAR-10": Task(
            "cifar10", None, resnet(64), "ResNet-18", large=far, judges=colour,
            networks=("plain", "PGD", "Adv-BNN"), **cifar,
        ),
    }  # fmt: skip
