"""Progress bars for long work. Silent where nobody watches: not a terminal, or `BAYESROB_PROGRESS=0`."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["bar"]

_shown = contextvars.ContextVar("shown", default=False)
"""Whether a bar is on the screen. There is place for one: a bar within a bar is silent."""


@contextlib.contextmanager
def bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar of `total` steps; the block gets `advance(steps=1, note="")`."""
    if os.environ.get("BAYESROB_PROGRESS") == "0" or _shown.get() or sys.stderr is None or not sys.stderr.isatty():
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            fields: dict[str, Any] = {} if note is None else {"note": note}
            progress.update(task, advance=steps, **fields)

        shown = _shown.set(True)
        try:
            yield advance
        finally:
            _shown.reset(shown)
