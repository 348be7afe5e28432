"""The command line, as a user calls it."""

from __future__ import annotations

import functools
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bayesrob as br
from bayesrob import cli
from bayesrob.errors import InputError

ROOT = Path(__file__).parent.parent


def bayesrob(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bayesrob.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    digits = br.data.load("digits", n_train=200, n_test=20)
    net = br.nets.mlp(64, (8,), 10)
    return br.inference.SGD(epochs=5).fit(net, digits).save(tmp_path_factory.mktemp("audit") / "post")


@pytest.mark.slow
@pytest.mark.parametrize("name", br.attacks.ATTACKS)
def test_every_attack_that_is_listed_can_be_audited_or_says_why_not(saved, tmp_path, capsys, name):
    refused = ""
    try:
        cli.audit(saved, data="digits", attack=name, num_points=5, level="quick", out=tmp_path / "out")
    except InputError as error:
        refused = str(error)
    if refused:
        # Another model is missing, or further draws; or the attack knows no ball but l_0.
        assert name in ("Transfer", "VarianceAttack") or "l_0" in refused, refused
        assert not (tmp_path / "out").exists()  # before any work
    else:
        assert "The attack's figure is" in capsys.readouterr().out


def test_studies_lists_every_study_with_its_first_line(capsys):
    cli.studies()
    printed = capsys.readouterr().out
    for name, path in cli.study_files().items():
        assert name in printed
        assert path.read_text().splitlines()[0].strip('"') in printed


def test_every_script_is_a_study_and_what_they_share_is_none():
    assert sorted(cli.study_files().values()) == sorted((ROOT / "studies").glob("*.py"))
    assert all('__name__ == "__main__"' in path.read_text() for path in cli.study_files().values())
    assert not any('__name__ == "__main__"' in path.read_text() for path in (ROOT / "studies" / "shared").glob("*.py"))
    assert {"quickstart", "half_moons", "vanishing_gradients", "attack_table"} <= set(cli.study_files())


@pytest.mark.parametrize("name", sorted(cli.study_files()))
def test_loading_a_study_leaves_the_path_as_it_was(name, monkeypatch):
    folder = str(ROOT / "studies")
    for entries in ([*sys.path], [folder, *sys.path], [*sys.path, folder]):
        monkeypatch.setattr(sys, "path", [*entries])
        module = cli.load_study(cli.study_files()[name])
        assert sys.path == entries
        assert callable(module.main)


def test_a_study_that_fails_to_load_leaves_the_path_as_it_was_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = [*sys.path]
    (tmp_path / "99_broken.py").write_text("raise RuntimeError('broken')")
    with pytest.raises(RuntimeError, match="broken"):
        cli.load_study(tmp_path / "99_broken.py")
    assert sys.path == before


def test_a_study_finds_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = [*sys.path]
    (tmp_path / "beside_it_only.py").write_text("ANSWER = 42")
    (tmp_path / "98_asking.py").write_text("import beside_it_only\nanswer = beside_it_only.ANSWER")
    assert cli.load_study(tmp_path / "98_asking.py").answer == 42
    assert sys.path == before
    del sys.modules["beside_it_only"], sys.modules["bayesrob_study_98_asking"]


def test_an_unknown_study_names_the_nearest_and_exits_2():
    done = bayesrob("run", "quikstart")
    assert done.returncode == 2
    assert "Did you mean 'quickstart'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_of_a_study_is_the_study_s_own(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.app(["run", "quickstart", "--help"])
    printed = capsys.readouterr().out
    assert "--eps" in printed
    assert "--scale" in printed


def test_a_study_is_a_script_too(tmp_path):
    """From any directory, also one that imports from `shared`."""
    path = cli.study_files()["attack_table"]
    done = subprocess.run([sys.executable, str(path), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--posteriors" in done.stdout


def test_run_without_a_name_lists_the_studies():
    done = bayesrob("run")
    assert done.returncode == 0
    assert "quickstart" in done.stdout


def test_a_report_of_nothing_says_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", functools.partial(cli.app, ["report", str(tmp_path)]))
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "bayesrob run" in capsys.readouterr().err


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
    installed, ours = site / "bayesrob" / "_studies", ROOT / "studies"
    assert {path.relative_to(installed) for path in installed.rglob("*.py")} == {
        path.relative_to(ours) for path in ours.rglob("*.py")
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


GRID = """
[[grid]]
fixed.data = {name = "digits", n_train = 50, n_test = 20}
fixed.inference = {method = "SGD", decay = false}
fixed.evaluation = {num_points = 10, attacks = {FGSM = {eps = 0.1}}}
axes."net.width" = [4]
axes."inference.epochs" = [1, 2]
"""


def test_a_sweep_is_described_run_and_gone_on_with(tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(GRID)
    arguments = ["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    cli.app([*arguments, "--dry-run"], result_action="return_value")
    assert not (tmp_path / "out").exists()
    assert "2 cells from 1 training runs" in capsys.readouterr().out
    for _ in range(2):
        cli.app(arguments, result_action="return_value")
        assert "2 done, 0 failed, 0 damaged, 0 missing" in capsys.readouterr().out
