"""Scores of uncertainty, and how well they separate attacked inputs from clean ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayesrob.analysis.intervals import LEVEL, binomial_interval, check_level
from bayesrob.arguments import number
from bayesrob.errors import InputError

__all__ = ["auroc", "detection", "uncertainty"]

NORMALISED = 1e-4
"""How far the sum of probabilities may be from one: float32 over a thousand classes stays within it."""


def uncertainty(log_probabilities: Any) -> xr.Dataset:
    """Return the uncertainty of the averaged prediction in nats, and the part of it that is the draws' disagreement.

    Let p_d be the probabilities of draw d and pbar their mean. All sums are computed in log space.

    - `entropy` is H(pbar), in [0, log K], the total uncertainty.
    - `expected_entropy` is mean_d H(p_d), the uncertainty that each draw has by itself.
    - `mutual_information` is H(pbar) - mean_d H(p_d) = mean_d KL(p_d || pbar), in [0, log(number of draws)], between label
      and weights ("BALD", Houlsby et al. 2011; as a detector of adversarial examples Smith & Gal 2018). It is computed as
      the mean divergence, which is exactly zero for equal draws and never negative. For a single draw it is zero.

    Args:
        log_probabilities: log probabilities of every draw, `[draw, point, class]`, where -inf is allowed: an array, or a
            DataArray with dims of these names.

    Returns:
        Dataset with these three variables over `point`.

    Raises:
        InputError: another shape, NaN, or probabilities that do not sum to one (logits need a log-softmax first).

    Example:
        >>> import numpy as np
        >>> same = np.log(np.full((3, 2, 4), 0.25))
        >>> br.analysis.uncertainty(same)["mutual_information"].values.tolist()
        [0.0, 0.0]
    """
    if isinstance(log_probabilities, xr.DataArray):
        if set(log_probabilities.dims) != {"draw", "point", "class"}:
            raise InputError(
                f"The dims are {log_probabilities.dims}.",
                "Every draw predicts every class at every point.",
                "Name them draw, point, class.",
            )
        log_probabilities = log_probabilities.transpose("draw", "point", "class").values
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    if log_p.ndim != 3 or 0 in log_p.shape:
        raise InputError(
            f"The shape is {log_p.shape}.", "Every draw predicts every class at every point.", "Give [draw, point, class]."
        )
    off = np.abs(special.logsumexp(log_p, axis=-1))
    if not (off <= NORMALISED).all():  # also true for NaN
        raise InputError(
            "The probabilities do not sum to one, or are NaN.",
            "Entropy is defined for probabilities only.",
            "Give log_softmax of each draw's logits.",
        )
    log_mean = special.logsumexp(log_p, axis=0) - math.log(len(log_p))
    # Where a draw's probability is 0, the mean may be 0, too: 0 log(0 / 0) is 0.
    ratio = np.where(np.isneginf(log_p), 0.0, log_p - np.where(np.isneginf(log_mean), 0.0, log_mean))
    divergence = (np.exp(log_p) * ratio).sum(-1)
    values = {
        "entropy": special.entr(np.exp(log_mean)).sum(-1),
        "expected_entropy": special.entr(np.exp(log_p)).sum(-1).mean(0),
        "mutual_information": divergence.mean(0).clip(min=0),
    }
    return xr.Dataset({name: ("point", row) for name, row in values.items()})


def auroc(negatives: Any, positives: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """Return the area under the ROC curve, P(positive scores higher) + P(equal) / 2 (Mann & Whitney 1947), and an interval.

    The standard error is that of DeLong, DeLong & Clarke-Pearson 1988, which assumes no distribution. The interval is
    computed on the logit scale, so that it stays in [0, 1] (Perme & Manevski 2018). Where the scores are separated, that
    standard error is zero. The inner end is then the area whose distance to 0 or 1 equals z times its standard error by
    Hanley & McNeil 1982, with the sample sizes of Newcombe 2006.

    Args:
        negatives: scores of independent negative points.
        positives: scores of independent positive points. They are expected to be higher.
        level: coverage of the interval.

    Returns:
        The area, the lower and the upper end. All are NaN where there are no negative or no positive points; the ends are
        NaN also where one of the two is a single point whose score lies among the others.

    Raises:
        InputError: NaN among the scores, or a level outside (0, 1).

    Example:
        >>> area, low, high = br.analysis.auroc([0.1, 0.2, 0.6], [0.4, 0.8, 0.9])
        >>> 0 < low < 0.5 < area < high < 1
        True
    """
    check_level(level)
    low, high = _scores(negatives), _scores(positives)
    m, n = len(low), len(high)
    if 0 in (m, n):
        return math.nan, math.nan, math.nan
    # For each point the share of the points of the other kind to which it is ranked correctly.
    of_high, of_low = _below(np.sort(low), high) / m, 1 - _below(np.sort(high), low) / n
    area = float(of_high.mean())
    z = float(special.ndtri(0.5 + level / 2))
    if area in (0.0, 1.0):
        far = _separated(m, n, z)
        return (area, 0.0, 1 - far) if area == 0 else (area, far, 1.0)
    spread = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan for values in (of_low, of_high)]
    half = z * math.sqrt(sum(spread)) / (area * (1 - area))
    ends = special.expit(special.logit(area) + np.array([-half, half]))
    return area, float(ends[0]), float(ends[1])


def detection(clean: Any, adversarial: Any, false_positives: float = 0.05, level: float = LEVEL) -> xr.Dataset:
    """Evaluate a score as a detector of adversarial examples, which refuses points whose score is above a threshold.

    Args:
        clean: scores of clean points, `[point]`.
        adversarial: scores of attacked points, `[point]`. They are expected to be higher.
        false_positives: share of the clean points that may be refused (5% by convention). The threshold is the lowest clean
            score with at most this share above it; a point with exactly this score passes.
        level: coverage of the intervals.

    Returns:
        Dataset: `auroc`, as of the function `auroc`; `threshold`; `false_positive_rate`, the share of clean points that are
        refused; `false_negative_rate`, the share of adversarial points that pass; `auroc_interval` and
        `false_negative_interval` (Wilson) over `bound`. They are NaN where there are no clean or no adversarial points.

    Raises:
        InputError: NaN among the scores, or false_positives or a level outside (0, 1).

    Example:
        >>> table = br.analysis.detection([0.1, 0.2, 0.3, 0.4], [0.2, 0.7, 0.8], false_positives=0.25)
        >>> float(table["threshold"]), float(table["false_positive_rate"])
        (0.3, 0.25)
    """
    number("false_positives", false_positives, "It is a share of the clean points.", above=0, below=1)
    area, *ends = auroc(clean, adversarial, level)
    clean, adversarial = np.sort(_scores(clean)), _scores(adversarial)
    nothing = math.isnan(area)
    refused = math.floor(false_positives * len(clean) + 1e-9)  # 0.05 of 40 is two in spite of rounding
    threshold = math.nan if len(clean) == 0 else float(clean[len(clean) - 1 - refused])
    passed = int((adversarial <= threshold).sum())
    interval = (math.nan, math.nan) if nothing else binomial_interval(passed, len(adversarial), level)
    return xr.Dataset(
        {
            "auroc": area,
            "auroc_interval": ("bound", ends),
            "threshold": threshold,
            "false_positive_rate": math.nan if len(clean) == 0 else float((clean > threshold).mean()),
            "false_negative_rate": math.nan if nothing else passed / len(adversarial),
            "false_negative_interval": ("bound", list(interval)),
        },
        coords={"bound": ["lower", "upper"]},
        attrs={"level": level, "num_clean": len(clean), "num_adversarial": len(adversarial)},
    )


def _scores(values: Any) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(scores).any():
        raise InputError("Scores are NaN.", "They have no rank.", "Check the predictions.")
    return scores


def _below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how many of `ordered` are below each value, where equal ones count half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def _separated(m: int, n: int, z: float) -> float:
    """Return the smallest area that is compatible with one: (1 - area)^2 = z^2 variance(area)."""
    from scipy import optimize  # imported here because it takes a tenth of a second

    count = (m + n) / 2 - 1

    def excess(area: float) -> float:
        more = count * ((1 - area) / (2 - area) + area / (1 + area))
        return (1 - area) - z**2 * area * (1 + more) / (m * n)

    return float(optimize.brentq(excess, 0.0, 1.0))  # pyright: ignore[reportArgumentType]
