"""Adversarial training that gets the attack's first gradient from the clean loss's backward pass."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import BIM, BV, FGSM, PGD, TargetedFGSM
from bayesrob.inference import (
    SGD,
    AdversarialTraining,
)
from bayesrob.inference.training import defence
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws
from tests.inference.defences import bits, digits, mlp, normalised


def separately(monkeypatch) -> None:
    monkeypatch.setattr(defence, "same_in_both_modes", lambda net: False)


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
