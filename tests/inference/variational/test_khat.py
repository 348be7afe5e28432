"""k-hat of guides whose distance from the posterior is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions, nn

from bayesrob.inference.variational import khat as room
from bayesrob.inference.variational.khat import pareto_khat
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import GaussianDraws, LowRankGaussianDraws, NormalDraws

NOISE, DRAWS = 0.3, 2000
NET = nn.Sequential(nn.Linear(3, 1))


def linear_gaussian() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, targets, and the exact posterior's mean and covariance under N(0, 1) priors."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + NOISE * torch.randn(60, 1, generator=generator)
    ones = torch.cat([x, torch.ones(60, 1)], 1).double()
    covariance = torch.linalg.inv(ones.T @ ones / NOISE**2 + torch.eye(4, dtype=torch.float64))
    return x, y, covariance @ (ones.T @ y.double() / NOISE**2)[:, 0], covariance


def by_name(flat: Tensor) -> dict[str, Tensor]:
    """`[*lead, 4]` as weight and bias of the network."""
    return {"0.weight": flat[..., None, :3].float(), "0.bias": flat[..., 3:].float()}


def exact_low_rank(mean: Tensor, covariance: Tensor) -> LowRankGaussianDraws:
    values, vectors = torch.linalg.eigh(covariance)
    own = 0.9 * values.min()
    factor = (vectors * (values - own).sqrt()).T
    return LowRankGaussianDraws(NET, by_name(mean), by_name(own.sqrt().expand(4)), by_name(factor))


def mean_field(mean: Tensor, covariance: Tensor, width: float = 1.0) -> GaussianDraws:
    """The minimum of KL(q || p), whose variances are 1 / precision_ii; `width` multiplies its standard deviations."""
    return GaussianDraws(NET, by_name(mean), by_name(width * torch.linalg.inv(covariance).diagonal() ** -0.5))


def khat(guide: NormalDraws) -> float:
    x, y, *_ = linear_gaussian()
    bnn = BayesianNetwork(NET, likelihood="normal", noise_scale=NOISE, prior_scale=1.0)
    found = pareto_khat(guide, bnn, x, y, num_draws=DRAWS, generator=torch.Generator().manual_seed(1))
    assert found["draws"] == DRAWS
    assert found["seconds"] > 0
    return found["value"]


def test_the_exact_posterior_passes() -> None:
    assert khat(exact_low_rank(*linear_gaussian()[2:])) < 0.5


def test_a_guide_that_is_too_narrow_fails_and_a_wide_one_passes() -> None:
    """A flipped sign of the log ratios would exchange the two."""
    assert khat(mean_field(*linear_gaussian()[2:], width=0.3)) > 0.7
    assert khat(mean_field(*linear_gaussian()[2:], width=1.3)) < 0.5


def test_a_student_t_has_a_heavier_tail_than_a_normal_guide() -> None:
    draws = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratios = distributions.StudentT(3.0).log_prob(draws) - distributions.Normal(0.0, 1.0).log_prob(draws)
    assert room._shape(ratios) > 0.4
    assert room._shape(-ratios) < 0.0


def test_equal_weights_have_no_tail_and_lost_ones_no_shape() -> None:
    assert room._shape(torch.zeros(1000, dtype=torch.float64)) == 0.0
    assert room._shape(torch.full((1000,), torch.nan, dtype=torch.float64)) == math.inf


@pytest.mark.parametrize("kind", ["mean field", "low rank"])
def test_log_densities_are_torch_s(kind: str) -> None:
    mean, covariance = linear_gaussian()[2:]
    guide = mean_field(mean, covariance) if kind == "mean field" else exact_low_rank(mean, covariance)
    weights = guide.sample(5, torch.Generator().manual_seed(2))
    flat = torch.cat([weights["0.weight"][:, 0], weights["0.bias"]], 1).double()
    scale = torch.cat([guide.scale["0.weight"][0], guide.scale["0.bias"]]).double()
    spread = torch.diag(scale**2)
    if isinstance(guide, LowRankGaussianDraws):
        rows = torch.cat([guide.factor["0.weight"][:, 0], guide.factor["0.bias"]], 1).double()
        spread = spread + rows.T @ rows
    centre = torch.cat([guide.loc["0.weight"][0], guide.loc["0.bias"]]).double()
    expected = distributions.MultivariateNormal(centre, spread).log_prob(flat)
    torch.testing.assert_close(guide.log_density(weights), expected, rtol=1e-9, atol=1e-9)
