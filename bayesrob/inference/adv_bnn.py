"""Adv-BNN: a mean-field Bayesian network trained on adversarial examples."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from bayesrob.data import Dataset
from bayesrob.inference.adversarial_training import Adversary
from bayesrob.inference.base import EachEpoch, Inference, require, require_bayesian
from bayesrob.inference.hardening import require_ball
from bayesrob.inference.svi import SVI
from bayesrob.models import Likelihood
from bayesrob.predictive import Predictive

if TYPE_CHECKING:
    from bayesrob.attacks import Attack

__all__ = ["AdvBNN"]


WIDE = 0.3
"""Standard deviation at the start above which there is a note: 64-64-10 learns the digits from 0.3, from 1 not at all."""


@dataclasses.dataclass(frozen=True)
class AdvBNN(Inference):
    """min over q E max over x' of E_q [-log p(y | x', w)] + alpha / N KL(q || prior) (Liu, Li, Wu & Hsieh 2019, equation 9).

    q(w) = N(loc, scale^2), independent; the divergence is in closed form and over *every* weight and bias. (In the authors'
    code the VGG adds up its last layer's alone, see their issue 5.) Each look of the attack is at a new draw of all weights,
    so is each step's loss, by one reparameterised draw for the batch: `AdversarialTraining(attack, SVI(kl_weight=alpha,
    estimator="shared_draw", mirrored=False))`, with standard deviations that start at the prior's.

    The prior is the model's. The paper's standard deviation is 0.1 (0.08 in its scripts): models.BayesianNetwork(net,
    prior_scale=0.1). Under much wider ones, such as the default of 1, the start has far more noise than signal; then give
    `initial_scale`.

    Args:
        attack: any attack of `bayesrob.attacks` with a budget. The paper's, for CIFAR-10: PGD(eps=8/255, steps=10,
            step_size=0.007, random_start=False).
        alpha: weight of the divergence; 1, the evidence lower bound, is what the authors' code has. Less where data are few:
            1,000 digits, 64-64-10, prior 0.1, PGD-5 at 0.15: clean and robust accuracy 0.64 and 0.46 at 1, 0.96 and 0.67 at
            0.1 (the same without attack, so it is the prior's strength).
        epochs: passes over the data; None: as many as give 4,000 steps, at least 20 (authors: 200).
        lr: of Adam, 0.01, the authors', who divide it by 10 three times; here it falls along half a cosine.
        batch_size: 128, the authors'.
        initial_scale: standard deviation of every weight at the start; None: the prior's, as the authors'.
        num_draws: that the Predictive makes when no number is given; 50, the authors' average of softmax at test time.

    Raises:
        InputError: as `AdversarialTraining` and `SVI`; when fitting, a network without a prior.
    """

    attack: Attack
    alpha: float = 1.0
    epochs: int | None = None
    lr: float = 0.01
    batch_size: int = 128
    initial_scale: float | None = None
    num_draws: int = 50

    in_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_ball(self.attack)
        good = math.isfinite(self.alpha) and self.alpha >= 0
        require(good, f"alpha is {self.alpha}.", "It weighs the divergence from the prior.", "Give a number >= 0.")
        scale = self.initial_scale
        good = scale is None or (math.isfinite(scale) and scale > 0)
        require(good, f"initial_scale is {scale}.", "It is a standard deviation.", "Give a positive number, or None.")
        self.as_svi()  # refuses other settings

    def as_svi(self) -> SVI:
        """The variational inference whose loss is taken at adversarial examples, up to its starting scale."""
        return SVI(
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            estimator="shared_draw",
            num_draws=self.num_draws,
            kl_weight=self.alpha,
            mirrored=False,
        )

    def _check(self, model: nn.Module, dataset: Dataset) -> Likelihood:
        likelihood = super()._check(model, dataset)
        require_bayesian("AdvBNN", model)
        require_ball(self.attack, dataset.bounds, dataset.x_train[0].numel())
        return likelihood

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        bnn = require_bayesian("AdvBNN", model)
        scale = self.initial_scale
        start = bnn.prior_scales if scale is None else torch.full_like(bnn.prior_scales, scale)
        adversary = Adversary("AdvBNN", self.attack, 0.0, seed)
        scales = bnn.unflatten(start)
        post, notes, record = self.as_svi()._run(model, likelihood, dataset, seed, each_epoch, scales, harden=adversary)
        widest = float(start.max())
        if scale is None and widest > WIDE:
            notes = [
                *notes,
                f"AdvBNN started with the prior's standard deviations, up to {widest:g}: noise that may hide what "
                "there is to learn. Use BayesianNetwork(net, prior_scale=0.1), as the paper, or initial_scale=0.05.",
            ]
        return post, notes, record
