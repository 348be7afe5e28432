"""Files that 0.1 wrote are found under the same keys, and say the same numbers."""

from __future__ import annotations

import functools
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import bayesrob as br
from bayesrob import inference, sweeps
from bayesrob.attacks import Attack
from bayesrob.inference import Inference
from bayesrob.predictive import Predictive
from tests.saved_by_0_1.cases import grids, methods, points

HERE = Path(__file__).parent
METHODS = sorted(methods())


@functools.cache
def expected() -> dict[str, Tensor]:
    return load_file(HERE / "expected.safetensors")


def close(found: Tensor, name: str) -> None:
    """To rounding, since another processor multiplies in another order."""
    torch.testing.assert_close(found, expected()[name], rtol=1e-5, atol=1e-5, equal_nan=True)


def said(post: Predictive) -> Tensor:
    x = points().x_test[:4]
    return post.logits(x) if hasattr(post, "weights") else post.logits(x, num_draws=min(2, post.num_draws), seed=5)


@pytest.mark.parametrize("name", METHODS)
def test_posteriors(name):
    close(said(br.load(HERE / "posteriors" / name)), f"posterior {name}")


@pytest.mark.parametrize("name", METHODS)
def test_fits_are_found_not_made_again(name, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again: the key has changed")

    monkeypatch.setattr(Inference, "fit", fail)
    method, model = methods()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the fit warned of
        post = inference.fit_once(method, model, points(), HERE / "fits", seed=4)
    close(post.freeze(1, seed=1).logits(points().x_test[:4]), f"fit {name}")


def test_sweep_cells(tmp_path):
    folder = shutil.copytree(HERE / "sweep", tmp_path / "sweep")
    written = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    done = sweeps.run(grids(), folder, workers=1)
    assert done == {"done": 3, "failed": 0, "damaged": 0, "missing": 0}
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == written
    tree = sweeps.collect(folder)
    for method in tree.children:
        close(torch.from_numpy(tree[method].to_dataset().sortby("cell")["accuracy"].values.copy()), f"sweep {method}")


def test_runs_of_audits(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise AssertionError("attacked again: the key has changed")

    monkeypatch.setattr(Attack, "run", fail)
    folder = shutil.copytree(HERE / "audit", tmp_path / "audit")
    post = br.load(HERE / "posteriors" / "SGD")
    found = br.audit(post, points().x_test, points().y_test, eps=0.2, level="quick", folder=folder)
    close(torch.from_numpy(found["checks"]["value"].values.copy()), "audit")
