"""Which files of a folder are the zoo's own, by their names: what else lies there others have put there.

Second copies of synchronising clients, files of editors and file managers, folders of one's own: readers must not take
them for the zoo's, `verify` names them, and `push` leaves them out.
"""

import re
from collections import Counter
from pathlib import Path

from zoo_gen.files import location
from zoo_gen.store import Store, checksums
from zoo_gen.store.conversion import CONVERSION
from zoo_gen.store.create import MANIFEST
from zoo_gen.store.shards import part_name
from zoo_gen.store.side_files import ARCHITECTURES, STATES, split_path

PICTURE = "histogram.png"
_CHUNK = re.compile(r"c(/\d+)+")
# What a run that is at work or was killed leaves, which the next run removes.
_UNFINISHED = re.compile(r"(models/)?\.[^/]+\.tmp|weights\.zarr/.+\.partial|\.[^/]+\.(making|expanding)\..*")
# What Git and the Hub's client keep beside the files of a repository.
_OF_CLIENTS = re.compile(r"\.gitattributes|\.git/.*|\.cache/huggingface/.*")


class Contents:
    """The files that a zoo has by its manifest."""

    def __init__(self, store: Store) -> None:
        manifest, extent = store.manifest, store.extent
        self._folder, self._n_shards = store.folder, extent.n_shards
        self._arrays = {*extent.arrays(), "epoch"}
        self._files = {MANIFEST, checksums.NAME, checksums.CARD, PICTURE, "weights.zarr/zarr.json"}
        if manifest.origin is not None:
            self._arrays |= set() if manifest.ragged else {"permutation"}
            self._files |= {ARCHITECTURES, STATES, CONVERSION, *map(split_path, manifest.splits)}
        if manifest.ragged:
            self._files.add(ARCHITECTURES)
        self._files |= {f"weights.zarr/{name}/zarr.json" for name in self._arrays}
        self._parts = {f"models/{part_name(shard)}" for shard in range(extent.n_shards)}

    def has(self, name: str) -> bool:
        """Return whether a file, by its path from the zoo's folder, is the zoo's."""
        if name in self._files or name in self._parts:
            return True
        top, _, rest = name.partition("/")
        array, _, chunk = rest.partition("/")
        return top == "weights.zarr" and array in self._arrays and _CHUNK.fullmatch(chunk) is not None

    def strange(self) -> dict[str, int]:
        """Return what is not the zoo's: files, and folders with nothing of it ("name/") -> how many files they hold."""
        names = location.files(self._folder)
        if isinstance(self._folder, Path):
            names |= {f"{name}/": 0 for name in _empty_folders(self._folder)}
        known = {name[:end] for name in self._files | self._parts for end in _slashes(name)}
        known |= {f"weights.zarr/{array}/c/" for array in self._arrays}
        counts: Counter[str] = Counter()
        for name in sorted(names):
            if (
                self.has(name)
                or name in known
                or _is_chunk_folder(name, known)
                or _UNFINISHED.fullmatch(name)
                or _OF_CLIENTS.fullmatch(name)
            ):
                continue
            inside = (name[:end] for end in _slashes(name))
            folder = next((each for each in inside if each not in known and not _is_chunk_folder(each, known)), None)
            counts[folder or name] += 0 if name.endswith("/") else 1
        return dict(counts)


def describe(strange: dict[str, int]) -> list[str]:
    """Return lines on files that are not a zoo's."""
    return [
        f"{name}{f' ({n:,} files)' if name.endswith('/') else ''}: is no file of the zoo; zoo-gen push leaves it out"
        for name, n in strange.items()
    ]


def _is_chunk_folder(folder: str, known: set[str]) -> bool:
    array, _, chunk = folder.rstrip("/").partition("/c/")
    return f"{array}/c/" in known and _CHUNK.fullmatch(f"c/{chunk}") is not None


def _slashes(name: str) -> list[int]:
    return [position + 1 for position, character in enumerate(name) if character == "/"]


def _empty_folders(folder: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    ]
