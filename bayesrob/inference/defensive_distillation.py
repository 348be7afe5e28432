"""Defensive distillation: a network trained on another's softened probabilities."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.arguments import number, require
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.inference.base import EachEpoch, Inference
from bayesrob.inference.sgd import SGD
from bayesrob.models import Categorical, Likelihood
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive

__all__ = ["DefensiveDistillation", "Softened"]

ROWS = 1000
"""Number of points in each forward pass of the teacher that labels them."""


@dataclasses.dataclass(frozen=True)
class DefensiveDistillation(Inference):
    """Train a teacher, then a student of the same architecture on the teacher's probabilities (Papernot et al. 2016).

    Both have softmax(f / T) in the loss: the teacher minimises -log softmax(f(x) / T)_y, the student the cross-entropy with
    softmax(f_teacher(x) / T). Predictions, attacks and saved draws are the student's at temperature 1, where its logits are
    about T times as large as usual: softmax saturates, and float32 gradients vanish by rounding, not by robustness. Carlini
    & Wagner 2017 attack the logits instead of the loss and find adversarial examples as before. So attack it with
    objective="margin_per_draw" or "dlr", whose gradients do not vanish.

    The student's initial weights and order of the data are those of `base` with the same seed, the teacher's are its own.

    Args:
        temperature: T. 20 as in Song & Tripunitara 2017; Carlini & Wagner 2017 train and break a network at 100
            (`train_temp` in their `nn_robust_attacks`).
        base: how both networks are trained.
        labels: what the student is trained on: "soft" probabilities of the teacher, or "hard" classes of the data (then
            there is no teacher), which separates the effect of the temperature from that of the soft labels. With "hard" and
            temperature 1 the result is that of `base`, to the bit.

    Raises:
        InputError: a temperature that is not positive, another base than SGD; when fitting, a regression.
        UnknownNameError: other labels.

    Example:
        >>> method = br.inference.DefensiveDistillation(base=br.inference.SGD(epochs=3))
        >>> method.fit(net, ds, seed=0).num_draws
        1
    """

    temperature: float = 20.0
    base: SGD = dataclasses.field(default_factory=SGD)
    labels: Literal["soft", "hard"] = "soft"

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("temperature", self.temperature, "Logits are divided by it.", above=0)
        check_name("labels", self.labels, ["soft", "hard"])
        good = isinstance(self.base, SGD)
        require(
            good, f"base is {self.base!r}.", "Teacher and student are one network each.", "Give SGD() with its settings."
        )

    def _origin(self) -> str:
        return self.base._origin()

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
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        softened = Softened(float(self.temperature))
        notes, record = [], {}

        def at_one(post: Predictive) -> Predictive:
            """Let `post` predict at temperature 1."""
            post.likelihood = likelihood
            return post

        with progress.bar("DefensiveDistillation", 2) as advance:
            if self.labels == "soft":
                teacher, warned, run = self.base._run(model, softened, dataset, rng.derive(seed, "teacher"))
                notes, record = [f"Teacher: {note}" for note in warned], {"teacher": run}
                assert isinstance(teacher, HeldDraws)
                dataset = relabelled(dataset, teacher, self.temperature)
            advance(1, note="student")
            watch = None if each_epoch is None else lambda epoch, post: each_epoch(epoch, at_one(post))
            student, warned, run = self.base._run(model, softened, dataset, seed, watch)
            advance(1)
        return at_one(student), notes + warned, {**run, **record}


@dataclasses.dataclass(frozen=True)
class Softened(Categorical):
    """-log softmax(outputs / temperature) for labels that are classes `[batch]` or probabilities `[batch, class]`.

    Only `total`, the loss, has the temperature; scores and predictions are those of temperature 1.

    Args:
        temperature: divides the outputs.
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
