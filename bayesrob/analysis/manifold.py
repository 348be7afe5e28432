"""Input gradients split into parts tangent and normal to the data's manifold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis.gradients import gradient_statistics
from bayesrob.errors import InputError

__all__ = ["manifold_statistics", "split_gradients"]

MEANINGLESS = ("zero_fraction", "unsure_fraction")
"""Statistics of single components, which mean nothing here: a part is zero along some axes for every network."""


def split_gradients(gradients: Any, normal: Any = None, tangent: Any = None) -> xr.Dataset:
    """Split each gradient into a part tangent to the manifold at its point and a part normal to it.

    Args:
        gradients: `[..., point, *components]`, e.g. `[draw, point, component]`; components are flattened.
        normal: orthonormal vectors normal to the manifold at each point, `[point, vector, component]`, as
            `Dataset.normal_basis` returns them. Give this or `tangent`; the smaller basis costs less.
        tangent: orthonormal vectors tangent to the manifold, as `Dataset.tangent_basis` returns them.

    Returns:
        Dataset over the leading dims (`chain`, `draw`, as far as the gradients have them), `point` and `component`:
        `tangent` and `normal` in float64, which sum to the gradient; `tangent_norm` and `normal_norm` (l_2); and
        `normal_share` = |normal|^2 / |gradient|^2, NaN for a gradient that is 0. For gradients without a preferred
        direction that share is codimension / dimension on average, which is the attribute `isotropic_share`.

    Raises:
        InputError: shapes that do not fit, no basis or both, vectors that are not orthonormal, values that are not finite.

    Example:
        >>> import numpy as np
        >>> axis = np.array([[[0.0, 1.0]]])
        >>> br.analysis.split_gradients(np.array([[3.0, 4.0]]), normal=axis)["normal_norm"].item()
        4.0
    """
    basis, is_normal = _basis(normal, tangent)
    g, dims = _gradients(gradients, basis)
    inside = np.einsum("...pk,pkc->...pc", np.einsum("...pc,pkc->...pk", g, basis), basis)
    parts = {"normal": inside, "tangent": g - inside} if is_normal else {"normal": g - inside, "tangent": inside}
    split = xr.Dataset({name: (dims, part) for name, part in parts.items()})
    # Scaled by each gradient's largest component, because squares of a confident network's gradients underflow.
    scale = np.abs(g).max(-1, keepdims=True)
    scale[scale == 0] = 1
    norms = {name: np.linalg.norm(parts[name] / scale, axis=-1) for name in ("tangent", "normal")}
    for name, norm in norms.items():
        split[f"{name}_norm"] = (dims[:-1], norm * scale[..., 0])
    total = norms["normal"] ** 2 + norms["tangent"] ** 2
    split["normal_share"] = (dims[:-1], np.where(total > 0, norms["normal"] ** 2 / np.where(total > 0, total, 1), np.nan))
    count, size = basis.shape[1:]
    return split.assign_attrs(isotropic_share=(count if is_normal else size - count) / size)


def manifold_statistics(
    gradients: Any,
    normal: Any = None,
    tangent: Any = None,
    log_likelihood: Any = None,
    *,
    num_draws: Sequence[int] | None = None,
    num_chains: int | None = None,
) -> xr.Dataset:
    """Return `gradient_statistics` of the tangent and of the normal part of the draws' gradients.

    In the limit of much data and width every draw fits the whole manifold, so that the tangent part of *each* draw's
    gradient vanishes (Carbone et al. 2020, lemma 1 and corollary 1): compare `draw_norm` of the tangent part. Off the
    manifold the draws disagree, and the normal part vanishes only in the *average* (lemma 2): compare `norm` with
    `draw_norm` of the normal part. `debiased_norm` and `cosine` say what is more than the noise of so many draws.

    Args:
        gradients: gradients of the single draws, `[draw, point, *components]` or with dims `[chain, draw, point, ...]`, as
            `Predictive.draw_gradients` returns them with the losses.
        normal: as for `split_gradients`.
        tangent: as for `split_gradients`.
        log_likelihood: as for `gradient_statistics`; the negative losses of `Predictive.draw_gradients`.
        num_draws: as for `gradient_statistics`.
        num_chains: as for `gradient_statistics`.

    Returns:
        The Dataset of `gradient_statistics`, also over `part` (tangent, normal), without the fractions of components, and
        with the attribute `isotropic_share`.

    Raises:
        InputError: as for `split_gradients` and `gradient_statistics`.

    Example:
        >>> import numpy as np
        >>> axis = np.array([[[0.0, 1.0]]])
        >>> table = br.analysis.manifold_statistics(np.ones((4, 1, 2)), normal=axis, num_draws=[4])
        >>> table["norm"].sel(part="tangent").values.ravel().tolist()
        [1.0]
    """
    split = split_gradients(gradients, normal, tangent)
    if "draw" not in split["normal"].dims:
        raise InputError(
            "The gradients are of one network.", "The averages are over draws.", "Give [draw, point, *components]."
        )
    parts = [
        gradient_statistics(split[name], log_likelihood, num_draws, num_chains).drop_vars(MEANINGLESS)
        for name in ("tangent", "normal")
    ]
    statistics = xr.concat(parts, xr.Variable("part", ["tangent", "normal"]))
    return statistics.assign_attrs(parts[0].attrs | split.attrs)


def _basis(normal: Any, tangent: Any) -> tuple[np.ndarray, bool]:
    if (normal is None) == (tangent is None):
        raise InputError(
            "Exactly one basis is needed.", "The other part is what remains of the gradient.", "Give normal= or tangent=."
        )
    basis = np.asarray(tangent if normal is None else normal, dtype=np.float64)
    if basis.ndim != 3 or 0 in (basis.shape[0], basis.shape[2]):
        raise InputError(
            f"The basis has shape {basis.shape}.", "Each point has vectors of its own.", "Give [point, vector, component]."
        )
    off = np.abs(basis @ basis.transpose(0, 2, 1) - np.eye(basis.shape[1])).max(initial=0)
    if not off < 1e-4:
        raise InputError(
            f"The basis is {off:.2g} from orthonormal.", "The parts would not sum to the gradient.", "Apply a QR."
        )
    return basis, normal is not None


def _gradients(gradients: Any, basis: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return `[..., point, component]` in float64, and the names of its dims."""
    points, size = basis.shape[0], basis.shape[2]
    if isinstance(gradients, xr.DataArray) and "point" in gradients.dims:
        lead = [dim for dim in ("draw", "chain") if dim in gradients.dims]
        array = gradients.transpose(*lead, "point", ...).values
    else:
        array = np.asarray(gradients)
        lead = None
    if array.dtype.kind != "f":
        raise InputError(f"The gradients are {array.dtype}.", "Gradients are real numbers.", "Give an array of floats.")
    if lead is None:
        # The sizes say whether this is [point, *components] of one network or [draw, point, *components] of several.
        one = array.ndim >= 2 and array.shape[0] == points and int(np.prod(array.shape[1:])) == size
        lead = [] if one else ["draw"]
    at = len(lead)
    if array.ndim < at + 2 or array.shape[at] != points or int(np.prod(array.shape[at + 1 :])) != size:
        raise InputError(
            f"The gradients have shape {array.shape}, the basis {basis.shape}.",
            "Both are of the same points and components.",
            "Give [draw, point, *components] and [point, vector, component].",
        )
    if not np.isfinite(array).all():
        raise InputError("The gradients are not finite.", "They have no direction.", "Check the weights for overflow.")
    return array.reshape(*array.shape[: at + 1], size).astype(np.float64), (*lead, "point", "component")
