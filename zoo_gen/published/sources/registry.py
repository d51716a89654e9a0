"""The registry of published zoos: manifests/published/*.toml, one a publication, read and checked.

A publication has parts, each of which becomes one zoo; `PUBLICATION/PART` names it. What is not known is left out of
the file rather than guessed, and what cannot be downloaded by a program says how a person gets it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from zoo_gen.errors import ZooError, either, shown, unknown_name
from zoo_gen.files import schema
from zoo_gen.files.schema import Count, Schema
from zoo_gen.published import FORMATS

PUBLISHED = "_published"  # how the names of published zoos end
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=60)]
FileName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Address = Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S+$")]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n]+$")]


class File(Schema):
    """A file at one or several addresses, tried in turn. Size and digest stand here where they are known."""

    name: FileName
    urls: tuple[Address, ...] = Field(min_length=1)
    bytes: Count | None = None
    sha256: Sha256 | None = None


class Zenodo(Schema):
    """A record of Zenodo; `files` are patterns of names in it. Without them, the user picks one of those it lists."""

    record: Count
    files: tuple[str, ...] = ()


class Hub(Schema):
    """A repository of the Hugging Face Hub; `files` are patterns of paths in it."""

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    kind: Literal["dataset", "model"] = "dataset"
    revision: str = "main"
    files: tuple[str, ...] = ()


class ByHand(Schema):
    """What only a person can fetch: from where, what, and the name under which it goes into the cache."""

    page: Line
    what: Line
    put: FileName


class PublishedSplit(Schema):
    """How a paper divides the models; where that needs a file, its address, and how its SHA-256 begins.

    A file of unknown address is given by hand: `--split NAME=FILE`.
    """

    name: Name
    how: Line
    url: Address | None = None
    by_hand: Line | None = None
    sha256_starts: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None


class Part(Schema):
    """What becomes one zoo: exactly one of the four ways to it, its format, and what is known of its size."""

    name: Name
    description: Line
    format: str | None = None
    data: Line | None = None  # the images the models were trained on, where the archive does not say
    files: tuple[File, ...] = ()
    zenodo: Zenodo | None = None
    hub: Hub | None = None
    by_hand: ByHand | None = None
    models: Count | None = None
    checkpoints: Count | None = None  # of all models together
    regenerated: tuple[Name, ...] = ()  # our zoos that are trained after it; several where it is a record of several
    splits: tuple[PublishedSplit, ...] = ()

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str | None) -> str | None:
        if name is not None and name not in FORMATS:
            raise ValueError(unknown_name("format", name, FORMATS))
        return name

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("files", "zenodo", "hub", "by_hand") if getattr(self, name)]
        if len(ways) != 1:
            named = " and ".join(ways) or "none"
            raise ValueError(f"{self.name}: expected exactly one of files, zenodo, hub, by_hand; found {named}")
        return self

    @property
    def way(self) -> str:
        """The host of the download, or "by hand"."""
        if self.files:
            return self.files[0].urls[0].split("/")[2]
        return "zenodo.org" if self.zenodo else "hf.co" if self.hub else "by hand"


class Licence(Schema):
    """The licence of the data, by the Hub's names or "unknown", and whether converted copies may be passed on."""

    name: Line
    redistribution: Annotated[bool, Strict()]
    note: Line | None = None

    @model_validator(mode="after")
    def _unknown_allows_nothing(self) -> Self:
        if self.name == "unknown" and self.redistribution:
            raise ValueError("redistribution: an unknown licence allows none; expected false")
        return self


class Publication(Schema):
    """A paper that published zoos."""

    name: Name
    title: Line
    paper: Line
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")] | None = None
    code: Line | None = None  # the repository of the authors' code
    architecture: Line
    size: Line | None = None
    licence: Licence
    citation: Line
    defects: tuple[Line, ...] = ()
    parts: tuple[Part, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct_parts(self) -> Self:
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"parts: {twice!r} stands twice; expected names that differ")
        return self

    @cached_property
    def zoos(self) -> "dict[str, PublishedZoo]":
        """The zoos of the publication, name -> zoo."""
        zoos = (PublishedZoo(self, part) for part in self.parts)
        return {zoo.name: zoo for zoo in zoos}


@dataclass(frozen=True)
class PublishedZoo:
    """One part of a publication, with what the publication says of all."""

    publication: Publication
    part: Part

    @property
    def name(self) -> str:
        """The name for `zoo-gen pull`: the publication's, and the part's if there are several."""
        several = len(self.publication.parts) > 1
        return f"{self.publication.name}/{self.part.name}" if several else self.publication.name

    @property
    def plain_name(self) -> str:
        """The name without a slash, of its folder in the cache."""
        return self.name.replace("/", "_")

    @property
    def zoo_name(self) -> str:
        """The name of the converted zoo, which no zoo that is trained here has."""
        populations = self.part.regenerated
        return published_name(populations[0] if len(populations) == 1 else self.plain_name)

    def provenance(self, **facts: str) -> dict[str, str]:
        """Return what a converted zoo says of where it came from."""
        publication = self.publication
        paper = publication.paper + (f", arXiv:{publication.arxiv}" if publication.arxiv else "")
        stated = {"paper": paper, "licence": publication.licence.name, "citation": publication.citation}
        return stated | {name: value for name, value in facts.items() if value}


def published_name(population: str) -> str:
    """Return what a published zoo is called, beside the zoo of that name that is trained here."""
    return population + PUBLISHED


def by_population() -> dict[str, PublishedZoo]:
    """Return the published zoo of each population, by the name that our zoo of it has, or would have."""
    return {
        population: zoo
        for zoo in list_published_zoos().values()
        for population in (zoo.part.regenerated or (zoo.plain_name,))
    }


def publications() -> dict[str, Publication]:
    """Return all publications, name -> what is known."""
    shipped = schema.shipped("published", installed=Path(__file__).parent / "shipped")
    read = map(read_publication, shipped.values())
    return {publication.name: publication for publication in read}


def read_publication(path: Path) -> Publication:
    """Read one publication."""
    publication = schema.read_toml(path, Publication)
    if publication.name != path.stem:
        raise ZooError(f"{path}: name: is {publication.name!r}; expected the file's name, {path.stem!r}")
    return publication


def list_published_zoos() -> dict[str, PublishedZoo]:
    """Return the zoos of papers that `pull` knows, by name.

    >>> import zoo_gen
    >>> zoo_gen.list_published_zoos()["small_cnn_zoo/cifar10"].part.format
    'small_cnn_zoo'
    """
    return {name: zoo for publication in publications().values() for name, zoo in publication.zoos.items()}


def find_published(name: str) -> PublishedZoo:
    """Return the published zoo of that name.

    Raises:
        ZooError: there is none; the message says what there is.
    """
    zoos = list_published_zoos()
    if not isinstance(name, str):
        raise ZooError(f"published zoo: got {shown(name)}; expected its name, such as {next(iter(zoos))}")
    if name in zoos:
        return zoos[name]
    publication = publications().get(name)
    if publication is not None:
        raise ZooError(f"{name}: has several zoos; expected one of {', '.join(publication.zoos)}")
    has_them = either(command="zoo-gen list --published shows them", python="zoo_gen.list_published_zoos() has them")
    has_them += "; a zoo of the Hub is hf://ORG/NAME"
    raise ZooError(f"{unknown_name('published zoo', name, zoos)}; {has_them}")


def rows() -> list[dict[str, Any]]:
    """Return the registry as the rows of a table."""
    return [
        {
            "zoo": zoo.name,
            "models": f"{zoo.part.models:,}" if zoo.part.models else "",
            "checkpoints": f"{zoo.part.checkpoints:,}" if zoo.part.checkpoints else "",
            "format": zoo.part.format or "(none yet)",
            "from": zoo.part.way,
            "licence": zoo.publication.licence.name,
            "pass on": "yes" if zoo.publication.licence.redistribution else "no",
        }
        for zoo in list_published_zoos().values()
    ]
