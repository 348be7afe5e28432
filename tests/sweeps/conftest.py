"""A finished sweep, made once, and copies of it that tests may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from bayesrob import sweeps
from tests.sweeps.helpers import ALL


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "reference"
    threads = torch.get_num_threads()
    status = sweeps.run(ALL, folder, workers=1)
    assert status == {"done": 20, "failed": 0, "damaged": 0, "missing": 0}
    assert torch.get_num_threads() == threads
    return folder


@pytest.fixture
def folder(reference, tmp_path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(reference, tmp_path / "sweep"))
