"""The sentences of study 05: how much is artefact, of accuracies and of gradients, what audits and detectors say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayesrob.auditing import verdicts
from shared import detectors
from shared.artefacts import OBJECTIVES, VANISHED, printed
from shared.carbone_2020 import BESIDE
from shared.tables import difference, mcnemar

__all__ = ["notes", "summaries"]


def notes(
    title: str,
    parts: Mapping[str, xr.Dataset],
    mended: Mapping[str, np.ndarray],
    audits: Mapping[str, xr.DataTree],
    *,
    radii: Sequence[float],
    eps: float,
) -> list[str]:
    """How much is artefact, of accuracies and of gradients, and what the audits and the detectors say.

    Args:
        title: name of the data set and of the posterior.
        parts: its groups "accuracy", "gradients" and "detection".
        mended: which points are right after the reference's PGD and after each repair, `[point]`.
        audits: the audits of the audited attack and of the reference's PGD.
        radii: the radii at which both protocols were run.
        eps: the radius that is audited.
    """
    right, norm = parts["accuracy"]["right"], parts["gradients"]["norm"]
    texts = []
    for radius in radii:
        published, strong = (right.sel(protocol=which, eps=radius).values for which in ("reference", "audited"))
        texts.append(
            f"eps {radius:g}: {published.mean():.3f} - {strong.mean():.3f} = {difference(published, strong)} "
            f"(McNemar p = {mcnemar(published, strong):.2g})"
        )
    lines = [f"{title}, accuracy by the reference protocol less the audited, artefact: {'; '.join(texts)}."]
    if beside := printed(title, eps):
        left = {which: float(right.sel(protocol=which, eps=eps).mean()) for which in ("reference", "audited")}
        lines.append(
            f"{title}, eps {eps:g}: table 1 has {beside}; here the reference protocol leaves "
            f"{left['reference']:.3f} and the audited attack {left['audited']:.3f}."
        )
    chain = [step for step in mended if step != BESIDE]
    texts = [f"{later} {difference(mended[step], mended[later])}" for step, later in itertools.pairwise(chain)]
    lines.append(
        f"{title}, eps {eps:g}, what each repair of the reference's PGD ({mended[chain[0]].mean():.3f}) takes "
        f"away: {'; '.join(texts)}; {BESIDE} leaves {mended[BESIDE].mean():.3f}."
    )
    lines.append(vanishing(title, norm, parts["gradients"]["zero"]))
    (good, attack), (_, posterior) = verdicts(audits["audited"])
    (caught, text), _ = verdicts(audits["reference PGD"])
    lines.append(
        f"{title}, audit at eps {eps:g}: of the audited attack: {attack} Of the reference's PGD: {text} {posterior}"
        + ("" if good else " The audited figure is an upper bound.")
        + ("" if not caught else " The reference's figure passed here.")
    )
    return [*lines, *detectors.notes(title, parts["detection"])]


def vanishing(title: str, norm: xr.DataArray, zero: xr.DataArray) -> str:
    """Says at how many points averaged gradients have vanished, by objective, and at how many they are exactly zero."""
    texts = []
    for radius in norm["eps"].values.tolist():
        here = norm.sel(eps=radius)
        twice, once, margin = ((here.sel(objective=name) < VANISHED).values for name in OBJECTIVES)
        middle = ", ".join(f"{float(here.sel(objective=name).median()):.3g}" for name in OBJECTIVES)
        texts.append(
            f"eps {radius:g}: {twice.mean():.3f} with softmax twice, {once.mean():.3f} once, {margin.mean():.3f} of the "
            f"margin; twice less once {difference(twice, once)}, less the margin {difference(twice, margin)}; median norms "
            f"{middle}"
        )
    share = zero.mean("point")
    exactly = ", ".join(f"{float(share.sel(precision='float32', objective=name)):.3f} ({name})" for name in OBJECTIVES)
    return (
        f"{title}, share of points whose averaged gradient has vanished (norm < {VANISHED:g}): {'; '.join(texts)}. Exactly "
        f"zero in float32 at eps 0: {exactly}; in float64 {float(share.sel(precision='float64').max()):.3f} at most."
    )


def summaries(
    data: str, parts: Mapping[str, Mapping[str, xr.Dataset]], radii: Sequence[float], detected: Sequence[float]
) -> list[str]:
    """Posteriors side by side: their order by either protocol, the largest artefact, and what passes the detectors."""
    lines = []
    for eps in radii:
        left = {
            which: {
                name: float(part["accuracy"]["right"].sel(protocol=which, eps=eps).mean()) for name, part in parts.items()
            }
            for which in ("reference", "audited")
        }
        orders = {which: ", ".join(f"{n} {s[n]:.3f}" for n in sorted(s, key=lambda n: -s[n])) for which, s in left.items()}
        gaps = {name: left["reference"][name] - left["audited"][name] for name in parts}
        most = max(gaps, key=lambda name: gaps[name])
        lines.append(
            f"{data}, eps {eps:g}, most robust first: by the reference {orders['reference']}; audited {orders['audited']}. "
            f"Largest artefact: {most}, {gaps[most]:.3f}."
        )
    for eps in detected:
        texts = []
        for name, part in parts.items():
            detection = part["detection"]
            passed = [detectors.unnoticed(detection, score, eps, detectors.BEST).mean() for score in detectors.SCORES]
            broken = detectors.wrong(detection, eps, detectors.BEST).mean()
            texts.append(f"{name} {passed[0]:.3f} and {passed[1]:.3f} of {broken:.3f} made wrong")
        lines.append(
            f"{data}, eps {eps:g}, of the points that were right, wrong and unnoticed by entropy and by mutual information "
            f"under the best of the attacks on each: {'; '.join(texts)}."
        )
    return lines
