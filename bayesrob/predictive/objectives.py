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
  The draws choose c together; then all that do not give it pull, as `expected_loss` towards a target. That an attack must
  know the detector is Carlini & Wagner's 2017 ("Adversarial examples are not easily detected", on dropout uncertainty
  among others); mutual information as the score Smith & Gal's 2018.
- `double_softmax`: cross_entropy(pbar taken as logits), and
- `double_softmax_per_draw`: mean_d cross_entropy(softmax(f_d) taken as logits). Both are what the reference code of
  Carbone et al. computes in its attacks and its gradient statistics. With ten classes they lie in [1.461, 2.461] and
  their gradient dies for confident draws, right or wrong. For audits only; never a default.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesrob.errors import InputError, check_name
from bayesrob.models import Categorical, Likelihood
from bayesrob.numerics import log_mean_exp, log_softmax
from bayesrob.types import DrawLogits, Labels

__all__ = [
    "OBJECTIVES",
    "ConfidentError",
    "DrawMean",
    "Objective",
    "Pooled",
    "PredictiveLoss",
    "objective",
    "value_and_slope",
]


class Objective(abc.ABC):
    """A loss of each data point under all draws together; attacks climb it."""

    needs_classes = True

    @abc.abstractmethod
    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        """The loss of each point from the outputs of every draw."""


class DrawMean(Objective):
    """A mean over draws: its gradient is the mean of the draws' gradients."""

    @abc.abstractmethod
    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        """The loss of each point under each draw."""

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return self.per_draw(outputs, y, likelihood).mean(0)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        """Derivative of `per_draw` with respect to each draw's outputs."""
        return value_and_slope(lambda outputs: self.per_draw(outputs, y, likelihood), outputs)[1]


class Pooled(Objective):
    """A function of the posterior predictive log probabilities `[batch, cls]`."""

    @abc.abstractmethod
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        """The loss of each averaged prediction."""

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return self.loss(likelihood.predictive(outputs), y)


class ConfidentError(Objective):
    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        mean = log_softmax(outputs).mean(0)
        return mean.gather(-1, self.rival(mean, y).unsqueeze(-1)).squeeze(-1)

    def rival(self, mean: Float[Tensor, "batch cls"], y: Labels) -> Labels:
        """The wrong class that the draws give most, by their mean (or summed) log probabilities."""
        return mean.scatter(-1, y.unsqueeze(-1), -torch.inf).argmax(-1)


class ExpectedLoss(DrawMean):
    needs_classes = False

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return -likelihood.log_prob(outputs, y)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return likelihood.score(outputs, likelihood.encode(y, outputs.shape[-1], outputs)).neg_()


class DoubleSoftmaxPerDraw(DrawMean):
    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return -likelihood.log_prob(outputs.softmax(-1), y)


class MarginPerDraw(DrawMean):
    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return _lead(outputs, y.expand(outputs.shape[:-1]))

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        index = y.expand(outputs.shape[:-1]).unsqueeze(-1)
        rival = outputs.scatter(-1, index, -torch.inf).argmax(-1, keepdim=True)
        ones = torch.ones_like(index, dtype=outputs.dtype)
        return torch.zeros_like(outputs).scatter_(-1, rival, ones).scatter_(-1, index, -ones)


class PredictiveLoss(Objective):
    needs_classes = False

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return -log_mean_exp(likelihood.log_prob(outputs, y), dim=0)


class Margin(Pooled):
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return _lead(log_predictive, y)


class DLR(Pooled):
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        margin = Margin().loss(log_predictive, y)
        if log_predictive.shape[-1] < 3:
            return margin
        top = log_predictive.topk(3, dim=-1).values
        return margin / (top[..., 0] - top[..., 2]).clamp(min=torch.finfo(margin.dtype).tiny)


class DoubleSoftmax(Pooled):
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return torch.nn.functional.cross_entropy(log_predictive.exp(), y, reduction="none")


OBJECTIVES: dict[str, Objective] = {
    "expected_loss": ExpectedLoss(),
    "predictive_loss": PredictiveLoss(),
    "margin": Margin(),
    "margin_per_draw": MarginPerDraw(),
    "dlr": DLR(),
    "confident_error": ConfidentError(),
    "double_softmax": DoubleSoftmax(),
    "double_softmax_per_draw": DoubleSoftmaxPerDraw(),
}


def _lead(values: Float[Tensor, "*draw batch cls"], y: Int[Tensor, "*draw batch"]) -> Float[Tensor, "*draw batch"]:
    """By how much the largest of the other classes exceeds `y`."""
    index = y.unsqueeze(-1)
    return values.scatter(-1, index, -torch.inf).amax(-1) - values.gather(-1, index).squeeze(-1)


def value_and_slope(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Values of `loss(outputs)` and the derivative of their sum, both detached."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        values = loss(leaf)
        (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slope


def objective(name: str | Objective, likelihood: Likelihood) -> Objective:
    """The objective called `name` (or given), once it is sure that it means something under `likelihood`."""
    found = name if isinstance(name, Objective) else OBJECTIVES[check_name("objective", name, OBJECTIVES)]
    if found.needs_classes and not isinstance(likelihood, Categorical):
        raise InputError(
            f"The objective {name!r} needs classes.",
            f"The likelihood is {type(likelihood).__name__.lower()}.",
            'Use "expected_loss" or "predictive_loss".',
        )
    return found
