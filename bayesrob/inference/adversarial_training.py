"""Adversarial training: every mini-batch is what an attack makes of it on the networks as trained so far."""

from __future__ import annotations

import dataclasses

from torch import nn

from bayesrob.arguments import number, require
from bayesrob.data import Dataset
from bayesrob.inference.sdr import SDR
from bayesrob.inference.sgd import SGD
from bayesrob.inference.svi import SVI
from bayesrob.inference.training import MiniBatchMethod, Schedule
from bayesrob.inference.training.defence import Adversary, AttackOnBatches, check_ball
from bayesrob.inference.training.masked import MaskedTraining
from bayesrob.models import Likelihood

__all__ = ["AdversarialTraining"]


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(MiniBatchMethod):
    """min over what is trained of E max over the attack's ball of the loss (Madry et al. 2018, equation 2.1).

    At every step the attack perturbs the minibatch x to x', and the step goes down the gradient of the loss at x', which by
    Danskin's theorem is the gradient of the inner maximum where x' attains it. The loss is `base`'s own:

        clean_weight * loss(x, y) + (1 - clean_weight) * loss(x', y)

    (Goodfellow et al. 2015, section 6, their alpha; all points are in both parts. Kurakin et al. 2017 instead replace some
    of a minibatch's points.) What is not a function of the data, a prior or a divergence, counts once.

    The attack sees networks in evaluation mode: dropout off, batch normalisation by the current running statistics. The loss
    at x' is taken in training mode, so running statistics are those of the points that are trained on. With random networks
    (SVI, SDR, dropout) each model evaluation of the attack is at one new draw, as each step of training is, unless the
    attack says otherwise (`num_draws`, draws="held"). The attack's seed at step t comes from that of the fit and t.

    Under a deterministic base with clean_weight > 0 the backward pass of the clean loss gives the input gradient along with
    that of the weights, which saves a pass if the attack begins with it (FGSM, BV, BIM) and the network computes the same in
    both modes.

    Args:
        attack: any attack of `bayesrob.attacks` within a ball, e.g. PGD(eps=0.1, steps=7).
        base: what is trained: SGD, SVI, SDR, MCDropout or DropConnect with its settings.
        clean_weight: weight of the clean loss, in [0, 1]. 0 as in Madry et al. 2018; Goodfellow et al. 2015 take 0.5; 1 is
            training without an attack.

    Raises:
        InputError: no attack, or one without a ball (one that searches for the smallest perturbation); another base; a
            clean_weight outside [0, 1]; when fitting, an l_inf or l_2 radius beyond the diameter of the data's bounds.

    Example:
        >>> method = br.inference.AdversarialTraining(br.attacks.FGSM(eps=0.1), base=br.inference.SGD(epochs=3))
        >>> method.fit(net, ds, seed=0).num_draws
        1
    """

    attack: AttackOnBatches
    base: MiniBatchMethod = dataclasses.field(default_factory=SGD)
    clean_weight: float = 0.0

    def __post_init__(self) -> None:
        check_ball(self.attack)
        require(
            isinstance(self.base, SGD | SVI | SDR | MaskedTraining),
            f"base is {self.base!r}.",
            "Batches are attacked while networks are trained on them.",
            "Give SGD(), SVI(), SDR(), MCDropout() or DropConnect(); for ensembles Ensemble(base=AdversarialTraining(...)).",
        )
        number("clean_weight", self.clean_weight, "It is the clean loss's part of the whole.", least=0, most=1)

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> Adversary:
        inner = self.base.learner(model, likelihood, dataset, seed)
        base = type(self.base).__name__
        return Adversary(inner, self.attack, clean_weight=self.clean_weight, seed=seed, base=base)

    def schedule(self, num_data: int) -> Schedule:
        return self.base.schedule(num_data)

    def _origin(self) -> str:
        return self.base._origin()

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        check_ball(self.attack, dataset.bounds, dataset.x_train[0].numel())
        return likelihood
