"""Real sets where BAYESROB_DATA points to, tiny forged ones elsewhere; never the network."""

from __future__ import annotations

import os
import pathlib
import urllib.error
import urllib.request

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every download fails at once, as on a machine without a network."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def real_data():
    """A function that returns a path under BAYESROB_DATA, or skips the test if nothing is there."""

    def find(relative: str) -> pathlib.Path:
        folder = os.environ.get("BAYESROB_DATA")
        if not folder:
            pytest.skip("BAYESROB_DATA is not set, so there are no real data sets to read")
        path = pathlib.Path(folder) / relative
        if not path.exists():
            pytest.skip(f"{path} is not there: this test needs the real file")
        return path

    return find


@pytest.fixture
def empty_root(tmp_path, monkeypatch):
    """An empty folder as BAYESROB_DATA."""
    folder = tmp_path / "sets"
    folder.mkdir()
    monkeypatch.setenv("BAYESROB_DATA", str(folder))
    return folder
