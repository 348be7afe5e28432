"""Sweeps that are interrupted, damaged, refused, or run on another executor end with the same results."""

from __future__ import annotations

import concurrent.futures
import json
import shutil

import numpy as np
import pytest
import torch

import bayesrob as br
from bayesrob import sweeps
from bayesrob.errors import BayesrobError, InputError
from bayesrob.evaluation.points import chosen_points
from bayesrob.sweeps import Grid, files
from tests.sweeps.helpers import ALL, FIXED, SMALL, assert_same


def cell_of(grid: Grid, number: int = 0):
    return grid.cells()[number]


def test_a_cell_scores_what_its_posterior_does(reference):
    """Trained and attacked by hand."""
    cell = cell_of(SMALL, 5)
    dataset = br.data.load("robust_features", n_train=200, n_test=60, d=63, seed=0)
    net = br.nets.mlp(64, (8, 8), 2, activation="tanh", seed=0)
    post = br.inference.SGD(epochs=5, decay=False, batch_size=64).fit(net, dataset, seed=0)
    _, x, y = chosen_points(dataset, 30, 0)
    scores = files.read(reference, cell)
    with torch.no_grad():
        assert float(scores["accuracy"]) == float((post(x).argmax(1) == y).double().mean())
        attacked = br.attacks.FGSM(eps=0.1)(post, x, y)
        before, after = (post(z).double().softmax(1) for z in (x, attacked))
    assert float(scores["adversarial_accuracy"].sel(attack="FGSM")) == float((after.argmax(1) == y).double().mean())
    apart = (before - after).abs().amax(1).mean()
    assert float(scores["softmax_robustness"].sel(attack="FGSM")) == pytest.approx(1 - float(apart), abs=1e-6)
    twice = (before.softmax(1) - after.softmax(1)).abs().amax(1).mean()
    assert float(scores["resoftmaxed_robustness"].sel(attack="FGSM")) == pytest.approx(1 - float(twice), abs=1e-6)


def test_chains_say_whether_they_moved(reference):
    tree = sweeps.collect(reference)
    chains, sgd = tree["HMC"].to_dataset(), tree["SGD"].to_dataset()
    assert chains["num_draws"].values.tolist() == [2.0 * n for n in chains["inference.num_samples"].values]
    assert (chains["distinct_draws"] <= chains["num_draws"]).all()
    assert ((chains["acceptance_rate"] > 0) & (chains["acceptance_rate"] <= 1)).all()
    assert sgd["acceptance_rate"].isnull().all()
    assert set(sgd["net.width"].values.tolist()) == {8, 12}


def test_what_is_done_is_not_done_again(folder, monkeypatch):
    monkeypatch.setattr(sweeps.engine.work, "do", None)
    assert sweeps.run(ALL, folder, workers=1)["done"] == 20


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "gone"])
def test_damaged_results_are_found_and_done_again(folder, reference, damage):
    path, other = (files.path_of(folder, cell_of(SMALL, n)) for n in (1, 4))
    if damage == "gone":
        path.unlink()
    else:
        content = {"truncated": path.read_bytes()[:900], "foreign": other.read_bytes(), "empty": b""}[damage]
        path.write_bytes(content)
    status = sweeps.status(folder)
    assert (status["done"], status["missing" if damage == "gone" else "damaged"]) == (19, 1)
    before = {p: p.stat().st_mtime_ns for p in (folder / "cells").iterdir() if p != path}
    sweeps.run(ALL, folder, workers=1)
    assert_same(folder, reference)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in before.items())


def test_another_grid_is_refused_and_the_difference_shown(folder):
    with pytest.raises(InputError, match=r"another sweep: 8 no longer there"):
        sweeps.run(SMALL, folder, workers=1)
    wider = Grid(SMALL.fixed, {"net.width": [99], "net.depth": [1], "inference.epochs": [2]})
    with pytest.raises(InputError, match=r'another sweep: 1 new.*"width":99'):
        sweeps.run([*ALL, wider], folder, workers=1)


def test_a_bad_setting_is_refused_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.engine.work, "do", None)
    with pytest.raises(InputError, match="no setting 'epoch'"):
        sweeps.run([SMALL, Grid({**FIXED, "inference": {"method": "SGD", "epoch": 1}}, {"net.width": [8]})], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_folders_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        sweeps.run(SMALL, tmp_path / "file" / "sweep", workers=1)
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(InputError, match="room for 10 bytes"):
        sweeps.run(SMALL, tmp_path / "full", workers=1)
    with pytest.raises(InputError, match="no device 'gpu:7'"):
        sweeps.run(SMALL, tmp_path / "full", workers=1, devices=["gpu:7"])
    with pytest.raises(InputError, match="holds no sweep"):
        sweeps.status(tmp_path / "full")
    (tmp_path / "full" / "sweep.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        sweeps.collect(tmp_path / "full")


def test_a_failed_cell_keeps_its_error_and_is_tried_again_on_request(tmp_path, monkeypatch):
    """What the run had reached before it stays."""
    score, grid = sweeps.work.score, Grid(SMALL.fixed, {"net.width": [8], "net.depth": [1], "inference.epochs": [2, 3]})

    def fails(post, cell):
        if cell.inference["epochs"] == 3:
            raise ValueError("no luck")
        return score(post, cell)

    monkeypatch.setattr(sweeps.work, "score", fails)
    status = sweeps.run(grid, tmp_path, workers=1)
    assert (status["done"], status["failed"]) == (1, 1)
    (text,) = status.errors.values()
    assert "no luck" in text
    monkeypatch.setattr(sweeps.work, "score", score)
    assert sweeps.run(grid, tmp_path, workers=1)["failed"] == 1
    assert sweeps.run(grid, tmp_path, workers=1, retry=True) == {"done": 2, "failed": 0, "damaged": 0, "missing": 0}


def test_training_that_blows_up_is_reported_and_leaves_no_cell_missing(tmp_path):
    grid = Grid({**FIXED, "inference": {**FIXED["inference"], "lr": 1e38}}, {"net.width": [8], "inference.epochs": [2, 5]})
    assert sweeps.run(grid, tmp_path, workers=1)["done"] == 2
    assert all("NaN or infinite" in notes for notes in sweeps.collect(tmp_path)["SGD"]["notes"].values)
    assert np.isfinite(sweeps.collect(tmp_path)["SGD"]["loss"]).all()


def test_any_executor_will_do(tmp_path, reference):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        sweeps.run(ALL, tmp_path, executor=executor)
    assert_same(tmp_path, reference)


def test_an_executor_that_breaks(tmp_path):
    class Broken:
        def submit(self, *_):
            future = concurrent.futures.Future()
            future.set_exception(concurrent.futures.BrokenExecutor("gone"))
            return future

    with pytest.raises(BayesrobError, match="broke at 4 of 4 runs"):
        sweeps.run(SMALL, tmp_path, executor=Broken())  # pyright: ignore[reportArgumentType]
    assert sweeps.status(tmp_path)["missing"] == 12


def test_json_of_the_manifest_says_what_the_sweep_is(reference):
    manifest = json.loads((reference / "sweep.json").read_text())
    assert len(manifest["cells"]) == 20
    assert manifest["numerics"] in ("plain", "onednn")
    assert np.isfinite(sweeps.collect(reference)["SGD"]["loss"]).all()
