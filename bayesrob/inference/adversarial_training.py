"""Adversarial training: every mini-batch is what an attack makes of it on the networks as trained so far."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from bayesrob import rng
from bayesrob.data import Dataset
from bayesrob.inference.base import EachEpoch, Inference, require
from bayesrob.inference.hardening import (
    Hardening,
    Known,
    LiveNetwork,
    Loss,
    Training,
    alike_in_both_modes,
    require_ball,
    unless_diverged,
)
from bayesrob.inference.masked_training import MaskedTraining
from bayesrob.inference.sdr import SDR
from bayesrob.inference.sgd import SGD
from bayesrob.inference.svi import SVI
from bayesrob.models import Likelihood
from bayesrob.predictive import Predictive

if TYPE_CHECKING:
    from bayesrob.attacks import Attack

__all__ = ["AdversarialTraining", "Adversary"]


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(Inference):
    """min over what is trained of E max over the attack's ball of the loss (Madry et al. 2018, equation 2.1).

    At every step the attack perturbs the mini-batch x to x', and the step goes down the gradient of the loss at x', which by
    Danskin's theorem is the gradient of the inner maximum where x' attains it. The loss is `base`'s own:

        clean_weight * loss(x, y) + (1 - clean_weight) * loss(x', y)

    (Goodfellow et al. 2015, section 6, their alpha; all points are in both parts. Kurakin et al. 2017 instead replace some
    of a batch's points.) What is not a function of the data, a prior or a divergence, counts once.

    The attack sees networks in evaluation mode: dropout off, batch normalisation by the running statistics so far; the loss
    at x' is taken in training mode, so running statistics are those of the points that are trained on. Of random networks
    (SVI, SDR, dropout) each look of the attack is at one new draw, as each step of training is, unless the attack says
    otherwise (`num_draws`, draws="held"). The attack's seed at step t comes from that of the fit and t.

    Under a deterministic base with clean_weight > 0 the clean batch's backward pass gives the input gradient along with the
    weights', where the attack begins with it (FGSM, BV, BIM), and the network computes the same in both modes.

    Args:
        attack: any attack of `bayesrob.attacks` with a budget, e.g. PGD(eps=0.1, steps=7).
        base: what is trained: SGD, SVI, SDR, MCDropout or DropConnect with its settings.
        clean_weight: part of the clean loss, in [0, 1]. 0 is Madry et al.'s, 0.5 Goodfellow et al.'s, 1 plain training.

    Raises:
        InputError: no attack, or one without a ball (those that look for the smallest perturbation); another base; a
            clean_weight outside [0, 1]; when fitting, an l_inf or l_2 radius beyond the diameter of the data's bounds.
    """

    attack: Attack
    base: Inference = dataclasses.field(default_factory=SGD)
    clean_weight: float = 0.0

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_ball(self.attack)
        require(
            isinstance(self.base, SGD | SVI | SDR | MaskedTraining),
            f"base is {self.base!r}.",
            "Batches are attacked while networks are trained on them.",
            "Give SGD(), SVI(), SDR(), MCDropout() or DropConnect(); for ensembles Ensemble(base=AdversarialTraining(...)).",
        )
        check_clean_weight(self.clean_weight)

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        require_ball(self.attack, dataset.bounds, dataset.x_train[0].numel())
        return likelihood

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        assert isinstance(self.base, SGD | SVI | SDR | MaskedTraining)
        adversary = Adversary("AdversarialTraining", self.attack, self.clean_weight, seed)
        predictive, notes, record = self.base._run(model, likelihood, dataset, seed, each_epoch, harden=adversary)
        return predictive, notes, {**record, "base": type(self.base).__name__}


class Adversary(Hardening):
    """The loss at what an attack makes of each batch.

    Args:
        method: see `Hardening`. attack, clean_weight: see `AdversarialTraining`. seed: of the fit.
    """

    def __init__(self, method: str, attack: Attack, clean_weight: float, seed: int):
        self.method, self.attack, self.clean_weight, self.seed = method, attack, clean_weight, seed
        self.moves_points = clean_weight in (0, 1)

    def __call__(self, training: Training) -> Loss:
        if self.clean_weight == 1:
            return training.loss
        weight, step = self.clean_weight, 0
        # Until it turns out that the attack looks elsewhere first: at a random start, or at other labels.
        combined = weight > 0 and training.net is not None and alike_in_both_modes(training.net)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            nonlocal step, combined
            seed = rng.derive(self.seed, "adversary", step)
            step += 1
            post = training.live()

            def attacked() -> Tensor:
                return unless_diverged(post, x, lambda: self.attack(post, x, y, seed=seed))

            if combined and isinstance(post, LiveNetwork):
                leaf = x.detach().clone().requires_grad_()
                clean = weight * training.loss(leaf, y)
                clean.backward()  # into the weights' gradients, where the other part's will be added
                assert leaf.grad is not None
                post.known = Known(x, y, leaf.grad * (len(x) / weight))  # the loss is a mean over points
                moved = attacked()
                combined = post.used
                return clean.detach() + (1 - weight) * training.loss(moved, y)
            value = training.loss(attacked(), y)
            return value if weight == 0 else weight * training.loss(x, y) + (1 - weight) * value

        return loss


def check_clean_weight(weight: object) -> None:
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight) and 0 <= weight <= 1
    require(good, f"clean_weight is {weight!r}.", "It is the clean loss's part of the whole.", "Give a number in [0, 1].")
