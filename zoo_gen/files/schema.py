"""TOML files read into frozen pydantic models, with errors that name the place in the file.

Both packages describe what they do in TOML; this is the one door through which such text enters.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, Strict

from zoo_gen.errors import ZooError, shown, unknown_name
from zoo_gen.files.location import Folder, locate

Count = Annotated[int, Strict(), Field(gt=0)]
NAME = r"^[a-z0-9][a-z0-9_-]*$"
DOTTED_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
_WORDS = {  # what a pattern says, for people
    NAME: "lower-case letters, digits, _ and -, with a letter or digit first",
    DOTTED_NAME: "lower-case letters, digits, _, - and ., with a letter or digit first",
}
DataSeed = Annotated[int, Strict(), Field(ge=0, lt=2**32)]  # what numpy's RandomState takes


class Schema(BaseModel):
    """A part of a manifest: unknown keys are refused, nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, without the cached properties that followed from the old ones."""
        copy = super().model_copy(update=update, deep=deep)
        for name in set(copy.__dict__).difference(type(self).model_fields):
            del copy.__dict__[name]
        return copy


AnySchema = TypeVar("AnySchema", bound=Schema)


def read_toml(path: Folder, schema: type[AnySchema]) -> AnySchema:
    """Read a TOML file into `schema`.

    Raises:
        ZooError: the file is missing, is not TOML, or does not fit; the message names the file and the key.
    """
    return parse_toml(read_bytes(path), schema, where=str(path))


def read_bytes(path: Folder) -> bytes:
    """Return the content of a manifest.

    Raises:
        ZooError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror}); expected a TOML manifest") from None


def parse_toml(
    content: str | bytes, schema: type[AnySchema], *, where: str, context: Mapping[str, Any] | None = None
) -> AnySchema:
    """Parse TOML, or the bytes of a TOML file, into `schema`; `where` names it in error messages.

    What `context` holds, the checks of the schema may ask for.

    Raises:
        ZooError: the content is not TOML, or does not fit the schema.
    """
    return checked(toml_document(content, where=where), schema, where=where, context=context)


def toml_document(content: str | bytes, *, where: str) -> dict[str, Any]:
    """Return TOML, or the bytes of a TOML file, as plain data; `where` names it in error messages.

    Raises:
        ZooError: the content is not TOML.
    """
    try:
        return tomllib.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ZooError(f"{where}: is not text in UTF-8; expected a TOML manifest") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and endless nesting raise these
        raise ZooError(f"{where}: not valid TOML: {error}") from None


def checked(
    document: Any, schema: type[AnySchema], *, where: str, context: Mapping[str, Any] | None = None
) -> AnySchema:
    """Return plain data as `schema`; `where` names it in error messages, `context` is what its checks may ask for.

    Raises:
        ZooError: it does not fit the schema.
    """
    try:
        return schema.model_validate(document, context=context)
    except pydantic.ValidationError as error:
        raise ZooError(f"{where}: {one_line(error, document, schema)}") from None
    except ZooError as error:  # of a schema that says itself what is wrong
        raise ZooError(f"{where}: {error}") from None


def shipped(kind: str, *, installed: Path) -> dict[str, Path]:
    """Return the files of one kind of manifest that come with the packages, name -> path.

    Args:
        kind: the folder of a checkout that holds them, below `manifests`.
        installed: the folder that an installed wheel carries them in, inside a package.
    """
    checkout = Path(__file__).parents[2] / "manifests" / kind
    return {path.stem: path for folder in (installed, checkout) for path in sorted(folder.glob("*.toml"))}


def find(kind: str, name_or_path: str, shipped_files: Mapping[str, Path]) -> Folder:
    """Return where a manifest is that is given as a path or URL (ending in .toml) or as the name of a shipped one.

    Args:
        kind: what the manifest is of, for the error message.
        name_or_path: a name among the shipped files, or a path.
        shipped_files: what `shipped` returns.

    Raises:
        ZooError: no shipped manifest has that name.
    """
    if name_or_path.endswith(".toml"):
        return locate(name_or_path)
    if name_or_path not in shipped_files:
        raise ZooError(unknown_name(kind, name_or_path, shipped_files) + ", or a path that ends in .toml")
    return shipped_files[name_or_path]


def digest(schema: Schema, *, exclude: set[str]) -> str:
    """Return the SHA-256 (hex) of what a manifest says, leaving out the fields in `exclude`.

    Fields left at their default are not part of it, so a new option with a default keeps the digests of older
    manifests. Order inside tables is kept, because the order of axes orders the models.
    """
    content = schema.model_dump(mode="json", exclude_defaults=True, exclude=exclude)
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def one_line(error: pydantic.ValidationError, document: Any, schema: type[BaseModel]) -> str:
    """Return the first thing that is wrong with a document, and where, as one line."""
    # A misspelt key leaves the right one missing, and a wrong value the keys that would be looked up by it: the reader
    # has to see the unknown key, else the wrong value.
    first, *others = sorted(
        error.errors(), key=lambda fault: (fault["type"] != "extra_forbidden", fault["type"] == "missing")
    )
    place = _place(first["loc"], document, missing=first["type"] == "missing")
    if first["type"] == "extra_forbidden":
        message = unknown_name("key", place[-1], _keys(first["loc"][:-1], schema))
        place = place[:-1]
    elif first["type"] == "missing":
        message = "is missing"
    elif first["type"] in ("value_error", "assertion_error"):
        message = str(first["ctx"]["error"])
    elif first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key = first["ctx"]["discriminator"].strip("'")
        place = [*place, key]
        valid = [name.strip(" '") for name in first["ctx"].get("expected_tags", "").split(",")]
        message = unknown_name(key, first["ctx"]["tag"], valid) if "tag" in first["ctx"] else "is missing"
    elif first["type"] == "string_pattern_mismatch" and first["ctx"]["pattern"] in _WORDS:
        message = f"{shown(first['input'])} is not valid; expected {_WORDS[first['ctx']['pattern']]}"
    elif first["type"] == "literal_error":
        message = f"{first['input']!r} is not valid; expected {first['ctx']['expected']}"
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {shown(first['input'])}"
    rest = f" (and {len(others)} more)" if others else ""
    return f"{'.'.join(place)}: {message}{rest}" if place else f"{message}{rest}"


def _place(location: tuple[int | str, ...], document: Any, *, missing: bool) -> list[str]:
    """Return the keys that are really in the file: pydantic's location also holds the tags of unions."""
    place: list[str] = []
    for index, key in enumerate(location):
        if isinstance(document, dict) and key in document:
            document = document[key]
            place.append(str(key))
        elif isinstance(document, list) and isinstance(key, int):
            document = document[key]
            place[-1] += f"[{key}]"
        elif missing and index == len(location) - 1:
            place.append(str(key))
    return place


def _keys(location: tuple[int | str, ...], schema: Any) -> list[str]:
    """Return the keys that the schema at `location` knows."""
    for key in location:
        options = _models(schema)
        named = [option.model_fields[key].annotation for option in options if key in option.model_fields]
        # A tag of a union names one of its options instead of a field.
        tagged = [
            o for o in options if any(key in getattr(f.annotation, "__args__", ()) for f in o.model_fields.values())
        ]
        schema = named[0] if named else tagged[0] if tagged else schema
    return [key for option in _models(schema) for key in option.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models inside a type annotation (a model, a union, an optional, a table of them)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]
