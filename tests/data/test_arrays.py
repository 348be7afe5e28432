from __future__ import annotations

import numpy as np
import pytest
import torch

from bayesrob.data import from_arrays
from bayesrob.errors import InputError

X = np.array([[0.0, 0.25], [0.5, 1.0], [0.1, 0.3]])
Y = np.array([0, 4, 1])


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, np.ndarray.tolist], ids=["numpy", "torch", "list"])
def test_classification(convert):
    data = from_arrays(convert(X), convert(Y), convert(X[:2]), convert(Y[:2]), bounds=(0, 1))
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == torch.int64
    np.testing.assert_array_equal(data.x_train.numpy(), X.astype(np.float32))
    assert data.y_test.tolist() == [0, 4]
    assert (data.name, data.bounds, data.num_classes) == ("mine", (0.0, 1.0), 5)


def test_num_classes_looks_at_the_test_labels_too():
    assert from_arrays(X, [0, 1, 1], X, [0, 1, 6]).num_classes == 7
    assert from_arrays(X, Y, X, Y, num_classes=10).num_classes == 10
    assert from_arrays(X, Y > 0, X, Y > 0).num_classes == 2


def test_regression():
    data = from_arrays(X, X[:, 0], X, X[:, 1])
    assert data.num_classes is None
    assert data.y_train.shape == (3, 1)
    assert data.y_train.dtype == torch.float32
    assert data.out_features == 1
    assert from_arrays(X, X, X, X).out_features == 2


@pytest.mark.parametrize("source", [X, X.astype(np.float32), X.astype(">f8"), X.astype(np.float16), X[::-1]])
def test_every_floating_type_is_copied_to_float32(source):
    kept = source.astype(np.float32)
    data = from_arrays(source, Y, source, Y)
    np.testing.assert_array_equal(data.x_train.numpy(), kept)


def test_later_changes_of_the_arrays_do_nothing():
    x, y = X.astype(np.float32), Y.copy()
    xt, yt = torch.tensor(x, requires_grad=True), torch.tensor(X[:, 0], dtype=torch.float32)
    labelled, regression = from_arrays(x, y, x, y), from_arrays(xt, yt, xt, yt)
    x[:], y[:] = 9, 9
    with torch.no_grad():
        xt[:], yt[:] = 9, 9
    for data in (labelled, regression):
        np.testing.assert_array_equal(data.x_train.numpy(), X.astype(np.float32))
        assert not data.x_train.requires_grad
    assert labelled.y_train.tolist() == Y.tolist()
    assert regression.y_train[:, 0].tolist() == X[:, 0].astype(np.float32).tolist()


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_unscaled_images_are_refused(convert):
    images = convert(np.arange(48, dtype=np.uint8).reshape(3, 1, 4, 4))
    with pytest.raises(InputError, match=r"x_train is of type uint8 with values from 0 to 47.*Scale images to \[0, 1\]"):
        from_arrays(images, Y, images, Y)


BAD = {
    "integer test inputs": ((X, Y, X.astype(int), Y), {}, "x_test is of type int64"),
    "empty integer inputs": ((np.zeros((0, 2), int), Y, X, Y), {}, "x_train is of type int64"),
    "kinds of targets": ((X, Y, X, Y * 1.0), {}, "y_train is integer and y_test is floating"),
    "classes of numbers": ((X, Y * 1.0, X, Y * 1.0), {"num_classes": 5}, "num_classes=5 was passed, but"),
    "strings": ((X, ["a", "b", "c"], X, Y), {}, "y_train is of type list.*real numbers"),
    "complex": ((torch.as_tensor(X * 1j), Y, X, Y), {}, r"x_train is of type torch\.complex128"),
    "ragged": ((X, Y, [[1.0], [1.0, 2.0]], Y), {}, "x_test is of type list"),
    "one class": ((X, Y * 0, X, Y * 0), {}, "num_classes is 1"),
    "too few classes": ((X, Y, X, Y), {"num_classes": 4}, "y_train has labels from 0 to 4"),
    "overflow": ((X * 1e300, Y, X, Y), {}, "x_train has 5 values that are NaN or infinite"),
    "no labels": ((X, Y[:0], X, Y[:0]), {}, "y_train is empty"),
    "outside bounds": ((X, Y, X, Y), {"bounds": (0, 0.5)}, "x_train has values from 0 to 1, outside"),
}


@pytest.mark.parametrize(("arrays", "options", "message"), BAD.values(), ids=BAD)
def test_refuses(arrays, options, message):
    with pytest.raises(InputError, match=message):
        from_arrays(*arrays, **options)
