"""The families of distributions that SVI fits: normal ones over the flat weight vector."""

from __future__ import annotations

import abc
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob import rng
from bayesrob.inference.variational.elbo import Estimator, Noise, WithGradient
from bayesrob.models import BayesianNetwork, FlatNetwork
from bayesrob.predictive import GaussianDraws, LowRankGaussianDraws, Predictive

__all__ = ["Guide", "LowRank", "MeanField", "Mirrored", "kl_divergence", "low_rank_kl_divergence"]


class Mirrored:
    """Standard normals, and on the next call their mirror image: errors that are odd in them cancel over the two.

    Args:
        normal: draws standard normals.
    """

    def __init__(self, normal: Noise):
        self._normal = normal
        self.last: Tensor | None = None
        """What the next call returns the mirror image of."""

    def __call__(self, shape: torch.Size) -> Tensor:
        if self.last is None:
            self.last = self._normal(shape)
            return self.last
        mirrored, self.last = -self.last, None
        return mirrored


class Guide(abc.ABC):
    """q(w) while it is fitted: independent normals N(centre, scale^2), where all draws of a step may share the centre.

    Args:
        model: the network; with a prior unless `kl_weight` is 0.
        loc: initial means.
        log_scale: initial log standard deviations.
        kl_weight: factor of the divergence in the loss. 1: the evidence lower bound.
    """

    mirrored: Mirrored | None = None
    """What draws the noise that all weights share, if there is any."""

    def __init__(
        self,
        model: FlatNetwork,
        loc: Float[Tensor, " weight"],
        log_scale: Float[Tensor, " weight"],
        kl_weight: float = 1.0,
    ) -> None:
        self.model, self.kl_weight = model, kl_weight
        self.loc = loc.detach().requires_grad_()
        self.log_scale = log_scale.detach().requires_grad_()

    @property
    @abc.abstractmethod
    def parameters(self) -> list[Tensor]:
        """What the optimizer moves."""

    @abc.abstractmethod
    def loss(self, estimator: Estimator, data: Any, num_data: int) -> Float[Tensor, ""]:
        """(kl_weight * divergence - E_q log likelihood) / num_data on a mini-batch, by one draw: at `kl_weight` 1, -ELBO.

        A float64 scalar, differentiable in `parameters`; `data` is the estimator's.
        """

    def descent(self, estimator: Estimator, data: Any, num_data: int) -> Float[Tensor, ""]:
        """The same loss for the training loop only: one without a graph has left its gradients in the parameters' `grad`."""
        return self.loss(estimator, data, num_data)

    @abc.abstractmethod
    def predictive(self, **common: Any) -> Predictive:
        """Draws from q as it is now; `common` as in `FreshDraws`."""

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the tensors of the Predictive, by the names of its parts and of the parameters."""
        loc, log_scale = self.loc.detach().clone(), self.log_scale.detach()
        return {"loc": self.model.unflatten(loc), "scale": self.model.unflatten(log_scale.exp())}


class MeanField(Guide):
    """q(w) = N(loc, diag(scale^2)) (Graves 2011; Blundell et al. 2015).

    Args:
        model: see `Guide`.
        loc: see `Guide`.
        log_scale: see `Guide`.
        kl_weight: see `Guide`.
    """

    def __init__(
        self,
        model: FlatNetwork,
        loc: Float[Tensor, " weight"],
        log_scale: Float[Tensor, " weight"],
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(model, loc, log_scale, kl_weight)
        self._divergence = Divergence(model.prior_scales) if kl_weight and isinstance(model, BayesianNetwork) else None
        self._scale = torch.empty_like(loc)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.loc, self.log_scale]

    def loss(self, estimator: Estimator, data: Any, num_data: int) -> Float[Tensor, ""]:
        def compute(loc: Tensor, log_scale: Tensor) -> tuple[Tensor, ...]:
            value, *gradients = self._value_and_gradients(loc, log_scale, estimator, data, num_data)
            return value, *(gradient.clone() for gradient in gradients)  # there may be several losses in one graph

        return WithGradient.apply(compute, self.loc, self.log_scale)

    @torch.no_grad()
    def descent(self, estimator: Estimator, data: Any, num_data: int) -> Float[Tensor, ""]:
        """Without autograd: at the sizes of sweeps it takes as long as the products."""
        results = self._value_and_gradients(self.loc, self.log_scale, estimator, data, num_data)
        value, self.loc.grad, self.log_scale.grad = results
        return value

    def _value_and_gradients(
        self, loc: Tensor, log_scale: Tensor, estimator: Estimator, data: Any, num_data: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale = torch.exp(log_scale, out=self._scale)
        value, by_loc, by_log_scale = estimator.value_and_gradients(loc, scale, data)
        if self._divergence is not None:
            weight = self.kl_weight / num_data
            value = value + self._divergence.add_to(by_loc, by_log_scale, loc, log_scale, scale=scale, weight=weight)
        return value, by_loc, by_log_scale

    def predictive(self, **common: Any) -> GaussianDraws:
        return GaussianDraws(self.model.net, **self.parts(), **common)


class LowRank(Guide):
    """q(w) = N(loc, diag(scale^2) + F F'), F `[weight, rank]` (Ong, Nott & Smith 2018; Miller, Foti & Adams 2017).

    A draw is w = loc + F z + scale * noise; given z `[rank]`, drawn once a step, the weights are independent.

    F' is kept as `factor * unit`, with unit = 0.3 / sqrt(fan in) for each weight, because Adam moves every number by about
    the learning rate: the wider the layer, the smaller the weights' steps in a direction that they share must be. After
    4,000 steps on exact posteriors, 0.1 instead of 0.3 left variances 0.3 times the true ones (0.3: 0.6), and units of the
    scale as it changes (Pyro's AutoLowRankMultivariateNormal) 0.1 times; F without units left the means of 21 weights up
    to 3.4 posterior deviations off (0.3: 0.7, as the mean field); 1.0 lost 48 nats of 741 on the digits.

    Args:
        model: see `Guide`.
        loc: see `Guide`.
        log_scale: see `Guide`.
        fan_in_scale: 1 / sqrt(fan in) of each weight, `[weight]`.
        rank: number of columns of F.
        seed: seed of their initial values.
        normal: draws z.
        kl_weight: see `Guide`.
    """

    UNIT = 0.3
    START = 0.5
    """Expected initial length of a weight's row of F, in units of its scale: F = 0 would have no gradient (it enters by its
    square, and z is as likely as -z), and a longer one would cover the means' own gradient with noise."""

    def __init__(
        self,
        model: BayesianNetwork,
        loc: Float[Tensor, " weight"],
        log_scale: Float[Tensor, " weight"],
        *,
        fan_in_scale: Float[Tensor, " weight"],
        rank: int,
        seed: int,
        normal: Noise,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(model, loc, log_scale, kl_weight)
        self._prior_scales = model.prior_scales
        self.unit = self.UNIT * fan_in_scale
        start = torch.randn(rank, len(loc), generator=rng.generator(seed, "svi", "factor"), dtype=torch.float32).to(loc)
        self.factor = (start * (self.START * rank**-0.5 * self.log_scale.detach().exp() / self.unit)).requires_grad_()
        self.mirrored = self._shared = Mirrored(normal)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.loc, self.log_scale, self.factor]

    def loss(self, estimator: Estimator, data: Any, num_data: int) -> Float[Tensor, ""]:
        centre = torch.addcmul(self.loc, self._shared(self.factor.shape[:1]) @ self.factor, self.unit)
        divergence = low_rank_kl_divergence(self.loc, self.log_scale, self.factor, self.unit, self._prior_scales)

        def compute(centre: Tensor, log_scale: Tensor) -> tuple[Tensor, ...]:
            value, *gradients = estimator.value_and_gradients(centre, log_scale.exp(), data)
            return value, *(gradient.clone() for gradient in gradients)

        value = WithGradient.apply(compute, centre, self.log_scale)
        return value + divergence * (self.kl_weight / num_data)

    def predictive(self, **common: Any) -> LowRankGaussianDraws:
        return LowRankGaussianDraws(self.model.net, **self.parts(), **common)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {**super().parts(), "factor": self.model.unflatten(self.factor.detach() * self.unit)}


class Divergence:
    """KL(N(loc, scale^2) || N(0, prior_scale^2)), summed over independent weights, with its gradient in closed form.

    Args:
        prior_scales: standard deviation of each weight's prior, `[weight]`.
    """

    def __init__(self, prior_scales: Float[Tensor, " weight"]):
        self._precision = prior_scales.square().reciprocal()
        self._constant = float(prior_scales.log().sum(dtype=torch.float64)) - 0.5 * len(prior_scales)

    def __call__(self, loc: Float[Tensor, " weight"], log_scale: Float[Tensor, " weight"]) -> Float[Tensor, ""]:
        """A float64 scalar, differentiable."""

        def compute(loc: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_loc, by_log_scale = torch.zeros_like(loc), torch.zeros_like(loc)
            value = self.add_to(by_loc, by_log_scale, loc, log_scale, scale=log_scale.exp(), weight=1.0)
            return value, by_loc, by_log_scale

        return WithGradient.apply(compute, loc, log_scale)

    def add_to(
        self, by_loc: Tensor, by_log_scale: Tensor, loc: Tensor, log_scale: Tensor, *, scale: Tensor, weight: float
    ) -> Tensor:
        """Return `weight` times the divergence.

        Args:
            by_loc: the derivative by `loc` is added to it.
            by_log_scale: the derivative by `log_scale` is added to it.
            loc: means.
            log_scale: log standard deviations.
            scale: standard deviations; they are overwritten.
            weight: factor of the divergence.
        """
        standard = loc * self._precision
        by_loc.add_(standard, alpha=weight)
        ratio = scale.mul_(scale).mul_(self._precision)  # of variances
        by_log_scale.add_(ratio, alpha=weight).sub_(weight)
        # Each weight's terms of one size are added first, then all weights in float64.
        each = ratio.addcmul_(standard, loc).mul_(0.5).sub_(log_scale)
        return weight * (each.sum(dtype=torch.float64) + self._constant)


def kl_divergence(loc: Tensor, log_scale: Tensor, prior_scales: Tensor) -> Float[Tensor, ""]:
    """KL(N(loc, scale^2) || N(0, prior_scale^2)), summed over independent weights, a float64 scalar."""
    return Divergence(prior_scales)(loc, log_scale)


def low_rank_kl_divergence(
    loc: Float[Tensor, " weight"],
    log_scale: Float[Tensor, " weight"],
    factor: Float[Tensor, "rank weight"],
    unit: Float[Tensor, " weight"],
    prior_scales: Float[Tensor, " weight"],
) -> Float[Tensor, ""]:
    """KL(N(loc, diag(scale^2) + F F') || N(0, diag(prior_scale^2))) with F' = factor * unit, a float64 scalar.

    It is the divergence of the independent part plus that of the factor,
    1/2 [sum_ir F_ir^2 / prior_scale_i^2 - log |I + F' diag(scale^-2) F|]: the log determinant of the covariance is
    2 sum log scale + log |I + F' diag(scale^-2) F| (matrix determinant lemma), that of a `[rank, rank]` matrix.
    """
    independent = kl_divergence(loc, log_scale, prior_scales)
    trace = (factor.square().sum(0) * (unit / prior_scales).square()).sum(dtype=torch.float64)
    return independent + 0.5 * (trace - _LogDeterminant.apply(factor, unit / log_scale.exp()))


class _LogDeterminant(torch.autograd.Function):
    """log |I + A A'| of A = factor * ratio, `[rank, weight]`, a float64 scalar.

    Its derivative 2 (I + A A')^-1 A takes one product of A's size; autograd would make two, in float64.
    """

    @staticmethod
    def forward(ctx: Any, factor: Tensor, ratio: Tensor) -> Tensor:
        scaled = (factor * ratio).double()
        gram = torch.eye(len(factor), dtype=torch.float64, device=factor.device) + scaled @ scaled.T
        # Not torch.linalg.cholesky: where numbers have blown up, the fit ends with a warning, not with an error from here.
        root, failed = torch.linalg.cholesky_ex(gram)
        ctx.save_for_backward(factor, ratio, torch.cholesky_inverse(root).to(factor))
        return torch.where(failed == 0, 2 * root.diagonal().log().sum(), torch.nan)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        factor, ratio, inverse = ctx.saved_tensors
        weighted = (2 * grads[0]).to(factor) * inverse @ factor
        return weighted * ratio.square(), (weighted * factor).sum(0) * ratio
