"""Adv-BNN: its divergence in closed form, and what it is a case of."""

from __future__ import annotations

import pytest
import torch

from bayesrob import nets
from bayesrob.attacks import FGSM, PGD
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import SVI, AdvBNN
from bayesrob.inference.training import Points, train
from bayesrob.inference.training.defence import Adversary
from bayesrob.models import BayesianNetwork, Categorical
from bayesrob.nets import initialise
from tests.inference.defences import bits, digits, mlp

ATTACK = FGSM(eps=0.1)


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
    inner = svi.learner_from(start, model, Categorical(), dataset, seed=2)
    adversary = Adversary(inner, attack, clean_weight=0.0, seed=2)
    points = Points.of(dataset, like=adversary.parameters[0])
    post = train(adversary, svi.schedule(len(dataset.x_train)), points, seed=2).predictive
    assert torch.equal(bits(adv), bits(post))
    assert adv.num_draws == 50


def test_adv_bnn_from_a_wide_prior_is_warned_of():
    with pytest.warns(ConvergenceWarning, match=r"up to 1: noise.*prior_scale=0.1"):
        AdvBNN(FGSM(eps=0.1), epochs=1).fit(BayesianNetwork(mlp()), digits())


def test_adv_bnn_needs_a_prior():
    with pytest.raises(InputError, match="AdvBNN got a plain"):
        AdvBNN(ATTACK).fit(mlp(), digits())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdvBNN(ATTACK, alpha=-1), "alpha is -1"),
        (lambda: AdvBNN(ATTACK, initial_scale=0), "initial_scale is 0"),
        (lambda: AdvBNN(ATTACK, epochs=0), "epochs is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
