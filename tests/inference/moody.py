"""A method that keeps a record of its fits, and fails where it is told to: in this process and in others."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

from bayesrob.inference import SGD


@dataclasses.dataclass(frozen=True)
class Moody(SGD):
    """SGD. `folder/fits` gets a line for each fit that begins: its process and seed. `folder/SEED` says how it ends."""

    folder: str = ""

    def _run(self, model, likelihood, dataset, seed, *rest, **more):
        with (Path(self.folder) / "fits").open("a") as file:
            file.write(f"{os.getpid()} {seed}\n")
        told = Path(self.folder) / str(seed)
        mood = told.read_text() if told.exists() else ""
        if mood == "raises":
            raise ArithmeticError("out of sorts")
        if mood == "interrupted":
            raise KeyboardInterrupt
        if mood == "dies":
            os._exit(7)
        if mood.startswith("is killed"):
            after = mood.removeprefix("is killed").split()  # the seeds of fits that are to have begun before
            end = time.monotonic() + 240
            while {int(one) for one in after} - {begun for _, begun in fits(Path(self.folder))} and time.monotonic() < end:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == "sleeps":
            time.sleep(600)
        return super()._run(model, likelihood, dataset, seed, *rest, **more)


def fits(folder: Path) -> list[tuple[int, int]]:
    """Process and seed of each fit that began."""
    path = folder / "fits"
    return [(int(a), int(b)) for a, b in map(str.split, path.read_text().splitlines())] if path.exists() else []
