"""Results on disk: complete at every moment, and never over somebody's files."""

from __future__ import annotations

import json

import matplotlib
import pandas as pd
import pytest
import xarray as xr

from bayesrob import evaluate
from bayesrob.attacks import FGSM
from bayesrob.errors import CheckpointError, InputError
from bayesrob.evaluation import Results
from bayesrob.evaluation.results import MANIFEST, read_manifest

matplotlib.use("agg")


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "deep" / "out", "01_study", "A title", {"seed": 0, "scale": "smoke"})


@pytest.fixture
def tree(chains, moons):
    return evaluate(chains, moons, {"fgsm": FGSM()}, num_points=5)


def test_manifest_is_there_from_the_start(results):
    manifest = read_manifest(results.folder)
    assert manifest["study"] == "01_study"
    assert manifest["title"] == "A title"
    assert manifest["settings"] == {"seed": 0, "scale": "smoke"}
    assert manifest["finished"] is False
    assert {"bayesrob", "python", "torch", "pyro-ppl", "arviz"} <= set(manifest["versions"])


def test_tree_comes_back_identical(results, tree):
    results.tree("hmc", tree, "caption")
    entry = read_manifest(results.folder)["trees"]["hmc"]
    assert entry == {"file": "hmc.nc", "caption": "caption"}
    with xr.open_datatree(results.folder / entry["file"], engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)


def test_table_comes_back(results):
    table = pd.DataFrame({"method": ["hmc", "svi"], "accuracy": [0.5, 0.25]})
    results.table("scores", table, "caption")
    pd.testing.assert_frame_equal(pd.read_csv(results.folder / "scores.csv"), table)
    assert read_manifest(results.folder)["tables"]["scores"]["file"] == "scores.csv"


def test_figure_is_a_picture(results):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([0, 1], [1, 0])
    results.figure("line", figure, "caption")
    assert (results.folder / "line.png").read_bytes().startswith(b"\x89PNG")


def test_notes_keep_their_order(results):
    results.note("first")
    results.note("second")
    assert read_manifest(results.folder)["notes"] == ["first", "second"]


def test_finish(results):
    assert results.finish() == results.folder
    manifest = read_manifest(results.folder)
    assert manifest["finished"] is True
    assert manifest["seconds"] >= 0


def test_a_crash_while_writing_a_tree_loses_nothing(results, tree, monkeypatch):
    results.tree("good", tree, "caption")
    before = (results.folder / "good.nc").read_bytes(), (results.folder / MANIFEST).read_text()

    def crash(self, path, **kwargs):
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.DataTree, "to_netcdf", crash)
    for name in ("good", "next"):
        with pytest.raises(KeyboardInterrupt):
            results.tree(name, tree, "caption")
    assert ((results.folder / "good.nc").read_bytes(), (results.folder / MANIFEST).read_text()) == before
    assert not (results.folder / "next.nc").exists()


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(results):
    results.note("kept")
    results.manifest["settings"]["bad"] = object()
    with pytest.raises(TypeError):
        results.note("lost")
    assert read_manifest(results.folder)["notes"] == ["kept"]


def test_a_foreign_folder_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no results"):
        Results(tmp_path, "study", "title", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InputError, match="holds no results"):
        Results(path, "study", "title", {})
    assert path.read_text() == "mine"


def test_earlier_results_are_replaced(results):
    results.note("old")
    again = Results(results.folder, "01_study", "New", {})
    assert read_manifest(again.folder)["title"] == "New"
    assert read_manifest(again.folder)["notes"] == []


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not exist.*Run a study"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text("{half")
    with pytest.raises(CheckpointError, match="damaged"):
        read_manifest(tmp_path)


def test_manifest_is_plain_json(results):
    assert json.loads((results.folder / MANIFEST).read_text()) == results.manifest
