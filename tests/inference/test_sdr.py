"""The stochastic delta rule against its printed equations, plain Adam, and the variational inference that it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bayesrob import data, nets, rng
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import HMC, SDR, SGD, SVI, DropConnect
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.inference.training.initial_sigma import initial_sigma
from bayesrob.models import BayesianNetwork, network_of
from bayesrob.nets import initialise
from bayesrob.predictive import GaussianDraws

FLOAT64 = {"rtol": 1e-12, "atol": 1e-14}


def digits(n_train: int = 60):
    return data.load("digits", n_train=n_train, n_test=20, seed=0)


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nets.mlp(64, (7,), 10).to(dtype)


def small_cnn() -> nn.Module:
    """With batch normalisation, the statistics of which are gathered while training."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 36, 10),
    )


each_network = pytest.mark.parametrize(
    "net",
    [mlp(), small_cnn(), nets.lstm((1, 8, 8), 5, 10, reads="rows"), BayesianNetwork(mlp())],
    ids=["mlp", "batch norm", "lstm", "prior"],
)


def bits(post) -> torch.Tensor:
    return torch.cat([tensor.flatten() for name, tensor in sorted(post.contents()[0].items()) if "buffers" not in name])


# ---- the printed equations


def one_batch(variance: str, dataset, **settings):
    """One step on all points, and what the same step gives by hand: start, sigma, noise, gradient at the draw."""
    n = len(dataset.x_train)
    method = SDR(variance=variance, epochs=1, batch_size=n, predict="draws", lr=0.01, initial_sigma="xavier", **settings)
    net = mlp(torch.float64)
    post = method.fit(net, dataset, seed=3)
    assert isinstance(post, GaussianDraws)
    start = initialise(net, 3, "sgd" if variance == "decay" else "svi")
    sigma = initial_sigma("xavier", net, 3)
    return post, dict(start.named_parameters()), sigma


def gradient_at(net: nn.Module, weights, dataset):
    leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
    loss = nn.functional.cross_entropy(torch.func.functional_call(net, leaves, (dataset.x_train.double(),)), dataset.y_train)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def adam_step(gradient: torch.Tensor, lr: float) -> torch.Tensor:
    """The first: its averages are the gradient itself and its square."""
    return lr * gradient / (gradient.abs() + 1e-8)


@pytest.mark.parametrize(("decays", "factor"), [(0, 1.0), (1, 0.7)])
def test_one_update_with_decay_is_equation_3(decays, factor):
    dataset = digits()
    post, mu, sigma = one_batch("decay", dataset, beta=0.05, zeta=0.7, decays_per_epoch=decays)
    noise = rng.generator(3, "sdr", "noise")
    eps = {name: torch.randn(m.shape, generator=noise, dtype=torch.float32).double() for name, m in mu.items()}
    drawn = {name: mu[name] + sigma[name] * eps[name] for name in mu}
    for name, gradient in gradient_at(mlp(torch.float64), drawn, dataset).items():
        torch.testing.assert_close(post.loc[name], mu[name] - adam_step(gradient, 0.01), **FLOAT64)
        torch.testing.assert_close(post.scale[name], factor * (sigma[name] + 0.05 * gradient.abs()), **FLOAT64)


@pytest.mark.parametrize("decays", [0, 1])
def test_growth_at_decays_is_the_code_of_2018(decays):
    """sigma <- zeta (|beta g| + sigma) where it decays, and nothing in between."""
    dataset = digits()
    post, mu, sigma = one_batch("decay", dataset, beta=0.05, zeta=0.7, decays_per_epoch=decays, growth="at_decays")
    noise = rng.generator(3, "sdr", "noise")
    drawn = {
        name: m + sigma[name] * torch.randn(m.shape, generator=noise, dtype=torch.float32).double() for name, m in mu.items()
    }
    for name, gradient in gradient_at(mlp(torch.float64), drawn, dataset).items():
        expected = 0.7 * ((0.05 * gradient).abs() + sigma[name]) if decays else sigma[name]
        torch.testing.assert_close(post.scale[name], expected, **FLOAT64)


def test_a_run_away_says_what_to_change():
    with pytest.warns(ConvergenceWarning, match='Use a smaller beta, growth="at_decays" or a smaller lr'):
        post = SDR(beta=1e6, epochs=20, batch_size=7).fit(mlp(), digits())
    assert torch.isfinite(bits(post)).all()


def test_one_update_of_the_learnable_variance_goes_through_the_draw():
    dataset = digits()
    post, mu, sigma = one_batch("learnable", dataset)
    sizes = [m.numel() for m in mu.values()]
    flat = torch.randn(sum(sizes), generator=rng.generator(3, "svi", "noise"), dtype=torch.float32).double()
    eps = {name: e.view_as(m) for (name, m), e in zip(mu.items(), flat.split(sizes), strict=True)}
    drawn = {name: mu[name] + sigma[name] * eps[name] for name in mu}
    for name, gradient in gradient_at(mlp(torch.float64), drawn, dataset).items():
        torch.testing.assert_close(post.loc[name], mu[name] - adam_step(gradient, 0.01), rtol=1e-9, atol=1e-12)
        by_log_sigma = gradient * eps[name] * sigma[name]  # chain rule through w = mu + sigma eps
        expected = (sigma[name].log() - adam_step(by_log_sigma, 0.01)).exp()
        torch.testing.assert_close(post.scale[name], expected, rtol=1e-9, atol=1e-12)


def test_sigma_without_gradients_follows_the_schedule():
    post = SDR(beta=0.0, zeta=0.5, decays_per_epoch=2, initial_sigma=0.25, epochs=3, batch_size=7).fit(mlp(), digits())
    for name, tensor in mlp().named_parameters():
        expected = [0.25 * 0.25**epoch * tensor.numel() for epoch in range(4)]
        assert post.info["sigma"][name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batches", [1, 2, 3, 9])
@pytest.mark.parametrize("decays", [1, 2, 5])
def test_sigma_decays_as_often_as_asked_in_every_epoch_or_once_a_batch(batches, decays):
    sdr = SDR(beta=0.0, zeta=0.5, decays_per_epoch=decays, initial_sigma=1.0, epochs=2, batch_size=math.ceil(18 / batches))
    trace = sdr.fit(mlp(), digits(18)).info["sigma"]["1.bias"]
    assert trace[1] / trace[0] == pytest.approx(0.5 ** min(decays, batches), rel=1e-6)


# ---- what it is a case of


@each_network
def test_without_noise_it_is_adam_bit_for_bit(net, monkeypatch):
    monkeypatch.setattr(ClosedForm, "takes", lambda *_: False)  # by autograd, as SDR: the closed form rounds otherwise
    dataset = digits()
    sdr = SDR(beta=0.0, initial_sigma=0.0, epochs=3, batch_size=16, lr=0.003).fit(net, dataset, seed=2)
    sgd = SGD(decay=False, epochs=3, batch_size=16, lr=0.003).fit(net, dataset, seed=2)
    assert torch.equal(bits(sdr), bits(sgd))
    assert torch.equal(sdr(dataset.x_test), sgd(dataset.x_test))


@each_network
def test_learnable_is_svi_without_divergence(net):
    dataset = digits()
    inner = network_of(net)
    start = {n: 0.1 * (p[0].numel() ** -0.5 if p.ndim > 1 else 1.0) for n, p in inner.named_parameters()}
    common = {"epochs": 3, "batch_size": 16, "lr": 0.003, "kl_weight": 0.0, "num_draws": 6}
    sdr = SDR(variance="learnable", initial_sigma=start, **common).fit(net, dataset, seed=2)
    svi = SVI(estimator="shared_draw", decay=False, mirrored=False, beta_2=0.999, **common).fit(net, dataset, seed=2)
    torch.testing.assert_close(bits(sdr), bits(svi), rtol=1e-4, atol=1e-6)  # the starts are rounded differently
    exact = SDR(variance="learnable", initial_sigma=start, **common).as_svi()
    assert exact == SVI(estimator="shared_draw", decay=False, mirrored=False, beta_2=0.999, **common)


def test_with_the_whole_divergence_it_is_svi():
    dataset, net = digits(), BayesianNetwork(mlp())
    start = {n: 0.1 * (p[0].numel() ** -0.5 if p.ndim > 1 else 1.0) for n, p in net.net.named_parameters()}
    common = {"epochs": 3, "batch_size": 16, "lr": 0.003}
    sdr = SDR(variance="learnable", initial_sigma=start, kl_weight=1.0, **common).fit(net, dataset, seed=2)
    svi = SVI(estimator="shared_draw", decay=False, mirrored=False, beta_2=0.999, **common).fit(net, dataset, seed=2)
    torch.testing.assert_close(bits(sdr), bits(svi), rtol=1e-5, atol=1e-7)


def test_learnable_variance_shrinks_to_nothing_where_only_the_fit_counts(linear_gaussian):
    """Theorem 1: the expected squared error is that of the means plus ||X Sigma^(1/2)||^2, least without any variance."""
    exact = linear_gaussian()
    sdr = SDR(variance="learnable", epochs=800, batch_size=len(exact.dataset.x_train), lr=0.03, initial_sigma=0.3)
    post = sdr.fit(exact.model, exact.dataset)
    x = torch.cat([exact.dataset.x_train.flatten(1), torch.ones(len(exact.dataset.x_train), 1)], dim=1).double()
    least_squares = torch.linalg.lstsq(x, exact.dataset.y_train.double()).solution
    assert isinstance(post, GaussianDraws)
    assert max(float(scale.max()) for scale in post.scale.values()) < 0.05
    found = torch.cat([post.loc[name].flatten() for name, _ in exact.model.net.named_parameters()]).double()
    torch.testing.assert_close(found, least_squares.flatten(), rtol=0.05, atol=0.05)


def test_theorem_1_by_draws():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 5, generator=generator), torch.randn(30, 1, generator=generator)
    net = nn.Sequential(nn.Linear(5, 1, bias=False))
    mu, sigma = torch.randn(1, 5, generator=generator), torch.rand(1, 5, generator=generator)
    post = GaussianDraws(net, {"0.weight": mu}, {"0.weight": sigma}, num_draws=20_000)
    squares = (post.logits(x, seed=0) - y).square().sum((1, 2))
    expected = (y - x @ mu.mT).square().sum() + (x * sigma).square().sum()
    assert abs(squares.mean() - expected) < 3 * squares.std() / len(squares) ** 0.5


# ---- starting sigma


def test_published_rules_have_their_moments():
    net = nn.Sequential(nn.Conv2d(20, 50, 5), nn.Flatten(), nn.Linear(400, 300))
    uniform, normal = initial_sigma("frazier_logue_2018", net, 0), initial_sigma("xavier", net, 0)
    for name, fans in {"0.weight": (20 * 25, 50 * 25), "2.weight": (400, 300)}.items():
        top = 0.5 * math.sqrt(2 / uniform[name].numel())
        assert 0.999 * top < float(uniform[name].max()) <= top
        assert float(uniform[name].mean()) == pytest.approx(top / 2, rel=0.02)
        assert float(normal[name].square().mean()) == pytest.approx(2 / sum(fans), rel=0.03)
        assert float(normal[name].mean()) == pytest.approx(math.sqrt(2 / math.pi) * math.sqrt(2 / sum(fans)), rel=0.03)
        assert float(normal[name].min()) > 0


def test_each_parameter_may_have_its_own():
    start = {"1.weight": 0.5, "1.bias": "xavier", "3.weight": "frazier_logue_2018", "3.bias": 0.0}
    found = initial_sigma(start, mlp(), 4)
    assert torch.equal(found["1.weight"], torch.full((7, 64), 0.5))
    assert torch.equal(found["1.bias"], initial_sigma("xavier", mlp(), 4)["1.bias"])
    assert torch.equal(found["3.weight"], initial_sigma("frazier_logue_2018", mlp(), 4)["3.weight"])
    assert float(found["3.bias"].sum()) == 0


# ---- watching


@pytest.mark.parametrize(
    "method",
    [
        SDR(epochs=4, batch_size=16),
        SDR(variance="learnable", epochs=4, batch_size=16),
        SGD(decay=False, epochs=4, batch_size=16),
        SVI(decay=False, epochs=4, batch_size=16, kl_weight=0.0),
        DropConnect(decay=False, epochs=4, batch_size=16),
    ],
    ids=["decay", "learnable", "SGD", "SVI", "DropConnect"],
)
def test_an_epoch_that_is_watched_is_the_end_of_a_shorter_run(method):
    dataset, seen = digits(), {}

    def watch(epoch, post):
        torch.rand(3)  # what a watcher draws is its own affair
        seen[epoch] = post
        return {"epoch": epoch}

    watched = method.fit(small_cnn(), dataset, seed=1, each_epoch=watch)
    alone = method.fit(small_cnn(), dataset, seed=1)
    shorter = type(method)(**{**vars(method), "epochs": 2}).fit(small_cnn(), dataset, seed=1)
    assert sorted(seen) == [1, 2, 3, 4]
    assert watched.info["epochs"] == [{"epoch": epoch} for epoch in (1, 2, 3, 4)]
    assert "epochs" not in alone.info
    assert torch.equal(bits(watched), bits(alone))
    assert torch.equal(bits(seen[4]), bits(watched))
    assert torch.equal(bits(seen[2]), bits(shorter))
    x = dataset.x_test
    assert torch.equal(seen[2].logits(x, seed=0), shorter.logits(x, seed=0))  # batch statistics, too
    assert not torch.equal(bits(seen[1]), bits(seen[2]))


def test_chains_have_no_epochs():
    with pytest.raises(InputError, match="each_epoch with HMC"):
        HMC().fit(BayesianNetwork(mlp()), digits(), each_epoch=lambda epoch, post: None)


# ---- bad input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"variance": "fixed"}, UnknownNameError, "variance"),
        ({"growth": "never"}, UnknownNameError, "growth"),
        ({"beta": -0.1}, InputError, "beta is -0.1"),
        ({"zeta": 1.5}, InputError, "zeta is 1.5"),
        ({"decays_per_epoch": -1}, InputError, "decays_per_epoch is -1"),
        ({"initial_sigma": -1.0}, InputError, "initial_sigma is -1.0"),
        ({"initial_sigma": "xaver"}, UnknownNameError, "xavier"),
        ({"initial_sigma": 0.0, "variance": "learnable"}, InputError, "learned by its logarithm"),
        ({"kl_weight": 0.5}, InputError, "sigma follows a rule"),
        ({"kl_weight": -1.0, "variance": "learnable"}, InputError, "kl_weight is -1.0"),
        ({"epochs": None}, InputError, "epochs is None"),
        ({"predict": "modes"}, UnknownNameError, "predict"),
        ({"num_draws": 0}, InputError, "num_draws is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        SDR(**settings)


def test_sigma_of_unknown_parameters_is_refused():
    with pytest.raises(InputError, match="initial_sigma names"):
        SDR(initial_sigma={"0.weight": 0.1}).fit(mlp(), digits())


def test_divergence_needs_a_prior():
    with pytest.raises(InputError, match="A posterior needs a prior"):
        SDR(variance="learnable", kl_weight=1.0, epochs=1).fit(mlp(), digits())
