"""Defensive distillation: a network trained on another's softened probabilities."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.inference.base import EachEpoch, Inference, require
from bayesrob.inference.sgd import SGD
from bayesrob.models import Categorical, Likelihood
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive

__all__ = ["DefensiveDistillation", "Softened"]

ROWS = 1000
"""Points that the teacher labels at once."""


@dataclasses.dataclass(frozen=True)
class DefensiveDistillation(Inference):
    """Train a teacher, then a student of the same architecture on the teacher's probabilities (Papernot et al. 2016).

    Both with softmax(f / T) in the loss: the teacher minimises -log softmax(f(x) / T)_y, the student the cross-entropy with
    softmax(f_teacher(x) / T). Predictions, attacks and saved draws are the student's at temperature 1, where its logits are
    about T times as large as usual: softmax saturates, and float32 gradients vanish by rounding, not by robustness. Carlini
    & Wagner 2017 take logits instead of the loss and find adversarial examples as before. A study must attack with
    objective="margin_per_draw" or "dlr", whose gradients do not.

    The student's initial weights and order of the data are those of `base` with the same seed, the teacher's are its own.

    Args:
        temperature: T. 20, as implementations by others have it (Song & Tripunitara 2017); what Carlini & Wagner train and
            break is at 100 (`train_temp` in their `nn_robust_attacks`).
        base: how both networks are trained.
        labels: the student's: "soft" probabilities of the teacher, or "hard", the data's own classes (then there is no
            teacher): training at a temperature alone, to tell its effect from that of the soft labels. At temperature 1
            that is `base`, to the bit.

    Raises:
        InputError: a temperature that is not positive, another base than SGD; when fitting, a regression.
        UnknownNameError: other labels.
    """

    temperature: float = 20.0
    base: SGD = dataclasses.field(default_factory=SGD)
    labels: Literal["soft", "hard"] = "soft"

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number = isinstance(self.temperature, int | float) and not isinstance(self.temperature, bool)
        require(
            number and math.isfinite(self.temperature) and self.temperature > 0,
            f"temperature is {self.temperature!r}.",
            "Logits are divided by it.",
            "Give a positive number, e.g. 20.",
        )
        check_name("labels", self.labels, ["soft", "hard"])
        good = isinstance(self.base, SGD)
        require(
            good, f"base is {self.base!r}.", "Teacher and student are one network each.", "Give SGD() with its settings."
        )

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        if not isinstance(likelihood, Categorical):
            raise InputError(
                "DefensiveDistillation in regression.",
                "The teacher's probabilities of classes are what it hands on.",
                "Use SGD, AdversarialTraining or TRADES.",
            )
        return likelihood

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        softened = Softened(float(self.temperature))
        notes, record = [], {}
        with progress.bar("DefensiveDistillation", 2) as advance:
            if self.labels == "soft":
                teacher, found, run = self.base._run(model, softened, dataset, rng.derive(seed, "teacher"))
                notes, record = [f"Teacher: {note}" for note in found], {"teacher": run}
                dataset = relabelled(dataset, teacher, self.temperature)
            advance(1, note="student")

            def predictive(post: Predictive) -> Predictive:
                post.likelihood = likelihood
                return post

            watch = None if each_epoch is None else lambda epoch, post: each_epoch(epoch, predictive(post))
            student, found, run = self.base._run(model, softened, dataset, seed, watch)
            advance(1)
        predictive(student)
        return student, notes + found, {**run, **record}


@dataclasses.dataclass(frozen=True)
class Softened(Categorical):
    """-log softmax(outputs / temperature), of classes `[batch]`, or averaged over probabilities `[batch, class]`.

    What one point's label says is `total`; scores and predictions stay those of the temperature 1.
    """

    temperature: float = 1.0

    def total(self, outputs: Tensor, y: Tensor) -> Tensor:
        if not y.is_floating_point():
            return super().total(outputs / self.temperature, y)
        return (y * (outputs / self.temperature).log_softmax(-1)).sum(dtype=torch.float64)


@torch.no_grad()
def relabelled(dataset: Dataset, teacher: HeldDraws, temperature: float) -> Dataset:
    """`dataset` with the teacher's probabilities at `temperature` as training labels, `[n, class]`."""
    x = dataset.x_train.to(next(iter(teacher.weights.values())))
    soft = torch.cat([(teacher.logits(x[part])[0] / temperature).softmax(-1) for part in slices(len(x), ROWS)])
    unused = soft.new_zeros(len(dataset.y_test), soft.shape[1], dtype=torch.float32, device=dataset.y_test.device)
    return dataclasses.replace(dataset, y_train=soft.float().to(dataset.y_train.device), y_test=unused, num_classes=None)
