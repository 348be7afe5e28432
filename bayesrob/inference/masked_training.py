"""Training under random masks of the weights: what dropout and DropConnect share."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.inference.adam import fused_adam
from bayesrob.inference.base import EachEpoch, Inference, require_count
from bayesrob.inference.hardening import Hardening, Loss, Training, following
from bayesrob.inference.optimise import minimise, num_epochs
from bayesrob.inference.sgd import check_batches, check_training, penalised, statistics
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.nets import forward, initialise
from bayesrob.predictive import MaskedDraws
from bayesrob.predictive.masked import Masks, check_rate

__all__ = ["MaskedTraining"]


@dataclasses.dataclass(frozen=True)
class MaskedTraining(Inference):
    """Minimise E_mask [mean loss of the network with masked weights], on a `BayesianNetwork` minus log p(w) / N, by Adam.

    Every step draws one mask for its whole mini-batch, so that what is trained is a draw of the Predictive, one function;
    a stack of linear layers then costs one ordinary product a layer. The gradient is unbiased for the same objective as
    that of masks for every point (the loss is a mean over points, the expectation of each is over its own mask alone), but
    its noise is shared by the batch and does not average out in it: hence the decay.

    The prior is of the weights without masks, w, as in `SGD`. (Gal & Ghahramani 2016 charge the masked ones, whose expected
    squares are 1 / (1 - p) times as large: the same with prior_scale times sqrt(1 - p).)

    The network is in training mode, so batch statistics are learnt, over masks; its own dropout layers are switched off:
    the masks take their place, and the Predictive knows no others. Initial weights and order of the data are those of `SGD`
    with the same seed, so that with p = 0 and the same settings the weights are the same, too, bit for bit.
    """

    p: float
    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int = 128
    decay: bool = True
    num_draws: int = 100

    in_epochs: ClassVar[bool] = True
    unit: ClassVar[str]
    """See `predictive.MaskedDraws`."""

    def __post_init__(self) -> None:
        check_rate(self.p)
        check_training(self.epochs, self.lr, self.batch_size)
        require_count("num_draws", self.num_draws, "A prediction averages one at least.")

    @abc.abstractmethod
    def masked(self, net: nn.Module) -> Sequence[str]:
        """Names of the weights that have masks; `InputError` if there are none."""

    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
        harden: Hardening | None = None,
    ) -> tuple[MaskedDraws, list[str], dict[str, Any]]:
        name = type(self).__name__
        bnn = model if isinstance(model, BayesianNetwork) else None
        source = model.net if bnn is not None else model
        assert isinstance(source, nn.Module)
        names = self.masked(source)
        net = without_dropout(initialise(source, seed, "sgd").train().requires_grad_(True))
        masks = Masks.of(net, self.p, self.unit, names)
        noise = rng.generator(seed, "masks")
        parameters = dict(net.named_parameters())
        x, y = dataset.training(like=next(iter(parameters.values())))
        check_batches(net, len(x), self.batch_size)

        criterion = penalised(net, bnn, likelihood, len(x))

        def loss(x_batch: Tensor, y_batch: Tensor) -> Tensor:
            kept = masks.draw(noise).to(x_batch.device)
            return criterion(forward(net, None, masks.apply(parameters, kept), x_batch), y_batch)

        def predictive(num_draws: int = self.num_draws) -> MaskedDraws:
            loc = {key: parameter.detach().clone() for key, parameter in parameters.items()}
            common = {"num_draws": num_draws, "seed": seed, **self._common(likelihood, dataset)}
            return MaskedDraws(net, loc, self.p, self.unit, names, **common)

        def hardened(harden: Hardening) -> Loss:
            return harden(Training(loss, following(predictive(1), net, lambda: {"loc": parameters})))

        optimizer = fused_adam(list(parameters.values()), self.lr)
        epochs = num_epochs(self.epochs, len(x), self.batch_size, least=20, min_steps=4000)
        with rng.global_seed(seed, "sgd", "layers"):  # a layer of the user's own may draw from the global generator
            run = minimise(
                loss if harden is None else hardened(harden),
                [*parameters.values(), *statistics(net)],
                optimizer,
                x,
                y,
                epochs,
                self.batch_size,
                self.decay,
                rng.generator(seed, "sgd"),
                name if harden is None else harden.method,
                None if each_epoch is None else lambda epoch: each_epoch(epoch, predictive()),
            )
        return predictive(), run.notes(name), {"losses": run.losses, "steps": run.steps, "masked": list(names)}


def without_dropout(net: nn.Module) -> nn.Module:
    """`net` with its own dropout layers in evaluation mode, those between layers of a recurrent network at rate zero."""
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    return net
