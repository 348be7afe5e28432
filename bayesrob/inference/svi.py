"""Stochastic variational inference with a normal guide: mean-field, or with a covariance of low rank besides."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.arguments import number, require, whole
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.inference.base import EachEpoch, require_bayesian
from bayesrob.inference.training import MiniBatchMethod, Optimizer, Schedule
from bayesrob.inference.training.schedule import check_training, num_epochs
from bayesrob.inference.variational.elbo import Estimator, LocalReparameterisation, Noise, SharedDraw
from bayesrob.inference.variational.guides import Guide, LowRank, MeanField, Mirrored
from bayesrob.inference.variational.khat import pareto_khat
from bayesrob.inference.variational.learner import VariationalLearner
from bayesrob.models import BayesianNetwork, FlatNetwork, Likelihood, network_of
from bayesrob.nets import Stack, initialise
from bayesrob.predictive import NormalDraws, Predictive
from bayesrob.types import Weights

__all__ = ["SVI"]

KHAT_DRAWS = 1000
"""Importance weights whose tail has enough of them to fit."""
BACKWARD = 3
"""Forward passes that a step of training costs as much as."""


@dataclasses.dataclass(frozen=True)
class SVI(MiniBatchMethod):
    """Maximise the evidence lower bound over normal distributions q(w) (Graves 2011, Blundell et al. 2015).

    ELBO = E_q log p(y | x, w) - KL(q || prior). The divergence is in closed form, the likelihood of a minibatch is scaled
    by N / B, and its expectation is estimated by one reparameterised draw a step. The model is the Pyro model; the
    gradient is that of Pyro's TraceMeanField_ELBO (mean field) or Trace_ELBO (low rank) in expectation.

    Args:
        epochs: passes over the data. None: as many as give 4,000 steps, at least 20.
        lr: learning rate of Adam for means and log standard deviations alike.
        batch_size: largest number of points in a minibatch.
        estimator: "shared_draw" makes one draw of the weights for the whole minibatch and takes any network; successive
            steps use a draw and its mirror image, so that their noise cancels in the means. "local" is local
            reparameterisation (Kingma, Salimans & Welling 2015), which draws every point's activations instead: less noise a
            step, for stacks of linear layers (`mlp`). None: "local" where the network allows it, because after as many steps
            its bound was always higher; a step costs 1.3 to 3 times as much, and on wide networks with little time a shared
            draw can be better. Under the low-rank guide all points share the draw of the factor, mirrored likewise.
        decay: let the learning rate fall to zero over the run (half a cosine), so that the noise of the draws does not
            stay in the means.
        initial_scale: initial standard deviations in units of 1 / sqrt(fan in): small, so that the means can learn
            before the noise covers them.
        num_draws: draws that the Predictive makes when no number is given.
        guide: "mean_field": q(w) = prod_i N(w_i; loc_i, scale_i^2), whose variances tend to 1 / precision_ii: too small
            where weights are correlated. "low_rank": N(loc, diag(scale^2) + F F') with F `[weight, rank]` (Ong, Nott &
            Smith 2018; Miller, Foti & Adams 2017), which can follow correlations but takes longer to learn them: on 1,000
            digits under 64-16-10 its bound was equal after 4,000 steps and higher after 16,000.
        rank: number of columns of F, under "low_rank" only. F is `rank` times as large as the network; with its gradient,
            Adam's moments and the copies it takes six times that, and the guide's own time is in proportion. So 10, and not
            about the square root of the number of weights, the default of Pyro's AutoLowRankMultivariateNormal.
        kl_weight: factor of the divergence. 1: the evidence lower bound; less: a posterior tempered towards the likelihood
            (Wenzel et al. 2020, "cold posteriors"); 0: no divergence, the stochastic delta rule with learnable variance
            (`SDR`), which also takes plain networks without a prior.
        mirrored: under "shared_draw", whether every second step uses the mirror image of the draw before.
        beta_2: decay rate of Adam's average of squared gradients. 0.99 and not 0.999, because the first gradients, huge
            while the likelihood is far off, would else slow the standard deviations until the end: on exact linear-Gaussian
            posteriors variances after 2,000 steps were up to 17 times too large with 0.999, and 2.2 times with 0.99.
        khat_draws: draws of the finished q whose importance weights tell how far it is from the posterior (k-hat, in
            `info["khat"]` with its seconds; Yao et al. 2018). Each takes the log joint of all points. None: 1,000 if that
            costs no more than the fit; 0: none, and the posterior is then not judged.

    Raises:
        InputError: settings that mean nothing; when fitting, a network without a prior unless `kl_weight` is 0, or
            estimator="local" for a network that is no stack of linear layers.

    Example:
        >>> post = br.inference.SVI(epochs=2).fit(bnn, ds, seed=0)
        >>> post.num_draws
        100
        >>> post.logits(x, num_draws=3).shape
        torch.Size([3, 5, 2])
    """

    origin: ClassVar[str] = "guide"

    epochs: int | None = None
    lr: float = 0.01
    batch_size: int = 256
    estimator: Literal["shared_draw", "local"] | None = None
    decay: bool = True
    initial_scale: float = 0.1
    num_draws: int = 100
    guide: Literal["mean_field", "low_rank"] = "mean_field"
    rank: int = 10
    kl_weight: float = 1.0
    mirrored: bool = True
    beta_2: float = 0.99
    khat_draws: int | None = None

    def __post_init__(self) -> None:
        check_training(self.epochs, self.lr, self.batch_size)
        if self.estimator is not None:
            check_name("estimator", self.estimator, ["shared_draw", "local"])
        check_name("guide", self.guide, ["mean_field", "low_rank"])
        whole("rank", self.rank, 'It counts the directions that weights share; guide="mean_field" has none.')
        number("initial_scale", self.initial_scale, "It is a standard deviation.", above=0)
        number("kl_weight", self.kl_weight, "It weighs the divergence from the prior.", least=0)
        number("beta_2", self.beta_2, "Adam averages squares with it.", least=0, below=1)
        whole("num_draws", self.num_draws, "A prediction averages one at least.")
        whole("khat_draws", self.khat_draws, "Each is one importance weight.", least=0, or_none=True)
        require(
            self.khat_draws is None or self.khat_draws == 0 or self.khat_draws >= KHAT_DRAWS,
            f"khat_draws is {self.khat_draws}.",
            "The largest weights of fewer draws have no shape that could be fitted.",
            f"Give {KHAT_DRAWS:,} at least, or 0 for none.",
        )

    def settings(self) -> dict[str, Any]:
        """Without `khat_draws` where it is None, so that fits that were saved before it existed are found again."""
        return {name: value for name, value in super().settings().items() if name != "khat_draws" or value is not None}

    def _run(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[Predictive, list[str], dict[str, Any]]:
        predictive, notes, record = super()._run(model, likelihood, dataset, seed, each_epoch)
        return predictive, notes, {**record, "khat": self._khat(predictive, model, dataset, seed, notes)}

    def _khat(
        self, predictive: Predictive, model: nn.Module, dataset: Dataset, seed: int, notes: list[str]
    ) -> dict[str, Any]:
        """What `info["khat"]` says: the value, or why there is none."""
        if not isinstance(model, BayesianNetwork) or not isinstance(predictive, NormalDraws) or self.kl_weight != 1:
            return {"skipped": "the loss is not the evidence lower bound"}
        if notes:
            return {"skipped": "the fit has not settled"}
        draws, epochs = self.khat_draws, self.schedule(len(dataset.x_train)).epochs
        if draws is None and BACKWARD * epochs < KHAT_DRAWS:
            return {"skipped": f"{KHAT_DRAWS:,} passes over the data cost more than {epochs} epochs; ask by khat_draws"}
        if draws == 0:
            return {"skipped": "khat_draws=0"}
        like = model.prior_scales
        x, y = dataset.x_train.to(like), dataset.y_train.to(like.device)
        noise = rng.generator(seed, "svi", "khat")
        return pareto_khat(predictive, model, x, y, num_draws=draws or KHAT_DRAWS, generator=noise)

    def learner(self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int) -> VariationalLearner:
        return self.learner_from(None, model, likelihood, dataset, seed)

    def learner_from(
        self, scales: Weights | None, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> VariationalLearner:
        """As `learner`, from the standard deviations `scales` by parameter name. None: those of `initial_scale`."""
        if self.kl_weight or self.guide == "low_rank":
            require_bayesian("SVI", model)
        net = initialise(network_of(model), seed, "svi")
        flat = model if isinstance(model, BayesianNetwork) else FlatNetwork(net.train(), likelihood)
        loc = flat.flatten(dict(net.named_parameters())).detach()
        noise = rng.generator(seed, "svi", "noise")

        def normal(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=noise, dtype=torch.float32).to(loc)

        guide = self._guide(flat, loc, scales, seed, normal)
        common = {"num_draws": self.num_draws, "seed": seed, **self._common(likelihood, dataset)}
        estimator = self._estimator(guide, dataset.x_train[:1].to(loc), normal)
        return VariationalLearner(guide, estimator, num_data=len(dataset.x_train), noise=noise, common=common)

    def schedule(self, num_data: int) -> Schedule:
        epochs = num_epochs(self.epochs, num_data, self.batch_size, least=20, min_steps=4000)
        return Schedule(epochs, self.batch_size, Optimizer(self.lr, betas=(0.9, self.beta_2)), self.decay, stream="svi")

    def _guide(self, flat: FlatNetwork, loc: Tensor, scales: Weights | None, seed: int, normal: Noise) -> Guide:
        fan_in = flat.flatten({name: torch.full_like(p, _fan_in_scale(p)) for name, p in flat.net.named_parameters()})
        log_scale = (self.initial_scale * fan_in if scales is None else flat.flatten(scales)).log()
        if not isinstance(flat, BayesianNetwork) or self.guide == "mean_field":
            return MeanField(flat, loc, log_scale, self.kl_weight)
        more = {"fan_in_scale": fan_in, "rank": self.rank, "seed": seed, "normal": normal, "kl_weight": self.kl_weight}
        return LowRank(flat, loc, log_scale, **more)

    def _estimator(self, guide: Guide, example: Tensor, normal: Noise) -> Estimator:
        stack = Stack.of(guide.model.net)
        stack = stack if stack is not None and stack.takes(example) else None
        if self.estimator == "local" and stack is None:
            raise InputError(
                "estimator='local' with a network that is not a stack of linear layers.",
                "Only their activations have a known normal distribution.",
                "Use estimator='shared_draw'.",
            )
        if stack is None or self.estimator == "shared_draw":
            return SharedDraw(guide.model, example, Mirrored(normal) if self.mirrored else normal)
        fixed = guide.loc if isinstance(guide, MeanField) else None
        return LocalReparameterisation(guide.model, stack, normal, fixed)


def _fan_in_scale(parameter: Tensor) -> float:
    return parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 1.0
