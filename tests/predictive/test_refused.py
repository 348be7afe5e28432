"""What every Predictive refuses, before any work."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bayesrob.errors import InputError
from bayesrob.models import Normal
from bayesrob.predictive import OBJECTIVES, HeldDraws
from bayesrob.predictive.checks import check_num_draws
from tests.nets.helpers import Recurrent, random_inputs
from tests.predictive.helpers import CLASSES, data, held
from tests.predictive.test_interface import KINDS

METHODS = {
    "logits": lambda post, x, y: post.logits(x),
    "forward": lambda post, x, y: post(x),
    "input_gradient": lambda post, x, y: post.input_gradient(x, y),
    "objective_value": lambda post, x, y: post.objective_value(x, y),
}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 6).double(), r"trained on \[batch, 2, 3\]"),
        (torch.zeros(2, 3).double(), "needs a batch axis"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.zeros(5, 2, 3, dtype=torch.int64), "torch.int64"),
        (torch.zeros(5, 2, 3, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(5, 2, 3).numpy(), "ndarray"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_inputs(kind, method, x, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](KINDS[kind](), x, torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 4]), "from 0 to 4"),
        (torch.tensor([0, 1, 2, 3, -1]), "from -1 to 3"),
        (torch.zeros(5), "torch.float32"),
        (torch.zeros(5, CLASSES), "one int64 class per point"),
        (torch.zeros(4, dtype=torch.int64), "5 inputs but 4 labels"),
        (torch.tensor(1), "single number"),
        ([0, 1, 2, 3, 0], "Labels are a list"),
    ],
)
@pytest.mark.parametrize("method", ["input_gradient", "objective_value"])
def test_bad_classes(method, y, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](held(), data()[0], y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.full((5, CLASSES), math.nan), "NaN"),
        (torch.zeros(5), r"\[batch, 4\]"),
        (torch.zeros(5, 1), r"\[batch, 4\]"),
        (torch.zeros(5, CLASSES, dtype=torch.int64), "torch.int64"),
    ],
)
@pytest.mark.parametrize("method", ["input_gradient", "objective_value"])
def test_bad_targets(method, y, message):
    with pytest.raises(InputError, match=message):
        METHODS[method](held(likelihood=Normal(0.7)), data()[0], y)


@pytest.mark.parametrize("number", [0, -1, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_number_of_draws(kind, number):
    post = KINDS[kind]()
    with pytest.raises(InputError, match=f"num_draws is {number}"):
        post.logits(data()[0], num_draws=number)
    with pytest.raises(InputError, match=f"num_draws is {number}"):
        post.freeze(number)


@pytest.mark.parametrize("number", [2.0, "3", None])
def test_a_number_of_draws_is_an_integer(number):
    with pytest.raises(InputError, match="num_draws is"):
        check_num_draws(number)


def test_a_number_of_draws_may_be_numpys():
    assert type(check_num_draws(np.int64(3), 3)) is int


@pytest.mark.parametrize("kind", ["held", "modules"])
def test_more_draws_than_are_held(kind):
    post = KINDS[kind]()
    with pytest.raises(InputError, match=f"Only {post.num_draws} are held"):
        post.logits(data()[0], num_draws=post.num_draws + 1)


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, math.nan), (0, math.inf), (0,), (0, 1, 2), "ab", 3, (None, 1)])
def test_bad_bounds(bounds):
    with pytest.raises(InputError, match="bounds"):
        held(bounds=bounds)


@pytest.mark.parametrize(
    ("value", "message"),
    [(math.nan, "NaN"), (math.inf, "infinity"), (-0.1, "from -0.1"), (1.1, "to 1.1")],
)
def test_inputs_outside_the_bounds(value, message):
    post = held(bounds=(0, 1))
    x, _ = data()
    post.check_inputs(x)
    x[2, 1, 1] = value
    with pytest.raises(InputError, match=message):
        post.check_inputs(x)


def test_bounds_are_compared_in_the_inputs_precision():
    """As in a Dataset: the float32 next to 0.1 is above the double 0.1."""
    held(bounds=(0, 0.1)).check_inputs(torch.full((1, 2, 3), 0.1))
    with pytest.raises(InputError, match="bounds"):
        held(bounds=(0, 0.1)).check_inputs(torch.full((1, 2, 3), 0.1000001))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unknown_input_shape_is_not_checked(objective):
    net = Recurrent(3, 4, CLASSES).double()
    post = HeldDraws(net, {name: p[None] for name, p in net.named_parameters()})
    y = torch.tensor([0, 1, 2])
    for length in (1, 6):
        assert post.input_gradient(random_inputs(3, length, 3), y, objective).shape == (3, length, 3)
