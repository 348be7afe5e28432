"""What every study owes its reader."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pandas as pd
import xarray as xr

from bayesrob import cli


def study(name: str) -> ModuleType:
    return cli.load_study(cli.study_files()[name])


def table(folder: Path, name: str) -> pd.DataFrame:
    """As it was written: every cell a string."""
    return pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)


def tree(folder: Path, name: str) -> xr.DataTree:
    with xr.open_datatree(folder / f"{name}.nc", engine="h5netcdf") as opened:
        return opened.load()


def manifest(folder: Path) -> dict:
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
    found = manifest(folder)
    assert found["finished"]
    assert len(page.sources) == len(found["figures"])
    assert all(value.startswith("data:image/png;base64,") for value in page.sources)
    text = " ".join(" ".join(page.text).split())
    squeezed = "".join(text.split())

    def shown(what: object) -> bool:
        return "".join(html.unescape(str(what)).split()) in squeezed

    assert all(shown(note) for note in found["notes"])
    for kind in ("figures", "tables", "trees"):
        assert all(shown(entry["caption"]) and (folder / entry["file"]).exists() for entry in found[kind].values())
    for name in found["tables"]:
        cells = table(folder, name)
        for row in [list(cells.columns), *cells.to_numpy().tolist()]:
            assert shown("".join(row)), row
    for key, value in {**found["settings"], **found["versions"]}.items():
        assert shown(f"{key}{value}"), key
