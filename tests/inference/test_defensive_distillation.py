"""Defensive distillation: its loss, a linear student that finds its teacher, and plain training as a case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bayesrob import nets, rng
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.inference import SGD, SVI, DefensiveDistillation
from bayesrob.inference.defensive_distillation import Softened
from bayesrob.models import Categorical
from tests.inference.defences import bits, digits, mlp, normalised, robust_logistic, two_classes


@pytest.mark.parametrize("net", [mlp(), normalised()], ids=["mlp", "batch norm, dropout"])
def test_hard_labels_at_temperature_one_are_plain_training(net):
    dataset, base = digits(), SGD(epochs=3, batch_size=16)
    hard = DefensiveDistillation(1.0, base, labels="hard").fit(net, dataset, seed=2)
    # Plain training of the first is in closed form, and rounds otherwise.
    torch.testing.assert_close(bits(hard), bits(base.fit(net, dataset, seed=2)), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
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
