"""What a manifest leaves out of a source of one's own files, looked up in the files as the manifest is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import ConfigDict, Field, Strict

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Count, DataSeed, Schema
from zoo_gen.image_data.places import root_of

Share = Annotated[float, Strict(), Field(gt=0, lt=1)]


class Choice(Schema):
    """Where the files are, and which of their examples train and test; a source adds what else decides its facts."""

    model_config = ConfigDict(extra="ignore")

    path: str
    test_share: Share | None = None
    train_size: Count | None = None
    validation_size: Annotated[int, Strict(), Field(ge=0)] = 0
    test_size: Count | None = None
    seed: DataSeed = 0

    def sizes(self, n_train: int, n_test: int, *, of: str = "examples") -> dict[str, int]:
        """Return how many examples train and test, of so many, where the manifest does not say it."""
        if self.validation_size >= n_train:
            raise ZooError(f"data.validation_size {self.validation_size}: exceeds the {n_train} training {of}")
        return {"train_size": self.train_size or n_train - self.validation_size, "test_size": self.test_size or n_test}


OfSource = TypeVar("OfSource", bound=Choice)


def completed(
    document: Any,
    info: pydantic.ValidationInfo,
    choice: type[OfSource],
    look_up: Callable[[OfSource, Path], dict[str, Any]],
    *,
    facts: set[str],
) -> Any:
    """Return the fields of a source with the facts that they lack.

    A document that has all facts is returned as it is, without a look at any file; so is one that cannot be right,
    because the check that follows says what is wrong.

    Args:
        document: the fields as the manifest has them.
        info: of the check, whose context may name the data root.
        choice: what decides the facts.
        look_up: returns the facts of a choice, below a data root.
        facts: the names of the fields that are looked up.
    """
    if not isinstance(document, dict) or facts <= set(document):
        return document
    try:
        chosen = choice(**document)
    except (pydantic.ValidationError, TypeError):
        return document
    return look_up(chosen, root_of(info)) | document
