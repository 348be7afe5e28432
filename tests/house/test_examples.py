"""The examples in docstrings run, and say what comes out."""

from __future__ import annotations

import doctest
import functools
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import pytest
import torch

import bayesrob as br

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(br.__path__, "bayesrob.") if not module.name.startswith("bayesrob._")
)


@functools.cache
def prepared() -> dict[str, Any]:
    """The names that every example finds, as `docs/api.md` says."""
    ds = br.data.load("half_moons", n_train=60, n_test=20, seed=0)
    net = br.nets.mlp(2, (8,), 2)
    post = br.inference.Ensemble(size=3, base=br.inference.SGD(epochs=5)).fit(net, ds, seed=0)
    return {
        "br": br,
        "torch": torch,
        "ds": ds,
        "net": net,
        "bnn": br.models.BayesianNetwork(net),
        "post": post,
        "x": ds.x_test[:5],
        "y": ds.y_test[:5],
    }


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("registry", [br.attacks.ATTACKS, br.inference.METHODS], ids=["attacks", "methods"])
def test_every_attack_and_method_has_an_example(registry):
    assert not [name for name, kind in registry.items() if ">>> " not in (kind.__doc__ or "")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    for test in examples(importlib.import_module(name)):
        test.globs = {**prepared()}
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
