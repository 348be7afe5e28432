"""The scaffold of every study: its results folder, growing tables, printed notes and, at the end, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pandas as pd

from bayesrob.evaluation import Results
from bayesrob.report import render

__all__ = ["POSTERIORS", "Scale", "Study"]

Scale = Literal["smoke", "small", "paper"]
"""smoke: seconds, for CI; small: minutes on two cores; paper: the paper's own sizes."""

POSTERIORS = Path("results") / "posteriors"
"""The folder in which the studies save trained posteriors, unless told otherwise."""


class Study(Results):
    """The results of one run of a study, as a context manager.

    Inside the `with` block the study saves trees, tables, figures and notes; each is on disk at once. When the block ends
    without an error, the chosen tables are printed and the report is rendered. After an error or an interruption the folder
    holds what was saved until then.

    Args:
        script: the study's `__file__`; the name of the study is the file's name without its number.
        doc: the study's `__doc__`; its first line is the title of the report.
        scale: the size of the run.
        seed: fixes every random choice.
        out: results folder; by default results/NAME-SCALE.
        settings: further arguments and sizes that the report lists, as JSON values.
        captions: caption of each table by its name, in the order in which the report shows the tables.
        printed: names of the tables that are printed at the end; by default all tables with captions.
    """

    def __init__(
        self,
        script: str,
        doc: str | None,
        *,
        scale: Scale,
        seed: int,
        out: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        captions: Mapping[str, str] | None = None,
        printed: Sequence[str] | None = None,
    ):
        name = Path(script).stem.partition("_")[2]
        folder = Path("results") / f"{name}-{scale}" if out is None else out
        super().__init__(folder, name, (doc or "").splitlines()[0], {"scale": scale, "seed": seed, **(settings or {})})
        self.captions = dict(captions or {})
        self.printed = list(self.captions) if printed is None else printed
        self.rows: dict[str, list[dict[str, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            return
        for name in self.printed:
            if name in self.manifest["tables"]:
                self.show(name)
        print(f"report: {render(self.finish())}")

    def add(self, name: str, rows: Sequence[dict[str, str]]) -> None:
        """Append rows to the table `name` and write the whole table again, so that an interrupted run leaves its rows."""
        self.rows.setdefault(name, []).extend(rows)
        if self.rows[name]:
            self.table(name, pd.DataFrame(self.rows[name]))

    def table(self, name: str, table: Any, caption: str | None = None) -> None:
        """Save a pandas DataFrame, or a list of rows, under its caption; a later call replaces the table."""
        frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
        super().table(name, frame, self.captions[name] if caption is None else caption)

    def note(self, *texts: str) -> None:
        """Save and print sentences that the report shows."""
        for text in texts:
            super().note(text)
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Print how far the run is, at once."""
        print(text, flush=True)

    def training(self, title: str, folder: Path) -> None:
        """Print that a posterior is trained now, unless its folder has it."""
        self.say(f"{title}: training, unless {folder} has it")

    def show(self, name: str) -> None:
        """Print a table as the terminal shows it."""
        table = pd.read_csv(self.folder / f"{name}.csv", dtype=str, keep_default_na=False)
        with pd.option_context("display.max_columns", None, "display.width", 200, "display.max_colwidth", 60):
            print(table.to_string(index=False))

    def _write(self) -> None:
        # The report shows tables in the order of the captions; tables without one follow in the order of writing.
        tables = self.manifest["tables"]
        if len(tables) > 1:
            order = [*(name for name in self.captions if name in tables), *tables]
            self.manifest["tables"] = {name: tables[name] for name in order}
        super()._write()
