from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bayesrob import evaluation
from bayesrob.attacks import ATTACKS, FGSM, PGD
from bayesrob.data import from_arrays
from bayesrob.errors import InputError
from bayesrob.models import Normal
from bayesrob.predictive import OBJECTIVES, Predictive, Preprocessed, from_modules
from tests.attacks.helpers import linear
from tests.predictive.helpers import CLASSES, POINTS, data, gaussian, held, in_chunks_of

LEVELS = 8
STEPPING = [name for name in ("APGD", "BV", "CarliniWagner", "DeepFool", "FAB", "FGSM", "MIFGSM", "PGD") if name in ATTACKS]


def smooth(x: Tensor) -> Tensor:
    """Differentiable, mixes the features of a point."""
    return torch.tanh(1.5 * x + 0.3 * x.flip(-1)) + 0.1 * x**2


def quantised(x: Tensor) -> Tensor:
    return (x * LEVELS).round() / LEVELS


def halved(x: Tensor) -> Tensor:
    """Another shape: `[batch, 4, 3] -> [batch, 2, 3]`."""
    return torch.tanh(x.unflatten(1, (2, 2)).mean(2))


def composed(post: Predictive, function: nn.Module | object, x: Tensor, y: Tensor, objective: str, **draws: int) -> Tensor:
    x = x.clone().requires_grad_()
    value = post.objective_value(function(x), y, objective, **draws)
    return torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_gradient_is_that_of_the_composition(monkeypatch, name, objective, chunk):
    in_chunks_of(monkeypatch, chunk)
    post, (x, y) = held(name), data(name)
    ours = Preprocessed(post, smooth, smooth).input_gradient(x, y, objective)
    torch.testing.assert_close(ours, composed(post, smooth, x, y, objective), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_is_that_of_the_composition_for_fresh_draws(objective):
    post, (x, y) = gaussian(), data()
    ours = Preprocessed(post, smooth, smooth).input_gradient(x, y, objective, num_draws=5, seed=3)
    expected = composed(post, smooth, x, y, objective, num_draws=5, seed=3)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def test_gradient_of_a_regression():
    post = held(likelihood=Normal(0.7))
    x, y = data(likelihood=post.likelihood)
    ours = Preprocessed(post, smooth, smooth).input_gradient(x, y)
    torch.testing.assert_close(ours, composed(post, smooth, x, y, "expected_loss"), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_through_the_identity_is_that_at_the_value(objective):
    post, (x, y) = held(), data()
    behind = Preprocessed(post, quantised)
    torch.testing.assert_close(
        behind.input_gradient(x, y, objective), post.input_gradient(quantised(x), y, objective), rtol=1e-12, atol=1e-13
    )
    torch.testing.assert_close(composed(behind, lambda x: x, x, y, objective), behind.input_gradient(x, y, objective))


def test_precision_is_passed_on():
    post, (x, y) = held(dtype=torch.float32), data(dtype=torch.float32)
    ours = Preprocessed(post, quantised).input_gradient(x, y, precision="bf16")
    assert torch.equal(ours, post.input_gradient(quantised(x), y, precision="bf16"))
    assert not torch.equal(ours, post.input_gradient(quantised(x), y))


@pytest.mark.parametrize("surrogate", [None, smooth])
def test_predictions_are_exactly_those_at_the_value(surrogate):
    post, (x, _) = held(), data()
    behind = Preprocessed(post, quantised, surrogate)
    assert torch.equal(behind.logits(x), post.logits(quantised(x)))
    assert torch.equal(behind(x.clone().requires_grad_()).detach(), post(quantised(x)))
    fresh = gaussian()
    behind = Preprocessed(fresh, quantised, surrogate)
    assert torch.equal(behind.logits(x, 4, 9), fresh.logits(quantised(x), 4, 9))
    assert torch.equal(behind.freeze(4, 9).logits(x), fresh.logits(quantised(x), 4, 9))


def test_every_chunk_of_draws_and_its_own_gradients(monkeypatch):
    """The path with an input for each draw, and the standard error made of it."""
    in_chunks_of(monkeypatch, 3)
    post, (x, y) = held(), data()
    behind = Preprocessed(post, smooth, smooth)
    losses, gradients = behind.draw_gradients(x, y)
    expected = torch.stack([composed(post[d], smooth, x, y, "expected_loss") for d in range(post.num_draws)])
    torch.testing.assert_close(gradients, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(losses, post.draw_gradients(smooth(x), y)[0])
    mean, error = behind.input_gradient(x, y, standard_error=True)
    torch.testing.assert_close(mean, expected.mean(0))
    torch.testing.assert_close(error, expected.std(0) / post.num_draws**0.5)


def test_draws_are_those_behind():
    post, (x, _) = held(), data()
    behind = Preprocessed(post, quantised)
    assert behind.num_draws == 7
    assert torch.equal(behind[:3].logits(x), behind.logits(x, 3))
    assert torch.equal(behind[-1].logits(x), post[-1].logits(quantised(x)))
    assert torch.equal(behind.freeze(2).logits(x), behind.logits(x, 2))
    assert behind[:3].info["preprocessed"] == behind.info["preprocessed"] == ["quantised"]
    with pytest.raises(InputError):
        behind.logits(x, 8)


def test_two_steps_one_behind_the_other():
    post, (x, y) = held(), data()
    behind = Preprocessed(Preprocessed(post, smooth, smooth), torch.sin, torch.sin)
    assert behind.info["preprocessed"] == ["smooth", "sin"]
    ours = behind.input_gradient(x, y)
    expected = composed(post, lambda x: smooth(x.sin()), x, y, "expected_loss")
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def test_another_shape_in_front():
    post, (_, y) = held(), data()
    x = torch.rand(POINTS, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    behind = Preprocessed(post, halved, halved)
    expected = composed(post, halved, x, y, "margin")
    torch.testing.assert_close(behind.input_gradient(x, y, "margin"), expected, rtol=1e-11, atol=1e-12)
    assert PGD(eps=0.1, steps=2)(behind, x, y).shape == x.shape


def test_modules_are_copied_frozen_and_moved_along():
    post, (x, y) = held(), data()
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3))
    behind = Preprocessed(post.float(), module, module)
    assert module.training
    assert behind.surrogate is behind.function
    assert not any(p.requires_grad for p in behind.parameters())
    behind.double()
    assert post.weights["1.weight"].dtype == torch.float32
    module.double().eval()
    ours = behind.input_gradient(x, y)
    torch.testing.assert_close(ours, composed(post.double(), module, x, y, "expected_loss"), rtol=1e-11, atol=1e-12)


def test_modules_of_any_kind_behind():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).sum(1), x.flatten(1).square().sum(1)], 1)

    post, (x, y) = from_modules([Odd().eval(), Odd().eval()]), data()
    behind = Preprocessed(post, smooth, smooth)
    behind.check_labels(x, y % 2)
    assert behind.out_features == 2
    torch.testing.assert_close(behind.input_gradient(x, y % 2), composed(post, smooth, x, y % 2, "expected_loss"))


@pytest.mark.parametrize("name", ["FGSM", "PGD"])
def test_attacks_and_evaluations_take_it(name):
    post, (x, y) = held(dtype=torch.float32, bounds=(0, 1)), data(dtype=torch.float32)
    behind = Preprocessed(post, quantised)
    z = ATTACKS[name]()(behind, x, y)
    assert z.shape == x.shape
    assert bool(z.isfinite().all())


def test_an_evaluation_says_what_is_in_front():
    post, (x, y) = held(dtype=torch.float32, bounds=(0, 1)), data(dtype=torch.float32)
    dataset = from_arrays(x, y, x, y, bounds=(0, 1), num_classes=CLASSES)
    tree = evaluation.evaluate(Preprocessed(post, quantised), dataset, attacks={"fgsm": FGSM()}, num_points=POINTS)
    assert "quantised" in str(tree.attrs) + str([node.attrs for node in tree.subtree])


# ---- gradients that are not there, and the truth that the surrogate finds ------------------------------------------------


class Rounds(nn.Module):
    """A user's network that rounds its input, so that its gradient is zero everywhere."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return quantised(x) @ self.weight.T


class Detached(Rounds):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class NoGrad(Rounds):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Numpy(Rounds):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(x.numpy()).to(x))


class Apart(Rounds):
    """A gradient, but none with respect to the input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) * torch.ones((), requires_grad=True)


WEIGHT = torch.tensor([[1.0, -0.6, 0.3, 0.0], [-0.4, 0.8, 0.1, -0.5]], dtype=torch.float64)


def points(count: int = 40) -> tuple[Tensor, Tensor]:
    x = 0.3 + 0.4 * torch.rand(count, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, (x @ WEIGHT.T).argmax(1)


def test_rounding_hides_the_gradient_and_the_surrogate_finds_the_worst_case():
    """The margin of a linear classifier falls by at most eps * ||w_y - w_other||_1 in the l_inf ball."""
    x, y = points()
    eps = 0.25  # two steps of the quantisation
    hidden = from_modules([Rounds(WEIGHT).eval()], bounds=(0, 1), num_classes=2)
    assert not hidden.input_gradient(x, y).any()
    assert torch.equal(FGSM(eps=eps)(hidden, x, y), x)
    behind = Preprocessed(linear(WEIGHT[None], bounds=(0, 1)), quantised)
    z = PGD(eps=eps, steps=20, random_start=False)(behind, x, y)
    difference = WEIGHT[y] - WEIGHT[1 - y]
    worst = (difference * x).sum(1) - eps * difference.abs().sum(1)
    reached = (difference * quantised(z)).sum(1)
    step = difference.abs().sum(1) / (2 * LEVELS)  # a component is rounded by at most half a level
    assert bool((reached <= worst + step + 1e-9).all())
    assert bool((reached >= worst - step - 1e-9).all())


@pytest.mark.parametrize("kind", [Detached, NoGrad, Numpy, Apart])
@pytest.mark.parametrize("name", STEPPING)
def test_a_missing_gradient_names_the_attack_and_a_way_out(name, kind):
    x, y = points()
    post = from_modules([kind(WEIGHT).eval()], bounds=(0, 1), num_classes=2)
    with pytest.raises(InputError, match=f"{name} found no gradient.*Square.*Preprocessed"):
        ATTACKS[name]()(post, x, y)


def test_a_surrogate_without_gradient_is_found():
    x, y = points()
    behind = Preprocessed(linear(WEIGHT[None]), quantised, lambda x: x.detach())
    with pytest.raises(InputError, match="FGSM found no gradient"):
        FGSM()(behind, x, y)
