"""No test asks the machine: a probe that is made up, and a predictive that is watched."""

from __future__ import annotations

import pytest
import torch

import bayesrob as br
from bayesrob.data import Dataset
from bayesrob.numerics import routes
from bayesrob.predictive import Predictive
from tests.numerics.routes.watching import Probe, Spy, settings


@pytest.fixture(autouse=True)
def probe(monkeypatch, tmp_path) -> Probe:
    """No test sees another's outcome, and each leaves torch's settings as they were."""
    simulated = Probe()
    monkeypatch.setattr(routes, "probe", simulated)
    monkeypatch.setattr(routes, "_outcomes", {})
    monkeypatch.setenv("BAYESROB_CACHE", str(tmp_path))
    monkeypatch.delenv("BAYESROB_NUMERICS", raising=False)
    yield simulated
    assert settings() == ["none"] * 4


@pytest.fixture
def seen() -> list:
    return []


@pytest.fixture
def watched(seen) -> Predictive:
    return br.predictive.from_modules([Spy(seen).eval(), Spy(seen).eval()], bounds=(0, 1), input_shape=(100,), num_classes=3)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, 100, generator=g), torch.randint(3, (60,), generator=g)
    return br.data.from_arrays(x[:40], y[:40], x[40:], y[40:], bounds=(0, 1), num_classes=3, name="random")
