"""Trained defences against closed forms, plain training, and what they must do for a network."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

from bayesrob import data, nets, rng
from bayesrob.attacks import BIM, BV, FGSM, PGD, DeepFool, TargetedFGSM
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import (
    SDR,
    SGD,
    SVI,
    TRADES,
    AdvBNN,
    AdversarialTraining,
    DefensiveDistillation,
    DropConnect,
    Ensemble,
    MCDropout,
    adversarial_training,
    fit_once,
    hardening,
)
from bayesrob.inference.defensive_distillation import Softened
from bayesrob.inference.hardening import LiveNetwork
from bayesrob.inference.trades import _Away, _Smoothing, divergence
from bayesrob.models import BayesianNetwork, Categorical, Normal
from bayesrob.nets import initialise
from bayesrob.predictive import HeldDraws, from_modules

# ---- data and networks


def digits(n_train: int = 60, n_test: int = 20):
    return data.load("digits", n_train=n_train, n_test=n_test, seed=0)


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nets.mlp(64, (7,), 10).to(dtype)


def normalised() -> nn.Module:
    """With batch normalisation, the statistics of which are gathered while training, and dropout."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 10))


def two_classes(n: int = 200, d: int = 5):
    """Overlapping, so that the best weights are finite; the last feature says nothing."""
    g = rng.generator(0, "tests", "defences")
    y = torch.arange(n) % 2
    centre = torch.tensor([1.0, 0.7, -0.5, 0.3, 0.0])[:d]
    x = (2 * y[:, None] - 1) * centre + 1.5 * torch.randn(n, d, generator=g)
    return data.from_arrays(x, y, x[:10], y[:10], num_classes=2)


def bits(post) -> Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(post.contents()[0].items())])


# ---- the min-max problem on linear classifiers


def robust_logistic(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """min over w, b of mean log(1 + exp(-(y (w x + b) - eps ||w||_1))) with y = +-1: convex, by w = p - q, p, q >= 0."""
    n, d = x.shape

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        p, q, b = theta[:d], theta[d : 2 * d], theta[-1]
        margin = y * (x @ (p - q) + b) - eps * (p + q).sum()
        slope = -1 / (1 + np.exp(margin)) / n
        by_w, by_norm = x.T @ (slope * y), -eps * slope.sum()
        return float(np.logaddexp(0, -margin).mean()), np.concatenate([by_w + by_norm, by_norm - by_w, [(slope * y).sum()]])

    bounds = [(0, None)] * (2 * d) + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
    found = scipy.optimize.minimize(value_and_gradient, np.full(2 * d + 1, 0.1), jac=True, bounds=bounds, options=options)
    return np.concatenate([found.x[:d] - found.x[d : 2 * d], found.x[-1:]])


@pytest.mark.parametrize("attack", [FGSM(eps=0.3), PGD(eps=0.3, steps=2)])
def test_on_a_linear_classifier_it_is_logistic_loss_with_margin_minus_eps_l1_norm(attack):
    dataset = two_classes()
    base = SGD(epochs=400, batch_size=len(dataset.x_train), lr=0.05)
    post = AdversarialTraining(attack, base).fit(nets.mlp(5, (), 2), dataset)
    weight, bias = post.weights["1.weight"][0].double(), post.weights["1.bias"][0].double()
    found = torch.cat([weight[1] - weight[0], (bias[1] - bias[0])[None]]).numpy()
    x, y = dataset.x_train.double().numpy(), 2 * dataset.y_train.numpy() - 1
    expected, plain = robust_logistic(x, y, 0.3), robust_logistic(x, y, 0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
    assert np.abs(expected - plain).max() > 0.1  # and not what plain training finds
    assert abs(expected[4]) < 1e-6 < 0.01 < abs(plain[4])  # the useless feature is given up


@pytest.mark.parametrize(("norm", "dual"), [("l_inf", 1), ("l_2", 2)])
@pytest.mark.parametrize("clean_weight", [0.0, 0.3])
def test_a_step_goes_down_the_gradient_of_the_inner_maximum(norm, dual, clean_weight):
    """Danskin: the closed form differentiated by autograd, in float64."""
    dataset = two_classes(40)
    net = initialise(nets.mlp(5, (), 2).double(), 3, "sgd")
    x, y = dataset.x_train.double(), dataset.y_train
    out = net(x)
    w = net[1].weight
    sign = 2.0 * y - 1
    shift = 0.3 * (w[1] - w[0]).norm(p=dual)
    losses = [nn.functional.softplus(-(sign * (out[:, 1] - out[:, 0]) - s)).mean() for s in (0.0, shift)]
    expected = torch.autograd.grad(clean_weight * losses[0] + (1 - clean_weight) * losses[1], list(net.parameters()))
    base = SGD(epochs=1, batch_size=40, lr=1e-3, optimizer="sgd", decay=False)
    post = AdversarialTraining(FGSM(eps=0.3, norm=norm), base, clean_weight).fit(
        nets.mlp(5, (), 2).double(), dataset, seed=3
    )
    for (name, start), gradient in zip(net.named_parameters(), expected, strict=True):
        moved = (start.detach() - post.weights[name][0]) / 1e-3
        torch.testing.assert_close(moved, gradient, rtol=1e-9, atol=1e-11)


# ---- what it is a case of

BASES = {
    "SGD": SGD(epochs=3, batch_size=16),
    "SVI": SVI(epochs=3, batch_size=16),
    "SVI shared": SVI(epochs=3, batch_size=16, estimator="shared_draw"),
    "SVI low rank": SVI(epochs=3, batch_size=16, guide="low_rank", rank=2),
    "SDR": SDR(epochs=3, batch_size=16),
    "SDR learnable": SDR(epochs=3, batch_size=16, variance="learnable"),
    "MCDropout": MCDropout(epochs=3, batch_size=16),
    "DropConnect": DropConnect(epochs=3, batch_size=16),
}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("attack", [FGSM(eps=0.0), PGD(eps=0.0, steps=2)], ids=["FGSM", "PGD"])
def test_a_ball_of_radius_zero_is_plain_training(base, attack):
    dataset, model = digits(), BayesianNetwork(mlp())
    assert torch.equal(
        bits(AdversarialTraining(attack, base).fit(model, dataset, seed=2)), bits(base.fit(model, dataset, 2))
    )


@pytest.mark.parametrize("name", ["SGD", "SDR"])
def test_parts_of_a_mixed_loss_are_of_the_same_draw(name):
    """At radius zero they are equal, so that any weights of them give plain training, to rounding."""
    dataset = digits()
    mixed = AdversarialTraining(BIM(eps=0.0, steps=2), BASES[name], 0.3).fit(mlp(), dataset, seed=2)
    torch.testing.assert_close(bits(mixed), bits(BASES[name].fit(mlp(), dataset, seed=2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [mlp(), normalised()], ids=["mlp", "batch norm, dropout"])
def test_clean_weight_one_and_beta_zero_are_plain_training(net):
    dataset, base = digits(), SGD(epochs=3, batch_size=16)
    plain = base.fit(net, dataset, seed=2)
    assert torch.equal(bits(AdversarialTraining(FGSM(eps=0.1), base, 1.0).fit(net, dataset, seed=2)), bits(plain))
    assert torch.equal(bits(DefensiveDistillation(1.0, base, labels="hard").fit(net, dataset, seed=2)), bits(plain))


@pytest.mark.parametrize("net", [mlp(), BayesianNetwork(mlp())], ids=["plain", "prior"])
def test_trades_without_its_divergence_is_sgd_bit_for_bit(net):
    dataset, base = digits(), SGD(epochs=3, batch_size=16)
    trades, plain = TRADES(beta=0.0, base=base).fit(net, dataset, seed=2), base.fit(net, dataset, seed=2)
    assert torch.equal(bits(trades), bits(plain))
    assert trades.info["losses"] == plain.info["losses"]
    assert not torch.equal(bits(TRADES(beta=0.1, base=base).fit(net, dataset, seed=2)), bits(plain))


# ---- what the attack sees


@dataclasses.dataclass(frozen=True)
class Watching:
    """No attack: keeps what the live predictive says at each step."""

    x: Tensor
    seen: list = dataclasses.field(default_factory=list)

    def settings(self):
        return {"attack": "Watching"}

    def __call__(self, predictive, x, y, seed=0):
        self.seen.append((seed, predictive.num_draws, predictive.logits(self.x, None, 11)))
        return x


LIVE = {**BASES, "SGD batch norm": BASES["SGD"], "MCDropout batch norm": BASES["MCDropout"]}


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_the_attack_sees_the_networks_as_they_are_trained_now(name, clean_weight):
    """One step an epoch: what step t attacks is what training would end with after step t - 1."""
    dataset = digits(30)
    base = dataclasses.replace(LIVE[name], epochs=4, batch_size=30)
    if isinstance(base, SDR):
        base = dataclasses.replace(base, predict="draws")
    net = normalised() if "norm" in name else mlp()
    model = net if "norm" in name else BayesianNetwork(net)
    attack, after = Watching(dataset.x_test), []
    x = dataset.x_test
    AdversarialTraining(attack, base, clean_weight).fit(
        model, dataset, seed=5, each_epoch=lambda epoch, post: after.append(post.logits(x, 1, 11))
    )
    seeds, numbers, live = zip(*attack.seen, strict=True)
    assert len(set(seeds)) == 4
    assert set(numbers) == {1}
    for now, before in zip(live[1:], after[:-1], strict=True):
        torch.testing.assert_close(now, before, rtol=1e-6, atol=1e-6)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(after))


def test_random_networks_are_drawn_anew_at_every_look(monkeypatch):
    seeds = []
    inner = hardening.HeldDraws.__mro__[1]._stream

    def spy(self, x, num_draws, seed, *arguments):
        seeds.append((num_draws, seed))
        return inner(self, x, num_draws, seed, *arguments)

    monkeypatch.setattr(hardening.HeldDraws.__mro__[1], "_stream", spy)
    for attack, looks in ((PGD(eps=0.1, steps=3), 3), (PGD(eps=0.1, steps=3, draws="held"), 1)):
        seeds.clear()
        base = SVI(epochs=2, batch_size=30)
        AdversarialTraining(attack, base).fit(BayesianNetwork(mlp()), digits(30))
        assert len(seeds) == 6
        assert len(set(seeds)) == 2 * looks
    seeds.clear()
    AdversarialTraining(PGD(eps=0.1, steps=1, num_draws=4), base).fit(BayesianNetwork(mlp()), digits(30))
    assert {number for number, _ in seeds} == {4}


def test_rounded_weights_are_not_kept_from_step_to_step():
    net, x, y = mlp(), digits().x_train[:5], digits().y_train[:5]
    live = LiveNetwork(net, input_shape=(1, 8, 8))
    live.now().input_gradient(x, y, precision="bf16")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    expected = from_modules([net.eval()]).input_gradient(x, y, precision="bf16")
    assert torch.equal(live.now().input_gradient(x, y, precision="bf16"), expected)


# ---- one backward pass for both gradients


def separately(monkeypatch) -> None:
    monkeypatch.setattr(adversarial_training, "alike_in_both_modes", lambda net: False)


@pytest.mark.parametrize("attack", [FGSM(eps=0.1), BV(eps=0.5, clip=True), BIM(eps=0.1, steps=3)], ids=["FGSM", "BV", "BIM"])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "prior"])
def test_the_combined_backward_equals_two_separate_ones(attack, wrap, monkeypatch):
    net = mlp(torch.float64)
    model = BayesianNetwork(net) if wrap else net
    method = AdversarialTraining(attack, SGD(epochs=4, batch_size=16), clean_weight=0.3)
    looks = []
    inner = HeldDraws.input_gradient

    def spy(self, *arguments, **options):
        looks.append(1)
        return inner(self, *arguments, **options)

    monkeypatch.setattr(HeldDraws, "input_gradient", spy)
    together = method.fit(model, digits(), seed=1)
    combined = len(looks)
    separately(monkeypatch)
    apart = method.fit(model, digits(), seed=1)
    steps = 4 * 4
    assert len(looks) - combined == steps * getattr(attack, "steps", 1)
    assert combined == steps * (getattr(attack, "steps", 1) - 1)  # the first of each step's came along
    for name, tensor in apart.weights.items():
        torch.testing.assert_close(together.weights[name], tensor, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(together.info["losses"], apart.info["losses"], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("net", "attack"),
    [
        (normalised(), FGSM(eps=0.1)),
        (mlp(), PGD(eps=0.1, steps=2)),
        (mlp(), FGSM(eps=0.1, label="predicted")),
        (mlp(), FGSM(eps=0.1, objective="margin")),
        (mlp(), FGSM(eps=0.1, skip_misclassified=True)),
        (mlp(), TargetedFGSM(eps=0.1, target=3)),
        (mlp(), BV(eps=0.5, objective="double_softmax")),
    ],
    ids=["batch norm, dropout", "random start", "predicted label", "margin", "skip", "target", "double softmax"],
)
def test_gradients_that_are_no_part_of_the_clean_backward_are_taken_apart(net, attack, monkeypatch):
    method = AdversarialTraining(attack, SGD(epochs=2, batch_size=16), clean_weight=0.5)
    together = method.fit(net, digits(), seed=1)
    separately(monkeypatch)
    torch.testing.assert_close(bits(together), bits(method.fit(net, digits(), seed=1)), rtol=1e-4, atol=1e-5)


# ---- Adv-BNN


@pytest.mark.parametrize("prior", [0.1, "fan_in"])
def test_the_divergence_of_adv_bnn_is_the_sum_over_all_layers(prior):
    dataset = digits()
    net = nets.mlp(64, (7, 5), 10).double()
    model = BayesianNetwork(net, prior_scale=prior).double()
    losses = {}
    for alpha in (0.0, 0.25, 1.0):
        method = AdvBNN(FGSM(eps=0.1), alpha=alpha, epochs=1, batch_size=60, initial_scale=0.05)
        losses[alpha] = method.fit(model, dataset, seed=4).info["losses"][0]
    divergences = {}
    for name, loc in initialise(model.net, 4, "svi").named_parameters():
        scale = prior if prior != "fan_in" else (loc.shape[1] ** -0.5 if loc.ndim > 1 else 1.0)
        q, p = (
            torch.distributions.Normal(mean, torch.full_like(loc, s)) for mean, s in ((loc.detach(), 0.05), (0 * loc, scale))
        )
        divergences[name] = float(torch.distributions.kl_divergence(q, p).sum())
    first = sum(divergences.values())
    assert len(divergences) == 6
    assert min(divergences.values()) > 1e-3 * first
    for alpha in (0.25, 1.0):
        assert (losses[alpha] - losses[0.0]) * 60 == pytest.approx(alpha * first, rel=1e-8)


def test_adv_bnn_is_adversarial_training_of_svi():
    dataset, model = digits(), BayesianNetwork(mlp(), prior_scale=0.1)
    attack = PGD(eps=0.1, steps=2)
    adv = AdvBNN(attack, alpha=0.5, epochs=3, batch_size=16).fit(model, dataset, seed=2)
    svi = SVI(3, 0.01, 16, "shared_draw", num_draws=50, kl_weight=0.5, mirrored=False)
    assert AdvBNN(attack, alpha=0.5, epochs=3, batch_size=16).as_svi() == svi
    start = {name: torch.full_like(p, 0.1) for name, p in model.net.named_parameters()}
    adversary = adversarial_training.Adversary("test", attack, 0.0, 2)
    post, _, _ = svi._run(model, Categorical(), dataset, 2, None, start, adversary)
    assert torch.equal(bits(adv), bits(post))
    assert adv.num_draws == 50


def test_adv_bnn_from_a_wide_prior_is_warned_of():
    with pytest.warns(ConvergenceWarning, match=r"up to 1: noise.*prior_scale=0.1"):
        AdvBNN(FGSM(eps=0.1), epochs=1).fit(BayesianNetwork(mlp()), digits())


# ---- TRADES


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


def test_on_a_linear_classifier_trades_finds_an_end_of_the_ball():
    """The divergence is convex in the shift of the margin, so it is largest at +-eps sign(w)."""
    dataset = two_classes()
    net = nets.mlp(5, (), 2).double()
    post = LiveNetwork(net, bounds=None)
    settings, x = TRADES(eps=0.3, steps=10), dataset.x_train.double()
    smoothing = _Smoothing(settings, Categorical(), None, 0)
    moved = smoothing.furthest(post, x, dataset.y_train)
    w = (net[1].weight[1] - net[1].weight[0]).detach()
    ends = torch.stack([x + 0.3 * s * w.sign() for s in (-1, 1)])
    assert (ends - moved).abs().flatten(2).amax(-1).amin(0).max() < 1e-9
    found = divergence(Categorical(), net(x), net(moved))
    best = torch.stack([divergence(Categorical(), net(x), net(end)) for end in ends]).amax(0)
    assert (found >= 0.5 * best).all()  # either end, by where the noise began; mostly the larger one
    smoothing.bounds = (float(x.min()), float(x.max()))
    assert float(smoothing.furthest(post, x, dataset.y_train).max()) <= float(x.max())


def test_a_step_of_trades_goes_down_its_loss():
    dataset = digits(40)
    net = initialise(mlp(torch.float64), 3, "sgd")
    x, y = dataset.x_train.double(), dataset.y_train
    moved = _Smoothing(TRADES(eps=0.1, steps=2), Categorical(), (0.0, 1.0), 3).furthest(
        LiveNetwork(net, bounds=(0.0, 1.0)), x, y
    )
    p, log_p, log_q = net(x).softmax(-1), net(x).log_softmax(-1), net(moved).log_softmax(-1)
    value = nn.functional.cross_entropy(net(x), y) + 2.5 * (p * (log_p - log_q)).sum(-1).mean()
    expected = torch.autograd.grad(value, list(net.parameters()))
    base = SGD(epochs=1, batch_size=40, lr=1e-3, optimizer="sgd", decay=False)
    post = TRADES(beta=2.5, eps=0.1, steps=2, base=base).fit(mlp(torch.float64), dataset, seed=3)
    for (name, start), gradient in zip(net.named_parameters(), expected, strict=True):
        moved = (start.detach() - post.weights[name][0]) / 1e-3
        torch.testing.assert_close(moved, gradient, rtol=1e-8, atol=1e-10)


# ---- defensive distillation


def test_soft_labels_that_are_hard_are_classes():
    g = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(6, 4, generator=g).double(), torch.tensor([0, 3, 1, 1, 2, 0])
    one_hot = nn.functional.one_hot(y, 4).double()
    for temperature in (1.0, 7.0):
        expected = -nn.functional.cross_entropy(outputs / temperature, y, reduction="sum")
        torch.testing.assert_close(Softened(temperature).total(outputs, one_hot), expected)
        torch.testing.assert_close(Softened(temperature).total(outputs, y), expected)
    soft = (outputs / 3).softmax(-1)
    entropy = -(soft * soft.log()).sum()
    torch.testing.assert_close(Softened(3.0).total(outputs, soft), -entropy)  # a student that is its teacher


def test_a_linear_student_finds_its_teacher():
    dataset = two_classes()
    base = SGD(epochs=1500, batch_size=len(dataset.x_train), lr=0.1)
    net, temperature = nets.mlp(5, (), 2), 5.0
    student = DefensiveDistillation(temperature, base).fit(net, dataset, seed=1)
    short = SGD(epochs=1500, batch_size=len(dataset.x_train), lr=0.1)
    teacher, _, _ = short._run(net, Softened(temperature), dataset, rng.derive(1, "teacher"))
    difference = [(post.logits(dataset.x_train)[0] / temperature).softmax(-1) for post in (student, teacher)]
    assert float((difference[0] - difference[1]).abs().max()) < 2e-3
    assert student.likelihood == Categorical()
    # At temperature 1 the logits are T times those of the best classifier.
    plain = robust_logistic(dataset.x_train.double().numpy(), 2 * dataset.y_train.numpy() - 1, 0.0)
    weight = student.weights["1.weight"][0].double()
    np.testing.assert_allclose((weight[1] - weight[0]).numpy(), temperature * plain[:-1], rtol=0, atol=0.05)


def test_the_teacher_is_another_network_and_recorded():
    post = DefensiveDistillation(2.0, SGD(epochs=2, batch_size=16)).fit(mlp(), digits())
    assert post.info["teacher"]["losses"] != post.info["losses"]
    seen = []
    method = DefensiveDistillation(2.0, SGD(epochs=3, batch_size=16))
    watched = method.fit(mlp(), digits(), each_epoch=lambda epoch, p: seen.append((epoch, p.likelihood, bits(p))))
    assert [(epoch, likelihood) for epoch, likelihood, _ in seen] == [(i, Categorical()) for i in (1, 2, 3)]
    assert torch.equal(seen[-1][2], bits(watched))


# ---- what they are for


def test_networks_trained_to_resist_keep_more_under_pgd():
    dataset = digits(1200, 400)
    base, net = SGD(epochs=20, lr=5e-3), nets.mlp(64, (48,), 10)
    attack = PGD(eps=0.15, steps=20)
    methods = {
        "plain": base,
        "adversarial": AdversarialTraining(PGD(eps=0.15, steps=5), base),
        "mixed": AdversarialTraining(FGSM(eps=0.15), base, clean_weight=0.5),
        "trades": TRADES(eps=0.15, steps=5, base=base),
    }
    x, y = dataset.x_test, dataset.y_test
    robust, clean = {}, {}
    for name, method in methods.items():
        post = method.fit(net, dataset)
        clean[name] = float((post(x).argmax(-1) == y).float().mean())
        robust[name] = float((post(attack(post, x, y)).argmax(-1) == y).float().mean())
    error = math.sqrt(0.25 / len(x))  # at most, of each
    for name in ("adversarial", "mixed", "trades"):
        assert robust[name] > robust["plain"] + 8 * error
        assert clean[name] > 0.85


def test_members_of_an_ensemble_may_be_trained_so():
    base = AdversarialTraining(FGSM(eps=0.1), SGD(epochs=2, batch_size=16))
    post = Ensemble(size=2, base=base).fit(mlp(), digits(), seed=3)
    alone = base.fit(mlp(), digits(), seed=Ensemble.member_seed(3, 1))
    assert torch.equal(post.weights["1.weight"][1], alone.weights["1.weight"][0])


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
@pytest.mark.parametrize(
    "base", [SGD(epochs=30, lr=1e38, batch_size=16), SVI(epochs=30, lr=1e30, batch_size=16)], ids=["SGD", "SVI"]
)
def test_training_that_diverges_ends_with_a_warning(base, clean_weight):
    with pytest.warns(ConvergenceWarning, match="last finite"):
        post = AdversarialTraining(PGD(eps=0.1, steps=2), base, clean_weight).fit(BayesianNetwork(mlp()), digits())
    assert bits(post).isfinite().all()


def test_trades_that_diverges_ends_with_a_warning():
    with pytest.warns(ConvergenceWarning, match="last finite"):
        post = TRADES(base=SGD(epochs=30, lr=1e38, batch_size=16)).fit(mlp(), digits())
    assert bits(post).isfinite().all()


def test_fits_with_other_attacks_are_other_fits(tmp_path):
    def fit(attack, base=None):
        base = SGD(epochs=1, batch_size=30) if base is None else base
        return fit_once(AdversarialTraining(attack, base), mlp(), digits(30), tmp_path)

    first = fit(FGSM(eps=0.1, target=3))
    assert torch.equal(bits(fit(FGSM(eps=0.1, target=3))), bits(first))
    assert len(list(tmp_path.iterdir())) == 1
    fit(TargetedFGSM(eps=0.1, target=3))  # the same fields
    fit(FGSM(eps=0.2, target=3))
    fit(FGSM(eps=0.1, target=3), MCDropout(epochs=1, batch_size=30))
    assert len(list(tmp_path.iterdir())) == 4


# ---- bad input

ATTACK = FGSM(eps=0.1)


@pytest.mark.parametrize("make", [AdversarialTraining, AdvBNN], ids=["AdversarialTraining", "AdvBNN"])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (DeepFool(), "DeepFool has no ball"),
        (FGSM, "attack is FGSM"),
        ("fgsm", "attack is str"),
        (None, "attack is NoneType"),
        (FGSM(eps=0.1, target="given"), 'target="given"'),
    ],
    ids=["minimal", "class", "name", "none", "given"],
)
def test_what_is_no_attack_with_a_ball_is_refused(make, attack, message):
    with pytest.raises(InputError, match=message):
        make(attack)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: AdversarialTraining(ATTACK, clean_weight=-0.1), InputError, "clean_weight is -0.1"),
        (lambda: AdversarialTraining(ATTACK, clean_weight=1.5), InputError, "clean_weight is 1.5"),
        (lambda: AdversarialTraining(ATTACK, clean_weight=math.nan), InputError, "clean_weight is nan"),
        (lambda: AdversarialTraining(ATTACK, base=Ensemble()), InputError, r"Ensemble\(base=AdversarialTraining"),
        (lambda: AdversarialTraining(ATTACK, base=AdversarialTraining(ATTACK)), InputError, "base is AdversarialTraining"),
        (lambda: AdvBNN(ATTACK, alpha=-1), InputError, "alpha is -1"),
        (lambda: AdvBNN(ATTACK, initial_scale=0), InputError, "initial_scale is 0"),
        (lambda: AdvBNN(ATTACK, epochs=0), InputError, "epochs is 0"),
        (lambda: TRADES(beta=-1), InputError, "beta is -1"),
        (lambda: TRADES(eps=-0.1), InputError, "eps is -0.1"),
        (lambda: TRADES(steps=0), InputError, "steps is 0"),
        (lambda: TRADES(step_size=0), InputError, "step_size is 0"),
        (lambda: TRADES(base=SVI()), InputError, "TRADES compares two outputs of one network"),
        (lambda: DefensiveDistillation(temperature=0), InputError, "temperature is 0"),
        (lambda: DefensiveDistillation(temperature=-3.0), InputError, r"temperature is -3\.0"),
        (lambda: DefensiveDistillation(temperature=math.inf), InputError, "temperature is inf"),
        (lambda: DefensiveDistillation(base=SVI()), InputError, "one network each"),
        (lambda: DefensiveDistillation(labels="firm"), UnknownNameError, "labels"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda **eps: AdversarialTraining(FGSM(**eps)),
        lambda **eps: AdvBNN(PGD(**eps)),
        lambda **eps: TRADES(**eps),
    ],
    ids=["AdversarialTraining", "AdvBNN", "TRADES"],
)
def test_a_ball_beyond_the_bounds_is_refused_before_any_work(make):
    with pytest.raises(InputError, match=r"eps is 1.5, the bounds are \(0.0, 1.0\)"):
        make(eps=1.5).fit(BayesianNetwork(mlp()), digits())


def test_how_far_bounds_reach_depends_on_the_norm():
    short = SGD(epochs=1)
    AdversarialTraining(PGD(eps=7.9, norm="l_2", steps=1), short).fit(mlp(), digits())  # the cube's diagonal is 8
    with pytest.raises(InputError, match="l_2 diameter 8"):
        AdversarialTraining(PGD(eps=8.1, norm="l_2", steps=1), short).fit(mlp(), digits())
    AdversarialTraining(FGSM(eps=50.0), short).fit(nets.mlp(5, (), 2), two_classes())  # no bounds: room enough
    AdversarialTraining(BV(eps=50.0, clip=True), short).fit(mlp(), digits())  # no radius


def test_adv_bnn_needs_a_prior():
    with pytest.raises(InputError, match="AdvBNN got a plain"):
        AdvBNN(ATTACK).fit(mlp(), digits())


def test_an_attack_that_fails_for_another_reason_says_so():
    class Failing(Watching):
        def __call__(self, predictive, x, y, seed=0):
            raise InputError("what", "why", "do")

    with pytest.raises(InputError, match="what why do"):
        AdversarialTraining(Failing(digits().x_test), SGD(epochs=1)).fit(mlp(), digits())
