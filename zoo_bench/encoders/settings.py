"""The settings of an encoder by name: which it takes, of which type, and an encoder's name with some of them set.

`pca[dimension=20]` names PCA with 20 dimensions. Settings are the keyword arguments of whatever makes an encoder, and
the fields of those that are dataclasses, so that an encoder declares nothing to have them.
"""

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pydantic

from zoo_gen.errors import ZooError, shown, unknown_name

_NAME = re.compile(r"(?P<encoder>[^\[\]]+)(?:\[(?P<settings>.*)\])?")
_NO_SETTINGS = {"runtime"}  # where to compute, which changes nothing that is learned


@dataclass(frozen=True)
class Setting:
    """One setting of an encoder.

    Attributes:
        argument: of what makes the encoder.
        field: of the argument, where that is a dataclass; else empty.
        kind: its type.
        default: its value if nothing is set.
    """

    argument: str
    field: str
    kind: Any
    default: Any


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Return the name of an encoder without its settings, and these as they are written.

    Raises:
        ZooError: the brackets or the settings are not well formed.

    >>> split_name("mlp[epochs=5,widths=[64,64]]")
    ('mlp', {'epochs': '5', 'widths': '[64,64]'})
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ZooError(f"encoder {shown(name)}: expected NAME or NAME[KEY=VALUE,KEY=VALUE]")
    return match["encoder"], parsed_pairs(_parts(match["settings"] or ""))


def parsed_pairs(pairs: list[str]) -> dict[str, str]:
    """Return texts such as "dimension=20" as a dictionary.

    Raises:
        ZooError: one has no value, or a key stands twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise ZooError(f"{pair!r}: expected KEY=VALUE, such as dimension=20")
        if key.strip() in settings:
            raise ZooError(f"{key.strip()}: is set twice; expected once")
        settings[key.strip()] = value.strip()
    return settings


def with_settings(name: str, settings: Mapping[str, str]) -> str:
    """Return the name of an encoder with more settings than it has, in alphabetical order.

    >>> with_settings("pca", {"dimension": "20"})
    'pca[dimension=20]'
    """
    encoder, settings_in_name = split_name(name)
    merged = settings_in_name | dict(settings)
    listed = ",".join(f"{key}={merged[key]}" for key in sorted(merged))
    return f"{encoder}[{listed}]" if listed else encoder


def settings_of(maker: Callable[..., Any]) -> dict[str, Setting]:
    """Return the settings of what makes an encoder: a class, a function, or a `partial` of one.

    A field of a dataclass goes by its own name; where several arguments have it, by `argument.field`.
    """
    function = maker.func if isinstance(maker, partial) else maker
    kinds = _kinds(function)
    settings: dict[str, Setting] = {}
    for argument, parameter in inspect.signature(maker).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or argument in _NO_SETTINGS:
            continue
        default = parameter.default
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            field_kinds = _kinds(type(default))
            for field in dataclasses.fields(default):
                setting = Setting(argument, field.name, field_kinds.get(field.name, Any), getattr(default, field.name))
                settings[f"{argument}.{field.name}" if field.name in settings else field.name] = setting
        else:
            settings[argument] = Setting(argument, "", kinds.get(argument, _kind_of(default)), default)
    return settings


def configured(name: str, maker: Callable[..., Any], texts: Mapping[str, str]) -> Callable[..., Any]:
    """Return what makes an encoder with some of its settings set.

    Args:
        name: of the encoder, for messages.
        maker: what makes it: a class, a function, or a `partial` of one.
        texts: the settings as they are written.

    Raises:
        ZooError: there is no setting of a name, or a value is of another type.
    """
    if not texts:
        return maker
    known = settings_of(maker)
    arguments: dict[str, Any] = {}
    for key, text in texts.items():
        if key not in known:
            raise ZooError(f"encoder {name!r}: {unknown_name('setting', key, known) if known else 'has no settings'}")
        setting = known[key]
        value = _value(f"encoder {name!r}: {key}", text, setting.kind)
        if setting.field:
            whole = arguments.get(setting.argument, inspect.signature(maker).parameters[setting.argument].default)
            value = dataclasses.replace(whole, **{setting.field: value})
        arguments[setting.argument] = value
    return partial(maker, **arguments)


def _value(where: str, text: str, kind: Any) -> Any:
    """Return a setting's text as its type.

    Raises:
        ZooError: it is no value of that type.
    """
    try:
        plain = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        plain = text
    try:
        return pydantic.TypeAdapter(kind).validate_python(plain)
    except pydantic.ValidationError as error:
        reason = " or ".join(dict.fromkeys(each["msg"] for each in error.errors()))
    except pydantic.errors.PydanticSchemaGenerationError:
        raise ZooError(f"{where}: cannot be set as text; expected a setting of plain data") from None
    raise ZooError(f"{where}={text}: {reason[0].lower()}{reason[1:]}")


def _parts(text: str) -> list[str]:
    """Return a text cut at the commas that stand in no brackets."""
    parts, depth = [""] if text else [], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types that a function or class says of its arguments."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # of names that only a type checker imports
        return {}
    return {name: each.annotation for name, each in parameters.items() if each.annotation is not each.empty}


def _kind_of(default: Any) -> Any:
    """Return the type of a setting that says none, from its default."""
    return Any if default is None or default is inspect.Parameter.empty else type(default)
