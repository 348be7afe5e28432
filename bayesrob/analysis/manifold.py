"""Input gradients along and across the data's manifold: which part vanishes, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis.gradients import gradient_statistics
from bayesrob.errors import InputError

__all__ = ["manifold_statistics", "split_gradients"]

MEANINGLESS = ("zero_fraction", "unsure_fraction")
"""Statistics by component: a part has zeros along the axes that it does not reach, whatever the network does."""


def split_gradients(gradients: Any, normal: Any = None, tangent: Any = None) -> xr.Dataset:
    """Each gradient as a part tangent to the manifold at its point and a part normal to it; they sum to it.

    Args:
        gradients: `[..., point, *components]`, e.g. `[draw, point, component]`; components are flattened.
        normal, tangent: one of the two: orthonormal vectors at each point, `[point, vector, component]`, as
            `Dataset.normal_basis` and `tangent_basis` give them. The smaller one costs less.

    Returns:
        Dataset over the leading dims (`chain`, `draw`, for those that there are), `point` and `component`: `tangent`,
        `normal`, in float64; `tangent_norm`, `normal_norm` (l_2), and `normal_share` = |normal|^2 / |gradient|^2, NaN of a
        gradient that is 0. Of gradients without a preferred direction that share is codimension / dimension on average,
        which is the attribute `isotropic_share`.

    Raises:
        InputError: shapes that do not fit, no basis or both, vectors that are not orthonormal, values that are not finite.
    """
    basis, is_normal = _basis(normal, tangent)
    g, dims = _gradients(gradients, basis)
    inside = np.einsum("...pk,pkc->...pc", np.einsum("...pc,pkc->...pk", g, basis), basis)
    parts = {"normal": inside, "tangent": g - inside} if is_normal else {"normal": g - inside, "tangent": inside}
    found = xr.Dataset({name: (dims, part) for name, part in parts.items()})
    # Relative to each gradient's largest component: squares of a confident network's gradients underflow.
    scale = np.abs(g).max(-1, keepdims=True)
    scale[scale == 0] = 1
    norms = {name: np.linalg.norm(parts[name] / scale, axis=-1) for name in ("tangent", "normal")}
    for name, norm in norms.items():
        found[f"{name}_norm"] = (dims[:-1], norm * scale[..., 0])
    total = norms["normal"] ** 2 + norms["tangent"] ** 2
    found["normal_share"] = (dims[:-1], np.where(total > 0, norms["normal"] ** 2 / np.where(total > 0, total, 1), np.nan))
    count, size = basis.shape[1:]
    return found.assign_attrs(isotropic_share=(count if is_normal else size - count) / size)


def manifold_statistics(
    gradients: Any,
    normal: Any = None,
    tangent: Any = None,
    log_likelihood: Any = None,
    num_draws: Sequence[int] | None = None,
    num_chains: int | None = None,
) -> xr.Dataset:
    """`gradient_statistics` of the tangent and the normal part of the draws' gradients, side by side.

    In the limit of much data and width, every draw fits all of the manifold, so that the tangent part of *each* draw's
    gradient vanishes (Carbone et al. 2020, lemma 1 and corollary 1: `draw_norm` of the tangent), while draws disagree off
    it, and the normal part vanishes only in the *average* (lemma 2: `norm` against `draw_norm` of the normal part, with
    `debiased_norm` and `cosine` for what is left beyond the noise of that many draws).

    Args:
        gradients: the draws' own, `[draw, point, *components]` or with dims `[chain, draw, point, ...]`, as
            `Predictive.draw_gradients` gives them beside the losses (whose negatives are `log_likelihood`).
        normal, tangent: as for `split_gradients`. log_likelihood, num_draws, num_chains: as for `gradient_statistics`.

    Returns:
        Its Dataset over `part` (tangent, normal) also, without the fractions of components; attribute `isotropic_share`.

    Raises:
        InputError: as both.
    """
    split = split_gradients(gradients, normal, tangent)
    if "draw" not in split["normal"].dims:
        raise InputError("Gradients of one network.", "Averages are over draws.", "Give [draw, point, *components].")
    parts = [
        gradient_statistics(split[name], log_likelihood, num_draws, num_chains).drop_vars(MEANINGLESS)
        for name in ("tangent", "normal")
    ]
    found = xr.concat(parts, xr.Variable("part", ["tangent", "normal"]))
    return found.assign_attrs(parts[0].attrs | split.attrs)


def _basis(normal: Any, tangent: Any) -> tuple[np.ndarray, bool]:
    if (normal is None) == (tangent is None):
        raise InputError("One basis is needed.", "The other part is what it leaves.", "Give normal= or tangent=.")
    basis = np.asarray(tangent if normal is None else normal, dtype=np.float64)
    if basis.ndim != 3 or 0 in (basis.shape[0], basis.shape[2]):
        raise InputError(f"A basis of shape {basis.shape}.", "Each point has its own.", "Give [point, vector, component].")
    off = np.abs(basis @ basis.transpose(0, 2, 1) - np.eye(basis.shape[1])).max(initial=0)
    if not off < 1e-4:
        raise InputError(f"A basis that is {off:.2g} from orthonormal.", "Parts would not add up.", "Apply a QR.")
    return basis, normal is not None


def _gradients(gradients: Any, basis: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """`[..., point, component]` in float64, and the names of its dims."""
    points, size = basis.shape[0], basis.shape[2]
    if isinstance(gradients, xr.DataArray) and "point" in gradients.dims:
        lead = [dim for dim in ("draw", "chain") if dim in gradients.dims]
        array = gradients.transpose(*lead, "point", ...).values
    else:
        array = np.asarray(gradients)
        lead = None
    if array.dtype.kind != "f":
        raise InputError(f"Gradients of type {array.dtype}.", "They are real numbers.", "Give an array of floats.")
    if lead is None:
        # [point, *components] for one network, [draw, point, *components] for several: sizes tell which.
        one = array.ndim >= 2 and array.shape[0] == points and int(np.prod(array.shape[1:])) == size
        lead = [] if one else ["draw"]
    at = len(lead)
    if array.ndim < at + 2 or array.shape[at] != points or int(np.prod(array.shape[at + 1 :])) != size:
        raise InputError(
            f"Gradients {array.shape} with a basis {basis.shape}.",
            "Both are of the same points and components.",
            "Give [draw, point, *components] and [point, vector, component].",
        )
    if not np.isfinite(array).all():
        raise InputError("Gradients are not finite.", "They have no direction.", "Look for overflow.")
    return array.reshape(*array.shape[: at + 1], size).astype(np.float64), (*lead, "point", "component")
