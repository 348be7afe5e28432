"""The stochastic delta rule with decaying standard deviations, and the record of the standard deviations."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.inference.training.learner import Learner, Wrapped
from bayesrob.inference.training.live import Live, following
from bayesrob.inference.training.network import Criterion, buffers
from bayesrob.predictive import GaussianDraws, Predictive
from bayesrob.types import Batch, Labels, Weights

__all__ = ["DeltaRule", "Rule", "SigmaLearner", "SigmaTrace"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How sigma changes with every minibatch.

    Args:
        beta: factor of the gradient's size that is added to sigma.
        zeta: the factor by which sigma decays.
        decays_per_epoch: how often it decays in an epoch.
        steps_per_epoch: number of minibatches of an epoch.
        always_grows: whether sigma grows with every minibatch, or only when it decays.
    """

    beta: float
    zeta: float
    decays_per_epoch: int
    steps_per_epoch: int
    always_grows: bool

    def decays_at(self, step: int) -> bool:
        """Whether sigma decays at that step, counted from 1."""
        before, after = ((step + i) * self.decays_per_epoch // self.steps_per_epoch for i in (-1, 0))
        return after > before


class SigmaLearner(Learner):
    """A learner of independent normally distributed weights."""

    @property
    @abc.abstractmethod
    def sigma(self) -> Weights:
        """The current standard deviations by parameter name."""


class DeltaRule(SigmaLearner):
    """A network whose weights are drawn anew at every step (`SDR` with variance="decay").

    Between steps the parameters are the means; while the loss is evaluated they are the draw.

    Args:
        net: the network; its parameters change in place.
        criterion: see `penalised`.
        sigma: initial standard deviations by parameter name; they change in place.
        rule: how they change.
        noise: draws the weights.
        common: what the Predictive is told: about its data, `num_draws` and `seed`.
    """

    def __init__(
        self,
        net: nn.Module,
        criterion: Criterion,
        sigma: Weights,
        *,
        rule: Rule,
        noise: torch.Generator,
        common: dict[str, Any],
    ):
        self._net, self._criterion, self._rule, self._noise, self._common = net, criterion, rule, noise, common
        self._weights = dict(net.named_parameters())
        self._sigma = {name: sigma[name] for name in self._weights}
        self.parameters = list(self._weights.values())
        self.statistics, self.counters = buffers(net)
        self._means = [parameter.detach().clone() for parameter in self.parameters]
        self._step, self._drawn = 0, False
        self._live: Live | None = None
        growth = ', growth="at_decays"' if rule.always_grows else ""
        self.advice = f"Use a smaller beta{growth} or a smaller lr."

    @property
    def sigma(self) -> Weights:
        return self._sigma

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        if not self._drawn:  # once a step, however many losses are taken of it
            self._draw()
        return self._criterion(self._net(x), y)

    @torch.no_grad()
    def _draw(self) -> None:
        for parameter, mean, sigma in zip(self.parameters, self._means, self._sigma.values(), strict=True):
            mean.copy_(parameter)
            noise = torch.randn(mean.shape, generator=self._noise, dtype=torch.float32)
            parameter.addcmul_(noise.to(mean), sigma)
        self._drawn = True

    @torch.no_grad()
    def before_step(self) -> None:
        """Return from the draw, whose gradients are known, to the means, and let sigma follow its rule."""
        self._step, self._drawn = self._step + 1, False
        decays = self._rule.decays_at(self._step)
        for parameter, mean, sigma in zip(self.parameters, self._means, self._sigma.values(), strict=True):
            parameter.copy_(mean)
            assert parameter.grad is not None
            if decays or self._rule.always_grows:
                sigma.add_(parameter.grad.abs(), alpha=self._rule.beta)
            if decays:
                sigma.mul_(self._rule.zeta)

    def predictive(self, **changes: Any) -> GaussianDraws:
        loc = {name: parameter.detach().clone() for name, parameter in self._weights.items()}
        scale = {name: tensor.clone() for name, tensor in self._sigma.items()}
        return GaussianDraws(self._net, loc, scale, **{**self._common, **changes})

    def live(self) -> Predictive:
        if self._live is None:
            parts = {"loc": self._weights, "scale": self._sigma}
            self._live = following(self.predictive(num_draws=1), self._net, lambda: parts)
        return self._live()

    def state(self) -> dict[str, Any]:
        return {"sigma": self._sigma, "noise": self._noise.get_state(), "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        for name, tensor in self._sigma.items():
            tensor.copy_(state["sigma"][name])
        self._noise.set_state(state["noise"])
        self._step = state["step"]


class SigmaTrace(Wrapped):
    """A learner of normally distributed weights that records the sum of sigma over each parameter, epoch by epoch.

    Args:
        inner: the learner.
        sigma: its initial standard deviations by parameter name.
        draws: whether the Predictive makes draws, or predicts with the means.
    """

    def __init__(self, inner: SigmaLearner, sigma: Weights, *, draws: bool):
        super().__init__(inner)
        self._normal, self._draws = inner, draws
        self._trace = {name: [_sum(one)] for name, one in sigma.items()}

    def predictive(self) -> Predictive:
        post = self.inner.predictive()
        assert isinstance(post, GaussianDraws)
        return post if self._draws else post.means()

    def end_epoch(self) -> None:
        super().end_epoch()
        for name, one in self._normal.sigma.items():
            self._trace[name].append(_sum(one))

    def record(self) -> dict[str, Any]:
        return {**self.inner.record(), "sigma": self._trace}

    def state(self) -> dict[str, Any]:
        return {"inner": self.inner.state(), "trace": self._trace}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._trace = state["trace"]


def _sum(sigma: Tensor) -> float:
    return float(sigma.sum(dtype=torch.float64))
