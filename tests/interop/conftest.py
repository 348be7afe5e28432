"""Tests beside foolbox and ART, collected only where both are installed: pip install -r tests/interop/requirements.txt."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

import pytest


def _missing() -> list[str]:
    missing = []
    for name in ("foolbox", "adversarial-robustness-toolbox"):  # `art` alone is also the name of another package
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


MISSING = _missing()
collect_ignore_glob = ["test_*.py"] if MISSING else []

if not MISSING:
    with warnings.catch_warnings():  # what they themselves use is deprecated, and the tests make errors of warnings
        warnings.simplefilter("ignore")
        import art.attacks.evasion  # noqa: F401
        import art.estimators.classification  # noqa: F401
        import foolbox  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for category in ("DeprecationWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MISSING:
        terminalreporter.write_line(
            f"tests/interop was not collected: {' and '.join(MISSING)} missing (tests/interop/requirements.txt)."
        )
