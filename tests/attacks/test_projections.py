"""Smallest moves onto a hyperplane inside a box, against a linear or quadratic programme."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from bayesrob.attacks.geometry import norms
from bayesrob.attacks.projections import DUAL, to_hyperplane

GENERATOR = torch.Generator().manual_seed(5)
X = torch.rand(40, 6, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(40, 6, generator=GENERATOR, dtype=torch.float64)
GAP = torch.randn(40, generator=GENERATOR, dtype=torch.float64) * 0.6


@pytest.mark.parametrize("norm", DUAL)
def test_without_bounds_it_is_the_closed_form(norm):
    d = to_hyperplane(X, W, GAP, norm, None)
    torch.testing.assert_close((W * d).sum(1), GAP)
    torch.testing.assert_close(norms(d, norm), GAP.abs() / norms(W, DUAL[norm]))


@pytest.mark.parametrize("norm", DUAL)
def test_with_bounds_it_is_the_solvers(norm):
    d = to_hyperplane(X, W, GAP, norm, (0.0, 1.0))
    assert ((X + d >= -1e-12) & (X + d <= 1 + 1e-12)).all()
    clipped = 0
    for x, w, gap, found in zip(X.numpy(), W.numpy(), GAP.numpy(), d.numpy(), strict=True):
        furthest = sum(
            max(wi * (1 - xi), -wi * xi) if gap > 0 else max(-wi * (1 - xi), wi * xi) for wi, xi in zip(w, x, strict=True)
        )
        if furthest < abs(gap):  # out of reach: as far as the box goes
            assert abs(w @ found) == pytest.approx(furthest)
            continue
        assert w @ found == pytest.approx(gap, abs=1e-9)
        best = solve(x, w, gap, norm)
        length = {"l_inf": np.abs(found).max(), "l_2": np.linalg.norm(found), "l_1": np.abs(found).sum()}[norm]
        assert length == pytest.approx(best, rel=1e-5, abs=1e-7)
        clipped += int(length > abs(gap) / float(norms(torch.tensor(w)[None], DUAL[norm])) * (1 + 1e-6))
    assert clipped > 3  # the box matters


def solve(x: np.ndarray, w: np.ndarray, gap: float, norm: str) -> float:
    n = len(x)
    if norm == "l_2":
        start = to_hyperplane(*(torch.tensor(v)[None] for v in (x, w)), torch.tensor([gap]), "l_1", (0.0, 1.0))[0].numpy()
        solved = minimize(
            lambda d: d @ d,
            start,
            jac=lambda d: 2 * d,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints={"type": "eq", "fun": lambda d: w @ d - gap, "jac": lambda d: w},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(np.sqrt(solved.fun))
    # d and what bounds it: one t for all components (l_inf), or one each (l_1).
    k = 1 if norm == "l_inf" else n
    spread = np.ones((n, 1)) if norm == "l_inf" else np.eye(n)
    cost = np.concatenate([np.zeros(n), np.ones(k)])
    upper = np.block([[np.eye(n), -spread], [-np.eye(n), -spread]])
    equal = np.concatenate([w, np.zeros(k)])[None]
    bounds = [*zip(-x, 1 - x, strict=True), *[(0, None)] * k]
    return linprog(cost, upper, np.zeros(2 * n), equal, [gap], bounds).fun


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("norm", DUAL)
def test_no_plane_no_move(norm, bounds):
    d = to_hyperplane(X[:2], torch.zeros(2, 6, dtype=torch.float64), GAP[:2], norm, bounds)
    assert torch.equal(d, torch.zeros_like(d))
    d = to_hyperplane(X[:2], W[:2], torch.zeros(2, dtype=torch.float64), norm, bounds)
    assert torch.equal(d, torch.zeros_like(d))
