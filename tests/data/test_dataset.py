from __future__ import annotations

import dataclasses

import pytest
import torch

from bayesrob.data import Dataset
from bayesrob.errors import InputError


def parts(**changes):
    """A correct classification set of three training and two test points, with `changes`."""
    correct = {
        "name": "tiny",
        "x_train": torch.tensor([[0.0, 0.5], [1.0, 0.25], [0.1, 0.2]]),
        "y_train": torch.tensor([0, 1, 2]),
        "x_test": torch.tensor([[0.3, 0.3], [0.6, 0.6]]),
        "y_test": torch.tensor([2, 0]),
        "bounds": (0, 1),
        "num_classes": 3,
    }
    return correct | changes


def regression(**changes):
    targets = {"y_train": torch.zeros(3, 4), "y_test": torch.ones(2, 4), "num_classes": None, "bounds": None}
    return parts(**(targets | changes))


def test_properties():
    data = Dataset(**parts())
    assert data.shape == (2,)
    assert data.out_features == 3
    assert data.bounds == (0.0, 1.0)
    assert all(isinstance(bound, float) for bound in data.bounds)
    assert Dataset(**regression()).out_features == 4
    images = {"x_train": torch.rand(3, 1, 5, 6), "x_test": torch.rand(2, 1, 5, 6)}
    assert Dataset(**parts(**images)).shape == (1, 5, 6)


def test_repr_is_short():
    assert repr(Dataset(**parts())) == ("Dataset('tiny': 3 train, 2 test, shape (2,), 3 classes, bounds (0.0, 1.0))")
    assert repr(Dataset(**regression())) == "Dataset('tiny': 3 train, 2 test, shape (2,), 4 outputs, bounds None)"


def test_frozen_and_hashable_by_identity():
    first, second = Dataset(**parts()), Dataset(**parts())
    assert len({first, second, first}) == 2
    assert first != second
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_bounds_are_compared_in_float32():
    x = torch.full((3, 2), 0.1)  # its float32 is larger than the double 0.1
    assert Dataset(**parts(x_train=x, x_test=x[:2], bounds=(0, 0.1))).bounds == (0.0, 0.1)


NAN, INF = float("nan"), float("inf")
BAD = {
    "x not a tensor": (parts(x_train=[[0.0, 1.0]]), "x_train is of type list"),
    "x double": (parts(x_train=torch.zeros(3, 2).double()), r"x_train is a tensor of float64 with shape \(3, 2\)"),
    "x without features": (parts(x_test=torch.zeros(2)), r"x_test is a tensor of float32 with shape \(2,\)"),
    "x empty": (parts(x_test=torch.zeros(0, 2), y_test=torch.zeros(0).long()), r"x_test is empty.*\(0, 2\)"),
    "x without numbers": (parts(x_train=torch.zeros(3, 0)), r"x_train is empty.*\(3, 0\)"),
    "x nan": (
        parts(x_train=torch.tensor([[0.0, 0.0], [0.0, NAN], [INF, 0.0]])),
        r"x_train has 2 values that are NaN or infinite, the first at index \(1, 1\)",
    ),
    "x below": (parts(x_test=torch.tensor([[-0.5, 0.0], [0.0, 0.0]])), r"x_test has values from -0.5 to 0, outside"),
    "x above": (parts(x_train=torch.full((3, 2), 2.5)), r"x_train has values from 2.5 to 2.5, outside bounds \(0, 1\)"),
    "x shapes": (parts(x_test=torch.zeros(2, 5)), r"x_train has shape \(2,\), one of x_test \(5,\)"),
    "train lengths": (parts(y_train=torch.tensor([0, 1])), "x_train has 3 points, y_train has 2"),
    "test lengths": (parts(y_test=torch.tensor([0, 1, 1])), "x_test has 2 points, y_test has 3"),
    "labels too large": (parts(y_train=torch.tensor([0, 1, 3])), r"y_train has labels from 0 to 3.*0 \.\.\. 2"),
    "labels negative": (parts(y_test=torch.tensor([-1, 0])), "y_test has labels from -1 to 0"),
    "labels int32": (parts(y_train=torch.tensor([0, 1, 2]).int()), "y_train is a tensor of int32"),
    "labels floating": (parts(y_train=torch.zeros(3)), "y_train is a tensor of float32"),
    "labels one-hot": (parts(y_train=torch.eye(3).long()), r"y_train is a tensor of int64 with shape \(3, 3\).*argmax"),
    "labels empty": (parts(y_train=torch.zeros(0).long()), "y_train is empty"),
    "one class": (parts(num_classes=1), "num_classes is 1"),
    "classes boolean": (parts(num_classes=True), "num_classes is True"),
    "classes floating": (parts(num_classes=3.0), r"num_classes is 3\.0"),
    "targets integer": (regression(y_train=torch.zeros(3, 4).long()), "y_train is a tensor of int64.*regression"),
    "targets flat": (regression(y_test=torch.zeros(2)), r"y_test is a tensor of float32 with shape \(2,\)"),
    "targets infinite": (regression(y_test=torch.full((2, 4), INF)), "y_test has 8 values"),
    "targets empty": (regression(y_test=torch.zeros(2, 0)), "y_test is empty"),
    "target shapes": (regression(y_test=torch.zeros(2, 5)), r"y_train has shape \(4,\), one of y_test \(5,\)"),
    "bounds swapped": (parts(bounds=(1, 0)), r"bounds is \(1, 0\)"),
    "bounds infinite": (parts(bounds=(0, INF)), r"bounds is \(0, inf\)"),
    "bounds a number": (parts(bounds=1.0), "bounds is 1.0"),
    "bounds of three": (parts(bounds=(0, 1, 2)), r"bounds is \(0, 1, 2\)"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        Dataset(**arguments)
