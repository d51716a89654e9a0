"""Plain data as TOML: the inverse of tomllib, for manifests that come from no file."""

import json
from collections.abc import Mapping
from typing import Any


def toml(content: Mapping[str, Any], *, above: str = "") -> str:
    """Return plain data as TOML: texts, numbers, truths, lists of these, and tables of tables."""
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {toml_value(value)}" for key, value in content.items() if key not in tables]
    text = "".join(f"{line}\n" for line in lines)
    for key, value in tables.items():
        path = f"{above}.{_key(key)}" if above else _key(key)
        text += f"\n[{path}]\n" + toml(value, above=path)
    return text


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def toml_value(value: Any) -> str:
    """Return a value as it stands behind its key, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    # TOML's basic strings are JSON's but for DEL, and its numbers and truths are JSON's.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
