"""What checks of a result may ask of any attack, and the variations of it that an audit runs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bayesrob.attacks import APGD, ATTACKS, FAB, FGSM, NES, PGD, AutoAttack, DeepFool, Random, Square, Transfer
from bayesrob.predictive import OBJECTIVES
from tests.attacks.helpers import REGISTRY, fresh, held, surrogate, usual


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "AutoAttack"])
def test_an_attack_is_its_only_member(name):
    attack = usual(name)
    assert attack.members() == (attack,)


def test_an_ensemble_answers_for_its_members():
    members = (PGD(steps=4, step_size=0.02, num_draws=3), FGSM(objective="margin", draws="held"), Square())
    attack = AutoAttack(attacks=members)
    assert attack.members() == attack.attacks
    assert attack.climbed() == ("expected_loss", "margin")
    assert attack.step_sizes() == (0.02,)
    assert attack.draws_per_step(held(5)) == 3
    assert not attack.takes_new_draws()
    assert attack.iterated()
    assert [type(one) for one in AutoAttack(version="rand").members()] == [APGD, APGD]
    assert AutoAttack().climbed() == ("predictive_loss", "dlr")


def test_objectives_are_those_whose_gradients_are_taken():
    assert PGD(objective="margin").climbed() == ("margin",)
    assert NES().climbed() == ()  # it estimates the gradient from predictions
    assert Transfer(surrogate=surrogate()).climbed() == ()


def test_a_step_size_counts_where_it_was_fixed_and_is_used_again():
    assert PGD(step_size=0.02).step_sizes() == (0.02,)
    assert PGD(step_size=0.02, steps=1).step_sizes() == ()
    assert PGD().step_sizes() == ()
    assert (PGD().iterated(), PGD(steps=1).iterated(), FGSM().iterated()) == (True, False, False)


def test_draws_of_a_step():
    assert PGD().draws_per_step(fresh(7)) == 7
    assert PGD(num_draws=2).draws_per_step(fresh(7)) == 2
    assert Random().draws_per_step(fresh(7)) == 0
    assert (PGD().takes_new_draws(), PGD(draws="held").takes_new_draws()) == (True, False)


def test_changed_reaches_members_and_the_attack_on_the_surrogate():
    assert PGD().changed(num_draws=3, no_such_setting=1) == PGD(num_draws=3)
    ensemble = AutoAttack(attacks=(PGD(), Square())).changed(num_draws=3, steps=2)
    assert ensemble == AutoAttack(attacks=(PGD(num_draws=3, steps=2), Square(num_draws=3)), num_draws=3)
    moved = Transfer(surrogate=surrogate()).changed(num_draws=3)
    assert (moved.num_draws, moved.attack) == (3, PGD(num_draws=3))


def test_harder_doubles_steps_and_restarts():
    assert PGD(steps=np.int64(4), restarts=3).harder() == PGD(steps=8, restarts=6)
    assert FGSM().harder() is None
    assert AutoAttack().harder() is None
    assert AutoAttack(attacks=(PGD(steps=4), FGSM())).harder() == AutoAttack(attacks=(PGD(steps=8, restarts=2), FGSM()))


def test_with_radius_keeps_the_step_in_proportion():
    assert PGD(0.1, step_size=0.02).with_radius(0.2) == PGD(0.2, step_size=0.04)
    assert DeepFool().with_radius(0.2) is None
    ensemble = AutoAttack(0.1, attacks=(FGSM(0.1), FAB()))
    assert ensemble.with_radius(0.3) == AutoAttack(0.3, attacks=(FGSM(0.3), FAB()))
    moved = Transfer(surrogate=surrogate(), attack=FGSM(0.1)).with_radius(0.3)
    assert moved is not None
    assert moved.attack == FGSM(0.3)
    assert Transfer(surrogate=surrogate(), attack=DeepFool()).with_radius(0.3) is None


@pytest.mark.parametrize("name", REGISTRY)
def test_every_attack_answers(name):
    attack = usual(name)
    assert set(attack.climbed()) <= {"bias", "variance", *OBJECTIVES}
    assert attack.draws_per_step(held(5)) in (0, 5)
    assert isinstance(attack.takes_new_draws(), bool)
    assert attack.changed() == attack
    for other in (attack.harder(), attack.with_radius(0.2)):
        assert other is None or type(other) is ATTACKS[name]


def test_a_surrogate_enters_records_as_the_digest_of_its_weights():
    """Another posterior that was made in the same way is another surrogate, and a copy of this one is not."""

    def recorded(post) -> dict:
        return json.loads(json.dumps(Transfer(surrogate=post).settings()))["surrogate"]

    one, other = surrogate(), surrogate()
    assert recorded(one) == recorded(other)
    next(iter(other.weights.values()))[0] += 1e-3
    assert recorded(one)["sha256"] != recorded(other)["sha256"]
    assert recorded(one[:2])["num_draws"] == 2
