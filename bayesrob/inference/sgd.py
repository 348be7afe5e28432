"""One trained network: the deterministic baseline."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.adam import Adam, fused_adam
from bayesrob.inference.base import EachEpoch, Inference, require
from bayesrob.inference.closed_form import ClosedForm
from bayesrob.inference.hardening import Hardening, LiveNetwork, Loss, Training
from bayesrob.inference.optimise import minimise, num_epochs
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.nets import in_fast_layout, initialise
from bayesrob.predictive import HeldDraws

__all__ = ["SGD", "check_batches", "check_training", "penalised", "statistics"]


@dataclasses.dataclass(frozen=True)
class SGD(Inference):
    """Stochastic gradient descent on the negative log likelihood; on a `BayesianNetwork`, maximum a posteriori.

    Args:
        epochs: passes over the data. None: as many as give 2,000 steps, at least 10.
        lr: learning rate; 0.001 is the papers' (with Adam).
        batch_size: 128, the papers'.
        optimizer: "adam" (Kingma & Ba 2015) or "sgd" (momentum 0.9).
        weight_decay: L2 penalty of the optimizer, on top of a model's prior.
        decay: let the learning rate fall to zero over the run (half a cosine).
        initial: "fresh" draws starting weights from the seed by the layers' own initialisation; "keep" starts from the
            weights that the network has.
    """

    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    decay: bool = True
    initial: Literal["fresh", "keep"] = "fresh"

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_training(self.epochs, self.lr, self.batch_size)
        check_name("optimizer", self.optimizer, ["adam", "sgd"])
        check_name("initial", self.initial, ["fresh", "keep"])
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}.", "It is a penalty.", "Give a number >= 0.")

    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
        harden: Hardening | None = None,
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        bnn = model if isinstance(model, BayesianNetwork) else None
        source = model.net if bnn is not None else model
        assert isinstance(source, nn.Module)
        net = initialise(source, seed, "sgd") if self.initial == "fresh" else copy.deepcopy(source)
        parameters = list(in_fast_layout(net).train().requires_grad_(True).parameters())
        x, y = dataset.training(like=parameters[0])
        check_batches(net, len(x), self.batch_size)
        criterion = penalised(net, bnn, likelihood, len(x))
        closes = (harden is None or harden.moves_points) and ClosedForm.takes(net, likelihood, x)
        closed = ClosedForm(net, bnn, likelihood, x, len(x)) if closes else None
        trained = parameters if closed is None else [closed.theta]
        kept = [*trained, *statistics(net)]

        def loss(x_batch: Tensor, y_batch: Tensor) -> Tensor:
            return criterion(net(x_batch), y_batch)

        def hardened(harden: Hardening) -> Loss:
            common = self._common(likelihood, dataset)
            if closed is not None:
                return harden(Training(closed.at, LiveNetwork(net, closed.views(), **common).now))
            return harden(Training(loss, LiveNetwork(net, **common).now, net, criterion))

        def predictive() -> HeldDraws:
            if closed is not None:
                closed.hand_back()
            weights = {
                name: parameter.detach()[None].clone(memory_format=torch.contiguous_format)
                for name, parameter in net.named_parameters()
            }
            return HeldDraws(net, weights, **self._common(likelihood, dataset))

        epochs = num_epochs(self.epochs, len(x), self.batch_size, least=10, min_steps=2000)
        with rng.global_seed(seed, "sgd", "layers"):  # dropout layers draw from the global generator
            run = minimise(
                hardened(harden) if harden is not None else closed or loss,
                kept,
                self.make_optimizer(trained),
                x,
                y,
                epochs,
                self.batch_size,
                self.decay,
                rng.generator(seed, "sgd"),
                "SGD" if harden is None else harden.method,
                None if each_epoch is None else lambda epoch: each_epoch(epoch, predictive()),
                None if closed is None or harden is not None else closed.split,
            )
        return predictive(), run.notes("SGD"), {"losses": run.losses, "steps": run.steps}

    def make_optimizer(self, parameters: list[nn.Parameter] | list[Tensor]) -> Adam | torch.optim.Optimizer:
        """The optimizer that the settings describe, for `parameters`."""
        if self.optimizer == "adam":
            return fused_adam(parameters, self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, self.lr, momentum=0.9, weight_decay=self.weight_decay, fused=True)


def penalised(
    net: nn.Module, bnn: BayesianNetwork | None, likelihood: Likelihood, num_data: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """`criterion(outputs, labels)`: mean negative log likelihood, minus log p(w) / num_data where `net` has a prior."""

    def criterion(outputs: Tensor, y_batch: Tensor) -> Tensor:
        value = -likelihood.total(outputs, y_batch) / len(y_batch)
        return value if bnn is None else value - bnn.log_prior(bnn.flatten(dict(net.named_parameters()))) / num_data

    return criterion


def check_training(epochs: int | None, lr: float, batch_size: int) -> None:
    """Raise `InputError` for settings under which no step could be taken."""
    require(
        epochs is None or _counts(epochs),
        f"epochs is {epochs}.",
        "Training needs one at least.",
        "Give a whole number >= 1, or None.",
    )
    require(math.isfinite(lr) and lr > 0, f"lr is {lr}.", "A step must go somewhere.", "Give a positive learning rate.")
    good = _counts(batch_size)
    require(good, f"batch_size is {batch_size}.", "A batch holds one point at least.", "Give a whole number >= 1.")


def statistics(net: nn.Module) -> list[Tensor]:
    """Running statistics, which go back with the weights if the loss blows up."""
    return [buffer for buffer in net.buffers() if buffer.is_floating_point()]


def check_batches(net: nn.Module, num_data: int, batch_size: int) -> None:
    """Raise `InputError` where batch normalisation would meet a batch of one point."""
    smallest = num_data // math.ceil(num_data / batch_size)  # batches are of equal size, give or take a point
    require(
        smallest > 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()),
        f"batch_size={batch_size} makes batches of one of {num_data} points, and the network has batch normalisation.",
        "It scales by the spread of a batch, which one point does not have.",
        "Give two points or more and batch_size >= 3, or use group normalisation.",
    )


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
