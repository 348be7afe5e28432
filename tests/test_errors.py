from __future__ import annotations

import pytest

from bayesrob import errors


def test_message_says_what_why_and_what_to_do():
    error = errors.InputError("eps is -1.", "It is a radius.", "Give eps >= 0.")
    assert str(error) == "eps is -1. It is a radius. Give eps >= 0."
    assert (error.what, error.why, error.do) == ("eps is -1.", "It is a radius.", "Give eps >= 0.")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InputError, ValueError),
        (errors.UnknownNameError, KeyError),
        (errors.MissingDataError, FileNotFoundError),
        (errors.CheckpointError, OSError),
    ],
)
def test_each_error_is_also_the_builtin_one_that_callers_expect(kind, builtin):
    with pytest.raises(builtin):
        raise kind("a.", "b.", "c.")
    assert issubclass(kind, errors.BayesrobError)
    assert str(kind("a.", "b.", "c.")) == "a. b. c."


def test_check_name_returns_a_known_name():
    assert errors.check_name("norm", "l_2", ["l_2", "l_inf"]) == "l_2"


def test_check_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(errors.UnknownNameError) as caught:
        errors.check_name("objective", "expected_los", ["margin", "expected_loss"])
    message = str(caught.value)
    assert message.startswith("Unknown objective 'expected_los'.")
    assert "Did you mean 'expected_loss'?" in message
    assert "Known: expected_loss, margin." in message


def test_check_name_suggests_nothing_far_off():
    with pytest.raises(errors.UnknownNameError) as caught:
        errors.check_name("norm", "zzz", ["l_2", "l_inf"])
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", [None, 2, ["l_2"], float("nan")])
def test_check_name_takes_any_object(name):
    with pytest.raises(errors.UnknownNameError, match="Known: l_2"):
        errors.check_name("norm", name, ["l_2"])
