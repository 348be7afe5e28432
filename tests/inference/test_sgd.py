"""SGD against least squares and ridge regression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import nets
from bayesrob.data import from_arrays
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import SGD
from bayesrob.models import BayesianNetwork


def flat(post) -> torch.Tensor:
    """Weight, then bias, of a linear model."""
    return torch.cat([tensor.flatten() for tensor in post.weights.values()]).double()


def least_squares(dataset, penalty: float = 0.0) -> torch.Tensor:
    x = dataset.x_train.double()
    design = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    eye = torch.eye(design.shape[1]).double()
    return torch.linalg.solve(design.T @ design + penalty * eye, design.T @ dataset.y_train[:, 0].double())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_linear_regression_is_least_squares(linear_gaussian, optimizer):
    dataset = linear_gaussian(n=40, d=3).dataset
    post = SGD(epochs=600, lr=0.05, optimizer=optimizer).fit(nets.mlp(3, (), 1), dataset)
    torch.testing.assert_close(flat(post), least_squares(dataset), rtol=0, atol=2e-4)
    assert post.num_draws == 1


def test_mini_batches_with_decay_reach_it_too(linear_gaussian):
    dataset = linear_gaussian(n=40, d=3).dataset
    post = SGD(epochs=200, lr=0.05, batch_size=10).fit(nets.mlp(3, (), 1), dataset)
    torch.testing.assert_close(flat(post), least_squares(dataset), rtol=0, atol=0.01)


@pytest.mark.parametrize(("noise", "prior_scale"), [(0.5, 1.0), (2.0, 0.3)])
def test_bayesian_network_gives_the_maximum_a_posteriori(linear_gaussian, noise, prior_scale):
    exact = linear_gaussian(n=40, d=3, noise=noise, prior_scale=prior_scale)
    post = SGD(epochs=800, lr=0.05).fit(exact.model, exact.dataset)
    ridge = least_squares(exact.dataset, penalty=noise**2 / prior_scale**2)
    torch.testing.assert_close(flat(post), ridge, rtol=0, atol=2e-4)
    torch.testing.assert_close(ridge, exact.mean, rtol=0, atol=1e-5)
    if noise == 2.0:
        assert (ridge - least_squares(exact.dataset)).abs().max() > 0.02  # the prior matters


def test_weight_decay_is_ridge(linear_gaussian):
    """torch's weight decay adds decay * w to the gradient of the mean loss; the loss is squares / 2."""
    dataset = linear_gaussian(n=40, d=3).dataset
    post = SGD(epochs=600, lr=0.05, optimizer="sgd", weight_decay=0.1).fit(nets.mlp(3, (), 1), dataset)
    torch.testing.assert_close(flat(post), least_squares(dataset, penalty=0.1 * 40), rtol=0, atol=2e-4)


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "bayesian"])
def test_keep_starts_from_the_given_weights(moons, wrap):
    net = nets.mlp(2, (4,), 2, seed=5)
    model = BayesianNetwork(net) if wrap else net
    frozen = {"epochs": 1, "lr": 1e-10}
    kept = SGD(**frozen, initial="keep").fit(model, moons)
    fresh = SGD(**frozen).fit(model, moons)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(kept.weights[name][0], parameter.detach(), rtol=0, atol=1e-7)
        assert (fresh.weights[name][0] - parameter.detach()).abs().max() > 0.01


def test_training_starts_from_the_same_weights_whatever_the_settings(moons):
    first, second = (SGD(epochs=1, lr=1e-10, batch_size=n).fit(nets.mlp(2, (4,), 2), moons) for n in (10, 100))
    torch.testing.assert_close(first.weights, second.weights, rtol=0, atol=1e-7)


class Noisy(nn.Module):
    """A network whose training depends on the global generator, through dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)


def test_dropout_is_on_in_training_and_seeded(moons):
    net = Noisy()
    torch.manual_seed(1)
    first = SGD(epochs=5).fit(net, moons)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = SGD(epochs=5).fit(net, moons)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.weights.items():
        assert torch.equal(tensor, second.weights[name])
    without = Noisy()
    without.layers[3].p = 0.0
    assert not torch.equal(SGD(epochs=5).fit(without, moons).weights["layers.1.weight"], first.weights["layers.1.weight"])
    x = moons.x_test[:5]
    assert torch.equal(first(x), first(x))  # and off afterwards


def test_batch_statistics_are_learnt_and_kept(moons):
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    post = SGD(epochs=50).fit(net, moons)
    hidden = nn.functional.linear(moons.x_train, post.weights["0.weight"][0], post.weights["0.bias"][0])
    torch.testing.assert_close(dict(post.net.named_buffers())["1.running_mean"], hidden.mean(0), rtol=0.1, atol=0.05)
    assert torch.equal(net[1].running_mean, torch.zeros(8))


def test_modes_of_the_given_network_stay_mixed(moons):
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    net[1].eval()
    SGD(epochs=1).fit(net, moons)
    assert [module.training for module in net] == [True, False, True]
    assert net.training


def test_epochs_are_obeyed_and_the_default_takes_two_thousand_steps(moons):
    assert SGD(epochs=3, batch_size=30).fit(nets.mlp(2, (4,), 2), moons).info["steps"] == 12
    assert SGD().fit(nets.mlp(2, (4,), 2), moons).info["steps"] == 2000


def test_a_loss_that_blows_up_keeps_finite_weights_and_warns(linear_gaussian):
    dataset = linear_gaussian().dataset
    with pytest.warns(ConvergenceWarning, match="became NaN or infinite") as warned:
        post = SGD(lr=1e6, epochs=400, optimizer="sgd", decay=False).fit(nets.mlp(2, (), 1), dataset)
    assert [str(w.message) for w in warned] == post.info["notes"]
    assert flat(post).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        SGD(**settings)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        SGD(optimizer="adamw")
    with pytest.raises(UnknownNameError, match="Known: fresh, keep"):
        SGD(initial="random")


class Normalised(nn.Sequential):
    """A network with batch normalisation that trains in no time."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def few(n: int):
    x = torch.rand(n, 12, generator=torch.Generator().manual_seed(0)).numpy()
    y = torch.arange(n).remainder(3).numpy()
    return from_arrays(x, y, x, y, num_classes=3)


@pytest.mark.parametrize(("n", "batch_size"), [(1, 128), (5, 2), (4, 1)])
def test_batches_of_one_point_have_no_spread(n, batch_size):
    """The last of 5 points in batches of 2 would be alone."""
    with pytest.raises(InputError, match="batches of one of"):
        SGD(epochs=1, batch_size=batch_size).fit(Normalised(), few(n))
    SGD(epochs=1, batch_size=batch_size).fit(nets.mlp(12, (4,), 3), few(n))


@pytest.mark.parametrize(("n", "batch_size"), [(2, 2), (4, 3), (9, 8), (6, 2)])
def test_batches_are_nearly_equal_so_that_the_last_is_not_alone(n, batch_size):
    post = SGD(epochs=2, batch_size=batch_size).fit(Normalised(), few(n))
    assert post.net[2].num_batches_tracked == 2 * -(-n // batch_size)


def test_running_statistics_go_back_with_the_weights_if_the_loss_blows_up():
    with pytest.warns(ConvergenceWarning, match="last finite"):
        post = SGD(epochs=30, lr=1e30, optimizer="sgd").fit(Normalised(), few(6))
    assert all(buffer.isfinite().all() for buffer in post.net.buffers())
    assert post.logits(torch.zeros(2, 12)).isfinite().all()
