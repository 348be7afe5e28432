"""The stochastic delta rule: weights drawn anew for every mini-batch, with standard deviations that training moves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import nn

from bayesrob import rng
from bayesrob.arguments import number, whole
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.inference.base import require_bayesian
from bayesrob.inference.svi import SVI
from bayesrob.inference.training import MiniBatchMethod, Optimizer, Schedule
from bayesrob.inference.training.delta_rule import DeltaRule, Rule, SigmaTrace
from bayesrob.inference.training.initial_sigma import check_sigma, initial_sigma
from bayesrob.inference.training.network import penalised
from bayesrob.inference.training.schedule import check_training
from bayesrob.inference.variational import VariationalLearner
from bayesrob.models import Likelihood, network_of
from bayesrob.nets import in_fast_layout, initialise
from bayesrob.types import Weights

__all__ = ["SDR"]


@dataclasses.dataclass(frozen=True)
class SDR(MiniBatchMethod):
    """The stochastic delta rule (Hanson 1990; Frazier-Logue & Hanson 2018), for any network: linear, convolutional, LSTM.

    For every minibatch weights w ~ N(mu, sigma^2) are drawn, once for all of its points, and the gradient of the mean loss
    is taken at them.

    variance="decay" (Liu & Sha, equation 3 and algorithm 2, where Sigma stands for the standard deviation): mu takes a step
    of Adam along that gradient g, sigma <- sigma + beta |g|, and after a number of minibatches sigma <- zeta sigma. It
    predicts with the means: one held draw. On 60,000 images this rule diverges at its authors' settings: in the half epoch
    between two decays sigma grows, and with it the gradients and again sigma (784-100-100-100-10: not finite after 330
    steps, also from sigma 0). The code of Frazier-Logue & Hanson lets sigma grow only where it decays,
    sigma <- zeta (sigma + beta |g|) twice an epoch: growth="at_decays".

    variance="learnable" (Liu & Sha, section 5.3): mu and sigma are both learned through w = mu + sigma * eps, without a
    divergence from any prior. Sigma is learned as its logarithm, which keeps it positive (Liu & Sha's code learns it raw).
    It is `SVI(estimator="shared_draw", kl_weight=0)` from other initial values. It predicts with fresh draws.

    With beta 0 and an initial sigma of 0, "decay" is plain Adam: to the bit `SGD(decay=False)` of the same seed, which
    starts from the same weights and sees the same minibatches.

    `info["sigma"]` has the sum of sigma over each parameter, before training and after every epoch.

    Args:
        variance: "decay" or "learnable", see above.
        epochs: passes over the data; 20 as in Liu & Sha.
        lr: learning rate of Adam; 0.001 as in Liu & Sha.
        batch_size: largest number of points in a minibatch; 64 as in Liu & Sha.
        beta: under "decay", factor of the gradient's size that is added to sigma; 0.05 as in Liu & Sha.
        zeta: under "decay", the factor by which sigma decays; 0.7 as in Liu & Sha.
        decays_per_epoch: under "decay", how often sigma decays in an epoch; 2 as in Liu & Sha.
        growth: under "decay", whether sigma grows in "every_batch", as Liu & Sha print it, or "at_decays", as in the code of
            Frazier-Logue & Hanson 2018.
        initial_sigma: a number; a number or rule for each parameter by its name; or a rule for all: "frazier_logue_2018"
            (uniform in [0, 0.5 sqrt(2 / numel)] of the tensor) or "xavier" (the absolute value of a normal number of
            variance 2 / (fan in + fan out), Glorot & Bengio 2010; a bias counts as a weight from its own units). None: the
            rule of the published code, "frazier_logue_2018" under "decay" and "xavier" under "learnable".
        kl_weight: under "learnable", factor of the divergence from the prior of a `BayesianNetwork`; 0 as in Liu & Sha, 1 is
            SVI.
        predict: whether predictions use the "means" or "draws". None: as Liu & Sha, the means under "decay", draws under
            "learnable".
        num_draws: draws that the Predictive makes when no number is given; 50 as in Liu & Sha. See `predictive.vote` for
            the majority of their classes.

    Example:
        >>> post = br.inference.SDR(epochs=2).fit(net, ds, seed=0)
        >>> post.num_draws  # the means
        1
    """

    origin: ClassVar[str] = "noise"

    variance: Literal["decay", "learnable"] = "decay"
    epochs: int = 20
    lr: float = 1e-3
    batch_size: int = 64
    beta: float = 0.05
    zeta: float = 0.7
    decays_per_epoch: int = 2
    growth: Literal["every_batch", "at_decays"] = "every_batch"
    initial_sigma: float | str | Mapping[str, float | str] | None = None
    kl_weight: float = 0.0
    predict: Literal["means", "draws"] | None = None
    num_draws: int = 50

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, "A run needs an end.")
        check_training(self.epochs, self.lr, self.batch_size)
        check_name("variance", self.variance, ["decay", "learnable"])
        check_name("growth", self.growth, ["every_batch", "at_decays"])
        if self.predict is not None:
            check_name("predict", self.predict, ["means", "draws"])
        number("beta", self.beta, "Sigma grows by beta times a gradient.", least=0)
        number("zeta", self.zeta, "It is the part of sigma that stays.", least=0, most=1)
        whole("decays_per_epoch", self.decays_per_epoch, "Sigma decays so many times.", least=0)
        whole("num_draws", self.num_draws, "A prediction averages one at least.")
        if self.initial_sigma is not None:
            check_sigma(self.initial_sigma, positive=self.variance == "learnable")
        number("kl_weight", self.kl_weight, "It weighs a divergence.", least=0)
        if self.kl_weight and self.variance == "decay":
            raise InputError(
                f'kl_weight={self.kl_weight} with variance="decay".',
                "There sigma follows a rule, not a loss.",
                'Set variance="learnable".',
            )

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> SigmaTrace:
        rule = self.initial_sigma
        if rule is None:
            rule = "frazier_logue_2018" if self.variance == "decay" else "xavier"
        sigma = initial_sigma(rule, network_of(model), seed)
        draws = (self.predict or ("means" if self.variance == "decay" else "draws")) == "draws"
        start = self._decay if self.variance == "decay" else self._learnable
        return SigmaTrace(start(sigma, model, likelihood, dataset, seed), sigma, draws=draws)

    def schedule(self, num_data: int) -> Schedule:
        if self.variance == "learnable":
            return self.as_svi().schedule(num_data)
        return Schedule(int(self.epochs), self.batch_size, Optimizer(self.lr), decay=False)

    def as_svi(self) -> SVI:
        """The variational inference that `variance="learnable"` is, up to its initial sigma."""
        return SVI(
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            estimator="shared_draw",
            decay=False,
            num_draws=self.num_draws,
            kl_weight=self.kl_weight,
            mirrored=False,
            beta_2=0.999,
        )

    def _learnable(
        self, sigma: Weights, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> VariationalLearner:
        if self.kl_weight:
            require_bayesian("SDR with a kl_weight", model)
        return self.as_svi().learner_from(sigma, model, likelihood, dataset, seed)

    def _decay(self, sigma: Weights, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> DeltaRule:
        net = in_fast_layout(initialise(network_of(model), seed, "sgd")).train().requires_grad_(True)
        num_data = len(dataset.x_train)
        rule = Rule(
            beta=self.beta,
            zeta=self.zeta,
            decays_per_epoch=self.decays_per_epoch,
            steps_per_epoch=math.ceil(num_data / self.batch_size),
            always_grows=self.growth == "every_batch",
        )
        common = {"num_draws": self.num_draws, "seed": seed, **self._common(likelihood, dataset)}
        criterion = penalised(net, model, likelihood, num_data)
        return DeltaRule(net, criterion, sigma, rule=rule, noise=rng.generator(seed, "sdr", "noise"), common=common)
