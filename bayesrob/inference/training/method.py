"""Methods that train a learner in minibatches."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from torch import nn

from bayesrob.data import Dataset
from bayesrob.inference.base import EachEpoch, Inference
from bayesrob.inference.training.batches import Points
from bayesrob.inference.training.learner import Learner
from bayesrob.inference.training.loop import train
from bayesrob.inference.training.schedule import Schedule, check_batches
from bayesrob.models import Likelihood, network_of
from bayesrob.predictive import Predictive

__all__ = ["MiniBatchMethod"]


@dataclasses.dataclass(frozen=True)
class MiniBatchMethod(Inference):
    """A method that says what is trained (`learner`) and how long (`schedule`); the loop is `training.train`."""

    in_epochs: ClassVar[bool] = True

    @abc.abstractmethod
    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> Learner:
        """Return what is trained, before its first step."""

    @abc.abstractmethod
    def schedule(self, num_data: int) -> Schedule:
        """Return how long `num_data` points are trained on, and how."""

    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        name, schedule = type(self).__name__, self.schedule(len(dataset.x_train))
        check_batches(network_of(model), len(dataset.x_train), schedule.batch_size)
        learner = self.learner(model, likelihood, dataset, seed)
        points = Points.of(dataset, like=learner.parameters[0])
        trained = train(learner, schedule, points, seed=seed, watch=each_epoch, title=name)
        run = trained.runs[0]
        return trained.predictive, run.notes(name, learner.advice), {**run.record(), **learner.record()}
