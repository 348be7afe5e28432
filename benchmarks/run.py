"""Every benchmark: ours, the floor written by hand and the peers, in turn in one run each; one command.

python benchmarks/run.py [case ...] [--runs 5] [--out docs/benchmarks.md] [--no-peers] [--smoke]

Cases: hmc nuts pgd strength svi sgd ensemble replicates adversarial memory rates sweep; all if none is named. The peers
are installed into benchmarks/.venv, which borrows torch and bayesrob from the interpreter that runs this (where it has none,
bayesrob is installed too). Each case is a process of its own. `--out` writes each case's section of that page anew and
leaves what stands around it; given a folder, it writes a page for each case there. Let nothing else run: torch's threads
wait for each other, so on two processors one busy neighbour makes small products twenty times slower, and JAX's hardly.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
CASES = ("hmc", "nuts", "pgd", "strength", "svi", "sgd", "ensemble", "replicates", "adversarial", "memory", "rates", "sweep")


def environment() -> Path:
    """Its interpreter; the environment is made, and made anew after a change of the requirements or of who asks."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lines = [line.strip() for line in (HERE / "requirements.txt").read_text().splitlines()]
    requirements = [line for line in lines if line and not line.startswith("#")]
    borrow = all(importlib.util.find_spec(name) for name in ("bayesrob", "torch", "pyro"))
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) if borrow else []
    state = hashlib.sha256(repr((requirements, folders, sys.version)).encode()).hexdigest()
    stamp = ENVIRONMENT / "complete"
    if stamp.exists() and stamp.read_text() == state:
        return python
    print(f"Installing the peers into {ENVIRONMENT}", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(ENVIRONMENT)
    if borrow:
        # addsitedir, not a plain path: editable installs are .pth files themselves.
        found = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        text = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)
        (Path(found.stdout.strip()) / "borrowed.pth").write_text(text)
    complete = borrow or install(python, ["--editable", str(HERE.parent)])
    for line in requirements:
        name, _, comment = line.partition("#")
        complete &= install(python, [*(["--no-deps"] if comment.strip().startswith("no-deps") else []), name.strip()])
    if complete:  # else the next run tries again
        stamp.write_text(state)
    return python


def install(python: Path, what: list[str]) -> bool:
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *what], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-3:]
        print(
            f"pip could not install {what[-1]}; its rows will say that it is missing:", *lines, sep="\n  ", file=sys.stderr
        )
    return done.returncode == 0


def run(case: str, options: argparse.Namespace) -> str | None:
    """What the case printed, its heading and description before it; None if it failed."""
    command = [sys.executable, str(HERE / f"{case}.py"), "--runs", str(options.runs)]
    command += ["--no-peers"] if not options.peers else []
    command += ["--smoke"] if options.smoke else []
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        return None
    title, *paragraphs = (ast.get_docstring(ast.parse((HERE / f"{case}.py").read_text())) or case).split("\n\n")
    prose = [f"`{p}`" if p.startswith("python ") else p for p in paragraphs]
    return "\n\n".join([f"## {title.rstrip('.')}", *prose, "".join(lines).strip()]) + "\n"


def write(case: str, section: str, out: Path) -> None:
    if out.suffix != ".md":
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{case}.md").write_text(section[1:])
        return
    begin, end = f"<!-- begin {case}: written by benchmarks/run.py -->", f"<!-- end {case} -->"
    page = out.read_text() if out.exists() else "# Benchmarks\n"
    block = f"{begin}\n\n{section}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page = pattern.sub(lambda _: block, page) if pattern.search(page) else f"{page.rstrip()}\n\n{block}\n"
    out.write_text(page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a page (.md) or a folder")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours and the floor alone, here")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args()
    if unknown := set(options.case) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if options.peers and Path(sys.prefix).resolve() != ENVIRONMENT:
        return subprocess.run([environment(), __file__, *sys.argv[1:]]).returncode
    failed = []
    for case in options.case or CASES:
        section = run(case, options)
        if section is None:
            failed.append(case)
        elif options.out is not None:
            write(case, section, options.out)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
