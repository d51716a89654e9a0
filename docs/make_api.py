"""The page docs/api.md, made from the docstrings of all public names: `python docs/make_api.py`, or `make api`.

Plain `inspect`: pages of Markdown from docstrings of our own style need no library, and names are imported lazily,
which tools that parse sources do not follow.
"""

import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"
HEAD = """# Python: every public name

Made from the docstrings by `make api`. The pages of [docs/](README.md) explain what belongs together.
"""
_SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def page() -> str:
    """Return the page."""
    import zoo_bench
    import zoo_gen

    parts, anchors = [HEAD], dict[str, int]()
    for package in (zoo_gen, zoo_bench):
        names = sorted(package.__all__, key=lambda name: (inspect.isclass(getattr(package, name)), name.lower()))
        links = ", ".join(f"[{name}](#{_anchor(package.__name__, name, anchors)})" for name in names)
        lines = textwrap.fill(links, 118, break_long_words=False, break_on_hyphens=False)
        parts.append(f"## {package.__name__}\n\n{_first(package.__doc__)}\n\n{lines}\n")
        parts += [_entry(package.__name__, name, getattr(package, name)) for name in names]
    return "\n".join(parts).rstrip() + "\n"


def _anchor(package: str, name: str, anchors: dict[str, int]) -> str:
    """Return the anchor that GitHub makes of a heading: of those that differ in case alone, the later have a number."""
    anchor = f"{package}{name}".lower()
    anchors[anchor] = anchors.get(anchor, -1) + 1
    return f"{anchor}-{anchors[anchor]}" if anchors[anchor] else anchor


def _first(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0]


def _entry(package: str, name: str, value: Any) -> str:
    """Return what the page says of one public name."""
    kind = "class" if inspect.isclass(value) else "def" if callable(value) else ""
    text = f"### {package}.{name}\n\n"
    if kind:
        text += f"```py\n{kind} {name}{_signature(value)}\n```\n\n"
    text += _markdown(inspect.getdoc(value) or "")
    if kind == "class":
        for member, method in _members(value):
            signature = "" if isinstance(method, property) else _signature(method)
            text += f"\n#### {name}.{member}{' (property)' if isinstance(method, property) else ''}\n\n"
            text += f"```py\n{member}{signature}\n```\n\n" if signature else ""
            text += _markdown(inspect.getdoc(method) or "")
    return text


def _members(kind: type) -> list[tuple[str, Any]]:
    """Return the documented public methods and properties that a class of ours defines, in their order."""
    members: dict[str, Any] = {}
    for owner in reversed(kind.__mro__):
        if owner.__module__.startswith(("zoo_gen", "zoo_bench")):
            members |= {name: value for name, value in vars(owner).items() if not name.startswith("_")}
    methods = []
    for name, value in members.items():
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__  # noqa: PLW2901
        cached = getattr(value, "func", None) if type(value).__name__ == "cached_property" else None
        method = property(cached) if cached else value
        if (inspect.isfunction(method) or isinstance(method, property)) and inspect.getdoc(method):
            methods.append((name, method))
    return methods


def _signature(value: Any) -> str:
    """Return the signature as it stands in the source, a line an argument where it is long."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in ("self", "cls")]
    texts: list[str] = []
    for number, parameter in enumerate(parameters):
        before = parameters[number - 1].kind if number else None
        if parameter.kind is parameter.KEYWORD_ONLY and before is not parameter.KEYWORD_ONLY:
            texts.append("*")
        texts.append(_parameter(parameter))
    returns = "" if signature.return_annotation is signature.empty else f" -> {_type(signature.return_annotation)}"
    line = f"({', '.join(texts)}){returns}"
    if len(line) <= 90:
        return line
    inner = "".join(f"    {text},\n" for text in texts)
    return f"(\n{inner}){returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_type(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _default(value: Any) -> str:
    text = _ADDRESS.sub("", repr(value))
    return text if len(text) <= 40 else "..."


def _type(annotation: Any) -> str:
    """Return a type as a reader would write it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\bAnnotated\[([^,\]]+),.*", r"\1", text)
    text = re.sub(r"ForwardRef\('([^']+)'\)", r"\1", text).replace("'", '"')
    text = re.sub(r"(?:\w+\.)+(\w+)", r"\1", text)  # without the modules
    if text.startswith("Optional[") and text.endswith("]"):  # as older Pythons write it
        text = f"{text[len('Optional[') : -1]} | None"
    return text if len(text) <= 90 else text[:87] + "..."


def _markdown(doc: str) -> str:
    """Return a docstring as Markdown: its sections as lists, its examples as code."""
    lines: list[str] = []
    in_example = in_section = False
    for line in doc.splitlines():
        bare = line.strip()
        if in_example and not bare:
            lines.append("```")
            in_example = False
        if bare.startswith(">>>") and not in_example:
            lines.append("```pycon")
            in_example, in_section = True, False
        if in_example:
            lines.append(line.removeprefix("    ") if line.startswith("    ") and in_section else line)
        elif bare.removesuffix(":") in _SECTIONS and bare.endswith(":"):
            lines.append(f"**{bare.removesuffix(':')}**\n")
            in_section = True
        elif in_section and line.startswith("    ") and not line.startswith("        "):
            lines.append(re.sub(r"^(\w[\w, *]*): ", r"- `\1`: ", bare))
        elif in_section and line.startswith("        "):
            lines.append(f"  {bare}")
        else:
            in_section = in_section and not bare
            lines.append(line)
    return "\n".join([*lines, *(["```"] if in_example else [])]).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
