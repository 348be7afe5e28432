"""Every attack in the registry refuses settings and inputs that do not fit, before any work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob.attacks import ATTACKS
from bayesrob.errors import BayesrobError, InputError, UnknownNameError
from bayesrob.models import Normal
from tests.attacks.helpers import BALLS, CLASSES, REGISTRY, attack, data, fresh, having, held, usual

X, Y = data()


@pytest.mark.parametrize("name", [name for name in REGISTRY if ATTACKS[name].needs_classes])
def test_regression_has_no_wrong_class(name):
    post = held()
    post.likelihood = Normal(0.5)
    with pytest.raises(InputError, match=f"{name} needs classes.*Use FGSM or PGD"):
        usual(name)(post, X, torch.zeros(8, CLASSES))


@pytest.mark.parametrize("name", [name for name in REGISTRY if ATTACKS[name].needs_bounds])
def test_bounds_are_asked_for_by_name(name):
    with pytest.raises(InputError, match=f"{name} needs bounds.*use PGD or Boundary"):
        usual(name)(held(bounds=None), X, Y)


@pytest.mark.parametrize("name", [name for name in REGISTRY if not ATTACKS[name].targetable])
def test_no_target(name):
    with pytest.raises(InputError, match=f"{name} has no target"):
        ATTACKS[name](target="random")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "leastlikely"}, "Did you mean 'least_likely'"),
        ({"target": CLASSES}, "There are 4 classes"),
        ({"target": -1}, "There are 4 classes"),
        ({"target": "given", "label": "predicted"}, "The labels passed are then the targets"),
        ({"target": "given", "skip_misclassified": True}, "The labels passed are then the targets"),
    ],
)
@pytest.mark.parametrize("name", [name for name in REGISTRY if ATTACKS[name].targetable])
def test_bad_targets(name, settings, message):
    with pytest.raises(InputError, match=message):
        ATTACKS[name](**settings)(held(), X, Y)


@pytest.mark.parametrize("name", [name for name in REGISTRY if ATTACKS[name].sees != "nothing"])
def test_models_that_put_out_nan_are_refused(name):
    """They once got their points back unchanged, which looked robust."""
    post = held()
    last = list(post.weights)[-1]
    post.weights[last][1] = torch.nan  # of one draw alone
    with pytest.raises(BayesrobError, match="NaN"):
        usual(name)(post, X, Y)


@pytest.mark.parametrize("name", REGISTRY)
def test_bad_choices(name):
    for settings in ({"label": "guess"}, {"draws": "old"}, {"criterion": "misclassified"}):
        with pytest.raises(InputError):
            ATTACKS[name](**settings)


@pytest.mark.parametrize("name", sorted({name for name, _ in BALLS}))
def test_eps_may_be_a_whole_number(name):
    assert torch.equal(ATTACKS[name](eps=0)(held(), X, Y), X)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), None, "0.1", True])
@pytest.mark.parametrize("name", having("eps"))
def test_eps_is_a_radius(name, eps):
    with pytest.raises(InputError, match="eps is"):
        ATTACKS[name](eps=eps)


@pytest.mark.parametrize(("given", "meant"), [("l2", "l_2"), ("linf", "l_inf"), ("L_inf", "l_inf")])
@pytest.mark.parametrize("name", [name for name in having("norm") if {"l_2", "l_inf"} <= set(ATTACKS[name].norms)])
def test_unknown_norm_suggests_the_nearest(name, given, meant):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        ATTACKS[name](norm=given)


@pytest.mark.parametrize("name", having("objective"))
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
        usual(name)(held(), x, y)


@pytest.mark.parametrize("name", [name for name in REGISTRY if not ATTACKS[name].needs_bounds])
def test_bounds_none_takes_any_finite_value(name):
    one = attack(name, ATTACKS[name].norms[0] if name in having("norm") else "")
    assert one(held(bounds=None), 100 * X - 50, Y).isfinite().all()


@pytest.mark.parametrize("model", [nn.Linear(6, CLASSES), held, None])
@pytest.mark.parametrize("name", REGISTRY)
def test_a_bare_network_must_be_wrapped(name, model):
    with pytest.raises(InputError, match="from_modules"):
        usual(name)(model, X, Y)


@pytest.mark.parametrize("seed", [None, 0.5, "0"])
@pytest.mark.parametrize("name", REGISTRY)
def test_seed_must_be_an_integer(name, seed):
    with pytest.raises(InputError, match="not an integer"):
        usual(name)(held(), X, Y, seed=seed)


@pytest.mark.parametrize("name", [name for name in having("objective") if not ATTACKS[name].needs_classes])
def test_regression_has_no_margin(name):
    post = held()
    post.likelihood = Normal(0.5)
    with pytest.raises(InputError, match="needs classes"):
        ATTACKS[name](objective="margin")(post, X, torch.zeros(8, CLASSES))


@pytest.mark.parametrize("name", having("num_draws"))
def test_bad_number_of_draws(name):
    with pytest.raises(InputError, match="Only 5 are held"):
        usual(name, num_draws=6)(held(), X, Y)
    with pytest.raises(InputError, match=r"num_draws is 0.*whole number >= 1"):
        usual(name, num_draws=0)(fresh(), X, Y)
