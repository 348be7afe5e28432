from __future__ import annotations

import math

import pytest
import torch

from bayesrob.attacks import BV, FGSM, MIFGSM, PGD, Confident, LabelInvariant, Misclassified, SmallestFGSM, Transfer
from bayesrob.attacks.geometry import norms
from bayesrob.errors import InputError
from tests.attacks.helpers import data, fresh, held, linear

LOG_P = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95]]).log()
Y = torch.zeros(3, dtype=torch.int64)
Z = torch.zeros(3, 1)


def test_what_counts():
    assert Misclassified()(LOG_P, Y, Z).tolist() == [False, True, True]
    assert Misclassified()(LOG_P, Y, Z, targeted=True).tolist() == [True, False, False]
    assert Confident(0.9)(LOG_P, Y, Z).tolist() == [False, False, True]
    assert Confident(0.9)(LOG_P, Y + 1, Z, targeted=True).tolist() == [False, False, True]
    with pytest.raises(InputError, match="probability"):
        Confident(0.0)


@pytest.mark.parametrize("invariant", [True, False])
def test_two_points(invariant):
    """Stutz 2018: masses at (0, +1) and (eps, -1), and a threshold at eps / 2 as the classifier.

    It is accurate, and robust only by the definition that asks whether the true class has changed.
    """
    eps = 0.2
    post = linear(torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[eps / 2, -eps / 2]]))
    x, y = torch.tensor([[0.0], [eps]]).double(), torch.tensor([0, 1])
    assert torch.equal(post(x).argmax(1), y)

    def project(z):  # onto the support {0, eps}
        return torch.where(z < eps / 2, 0.0, eps)

    def conditional(z):
        return torch.cat([z == 0, z == eps], dim=1).to(z)

    criterion = LabelInvariant(conditional, project) if invariant else Misclassified()
    found = SmallestFGSM(max_eps=eps, grid=200, criterion=criterion)(post, x, y)
    if invariant:
        assert torch.equal(found, x)  # nothing was found
    else:
        assert (post(found).argmax(1) != y).all()
        torch.testing.assert_close((found - x).abs(), torch.full_like(x, eps / 2 + eps / 200), rtol=0, atol=1e-9)


def test_label_invariant_needs_a_probability_for_each_class():
    with pytest.raises(InputError, match="true conditional"):
        LabelInvariant(lambda z: z)(LOG_P, Y, Z)


def test_a_criterion_decides_between_restarts():
    """Only what it accepts counts as found: of no restart here, so the highest objective is kept, as without one."""
    x, y = data()
    post = held()
    never = LabelInvariant(lambda z: torch.nn.functional.one_hot((y + 1) % 4, 4).float())
    common = {"eps": 0.3, "steps": 3, "restarts": 4, "objective": "expected_loss"}
    kept = PGD(**common, criterion=never)(post, x, y)
    usual = PGD(**common)(post, x, y)
    assert (post.objective_value(kept, y) >= post.objective_value(usual, y) - 1e-6).all()


# ---- attacks whose one step is known ------------------------------------------------------------------------------------


def test_bv_is_one_unsigned_step():
    x, y = data()
    post = held()
    expected = x + 2.5 * post.input_gradient(x, y, "predictive_loss")
    torch.testing.assert_close(BV()(post, x, y), expected, rtol=0, atol=1e-6)
    assert (BV(eps=100.0)(post, x, y) > 1).any()  # nothing is clipped
    assert BV(eps=100.0, clip=True)(post, x, y).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 1e-12])
@pytest.mark.parametrize("mse", [1e-3, 0.5])
def test_bv_injects_the_perturbation_asked_for(mse, scale):
    """Also where squares of gradients underflow; proportions between points are the gradients' own."""
    x, y = data()
    post = held()
    weights = {name: tensor * (scale if name == next(iter(post.weights)) else 1) for name, tensor in post.weights.items()}
    post = type(post)(post.net, weights, bounds=(0, 1), input_shape=(2, 3))
    delta = BV(mse=mse)(post, x, y) - x
    assert float(delta.square().mean()) == pytest.approx(mse, rel=1e-3)
    gradient = post.input_gradient(x, y, "predictive_loss")
    torch.testing.assert_close(delta / delta.abs().max(), gradient / gradient.abs().max(), rtol=1e-3, atol=1e-3)
    each = BV(mse=mse, mse_per="point")(post, x, y) - x
    torch.testing.assert_close(each.flatten(1).square().mean(1), torch.full((8,), mse), rtol=1e-3, atol=0)


def test_momentum_adds_what_came_before():
    """Dong et al., algorithm 1, written out."""
    x, y = data()
    post = held(bounds=None)
    z, g = x, torch.zeros_like(x)
    for _ in range(4):
        gradient = post.input_gradient(z, y, "predictive_loss")
        g = 0.7 * g + gradient / gradient.flatten(1).abs().sum(1).reshape(-1, 1, 1)
        z = (z + 0.05 * g.sign()).clamp(x - 0.2, x + 0.2)
    found = MIFGSM(eps=0.2, steps=4, decay=0.7, objective="predictive_loss")(post, x, y)
    torch.testing.assert_close(found, z, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="decay"):
        MIFGSM(decay=-1.0)


def test_towards_a_class_is_down_its_loss():
    x, y = data()
    post = held(bounds=None)
    aim = (y + 2) % 4
    found = FGSM(eps=0.2, target="given")(post, x, aim)
    torch.testing.assert_close(found, x - 0.2 * post.input_gradient(x, aim).sign(), rtol=0, atol=1e-6)


# ---- transfer -----------------------------------------------------------------------------------------------------------


def test_transfer_is_the_attack_on_the_surrogate():
    x, y = data()
    surrogate, post = held(bounds=None), fresh()
    found = Transfer(surrogate, FGSM(eps=0.2)).run(post, x, y)
    expected = FGSM(eps=0.2)(surrogate, x, y).clamp(0, 1)
    torch.testing.assert_close(found.x, expected, rtol=0, atol=0)
    assert int(found.queries.sum()) == 0


def test_transfer_between_linear_models():
    """Where the surrogate's direction is orthogonal to the other's, nothing changes; where it is the same, all does."""
    weight = torch.zeros(1, 2, 4)
    weight[0, 1, :2], other = 1.0, torch.zeros(1, 2, 4)
    other[0, 1, 2:] = 1.0
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    post = linear(weight)
    y = post(x).argmax(1)
    orthogonal = Transfer(linear(other), FGSM(eps=0.4))(post, x, y)
    torch.testing.assert_close(post(orthogonal), post(x))
    same = Transfer(linear(3 * weight), FGSM(eps=0.4))(post, x, y)
    assert torch.equal(same, FGSM(eps=0.4)(post, x, y))
    assert math.isclose(float(norms(same - x, "l_inf").max()), 0.4)


def test_transfer_needs_a_surrogate_that_fits():
    x, y = data()
    with pytest.raises(InputError, match=r"Transfer needs a surrogate.*use PGD"):
        Transfer()(held(), x, y)
    with pytest.raises(InputError, match="Transfer's attack"):
        Transfer(held(), "pgd")  # pyright: ignore[reportArgumentType]
