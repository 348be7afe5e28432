"""What every attack in the registry promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bayesrob.attacks import ATTACKS
from bayesrob.attacks.geometry import norms
from bayesrob.models import Normal
from bayesrob.predictive import Predictive
from tests.attacks.helpers import (
    ALL,
    AWAY,
    BALLS,
    CLASSES,
    OBJECTIVE,
    REGISTRY,
    SHAPE,
    attack,
    data,
    fresh,
    having,
    held,
    usual,
)

RANDOM = [(name, norm) for name, norm in ALL if REGISTRY[name].random and not ATTACKS[name].needs_bounds]
CERTAIN = [(name, norm) for name, norm in ALL if not REGISTRY[name].random]


def test_every_attack_is_tested():
    assert ATTACKS.keys() == REGISTRY.keys()


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize("bounds", [(0, 1), None])
@pytest.mark.parametrize("eps", [0.01, 0.3, 5.0])
@pytest.mark.parametrize(("name", "norm"), BALLS)
def test_stays_in_the_ball_and_the_bounds_and_goes_somewhere(name, norm, eps, bounds, make):
    x, y = data()
    found = attack(name, norm, eps)(make(bounds=bounds), x, y)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    assert (norms(found - x, norm) <= eps * (1 + 1e-6) + 1e-6).all()
    assert (norms(found - x, norm) > 0).all()
    if bounds is not None:
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize(("name", "norm"), [case for case in ALL if not REGISTRY[case[0]].unclipped])
def test_stays_in_the_bounds_and_leaves_alone_what_is_wrong(name, norm, make):
    """For attacks that look for the smallest perturbation: it is zero where the point is wrong already."""
    x, y = data()
    post = make()
    found = attack(name, norm)(post, x, y)
    assert found.min() >= 0
    assert found.max() <= 1
    if ATTACKS[name].minimal and make is held:
        wrong = post(x).argmax(1) != y
        assert torch.equal(found[wrong], x[wrong])
        assert (norms(found - x, "l_2")[~wrong] > 0).any()


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize(("name", "norm"), ALL)
def test_same_seed_same_bits(name, norm, make):
    x, y = data()
    found = [attack(name, norm)(make(), x, y, seed=4) for _ in range(2)]
    assert torch.equal(*found)
    post = make()
    post(x)  # whatever was done with the predictive before
    assert torch.equal(attack(name, norm)(post, x, y, seed=4), found[0])


@pytest.mark.parametrize(("name", "norm"), RANDOM)
def test_another_seed_takes_other_chances(name, norm):
    x, y = data()
    found = [attack(name, norm)(held(bounds=None), x, y, seed=seed) for seed in (0, 1)]
    assert not torch.equal(*found)


@pytest.mark.parametrize(("name", "norm"), CERTAIN)
def test_without_chance_the_seed_means_nothing(name, norm):
    x, y = data()
    assert torch.equal(*[attack(name, norm)(held(), x, y, seed=seed) for seed in (0, 1)])


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize(("name", "norm"), ALL)
def test_leaves_everything_alone(name, norm, make, enabled):
    post = make()
    x, y = data()
    x.requires_grad_()
    before = x.detach().clone(), y.clone(), torch.get_rng_state(), {k: v.clone() for k, v in post.state_dict().items()}
    with torch.set_grad_enabled(enabled):
        found = attack(name, norm)(post, x, y)
        assert torch.is_grad_enabled() == enabled
    assert not found.requires_grad
    assert x.requires_grad
    assert x.grad is None
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(torch.equal(value, before[3][key]) for key, value in post.state_dict().items())


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(("name", "norm"), OBJECTIVE)
def test_grad_mode_is_restored_after_an_exception(monkeypatch, name, norm, enabled):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr(Predictive, "input_gradient", fail)
    monkeypatch.setattr(Predictive, "gradient_and_prediction", fail)
    with torch.set_grad_enabled(enabled):
        with pytest.raises(RuntimeError, match="boom"):
            attack(name, norm)(held(), *data())
        assert torch.is_grad_enabled() == enabled


@pytest.mark.parametrize("bounds", [(0, 1), None])
@pytest.mark.parametrize(("name", "norm"), BALLS)
def test_no_radius_no_change(name, norm, bounds):
    x, y = data()
    found = attack(name, norm, eps=0.0)(held(bounds=bounds), x, y)
    assert torch.equal(found, x)
    assert found.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize(("name", "norm"), ALL)
def test_one_image_and_none(name, norm, make):
    x, y = data(1)
    found = attack(name, norm)(make(), x, y)
    assert found.shape == (1, *SHAPE)
    if REGISTRY[name].ball:
        assert not torch.equal(found, x)
    none = attack(name, norm).run(make(), x[:0], y[:0])
    assert none.x.shape == (0, *SHAPE)
    assert none.queries.shape == (0,)


@pytest.mark.parametrize(("name", "norm"), AWAY)
def test_climbs_what_it_says(name, norm):
    """Each objective is higher where that objective was climbed than at the clean points."""
    x, y = data(30)
    post = held()
    for objective in ("expected_loss", "predictive_loss", "margin"):
        found = attack(name, norm, 0.1, objective=objective)(post, x, y)
        assert (post.objective_value(found, y, objective) > post.objective_value(x, y, objective)).all()


@pytest.mark.parametrize(("name", "norm"), [case for case in AWAY if case[1] != "l_inf"])
def test_objectives_lead_to_different_places(name, norm):
    x, y = data(30)
    found = [
        attack(name, norm, 0.1, objective=objective)(held(), x, y)
        for objective in ("expected_loss", "predictive_loss", "margin")
    ]
    assert not any(torch.allclose(found[i], found[j], atol=1e-4) for i in range(3) for j in range(i))


@pytest.mark.parametrize("target", ["least_likely", "most_likely", "random", "given", 2])
@pytest.mark.parametrize(("name", "norm"), [case for case in OBJECTIVE if ATTACKS[case[0]].targetable])
def test_a_target_gains(name, norm, target):
    """The target's averaged loss is lower at the end than at the start, whichever rule names it."""
    x, y = data(30)
    post = held()
    order = post(x).scatter(1, y[:, None], -torch.inf)
    if target == "least_likely":
        aim = (-post(x)).scatter(1, y[:, None], -torch.inf).argmax(1)
    elif target == "most_likely":
        aim = order.argmax(1)
    else:
        aim = torch.full_like(y, 2) if target == 2 else (y + 1) % CLASSES
    one = attack(name, norm, 0.1, target=target)
    found = one(post, x, aim if target == "given" else y)
    if target == "random":  # which, is not to be seen from outside: some other class gained
        gained = post(found) > post(x)
        assert gained.scatter(1, y[:, None], False).any(1).all()
        return
    gains = post.objective_value(found, aim, "predictive_loss") < post.objective_value(x, aim, "predictive_loss")
    assert gains.float().mean() > 0.95  # the expected loss is climbed, this one watched


@pytest.mark.parametrize(("name", "norm"), ALL)
def test_predicted_labels_and_skipped_points(name, norm):
    """What is wrong before the attack: attacked as what it seems to be, or left alone; the others as ever."""
    x, y = data()
    post = held()
    predicted = post(x).argmax(1)
    wrong = predicted != y
    assert wrong.any()
    assert not wrong.all()
    random = REGISTRY[name].random
    as_predicted = attack(name, norm, label="predicted").run(post, x, y, seed=1)
    torch.testing.assert_close(as_predicted.x, attack(name, norm)(post, x, predicted, seed=1), rtol=0, atol=0)
    skipped = attack(name, norm, skip_misclassified=True).run(post, x, y, seed=1)
    assert torch.equal(skipped.x[wrong], x[wrong])
    assert (skipped.queries[wrong] == 1).all()  # the look that told them apart
    assert (skipped.gradients[wrong] == 0).all()
    if not random:
        torch.testing.assert_close(skipped.x[~wrong], attack(name, norm)(post, x, y)[~wrong], rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize(("name", "norm"), ALL)
def test_looks_are_counted(monkeypatch, name, norm, make):
    """Summed over points, as many as the predictive itself was asked for."""
    asked = {"queries": 0, "gradients": 0}

    def counting(method, kind):
        original = getattr(Predictive, method)

        def count(self, x, *args, **kwargs):
            asked[kind] += len(x)
            return original(self, x, *args, **kwargs)

        monkeypatch.setattr(Predictive, method, count)

    counting("forward", "queries")
    counting("objective_value", "queries")
    counting("input_gradient", "gradients")
    counting("gradient_and_prediction", "gradients")
    x, y = data()
    found = attack(name, norm).run(make(), x, y)
    if REGISTRY[name].needed:  # another predictive's looks are not this one's
        assert int(found.queries.sum() + found.gradients.sum()) == 0
        return
    assert asked == {"queries": int(found.queries.sum()), "gradients": int(found.gradients.sum())}
    assert found.queries.shape == found.gradients.shape == (len(x),)
    sees = ATTACKS[name].sees
    assert (asked["gradients"] > 0) == (sees == "gradients")
    assert (asked["queries"] + asked["gradients"] > 0) == (sees != "nothing")


@pytest.mark.parametrize("name", having("num_draws"))
def test_num_draws_takes_the_first(name):
    x, y = data()
    settings = REGISTRY[name].settings
    found = usual(name, num_draws=2, **settings)(held(), x, y)
    assert torch.equal(found, usual(name, **settings)(held()[:2], x, y))
    if ATTACKS[name].sees != "nothing":
        assert not torch.equal(found, usual(name, **settings)(held(), x, y))


@pytest.mark.parametrize(("name", "norm"), [case for case in AWAY if not ATTACKS[case[0]].needs_classes])
def test_regression_is_attacked_too(name, norm):
    post = held(bounds=None)
    post.likelihood = Normal(0.5)
    x, _ = data()
    y = post(x)
    found = attack(name, norm)(post, x, y)
    assert (post.objective_value(found, y) > post.objective_value(x, y)).all()


@pytest.mark.parametrize(("name", "norm"), ALL)
def test_settings_are_the_record_of_an_attack(name, norm):
    one = attack(name, norm)
    record = one.settings()
    if REGISTRY[name].needed:
        assert record["attack"] == name
        return
    assert record.pop("attack") == name
    assert ATTACKS[name](**record) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.eps = 1.0
