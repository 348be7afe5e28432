"""TRADES: the divergence of distributions, its inner maximum on a linear classifier, its step, and SGD without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import nets, rng
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import SGD, SVI, TRADES
from bayesrob.inference.trades import Smoothing, _Away, divergence
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.inference.training.live import LiveNetwork
from bayesrob.inference.training.network import NetworkLearner, penalised
from bayesrob.models import BayesianNetwork, Categorical, Normal
from bayesrob.nets import initialise
from tests.inference.defences import bits, digits, mlp, two_classes


@pytest.mark.parametrize("net", [mlp(), BayesianNetwork(mlp())], ids=["plain", "prior"])
def test_trades_without_its_divergence_is_sgd_bit_for_bit(net, monkeypatch):
    monkeypatch.setattr(ClosedForm, "takes", lambda *_: False)  # the closed form rounds otherwise
    dataset, base = digits(), SGD(epochs=3, batch_size=16)
    trades, plain = TRADES(beta=0.0, base=base).fit(net, dataset, seed=2), base.fit(net, dataset, seed=2)
    assert torch.equal(bits(trades), bits(plain))
    assert trades.info["losses"] == plain.info["losses"]
    assert not torch.equal(bits(TRADES(beta=0.1, base=base).fit(net, dataset, seed=2)), bits(plain))


def test_the_divergence_is_that_of_the_distributions():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 4, generator=g).double(), torch.randn(6, 4, generator=g).double()
    categorical = [torch.distributions.Categorical(logits=logits) for logits in (a, b)]
    torch.testing.assert_close(divergence(Categorical(), a, b), torch.distributions.kl_divergence(*categorical))
    normal = [torch.distributions.Independent(torch.distributions.Normal(mean, 0.3), 1) for mean in (a, b)]
    torch.testing.assert_close(divergence(Normal(0.3), a, b), torch.distributions.kl_divergence(*normal))


@pytest.mark.parametrize("likelihood", [Categorical(), Normal(0.3)], ids=["categorical", "normal"])
def test_the_way_away_is_the_divergences_derivative(likelihood):
    g = torch.Generator().manual_seed(0)
    here, outputs = torch.randn(6, 4, generator=g).double(), torch.randn(3, 6, 4, generator=g).double().requires_grad_()
    away, y = _Away(here), torch.zeros(6, dtype=torch.int64)
    (expected,) = torch.autograd.grad(away.per_draw(outputs, y, likelihood).sum(), outputs)
    torch.testing.assert_close(away.slope(outputs.detach(), y, likelihood), expected, rtol=1e-12, atol=1e-13)


def smoothed(net, settings, bounds, seed):
    learner = NetworkLearner(net, penalised(net, net, Categorical(), 1), {})
    generator = rng.generator(seed, "trades")
    return Smoothing(learner, settings, likelihood=Categorical(), bounds=bounds, generator=generator)


def test_on_a_linear_classifier_trades_finds_an_end_of_the_ball():
    """The divergence is convex in the shift of the margin, so it is largest at +-eps sign(w)."""
    dataset = two_classes()
    net = nets.mlp(5, (), 2).double()
    post = LiveNetwork(net, bounds=None)
    settings, x = TRADES(eps=0.3, steps=10), dataset.x_train.double()
    smoothing = smoothed(net, settings, None, 0)
    moved = smoothing.furthest(post, x, dataset.y_train)
    w = (net[1].weight[1] - net[1].weight[0]).detach()
    ends = torch.stack([x + 0.3 * s * w.sign() for s in (-1, 1)])
    assert (ends - moved).abs().flatten(2).amax(-1).amin(0).max() < 1e-9
    found = divergence(Categorical(), net(x), net(moved))
    best = torch.stack([divergence(Categorical(), net(x), net(end)) for end in ends]).amax(0)
    assert (found >= 0.5 * best).all()  # either end, by where the noise began; mostly the larger one
    smoothing._bounds = (float(x.min()), float(x.max()))
    assert float(smoothing.furthest(post, x, dataset.y_train).max()) <= float(x.max())


def test_a_step_of_trades_goes_down_its_loss():
    dataset = digits(40)
    net = initialise(mlp(torch.float64), 3, "sgd")
    x, y = dataset.x_train.double(), dataset.y_train
    smoothing = smoothed(net, TRADES(eps=0.1, steps=2), (0.0, 1.0), 3)
    moved = smoothing.furthest(LiveNetwork(net, bounds=(0.0, 1.0)), x, y)
    p, log_p, log_q = net(x).softmax(-1), net(x).log_softmax(-1), net(moved).log_softmax(-1)
    value = nn.functional.cross_entropy(net(x), y) + 2.5 * (p * (log_p - log_q)).sum(-1).mean()
    expected = torch.autograd.grad(value, list(net.parameters()))
    base = SGD(epochs=1, batch_size=40, lr=1e-3, optimizer="sgd", decay=False)
    post = TRADES(beta=2.5, eps=0.1, steps=2, base=base).fit(mlp(torch.float64), dataset, seed=3)
    for (name, start), gradient in zip(net.named_parameters(), expected, strict=True):
        moved = (start.detach() - post.weights[name][0]) / 1e-3
        torch.testing.assert_close(moved, gradient, rtol=1e-8, atol=1e-10)


def test_trades_that_diverges_ends_with_a_warning():
    with pytest.warns(ConvergenceWarning, match="last finite"):
        post = TRADES(base=SGD(epochs=30, lr=1e38, batch_size=16)).fit(mlp(), digits())
    assert bits(post).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TRADES(beta=-1), "beta is -1"),
        (lambda: TRADES(eps=-0.1), "eps is -0.1"),
        (lambda: TRADES(steps=0), "steps is 0"),
        (lambda: TRADES(step_size=0), "step_size is 0"),
        (lambda: TRADES(base=SVI()), "TRADES compares two outputs of one network"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
