"""Does a Bayesian network know that it is being attacked? Uncertainty scores, and how well they tell attacked from clean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy import optimize, special

from bayesrob.analysis.intervals import LEVEL, binomial_interval, check_level
from bayesrob.errors import InputError

__all__ = ["auroc", "detection", "uncertainty"]

NORMALISED = 1e-4
"""By how much probabilities may sum to something else than one: float32 over a thousand classes."""


def uncertainty(log_probabilities: Any) -> xr.Dataset:
    """How unsure the averaged prediction is, in nats, and how much of that is the draws' disagreement.

    With each draw's probabilities p_d and their mean pbar, in log space throughout:

    - `entropy`: H(pbar), in [0, log K]; total uncertainty.
    - `expected_entropy`: mean_d H(p_d); what every draw holds to be open.
    - `mutual_information`: H(pbar) - mean_d H(p_d) = mean_d KL(p_d || pbar), in [0, log(number of draws)]: between label and
      weights ("BALD", Houlsby et al. 2011; as a detector of adversarial examples Smith & Gal 2018). Taken as the mean
      divergence, which equal draws make zero and rounding not negative. Of one draw it is zero.

    Args:
        log_probabilities: of every draw, `[draw, point, class]`, -inf allowed: an array, or a DataArray with dims of these
            names.

    Returns:
        Dataset of the three over `point`.

    Raises:
        InputError: other shapes, NaN, rows that do not sum to one (logits need a log-softmax first).
    """
    if isinstance(log_probabilities, xr.DataArray):
        if set(log_probabilities.dims) != {"draw", "point", "class"}:
            raise InputError(f"Dims {log_probabilities.dims}.", "Each draw predicts.", "Name them draw, point, class.")
        log_probabilities = log_probabilities.transpose("draw", "point", "class").values
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    if log_p.ndim != 3 or 0 in log_p.shape:
        raise InputError(f"Shape {log_p.shape}.", "[draw, point, class] is needed.", "Check the array.")
    off = np.abs(special.logsumexp(log_p, axis=-1))
    if not (off <= NORMALISED).all():  # NaN is not either
        raise InputError(
            "Log probabilities that do not sum to one, or NaN.",
            "An entropy of anything else means nothing.",
            "Give log_softmax of each draw's logits.",
        )
    log_mean = special.logsumexp(log_p, axis=0) - math.log(len(log_p))
    # Where a draw gives nothing the mean may give nothing, too: 0 log(0 / 0) is 0.
    ratio = np.where(np.isneginf(log_p), 0.0, log_p - np.where(np.isneginf(log_mean), 0.0, log_mean))
    divergence = (np.exp(log_p) * ratio).sum(-1)
    values = {
        "entropy": special.entr(np.exp(log_mean)).sum(-1),
        "expected_entropy": special.entr(np.exp(log_p)).sum(-1).mean(0),
        "mutual_information": divergence.mean(0).clip(min=0),
    }
    return xr.Dataset({name: ("point", row) for name, row in values.items()})


def auroc(negatives: Any, positives: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """The area under the ROC curve, P(positive scores higher) + P(equal) / 2 (Mann & Whitney 1947), with its interval.

    The standard error is that of DeLong, DeLong & Clarke-Pearson 1988, which assumes no distribution; the interval is made
    on the logit scale, so that it stays in [0, 1] (Perme & Manevski 2018). Where the scores are separated and that error is
    zero, the other end is the area whose standard error by Hanley & McNeil 1982 just reaches what was found, with sample
    sizes as Newcombe 2006 has them.

    Args:
        negatives, positives: scores of independent points, higher where more positive. level: coverage.

    Returns:
        Area, lower and upper end; NaN where one of the two is empty, the ends also where it is a single point among the
        other's.

    Raises:
        InputError: NaN among the scores, or a level outside (0, 1).
    """
    check_level(level)
    low, high = _scores(negatives), _scores(positives)
    m, n = len(low), len(high)
    if 0 in (m, n):
        return math.nan, math.nan, math.nan
    # Each point's share of the others that it is on the right side of.
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
    """A score as a detector of adversarial examples: what is above a threshold is refused.

    Args:
        clean, adversarial: scores `[point]`, higher where less trusted.
        false_positives: share of clean points that may be refused. The threshold is the lowest clean score that keeps to it;
            what is equal to it passes.
        level: coverage of the intervals.

    Returns:
        Dataset: `auroc` (see there); `threshold`; `false_positive_rate` as it came out; `false_negative_rate`, the share of
        adversarial points that pass; `auroc_interval` and `false_negative_interval` (Wilson) over `bound`. NaN where there
        are no clean or no adversarial points.

    Raises:
        InputError: NaN among the scores, false_positives or a level outside (0, 1).
    """
    if not 0 < false_positives < 1:
        raise InputError(f"false_positives is {false_positives}.", "It is a share of clean points.", "Give e.g. 0.05.")
    area, *ends = auroc(clean, adversarial, level)
    clean, adversarial = np.sort(_scores(clean)), _scores(adversarial)
    nothing = math.isnan(area)
    refused = math.floor(false_positives * len(clean) + 1e-9)  # 0.05 of 40 is two, whatever rounding says
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
        raise InputError("Scores are NaN.", "They rank nothing.", "Check the predictions.")
    return scores


def _below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of `ordered` are below each value, equal ones counted half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def _separated(m: int, n: int, z: float) -> float:
    """The smallest area that may be taken for one: (1 - area)^2 = z^2 variance(area)."""
    count = (m + n) / 2 - 1

    def excess(area: float) -> float:
        more = count * ((1 - area) / (2 - area) + area / (1 + area))
        return (1 - area) - z**2 * area * (1 + more) / (m * n)

    return float(optimize.brentq(excess, 0.0, 1.0))  # pyright: ignore[reportArgumentType]
