from __future__ import annotations

import math

import pytest
import torch

from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import LIKELIHOODS, Categorical, Normal
from bayesrob.models.likelihoods import likelihood_from
from tests.nets.helpers import random_inputs

CASES = {
    "categorical": (Categorical(), torch.tensor([0, 2, 1, 1, 0])),
    "normal": (Normal(0.3), random_inputs(5, 3, seed=3)),
}
OUTPUTS = 3 * random_inputs(4, 5, 3)


def test_every_likelihood_has_a_case():
    assert LIKELIHOODS.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_log_prob_is_pyros(name):
    likelihood, y = CASES[name]
    expected = torch.stack([likelihood.distribution(outputs).log_prob(y) for outputs in OUTPUTS])
    torch.testing.assert_close(likelihood.log_prob(OUTPUTS, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_total_is_the_sum_in_float64(name):
    likelihood, y = CASES[name]
    total = likelihood.total(OUTPUTS[0].float(), y.float() if y.is_floating_point() else y)
    assert total.dtype == torch.float64
    assert float(total) == pytest.approx(float(likelihood.log_prob(OUTPUTS[0], y).sum()), rel=1e-6)


@pytest.mark.parametrize("outputs", [2, 3, 5])
@pytest.mark.parametrize("name", CASES)
def test_total_and_score_together_are_log_probs_sum_and_derivative(name, outputs):
    """Of confident networks too: at a margin of 60 one class's probability is 1 to float64."""
    likelihood = CASES[name][0]
    for scale in (1.0, 60.0):
        leaf = (scale * random_inputs(4, 5, outputs)).requires_grad_()
        y = random_inputs(5, outputs, seed=3) if name == "normal" else torch.arange(5) % outputs
        value = likelihood.log_prob(leaf, y)
        (derivative,) = torch.autograd.grad(value.sum(), leaf)
        code = likelihood.encode(y, outputs, leaf.detach())
        total, score = likelihood.total_and_score(leaf.detach().mT.contiguous().mT, y, code)
        assert total.dtype == torch.float64
        torch.testing.assert_close(total, value.sum(-1).detach(), rtol=1e-12, atol=1e-300)
        torch.testing.assert_close(score, derivative, rtol=1e-10, atol=1e-300)
        torch.testing.assert_close(likelihood.score(leaf.detach(), code), derivative, rtol=1e-10, atol=1e-300)


def test_predictive_of_classes_is_the_log_of_the_mean_probability():
    expected = OUTPUTS.softmax(-1).mean(0).log()
    torch.testing.assert_close(Categorical().predictive(OUTPUTS), expected, rtol=1e-12, atol=1e-13)


def test_predictive_of_regression_is_the_mean():
    assert torch.equal(Normal(0.3).predictive(OUTPUTS), OUTPUTS.mean(0))


def test_a_normal_density_by_hand():
    value = Normal(0.5).log_prob(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[1.5, 2.0]]))
    assert float(value) == pytest.approx(-0.5 - 2 * math.log(0.5 * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize("name", CASES)
def test_specification_round_trip(name):
    likelihood, _ = CASES[name]
    assert likelihood_from(likelihood.spec()) == likelihood


def test_unknown_likelihood():
    with pytest.raises(UnknownNameError, match="Did you mean 'normal'"):
        likelihood_from({"name": "norma"})


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_noise_scale_must_be_positive(scale):
    with pytest.raises(InputError, match="noise_scale"):
        Normal(scale)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0.0, 1.0]), "torch.float32"),
        (torch.tensor([0, 1], dtype=torch.int32), "torch.int32"),
        (torch.tensor([[0], [1]]), r"shape \(2, 1\)"),
        (torch.tensor([0, 3]), "from 0 to 3"),
        (torch.tensor([-1, 2]), "from -1 to 2"),
    ],
)
def test_bad_classes(labels, message):
    with pytest.raises(InputError, match=message):
        Categorical().check_labels(labels, 3)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1]), "torch.int64"),
        (torch.tensor([0.0, 1.0]), r"\[batch, 1\]"),
        (torch.zeros(2, 3), r"shape \(2, 3\)"),
        (torch.tensor([[0.0], [math.nan]]), "NaN"),
        (torch.tensor([[0.0], [math.inf]]), "infinity"),
    ],
)
def test_bad_targets(targets, message):
    with pytest.raises(InputError, match=message):
        Normal().check_labels(targets, 1)


def test_good_labels_pass():
    Categorical().check_labels(torch.tensor([0, 2]), 3)
    Categorical().check_labels(torch.tensor([7]), None)
    Categorical().check_labels(torch.zeros(0, dtype=torch.int64), 3)
    Normal().check_labels(torch.zeros(4, 2), 2)
