"""SHA-256 digests of the meaning of source code: of all statements that determine a class or function.

The code is the top-level statements of its module and of what that imports from its own package, without imports,
comments and docstrings, in no order. So a digest stays when code is moved, split into other files or explained better,
and changes when anything is computed in another way. Imports are read from the code, so that nothing depends on what
happens to be imported.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from zoo_gen.errors import ZooError

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_sha256(code: Callable[..., Any]) -> str:
    """Return the SHA-256 (hex) of the name of a class or function and of all statements that determine it.

    Of one that was written in a script or notebook itself, its own statement alone counts.

    Raises:
        ZooError: its source cannot be read.
    """
    try:
        if code.__module__ == "__main__":
            tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
            statements = {_statement_digest(statement) for statement in _WithoutWords().visit(tree).body}
        else:
            statements = {digest for each in module_statements(code.__module__).values() for digest in each}
    except (OSError, TypeError, SyntaxError) as error:
        raise ZooError(f"{code.__module__}:{code.__qualname__}: its source cannot be read ({error})") from None
    return hashlib.sha256(json.dumps([code.__qualname__, *sorted(statements)]).encode()).hexdigest()


def module_statements(module: str, *, also: Collection[str] = ()) -> dict[str, set[str]]:
    """Return the modules that determine one, itself included: name -> SHA-256 (hex) of each top-level statement.

    They are those that it imports, directly or through others, from its own top-level package.

    Args:
        module: its full name.
        also: modules of other packages that count where they are imported.
    """
    package = module.partition(".")[0]
    statements: dict[str, set[str]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = None if name in statements else importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            tree = ast.parse(Path(spec.origin).read_bytes())
            imported = _imported_modules(name, tree, is_package=bool(spec.submodule_search_locations), package=package)
            waiting += [each for each in imported if each.partition(".")[0] == package or each in also]
            statements[name] = {_statement_digest(statement) for statement in _WithoutWords().visit(tree).body}
    return statements


class _WithoutWords(ast.NodeTransformer):
    """Removes what does not change a computation: docstrings, and imports, whose targets are hashed themselves."""

    def visit(self, node: ast.AST) -> Any:
        """Return the node without its docstring and imports; None for an import or a block of nothing else."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return None
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        node = self.generic_visit(node)
        return None if isinstance(node, ast.If) and not node.body and not node.orelse else node


def _statement_digest(statement: ast.stmt) -> str:
    return hashlib.sha256(json.dumps(_structure(statement)).encode()).hexdigest()


def _structure(node: Any) -> Any:
    """Return a syntax tree as lists of strings; fields that are empty are left out, as Pythons differ in these."""
    if isinstance(node, list):
        return [_structure(element) for element in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return [type(node).__name__, *([name, _structure(value)] for name, value in fields)]


def _imported_modules(module: str, tree: ast.Module, *, is_package: bool, package: str) -> set[str]:
    """Return the full names of the modules that a module imports; of `package`, also submodules."""
    parent = module if is_package else module.rpartition(".")[0]
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), parent)
            members = {f"{origin}.{alias.name}" for alias in node.names}
            submodules = {name for name in members if origin.partition(".")[0] == package and _is_module(name)}
            imported |= submodules or {origin}
    return imported


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False
