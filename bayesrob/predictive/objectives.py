"""Which averaged loss an attack climbs. Three "posterior-averaged gradients" are in use and disagree; each has its name.

With draws w_d, outputs f_d and the likelihood p(y | f):

- `expected_loss`: mean_d -log p(y | f_d). The gradient is the mean of the draws' loss gradients (Carbone et al. 2020,
  equation 2); every draw that is wrong pulls alike.
- `predictive_loss`: -log mean_d p(y | f_d), the loss of the averaged prediction. A draw pulls in proportion to the
  probability it gives the true class, so confidently wrong draws hardly count.
- `margin`: max over c != y of log pbar_c, minus log pbar_y, with pbar = mean_d softmax(f_d): positive exactly where the
  posterior predictive is wrong, and not flat where it is confident.
- `margin_per_draw`: mean_d of each draw's own margin, max over c != y of f_dc, minus f_dy. Linear in the logits, so that
  every draw pulls however sure it is; the averaged prediction's margin hears a saturated draw hardly at all. (HMC posterior
  of 784-128-10 under N(0, 1), 1,000 digits, PGD-50 at l_inf 0.1: it leaves 0 of 100 images, `predictive_loss` 2, `margin`
  7, `expected_loss` 38.) It is positive where draws are wrong on average, not just where the prediction is.
- `dlr`: the margin divided by the gap between the largest and the third of log pbar (difference of logits ratio, Croce &
  Hein 2020, equation 6): it does not change with the scale of the logits. With two classes there is no third: the margin.
- `confident_error`: max over c != y of mean_d log p(c | f_d). For attacks on detectors of uncertainty: near 0 every
  draw is sure of the same wrong class, so that predictive entropy and mutual information vanish together (with q its
  exponential, entropy <= h(q) + (1 - q) log(K - 1) for q >= 1/K, h the binary entropy, and mutual information <= entropy).
  The draws choose one c by their mean; then all that do not give it pull, as `expected_loss` towards a target. That an
  attack must know the detector is Carlini & Wagner's 2017 ("Adversarial examples are not easily detected", on dropout
  uncertainty among others); mutual information as the score Smith & Gal's 2018.
- `bias` and `variance` of the draws as models (Aboutalebi et al. 2020), which sum to `expected_loss`, the mean
  cross-entropy: with pi_star the normalised geometric mean of their predictions, -log pi_star_y, and mean_d KL(pi_star ||
  pi_d) = -log sum_c exp(mean_d log pi_dc). Of a regression (y - f_bar)^2 and mean_d (f_d - f_bar)^2, means over outputs,
  whose sum is the mean squared error. `analysis.bias_variance` decomposes predictions so. The variance knows no label; of
  draws that are equal to rounding its gradient is exactly zero.
- `double_softmax`: cross_entropy(pbar taken as logits), and
- `double_softmax_per_draw`: mean_d cross_entropy(softmax(f_d) taken as logits). Both are what the reference code of
  Carbone et al. computes in its attacks and its gradient statistics. With ten classes they lie in [1.461, 2.461] and
  their gradient dies for confident draws, right or wrong. For audits only; never a default.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.errors import InputError, check_name
from bayesrob.models import Categorical, Likelihood
from bayesrob.numerics import Rescaled, categorical_log_likelihood, log_mean_exp
from bayesrob.predictive.kinds import AboutMean, DrawMean, Objective, Pooled
from bayesrob.types import DrawLogits, Labels, Outputs

__all__ = [
    "OBJECTIVES",
    "DrawMean",
    "ExpectedLoss",
    "Margin",
    "Objective",
    "Pooled",
    "PredictiveLoss",
    "Weighted",
    "agree",
    "objective",
]

ROUNDING = 64
"""Last places by which equal networks may differ, run in batched products: sums of hundreds of terms in another order."""


class ExpectedLoss(DrawMean):
    """`expected_loss`: the mean over draws of each draw's negative log likelihood."""

    needs_classes = False

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return -likelihood.log_prob(outputs, y)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return likelihood.score(outputs, likelihood.encode(y, outputs.shape[-1], outputs)).neg_()

    def rescaled_slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Rescaled:
        score, log_size = likelihood.rescaled_score(outputs, likelihood.encode(y, outputs.shape[-1], outputs))
        return Rescaled(score.neg_(), log_size)


class DoubleSoftmaxPerDraw(DrawMean):
    """`double_softmax_per_draw`: the mean over draws of the cross-entropy of probabilities taken as logits."""

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return -likelihood.log_prob(outputs.softmax(-1), y)


class MarginPerDraw(DrawMean):
    """`margin_per_draw`: the mean over draws of how far the best wrong class leads the true one."""

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return _lead(outputs, y.expand(outputs.shape[:-1]))

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        index = y.expand(outputs.shape[:-1]).unsqueeze(-1)
        rival = outputs.scatter(-1, index, -torch.inf).argmax(-1, keepdim=True)
        ones = torch.ones_like(index, dtype=outputs.dtype)
        return torch.zeros_like(outputs).scatter_(-1, rival, ones).scatter_(-1, index, -ones)


class PredictiveLoss(Objective):
    """`predictive_loss`: the negative log of the averaged likelihood."""

    needs_classes = False

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return -log_mean_exp(likelihood.log_prob(outputs, y), dim=0)


class Margin(Pooled):
    """`margin`: how far the best wrong class leads the true one in the averaged prediction."""

    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return _lead(log_predictive, y)


class DLR(Pooled):
    """`dlr`: the margin of the averaged prediction divided by a difference of log probabilities (Croce & Hein 2020)."""

    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        margin = Margin().loss(log_predictive, y)
        if log_predictive.shape[-1] < 3:
            return margin
        top = log_predictive.topk(3, dim=-1).values
        return margin / (top[..., 0] - top[..., 2]).clamp(min=torch.finfo(margin.dtype).tiny)


class DoubleSoftmax(Pooled):
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return torch.nn.functional.cross_entropy(log_predictive.exp(), y, reduction="none")


class ConfidentError(AboutMean):
    """The draws' mean chooses one wrong class (the means of log probabilities and of outputs choose the same)."""

    needs_classes = True

    def about(self, mean: Outputs) -> DrawMean:
        return _TowardsRival(mean)


@dataclasses.dataclass(frozen=True)
class _TowardsRival(DrawMean):
    mean: Tensor

    def rival(self, y: Labels) -> Labels:
        return self.mean.scatter(-1, y.unsqueeze(-1), -torch.inf).argmax(-1)

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return likelihood.log_prob(outputs, self.rival(y))

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return likelihood.score(outputs, likelihood.encode(self.rival(y), outputs.shape[-1], outputs))

    def rescaled_slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Rescaled:
        return likelihood.rescaled_score(outputs, likelihood.encode(self.rival(y), outputs.shape[-1], outputs))


@dataclasses.dataclass(frozen=True)
class _BiasAbout(DrawMean):
    """Every draw's is the same. Categorical: pi_star is the softmax of the mean outputs."""

    mean: Tensor

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        classes = isinstance(likelihood, Categorical)
        bias = -categorical_log_likelihood(self.mean, y) if classes else (self.mean - y).square().mean(-1)
        return bias.expand(len(outputs), *bias.shape)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        if isinstance(likelihood, Categorical):
            slope = -likelihood.score(self.mean, likelihood.encode(y, self.mean.shape[-1], self.mean))
        else:
            slope = 2 * (self.mean - y) / self.mean.shape[-1]
        return torch.zeros_like(outputs).add_(slope)

    def rescaled_slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Rescaled:
        if not isinstance(likelihood, Categorical):
            return super().rescaled_slope(outputs, y, likelihood)
        mean, draws = self.mean, len(outputs)
        score, log_size = likelihood.rescaled_score(mean, likelihood.encode(y, mean.shape[-1], mean))
        return Rescaled(score.neg_().repeat(draws, 1, 1), log_size.repeat(draws, 1))


@dataclasses.dataclass(frozen=True)
class _VarianceAbout(DrawMean):
    """Categorical: mean_d KL(pi_star || pi_d) = log pi_star_k - mean_d log pi_dk for any class k.

    With the likeliest one, whose logarithms are small, nothing cancels where draws are sure. What goes through the mean of
    squared errors cancels.
    """

    mean: Tensor

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        if isinstance(likelihood, Categorical):
            k = self.mean.argmax(-1)
            return categorical_log_likelihood(self.mean, k) - categorical_log_likelihood(outputs, k)
        return (outputs - self.mean).square().mean(-1)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        if isinstance(likelihood, Categorical):
            k = likelihood.encode(self.mean.argmax(-1), self.mean.shape[-1], self.mean)
            slope = likelihood.score(self.mean, k) - likelihood.score(outputs, k)
        else:
            slope = 2 * (outputs - self.mean) / self.mean.shape[-1]
        return slope.masked_fill_(agree(outputs, self.mean).unsqueeze(-1), 0.0)


def agree(outputs: DrawLogits, mean: Outputs) -> Bool[Tensor, "draw batch"]:
    """Where a draw is the mean to rounding: what is left of equal models' batched products would be a direction of noise."""
    scale = torch.finfo(outputs.dtype).eps * mean.abs().amax(-1)
    return (outputs - mean).abs().amax(-1) <= ROUNDING * scale


class Bias(AboutMean):
    def about(self, mean: Outputs) -> DrawMean:
        return _BiasAbout(mean)


class Variance(AboutMean):
    def about(self, mean: Outputs) -> DrawMean:
        return _VarianceAbout(mean)


@dataclasses.dataclass(frozen=True)
class Weighted(DrawMean):
    """A weighted sum of every draw's outputs.

    Args:
        weights: one weight for each output of each point, `[batch, out]`.
    """

    weights: Tensor
    needs_classes = False

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return (self.weights * outputs).sum(-1)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return torch.zeros_like(outputs).add_(self.weights)


OBJECTIVES: dict[str, Objective] = {
    "expected_loss": ExpectedLoss(),
    "predictive_loss": PredictiveLoss(),
    "margin": Margin(),
    "margin_per_draw": MarginPerDraw(),
    "dlr": DLR(),
    "confident_error": ConfidentError(),
    "bias": Bias(),
    "variance": Variance(),
    "double_softmax": DoubleSoftmax(),
    "double_softmax_per_draw": DoubleSoftmaxPerDraw(),
}


def _lead(values: Float[Tensor, "*draw batch cls"], y: Int[Tensor, "*draw batch"]) -> Float[Tensor, "*draw batch"]:
    """By how much the largest of the other classes exceeds `y`."""
    index = y.unsqueeze(-1)
    return values.scatter(-1, index, -torch.inf).amax(-1) - values.gather(-1, index).squeeze(-1)


def objective(name: str | Objective, likelihood: Likelihood) -> Objective:
    """Return the objective called `name` (or given), once it is sure that it means something under `likelihood`.

    Args:
        name: a key of `OBJECTIVES`, or an objective.
        likelihood: what the outputs say about a label.

    Raises:
        UnknownNameError: no objective of that name.
        InputError: an objective of classes in a regression.
    """
    chosen = name if isinstance(name, Objective) else OBJECTIVES[check_name("objective", name, OBJECTIVES)]
    if chosen.needs_classes and not isinstance(likelihood, Categorical):
        raise InputError(
            f"The objective {name!r} needs classes.",
            f"The likelihood is {type(likelihood).__name__.lower()}.",
            'Use "expected_loss", "predictive_loss", "bias" or "variance".',
        )
    return chosen
