"""convert, pull and list_published_zoos: how zoos of others are had from Python; the command line calls the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo_gen import published
from zoo_gen.files import hub
from zoo_gen.published import pull as downloads
from zoo_gen.published.sources import registry
from zoo_gen.published.sources.registry import PublishedZoo
from zoo_gen.zoo import Zoo, open_zoo


def convert(
    archive: str | Path,
    out: str | Path | None = None,
    *,
    format: str,
    name: str | None = None,
    epochs: Sequence[int] | None = None,
    models: Sequence[int] | None = None,
    splits: Mapping[str, str | Path] | None = None,
    data: str | None = None,
    table: str | None = None,
    accuracies: Literal["percent", "fraction"] | None = None,
    classes: int | None = None,
    architecture: str | Path | Mapping[str, Any] | None = None,
    licence: str | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Zoo:
    """Convert a published zoo that is on the disk, and open it. Nothing in the archive is executed.

    The same call after an interruption resumes. `zoo.conversion` is the report: which files were read and which not,
    what each column was taken as, and what became of what could not be kept as it was.

    Args:
        archive: a folder, .zip, .tar, or a tar compressed by gzip, xz, bzip2, zstd or lz4; or the one file that it is.
        out: the folder of the zoo, new, empty, or the same conversion begun before; zoos/NAME if not given.
        format: how the archive is laid out, a key of `zoo_gen.published.FORMATS`.
        name: of the zoo; the archive's if not given.
        epochs: only these checkpoints.
        models: only these models, by their number in the whole zoo, which the column `source_model` keeps.
        splits: split files of the paper, name of the split -> file; each becomes a named split table.
        data: the images that the models were trained on, as "fashion_mnist", if the archive does not say; of the format
            "folder" also a TOML file with [data] as in a manifest.
        table: of the format "folder", which CSV names the files, where several do.
        accuracies: "percent" if they are to be divided by 100, "fraction" if not; needed where one is above 1.
        classes: of the format "folder", the number of classes.
        architecture: of the format "folder", the network of all models: a name, a TOML file, or plain data as in
            {"architecture": {"name": "mlp", "widths": [3, 2]}, "input_shape": [3]}.
        licence: under which the zoo may be passed on, by the Hub's name of it.
        provenance: where the archive came from, any of paper, url, revision, sha256, licence, citation.

    Raises:
        ZooError: the archive is not what the format says, or is not safe to read; nothing of it stays.

    >>> import pathlib, torch, zoo_gen
    >>> folder = pathlib.Path("checkpoints")
    >>> folder.mkdir()
    >>> for name in ("first", "second"):
    ...     torch.save(torch.nn.Linear(3, 2).state_dict(), folder / f"{name}.pt")
    >>> _ = (folder / "models.csv").write_text("file,test_accuracy\\nfirst.pt,0.5\\nsecond.pt,0.75\\n")
    >>> zoo = zoo_gen.convert(folder, format="folder")
    >>> zoo.models["test_accuracy"].to_pylist()
    [0.5, 0.75]
    >>> print(zoo.conversion)
    read         first.pt, models.csv, second.pt
    column       file: file
    column       test_accuracy: metric
    """
    archive = Path(archive)
    folder = Path("zoos") / (name or archive.resolve().name.split(".")[0].lower()) if out is None else Path(out)
    published.convert(
        archive,
        folder,
        format=format,
        name=name,
        epochs=epochs,
        models=models,
        splits={split: Path(file) for split, file in (splits or {}).items()},
        data=data,
        table=table,
        accuracies=accuracies,
        classes=classes,
        architecture=architecture,
        licence=licence,
        provenance=provenance,
    )
    return open_zoo(folder)


def pull(
    name: str,
    out: str | Path | None = None,
    *,
    zoo_name: str | None = None,
    epochs: Sequence[int] | None = None,
    models: Sequence[int] | None = None,
    file: str | None = None,
    splits: Mapping[str, str | Path] | None = None,
    cache: str | Path | None = None,
) -> Zoo:
    """Download a zoo, convert it if it is an archive, and open it. The same call after an interruption resumes.

    Args:
        name: a published zoo (see `list_published_zoos`), or hf://org/zoo@revision.
        out: the folder of the zoo; zoos/NAME if not given.
        zoo_name: what a published zoo is called here; its population's name with `_published` if not given.
        epochs: of a published zoo, only these checkpoints.
        models: of a published zoo, only these models, by number.
        file: a pattern of names, where a publication has several archives.
        splits: more split files, name of the split -> file.
        cache: where archives are kept; $ZOO_CACHE_ROOT, or zoo_gen/published in the cache folder, if not given.

    Raises:
        ZooError: there is no such zoo, it cannot be had, or it is not what was expected.

    >>> import zoo_gen
    >>> _ = zoo_gen.push("zoos/tiny", "my-lab/tiny", tag="v1")
    >>> zoo_gen.pull("hf://my-lab/tiny@v1", "zoos/copy", cache="cache").name
    'tiny'
    """
    if out is not None:
        folder = Path(out)
    elif hub.is_address(name):
        folder = Path("zoos") / hub.parse(name).repository.partition("/")[2]
    else:
        folder = Path("zoos") / (zoo_name or registry.find_published(name).zoo_name)
    downloads.pull(
        name,
        folder,
        zoo_name=zoo_name,
        epochs=epochs,
        models=models,
        file=file,
        splits={split: Path(path) for split, path in (splits or {}).items()},
        cache=None if cache is None else Path(cache),
    )
    return open_zoo(folder)


def list_published_zoos() -> dict[str, PublishedZoo]:
    """Return the zoos of papers that `pull` knows, by name.

    >>> import zoo_gen
    >>> zoo_gen.list_published_zoos()["small_cnn_zoo/cifar10"].part.format
    'small_cnn_zoo'
    """
    return registry.published_zoos()
