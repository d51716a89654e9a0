"""Push: check a zoo, write its card and picture, and upload it to the Hugging Face Hub under a licence.

The card and the picture are written into the zoo's own folder, so that what is pulled is byte for byte what was pushed.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo_gen.errors import ZooError, argument, unknown_name
from zoo_gen.files import atomic, hub, hub_limits, hub_push
from zoo_gen.files.hub_push import Change, Present, Pushed
from zoo_gen.files.location import Folder, locate
from zoo_gen.manifest import read_any
from zoo_gen.store import checksums
from zoo_gen.store.create import MANIFEST
from zoo_gen.zoo import Zoo, card, open_zoo
from zoo_gen.zoo.contents import PICTURE, Contents

# By the Hub's names: those that let a copy be passed on that was adapted, as a converted zoo is.
LICENCES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
    "odbl",
    "odc-by",
    "pddl",
)
DEFAULT_LICENCE = "cc-by-4.0"
_FOLDERS = ("models/", "weights.zarr/", "splits/")  # which are a zoo's alone
_BEGUN = re.compile(r"models/part-\d+\.parquet|weights\.zarr/.+|splits/[^/]+\.parquet")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Release:
    """What would be or was published, and as what."""

    folder: Path
    repository: str
    licence: str
    tag: str
    files: Mapping[str, int]  # path -> bytes

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())

    @property
    def last(self) -> list[str]:
        """The files that are sent after all others, because they say that the others are there."""
        parts = [path for path in self.files if path.startswith("models/")]
        closing = (PICTURE, MANIFEST, checksums.CARD, checksums.NAME)
        return [*parts, *(name for name in closing if name in self.files)]

    @property
    def commits(self) -> int:
        """How many commits a first push makes."""
        return len(hub_limits.batches(list(self.files), last=self.last))


def plan_push(
    zoo: Zoo | str | Folder, repository: str, *, licence: str | None = None, tag: str | None = None
) -> Release:
    """Check that a zoo may be published, and return what `push` would send. Writes nothing and needs no network.

    Args:
        zoo: the zoo, or its folder, on this machine.
        repository: org/name.
        licence: a key of LICENCES; cc-by-4.0 if not given, and of a converted zoo always its own.
        tag: the name of the version; by default made from the zoo's revision.

    Raises:
        ZooError: the zoo is not complete or is damaged, its licence forbids passing it on, or the Hub's limits do.

    >>> import zoo_gen
    >>> zoo_gen.plan_push("zoos/tiny", "my-lab/tiny", tag="v1").commits
    1
    """
    hub.check_repository(repository)
    folder = zoo.path if isinstance(zoo, Zoo) else locate(zoo)
    if not isinstance(folder, Path):
        raise ZooError(f"{folder}: is not on this machine; expected a folder to push")
    zoo = open_zoo(folder)
    if not zoo.complete:
        done = f"{len(zoo.complete_shards)} of {zoo.extent.n_shards} shards"
        raise ZooError(f"{folder}: has {done}; expected a complete zoo (the command that made it resumes)")
    chosen = licence_of(zoo, licence)
    _check_sound(folder)
    name = tag or f"revision-{zoo.revision[:12]}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name == "main":
        raise ZooError(f"tag {name!r}: expected letters, digits, '.', '-' and '_', and not main")
    contents = Contents(zoo.store)
    files = {path: size for path, size in hub_limits.files_of(folder).items() if contents.has(path)}
    files.setdefault(PICTURE, 0)
    hub_limits.check_limits(files, where=str(folder))
    return Release(folder, repository, chosen, name, dict(sorted(files.items())))


def push(
    zoo: Zoo | str | Folder,
    repository: str,
    *,
    licence: str | None = None,
    tag: str | None = None,
    private: bool = False,
    replace: bool = False,
) -> Pushed:
    """Check a zoo and publish it. Arguments and errors as `plan_push` and `publish`.

    >>> import zoo_gen
    >>> pushed = zoo_gen.push("zoos/tiny", "my-lab/tiny", tag="v1")
    >>> pushed.tag, pushed.changed
    ('v1', True)
    """
    return publish(plan_push(zoo, repository, licence=licence, tag=tag), private=private, replace=replace)


def publish(release: Release, *, private: bool = False, replace: bool = False) -> Pushed:
    """Finish the zoo's card and upload the zoo; the same call after an interruption resumes.

    Args:
        release: what is published.
        private: whether a repository that is created is private.
        replace: whether another zoo that the repository holds is replaced, whole and in one commit; its tags stay.

    Raises:
        ZooError: the Hub cannot be reached or refuses, the repository holds another zoo, or matplotlib is not
            installed.
    """
    from zoo_gen.zoo import plots

    hub.check_installed("push")  # before the picture, whose package is not all that a push needs
    zoo = open_zoo(release.folder)
    plots.write_histogram(zoo, release.folder / PICTURE)
    content = card.text(zoo, front=_front(zoo, release), sections=_sections(zoo, release)).encode()
    if content != (release.folder / checksums.CARD).read_bytes():
        atomic.replace(release.folder / checksums.CARD, content)
    checksums.write(release.folder, only=checksums.CARD)
    files = {path: (release.folder / path).stat().st_size for path in release.files}
    return hub_push.push_folder(
        release.folder,
        release.repository,
        message=f"Push {zoo.name} {release.tag}",
        tag=release.tag,
        private=private,
        files=files,
        last=release.last,
        change=partial(_change, zoo, files, replace=replace),
        version_files=(checksums.NAME,),  # which covers the card, which names the revision, which covers all models
    )


def _change(zoo: Zoo, files: Mapping[str, int], present: Present, *, replace: bool) -> Change:
    """Return what a push does to what the repository holds."""
    if MANIFEST not in present.files:  # no zoo, or one whose first push was interrupted
        begun = [path for path in present.files if path not in files and _BEGUN.fullmatch(path)]
        return Change(removed=begun)
    digest, name = _manifest_of(present)
    if digest != zoo.digest and not replace:
        raise ZooError(
            f"{present.address}: holds the zoo {name!r} of another manifest (digest {digest[:12]}, expected "
            f"{zoo.digest[:12]}); choose another repository, or replace it whole with "
            f"{argument('replace', True)}"
        )
    stale = [path for path in present.files if path not in files and not path.startswith(".")]
    if digest == zoo.digest:  # what its owner has put beside it stays
        stale = [path for path in stale if path.startswith(_FOLDERS)]
    return Change(at_once=True, removed=stale)


def _manifest_of(present: Present) -> tuple[str, str]:
    """Return the digest and the name of the zoo that a repository holds."""
    content = present.read(MANIFEST)
    with TemporaryDirectory() as folder:
        path = Path(folder) / MANIFEST
        path.write_bytes(content)
        try:
            manifest = read_any(path)
        except ZooError:  # of another version
            return hashlib.sha256(content).hexdigest(), "?"
    return manifest.digest, manifest.name


def licence_of(zoo: Zoo, licence: str | None = None) -> str:
    """Return the licence under which a zoo is published.

    Raises:
        ZooError: it does not let the zoo be passed on, or another one was given than its publisher's.
    """
    published = provenance(zoo).get("licence") if is_converted(zoo) else None
    if is_converted(zoo):
        if published not in LICENCES:
            stated = f"the licence {published!r}" if published else "no known licence"
            raise ZooError(
                f"{zoo.path}: was converted from an archive with {stated}, which does not allow passing it on; "
                f"expected one of {', '.join(LICENCES)}"
            )
        if licence not in (None, published):
            raise ZooError(
                f"{argument('licence', licence)}: the zoo's publisher chose {published!r}; expected that or nothing"
            )
        return str(published)
    if licence is not None and licence not in LICENCES:
        raise ZooError(f"{argument('licence')}: {unknown_name('licence', licence, LICENCES)}")
    return licence or DEFAULT_LICENCE


def is_converted(zoo: Zoo) -> bool:
    """Return whether a zoo was published by others and converted."""
    return zoo.manifest.origin is not None


def provenance(zoo: Zoo) -> dict[str, str]:
    """Return what is known of where a converted zoo came from; nothing of one that was generated."""
    return {} if zoo.manifest.origin is None else dict(zoo.manifest.origin.provenance)


def _check_sound(folder: Path) -> None:
    from zoo_gen.zoo.verify import verify

    findings = verify(folder, sample=0).findings
    if findings:
        rest = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise ZooError(f"{folder}: is damaged: {findings[0]}{rest}; expected a zoo that zoo-gen verify finds sound")


def _front(zoo: Zoo, release: Release) -> str:
    """Return the lines of the front matter that only a published zoo has."""
    size = next((name for bound, name in _SIZES if len(zoo.models) < bound), "n>1M")
    return f"license: {release.licence}\nsize_categories:\n- {size}\n"


def _sections(zoo: Zoo, release: Release) -> str:
    """Return the end of the card: picture, the files, the parameters, how to have it, licence and citation."""
    address = f"hf://{release.repository}@{release.tag}"
    cite = provenance(zoo).get("citation") or _own_citation(zoo, release)
    version_numbers = zoo.attributes.get("versions", {})
    versions = ", ".join(f"{name} {number}" for name, number in version_numbers.items())
    origin = "Converted" if is_converted(zoo) else "Trained"
    repeat = "`zoo-gen run manifest.toml` with the same versions gives\nthe same bytes on the same model of CPU or GPU."
    again = "" if is_converted(zoo) else f" {repeat}"
    return f"""
![{zoo.outcome().metric.replace("_", " ")} of all models after the last epoch]({PICTURE})

## From the Hub

```python
zoo = open_zoo("{address}")       # reads only what is asked for
```

`zoo-gen pull {address}` brings all of it. The table alone is
`datasets.load_dataset("{release.repository}", revision="{release.tag}")`.

## How it was made

{origin} by zoo_gen ({versions}).{again}

## Files

| file | holds |
|---|---|
| `models/part-*.parquet` | a row a model: split, hyper-parameters, status, final metrics, SHA-256 |
| `weights.zarr/weights` | float32, in Zarr version 3 |
| `weights.zarr/*` | each metric, float32 (model, checkpoint), and the epoch of each checkpoint |
| `manifest.toml` | what the zoo is |
| `SHA256SUMS` | digests of what no model's own digest covers |
{_parameters(zoo)}
## Licence and citation

{release.licence}. Please cite

```
{cite.strip()}
```
"""


def _parameters(zoo: Zoo) -> str:
    """Return the table of the parameters in a model's weights, where all models have the same."""
    if zoo.manifest.ragged:
        return ""
    rows = "\n".join(
        f"| {each.start} to {each.stop - 1} | `{each.name}` | {' x '.join(map(str, each.shape))} |"
        for each in zoo.layout.parameters
    )
    return f"\nA model's weights, in torch order:\n\n| position | parameter | shape |\n|---|---|---|\n{rows}\n"


def _own_citation(zoo: Zoo, release: Release) -> str:
    return (
        f"@misc{{{zoo.name},\n  title = {{{zoo.name}: a model zoo}},\n"
        f"  url = {{https://huggingface.co/datasets/{release.repository}}},\n"
        f"  note = {{made with zoo\\_gen, revision {zoo.revision[:12]}}}\n}}"
    )
