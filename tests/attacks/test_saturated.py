"""Draws that are sure of themselves: the averaged prediction is flat nearly everywhere, and its boundary still known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob.attacks import FAB, PGD, CarliniWagner, DeepFool
from bayesrob.attacks.victim import Victim
from bayesrob.errors import UnknownNameError
from bayesrob.predictive import HeldDraws

THRESHOLDS = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
NORMAL = torch.tensor([0.6, -0.8, 0.0, 1.2], dtype=torch.float64)


def saturated(scale: float) -> HeldDraws:
    """Three draws, each class 1 where NORMAL'x exceeds its threshold: the majority does beyond the middle one."""
    weight = torch.stack([-NORMAL, NORMAL]) * scale / 2
    weights = {
        "1.weight": weight.expand(3, -1, -1).clone(),
        "1.bias": torch.stack([THRESHOLDS, -THRESHOLDS], dim=1) * scale / 2,
    }
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    return HeldDraws(net, weights, input_shape=(4,), out_features=2)


def points() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Some that every draw has in one class, some on which they differ; labels; distances to the majority's boundary."""
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    side = x @ NORMAL - THRESHOLDS[1]
    return x, (side > 0).long(), side.abs() / NORMAL.norm()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("attack", [DeepFool(average="logits"), FAB(norm="l_2", average="logits", steps=30)])
def test_averaged_logits_lead_to_the_boundary_however_sure_the_draws(attack: DeepFool | FAB, scale: float) -> None:
    x, y, distance = points()
    found = (attack(saturated(scale), x, y) - x).norm(dim=1)
    torch.testing.assert_close(found, distance, rtol=2.1e-2, atol=2e-4)


def test_carlini_wagner_finds_it_by_the_margins_of_the_draws() -> None:
    x, y, distance = points()
    attack = CarliniWagner(objective="margin_per_draw", searches=6, steps=300, initial_c=1e-3, lr=0.02)
    found = (attack(saturated(1000.0), x, y) - x).norm(dim=1)
    torch.testing.assert_close(found, distance, rtol=2e-2, atol=2e-3)


def test_averaged_probabilities_do_not_lead_there() -> None:
    x, y, _ = points()
    post = saturated(1e5)
    left = post(DeepFool()(post, x, y)).argmax(1) == y
    assert left.float().mean() > 0.5  # what the option is for; if this is ever mended, drop it


def test_the_margin_of_the_draws_breaks_all_that_can_be() -> None:
    x, y, distance = points()
    post, eps = saturated(1e5), 0.7
    broken = post(PGD(eps=eps, norm="l_2", objective="margin_per_draw")(post, x, y)).argmax(1) != y
    assert torch.equal(broken, distance < eps)


def test_jacobian_of_averaged_logits_is_that_of_the_definition() -> None:
    x, y, _ = points()
    post, z = saturated(3.0), x.clone().requires_grad_()
    mean = post.logits(z).log_softmax(-1).mean(0)
    expected = torch.stack([torch.autograd.grad(mean[:, c].sum(), z, retain_graph=True)[0] for c in range(2)], dim=1)
    victim = Victim(post, DeepFool().goal, x, y, torch.Generator())
    classes = torch.tensor([0, 1]).expand(len(x), 2)
    gradient, value, log_predictive = victim.jacobian(x, classes, average="logits")
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(value, mean.detach())
    torch.testing.assert_close(log_predictive, post(x))


def test_one_draw_has_but_one_average() -> None:
    x, y, _ = points()
    post = saturated(2.0)[:1]
    torch.testing.assert_close(DeepFool(average="logits")(post, x, y), DeepFool()(post, x, y))


@pytest.mark.parametrize("attack", [DeepFool, FAB])
def test_unknown_average_is_named(attack: type[DeepFool]) -> None:
    with pytest.raises(UnknownNameError, match="average"):
        attack(average="median")  # pyright: ignore[reportArgumentType]


def test_carlini_wagner_takes_margins_only() -> None:
    with pytest.raises(UnknownNameError, match="objective"):
        CarliniWagner(objective="expected_loss")  # pyright: ignore[reportArgumentType]
