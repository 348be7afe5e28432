"""Dropout and DropConnect against ridge regression, and against SGD where nothing is dropped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import data, nets, rng
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import SGD, DropConnect, MCDropout
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import MaskedDraws
from tests.nets.helpers import Recurrent

METHODS = {"dropconnect": DropConnect, "dropout": lambda **kw: MCDropout(inputs=True, **kw)}
both = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def regression(n: int = 40, d: int = 3, out: int = 2) -> data.Dataset:
    g = rng.generator(0, "tests", "masked")
    x = torch.randn(n, d, generator=g)
    y = x @ torch.randn(d, out, generator=g) + 0.5 + 0.3 * torch.randn(n, out, generator=g)
    return data.from_arrays(x, y, x, y)


def ridge(dataset: data.Dataset, p: float, prior_scale: float | None = None) -> torch.Tensor:
    """Minimiser of E_mask |y - x (w mask) / (1 - p) - b|^2 = |y - x w - b|^2 + p / (1 - p) w' diag(x'x) w, each output.

    Wager, Wang & Liang 2013. With noise_scale 1 a normal prior adds |w|^2 / prior_scale^2, of the biases too.
    """
    x, y = dataset.x_train.double(), dataset.y_train.double()
    design = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    penalty = torch.cat([p / (1 - p) * x.square().sum(0), torch.zeros(1).double()])
    penalty = penalty if prior_scale is None else penalty + prior_scale**-2
    return torch.linalg.solve(design.T @ design + penalty.diag(), design.T @ y)


@pytest.mark.parametrize("prior_scale", [None, 0.3])
@both
def test_linear_regression_is_ridge(method, prior_scale):
    """0.03 is 4 standard deviations of the result over seeds (measured: 0.002 to 0.008 a weight)."""
    dataset, p = regression(), 0.3
    net = nets.mlp(3, (), 2)
    model = net if prior_scale is None else BayesianNetwork(net, prior_scale, likelihood="normal", noise_scale=1.0)
    post = method(p=p, epochs=3000, lr=0.05).fit(model, dataset)
    found = torch.cat([post.loc["1.weight"].T, post.loc["1.bias"][None]]).double()
    expected = ridge(dataset, p, prior_scale)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)
    assert (expected - ridge(dataset, 0.0, prior_scale)).abs().max() > 0.15  # the masks matter
    x = dataset.x_test
    mean = x.double() @ expected[:3] + expected[3]
    error = post.logits(x, num_draws=4000, seed=0).double().std(0) / 4000**0.5
    assert ((post(x, num_draws=4000, seed=0) - mean).abs() < 4 * error + 0.1).all()


@both
def test_mini_batches_reach_it_too(method):
    dataset = regression()
    post = method(p=0.3, epochs=600, lr=0.05, batch_size=8).fit(nets.mlp(3, (), 2), dataset)
    found = torch.cat([post.loc["1.weight"].T, post.loc["1.bias"][None]]).double()
    torch.testing.assert_close(found, ridge(dataset, 0.3), rtol=0, atol=0.05)


@both
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "bayesian"])
def test_nothing_dropped_is_sgd_bit_for_bit(method, wrap, moons, monkeypatch):
    monkeypatch.setattr(ClosedForm, "takes", lambda *_: False)  # the closed form rounds otherwise
    net = nets.mlp(2, (8,), 2)
    model = BayesianNetwork(net) if wrap else net
    expected = SGD(epochs=20, batch_size=30).fit(model, moons, seed=3)
    post = method(p=0.0, epochs=20, batch_size=30).fit(model, moons, seed=3)
    assert all(torch.equal(tensor[0], post.loc[name]) for name, tensor in expected.weights.items())
    assert post.info["losses"] == expected.info["losses"]
    assert torch.equal(post.logits(moons.x_test)[0], expected.logits(moons.x_test)[0])


@both
def test_rate_zero_and_rate_half_are_not_the_same(method, moons):
    none, half = (method(p=p, epochs=5).fit(nets.mlp(2, (8,), 2), moons) for p in (0.0, 0.5))
    assert (none.loc["1.weight"] - half.loc["1.weight"]).abs().max() > 1e-4


# ---- which weights --------------------------------------------------------------------------------------------------------


def changing(post: MaskedDraws) -> set[str]:
    return {
        name for name, tensor in post.freeze(50).weights.items() if not torch.equal(tensor, tensor[:1].expand_as(tensor))
    }


class Bidirectional(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.lstm(x[:, None])[0][:, -1])


def test_first_layers_inputs_are_kept_by_default(moons):
    settings = {"epochs": 1, "batch_size": 50, "p": 0.5}
    net = nets.mlp(2, (4, 4), 2)
    assert changing(MCDropout(**settings).fit(net, moons)) == {"3.weight", "5.weight"}
    assert changing(MCDropout(**settings, inputs=True).fit(net, moons)) == {"1.weight", "3.weight", "5.weight"}
    assert changing(DropConnect(**settings).fit(net, moons)) == {"1.weight", "3.weight", "5.weight"}
    post = MCDropout(**settings).fit(Bidirectional(), moons)
    kept = {"lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse"}
    assert set(post.info["masked"]) == {n for n, p in Bidirectional().named_parameters() if p.ndim == 2} - kept
    assert changing(post) == set(post.info["masked"])


def test_one_layer_has_nothing_to_drop_behind_it(moons):
    with pytest.raises(InputError, match=r"inputs=False\) has nothing to drop.*inputs=True"):
        MCDropout().fit(nets.mlp(2, (), 2), moons)


# ---- networks with states of their own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [MCDropout(p=0.3, epochs=50), DropConnect(epochs=50)], ids=["dropout", "dropconnect"])
def test_batch_statistics_are_learnt_over_masks(method, moons):
    """Their mean is that without masks, whose weights are the masked ones' means."""
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    post = method.fit(net, moons)
    hidden = nn.functional.linear(moons.x_train, post.loc["0.weight"], post.loc["0.bias"])
    torch.testing.assert_close(dict(post.net.named_buffers())["1.running_mean"], hidden.mean(0), rtol=0.2, atol=0.1)
    assert torch.equal(net[1].running_mean, torch.zeros(8))
    # Not to the bit: which product runs depends on the number of points, and on the processor.
    whole, few = post.logits(moons.x_test, seed=0)[:, :5], post.logits(moons.x_test[:5], seed=0)
    torch.testing.assert_close(whole, few, rtol=1e-5, atol=1e-6)


def test_the_networks_own_dropout_is_off(moons):
    with_layers = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    without = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Identity(), nn.Linear(8, 2))
    first, second = (MCDropout(epochs=3).fit(net, moons) for net in (with_layers, without))
    assert all(torch.equal(tensor, second.loc[name]) for name, tensor in first.loc.items())
    assert with_layers[2].training
    lstm = nn.LSTM(2, 3, num_layers=2, batch_first=True, dropout=0.9)
    net = Recurrent(2, 3, 2)
    net.lstm = lstm
    sequences = data.from_arrays(torch.rand(20, 4, 2), torch.arange(20) % 2, torch.rand(5, 4, 2), torch.zeros(5).long())
    first = MCDropout(p=0.0, epochs=2).fit(net, sequences)
    net.lstm.dropout = 0.0
    second = MCDropout(p=0.0, epochs=2).fit(net, sequences)
    assert all(torch.equal(tensor, second.loc[name]) for name, tensor in first.loc.items())


@both
def test_running_statistics_go_back_with_the_weights_if_the_loss_blows_up(method, moons):
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.warns(ConvergenceWarning, match="last finite"):
        post = method(epochs=30, lr=1e38).fit(net, moons)
    assert all(buffer.isfinite().all() for buffer in post.net.buffers())
    with pytest.raises(InputError, match="batches of one of"):
        method(epochs=1, batch_size=1).fit(net, moons)


@both
def test_each_epoch_sees_what_training_would_end_with(method, moons):
    seen = {}
    settings = {"batch_size": 30, "decay": False}
    net = nets.mlp(2, (8,), 2)
    last = method(**settings, epochs=3).fit(net, moons, each_epoch=lambda epoch, post: seen.update({epoch: post}))
    assert list(seen) == [1, 2, 3]
    for epoch, post in seen.items():
        expected = method(**settings, epochs=epoch).fit(net, moons)
        assert torch.equal(post.logits(moons.x_test, seed=0), expected.logits(moons.x_test, seed=0))
    assert torch.equal(last.logits(moons.x_test), expected.logits(moons.x_test))


def test_convolutions_are_trained():
    images = data.from_arrays(
        torch.rand(20, 1, 16, 16), torch.arange(20) % 3, torch.rand(4, 1, 16, 16), torch.zeros(4).long()
    )
    post = MCDropout(epochs=2).fit(nets.cnn((1, 16, 16), 2, 3), images)
    assert post.logits(images.x_test).shape == (100, 4, 3)
    assert len(changing(post)) == len(post.info["masked"]) > 0


# ---- what goes wrong ------------------------------------------------------------------------------------------------------


def test_a_loss_that_blows_up_keeps_finite_weights_and_warns():
    with pytest.warns(ConvergenceWarning, match="DropConnect: the loss became NaN or infinite"):
        post = DropConnect(lr=1e38, epochs=400, decay=False).fit(nets.mlp(3, (), 2), regression())
    assert all(tensor.isfinite().all() for tensor in post.loc.values())


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 1.0}, "p is 1.0"),
        ({"p": -0.1}, "p is -0.1"),
        ({"p": "0.5"}, "p is '0.5'"),
        ({"p": True}, "p is True"),
        ({"p": float("nan")}, "p is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_draws": 0}, "num_draws is 0"),
    ],
)
def test_bad_settings(method, settings, message):
    with pytest.raises(InputError, match=message):
        method(**settings)
