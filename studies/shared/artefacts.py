"""Both protocols of study 05: which points each leaves right, the gradients inside the balls, and the rows of its tables."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesrob import rng
from bayesrob.analysis import median_interval
from bayesrob.attacks import Random, norms
from bayesrob.auditing import verdicts
from bayesrob.predictive import HeldDraws, Predictive
from shared import carbone_2020
from shared.carbone_2020 import repairs
from shared.tables import difference, estimate, mcnemar, right_after, right_before, share

__all__ = [
    "OBJECTIVES", "VANISHED", "artefact_rows", "at", "audit_rows", "by_protocol", "gradient_rows", "gradients", "joined",
    "printed", "repaired", "right_throughout",
]  # fmt: skip

OBJECTIVES = ("double_softmax_per_draw", "expected_loss", "margin_per_draw")
"""The objectives whose gradients are compared: of the reference code, of the paper's equation 2, of the audited attack."""

VANISHED = 1e-3
"""The l_2 norm, in nats per unit of input, below which a gradient counts as vanished.

A step that fills an l_inf ball of 0.1 in 784 pixels, 2.8 long, would then change the loss by less than 0.003.
"""


def at(name: str, eps: float) -> str:
    """The name of an attack at one radius, as the evaluation has it."""
    return f"{name}, eps {eps:g}"


def right_throughout(tree: xr.DataTree, name: str, eps: float) -> np.ndarray:
    """Which points are right both before and after an attack, `[point]`."""
    return right_before(tree) & right_after(tree).sel(attack=at(name, eps)).values


def by_protocol(tree: xr.DataTree, radii: Sequence[float]) -> xr.Dataset:
    """Which points each protocol leaves right, `right` `[protocol, eps, point]`; eps 0 is no attack."""
    names = {"reference": ("random", "FGSM", "PGD"), "audited": ("audited",)}
    right = [
        [np.logical_and.reduce([right_throughout(tree, name, eps) for name in group]) for eps in radii]
        for group in names.values()
    ]
    clean = right_before(tree)
    return xr.Dataset(
        {"right": (("protocol", "eps", "point"), np.array([[clean, *rows] for rows in right]))},
        coords={"protocol": list(names), "eps": [0.0, *radii]},
    )


def gradients(post: HeldDraws, x: Any, y: Any, radii: tuple[float, ...], seed: int) -> xr.Dataset:
    """Norms of averaged gradients at random corners of each ball, `norm` `[objective, eps, point]`.

    At eps 0 also which points have a gradient of exactly zero, `zero` `[precision, objective, point]`.
    """
    double = copy.deepcopy(post).double()
    norm, zeros = [], {"float32": [], "float64": []}
    for objective in OBJECTIVES:
        norm.append([])
        for eps in radii:
            z = Random(eps=eps)(post, x, y, seed=rng.derive(seed, "attacking_bayes", "gradients", f"{eps:g}"))
            gradient = post.input_gradient(z, y, objective)
            norm[-1].append(norms(gradient, "l_2").numpy())
            if eps == 0:
                zeros["float32"].append((gradient == 0).flatten(1).all(1).numpy())
                exact = double.input_gradient(z.double(), y, objective)
                zeros["float64"].append((exact == 0).flatten(1).all(1).numpy())
    return xr.Dataset(
        {
            "norm": (("objective", "eps", "point"), np.array(norm, dtype=np.float64)),
            "zero": (("precision", "objective", "point"), np.array(list(zeros.values()))),
        },
        coords={"objective": list(OBJECTIVES), "eps": list(radii), "precision": list(zeros)},
    )


def joined(parts: Mapping[str, Mapping[str, xr.Dataset]], key: str) -> xr.Dataset:
    """The data sets `key` of all posteriors, along `posterior`."""
    along = xr.DataArray(list(parts), dims="posterior", name="posterior")
    return xr.concat([part[key] for part in parts.values()], along)


def artefact_rows(data: str, name: str, tree: xr.DataTree, accuracy: xr.Dataset) -> list[dict[str, str]]:
    """A row for each radius: accuracies under both protocols and their difference."""
    rows = []
    for eps in accuracy["eps"].values[1:].tolist():
        published, strong = (accuracy["right"].sel(protocol=which, eps=eps).values for which in ("reference", "audited"))
        rows.append(
            {
                "data": data,
                "posterior": name,
                "eps": f"{eps:g}",
                "clean": share(accuracy["right"].sel(protocol="audited", eps=0.0).values),
                **{attack: share(right_throughout(tree, attack, eps)) for attack in ("random", "FGSM", "PGD")},
                "reference": share(published),
                "audited": share(strong),
                "artefact": difference(published, strong),
                "McNemar p": f"{mcnemar(published, strong):.2g}",
                "published": printed(f"{data}/{name}", eps),
            }
        )
    return rows


def printed(title: str, eps: float) -> str:
    """The accuracies of table 1 of this posterior (of another size at small scale); its eps is recalled as 0.1."""
    row = carbone_2020.PUBLISHED.get(title, {}) if eps == 0.1 else {}
    return ", ".join(f"{attack} {accuracy:.3f}" for attack, accuracy in row.items())


def repaired(tree: xr.DataTree, eps: float, post: Predictive) -> dict[str, np.ndarray]:
    """Which points are right after the reference's PGD, after each repair, and after the audited attack."""
    steps = {"reference PGD": "PGD", **{step: step for step in repairs(eps, post)}, "audited": "audited"}
    return {step: right_throughout(tree, attack, eps) for step, attack in steps.items()}


def gradient_rows(data: str, name: str, statistics: xr.Dataset) -> list[dict[str, str]]:
    """A row for each objective: norms, and shares of points at which the gradient has vanished."""
    rows = []
    for objective in OBJECTIVES:
        here = statistics.sel(objective=objective)
        first = here["norm"].sel(eps=0.0)
        row = {"data": data, "posterior": name, "gradient of": objective}
        row["median norm"] = f"{float(first.median()):.3g} [{', '.join(f'{v:.3g}' for v in median_interval(first.values))}]"
        for eps in here["eps"].values[1:].tolist():
            row[f"at eps {eps:g}"] = f"{float(here['norm'].sel(eps=eps).median()):.3g}"
        row["vanished"] = share(first.values < VANISHED)
        for eps in here["eps"].values[1:].tolist():
            row[f"vanished, eps {eps:g}"] = f"{float((here['norm'].sel(eps=eps) < VANISHED).mean()):.3f}"
        for precision in ("float32", "float64"):
            row[f"exactly zero, {precision}"] = f"{float(here['zero'].sel(precision=precision).mean()):.3f}"
        rows.append(row)
    return rows


def audit_rows(data: str, name: str, audits: Mapping[str, xr.DataTree]) -> list[dict[str, str]]:
    """A row for each audited attack: its figure, the strongest attack's, and both verdicts."""
    rows = []
    for attack, tree in audits.items():
        figures = tree["figures"].to_dataset()
        cells = {
            key: estimate(figures, variable)
            for key, variable in (("robust accuracy", "robust_accuracy"), ("strongest found", "strongest_accuracy"))
        }
        verdict = dict(zip(("about the attack", "about the posterior"), (text for _, text in verdicts(tree)), strict=True))
        rows.append({"data": data, "posterior": name, "attack": attack, **cells, **verdict})
    return rows
