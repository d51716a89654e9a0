"""Fitted encoders on the Hub: a model repository with what `save` writes, and a card.

What is pulled is safetensors and JSON, which hold no code, so an encoder from a stranger is safe to load.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.saving import DESCRIPTION, WEIGHTS
from zoo_gen.errors import ZooError
from zoo_gen.files import hub, hub_push


def push_encoder(
    encoder: Any,
    repository: str,
    *,
    name: str,
    tag: str = "",
    licence: str = "cc-by-4.0",
    fitted_to: str = "",
    private: bool = False,
) -> hub_push.Pushed:
    """Save a fitted encoder into a model repository of the Hub, which is made if it is not there.

    Args:
        encoder: anything with `save(folder)`.
        repository: org/name.
        name: what `make_encoder` makes it by.
        tag: the version's name; none if empty.
        licence: by the Hub's name of it.
        fitted_to: the zoo it learned from, for the card.
        private: whether a repository that is made is private.

    Raises:
        ZooError: nothing was fitted, or the Hub cannot be reached or refuses.

    >>> import zoo_bench
    >>> fitted = zoo_bench.fit("mlp[steps=2]", "zoos/tiny", device="cpu")
    >>> zoo_bench.push_encoder(fitted, "my-lab/mlp", name="mlp[steps=2]", tag="v1").changed
    True
    """
    _check_has(encoder, "save", name)
    hub.check_repository(repository)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "encoder"
        encoder.save(folder)
        (folder / "README.md").write_text(
            _card(folder, repository, name=name, tag=tag, licence=licence, fitted_to=fitted_to), encoding="utf-8"
        )
        return hub_push.push_folder(
            folder,
            repository,
            kind="model",
            message=f"Push {name} {tag}".strip(),
            tag=tag,
            private=private,
            last=["README.md"],
            version_files=[WEIGHTS, DESCRIPTION, "README.md"],
        )


def load_encoder(encoder: Any, source: str | Path, *, name: str = "") -> Any:
    """Load what was saved into an encoder, from a folder or from hf://org/name@revision, and return it.

    Args:
        encoder: one that is not fitted, or the name that `make_encoder` makes it by.
        source: the folder or address.
        name: of the encoder, for error messages.

    Raises:
        ZooError: the Hub cannot be reached, or there is no encoder of that kind.

    >>> from pathlib import Path
    >>> import zoo_bench
    >>> zoo_bench.fit("mlp[steps=2]", "zoos/tiny", device="cpu").save(Path("fitted"))
    >>> zoo_bench.encode(zoo_bench.load_encoder("mlp[steps=2]", "fitted"), "zoos/tiny").embedding.shape[0]
    200
    """
    if isinstance(encoder, str):
        encoder, name = make_encoder(encoder), encoder
    _check_has(encoder, "load", name)
    if not hub.is_address(source):
        return encoder.load(Path(source))
    address = hub.parse(str(source), kind="model")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / address.repository.replace("/", "--")
        hub.pull_folder(
            address.repository, folder, revision=address.revision, kind="model", patterns=[WEIGHTS, DESCRIPTION]
        )
        return encoder.load(folder)


def _check_has(encoder: Any, method: str, name: str) -> None:
    if not hasattr(encoder, method):
        raise ZooError(f"encoder {name!r}: has no {method!r}; expected a neural encoder")


def _card(folder: Path, repository: str, *, name: str, tag: str, licence: str, fitted_to: str) -> str:
    kind = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["kind"]
    address = f"hf://{repository}" + (f"@{tag}" if tag else "")
    learned = f", fitted to {fitted_to}" if fitted_to else ""
    return f"""---
license: {licence}
tags:
- weight-space-learning
- zoo-bench
---

# {repository.partition("/")[2]}

An encoder of neural-network weights: `{name}` ({kind}) of zoo_bench{learned}.

```sh
zoo-bench encode ZOO --encoder {name} --load {address} --out embeddings.npz
```

`{WEIGHTS}` holds its tensors and `{DESCRIPTION}` its settings; neither holds code.
"""
