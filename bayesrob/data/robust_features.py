"""One feature that an attack cannot flip and many weak ones that it can (Tsipras et al. 2019), and the toy made of it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import number, whole
from bayesrob.data.dataset import Dataset
from bayesrob.data.subsets import checked_counts
from bayesrob.data.truth import Truth, phi

__all__ = ["RobustFeatures", "robust_features", "tradeoff_toy"]


def robust_features(
    n_train: int = 2000, n_test: int = 2000, seed: int = 0, *, d: int = 100, eta: float = 0.4, p: float = 0.95
) -> Dataset:
    """Draw x_1 = +-1, which has the label's sign with probability p, and x_2 ... x_{d+1} from N(eta y, 1).

    The inputs are `[n, d + 1]` without bounds. The labels are +1 and -1 in the paper, classes 1 and 0 here, drawn with
    probability 1/2 each. Source: Tsipras et al. 2019, "Robustness may be at odds with accuracy",
    https://arxiv.org/abs/1805.12152, section 2.1.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        seed: seed of the points and labels.
        d: number of weak features.
        eta: mean of the weak features; the default 0.4 = 4 / sqrt(100) is where the paper's theorem on the SVM begins.
        p: probability that x_1 has the label's sign; at the default 0.95 there are radii between 2 eta and 2p - 1, where
            adversarial training uses x_1 only.

    Raises:
        InputError: a count or d below 1, an eta that is not positive and finite, or p outside (0.5, 1).

    Example:
        >>> features = br.data.load("robust_features", n_train=10, n_test=5, d=3)
        >>> features.shape
        (4,)
    """
    n_train, n_test = checked_counts(n_train, n_test)
    return _drawn("robust_features", n_train, n_test, seed, truth=_world(d, eta, p))


def tradeoff_toy(n_train: int = 2000, n_test: int = 2000, seed: int = 0, *, p: float = 0.9, eta: float = 3.0) -> Dataset:
    """Draw `robust_features` with one weak feature, x `[n, 2]`: Stutz's toy for what an adversarial example is (2018).

    Args:
        n_train: number of training points.
        n_test: number of test points.
        seed: seed of the points and labels.
        p: probability that x_1 has the label's sign (0.9, as in the article).
        eta: mean of the weak feature (3, as in the article).

    Raises:
        InputError: as for `robust_features`.

    Example:
        >>> br.data.load("tradeoff_toy", n_train=10, n_test=5).shape
        (2,)
    """
    n_train, n_test = checked_counts(n_train, n_test)
    return _drawn("tradeoff_toy", n_train, n_test, seed, truth=_world(1, eta, p))


@dataclasses.dataclass(frozen=True)
class RobustFeatures(Truth):
    """The distribution of `robust_features`, whose support is {-1, +1} x R^d.

    Args:
        d: number of weak features.
        eta: mean of the weak features.
        p: probability that x_1 has the label's sign.
    """

    d: int
    eta: float
    p: float

    def conditional(self, x: Tensor) -> Tensor:
        """log p(+1 | x) - log p(-1 | x) = x_1 log(p / (1 - p)) + 2 eta (x_2 + ... + x_{d+1})."""
        x = x.double()
        log_odds = x[:, 0].sign() * self._log_odds + 2 * self.eta * x[:, 1:].sum(1)
        return torch.stack([(-log_odds).sigmoid(), log_odds.sigmoid()], dim=1)

    def project(self, x: Tensor) -> Tensor:
        """Move x_1 to the nearer of -1 and +1 (0 to +1), and leave the other components as they are."""
        first = torch.where(x[:, :1] >= 0, 1.0, -1.0).to(x)
        return torch.cat([first, x[:, 1:]], dim=1)

    def normal_basis(self, x: Tensor) -> Tensor:
        basis = x.new_zeros(len(x), 1, x.shape[1], dtype=torch.float64)
        basis[:, 0, 0] = 1
        return basis

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """Known in l_inf, where an attack can always move each class's mean to max(eta - eps, 0), and needs no more.

        No classifier is better on what that attack leaves than its Bayes classifier, which is linear in x_2 ... x_{d+1}
        with a threshold that sign(x_1) sets: against it no attack of radius eps does worse than this one. From eps = 1 on,
        x_1 = 0 hides the sign.
        """
        if norm != "l_inf":
            return None
        signal = max(self.eta - eps, 0.0) * math.sqrt(self.d)
        if eps >= 1:
            return phi(signal)
        if signal == 0:
            return self.p
        threshold = self._log_odds / (2 * signal)
        return self.p * phi(signal + threshold) + (1 - self.p) * phi(signal - threshold)

    @property
    def _log_odds(self) -> float:
        return math.log(self.p / (1 - self.p))


def _world(d: object, eta: object, p: object) -> RobustFeatures:
    return RobustFeatures(
        d=whole("d", d, "It counts the weak features."),
        eta=number("eta", eta, "It is the distance of the weak features' means from 0.", above=0),
        p=number("p", p, "It is how often x_1 is right: more often than not, but not always.", above=0.5, below=1),
    )


def _drawn(name: str, n_train: int, n_test: int, seed: int, *, truth: RobustFeatures) -> Dataset:
    generator = rng.generator(seed, "data", name)
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        sign = 2.0 * y[:, None] - 1
        right = torch.rand(count, 1, generator=generator) < truth.p
        x = torch.randn(count, truth.d + 1, generator=generator) + truth.eta * sign
        x[:, :1] = torch.where(right, sign, -sign)
        parts += [x, y]
    return Dataset(name, *parts, bounds=None, num_classes=2, truth=truth)
