"""What every attack in the registry promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from bayesrob.attacks import ATTACKS
from bayesrob.attacks.geometry import norms
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import Normal
from bayesrob.predictive import Predictive
from tests.attacks.helpers import ALL, AWAY, BALLS, CLASSES, REGISTRY, SHAPE, attack, data, fresh, held

OBJECTIVE = [name for name in REGISTRY if "objective" in {field.name for field in dataclasses.fields(ATTACKS[name])}]
RANDOM = [(name, norm) for name, norm in ALL if REGISTRY[name].random]
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
@pytest.mark.parametrize("name", OBJECTIVE)
def test_grad_mode_is_restored_after_an_exception(monkeypatch, name, enabled):
    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr(Predictive, "input_gradient", fail)
    monkeypatch.setattr(Predictive, "gradient_and_prediction", fail)
    with torch.set_grad_enabled(enabled):
        with pytest.raises(RuntimeError, match="boom"):
            attack(name, "l_inf")(held(), *data())
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
    assert not torch.equal(found, x)
    assert attack(name, norm)(make(), x[:0], y[:0]).shape == (0, *SHAPE)


@pytest.mark.parametrize("norm", ["l_inf", "l_2"])
@pytest.mark.parametrize("name", OBJECTIVE)
def test_climbs_what_it_says(name, norm):
    """Each objective is higher where that objective was climbed than at the clean points."""
    x, y = data(30)
    post = held()
    for objective in ("expected_loss", "predictive_loss", "margin"):
        settings = {**REGISTRY[name].settings, "eps": 0.1, "norm": norm, "objective": objective}
        found = ATTACKS[name](**settings)(post, x, y)
        assert (post.objective_value(found, y, objective) > post.objective_value(x, y, objective)).all()


@pytest.mark.parametrize("name", OBJECTIVE)
def test_objectives_lead_to_different_places(name):
    x, y = data(30)
    found = [
        ATTACKS[name](**{**REGISTRY[name].settings, "norm": "l_2", "objective": objective})(held(), x, y)
        for objective in ("expected_loss", "predictive_loss", "margin")
    ]
    assert not any(torch.allclose(found[i], found[j], atol=1e-4) for i in range(3) for j in range(i))


@pytest.mark.parametrize("name", OBJECTIVE)
def test_num_draws_takes_the_first(name):
    x, y = data()
    settings = REGISTRY[name].settings
    found = ATTACKS[name](num_draws=2, **settings)(held(), x, y)
    assert torch.equal(found, ATTACKS[name](**settings)(held()[:2], x, y))
    assert not torch.equal(found, ATTACKS[name](**settings)(held(), x, y))


@pytest.mark.parametrize("norm", ["l_inf", "l_2"])
@pytest.mark.parametrize("name", OBJECTIVE)
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
    assert record.pop("attack") == name
    assert ATTACKS[name](**record) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.eps = 1.0


# ---- bad input ------------------------------------------------------------------------------------------------------

X, Y = data()


@pytest.mark.parametrize("name", REGISTRY)
def test_eps_may_be_a_whole_number(name):
    assert torch.equal(ATTACKS[name](eps=0)(held(), X, Y), X)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), None, "0.1", True])
@pytest.mark.parametrize("name", REGISTRY)
def test_eps_is_a_radius(name, eps):
    with pytest.raises(InputError, match="eps is"):
        ATTACKS[name](eps=eps)


@pytest.mark.parametrize(("given", "meant"), [("l2", "l_2"), ("linf", "l_inf"), ("L_inf", "l_inf")])
@pytest.mark.parametrize("name", REGISTRY)
def test_unknown_norm_suggests_the_nearest(name, given, meant):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        ATTACKS[name](norm=given)


@pytest.mark.parametrize("name", OBJECTIVE)
def test_unknown_objective_suggests_the_nearest(name):
    with pytest.raises(UnknownNameError, match="Did you mean 'expected_loss'"):
        ATTACKS[name](objective="expectedloss")


def changed(value: float) -> torch.Tensor:
    x = X.clone()
    x[3, 1, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (changed(1.5), Y, "from 0 to 1.5"),
        (changed(-0.01), Y, "from -0.01"),
        (changed(float("nan")), Y, "NaN"),
        (changed(float("inf")), Y, "infinity"),
        (X, Y + 1, f"to {CLASSES}"),
        (X, Y - 1, "from -1"),
        (X, Y[:-1], "8 inputs but 7 labels"),
        (X, Y.float(), "torch.float32"),
        (X, nn.functional.one_hot(Y), r"shape \(8, 4\)"),
        (X, Y.tolist(), "Labels are a list"),
        (X.flatten(1), Y, r"shape \(8, 6\)"),
        (X[0], Y[:1], "needs a batch axis"),
        (X.numpy(), Y, "ndarray"),
        (X.to(torch.int64), Y, "torch.int64"),
    ],
)
@pytest.mark.parametrize("name", REGISTRY)
def test_bad_data(name, x, y, message):
    with pytest.raises(InputError, match=message):
        ATTACKS[name]()(held(), x, y)


@pytest.mark.parametrize("name", REGISTRY)
def test_bounds_none_takes_any_finite_value(name):
    assert ATTACKS[name]()(held(bounds=None), 100 * X - 50, Y).isfinite().all()


@pytest.mark.parametrize("model", [nn.Linear(6, CLASSES), held, None])
@pytest.mark.parametrize("name", REGISTRY)
def test_a_bare_network_must_be_wrapped(name, model):
    with pytest.raises(InputError, match="from_modules"):
        ATTACKS[name]()(model, X, Y)


@pytest.mark.parametrize("seed", [None, 0.5, "0"])
@pytest.mark.parametrize("name", REGISTRY)
def test_seed_must_be_an_integer(name, seed):
    with pytest.raises(InputError, match="not an integer"):
        ATTACKS[name]()(held(), X, Y, seed=seed)


@pytest.mark.parametrize("name", OBJECTIVE)
def test_regression_has_no_margin(name):
    post = held()
    post.likelihood = Normal(0.5)
    with pytest.raises(InputError, match="needs classes"):
        ATTACKS[name](objective="margin")(post, X, torch.zeros(8, CLASSES))


@pytest.mark.parametrize("name", OBJECTIVE)
def test_bad_number_of_draws(name):
    with pytest.raises(InputError, match="Only 5 are held"):
        ATTACKS[name](num_draws=6)(held(), X, Y)
    with pytest.raises(InputError, match="num_draws >= 1"):
        ATTACKS[name](num_draws=0)(fresh(), X, Y)
