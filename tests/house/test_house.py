"""The house rules that machines can check: style, types, one-way imports, and commands that say what they do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")])
def test_ruff(arguments):
    run(sys.executable, "-m", "ruff", *arguments, ".")


def test_pyright():
    run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


def test_rooms_import_only_rooms_above_them():
    run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")


def test_nothing_is_named_that_only_one_workplace_has():
    """No registry's host name in what the project's own files install."""
    for name in ("pyproject.toml", ".ci/run", "README.md"):
        assert not re.search(r"pypi\.org|pythonhosted|download\.pytorch", (ROOT / name).read_text())
