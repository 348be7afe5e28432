"""Shapes in annotations, checked while the tests run: at the first calls of each function in each test.

jaxtyping's own import hook checks every call, and decorates functions within functions anew at each call of the outer one:
an attack of twenty steps took six times as long. What a function's first calls in a test have not shown wrong, its
thousandth seldom does.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

import jaxtyping
from beartype import beartype

CALLS = 3
"""Of each function in each test."""

_left: list[list[int]] = []
"""Calls still to be checked, of every function."""


def install(modules: Sequence[str]) -> None:
    """Functions, methods and dataclasses of these modules and what lies in them are checked, if imported from now on."""
    sys.meta_path.insert(0, _Finder(modules))


def begin_again() -> None:
    """A new test."""
    for left in _left:
        left[0] = CALLS


def checked_at_first(function: Callable[..., Any]) -> Callable[..., Any]:
    checked = jaxtyping.jaxtyped(typechecker=beartype)(function)
    left = [CALLS]
    _left.append(left)

    @functools.wraps(function)
    def either(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return checked(*args, **kwargs)
        return function(*args, **kwargs)

    return either


class _Finder(MetaPathFinder):
    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not any(fullname == module or fullname.startswith(f"{module}.") for module in self.modules):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Nothing of it is kept in `__pycache__`, where the plain module lies."""

    def get_code(self, fullname: str) -> Any:
        source = importlib.util.decode_source(self.get_data(self.path))
        tree = ast.parse(source, self.path)
        _decorate(tree)
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: Any) -> None:
        module.__dict__.update(_checked_at_first=checked_at_first, _checked=jaxtyping.jaxtyped(typechecker=beartype))
        super().exec_module(module)


def _decorate(node: ast.Module | ast.ClassDef) -> None:
    """Functions innermost, where their annotations are seen; classes outermost, when they are dataclasses already."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef):
            child.decorator_list.append(ast.copy_location(ast.Name("_checked_at_first", ast.Load()), child))
        elif isinstance(child, ast.ClassDef):
            child.decorator_list.insert(0, ast.copy_location(ast.Name("_checked", ast.Load()), child))
            _decorate(child)
