"""Every study runs once at smoke scale.

A test file names its study as `STUDY` and takes the fixtures `module`, `folder` and `posteriors`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.studies.helpers import Smoke, run_smoke, study

GROUPS = {
    "attack_table": "vanishing_gradients",
    "sdr_robustness": "sdr_generalisation",
    "sdr_variance": "sdr_generalisation",
}
"""Studies that load the posteriors of another study, which must have run before them."""


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Callable[[str], Smoke]:
    """Runs a study at smoke scale, once in a session."""
    base = tmp_path_factory.mktemp("studies")

    @functools.cache
    def run(name: str) -> Smoke:
        first = GROUPS.get(name, name)
        if first != name:
            run(first)
        return run_smoke(name, base / name, base / "posteriors" / first)

    return run


@pytest.fixture(scope="module")
def module(request) -> ModuleType:
    """The study of the test file."""
    return study(request.module.STUDY)


@pytest.fixture(scope="module")
def folder(request, smoke) -> Path:
    """The results of the study at smoke scale."""
    return smoke(request.module.STUDY).folder


@pytest.fixture(scope="module")
def posteriors(request, smoke) -> Path:
    """The folder of the posteriors that the study trained."""
    return smoke(request.module.STUDY).posteriors
