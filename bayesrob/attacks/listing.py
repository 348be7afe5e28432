"""The list of attacks, from the classes themselves: `bayesrob attacks` prints it, docs/attacks.md holds it.

`python -m bayesrob.attacks.listing docs/attacks.md` writes the page's table anew, between its two marks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bayesrob.attacks import ATTACKS, Attack, BallAttack
from bayesrob.errors import InputError

__all__ = ["BEGIN", "END", "listing", "table", "write"]

BEGIN, END = "<!-- begin attacks -->", "<!-- end attacks -->"

_COLUMNS = {
    "name": "attack",
    "summary": "what it does",
    "kind": "kind",
    "norms": "norms",
    "sees": "sees",
    "targeted": "targets",
    "needs": "needs",
    "paper": "paper",
}


def listing() -> list[dict[str, str]]:
    """One row for each attack of `ATTACKS`, in its order.

    Keys: `name`; `summary`, the docstring's first line without citations; `kind`: "ball" (the worst in a ball of
    radius `eps`), "smallest" (the smallest perturbation) or "own" (neither: its docstring says what); `norms`; `sees`:
    gradients, probabilities, classes or nothing of the predictive; `targeted`: "yes" if it can go towards a class; `needs`:
    "bounds", "classes", both or ""; `paper`.
    """
    return [_row(name, attack) for name, attack in ATTACKS.items()]


def _row(name: str, attack: type[Attack]) -> dict[str, str]:
    kind = "smallest" if attack.minimal else "ball" if issubclass(attack, BallAttack) else "own"
    needs = {"bounds": attack.needs_bounds, "classes": attack.needs_classes}
    return {
        "name": name,
        "summary": _summary(attack),
        "kind": kind,
        "norms": ", ".join(attack.norms),
        "sees": attack.sees,
        "targeted": "yes" if attack.targetable else "no",
        "needs": ", ".join(need for need, needed in needs.items() if needed),
        "paper": attack.paper,
    }


def _summary(attack: type[Attack]) -> str:
    first = (attack.__doc__ or "").strip().partition("\n")[0]
    return re.sub(r"\s*\([^()]*\b\d{4}[^()]*\)", "", first)


def table() -> str:
    """The listing as Markdown."""
    rows = [list(_COLUMNS.values()), ["---"] * len(_COLUMNS)]
    rows += [[_escaped(row[key]) if key != "name" else f"`{row[key]}`" for key in _COLUMNS] for row in listing()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(page: Path) -> None:
    """Put the table into a page of Markdown, between `BEGIN` and `END`; the rest stays as it is.

    Raises:
        InputError: a page without the two marks, each once and in order.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or any(mark in before + after for mark in (BEGIN, END)):
        raise InputError(f"{page} lacks {BEGIN} and {END}.", "The table goes between them.", "Add each on its own line.")
    page.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


def _escaped(text: str) -> str:
    """Bars and stars would be a table's and emphasis."""
    return re.sub(r"([|*<>])", r"\\\1", text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bayesrob.attacks.listing docs/attacks.md")
    write(Path(sys.argv[1]))
