"""The rank correlation of two scores of many settings."""

from __future__ import annotations

import numpy as np

from bayesrob.analysis.intervals import LEVEL, check_level
from bayesrob.arguments import whole
from bayesrob.errors import InputError

__all__ = ["rank_correlation"]


def rank_correlation(
    one: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Return Spearman's rank correlation with a percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        one: the first score of each setting, `[setting]`.
        other: the second score of each setting, `[setting]`.
        groups: the group of each setting, e.g. its training run, `[setting]`. Whole groups are resampled, since dependent
            settings would otherwise count as independent. None, the default, makes each setting a group of its own.
        num_resamples: number of bootstrap resamples.
        seed: seed of the resamples.
        level: coverage of the interval.

    Returns:
        The correlation, the lower and the upper end. They are NaN where a score is the same for all settings, or where
        there are fewer than three settings.

    Raises:
        InputError: lengths that differ, numbers that are not finite, or a level outside (0, 1).

    Example:
        >>> round(br.analysis.rank_correlation([1, 2, 3, 4, 5], [1, 4, 9, 16, 25], num_resamples=100)[0], 6)
        1.0
    """
    check_level(level)
    num_resamples = whole("num_resamples", num_resamples, "It counts the resamples of the bootstrap.")
    x, y = (np.asarray(values, dtype=float) for values in (one, other))
    labels = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(x) == len(y) == len(labels) or x.ndim != 1:
        raise InputError(
            f"The scores have shapes {x.shape} and {y.shape}, the groups {labels.shape}.",
            "Each setting has both scores.",
            "Give one of each for every setting.",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("Some scores are not finite.", "They have no rank.", "Leave these settings out, and say so.")
    correlation = _spearman(x, y)
    if not np.isfinite(correlation):
        return float("nan"), float("nan"), float("nan")
    members = [np.flatnonzero(labels == group) for group in range(labels.max() + 1)]
    generator, resampled = np.random.default_rng(seed), []
    for _ in range(num_resamples):
        drawn = generator.integers(len(members), size=len(members))
        rows = drawn if groups is None else np.concatenate([members[i] for i in drawn])
        resampled.append(_spearman(x[rows], y[rows]))
    ends = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2]) if np.isfinite(resampled).any() else (np.nan,) * 2
    return correlation, float(ends[0]), float(ends[1])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    from scipy import stats  # imported here because it takes a second

    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
