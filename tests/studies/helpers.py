"""What every study owes its reader."""

from __future__ import annotations

import functools
import html
import importlib
import inspect
import json
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import pytest
import xarray as xr

from bayesrob import cli
from bayesrob.inference import Inference


def study(name: str) -> ModuleType:
    """The study as a module."""
    return cli.load_study(cli.study_files()[name])


def shared(name: str) -> ModuleType:
    """A module of `studies/shared`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(next(iter(cli.study_files().values())).parent)
        return importlib.import_module(f"shared.{name}")


class Smoke(NamedTuple):
    """A study that has run at smoke scale: its results, its posteriors, and the methods that it trained by itself."""

    folder: Path
    posteriors: Path
    trained: list[str]


def run_smoke(name: str, out: Path, posteriors: Path) -> Smoke:
    """Run a study at smoke scale, in one process."""
    main, trained, fit = study(name).main, [], Inference.fit

    def recorded(self: Inference, *rest: Any, **more: Any) -> Any:
        trained.append(type(self).__name__)
        return fit(self, *rest, **more)

    options = {"posteriors": posteriors, "workers": 1}
    accepted = inspect.signature(main).parameters
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inference, "fit", recorded)
        main(scale="smoke", out=out, **{key: value for key, value in options.items() if key in accepted})
    return Smoke(out, posteriors, trained)


def table(folder: Path, name: str) -> pd.DataFrame:
    """A table as it was written: every cell a string."""
    return pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)


@functools.cache
def tree(folder: Path, name: str) -> xr.DataTree:
    """A whole tree, read once."""
    with xr.open_datatree(folder / f"{name}.nc", engine="h5netcdf") as opened:
        return opened.load()


@functools.cache
def group(folder: Path, name: str, group: str) -> xr.Dataset:
    """One group of a tree, which is read much faster than the whole."""
    with xr.open_dataset(folder / f"{name}.nc", group=group, engine="h5netcdf") as opened:
        return opened.load()


def manifest(folder: Path) -> dict:
    """What the study wrote, in the order of the report."""
    return json.loads((folder / "study.json").read_text())


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)


def check_report(folder: Path) -> None:
    """One page that loads nothing, with every figure, every cell of every table, every note and setting."""
    source = (folder / "report.html").read_text()
    assert "url(" not in source
    assert "@import" not in source
    page = _Page()
    page.feed(source)
    written = manifest(folder)
    assert written["finished"]
    assert len(page.sources) == len(written["figures"])
    assert all(value.startswith("data:image/png;base64,") for value in page.sources)
    text = " ".join(" ".join(page.text).split())
    squeezed = "".join(text.split())

    def shown(what: object) -> bool:
        return "".join(html.unescape(str(what)).split()) in squeezed

    assert all(shown(note) for note in written["notes"])
    for kind in ("figures", "tables", "trees"):
        assert all(shown(entry["caption"]) and (folder / entry["file"]).exists() for entry in written[kind].values())
    for name in written["tables"]:
        cells = table(folder, name)
        for row in [list(cells.columns), *cells.to_numpy().tolist()]:
            assert shown("".join(row)), row
    for key, value in {**written["settings"], **written["versions"]}.items():
        assert shown(f"{key}{value}"), key
