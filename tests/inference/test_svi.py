"""SVI against the exact mean-field optimum."""

from __future__ import annotations

import pytest
import torch

from bayesrob import data, nets
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import SVI
from bayesrob.models import BayesianNetwork

CASES = [(50, 3, 0.3, 0), (200, 5, 0.1, 2), (200, 3, 0.3, 1)]
MORE = [(n, d, noise, seed) for n, d, noise in ((50, 3, 0.3), (200, 5, 0.1), (1000, 3, 0.3)) for seed in (3, 4)]


# ---- the exact optimum: for a Gaussian posterior, its mean and 1 / diagonal of its precision ------------------------------


def check_optimum(exact, estimator, seed, rtol):
    post = SVI(estimator=estimator).fit(exact.model, exact.dataset, seed=seed)
    loc, scale = exact.model.flatten(post.loc).double(), exact.model.flatten(post.scale).double()
    assert ((loc - exact.mean).abs() / exact.covariance.diagonal().sqrt()).max() < 0.1
    torch.testing.assert_close(scale**2, 1 / exact.precision.diagonal(), rtol=rtol, atol=0)
    assert post.info["estimator"] == estimator
    assert post.info["steps"] >= 4000


@pytest.mark.parametrize(("estimator", "rtol"), [("shared_draw", 0.2), ("local", 0.1)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_defaults_reach_the_mean_field_optimum(linear_gaussian, estimator, rtol, case):
    check_optimum(linear_gaussian(*case), estimator, case[-1], rtol)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "rtol"), [("shared_draw", 0.2), ("local", 0.1)])
@pytest.mark.parametrize("case", MORE, ids=str)
def test_defaults_reach_the_mean_field_optimum_of_more_cases(linear_gaussian, estimator, rtol, case):
    check_optimum(linear_gaussian(*case), estimator, case[-1], rtol)


def test_local_is_the_default_where_it_can_be(moons):
    net = nets.mlp(2, (3,), 2)
    assert SVI(epochs=1).fit(BayesianNetwork(net), moons).info["estimator"] == "local"
    other = torch.nn.Sequential(net, torch.nn.LayerNorm(2))
    assert SVI(epochs=1).fit(BayesianNetwork(other), moons).info["estimator"] == "shared_draw"


# ---- the run --------------------------------------------------------------------------------------------------------


def test_epochs_are_obeyed(classifier, moons):
    post = SVI(epochs=3, batch_size=30).fit(classifier, moons)
    assert post.info["steps"] == 3 * 4  # 100 points: batches of 30, 30, 30 and 10


def test_num_draws_are_the_predictives(classifier, moons):
    post = SVI(epochs=1, num_draws=7).fit(classifier, moons)
    assert post.num_draws == 7
    assert len(post.logits(moons.x_test[:2])) == 7


def test_a_loss_that_blows_up_keeps_finite_weights_and_warns(linear_gaussian):
    exact = linear_gaussian()
    with pytest.warns(ConvergenceWarning, match="became NaN or infinite") as warned:
        post = SVI(lr=1e6, epochs=20).fit(exact.model, exact.dataset)
    assert [str(w.message) for w in warned] == post.info["notes"]
    assert all(tensor.isfinite().all() for tensor in (*post.loc.values(), *post.scale.values()))
    assert post(exact.dataset.x_test).isfinite().all()


def test_local_needs_linear_layers():
    model = BayesianNetwork(nets.cnn((1, 16, 16), 2, 2))
    images = torch.rand(4, 1, 16, 16)
    dataset = data.from_arrays(images, torch.tensor([0, 1, 0, 1]), images, torch.tensor([0, 1, 0, 1]))
    with pytest.raises(InputError, match=r"estimator='local'.*not a stack of linear layers.*shared_draw"):
        SVI(estimator="local").fit(model, dataset)
    assert SVI(epochs=1).fit(model, dataset).info["estimator"] == "shared_draw"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"initial_scale": 0.0}, "initial_scale is 0.0"),
        ({"initial_scale": float("nan")}, "initial_scale is nan"),
        ({"num_draws": 0}, "num_draws is 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        SVI(**settings)


def test_unknown_estimator_names_the_nearest():
    settings = SVI()
    object.__setattr__(settings, "estimator", "shared")  # past the tests' own check of types
    with pytest.raises(UnknownNameError, match="Did you mean 'shared_draw'"):
        settings.__post_init__()


def test_a_plain_network_has_no_prior(moons):
    with pytest.raises(InputError, match=r"SVI got a plain Sequential.*models.BayesianNetwork"):
        SVI().fit(nets.mlp(2, (4,), 2), moons)


@pytest.mark.parametrize("n", [257, 300])
def test_a_data_set_that_batches_do_not_divide(linear_gaussian, n):
    """A short last batch would count as much as a full one, and its one point pull the means away."""
    exact = linear_gaussian(n=n, d=3, noise=0.1)
    post = SVI().fit(exact.model, exact.dataset)
    loc, scale = (exact.model.flatten(part).double() for part in (post.loc, post.scale))
    assert ((loc - exact.mean).abs() / exact.covariance.diagonal().sqrt()).max() < 0.1
    torch.testing.assert_close(scale**2 * exact.precision.diagonal(), torch.ones(4).double(), rtol=0, atol=0.2)
