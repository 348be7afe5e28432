"""The sets of image networks of Aboutalebi et al. 2020 (figures 2 to 6), trained once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

import bayesrob as br
from bayesrob.attacks import BV, FGSM, PGD
from bayesrob.inference import SGD, AdvBNN, AdversarialTraining, Inference, Replicates, fit_once
from bayesrob.predictive import Predictive
from shared.study import Scale

__all__ = ["ADV_BNN", "Task", "tasks"]

ADV_BNN = "Adv-BNN"

SCALES = {
    "digits": (0.3, 0.4),
    "mnist": (0.1307, 0.3081),
    "fashion_mnist": (0.2860, 0.3530),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
"""Mean and standard deviation of each channel, by which networks normalise: the paper's for CIFAR, the usual ones else."""

Make = Callable[[Any, int, Any, int], nn.Module]
"""A network of an input's shape, the number of classes, the kind of normalisation layers and a seed."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One network on one data set.

    Args:
        data: name of the data set.
        n_train: number of training points, None for all.
        make: makes the network.
        described: the network in words.
        epochs: passes of Adam over the data, at a rate of 0.001 that falls to zero.
        batch_size: points of a minibatch.
        points: number of test points attacked.
        rms: sizes of the perturbations, root mean squares in pixels of [0, 1]; the radii of the iterative attacks.
        readings: readings of the paper's eps, "pixels" or "normalised" units; the paper does not say which.
        trainings: names of the ways of training, of "plain", "FGSM", "BV" and "PGD".
        targets: whether Adv-BNN is attacked as well (five networks more), or is a surrogate alone.
        alpha: weight of Adv-BNN's divergence.
        models: number of networks of each training.
        teacher: the task whose Adv-BNN is the surrogate, where it is not its own (on the same data).
    """

    data: str
    n_train: int | None
    make: Make
    described: str
    epochs: int
    batch_size: int
    points: int
    rms: tuple[float, ...]
    readings: tuple[str, ...] = ("pixels", "normalised")
    trainings: tuple[str, ...] = ("plain", "FGSM", "BV", "PGD")
    targets: bool = False
    alpha: float = 1.0
    models: int = 5
    teacher: Task | None = None

    def dataset(self, seed: int) -> br.Dataset:
        """The data set, loaded once."""
        return _loaded(self.data, self.n_train, self.points, seed)

    def std(self) -> float:
        """The mean standard deviation of the channels, which differ by 1%: what a normalised unit is in pixels."""
        std = SCALES[self.data][1]
        return std if isinstance(std, float) else sum(std) / len(std)

    def methods(self) -> dict[str, Inference]:
        """The ways of training by name.

        The paper trains on eps 0.05 (FGSM), 0.02 in 5 steps (PGD) and 2.5 (BV). A step of BV is a gradient times eps: in
        normalised units both are longer by the deviation, so that it enters twice.
        """
        sgd = SGD(epochs=self.epochs, batch_size=self.batch_size)
        methods: dict[str, Inference] = {"plain": sgd} if "plain" in self.trainings else {}
        for reading in self.readings:
            unit = 1.0 if reading == "pixels" else self.std()
            attacks = {
                "FGSM": FGSM(eps=0.05 * unit),
                "BV": BV(eps=2.5 * unit**2),
                "PGD": PGD(eps=0.02 * unit, steps=5, step_size=0.01 * unit),
            }
            for name, attack in attacks.items():
                if name in self.trainings:
                    methods[f"{name}, {reading}"] = AdversarialTraining(attack, sgd)
        return methods

    def adv_bnn(self) -> AdvBNN:
        """The Adv-BNN of Liu et al. 2019, on the paper's PGD as it is first read."""
        unit = 1.0 if self.readings[0] == "pixels" else self.std()
        attack = PGD(eps=0.02 * unit, steps=5, step_size=0.01 * unit)
        return AdvBNN(attack, self.alpha, self.epochs, batch_size=self.batch_size, num_draws=20)

    def fit(self, training: str, seed: int, folder: Path) -> list[Predictive]:
        """The models of one training, trained now or loaded; they differ by their seed."""
        if training == ADV_BNN:
            method, net = self.adv_bnn(), self.bayesian(seed)
        else:
            method, net = self.methods()[training], self.net("batch", seed)
        # All networks train at once also on fewer cores: five in pairs would leave a core idle for a sixth of the time.
        workers = None if self.data == "digits" else self.models
        return Replicates(method, self.models).fit(net, self.dataset(seed), seed, folder, workers=workers)

    def surrogate(self, seed: int, folder: Path) -> Predictive:
        """The first of the Adv-BNNs."""
        if self.teacher is not None:
            return self.teacher.surrogate(seed, folder)
        if self.targets:
            return self.fit(ADV_BNN, seed, folder)[0]
        member = Replicates.member_seed(seed, 0)
        return fit_once(self.adv_bnn(), self.bayesian(seed), self.dataset(seed), folder, member)

    def bayesian(self, seed: int) -> nn.Module:
        """The network under Adv-BNN's prior.

        It normalises groups of channels, for batch normalisation would couple the points.
        """
        return br.models.BayesianNetwork(self.net("group", seed), prior_scale=0.1)

    def net(self, norm: str, seed: int) -> nn.Module:
        """The network behind a layer that normalises its inputs."""
        dataset = self.dataset(seed)
        made = self.make(dataset.x_train[0].shape, dataset.out_features, norm, seed)
        return br.nets.normalised(made, *SCALES[self.data])


@functools.cache
def _loaded(data: str, n_train: int | None, n_test: int, seed: int) -> br.Dataset:
    return br.data.load(data, n_train=n_train, n_test=n_test, seed=seed)


def cnn(hidden: int) -> Make:
    """Makes convolutional networks with `hidden` units in the last hidden layer."""
    return lambda shape, classes, norm, seed: br.nets.cnn(shape, hidden, classes, activation="relu", seed=seed)


def resnet(maker: Any, width: int) -> Make:
    """Makes residual networks whose first block has `width` channels."""
    return lambda shape, classes, norm, seed: maker(classes, shape[0], norm=norm, seed=seed, width=width)


def mobilenet(width: float) -> Make:
    """Makes MobileNetV2 of `width` times the published width."""
    return lambda shape, classes, norm, seed: br.nets.mobilenet_v2(classes, shape[0], norm=norm, seed=seed, width_mult=width)


def mlp(*hidden: int) -> Make:
    """Makes fully connected networks."""
    return lambda shape, classes, norm, seed: br.nets.mlp(shape.numel(), hidden, classes, seed=seed)


def tasks(scale: Scale) -> dict[str, Task]:
    """The networks of one scale by name; a larger network follows the smaller one that it is compared with."""
    return {"smoke": smoke_tasks, "small": small_tasks, "paper": paper_tasks}[scale]()


def smoke_tasks() -> dict[str, Task]:
    """Two networks on the digits."""
    quick: Any = {"epochs": 8, "batch_size": 32, "points": 40, "rms": (0.05, 0.1, 0.3), "models": 3}
    return {
        "digits MLP-16": Task("digits", 300, mlp(16), "64-16-10", targets=True, **quick),
        "digits MLP-64": Task("digits", 300, mlp(64), "64-64-10", trainings=("plain",), **quick),
    }


def small_tasks() -> dict[str, Task]:
    """Networks on MNIST, Fashion-MNIST and a small part of CIFAR-10."""
    rms = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
    grey: Any = {"epochs": 1, "batch_size": 128, "points": 300, "rms": rms}
    conv = "5x5x32, 5x5x{}, linear"
    pixels, scaled, plain = ("pixels",), ("normalised",), ("plain",)
    colour: Any = {"batch_size": 32, "points": 150, "rms": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), "alpha": 0.1}
    mnist = Task("mnist", None, cnn(32), conv.format(32), readings=pixels, targets=True, **grey)
    resnet18 = Task("cifar10", 2000, resnet(br.nets.resnet18, 8), "width 8 of 64", 6, **colour)
    others: Any = {**colour, "teacher": resnet18}
    slow: Any = {**others, "points": 100, "readings": scaled, "trainings": plain}
    return {
        "MNIST CNN-8": Task("mnist", None, cnn(8), conv.format(8), readings=pixels, trainings=plain, teacher=mnist, **grey),
        "MNIST CNN-32": mnist,
        "CIFAR-10 ResNet-18": resnet18,
        "CIFAR-10 ResNet-34": Task(
            "cifar10", 2000, resnet(br.nets.resnet34, 8), "width 8 of 64", 6, trainings=plain, **others
        ),
        "CIFAR-10 MobileNetV2": Task("cifar10", 2000, mobilenet(0.25), "a quarter of the width", 4, **slow),
        "Fashion CNN-32": Task(
            "fashion_mnist", None, cnn(32), conv.format(32), readings=scaled, trainings=("plain", "FGSM", "BV"), **grey
        ),
    }


def paper_tasks() -> dict[str, Task]:
    """The paper's networks on CIFAR-10 and CIFAR-100."""
    full: Any = {"epochs": 100, "batch_size": 128, "points": 10_000, "rms": (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)}
    makers: dict[str, Make] = {
        "ResNet-18": resnet(br.nets.resnet18, 64),
        "ResNet-34": resnet(br.nets.resnet34, 64),
        "ResNet-50": resnet(br.nets.resnet50, 64),
        "MobileNetV2": mobilenet(1.0),
    }
    return {
        f"{label} {name}": Task(data, None, make, "as published", targets=True, **full)
        for data, label in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"))
        for name, make in makers.items()
    }
