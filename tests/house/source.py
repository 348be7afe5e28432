"""The project's own source as syntax trees, for what the tests ask of every file, function and class."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("bayesrob", "studies", "benchmarks", "tests")


@functools.cache
def files(*folders: str) -> dict[Path, ast.Module]:
    """Every Python file below the folders of the project, parsed."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths if ".venv" not in path.parts}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, without its docstring."""
    first, docstring = function.body[0], 0
    if ast.get_docstring(function, clean=False) is not None:
        docstring = (first.end_lineno or 0) - first.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def entries(docstring: str) -> list[str]:
    """Names of the entries under `Args:`, in order; what is no entry is returned as it stands."""
    section = re.search(r"^Args:\n((?:[ ].*\n?|\n)*)", docstring, re.MULTILINE)
    if section is None:
        return []
    lines = [line for line in section.group(1).splitlines() if line.strip()]
    indent = len(lines[0]) - len(lines[0].lstrip())
    heads = [line.strip() for line in lines if len(line) - len(line.lstrip()) == indent]
    return [match.group(1) if (match := re.match(r"\*{0,2}(\w+):", head)) else head for head in heads]


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Public classes of the package with where they stand."""
    for path, tree in files("bayesrob").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"{path}:{node.lineno}", node


def takes(node: ast.ClassDef) -> list[str]:
    """The own fields of a dataclass, without those documented below them, or the arguments of `__init__`."""
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        following = [*node.body[1:], ast.Pass()]
        return [
            statement.target.id
            for statement, after in zip(node.body, following, strict=True)
            if isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and "ClassVar" not in ast.unparse(statement.annotation)
            and not statement.target.id.startswith("_")
            and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
        ]
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            arguments = statement.args
            named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            others = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
            return [one.arg for one in (*named, *others) if one.arg != "self"]
    return []
