from __future__ import annotations

import pathlib
import socket

import platformdirs
import pytest

from bayesrob.data import downloads
from bayesrob.errors import MissingDataError


def test_root_is_bayesrob_data_else_the_user_cache(monkeypatch):
    monkeypatch.setenv("BAYESROB_DATA", "~/sets")
    assert downloads.root() == pathlib.Path.home() / "sets"
    for unset in (lambda: monkeypatch.setenv("BAYESROB_DATA", ""), lambda: monkeypatch.delenv("BAYESROB_DATA")):
        unset()
        assert downloads.root() == pathlib.Path(platformdirs.user_cache_dir("bayesrob"))


class Fake:
    """Stands in for a torchvision class: its download writes the file "b"."""

    def __init__(self, folder, download):
        assert download
        assert socket.getdefaulttimeout() == 30
        (pathlib.Path(folder) / "b").write_text("fetched")


def test_files_that_are_there_are_left_alone(tmp_path):
    (tmp_path / "b").write_text("mine")
    downloads.ensure_files(Fake, tmp_path, ["b"])
    assert (tmp_path / "b").read_text() == "mine"


def test_missing_files_are_downloaded_and_the_timeout_restored(tmp_path):
    downloads.ensure_files(Fake, tmp_path, ["b"])
    assert (tmp_path / "b").read_text() == "fetched"
    assert socket.getdefaulttimeout() is None


def test_files_that_the_download_lacks(tmp_path):
    with pytest.raises(MissingDataError, match=r"a missing, and the download did not contain them.*But b is there. On"):
        downloads.ensure_files(Fake, tmp_path, ["a", "b"], "But b is there. ")
