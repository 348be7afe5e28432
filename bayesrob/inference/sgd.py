"""One trained network: the deterministic baseline."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob.arguments import number, require
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import Inference
from bayesrob.inference.training import MiniBatchMethod, Optimizer, Points, Schedule, Trained, train
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.inference.training.network import NetworkLearner, penalised
from bayesrob.inference.training.schedule import check_training, num_epochs
from bayesrob.models import Likelihood, network_of
from bayesrob.nets import in_fast_layout, initialise

__all__ = ["SGD", "are_batched"]

SMALL = 2**15
"""Number of weights from which on a network's own products take longer than their dispatch: see `Ensemble.members`."""

SHARED = 4
"""Factor of `SMALL` where torch has several threads, which share a batch of products better than a small one."""


@dataclasses.dataclass(frozen=True)
class SGD(MiniBatchMethod):
    """Stochastic gradient descent on the negative log likelihood; on a `BayesianNetwork`, maximum a posteriori.

    Args:
        epochs: passes over the data. None: as many as give 2,000 steps, at least 10.
        lr: learning rate; 0.001 (with Adam) as in Carbone et al. 2020.
        batch_size: largest number of points in a minibatch; 128 as in Carbone et al. 2020.
        optimizer: "adam" (Kingma & Ba 2015) or "sgd" (momentum 0.9).
        weight_decay: L2 penalty of the optimizer, on top of a model's prior.
        decay: let the learning rate fall to zero over the run (half a cosine).
        initial: "fresh" draws starting weights from the seed by the layers' own initialisation; "keep" starts from the
            weights that the network has.

    Example:
        >>> post = br.inference.SGD(epochs=5).fit(net, ds, seed=0)
        >>> post.num_draws
        1
    """

    origin: ClassVar[str] = "members"

    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    decay: bool = True
    initial: Literal["fresh", "keep"] = "fresh"

    def __post_init__(self) -> None:
        check_training(self.epochs, self.lr, self.batch_size)
        check_name("optimizer", self.optimizer, ["adam", "sgd"])
        check_name("initial", self.initial, ["fresh", "keep"])
        number("weight_decay", self.weight_decay, "It is a penalty.", least=0)

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> ClosedForm | NetworkLearner:
        net = in_fast_layout(self._start(model, seed)).train().requires_grad_(True)
        num_data, common = len(dataset.x_train), self._common(likelihood, dataset)
        example = dataset.x_train[:1].to(next(net.parameters()))
        if ClosedForm.takes(net, likelihood, example):
            return ClosedForm(net, model, likelihood, example=example, num_data=num_data, common=common)
        return NetworkLearner(net, penalised(net, model, likelihood, num_data), common)

    def schedule(self, num_data: int) -> Schedule:
        optimizer = Optimizer(self.lr, self.optimizer, weight_decay=self.weight_decay)
        epochs = num_epochs(self.epochs, num_data, self.batch_size, least=10, min_steps=2000)
        return Schedule(epochs, self.batch_size, optimizer, self.decay)

    def train_several(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        *,
        seeds: Sequence[int],
        index: Tensor | None,
        title: str,
    ) -> Trained:
        """Train a network with each of `seeds`, all in one batch: the fits with these seeds up to rounding.

        Adam and momentum work weight by weight, so no network sees another. One whose loss is not finite ends with its last
        finite weights; the others go on.

        Args:
            model: as in `fit`; its network must be one that `ClosedForm.takes`.
            likelihood: what outputs say about labels.
            dataset: the data.
            seeds: one for each network.
            index: the points that each network is trained on, int64 `[network, point]`. None: all are trained on all points.
            title: name for the progress bar.

        Returns:
            A Predictive whose draws are the networks, and a run for each.
        """
        num_data = len(dataset.x_train) if index is None else index.shape[-1]
        nets = [self._start(model, seed) for seed in seeds]
        starts = {name: torch.stack([net.get_parameter(name) for net in nets]) for name, _ in nets[0].named_parameters()}
        example = dataset.x_train[:1].to(next(nets[0].parameters()))
        settings = {"example": example, "num_data": num_data, "common": self._common(likelihood, dataset)}
        learner = ClosedForm(copy.deepcopy(network_of(model)), model, likelihood, starts=starts, **settings)
        points = Points.of(dataset, like=learner.theta, index=index)
        return train(learner, self.schedule(num_data), points, seed=list(seeds), title=title)

    def _start(self, model: nn.Module, seed: int) -> nn.Module:
        """A copy of the network with the weights that training starts from."""
        net = network_of(model)
        return initialise(net, seed, "sgd") if self.initial == "fresh" else copy.deepcopy(net)


def are_batched(base: Inference, model: nn.Module, likelihood: Likelihood, dataset: Dataset, members: str | None) -> bool:
    """Whether members are to be trained in one batch: because they should be ("batched"), or because it is faster (None).

    Raises:
        InputError: they should be and cannot.
    """
    net = network_of(model)
    # A subclass of SGD may train otherwise.
    can = type(base) is SGD and ClosedForm.takes(net, likelihood, dataset.x_train)
    require(
        can or members != "batched",
        'members="batched" for other networks than stacks of linear layers, or another method than SGD.',
        "Only their members are trained by batched products.",
        'Give members="in_turn", or None.',
    )
    limit = SMALL * (SHARED if torch.get_num_threads() > 1 else 1)
    small = sum(parameter.numel() for parameter in net.parameters()) < limit
    return can and (small if members is None else members == "batched")
