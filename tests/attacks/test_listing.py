"""The list of attacks says what the classes say, everywhere it is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bayesrob import cli
from bayesrob.attacks import ATTACKS
from bayesrob.attacks.listing import BEGIN, END, listing, table, write
from bayesrob.errors import InputError

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "attacks.md"


def test_every_attack_has_its_row():
    rows = {row["name"]: row for row in listing()}
    assert list(rows) == list(ATTACKS)
    for name, row in rows.items():
        attack = ATTACKS[name]
        assert (attack.__doc__ or "").startswith(row["summary"].partition(":")[0][:20])
        assert row["summary"].endswith(".")
        assert row["sees"] == attack.sees
        assert row["paper"]
        assert (row["kind"] == "smallest") == attack.minimal
        assert row["norms"].split(", ") == list(attack.norms)


def test_rows_that_are_known():
    rows = {row["name"]: row for row in listing()}
    assert rows["PGD"] == {
        "name": "PGD",
        "summary": "Steps along the steepest direction of the averaged objective, each projected back.",
        "kind": "ball",
        "norms": "l_2, l_inf",
        "sees": "gradients",
        "targeted": "yes",
        "needs": "",
        "paper": "Madry et al. 2018",
    }
    assert [rows[name]["kind"] for name in ("DeepFool", "JSMA", "BV", "AutoAttack")] == ["smallest", "own", "own", "ball"]
    assert rows["Random"]["targeted"] == "no"
    assert rows["LocalSearch"]["needs"] == "bounds, classes"
    # Citations stand in a column of their own.
    assert "2017" not in rows["BIM"]["summary"]


def test_the_page_lists_the_registry():
    between = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert between == table(), "mend it: python -m bayesrob.attacks.listing docs/attacks.md"


def test_the_page_can_be_found():
    assert "\nattacks\n" in (ROOT / "docs" / "index.md").read_text()


def test_the_command_mends_a_page_and_leaves_the_rest(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for _ in range(2):  # the second time nothing changes
        command = [sys.executable, "-m", "bayesrob.attacks.listing", str(page)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert page.read_text() == f"# Before\n\n{BEGIN}\n\n{table()}\n\n{END}\n\nAfter.\n"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(InputError, match="between them"):
        write(page)
    assert page.read_text() == text


def test_tables_are_tables():
    lines = table().splitlines()
    assert len(lines) == 2 + len(ATTACKS)
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert len(bars) == 1  # what is a bar in a docstring is none of the table's


def test_the_command_line_prints_it(capsys):
    cli.attacks()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ATTACKS)
    for line, row in zip(lines, listing(), strict=True):
        assert line.endswith(row["summary"])
        assert row["sees"] in line
