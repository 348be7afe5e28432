"""Command line: list attacks and studies, run a study or a sweep, render a report, audit a posterior."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import cyclopts

from bayesrob._version import __version__
from bayesrob.arguments import whole
from bayesrob.errors import BayesrobError, InputError, check_name

__all__ = ["app", "load_study", "main", "study_files"]

app = cyclopts.App(
    name="bayesrob", version=__version__, help="How robust is this posterior, and would the number survive scrutiny?"
)

_ANY = cyclopts.Parameter(allow_leading_hyphen=True, show=False)


def study_files() -> dict[str, Path]:
    """The studies by name (without their number), of the installed wheel or of the clone in which this package lies."""
    package = Path(__file__).parent
    folder = package / "_studies"
    if not folder.is_dir():
        folder = package.parent / "studies"
    return {path.stem.partition("_")[2]: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def load_study(path: Path) -> ModuleType:
    """A study as a module; its `main` is what the command line calls."""
    spec = importlib.util.spec_from_file_location(f"bayesrob_study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    # Studies import from the folder `shared` beside them, which python itself finds for `python studies/NN_name.py`.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@app.command
def studies() -> None:
    """List the studies: one for each figure or table of the papers."""
    for name, path in study_files().items():
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
        print(f"{name:24} {summary[0] if summary else ''}")


@app.command
def attacks() -> None:
    """List the attacks: what each searches for, in which norms, and what it sees of the model."""
    from bayesrob.attacks.listing import listing

    for row in listing():
        print(f"{row['name']:14} {row['kind']:9} {row['norms']:18} {row['sees']:14} {row['summary']}")


@app.command(help_flags=[])
def run(name: Annotated[str, _ANY] = "--help", *arguments: Annotated[str, _ANY]) -> None:
    """Run a study: bayesrob run NAME [--scale smoke|small|paper] [--out DIR] [--seed 0]; `run NAME --help` says more.

    Args:
        name: name of the study, as `bayesrob studies` lists it, with or without its number.
        *arguments: the study's own arguments.
    """
    files = study_files()
    if name in ("--help", "-h"):
        app["run"].help_print(console=None)
        studies()
        return
    known = {**files, **{path.stem: path for path in files.values()}}
    module = load_study(known[check_name("study", name, known)])
    study = cyclopts.App(name=f"bayesrob run {name}", help=module.__doc__, default_command=module.main)
    study(arguments)


@app.command
def report(folder: Path) -> None:
    """Render a results folder as one self-contained page, DIR/report.html.

    Args:
        folder: the folder that a study wrote with --out.
    """
    from bayesrob.report import render

    print(render(folder))


@app.command
def audit(
    path: Path,
    *,
    data: str,
    eps: float = 0.1,
    attack: str | None = None,
    norm: Literal["l_inf", "l_2"] | None = None,
    num_points: int = 100,
    level: Literal["quick", "default", "full"] = "default",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Would this posterior's robustness survive scrutiny? Sixteen checks, DIR/audit.html and DIR/audit.nc.

    Args:
        path: a folder that `post.save(path)` wrote.
        data: the data set whose test points are attacked: mnist, digits, ...
        eps: radius of the ball.
        attack: the attack whose figure is audited, as `bayesrob attacks` lists it, at its defaults in that ball; by default
            PGD with settings that the audit chooses.
        norm: norm of the ball; default the attack's own, else l_inf.
        num_points: number of test points, a subset drawn from the seed.
        level: what the audit may cost: a minute, ten, or as long as it takes.
        seed: fixes every random choice.
        out: folder of the page, of the tree and of the single runs, from which an audit that was killed goes on; default
            PATH's name with "-audit".
    """
    import bayesrob as br
    from bayesrob.evaluation import chosen_points

    whole("num_points", num_points)
    post = br.load(path)
    audited = None if attack is None else _at_defaults(attack, eps=eps, **({} if norm is None else {"norm": norm}))
    _, x, y = chosen_points(br.data.load(data), num_points, seed)
    folder = path.with_name(f"{path.name}-audit") if out is None else out
    tree = br.audit(post, x, y, eps=eps, seed=seed, level=level, attack=audited, norm=norm, folder=folder / "runs")
    partial = folder / ".audit.nc.partial"
    tree.to_netcdf(partial, engine="h5netcdf")
    partial.replace(folder / "audit.nc")
    print(br.auditing.summary(tree))
    print(br.report.render_audit(tree, folder / "audit.html"))


def _at_defaults(name: str, **ball: Any) -> Any:
    """The attack `name` with its defaults, in that ball as far as it has one."""
    from bayesrob.attacks import ATTACKS

    kind = ATTACKS[check_name("attack", name, ATTACKS)]
    fields = dataclasses.fields(kind)
    given = {one.name for one in fields if one.default is not one.default_factory} | ball.keys()  # both MISSING: needed
    missing = [one.name for one in fields if one.name not in given]
    if missing:
        raise InputError(
            f"{name} needs {' and '.join(missing)}.",
            "A command line cannot give that.",
            f"Audit it from Python: br.audit(post, x, y, attack=br.attacks.{name}(...)).",
        )
    return kind(**{one.name: ball[one.name] for one in fields if one.name in ball})


@app.command
def sweep(
    grid: Path,
    *,
    out: Path | None = None,
    workers: int | None = None,
    dask: str | None = None,
    retry: bool = False,
    dry_run: bool = False,
) -> None:
    """Train and score every setting of a grid; started again, the sweep goes on where it was.

    Args:
        grid: a TOML file of tables [[grid]], see the how-to on sweeps.
        out: folder of the results; default results/NAME of the file.
        workers: number of processes on this machine; default one a core.
        dask: address of a dask scheduler instead, e.g. tcp://host:8786; "local" starts as many dask processes here.
        retry: train the cells again that failed.
        dry_run: say what would be trained and how long it may take, and stop.
    """
    from bayesrob import sweeps

    grids, folder = sweeps.Grid.from_toml(grid), Path("results") / grid.stem if out is None else out
    first, *others = grids
    plan = sweeps.plan(first.cells(*others))
    print(plan.describe())
    if dry_run:
        print(f"About {sweeps.estimate(plan):.0f} s of one core.")
        return
    with contextlib.ExitStack() as stack:
        executor = None
        if dask is not None:
            from distributed import Client

            client = stack.enter_context(sweeps.local_dask(workers) if dask == "local" else Client(dask))
            executor = client.get_executor()
        outcome = sweeps.run(grids, folder, workers=workers, executor=executor, retry=retry)
    print(outcome)
    for key, text in outcome.errors.items():
        print(f"{key}: {text.strip().splitlines()[-1]}")


def main() -> None:
    """Entry point of the `bayesrob` command: an error of this package ends in one readable message, not in a traceback."""
    try:
        app()
    except BayesrobError as error:
        print(f"bayesrob: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
