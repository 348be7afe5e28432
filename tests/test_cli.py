"""The command line, as a user calls it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bayesrob import cli

ROOT = Path(__file__).parent.parent


def bayesrob(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bayesrob.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_studies_lists_every_study_with_its_first_line(capsys):
    cli.studies()
    printed = capsys.readouterr().out
    for name, path in cli.study_files().items():
        assert name in printed
        assert path.read_text().splitlines()[0].strip('"') in printed


def test_every_study_file_is_found():
    assert sorted(path.name for path in cli.study_files().values()) == sorted(
        p.name for p in (ROOT / "studies").glob("*.py")
    )


def test_an_unknown_study_names_the_nearest_and_exits_2():
    done = bayesrob("run", "quikstart")
    assert done.returncode == 2
    assert "Did you mean 'quickstart'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_of_a_study_is_the_study_s_own():
    done = bayesrob("run", "quickstart", "--help")
    assert done.returncode == 0
    assert "--eps" in done.stdout
    assert "--scale" in done.stdout


def test_a_study_is_a_script_too():
    path = cli.study_files()["quickstart"]
    done = subprocess.run([sys.executable, str(path), "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--eps" in done.stdout


def test_run_without_a_name_lists_the_studies():
    done = bayesrob("run")
    assert done.returncode == 0
    assert "quickstart" in done.stdout


def test_a_report_of_nothing_says_how_to_get_one(tmp_path):
    done = bayesrob("report", str(tmp_path))
    assert done.returncode == 2
    assert "bayesrob run" in done.stderr


@pytest.mark.slow
def test_an_installed_wheel_runs_the_studies_too(tmp_path):
    """Built, unpacked away from the clone, and run with this environment's libraries."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("bayesrob-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in (site / "bayesrob" / "_studies").glob("*.py")} == {
        p.name for p in (ROOT / "studies").glob("*.py")
    }
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import bayesrob.cli; sys.exit(bayesrob.cli.main())"
    command = [
        sys.executable,
        "-c",
        code,
        str(site),
        "run",
        "quickstart",
        "--scale",
        "smoke",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()
