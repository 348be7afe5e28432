"""Errors that say what is wrong, why, and what to do, raised before any long computation starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "BayesrobError",
    "CheckpointError",
    "ConvergenceWarning",
    "InputError",
    "MissingDataError",
    "ModelWarning",
    "SuspiciousOutputs",
    "UnknownNameError",
    "WorkerError",
    "check_name",
]


class BayesrobError(Exception):
    """Base of every error of bayesrob.

    Args:
        what: the sentence that says what went wrong.
        why: the sentence that says why it matters.
        do: the sentence that says what to do.
    """

    def __init__(self, what: str, why: str, do: str):
        super().__init__(f"{what} {why} {do}")
        self.what, self.why, self.do = what, why, do


class InputError(BayesrobError, ValueError):
    """An argument that no method could work with: a shape, a range, a combination."""


class UnknownNameError(InputError, KeyError):
    """A name that is not registered; the message names the nearest ones that are."""

    __str__ = Exception.__str__  # KeyError would print the message's repr


class MissingDataError(BayesrobError, FileNotFoundError):
    """A data set that is not on this machine; the message says how to get it."""


class CheckpointError(BayesrobError, OSError):
    """Saved draws that are missing, damaged, or need a network that they do not describe."""


class WorkerError(BayesrobError, RuntimeError):
    """Some of several models could not be trained in their processes.

    Args:
        models: those that could, in order; None where one could not.
        errors: what happened to the others, by number from 0.
        do: the sentence that says what to do.
    """

    def __init__(self, models: list[Any], errors: dict[int, str], do: str):
        lost = "\n".join(f"Model {number + 1}: {error}" for number, error in sorted(errors.items()))
        trained = sum(model is not None for model in models)
        super().__init__(
            f"{len(errors)} of {len(models)} models could not be trained.",
            f"{lost}\nThe other {trained} are in this error's `models`.",
            do,
        )
        self.models, self.errors = models, errors


class ConvergenceWarning(UserWarning):
    """The method ran to its end, but its own diagnostics say that the result should not be trusted."""


class ModelWarning(UserWarning):
    """A network that can be used but probably does not put out what is expected of it."""


class SuspiciousOutputs(ModelWarning):
    """Outputs that look like probabilities where logits belong: softmaxed twice, their gradients die."""


def check_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`, else raise `UnknownNameError` that suggests the nearest."""
    known = sorted(known)
    if isinstance(name, str) and name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(
        f"Unknown {kind} {name!r}.",
        "Only registered names can be looked up.",
        f"{suggestion}Known: {', '.join(known)}.",
    )
