"""Training under random masks of the weights: what dropout and DropConnect share."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.arguments import whole
from bayesrob.data import Dataset
from bayesrob.inference.training.learner import Learner
from bayesrob.inference.training.live import Live, following
from bayesrob.inference.training.method import MiniBatchMethod
from bayesrob.inference.training.network import Criterion, buffers, penalised
from bayesrob.inference.training.schedule import Optimizer, Schedule, check_training, num_epochs
from bayesrob.models import Likelihood, network_of
from bayesrob.nets import forward, initialise
from bayesrob.predictive import MaskedDraws, Masks, check_rate
from bayesrob.types import Batch, Labels

__all__ = ["MaskedLearner", "MaskedTraining"]


@dataclasses.dataclass(frozen=True)
class MaskedTraining(MiniBatchMethod):
    """Minimise E_mask [mean loss of the network with masked weights] by Adam; a prior adds - log p(w) / N.

    Every step draws one mask for its whole minibatch, so that what is trained is a draw of the Predictive, one function;
    a stack of linear layers then costs one ordinary product a layer. The gradient is unbiased for the same objective as
    that of masks for every point (the loss is a mean over points, and the expectation of each is over its own mask only).
    Its noise, however, is shared by the minibatch and does not average out in it: hence the decay of the learning rate.

    The prior is of the weights without masks, w, as in `SGD`. (Gal & Ghahramani 2016 charge the masked ones, whose expected
    squares are 1 / (1 - p) times as large: the same with prior_scale times sqrt(1 - p).)

    The network is in training mode, so batch statistics are learnt over masks. Its own dropout layers are switched off,
    because the masks take their place and the Predictive knows no others. Initial weights and order of the data are those of
    `SGD` with the same seed, so that with p = 0 and the same settings the weights are the same, bit for bit.

    Args:
        p: probability of being dropped, in [0, 1).
        epochs: passes over the data. None: as many as give 4,000 steps, at least 20.
        lr: learning rate of Adam.
        batch_size: largest number of points in a minibatch.
        decay: let the learning rate fall to zero over the run (half a cosine).
        num_draws: draws that the Predictive makes when no number is given.
    """

    origin: ClassVar[str] = "noise"

    p: float
    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int = 128
    decay: bool = True
    num_draws: int = 100

    unit: ClassVar[str]
    """What is dropped: see `predictive.MaskedDraws`."""

    def __post_init__(self) -> None:
        check_rate(self.p)
        check_training(self.epochs, self.lr, self.batch_size)
        whole("num_draws", self.num_draws, "A prediction averages one at least.")

    @abc.abstractmethod
    def masked(self, net: nn.Module) -> Sequence[str]:
        """Names of the weights that have masks; `InputError` if there are none."""

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> MaskedLearner:
        names = self.masked(network_of(model))
        net = without_dropout(initialise(network_of(model), seed, "sgd").train().requires_grad_(True))
        masks = Masks.of(net, self.p, self.unit, names)
        criterion = penalised(net, model, likelihood, len(dataset.x_train))

        def predictive(weights: dict[str, Tensor], num_draws: int | None = None) -> MaskedDraws:
            own = {"num_draws": num_draws or self.num_draws, "seed": seed, **self._common(likelihood, dataset)}
            return MaskedDraws(net, weights, self.p, self.unit, names, **own)

        return MaskedLearner(net, criterion, masks, generator=rng.generator(seed, "masks"), predictive=predictive)

    def schedule(self, num_data: int) -> Schedule:
        epochs = num_epochs(self.epochs, num_data, self.batch_size, least=20, min_steps=4000)
        return Schedule(epochs, self.batch_size, Optimizer(self.lr), self.decay)


class MaskedLearner(Learner):
    """A network whose weights are masked at random, with one mask for each evaluation of the loss.

    Args:
        net: the network; its parameters change in place.
        criterion: see `penalised`.
        masks: the weights that are masked, and how.
        generator: draws the masks.
        predictive: makes the Predictive of weights by name, with that number of draws or the default.
    """

    def __init__(self, net: nn.Module, criterion: Criterion, masks: Masks, *, generator: torch.Generator, predictive: Any):
        self._net, self._criterion, self._masks = net, criterion, masks
        self._generator, self._predictive = generator, predictive
        self._weights = dict(net.named_parameters())
        self.parameters = list(self._weights.values())
        self.statistics, self.counters = buffers(net)
        self._live: Live | None = None

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        mask = self._masks.draw(self._generator).to(x.device)
        return self._criterion(forward(self._net, None, self._masks.apply(self._weights, mask), x), y)

    def predictive(self, num_draws: int | None = None) -> MaskedDraws:
        return self._predictive({name: one.detach().clone() for name, one in self._weights.items()}, num_draws)

    def live(self) -> Any:
        if self._live is None:
            self._live = following(self.predictive(1), self._net, lambda: {"loc": self._weights})
        return self._live()

    def record(self) -> dict[str, Any]:
        return {"masked": list(self._masks.layouts)}

    def state(self) -> dict[str, Any]:
        return {"masks": self._generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["masks"])


def without_dropout(net: nn.Module) -> nn.Module:
    """`net` with its own dropout layers in evaluation mode, those between layers of a recurrent network at rate zero."""
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    return net
