"""The checks of arguments: what passes, what does not, and that the message says what to do."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from bayesrob.arguments import number, plain, require, whole
from bayesrob.errors import InputError


@pytest.mark.parametrize("value", [3, np.int64(3), np.int8(3), np.uint16(3)])
def test_whole_numbers_of_python_and_numpy(value):
    checked = whole("steps", value, least=3, most=3)
    assert (checked, type(checked)) == (3, int)


@pytest.mark.parametrize("value", [True, np.bool_(True), 3.0, np.float32(3), "3", None, -1, 0, 6, [3], math.nan])
def test_no_whole_number_in_the_range(value):
    with pytest.raises(InputError, match=r"steps is .*A restart takes steps\. Give a whole number >= 1 and <= 5\.") as error:
        whole("steps", value, "A restart takes steps.", most=5)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int32(1), np.float64(0.5)])
def test_numbers_of_python_and_numpy(value):
    checked = number("eps", value, "It is a radius.", least=0)
    assert (checked, type(checked)) == (float(value), float)


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, "1", None, 1j, np.nan, -0.1])
def test_no_finite_number_in_the_range(value):
    with pytest.raises(InputError, match=r"eps is .*It is a radius\. Give a finite number >= 0\."):
        number("eps", value, "It is a radius.", least=0)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "said"),
    [
        ({"above": 0}, [1e-300, 5], [0, -1], "> 0"),
        ({"least": 0}, [0, 5], [-1e-300], ">= 0"),
        ({"above": 0, "below": 1}, [0.5], [0, 1], "> 0 and < 1"),
        ({"least": 0, "most": 1}, [0, 1], [-0.1, 1.1], ">= 0 and <= 1"),
        ({"least": 0, "below": 1}, [0, 0.99], [1], ">= 0 and < 1"),
        ({}, [-5, 5], [math.inf], "number."),
    ],
)
def test_limits_are_included_or_not_as_they_say(limits, inside, outside, said):
    for value in inside:
        assert number("p", value, "It is a share.", **limits) == value
    for value in outside:
        with pytest.raises(InputError) as error:
            number("p", value, "It is a share.", **limits)
        assert said in error.value.do


def test_none_only_where_it_is_allowed():
    assert whole("rounds", None, or_none=True) is None
    assert number("lr", None, "It is a rate.", or_none=True) is None
    with pytest.raises(InputError, match="or None"):
        whole("rounds", 0, or_none=True)
    with pytest.raises(InputError, match="or None"):
        number("lr", 0, "It is a rate.", above=0, or_none=True)


def test_require():
    require(True, "what", "why", "do")
    with pytest.raises(InputError, match=r"^what why do$"):
        require(False, "what", "why", "do")


def test_plain_values_for_records():
    @dataclasses.dataclass
    class Method:
        steps: int

        def settings(self):
            return {"steps": self.steps}

    assert plain({"a": np.int64(3), "b": (np.float32(0.5), None), "c": Method(2), "d": "text", "e": True}) == {
        "a": 3,
        "b": [0.5, None],
        "c": {"steps": 2},
        "d": "text",
        "e": True,
    }
    assert type(plain(np.float64(0.5))) is float
    assert plain(len) == repr(len)
