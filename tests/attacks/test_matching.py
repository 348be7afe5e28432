"""Attacks brought to one injected perturbation."""

from __future__ import annotations

import math

import pytest
import torch

from bayesrob.attacks import (
    BV,
    FGSM,
    JSMA,
    MIFGSM,
    NES,
    PGD,
    BiasAttack,
    CarliniWagner,
    DeepFool,
    Random,
    Square,
    Transfer,
    VarianceAttack,
    match_perturbation,
)
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from tests.attacks.helpers import data, fresh, held, surrogate

X, Y = data(20)


def mean_square(z: torch.Tensor) -> float:
    return float((z - X).double().square().mean())


ATTACKS = [
    FGSM(),
    FGSM(0.01, norm="l_2"),
    PGD(step_size=0.02, steps=4),
    PGD(norm="l_2", steps=4),
    MIFGSM(steps=4),
    NES(steps=3),
    Random(),
    Square(queries=10),
    BV(clip=True),
    BV(skip_misclassified=True),
    BiasAttack(clip=True),
    Transfer(surrogate=surrogate(), attack=FGSM()),
    Transfer(surrogate=surrogate(), attack=BV()),
]


@pytest.mark.parametrize("target", [1e-4, 0.09])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.settings()["attack"])
def test_every_attack_comes_within_two_percent(attack, target):
    matched = match_perturbation(attack, target)
    found = matched(held(), X, Y, seed=2)
    assert mean_square(found) == pytest.approx(target, rel=0.02)
    if not attack.skip_misclassified:
        assert found.min() >= 0
        assert found.max() <= 1
    assert torch.equal(found, matched(held(), X, Y, seed=2))
    assert "matched_attack" in matched.settings()


@pytest.mark.parametrize("attack", [BV(), BiasAttack(), VarianceAttack()])
def test_unclipped_steps_are_scaled_exactly(attack):
    matched = match_perturbation(attack, 0.01)
    assert type(matched) is type(attack)
    assert mean_square(matched(held(), X, Y)) == pytest.approx(0.01, rel=1e-5)


def test_a_sign_s_square_is_that_of_its_radius():
    found = match_perturbation(FGSM(0.5), 0.03**2)(held(bounds=None), X, Y)
    torch.testing.assert_close(found, FGSM(0.03)(held(bounds=None), X, Y))


def test_steps_keep_their_proportion_and_the_last_run_is_counted():
    attack = PGD(eps=0.2, step_size=0.05, steps=6, random_start=False)
    run = match_perturbation(attack, 0.04, tolerance=1e-3).run(held(), X, Y)
    assert (run.gradients == 6).all()
    unclipped = match_perturbation(attack, 1e-4, tolerance=1e-3)(held(bounds=None), X, Y)
    eps = float((unclipped - X).abs().max())
    torch.testing.assert_close(
        unclipped, PGD(eps=eps, step_size=eps / 4, steps=6, random_start=False)(held(bounds=None), X, Y)
    )


def test_fresh_draws():
    found = match_perturbation(FGSM(), 0.02)(fresh(), X, Y, seed=5)
    assert mean_square(found) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("attack", [DeepFool(), CarliniWagner(), JSMA(), FGSM(0.0)])
def test_without_a_radius_there_is_nothing_to_match(attack):
    with pytest.raises(InputError, match="has no radius"):
        match_perturbation(attack, 0.01)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "0.1", True, None])
def test_sizes_are_positive(value):
    with pytest.raises(InputError, match="target_mse is"):
        match_perturbation(FGSM(), value)
    with pytest.raises(InputError, match="tolerance is"):
        match_perturbation(FGSM(), 0.1, tolerance=value)


def test_bounds_and_flat_predictives_stand_in_the_way(monkeypatch):
    with pytest.raises(InputError, match=r"Within the bounds \(0, 1\) no perturbation of these points has more than 0\.\d"):
        match_perturbation(FGSM(), 1.0)(held(), X, Y)
    farthest = float(torch.maximum(X, 1 - X).double().square().mean())
    with pytest.raises(InputError, match="FGSM does not reach"):  # the gradient does not point to the farther face
        match_perturbation(FGSM(), 0.98 * farthest)(held(), X, Y)
    assert mean_square(match_perturbation(FGSM(), 0.98 * farthest)(held(bounds=None), X, Y)) > 0.9 * farthest
    monkeypatch.setattr(Predictive, "input_gradient", lambda self, x, *_, **__: torch.zeros_like(x))
    for attack in (FGSM(), BV(clip=True)):
        with pytest.raises(InputError, match=r"does not reach a mean square of 0\.01, only 0\."):
            match_perturbation(attack, 0.01)(held(), X, Y)
