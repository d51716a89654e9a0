"""Conversion of published model zoos into our own store: one converter a format, nothing in an archive is executed.

`convert` opens an archive without unpacking it, lets the converter of the format describe what is in it, and writes
shard by shard, so that memory does not grow with the archive and an interrupted conversion resumes.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo_gen.errors import ZooError, argument, resumes, shown, unknown_name
from zoo_gen.files.location import Folder, locate, on_disk

if TYPE_CHECKING:
    from zoo_gen.manifest import ConvertedManifest
    from zoo_gen.published.account import Account
    from zoo_gen.store import Store
    from zoo_gen.zoo import Zoo

FORMATS: dict[str, str] = {
    "small_cnn_zoo": "Small CNN Zoo (Unterthiner 2020): weights.npy, metrics.csv.gz, layout.csv",
    "model_zoos": "ModelZoos (Schürholt 2022): Ray folders of a run each, or the preprocessed .pt dumps",
    "hyper_representations": "hyper-representations (Schürholt 2021): .pt dumps with trainset, valset and testset",
    "cnn_wild_park": "CNN Wild Park (Kofinas 2024): <trial>/<checkpoint>/checkpoint.pt of mixed architectures",
    "nws": "NWS (Eilertsen 2020): a folder a run with float64 weights/NNN.bin, and the CSV that lists the runs",
    "dwsnets": "DWSNets (Navon 2023): one .pth an implicit representation, label in the folder's name or in the file",
    "nfn": "NFN (Zhou 2023): <prefix>_<label>s/net<index>.pth, one implicit representation each",
    "small_transformer_zoo": "Small Transformer Zoo (Tran 2025): <run>_<epoch>_<accuracy>.pt, and the CSV of the runs",
    "neural_field_arena": "Neural Field Arena (Papa 2024): <name>_<start>-<end>.hdf5 with params (model, parameter)",
    "folder": "a folder of safetensors or state_dicts, with a CSV that has a row a file",
}


@resumes()
def convert(
    archive: str | Path,
    out: str | Folder | None = None,
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
    progress: Callable[[int, int], None] | None = None,
    cache: str | Path | None = None,
) -> "Zoo":
    """Convert a published zoo that is on the disk, and open it. Nothing in the archive is executed.

    The archive is read where it lies; a compressed tar is expanded into one file for the time of the conversion, never
    into its members, beside `out` or, where that is a URL, in `cache`. The same call after an interruption resumes; on
    a complete zoo it does nothing. `zoo.conversion` is the report: which files were read and which not, what each
    column was taken as, and what became of what could not be kept as it was.

    Args:
        archive: a folder, .zip, .tar, or a tar compressed by gzip, xz, bzip2, zstd or lz4; or the one file that it is.
        out: the folder of the zoo, or its URL; new, empty, or the same conversion begun before; zoos/NAME if not given.
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
        provenance: where the archive came from, any of paper, url, revision, sha256, licence, citation; kept as it is
            in the zoo's manifest and card.
        progress: called with (models done, models in all) after each shard.
        cache: where a compressed tar is expanded if `out` is a URL; $ZOO_CACHE_ROOT, or zoo_gen/published in the cache
            folder, if not given.

    Raises:
        ZooError: the archive is not what the format says, is not safe to read, or holds something unexpected; the
            message names the member, and nothing of it stays.

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
    from zoo_gen.published import foreign
    from zoo_gen.published.account import Account, Listing
    from zoo_gen.published.archives.archive import open_archive
    from zoo_gen.published.archives.scratch import scratch_beside
    from zoo_gen.published.plan import plan
    from zoo_gen.published.reading import Request, selected, settled
    from zoo_gen.published.write import write
    from zoo_gen.store import Store
    from zoo_gen.zoo import card, open_zoo

    _check_options(format, table=table, accuracies=accuracies, classes=classes, architecture=architecture, data=data)
    if licence is not None:
        provenance = _licensed(licence, provenance or {})
    if not isinstance(archive, str | os.PathLike):
        raise ZooError(f"archive is {shown(archive)}; expected the path of a folder or file")
    source = on_disk(archive)
    folder = Path("zoos") / (name or source.resolve().name.split(".")[0].lower()) if out is None else locate(out)
    target = folder.absolute()
    archive_name = os.fsencode(source.resolve().name).decode(errors="replace")  # of "." too, and in any locale
    here = target if isinstance(target, Path) else None
    if source.is_dir() and here is not None and here.exists() and here.samefile(source):
        raise ZooError(f"{target}: is the archive itself; expected another folder for the zoo")
    Store.check_place(target)
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_beside(here or _here_for(target, cache)))
        whole = stack.enter_context(open_archive(source, scratch, without=[] if here is None else [here]))
        content, ignored, doubts = foreign.split_off(whole, with_copies=format != "folder")
        listing, account = Listing(content.members), Account(ignored=ignored, notes=dict.fromkeys(doubts))
        request = Request(
            scratch,
            stack,
            {split: Path(file) for split, file in (splits or {}).items()},
            data=data,
            table=table,
            accuracies=accuracies,
            classes=classes,
            architecture=architecture,
            account=account,
        )
        reading = import_module(f"zoo_gen.published.formats.{format}").read(replace(content, members=listing), request)
        opened = set(listing.opened)
        chosen, numbers = selected(settled(reading, request), epochs=epochs, models=models)
        origin = {
            "archive": archive_name,
            "members": len(whole.members),
            "listing_sha256": whole.listing_sha256(),
            "models": "all" if models is None else _ranges(numbers.tolist()),
            "epochs": "all" if epochs is None else _ranges(chosen.epochs.tolist()),
            "provenance": dict(provenance or {}),
        }
        planned = plan(
            chosen,
            numbers,
            name=_name(name or reading.name or archive_name, given=name is not None),
            description=f"converted from {archive_name}: {FORMATS[format]}",
            facts={"format": format, "origin": origin},
        )
        store = write(planned, target, workers=min(4, os.cpu_count() or 1), progress=progress)
        if provenance and store.manifest.origin is not None and store.manifest.origin.provenance != dict(provenance):
            store = _with_provenance(store, planned.manifest)
        if not card.is_written(target):
            for line in whole.remarks():
                account.note(line)
            _finish(store, account, content.members, opened, unused=f"the format {format} does not use it")
    return open_zoo(folder)


def _here_for(target: Folder, cache: str | Path | None) -> Path:
    """Return the path on this machine that stands for a zoo's URL: an archive is expanded beside it."""
    from zoo_gen.published.sources.download import cache_root

    digest = hashlib.sha256(str(target).encode()).hexdigest()[:12]  # two conversions at once keep apart
    return on_disk(cache or cache_root()).absolute() / f"{target.name}-{digest}"


_SAY_THEIR_IMAGES = ("cnn_wild_park", "small_transformer_zoo")


def _check_options(
    format: str, *, table: str | None, accuracies: str | None, classes: int | None, architecture: Any, data: str | None
) -> None:
    """Refuse what a format does not use, and names that nobody knows."""
    from zoo_gen.published.accuracies import UNITS
    from zoo_gen.published.formats import images

    if format not in FORMATS:
        raise ZooError(unknown_name("format", format, FORMATS))
    if accuracies not in (None, *UNITS):
        raise ZooError(unknown_name("unit of accuracies", accuracies, UNITS))
    for option, value in (("table", table), ("classes", classes), ("architecture", architecture)):
        if value is not None and format != "folder":
            raise ZooError(
                f"{argument(option, value)}: the format {format} says it itself; expected it with "
                f"{argument('format', 'folder')}"
            )
    if classes is not None and classes < 1:
        raise ZooError(f"{argument('classes', classes)}: expected at least 1")
    if data is not None and format in _SAY_THEIR_IMAGES:
        raise ZooError(
            f"{argument('data', data)}: the models of the format {format} all read the same images; expected no "
            f"{argument('data')}"
        )
    if not (format == "folder" and data is not None and data.endswith(".toml")):
        images.checked(data)


def _licensed(licence: str, provenance: Mapping[str, str]) -> dict[str, str]:
    """Return provenance with a licence that the caller gives."""
    from zoo_gen.published.push import LICENCES

    if licence not in LICENCES:
        raise ZooError(f"{argument('licence')}: {unknown_name('licence', licence, LICENCES)}")
    if provenance.get("licence", licence) != licence:
        raise ZooError(
            f"{argument('licence', licence)}: the publisher chose {provenance['licence']}; expected that or nothing"
        )
    return {**provenance, "licence": licence}


def _finish(store: "Store", account: "Account", members: Iterable[str], opened: set[str], *, unused: str) -> None:
    """Write the report of a conversion, then the card, which says that the zoo is complete."""
    from zoo_gen.files import atomic
    from zoo_gen.store import checksums
    from zoo_gen.store.conversion import CONVERSION, read_conversion
    from zoo_gen.zoo import card

    folder = store.folder
    atomic.tidy(folder)
    before = read_conversion(folder)
    report = account.report(members, opened, unused=unused, earlier=before.notes if before else ())
    atomic.replace(folder / CONVERSION, report.model_dump_json(indent=1).encode())
    checksums.write(folder, only=CONVERSION)
    card.write(store)


def _with_provenance(store: "Store", manifest: "ConvertedManifest") -> "Store":
    """Return a zoo whose manifest says where it came from, which changes neither its digest nor its models."""
    from zoo_gen.files import atomic
    from zoo_gen.store import Store, checksums
    from zoo_gen.store.create import MANIFEST

    folder = store.folder
    (folder / checksums.CARD).unlink(missing_ok=True)  # first, so that an interruption leaves a zoo to be finished
    checksums.leave_out(folder, checksums.CARD)
    atomic.replace(folder / MANIFEST, manifest.content)
    checksums.write(folder, only=MANIFEST)
    return Store.open(folder)


def _name(text: str, *, given: bool) -> str:
    """Return a name that a manifest takes; one that the caller gave must be one already."""
    if given:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", text):
            raise ZooError(f"name {text!r}: expected small letters, digits, dots, dashes and underscores")
        return text
    plain = re.sub(r"[^a-z0-9_.-]+", "_", text.lower()).strip("_.-")
    return (plain or "converted")[:100]


def _ranges(numbers: list[int]) -> str:
    """Return rising numbers in short: "0-9, 20"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
