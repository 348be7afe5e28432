"""One feature that an attack cannot turn and many weak ones that it can (Tsipras et al. 2019), and the toy made of it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.data.truth import Truth, check_number, phi

__all__ = ["RobustFeatures", "robust_features", "tradeoff_toy"]


def robust_features(
    n_train: int = 2000, n_test: int = 2000, seed: int = 0, d: int = 100, eta: float = 0.4, p: float = 0.95
) -> Dataset:
    """x_1 = +-1, right with probability p; x_2 ... x_{d+1} from N(eta y, 1): x `[n, d + 1]`, no bounds.

    The labels are +1 and -1 in the paper, classes 1 and 0 here, drawn with probability 1/2 each. Tsipras et al. 2019,
    "Robustness may be at odds with accuracy", https://arxiv.org/abs/1805.12152, section 2.1.

    Args:
        n_train, n_test: points. seed: of points and labels.
        d: number of weak features. eta: their mean; 0.4 = 4 / sqrt(100) is where the theorem on the SVM begins.
        p: how often x_1 has the label's sign; at 0.95 there are radii between 2 eta and 2p - 1, where adversarial training
            keeps x_1 alone.

    Raises:
        InputError: a count or d below 1, eta that is not positive and finite, p outside (0.5, 1).
    """
    return _drawn("robust_features", n_train, n_test, seed, d, eta, p)


def tradeoff_toy(n_train: int = 2000, n_test: int = 2000, seed: int = 0, p: float = 0.9, eta: float = 3.0) -> Dataset:
    """`robust_features` of one weak feature, x `[n, 2]`: the toy on which Stutz asks what an adversarial example is.

    Args:
        n_train, n_test: points. seed: of points and labels. p, eta: as for `robust_features`; 0.9 and 3 are the article's.

    Raises:
        InputError: as `robust_features`.
    """
    return _drawn("tradeoff_toy", n_train, n_test, seed, 1, eta, p)


@dataclasses.dataclass(frozen=True)
class RobustFeatures(Truth):
    """The distribution of `robust_features`; its support is {-1, +1} x R^d."""

    d: int
    eta: float
    p: float

    def conditional(self, x: Tensor) -> Tensor:
        """log p(+1 | x) - log p(-1 | x) = x_1 log(p / (1 - p)) + 2 eta (x_2 + ... + x_{d+1})."""
        x = x.double()
        log_odds = x[:, 0].sign() * self._log_odds + 2 * self.eta * x[:, 1:].sum(1)
        return torch.stack([(-log_odds).sigmoid(), log_odds.sigmoid()], dim=1)

    def project(self, x: Tensor) -> Tensor:
        """x_1 goes to the nearer of -1 and +1 (0 to +1); the rest stays."""
        first = torch.where(x[:, :1] >= 0, 1.0, -1.0).to(x)
        return torch.cat([first, x[:, 1:]], dim=1)

    def normal_basis(self, x: Tensor) -> Tensor:
        basis = x.new_zeros(len(x), 1, x.shape[1], dtype=torch.float64)
        basis[:, 0, 0] = 1
        return basis

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """Known in l_inf. An attack can always carry each class's means to max(eta - eps, 0), and no more is needed.

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


def _drawn(name: str, n_train: int, n_test: int, seed: int, d: int, eta: float, p: float) -> Dataset:
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    d = subsets.check_count("d", d)
    eta = check_number("eta", eta, "It is how far the weak features' means lie from 0.")
    p = check_number("p", p, "It is how often x_1 is right: more often than not, not always.", 0.5, 1.0)
    generator = rng.generator(seed, "data", name)
    parts = []
    for count in (n_train, n_test):
        y = torch.randint(2, (count,), generator=generator)
        sign = 2.0 * y[:, None] - 1
        right = torch.rand(count, 1, generator=generator) < p
        x = torch.randn(count, d + 1, generator=generator) + eta * sign
        x[:, :1] = torch.where(right, sign, -sign)
        parts += [x, y]
    return Dataset(name, *parts, bounds=None, num_classes=2, truth=RobustFeatures(d, eta, p))
