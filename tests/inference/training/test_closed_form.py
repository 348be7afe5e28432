"""Training without autograd: the same loss and gradient, and torch's own Adam to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import nets
from bayesrob.inference import SGD
from bayesrob.inference.training.adam import Adam, fused_adam
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.inference.training.network import penalised
from bayesrob.models import BayesianNetwork, Categorical, Normal

X = torch.randn(30, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.arange(30) % 4
TARGETS = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SIZES = [11, 10, 9]


def small(*layers):
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), *layers, nn.Linear(5, 4)).double()


NETS = {
    "joined": lambda: small(nn.Tanh()),
    "wide": lambda: nets.mlp(6, (200, 100), 4, seed=1).double(),  # too large to be joined
    "gelu": lambda: small(nn.GELU(), nn.Linear(5, 5), nn.ReLU()),
    "no bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 4)).double(),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("prior", [None, 0.7])
@pytest.mark.parametrize(("likelihood", "y"), [(Categorical(), CLASSES), (Normal(0.5), TARGETS)])
def test_loss_and_gradient_are_those_of_autograd(name, prior, likelihood, y):
    net = NETS[name]()
    model = net if prior is None else BayesianNetwork(net, prior_scale=prior, likelihood=likelihood.name)
    assert ClosedForm.takes(net, likelihood, X)
    criterion = penalised(net, model, likelihood, len(X))
    wanted = []
    for x, target in zip(X.split(SIZES), y.split(SIZES), strict=True):
        value = criterion(net(x), target)
        gradients = torch.autograd.grad(value, list(net.parameters()))
        wanted.append((value.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
    closed = ClosedForm(net, model, likelihood, example=X, num_data=len(X), common={})
    for batch, (value, gradient) in zip(closed.split(X, y, SIZES), wanted, strict=True):
        torch.testing.assert_close(closed.loss(batch), value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(closed.theta.grad, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("prior", [None, 1.0])
def test_a_whole_run_agrees_with_autograd(optimizer, prior, monkeypatch):
    from bayesrob import data

    dataset = data.load("digits", n_train=200, n_test=20)
    net = nets.mlp(64, (20,), 10)
    model = net if prior is None else BayesianNetwork(net, prior_scale=prior)
    method = SGD(epochs=3, lr=0.01, batch_size=32, optimizer=optimizer, weight_decay=0.01)
    closed = method.fit(model, dataset, seed=5)
    for name, weight in closed.net.state_dict().items():  # the network is trained, as where autograd trains it
        assert torch.equal(closed.weights[name][0], weight)
    monkeypatch.setattr(ClosedForm, "takes", lambda *_: False)
    by_autograd = method.fit(model, dataset, seed=5)
    assert closed.info["losses"] == pytest.approx(by_autograd.info["losses"], rel=1e-4)
    torch.testing.assert_close(closed(dataset.x_test), by_autograd(dataset.x_test), rtol=1e-3, atol=1e-3)


def test_networks_that_share_weights_or_are_no_stacks_are_left_to_autograd():
    shared = small(nn.Linear(5, 5), nn.Linear(5, 5))
    shared[3].weight = shared[2].weight
    mixed = small()
    mixed[1].float()
    for net in (shared, mixed, nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(6, 4))):
        assert not ClosedForm.takes(net, Categorical(), X)


def test_a_likelihood_of_the_users_own_is_left_to_autograd():
    class Own(Categorical):
        pass

    assert not ClosedForm.takes(small(), Own(), X)


@pytest.mark.parametrize("settings", [{}, {"betas": (0.9, 0.99)}, {"weight_decay": 0.1}])
def test_adam_is_torchs_to_the_bit(settings):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = ([torch.ones(n, requires_grad=True) for n in (1000, 3)] for _ in range(2))
    one, other = Adam(ours, 0.01, **settings), torch.optim.Adam(theirs, 0.01, fused=True, **settings)
    for step in range(20):
        one.zero_grad()
        for mine, its in zip(ours, theirs, strict=True):
            if step % 3 or len(mine) > 3:  # a weight without a gradient stays, and its steps are not counted
                mine.grad = torch.randn(len(mine), generator=generator)
            its.grad = None if mine.grad is None else mine.grad.clone()
        for optimizer in (one, other):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.step()
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


def test_parameters_of_several_dtypes_are_sorted_by_torchs():
    mixed = [torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.float64, requires_grad=True)]
    assert isinstance(fused_adam(mixed, 0.1), torch.optim.Adam)
    assert isinstance(fused_adam(mixed[:1], 0.1), Adam)
