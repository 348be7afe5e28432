"""Smallest moves onto a hyperplane inside a box: where linearised attacks (DeepFool, FAB) step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.types import Bounds

__all__ = ["DUAL", "to_hyperplane"]

DUAL = {"l_inf": "l_1", "l_2": "l_2", "l_1": "l_inf"}
"""|f| / ||w||_q is the distance to {f + w'd = 0} in the norm whose dual is q."""


def to_hyperplane(
    x: Float[Tensor, "batch feature"],
    weight: Float[Tensor, "batch feature"],
    gap: Float[Tensor, " batch"],
    norm: str,
    bounds: Bounds | None,
) -> Float[Tensor, "batch feature"]:
    """The smallest d in the norm with weight'd = gap and x + d in the bounds, for each point; exact, by sorting.

    With s the side to move to, component i moves by s sign(w_i) min(speed_i t, room_i): all alike in l_inf, in proportion to
    |w_i| in l_2, one after the other, largest |w_i| first, in l_1. Where even the furthest corner of the box does not reach
    the plane, d leads there. A zero weight has no plane: d is zero.
    """
    slope = weight.abs()
    need = gap.abs()
    toward = weight.sign() * gap.sign().unsqueeze(1)
    if bounds is None:
        room = torch.full_like(x, torch.inf)
    else:
        room = torch.where(toward > 0, bounds[1] - x, x - bounds[0]).clamp(min=0)
    room = torch.where(slope > 0, room, 0.0)
    if norm == "l_1":
        return toward * _largest_first(slope, room, need)
    speed = torch.ones_like(slope) if norm == "l_inf" else slope
    rate = slope * speed
    time = torch.where(slope > 0, room / speed.clamp(min=torch.finfo(x.dtype).tiny), 0.0)
    time, order = time.sort(dim=1)
    rate = rate.gather(1, order)
    full = torch.where(room.isfinite(), slope * room, 0.0).gather(1, order)  # what a component gives once it stands
    before = full.cumsum(1) - full
    moving = rate.flip(1).cumsum(1).flip(1)  # of the components that still move just before each stop
    # The gain when component k stops; the first k at which it is enough is where the plane lies.
    reached = torch.where(time.isfinite(), before + moving * torch.where(time.isfinite(), time, 0.0), torch.inf)
    index = (reached < need.unsqueeze(1)).sum(1).clamp(max=x.shape[1] - 1).unsqueeze(1)
    tiny = torch.finfo(x.dtype).tiny
    stop = (need.unsqueeze(1) - before.gather(1, index)).clamp(min=0) / moving.gather(1, index).clamp(min=tiny)
    stop = torch.minimum(stop, time.gather(1, index))
    return toward * torch.minimum(torch.where(slope > 0, speed * stop, 0.0), room)


def _largest_first(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    ranked, order = slope.sort(dim=1, descending=True)
    rooms = room.gather(1, order)
    gives = torch.where(rooms.isfinite(), ranked * rooms, torch.where(ranked > 0, torch.inf, 0.0))
    before = torch.cat([torch.zeros_like(gives[:, :1]), gives.cumsum(1)[:, :-1]], dim=1)
    rest = (need.unsqueeze(1) - before).clamp(min=0).nan_to_num(0.0, 0.0, 0.0)
    moves = torch.minimum(rest / ranked.clamp(min=torch.finfo(slope.dtype).tiny), rooms)
    return torch.zeros_like(moves).scatter_(1, order, torch.where(ranked > 0, moves, 0.0))
