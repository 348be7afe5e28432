"""Whether two scores of many settings rise together."""

from __future__ import annotations

import numpy as np

from bayesrob.analysis.intervals import LEVEL, check_level
from bayesrob.errors import InputError

__all__ = ["rank_correlation"]


def rank_correlation(
    one: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Spearman's correlation of ranks, with a percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        one, other: a number for each setting.
        groups: of each setting, what it shares with others, e.g. its training run: groups are resampled, not settings, or
            those that hang together would count as if they did not. None: each its own.
        num_resamples: of the bootstrap. seed: of these. level: coverage.

    Returns:
        Correlation, lower and upper end. NaN where a score is the same for all, or there are fewer than three settings.

    Raises:
        InputError: lengths that differ, numbers that are not finite.
    """
    check_level(level)
    x, y = (np.asarray(values, dtype=float) for values in (one, other))
    labels = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(x) == len(y) == len(labels) or x.ndim != 1:
        raise InputError(f"Scores of {x.shape} and {y.shape} settings.", "Each setting has both.", "Give as many of each.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("Some scores are not finite.", "They have no rank.", "Leave these settings out, and say so.")
    found = _spearman(x, y)
    if not np.isfinite(found):
        return float("nan"), float("nan"), float("nan")
    members = [np.flatnonzero(labels == group) for group in range(labels.max() + 1)]
    generator, resampled = np.random.default_rng(seed), []
    for _ in range(num_resamples):
        drawn = generator.integers(len(members), size=len(members))
        rows = drawn if groups is None else np.concatenate([members[i] for i in drawn])
        resampled.append(_spearman(x[rows], y[rows]))
    ends = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2]) if np.isfinite(resampled).any() else (np.nan,) * 2
    return found, float(ends[0]), float(ends[1])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    from scipy import stats  # imported here because it takes a second

    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
