"""The folder of downloaded data sets, and the download of files that are missing from it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import platformdirs

from bayesrob.errors import MissingDataError

__all__ = ["ensure_files", "quiet", "root"]

_TIMEOUT = 30.0  # seconds without data; with a firewall that drops packets torchvision would otherwise hang for minutes


def root() -> pathlib.Path:
    """Return the folder of the downloaded sets: the environment variable BAYESROB_DATA, else the user's cache folder.

    The sets are stored in it as torchvision stores them (`MNIST/raw`, `cifar-10-batches-py`, ...).
    """
    chosen = os.environ.get("BAYESROB_DATA")
    return pathlib.Path(chosen).expanduser() if chosen else pathlib.Path(platformdirs.user_cache_dir("bayesrob"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings that torchvision's readers cause in numpy and torch: the user of a data set cannot act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ensure_files(kind: Callable[..., Any], folder: pathlib.Path, needed: Sequence[str], otherwise: str = "") -> None:
    """Download a torchvision set into `folder` unless all of the files `needed` are there.

    Args:
        kind: the torchvision class, which is called as `kind(folder, download=True)`.
        folder: the root folder, in which torchvision makes a folder for the set.
        needed: paths of the files, relative to `folder`.
        otherwise: a sentence on what is possible without the missing files, for the message.

    Raises:
        MissingDataError: files are missing and could not be downloaded; the message says which, where, and how to get them.
    """
    if not _missing(folder, needed):
        return
    try:
        with quiet(), _timeout(_TIMEOUT):
            kind(str(folder), download=True)
        problem = "the download did not contain them"
    except Exception as error:  # torchvision, urllib, tarfile, gzip and the disk each raise errors of their own
        problem = f"downloading failed ({type(error).__name__}: {error})"
    missing = _missing(folder, needed)
    if missing:
        raise MissingDataError(
            f"{kind.__name__} is not complete under {folder}: {', '.join(missing)} missing, and {problem}.",
            "Data sets are read from the folder BAYESROB_DATA, or without it from the user's cache folder.",
            f"{otherwise}On a machine with a network run torchvision.datasets.{kind.__name__}({str(folder)!r}, "
            "download=True), or set BAYESROB_DATA to a folder that holds the set.",
        )


def _missing(folder: pathlib.Path, needed: Sequence[str]) -> list[str]:
    return [path for path in needed if not (folder / path).is_file()]


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
