"""The objective that evades detectors of uncertainty: its bound, its gradient by hand, and that it does what it is for."""

from __future__ import annotations

import math

import pytest
import torch

from bayesrob import nets
from bayesrob.analysis import uncertainty
from bayesrob.attacks import PGD
from bayesrob.predictive import OBJECTIVES, HeldDraws
from tests.nets.helpers import random_inputs, random_weights
from tests.predictive.helpers import data, held

NAME = "confident_error"


def linear(num_draws: int = 20, spread: float = 1.0) -> HeldDraws:
    """Draws of a linear model of three classes in eight dimensions around common weights."""
    net = nets.mlp(8, (), 3)
    common = {name: tensor[0] for name, tensor in random_weights(net, 1).items()}
    weights = {name: 2 * common[name] + spread * tensor for name, tensor in random_weights(net, num_draws, seed=1).items()}
    return HeldDraws(net, weights, input_shape=(8,), out_features=3).double()


def test_the_draws_choose_a_class_together():
    """Each draw would rather have its own: 1 has 0.8 and 0.05, 2 has 0.4 and 0.3. Their mean logarithms say 2."""
    p = torch.tensor([[[0.05, 0.8, 0.15]], [[0.1, 0.05, 0.85]], [[0.3, 0.05, 0.65]]], dtype=torch.float64)
    found = OBJECTIVES[NAME].value(p.log(), torch.tensor([0]), held().likelihood)
    assert float(found) == pytest.approx((math.log(0.15) + math.log(0.85) + math.log(0.65)) / 3)
    other = OBJECTIVES[NAME].value(p.log(), torch.tensor([2]), held().likelihood)
    assert float(other) == pytest.approx((math.log(0.8) + 2 * math.log(0.05)) / 3)


def test_gradient_by_hand():
    """Linear draws: mean_d W_d' (e_c - p_d)."""
    post = linear()
    x, y = random_inputs(6, 8, seed=2), torch.arange(6) % 3
    weight, p = post.weights["1.weight"], post.logits(x).softmax(-1)
    mean = p.log().mean(0).scatter(1, y[:, None], -torch.inf)
    chosen = torch.nn.functional.one_hot(mean.argmax(1), 3).double()
    expected = torch.einsum("dbc,dcf->bf", chosen - p, weight) / post.num_draws
    torch.testing.assert_close(post.input_gradient(x, y, NAME), expected, rtol=1e-11, atol=1e-13)


def test_it_bounds_what_a_detector_sees():
    """With q = exp of the value: pbar_c >= q, entropy <= h(q) + (1 - q) log(K - 1), and mutual information below that."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 400, 4, generator=generator, dtype=torch.float64) * 2
    logits[:, :, 1] += torch.linspace(0, 14, 400, dtype=torch.float64)[:, None].T
    value = OBJECTIVES[NAME].value(logits, torch.zeros(400, dtype=torch.int64), held().likelihood)
    q = value.exp()
    found = uncertainty(logits.log_softmax(-1).numpy())
    bound = -(q * value + (1 - q) * (1 - q).log()) + (1 - q) * math.log(3)
    sure = q >= 0.25
    assert int(sure.sum()) > 200
    assert (torch.from_numpy(found["entropy"].values) <= bound + 1e-12)[sure].all()
    assert (found["mutual_information"] <= found["entropy"] + 1e-12).all()
    assert (logits.softmax(-1).mean(0)[:, 1:].amax(1) >= q - 1e-12).all()
    assert float(bound[-1]) < 0.01  # and it says something


def test_confident_draws_that_are_right_all_pull():
    """Saturated, all right: the averaged prediction's loss is flat in float32, this is not."""
    post = linear()
    for tensor in post.weights.values():
        tensor.mul_(200)
    post.float()
    x = random_inputs(50, 8, seed=2, dtype=torch.float32)
    y = post(x).argmax(1)
    gradient = post.input_gradient(x, y, NAME).norm(dim=1)
    assert (gradient > 1).all()
    assert post.input_gradient(x, y, "double_softmax").norm(dim=1).median() < 1e-3


def test_it_errs_as_often_and_is_surer_of_it():
    post = linear(spread=0.7)
    x = random_inputs(200, 8, seed=3)
    y = post(x).argmax(1)
    settings = {"eps": 1.0, "steps": 20}
    found = {}
    for name in ("margin_per_draw", NAME):
        z = PGD(objective=name, **settings)(post, x, y)
        log_p = post.logits(z).log_softmax(-1)
        found[name] = (post(z).argmax(1) != y, uncertainty(log_p.numpy()))
    (plain, plain_scores), (evading, evading_scores) = found.values()
    assert evading.double().mean() > plain.double().mean() - 0.02
    both = (plain & evading).numpy()
    assert both.sum() > 100
    for score in ("entropy", "mutual_information"):
        assert float(evading_scores[score][both].mean()) < float(plain_scores[score][both].mean())


def test_one_draw_is_a_mean_of_one():
    post, (x, y) = held(num_draws=1), data()
    rival = post(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    torch.testing.assert_close(post.input_gradient(x, y, NAME), -post.input_gradient(x, rival, "expected_loss"))
