"""Some classes alone: the right points, in their order, under new numbers."""

from __future__ import annotations

import pytest
import torch

from bayesrob import data
from bayesrob.errors import InputError


def points(labels: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(len(labels), dtype=torch.float32)[:, None], torch.tensor(labels)


@pytest.fixture
def four():
    x, y = points([3, 1, 0, 2, 1, 3, 3])
    x_test, y_test = points([1, 3, 2, 0])
    return data.from_arrays(x, y, x_test, y_test, num_classes=4, name="four")


def test_points_keep_their_order_and_classes_are_numbered_as_given(four):
    selected = data.keep_classes(four, (3, 1))
    assert selected.x_train[:, 0].tolist() == [0, 1, 4, 5, 6]
    assert selected.y_train.tolist() == [0, 1, 1, 0, 0]
    assert selected.x_test[:, 0].tolist() == [0, 1]
    assert selected.y_test.tolist() == [1, 0]
    assert (selected.name, selected.num_classes) == ("four_3_1", 2)


def test_all_classes_in_their_order_change_nothing(four):
    selected = data.keep_classes(four, range(4))
    assert torch.equal(selected.x_train, four.x_train)
    assert torch.equal(selected.y_train, four.y_train)


def test_bounds_stay_and_the_truth_of_the_whole_does_not():
    digits = data.load("digits", n_train=200, n_test=100)
    assert data.keep_classes(digits, (5, 7)).bounds == digits.bounds
    known = data.load("robust_features", n_train=20, n_test=20)
    assert known.truth is not None
    assert data.keep_classes(known, (1, 0)).truth is None


@pytest.mark.parametrize("classes", [(1,), (1, 1), (1, 4), (-1, 1), (True, 2), (1.0, 2)])
def test_classes_that_there_are_not(four, classes):
    with pytest.raises(InputError, match="has the classes 0 to 3"):
        data.keep_classes(four, classes)


def test_a_class_without_points():
    x, y = points([0, 1, 2])
    x_test, y_test = points([0, 1])
    with pytest.raises(InputError, match="No test point of 'mine' is of class 2"):
        data.keep_classes(data.from_arrays(x, y, x_test, y_test), (0, 2))


def test_a_regression():
    x = torch.zeros(3, 1)
    with pytest.raises(InputError, match="data set for regression"):
        data.keep_classes(data.from_arrays(x, x, x, x), (0, 1))
