"""Files that are read in one sitting, functions that fit a screen, and an entry for everything a class takes.

ruff holds the entries of functions (D417, DOC102); it does not look at the fields of dataclasses.
"""

from __future__ import annotations

import ast

from tests.house.source import FOLDERS, classes, entries, files, lines_of, takes


def test_files_can_be_read_in_one_sitting():
    long = {str(path): tree.body[-1].end_lineno for path, tree in files(*FOLDERS).items() if tree.body}
    assert not {path: lines for path, lines in long.items() if (lines or 0) > 300}


def test_functions_fit_a_screen():
    long = {
        f"{path}:{node.lineno} {node.name}": lines_of(node)
        for path, tree in files(*FOLDERS).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > 50
    }
    assert not long


def test_everything_that_a_class_takes_has_an_entry_of_its_own():
    known = {node.name: takes(node) for _, node in classes()}
    wrong = {}
    for where, node in classes():
        documented, taken = entries(ast.get_docstring(node) or ""), takes(node)
        inherited = {name for base in node.bases for name in known.get(ast.unparse(base).split(".")[-1], [])}
        missing = [name for name in taken if name not in documented]
        if missing or not set(documented) <= {*taken, *inherited, *_annotated(node)}:
            wrong[f"{where} {node.name}"] = {"missing": missing, "documented": documented}
    assert not wrong


def _annotated(node: ast.ClassDef) -> set[str]:
    return {one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}


DOCUMENTED = """What it is.

Args:
    x: inputs. y: labels.
    *rest: more,
        of two lines.

Returns:
    a: no entry.
"""
DATACLASS = """
@dataclass
class A:
    x: int
    y: int = 1
    z: ClassVar[int] = 2
    w: int = 3
    'Documented inline.'
"""


def test_the_check_of_entries_can_fail():
    assert entries(DOCUMENTED) == ["x", "rest"]
    node = ast.parse(DATACLASS).body[0]
    assert isinstance(node, ast.ClassDef)
    assert takes(node) == ["x", "y"]
