"""Checks of arguments and settings: one for whole numbers, one for real numbers, one for everything else.

They raise `InputError` before any work and return what was checked as a plain Python number. numpy's scalars are accepted
wherever Python's are, because the values of grids and of `for` loops over arrays are such scalars.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from bayesrob.errors import InputError

__all__ = ["is_number", "is_whole", "number", "plain", "require", "whole"]


def require(condition: bool, what: str, why: str, do: str) -> None:
    """Raise `InputError(what, why, do)` unless `condition` holds."""
    if not condition:
        raise InputError(what, why, do)


def is_whole(value: object) -> bool:
    """Whether `value` is an integer of Python or numpy; `True` and `False` are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number of Python or numpy; `True` and `False` are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def whole(name: str, value: object, why: str = "", *, least: int = 1, most: int | None = None, or_none: bool = False) -> Any:
    """Return `value` as an `int` if it is a whole number in `[least, most]`.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        why: one sentence that says what the number means; by default that it counts from `least`.
        least: the smallest value allowed.
        most: the largest value allowed; None for no upper limit.
        or_none: whether None is allowed as well, and returned.

    Raises:
        InputError: `value` is no whole number (a bool is none), or out of range.
    """
    if or_none and value is None:
        return None
    if isinstance(value, numbers.Integral) and is_whole(value):
        counted = int(value)
        if least <= counted and (most is None or counted <= most):
            return counted
    upper = "" if most is None else f" and <= {most}"
    none = ", or None" if or_none else ""
    raise InputError(
        f"{name} is {value!r}.",
        why or f"It counts from {least}.",
        f"Give a whole number >= {least}{upper}{none}.",
    )


def number(
    name: str,
    value: object,
    why: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    or_none: bool = False,
) -> Any:
    """Return `value` as a `float` if it is a finite real number within the limits.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        why: one sentence that says what the number means.
        above: a lower limit that is itself excluded.
        least: the smallest value allowed.
        below: an upper limit that is itself excluded.
        most: the largest value allowed.
        or_none: whether None is allowed as well, and returned.

    Raises:
        InputError: `value` is no finite real number (a bool is none), or out of range.
    """
    if or_none and value is None:
        return None
    limits = {">": above, ">=": least, "<": below, "<=": most}
    if isinstance(value, numbers.Real) and is_number(value):
        real = float(value)
        good = {
            ">": lambda at: real > at,
            ">=": lambda at: real >= at,
            "<": lambda at: real < at,
            "<=": lambda at: real <= at,
        }
        if all(at is None or good[sign](at) for sign, at in limits.items()):
            return real
    said = " and ".join(f"{sign} {at:g}" for sign, at in limits.items() if at is not None)
    none = ", or None" if or_none else ""
    raise InputError(f"{name} is {value!r}.", why, f"Give a finite number {said}".rstrip() + f"{none}.")


def plain(value: Any) -> Any:
    """Return `value` as records hold it: numpy's scalars as Python's, methods and attacks by their `settings()`.

    Tuples become lists, because that is what JSON gives back; a function is recorded by its `repr`.
    """
    described = getattr(value, "settings", None)
    if callable(described):
        return described()
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        return value.item()  # pyright: ignore[reportAttributeAccessIssue]
    return repr(value) if callable(value) else value
