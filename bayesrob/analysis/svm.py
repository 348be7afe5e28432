"""Soft-margin support vector machines under the worst perturbation of their inputs, solved to a proven optimality gap."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import linalg

from bayesrob.analysis.tradeoff import check_radius, check_world, expected_excess
from bayesrob.arguments import number, whole
from bayesrob.errors import ConvergenceWarning, InputError

__all__ = ["population_svm", "soft_margin_svm"]

MAX_STEPS = 100
"""The largest number of Newton steps, of two solves each; the problems of the studies need 10 to 60."""


def soft_margin_svm(x: Any, y: Any, eps: float = 0.0, tolerance: float = 1e-7) -> xr.Dataset:
    """Minimise mean_i max(0, 1 - y_i w . x_i + eps |w|_1) over |w|_2 <= 1, the SVM of Tsipras et al. 2019.

    eps |w|_1 is the cost of the worst perturbation of radius eps in l_inf, so that eps > 0 is adversarial training with an
    exact inner maximum. The paper adds lambda / 2 |w|_2^2 to the loss, with lambda such that |w|_2 = 1; that lambda is the
    multiplier of the constraint, and is returned. There is no bias.

    The problem is solved by Mehrotra's primal-dual interior-point method (Nocedal & Wright 2006, "Numerical optimization",
    16.6, here with the second order of the ball) in u - v = w with u, v >= 0 (in w itself if eps = 0). Slacks are
    eliminated, so that a step costs n (2 d)^2 operations. Dual points bound the optimum, so that `gap` holds whatever the
    steps did. 10,000 points of 101 components take seconds.

    Args:
        x: inputs, `[point, component]`.
        y: classes 0 and 1 (-1 and +1 in the paper), `[point]`.
        eps: radius of the perturbation in l_inf; 0, the default, is standard training.
        tolerance: largest `gap`, at least 1e-10 (rounding decides below that).

    Returns:
        Dataset: `weights` `[component]`; `loss` of these weights; `gap`, an upper bound of how far the loss is above the
        optimum; and `multiplier`, the paper's lambda (near 0 where the constraint is not active).

    Raises:
        InputError: shapes that do not fit, values that are not finite, other classes, eps below 0, tolerance below 1e-10.

    Warns:
        ConvergenceWarning: `gap` is above the tolerance after `MAX_STEPS` steps.

    Example:
        >>> svm = br.analysis.soft_margin_svm([[-1.0, 0.0], [1.0, 0.0]], [0, 1])
        >>> svm["weights"].values.round(3).tolist(), bool(svm["gap"] <= 1e-7)
        ([1.0, 0.0], True)
    """
    x, sign = _points(x, y)
    eps = check_radius(eps)
    tolerance = number("tolerance", tolerance, "Rounding decides below 1e-10.", least=1e-10)
    along = sign[:, None] * x
    split = eps > 0
    rows = np.concatenate([along - eps, -along - eps], axis=1) if split else along
    n, dim = rows.shape

    def weights(theta: np.ndarray) -> np.ndarray:
        return theta[: dim // 2] - theta[dim // 2 :] if split else theta

    def loss(w: np.ndarray) -> float:
        return float(np.maximum(0, 1 - along @ w + eps * np.abs(w).sum()).mean())

    state = _started(rows, split)
    best = (math.inf, np.zeros(x.shape[1]), 0.0)
    for step in range(1, MAX_STEPS + 1):  # noqa: B007
        state = _stepped(state, rows, split)
        w = weights(state.theta)
        # The Lagrange bound: sum(dual) - max over |theta| <= 1 (and >= 0) of (dual rows) . theta, for any dual in [0, 1/n].
        dual = state.dual.clip(0, 1 / n)
        pull = dual @ rows
        multiplier = float(np.linalg.norm(np.maximum(pull, 0) if split else pull))
        gap = loss(w) - (float(dual.sum()) - multiplier)
        if gap < best[0]:
            best = (gap, w, multiplier)
        if gap <= tolerance:
            break
    gap, w, multiplier = best
    if gap > tolerance:
        warnings.warn(
            f"The loss of the SVM is within {gap:.2g} of its optimum, not {tolerance:.2g}: rescale x, or raise tolerance.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return xr.Dataset(
        {"weights": ("component", w), "loss": loss(w), "gap": max(gap, 0.0), "multiplier": multiplier},
        attrs={"eps": float(eps), "num_points": n, "tolerance": float(tolerance), "newton_steps": step},
    )


def population_svm(d: int, eta: float, p: float, eps: float = 0.0) -> xr.Dataset:
    """Minimise E max(0, 1 - y w . x + eps |w|_1) over |w|_2 <= 1 on the distribution of `data.robust_features`.

    This is the SVM that infinitely many points would give.
    Exchangeable features have equal weights, because the loss is convex, and no weight is negative. The solution is
    therefore w = (w_1, nu / sqrt(d), ...), and its two numbers are computed by nested one-dimensional minimisation of
    `hinge_loss`. At eta <= eps the weak features only do harm, so that nu = 0; then w_1 = 1 if eps < 2p - 1, else w = 0.

    Args:
        d: number of weak features of the data.
        eta: mean of the weak features.
        p: probability that the first feature has the label's sign.
        eps: radius of the perturbation in l_inf; 0, the default, is standard training.

    Returns:
        Dataset: `weights` `[component]` and `loss`.

    Raises:
        InputError: d below 1, or eta, p or eps out of range.

    Example:
        >>> br.analysis.population_svm(d=2, eta=0.1, p=0.9, eps=0.5)["weights"].values.tolist()
        [1.0, 0.0, 0.0]
    """
    (eta, p), eps = check_world(eta, p), check_radius(eps)
    d = whole("d", d, "It counts the weak features.")
    root = math.sqrt(d)

    def loss(first: float, nu: float) -> float:
        mean = 1 + eps * (first + root * nu) - eta * root * nu
        right, wrong = expected_excess([mean - first, mean + first], nu)
        return float(p * right + (1 - p) * wrong)

    def best_nu(first: float) -> tuple[float, float]:
        return _least(lambda nu: loss(first, nu), math.sqrt(max(1 - first**2, 0.0)))

    first, value = _least(lambda w_1: best_nu(w_1)[1], 1.0)
    weights = np.array([first, *[best_nu(first)[0] / root] * d])
    return xr.Dataset({"weights": ("component", weights), "loss": value}, attrs={"eta": eta, "p": p, "eps": float(eps)})


def _least(f: Callable[[float], float], hi: float) -> tuple[float, float]:
    """Return where a convex f is smallest on [0, hi], and its value there; an end is returned exactly."""
    from scipy import optimize  # imported here because it takes a tenth of a second

    inner = float(optimize.minimize_scalar(f, bounds=(0.0, hi), method="bounded", options={"xatol": 1e-10}).x)  # pyright: ignore
    return min(((at, f(at)) for at in (0.0, hi, inner)), key=lambda pair: pair[1])


@dataclasses.dataclass(frozen=True)
class _State:
    """Weights and slacks, with the dual variables of margin + slack >= 1, slack >= 0, theta >= 0 and 1 >= |theta|^2."""

    theta: np.ndarray
    slack: np.ndarray
    dual: np.ndarray
    slack_dual: np.ndarray
    sign_dual: np.ndarray
    ball_dual: float

    def moved(self, move: _State, size: float) -> _State:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(move), strict=True)
        return _State(*(here + size * along for here, along in pairs))

    def products(self, rows: np.ndarray, split: bool) -> list[tuple[Any, Any]]:
        """Return the slack of each kind of constraint with its dual variables; their products fall to 0."""
        pairs = [(self.slack + rows @ self.theta - 1, self.dual), (self.slack, self.slack_dual)]
        pairs.append((np.array([(1 - self.theta @ self.theta) / 2]), np.array([self.ball_dual])))
        return [*pairs, (self.theta, self.sign_dual)] if split else pairs


def _started(rows: np.ndarray, split: bool) -> _State:
    """Return a start inside all constraints with equal products; the ball's is larger, so that first steps stay inside."""
    n, dim = rows.shape
    theta = np.full(dim, 0.5 / math.sqrt(dim)) if split else np.zeros(dim)
    slack = np.maximum(1 - rows @ theta, 0) + 1
    product = 0.5 / n
    above = slack + rows @ theta - 1
    sign_dual = product / theta if split else np.zeros(dim)
    return _State(theta, slack, product / above, product / slack, sign_dual, 1.0)


def _stepped(state: _State, rows: np.ndarray, split: bool) -> _State:
    """Return the state after one step of Mehrotra.

    A first Newton step towards products of 0 determines the target of the actual step and its second-order correction.
    """
    products = state.products(rows, split)
    count = sum(room.size for room, _ in products)
    mean = sum(float(room @ dual) for room, dual in products) / count
    solve = _newton(state, rows, split)
    aim = solve(*[np.zeros(room.size) for room, _ in products[:3]], *[np.zeros(state.theta.size)] * 2)
    length = _length(state, aim, rows, split)
    reached = state.moved(aim, length).products(rows, split)
    target = mean * (sum(float(room @ dual) for room, dual in reached) / count / mean) ** 3
    bend, shift = float(aim.theta @ aim.theta) / 2, float(state.theta @ aim.theta)
    second = length**2  # the correction of a shortened step is only reliable for its own length
    move = solve(
        target - second * (aim.slack + rows @ aim.theta) * aim.dual,
        target - second * aim.slack * aim.slack_dual,
        target + second * ((shift + bend) * aim.ball_dual + bend * state.ball_dual),
        target - second * aim.theta * aim.sign_dual,
        second * aim.ball_dual * aim.theta,
    )
    return state.moved(move, 0.99 * _length(state, move, rows, split))


def _newton(state: _State, rows: np.ndarray, split: bool) -> Callable[..., _State]:
    """Return a solver for the step after which every product has, to first order, the value that the solver is given."""
    products = state.products(rows, split)
    above, slack, room, theta = products[0][0], state.slack, float(products[2][0][0]), state.theta
    p, q = state.dual / above, state.slack_dual / slack
    matrix = (rows * (p * q / (p + q))[:, None]).T @ rows + np.multiply.outer(theta, theta) * (state.ball_dual / room)
    matrix[np.diag_indices_from(matrix)] += state.ball_dual + (state.sign_dual / theta if split else 0)
    inverse = linalg.cho_factor(matrix)

    def solve(for_above: Any, for_slack: Any, for_room: Any, for_sign: Any, bend: Any) -> _State:
        c = for_above / above + for_slack / slack - 1 / len(rows)
        right = (for_above / above - p * c / (p + q)) @ rows - theta * (float(np.sum(for_room)) / room) - bend
        if split:
            right = right + for_sign / theta
        step = linalg.cho_solve(inverse, right)
        along = rows @ step
        slack_step = (c - p * along) / (p + q)
        return _State(
            step,
            slack_step,
            for_above / above - p * (slack_step + along) - state.dual,
            for_slack / slack - q * slack_step - state.slack_dual,
            (for_sign - state.sign_dual * step) / theta - state.sign_dual if split else np.zeros_like(theta),
            (float(np.sum(for_room)) + state.ball_dual * float(theta @ step)) / room - state.ball_dual,
        )

    return solve


def _length(state: _State, move: _State, rows: np.ndarray, split: bool) -> float:
    """Return the longest step up to 1, within a tenth, that keeps all slacks and dual variables positive."""
    size = 1.0
    while size > 1e-10:
        products = state.moved(move, size).products(rows, split)
        if all((room > 0).all() and (dual > 0).all() for room, dual in products):
            return size
        size *= 0.9
    return 0.0


def _points(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1]:
        raise InputError(
            f"The points have shape {x.shape}, the classes {y.shape}.",
            "Each point has one class.",
            "Give [point, component] and [point].",
        )
    if not np.isfinite(x).all():
        raise InputError("Some points are not finite.", "They have no margin.", "Drop or fill them.")
    if not np.isin(y, (0, 1)).all():
        raise InputError(
            "There are classes other than 0 and 1.", "An SVM separates two classes.", "Use 0 for -1 and 1 for +1."
        )
    return x, 2.0 * y.astype(np.float64) - 1
