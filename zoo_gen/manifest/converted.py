"""ConvertedManifest: the manifest of a zoo that was not trained here but converted from a published archive.

It takes the place of a ZooManifest. Where that one derives the table of models from axes, this one names what the
archive had and holds digests of it, so that the manifest's own digest still names the whole zoo.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, Strict

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.files import schema
from zoo_gen.files.schema import Count, Schema
from zoo_gen.image_data import DataSource
from zoo_gen.manifest.toml import toml

Whole = Annotated[int, Strict(), Field(ge=0)]


class Named(Schema):
    """The architecture by its name: one of our registry, or what the publication calls it."""

    name: str


class SplitFacts(Schema):
    """A named split table: its digest, the number of models of each part, and the procedure that made it."""

    sha256: str
    train: Whole
    validation: Whole
    test: Whole
    how: str = ""


class Origin(Schema):
    """Where a converted zoo came from: the archive, which part of it was taken, and who published it."""

    archive: str
    members: Count
    listing_sha256: str  # of the names and sizes of all its members
    table_sha256: str  # of the table of models as it was read
    metrics_sha256: str | None = None  # of what was measured; older zoos do not have it
    models: str = "all"
    epochs: str = "all"
    provenance: dict[str, str] = Field(default_factory=dict)


class ConvertedManifest(Schema):
    """Everything that names a converted zoo."""

    kind: Literal["converted"]
    name: str = Field(pattern=schema.DOTTED_NAME, max_length=100)
    description: str = ""
    format: str
    architecture: Named
    models: Count
    parameters: Count  # of a model; of the largest where models differ
    architectures: Count = 1
    permutation_sha256: str  # of how the source's order became ours, over all architectures
    epochs: tuple[int, ...]
    epoch_means: str = "epoch"
    metrics: tuple[str, ...]
    varying: tuple[str, ...] = ()
    classes: Count | None = None
    data: DataSource | None = None
    recomputable: bool = True  # whether weights and test images alone give the metrics again
    default_split: str | None = None
    splits: dict[str, SplitFacts] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: Origin

    # What the file of architectures and the table of models say, and shards that a conversion chooses by size.
    network: ClassVar[Network | None] = None
    networks: ClassVar[Mapping[str, Network]] = {}
    layout: ClassVar[ParameterLayout | None] = None
    sizes: ClassVar[None] = None
    models_per_shard: ClassVar[int | None] = None

    @property
    def n_models(self) -> int:
        """The number of models."""
        return self.models

    @property
    def n_parameters(self) -> int:
        """The number of parameters of a model; of the largest where models differ."""
        return self.parameters

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs that are kept."""
        return self.epochs

    @property
    def metric_widths(self) -> tuple[tuple[str, int], ...]:
        """What was measured at every checkpoint: name and numbers a checkpoint."""
        return tuple((name, 1) for name in self.metrics)

    @property
    def generated(self) -> None:
        """The manifest where its models were trained here; of a converted zoo there is none."""
        return None

    @property
    def ragged(self) -> bool:
        """Whether models differ in architecture, so that weights are stored one after the other."""
        return self.architectures > 1

    @property
    def n_classes(self) -> int | None:
        """The number of classes, where there are classes and it is known."""
        return self.classes

    @property
    def data_name(self) -> str:
        """What the models were trained on."""
        return "unknown" if self.data is None else str(getattr(self.data, "dataset", self.data.source))

    @property
    def training_sentence(self) -> str:
        """What each model is and how it was trained."""
        up_to = "up to " * self.ragged
        kinds = f"{self.architectures} architectures" if self.ragged else f"`{self.architecture.name}`"
        return (
            f"They have {up_to}{self.parameters} parameters\n({kinds}), were trained on {self.data_name} by others and "
            f"are kept at {up_to}{len(self.epochs)} checkpoints."
        )

    @property
    def origin_text(self) -> str:
        """Where the zoo came from, as paragraphs of Markdown."""
        lines = [f"Converted from `{self.origin.archive}` (format `{self.format}`)."]
        lines += [f"- {key}: {value}" for key, value in self.origin.provenance.items()]
        lines += [f"- note: {note}" for note in self.notes]
        lines += [
            f"- split table `{name}` ({facts.train}/{facts.validation}/{facts.test}): {facts.how}"
            for name, facts in self.splits.items()
        ]
        return "\n".join(lines) + "\n\n"

    def rows(self, models: slice) -> pa.Table | None:
        """Return the rows of some models as far as the manifest determines them; only the archive knows them."""
        return None

    @cached_property
    def content(self) -> bytes:
        """The bytes of its file: those it was read from, or its TOML."""
        return toml(self.model_dump(mode="json", exclude_none=True)).encode()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description and the provenance."""
        content = self.model_copy(
            update={"description": "", "origin": self.origin.model_copy(update={"provenance": {}})}
        )
        return schema.digest(content, exclude={"description"})
