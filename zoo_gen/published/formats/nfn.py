"""NFN's implicit representations (Zhou et al., 2023): <prefix>_<label>s/net<index>.pth.

The index is the place of the image among the training images followed by the test images; copies with other
initialisations and augmented ones have the same index, and belong into one part of a split.
"""

import re
from typing import Any

from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.formats.inrs import File
from zoo_gen.published.formats.inrs import read as read_files
from zoo_gen.published.reading import Reading, Request
from zoo_gen.published.splits import SplitTable

_FILE = re.compile(r"(?:(.*)/)?([^/]+)_(\d+)s/net(\d+)\.pth")
# Validation and test begin there (public code, launch_classify_siren.py).
_CUTS = {"cifar": (45_000, 50_000), "": (55_000, 60_000)}


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds, all prefixes in one zoo."""
    matches = [(match, name) for name in archive.named("net*.pth") if (match := _FILE.fullmatch(name))]
    matches.sort(key=lambda pair: (pair[0][2], int(pair[0][4]), pair[1]))
    files = [File(name, f"{match[2]}/net{match[4]}", _facts(match)) for match, name in matches]
    numbered = {file.member: model for model, file in enumerate(files)}
    tables: dict[str, SplitTable] = request.split_files(numbered)
    is_cifar = "cifar" in f"{request.data or ''} {archive.path.name} {files[0].member if files else ''}".lower()
    first, second = _CUTS["cifar" if is_cifar else ""]
    part_of = {}
    for model, file in enumerate(files):
        image = file.facts["image"]
        part_of[model] = "train" if image < first else "validation" if image < second else "test"
    how = f"by the place of the image: validation from {first:,}, test from {second:,}; copies of an image together"
    tables["nfn"] = splits.of_parts(part_of, how=how)
    notes = ("inputs are coordinates (row, column) in [-1, 1]; outputs are pixels in [-1, 1]", "sin(30 x) throughout")
    return read_files(archive, request, files, format="nfn", shift=0.0, splits=tables, notes=notes)


def _facts(match: re.Match[str]) -> dict[str, Any]:
    return {"label": int(match[3]), "image": int(match[4]), "prefix": match[2]}
