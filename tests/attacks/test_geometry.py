from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bayesrob.attacks.geometry import NORMS, clip, norms, project, random_point, steepest

BOUNDS = (-1.0, 2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def inside(*shape: int, seed: int = 0) -> torch.Tensor:
    """Points of the box, a third of the components on its faces."""
    points = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return -1 + 3 * (1.5 * points - 0.25).clamp(0, 1)


def bisected(delta: np.ndarray, eps: float, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Nearest point of ball and box by the optimality condition clip(s * delta), s found by bisection."""
    if np.linalg.norm(np.clip(delta, lo, hi)) <= eps:
        return np.clip(delta, lo, hi)
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(np.clip(middle * delta, lo, hi)) <= eps else (low, middle)
    return np.clip(low * delta, lo, hi)


def test_norms_by_hand():
    delta = torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]]])
    assert norms(delta, "l_2").tolist() == [5, 0]
    assert norms(delta, "l_inf").tolist() == [4, 0]


def test_clip():
    x = torch.tensor([-2.0, 0.5, 3.0])
    assert clip(x, (0, 1)).tolist() == [0, 0.5, 1]
    assert clip(x, None) is x


def test_projection_on_the_cube_is_exact():
    x, candidate = inside(50, 2, 3), 3 * normal(50, 2, 3)
    inside_cube = np.clip(candidate.numpy(), x.numpy() - 0.7, x.numpy() + 0.7)
    np.testing.assert_array_equal(project(candidate, x, 0.7, "l_inf", None).numpy(), inside_cube)
    np.testing.assert_array_equal(project(candidate, x, 0.7, "l_inf", BOUNDS).numpy(), np.clip(inside_cube, *BOUNDS))


def test_projection_on_the_ball_is_exact():
    x, candidate = inside(50, 2, 3), 3 * normal(50, 2, 3)
    delta = candidate - x
    length = delta.flatten(1).norm(dim=1).reshape(-1, 1, 1)
    expected = torch.where(length > 0.7, x + 0.7 * delta / length, candidate)
    torch.testing.assert_close(project(candidate, x, 0.7, "l_2", None), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("spread", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("eps", [0.01, 0.7, 2.0, 100.0])
def test_projection_on_ball_and_box_is_the_bisection(eps, spread):
    x = inside(200, 7)
    candidate = x + spread * normal(200, 7)
    ours = project(candidate, x, eps, "l_2", BOUNDS)
    for z, c, p in zip(ours.numpy(), candidate.numpy(), x.numpy(), strict=True):
        np.testing.assert_allclose(z, p + bisected(c - p, eps, -1 - p, 2 - p), rtol=0, atol=1e-7)


def test_projection_on_ball_and_box_solves_the_quadratic_program():
    """Not by the optimality conditions: by a general solver that knows only distance, ball and box."""
    x, candidate = inside(15, 3), inside(15, 3) + 3 * normal(15, 3)
    for p, c in zip(x, candidate, strict=True):
        start = p.numpy()
        ball = {
            "type": "ineq",
            "fun": lambda z, start=start: 0.25 - ((z - start) ** 2).sum(),
            "jac": lambda z, start=start: -2 * (z - start),
        }
        target = c.numpy()
        found = minimize(
            lambda z, target=target: ((z - target) ** 2).sum(),
            start,
            jac=lambda z, target=target: 2 * (z - target),
            bounds=[BOUNDS] * 3,
            constraints=ball,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        ours = project(c[None], p[None], 0.5, "l_2", BOUNDS)[0].numpy()
        np.testing.assert_allclose(ours, found.x, rtol=0, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    size=st.integers(1, 8),
    eps=st.floats(0, 5),
    norm=st.sampled_from(NORMS),
    bounds=st.sampled_from([None, (0.0, 1.0), (-3.0, 0.1)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_projections_are_inside_and_idempotent(data, size, eps, *, norm, bounds, dtype):
    lo, hi = bounds or (-10.0, 10.0)
    points = st.lists(st.floats(lo, hi, width=64), min_size=size, max_size=size)
    x = torch.tensor([data.draw(points)], dtype=dtype)
    candidates = st.lists(st.floats(-20, 20, width=64), min_size=size, max_size=size)
    candidate = torch.tensor([data.draw(candidates)], dtype=dtype)
    z = project(candidate, x, eps, norm, bounds)
    assert float(norms(z - x, norm)) <= eps + 1e-6 * max(1, abs(lo), abs(hi))
    if bounds is not None:
        allowed_lo, allowed_hi = torch.tensor(bounds, dtype=dtype)
        assert (z >= allowed_lo - 1e-6).all()
        assert (z <= allowed_hi + 1e-6).all()
    torch.testing.assert_close(project(z, x, eps, norm, bounds), z, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("norm", NORMS)
def test_points_inside_stay(norm, bounds):
    x = inside(30, 2, 3)
    candidate = clip(x + 0.1 * normal(30, 2, 3).clamp(-1, 1), BOUNDS)
    torch.testing.assert_close(project(candidate, x, 1.0, norm, bounds), candidate, rtol=0, atol=1e-15)
    torch.testing.assert_close(project(candidate + 1, x, 0.0, norm, bounds), x, rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_empty_batches(norm):
    empty = torch.zeros(0, 2, 3)
    assert project(empty, empty, 1.0, norm, BOUNDS).shape == (0, 2, 3)
    assert steepest(empty, norm).shape == (0, 2, 3)
    assert random_point(empty, 1.0, norm, BOUNDS, generator()).shape == (0, 2, 3)


def test_steepest_climbs_fastest():
    """Among directions of norm one, none has a larger inner product with the gradient (its dual norm)."""
    gradient = normal(20, 2, 3)
    for norm, dual in (("l_inf", 1), ("l_2", 2)):
        step = steepest(gradient, norm)
        torch.testing.assert_close(norms(step, norm), torch.ones(20).double(), rtol=1e-12, atol=0)
        gain = (step * gradient).flatten(1).sum(1)
        torch.testing.assert_close(gain, gradient.flatten(1).norm(dual, dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e-20, 1e20, 1e37])
def test_steepest_of_tiny_and_huge_gradients(size):
    gradient = normal(20, 2, 3).float()
    torch.testing.assert_close(steepest(gradient * size, "l_2"), steepest(gradient, "l_2"), rtol=1e-4, atol=1e-5)
    assert torch.equal(steepest(gradient * size, "l_inf"), gradient.sign())


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_no_step(norm):
    gradient = normal(3, 4)
    gradient[1] = 0
    assert (steepest(gradient, norm)[1] == 0).all()
    assert (norms(steepest(gradient, norm), norm)[[0, 2]] > 0.99).all()


def test_random_points_of_the_cube_are_uniform():
    x = inside(1, 3).expand(20_000, 3)
    delta = (random_point(x, 0.5, "l_inf", None, generator()) - x) / 0.5
    assert delta.abs().max() <= 1 + 1e-12
    assert (delta.mean(0).abs() < 5 / (3 * 20_000) ** 0.5).all()
    assert ((delta.abs() < 0.25).double().mean(0) - 0.25).abs().max() < 0.02
    assert (torch.corrcoef(delta.T) - torch.eye(3)).abs().max() < 0.04


def test_random_points_of_the_ball_are_uniform():
    """Then radius^d is uniform, and no direction is preferred."""
    x = inside(1, 3).expand(20_000, 3)
    delta = (random_point(x, 0.5, "l_2", None, generator()) - x) / 0.5
    volume = delta.norm(dim=1) ** 3
    assert volume.max() <= 1 + 1e-6
    quantiles = torch.quantile(volume, torch.linspace(0.1, 0.9, 9).double())
    torch.testing.assert_close(quantiles, torch.linspace(0.1, 0.9, 9).double(), rtol=0, atol=0.02)
    direction = delta / delta.norm(dim=1, keepdim=True)
    assert direction.mean(0).abs().max() < 0.03
    assert (direction.T @ direction / 20_000 - torch.eye(3) / 3).abs().max() < 0.02


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_are_inside_and_reproducible(norm):
    x = inside(500, 2, 3)
    z = random_point(x, 0.8, norm, BOUNDS, generator())
    assert (norms(z - x, norm) <= 0.8 + 1e-12).all()
    assert z.min() >= BOUNDS[0]
    assert z.max() <= BOUNDS[1]
    assert torch.equal(z, random_point(x, 0.8, norm, BOUNDS, generator()))
    assert not torch.equal(z, random_point(x, 0.8, norm, BOUNDS, generator(1)))
