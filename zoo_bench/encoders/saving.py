"""Fitted encoders on disk: tensors as safetensors, and one JSON file with the encoder's kind and settings.

Neither file can hold code, so an encoder from a stranger is safe to read.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic

SCHEMA_VERSION = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "encoder.json"


def write_encoder(folder: Path, kind: str, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write a fitted encoder; `description` is plain data, enough to build it before its tensors are read."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    # Written by Python, for which a full disk is an OSError; safetensors has an error of its own.
    content_of_tensors = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    atomic.replace(folder / WEIGHTS, content_of_tensors)
    content = {"schema_version": SCHEMA_VERSION, "kind": kind, **description}
    atomic.replace(folder / DESCRIPTION, (json.dumps(content, indent=2) + "\n").encode())


def read_encoder(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_encoder` wrote: tensors (on the host) and description.

    Raises:
        ZooError: a file is missing or cannot be read, or it is another kind of encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ZooError(f"{folder}: cannot be read as an encoder ({error}); expected {WEIGHTS}, {DESCRIPTION}") from None
    schema_and_kind = (content.get("schema_version"), content.get("kind")) if isinstance(content, dict) else None
    if schema_and_kind != (SCHEMA_VERSION, kind):
        raise ZooError(f"{folder / DESCRIPTION}: holds {schema_and_kind}; expected schema {SCHEMA_VERSION} of {kind!r}")
    return tensors, content
