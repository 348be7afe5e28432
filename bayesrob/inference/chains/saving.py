"""The state of a chain as plain data: dictionaries and lists of tensors, numbers and text, and back to the state."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

__all__ = ["pack", "savable", "unpack"]

_KINDS: dict[str, type] = {}


def savable[T](kind: type[T]) -> type[T]:
    """Let `unpack` make objects of this dataclass or named tuple again, from its fields."""
    _KINDS[kind.__name__] = kind
    return kind


def pack(value: Any) -> Any:
    """Copy a state into dictionaries, lists, tensors, numbers, text and None.

    A savable object becomes a dictionary of its fields with its class's name under "kind"; a generator of random numbers
    becomes the bytes of its state. Tensors are copied, so that what is returned stays as it is when the chain goes on.

    Raises:
        TypeError: `value` holds something else.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [pack(one) for one in value]
    if isinstance(value, dict):
        return {name: pack(one) for name, one in value.items()}
    if isinstance(value, torch.Generator):
        return {"kind": "Generator", "state": value.get_state(), "device": str(value.device)}
    if type(value).__name__ not in _KINDS:
        raise TypeError(f"A state cannot hold a {type(value).__name__}: mark its class as savable.")
    fields = value._asdict() if isinstance(value, tuple) else _fields(value)  # pyright: ignore[reportAttributeAccessIssue]
    return {"kind": type(value).__name__} | {name: pack(one) for name, one in fields.items()}


def unpack(packed: Any) -> Any:
    """Make the state again that `pack` took apart; tensors are copied once more."""
    if isinstance(packed, list):
        return [unpack(one) for one in packed]
    if not isinstance(packed, dict):
        return packed.clone() if isinstance(packed, Tensor) else packed
    if packed.get("kind") == "Generator":
        generator = torch.Generator(packed["device"])
        generator.set_state(packed["state"])
        return generator
    fields = {name: unpack(one) for name, one in packed.items() if name != "kind"}
    return _KINDS[packed["kind"]](**fields) if "kind" in packed else fields


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
