"""What tells one encoder from another: a digest of its settings and of all source files that determine it.

Sources are found by reading import statements, never by looking at what happens to be imported, so that the digest does
not depend on what ran before.
"""

import ast
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any


def encoder_digest(name: str, encoder: Any) -> str:
    """Return the SHA-256 (hex) of an encoder's name, settings and source: it changes when the encoder does.

    Its source is that of its class, or of the class or function that it names as `source`.
    """
    source = getattr(encoder, "source", type(encoder))
    content = json.dumps([name, encoder.config, source_digest(source)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def source_digest(encoder: Any) -> str:
    """Return the SHA-256 (hex) of all source files that determine an encoder."""
    return hashlib.sha256(json.dumps(source_files(encoder), sort_keys=True).encode()).hexdigest()


def source_files(encoder: Any) -> dict[str, str]:
    """Return the modules that determine an encoder, name -> SHA-256 (hex) of the file.

    They are the module of this class or function and every module that it imports, directly or through others, from
    its own top-level package; and `zoo_gen.layout`, from which tokens and permutations come.
    """
    own = encoder.__module__.partition(".")[0]
    found: dict[str, str] = {}
    waiting = [encoder.__module__]
    while waiting:
        name = waiting.pop()
        spec = None if name in found else importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            code = Path(spec.origin).read_bytes()
            found[name] = hashlib.sha256(code).hexdigest()
            waiting += _imported(name, code, is_package=spec.submodule_search_locations is not None, own=own)
    return found


def _imported(module: str, code: bytes, *, is_package: bool, own: str) -> set[str]:
    """Return the full names of the modules that source code imports, of those that count for an encoder."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            members = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {member for member in members if origin.partition(".")[0] == own and _is_module(member)} or {
                origin
            }
    return {name for name in found if name.partition(".")[0] == own or name == "zoo_gen.layout"}


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False
