"""Splits by model: the shares of a manifest, which model is in which part, and the digest of that."""

import hashlib
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, Strict, model_serializer, model_validator

from zoo_gen.files.schema import Schema
from zoo_gen.manifest.hyperparameters import Seed

PARTS = ("train", "validation", "test")
# The hyper-parameters that models of one group share.
_TOGETHER = {"seed": ("seed",), "image": ("image",), "initial_weights": ("seed", "initialization")}
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]


class Split(Schema):
    """The shares of the models in each part, and what must stay together in one part.

    `group_by`: "model" (every model on its own), "configuration" (all seeds of one setting of the other
    hyper-parameters together), "seed" (all settings of one seed together), "initial_weights" (all models of one seed
    and one scheme of initialisation together, which start from the same weights or multiples of them) or "image" (all
    networks that are fitted to one image together).

    `by_image_part`: a network that is fitted to a test image is a test model, and so on; `train` and `validation` are
    then shares of the models of training images.
    """

    train: Fraction = 0.70
    validation: Fraction = 0.15
    test: Fraction = 0.15
    seed: Seed = 0
    group_by: Literal["model", "configuration", "seed", "initial_weights", "image"] = "model"
    by_image_part: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test must add up to 1, got {total:g}")
        if self.by_image_part and self.test:
            raise ValueError(f"test is {self.test:g}; expected 0, as by_image_part makes test models of test images")
        return self

    @model_serializer(mode="wrap")
    def _as_older_versions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name != "by_image_part" or value}


class StoredSplit(Schema):
    """A split table that came with a published zoo, by its name; of several names, the first that the zoo has."""

    table: Annotated[tuple[str, ...], BeforeValidator(lambda name: (name,) if isinstance(name, str) else name)] = Field(
        min_length=1
    )

    def name_among(self, tables: Collection[str]) -> str:
        """Return the name of the table, among those that a zoo has; the first one asked for if it has none of them."""
        return next((name for name in self.table if name in tables), self.table[0])


def parts(
    split: Split, hyperparameters: dict[str, np.ndarray], n_models: int, *, image_parts: Sequence[int] = ()
) -> pa.Array:
    """Return the part of the split (model,) of each model. Groups are ranked by hash: all machines find the same.

    Args:
        split: the shares, and what stays together.
        hyperparameters: all of them, and the seed, name -> (model,).
        n_models: of the zoo.
        image_parts: how many images of each part networks are fitted to.
    """
    if split.by_image_part:
        return _by_image_part(split, hyperparameters, image_parts)
    group_of_model, n_groups = _groups(split, hyperparameters, n_models)
    digests = (hashlib.sha256(f"{split.seed}:{group}".encode()).digest() for group in range(n_groups))
    ranks = np.argsort(np.fromiter(digests, dtype="S32", count=n_groups), kind="stable")
    shares = np.cumsum([split.train, split.validation, split.test])
    ends = np.rint(shares * n_groups).astype(int)
    part_of_group = np.empty(n_groups, dtype=np.int8)
    start = 0
    for part, end in enumerate(ends):
        part_of_group[ranks[start:end]] = part
        start = end
    return pa.array(PARTS).take(pa.array(part_of_group[group_of_model]))


def _by_image_part(split: Split, hyperparameters: dict[str, np.ndarray], image_parts: Sequence[int]) -> pa.Array:
    """Return the part of each model's image (model,), but that models of training images are divided by shares."""
    part_of_model = np.searchsorted(np.cumsum(image_parts), hyperparameters["image"], side="right")
    chosen = np.array(PARTS, dtype=object)[part_of_model]
    of_training = part_of_model == 0
    some = {name: values[of_training] for name, values in hyperparameters.items()}
    drawn = parts(split.model_copy(update={"by_image_part": False}), some, int(of_training.sum()))
    chosen[of_training] = drawn.to_numpy(zero_copy_only=False)
    return pa.array(chosen, pa.string())


def _groups(split: Split, hyperparameters: dict[str, np.ndarray], n_models: int) -> tuple[np.ndarray, int]:
    """Return the group (model,) of each model, numbered by first appearance, and the number of groups."""
    if split.group_by == "model":
        return np.arange(n_models), n_models
    together = _TOGETHER.get(split.group_by)
    names = [name for name in hyperparameters if (name in together if together else name != "seed")]
    numbers: dict[tuple[object, ...], int] = {}
    rows = zip(*(hyperparameters[name].tolist() for name in names), strict=True)
    groups = np.array([numbers.setdefault(row, len(numbers)) for row in rows])
    return groups, len(numbers)


def split_sha256(models: pa.Table) -> str:
    """Return the SHA-256 (hex) of which model is in which part, from the columns model_id and split."""
    table = models.select(["model_id", "split"]).sort_by("model_id")
    digest = hashlib.sha256()
    for start in range(0, len(table), 10_000):  # a large zoo's rows as Python objects would be its driver's memory
        columns = table.slice(start, 10_000).to_pydict()
        rows = "\n".join(f"{model_id},{part}" for model_id, part in zip(*columns.values(), strict=True))
        digest.update(("\n" if start else "").encode() + rows.encode())
    return digest.hexdigest()
