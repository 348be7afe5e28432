"""Adversarial training against closed forms, plain training and what the attack must see."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayesrob import nets
from bayesrob.attacks import BIM, BV, FGSM, PGD, TargetedFGSM
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import (
    SDR,
    SGD,
    SVI,
    AdversarialTraining,
    DropConnect,
    Ensemble,
    MCDropout,
    fit_once,
)
from bayesrob.inference.training.closed_form import ClosedForm
from bayesrob.inference.training.live import LiveNetwork
from bayesrob.models import BayesianNetwork
from bayesrob.nets import initialise
from bayesrob.predictive import HeldDraws, from_modules
from tests.inference.defences import bits, digits, mlp, normalised, robust_logistic, two_classes

ATTACK = FGSM(eps=0.1)

# ---- the min-max problem on linear classifiers


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


@pytest.mark.parametrize("bayesian", [False, True])
def test_the_written_out_gradient_is_autograds(bayesian, monkeypatch):
    """In float64, where the networks go the same way step by step; the attack sees the weights of the step either way."""
    dataset, net = two_classes(60), nets.mlp(5, (7,), 2, activation="tanh").double()
    model = BayesianNetwork(net) if bayesian else net
    method = AdversarialTraining(PGD(eps=0.2, steps=3), SGD(epochs=5, batch_size=20))
    written_out, calls = ClosedForm.loss_at, []
    monkeypatch.setattr(ClosedForm, "loss_at", lambda *given: calls.append(1) or written_out(*given))
    post = method.fit(model, dataset)
    assert len(calls) == post.info["steps"] == 15
    monkeypatch.setattr(ClosedForm, "takes", lambda *_: False)
    by_autograd = method.fit(model, dataset)
    for name, weight in post.weights.items():
        torch.testing.assert_close(weight, by_autograd.weights[name], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(post.info["losses"], by_autograd.info["losses"], rtol=1e-9)


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
    trained, plain = bits(AdversarialTraining(attack, base).fit(model, dataset, seed=2)), bits(base.fit(model, dataset, 2))
    if isinstance(base, SGD):  # which takes its plain steps in closed form, and rounds otherwise
        torch.testing.assert_close(trained, plain, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(trained, plain)


@pytest.mark.parametrize("name", ["SGD", "SDR"])
def test_parts_of_a_mixed_loss_are_of_the_same_draw(name):
    """At radius zero they are equal, so that any weights of them give plain training, to rounding."""
    dataset = digits()
    mixed = AdversarialTraining(BIM(eps=0.0, steps=2), BASES[name], 0.3).fit(mlp(), dataset, seed=2)
    torch.testing.assert_close(bits(mixed), bits(BASES[name].fit(mlp(), dataset, seed=2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [mlp(), normalised()], ids=["mlp", "batch norm, dropout"])
def test_clean_weight_one_is_plain_training(net):
    dataset, base = digits(), SGD(epochs=3, batch_size=16)
    method = AdversarialTraining(FGSM(eps=0.1), base, 1.0)
    # Plain training of the first is in closed form, and rounds otherwise.
    trained, plain = bits(method.fit(net, dataset, seed=2)), bits(base.fit(net, dataset, seed=2))
    torch.testing.assert_close(trained, plain, rtol=1e-4, atol=1e-5)


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
    inner = HeldDraws.__mro__[1]._stream

    def spy(self, x, num_draws, seed, *arguments, **settings):
        seeds.append((num_draws, seed))
        return inner(self, x, num_draws, seed, *arguments, **settings)

    monkeypatch.setattr(HeldDraws.__mro__[1], "_stream", spy)
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


# ---- within other methods


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdversarialTraining(ATTACK, clean_weight=-0.1), "clean_weight is -0.1"),
        (lambda: AdversarialTraining(ATTACK, clean_weight=1.5), "clean_weight is 1.5"),
        (lambda: AdversarialTraining(ATTACK, clean_weight=math.nan), "clean_weight is nan"),
        (lambda: AdversarialTraining(ATTACK, base=Ensemble()), r"Ensemble\(base=AdversarialTraining"),
        (lambda: AdversarialTraining(ATTACK, base=AdversarialTraining(ATTACK)), "base is AdversarialTraining"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_how_far_bounds_reach_depends_on_the_norm():
    short = SGD(epochs=1)
    AdversarialTraining(PGD(eps=7.9, norm="l_2", steps=1), short).fit(mlp(), digits())  # the cube's diagonal is 8
    with pytest.raises(InputError, match="l_2 diameter 8"):
        AdversarialTraining(PGD(eps=8.1, norm="l_2", steps=1), short).fit(mlp(), digits())
    AdversarialTraining(FGSM(eps=50.0), short).fit(nets.mlp(5, (), 2), two_classes())  # no bounds: room enough
    AdversarialTraining(BV(eps=50.0, clip=True), short).fit(mlp(), digits())  # no radius


def test_an_attack_that_fails_for_another_reason_says_so():
    class Failing(Watching):
        def __call__(self, predictive, x, y, seed=0):
            raise InputError("what", "why", "do")

    with pytest.raises(InputError, match="what why do"):
        AdversarialTraining(Failing(digits().x_test), SGD(epochs=1)).fit(mlp(), digits())
