"""What `Preprocessed` refuses, and what it takes over from the predictive behind it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob.attacks import PGD
from bayesrob.errors import BayesrobError, CheckpointError, InputError
from bayesrob.predictive import HeldDraws, Preprocessed
from tests.predictive.helpers import CLASSES, POINTS, data, held
from tests.predictive.test_preprocessed import halved, quantised, smooth


@pytest.mark.parametrize(
    ("function", "surrogate", "match"),
    [
        (quantised, halved, "surrogate gives shape"),
        (halved, None, "The identity gives shape"),
        (lambda x: x[:, :1], lambda x: x[:, :1], "What function gives does not fit"),
        (lambda x: x.flatten(), None, "one point"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_before_any_work(function, surrogate, match):
    post, (_, y) = held(), data()
    x = torch.rand(POINTS, 4, 3, dtype=torch.float64) if function is halved or surrogate is halved else data()[0]
    behind = Preprocessed(post, function, surrogate)
    behind.input_shape = None
    for ask in (behind, behind.check_inputs, lambda x: behind.input_gradient(x, y), lambda x: PGD()(behind, x, y)):
        with pytest.raises(InputError, match=match):
            ask(x)


def test_what_is_no_predictive_or_no_function_is_refused():
    with pytest.raises(InputError, match="from_modules"):
        Preprocessed(nn.Linear(2, 2), smooth)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="function is a int"):
        Preprocessed(held(), 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="surrogate a str"):
        Preprocessed(held(), smooth, "identity")  # type: ignore[arg-type]


def test_saving_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="quantised cannot be saved"):
        Preprocessed(held(), quantised).save(tmp_path / "post")
    assert not (tmp_path / "post").exists()
    with pytest.raises(BayesrobError):
        Preprocessed.restore(nn.Identity(), {}, {})


def test_bounds_are_those_behind_or_given():
    post = held(bounds=(0, 1))
    assert Preprocessed(post, quantised).bounds == (0, 1)
    normalised = Preprocessed(held(), lambda x: x / 255, lambda x: x / 255, bounds=(0, 255), input_shape=(2, 3))
    assert normalised[:2].bounds == (0, 255)
    assert normalised[:2].input_shape == (2, 3)
    assert Preprocessed(held(), quantised).input_shape == (2, 3)
    assert isinstance(normalised.post, HeldDraws)


def test_an_empty_batch():
    behind = Preprocessed(held(), quantised)
    assert behind.logits(torch.zeros(0, 2, 3, dtype=torch.float64)).shape == (7, 0, CLASSES)
