"""Digests of encoders that are defined in a notebook, at a prompt or in a script, where no module can be imported.

The digest covers the class and every function, class, plain value and array of the same notebook that it refers to, in
whichever cell they are. Python keeps the text of cells in `linecache`. Imported modules are not covered.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import linecache
import logging
import secrets
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)


def is_interactive(source: Any) -> bool:
    """Return whether a class or function lies in no module that another process could import."""
    if source.__module__ == "__main__":
        return True
    try:
        return importlib.util.find_spec(source.__module__) is None
    except (ValueError, ModuleNotFoundError):  # a module that was made by hand
        return True


def interactive_digest(name: str, config: dict[str, Any], source: Any) -> str:
    """Return the SHA-256 (hex) of an encoder's name, settings and source.

    If Python has not kept the text, one line is logged, and the digest is a new one each time: a result that cannot be
    known to be current is computed again.
    """
    definitions = _definitions(source)
    if definitions is None:
        logger.warning(
            "encoder %r: its source cannot be found, so its results do not record it and are computed again each time; "
            "expected a class in a module, a script or a notebook",
            name,
        )
        definitions = {"": secrets.token_hex(16)}
    content = json.dumps([name, config, sorted(definitions.items())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def state_of(value: Any) -> Any:
    """Return plain data, arrays and dataclasses as JSON that is the same in every process; of others, their type."""
    if is_dataclass(value) and not isinstance(value, type):
        return [
            type(value).__qualname__,
            *([field.name, state_of(getattr(value, field.name))] for field in fields(value)),
        ]
    if isinstance(value, dict):
        return sorted([repr(key), state_of(each)] for key, each in value.items())
    if isinstance(value, list | tuple):
        return [state_of(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    return repr(value) if isinstance(value, _PLAIN) else type(value).__qualname__


def _definitions(source: Any) -> dict[str, str] | None:
    """Return the text of a definition and of all that it refers to in its notebook, by name; None if it is not kept."""
    namespace = vars(sys.modules[source.__module__]) if source.__module__ in sys.modules else {}
    texts: dict[str, str] = {}
    waiting = [source]
    while waiting:
        definition = waiting.pop()
        if definition.__qualname__ in texts:
            continue
        syntax = _syntax(definition)
        if syntax is None:
            return None
        texts[definition.__qualname__] = ast.unparse(syntax)
        for name in sorted({node.id for node in ast.walk(syntax) if isinstance(node, ast.Name)} & namespace.keys()):
            value = namespace[name]
            if isinstance(value, type | FunctionType):
                waiting += [value] if value.__module__ == source.__module__ else []
            elif not isinstance(value, ModuleType):
                texts[name] = json.dumps(state_of(value))
    return texts


def _syntax(definition: Any) -> _Definition | None:
    """Return the syntax tree of a class or function; of a class, its methods know in which file it stands."""
    for code in codes(definition):
        try:
            tree = ast.parse("".join(linecache.getlines(code.co_filename)))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, _Definition) and node.name == definition.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if first <= code.co_firstlineno <= (node.end_lineno or node.lineno):
                    return node
    return None


def codes(definition: Any) -> Iterator[CodeType]:
    """Yield the code of a function, or of each method of a class; of a decorated one, that below the decorators."""
    if isinstance(definition, FunctionType):
        yield definition.__code__
        return
    for member in vars(definition).values():
        function = getattr(member, "__func__", getattr(member, "fget", member))  # of class methods and properties
        if isinstance(function, FunctionType):
            yield inspect.unwrap(function).__code__
