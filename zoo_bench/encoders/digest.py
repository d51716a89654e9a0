"""SHA-256 digests of encoders: of an encoder's settings and of the meaning of all code that determines it.

The code is its top-level statements, without imports, comments and docstrings, in no order. So a digest stays when code
is moved, split into other files or explained better, and changes when anything is computed in another way. Which files
belong to an encoder is read from import statements, so that nothing depends on what happens to be imported.
"""

import ast
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

# The one module of zoo_gen that decides what an encoder computes.
_TOKENS_AND_PERMUTATIONS = "zoo_gen.architecture.layout"
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def encoder_digest(name: str, encoder: Any) -> str:
    """Return the SHA-256 (hex) of an encoder's name, settings and source: it changes when the encoder does.

    Its source is that of its class, or of the class or function that it names as `source`.
    """
    source = getattr(encoder, "source", type(encoder))
    content = json.dumps([name, encoder.config, source_digest(source)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def source_digest(encoder: Any) -> str:
    """Return the SHA-256 (hex) of the class's or function's name and of all statements that determine it."""
    statements = {digest for digests in source_statements(encoder).values() for digest in digests}
    return hashlib.sha256(json.dumps([encoder.__qualname__, *sorted(statements)]).encode()).hexdigest()


def source_statements(encoder: Any) -> dict[str, set[str]]:
    """Return the modules that determine an encoder, name -> SHA-256 (hex) of each of their top-level statements.

    They are the module of this class or function, every module that it imports, directly or through others, from its
    own top-level package, and the parameter layout of `zoo_gen`, from which tokens and permutations come.
    """
    package = encoder.__module__.partition(".")[0]
    statements: dict[str, set[str]] = {}
    waiting = [encoder.__module__]
    while waiting:
        name = waiting.pop()
        spec = None if name in statements else importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            tree = ast.parse(Path(spec.origin).read_bytes())
            waiting += _imported_modules(name, tree, is_package=bool(spec.submodule_search_locations), package=package)
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
    """Return the full names of the modules that a module imports, of those that count for an encoder."""
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
    return {name for name in imported if name.partition(".")[0] == package or name == _TOKENS_AND_PERMUTATIONS}


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False
