"""The tests' own checks of shapes do check."""

import importlib
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from bayesrob.attacks import geometry
from tests import shapes

ROOM = """
from dataclasses import dataclass
from jaxtyping import Float
from torch import Tensor

@dataclass
class Room:
    x: Float[Tensor, "a b"]

    @staticmethod
    def first(x: Float[Tensor, "a b"]) -> Float[Tensor, "a"]:
        return x[:, 0] if len(x) == 2 else x

    @property
    def rows(self) -> Float[Tensor, "b"]:
        return self.x

    def within(self):
        def inner(x: Float[Tensor, "a b"]) -> None: ...
        return inner
"""


@pytest.mark.parametrize("test", ["one", "the next"])
def test_first_calls_of_each_test_are_checked(test):
    whole = torch.ones(2, 3, dtype=torch.int64)
    for _ in range(shapes.CALLS):
        with pytest.raises(TypeCheckError, match="norms"):
            geometry.norms(whole, "l_inf")
    assert geometry.norms(whole, "l_inf").tolist() == [1, 1]


def test_methods_and_results_and_dataclasses_are_checked(tmp_path, monkeypatch):
    (tmp_path / "shaped_room.py").write_text(ROOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    shapes.install(["shaped_room"])
    room = importlib.import_module("shaped_room").Room
    assert room.first(torch.ones(2, 3)).shape == (2,)
    for wrong in (lambda: room.first(torch.ones(4, 3)), lambda: room(torch.ones(2)), lambda: room(torch.ones(2, 3)).rows):
        with pytest.raises(TypeCheckError):
            wrong()
    room(torch.ones(2, 3)).within()(torch.ones(2))  # made at each call: left alone
