"""DWSNets' implicit representations (Navon et al., ICML 2023): a .pth a network, its label in its folder or inside."""

import re
from pathlib import PurePosixPath
from typing import Any

from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.formats.inrs import File
from zoo_gen.published.formats.inrs import read as read_files
from zoo_gen.published.reading import Reading, Request
from zoo_gen.published.splits import SplitTable

_FOLDER = re.compile(r".*_(training|testing|train|test)_(\d+)_(\d+)")


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    members = sorted(archive.named("*.pth", "*.pt"), key=natural_order)
    files = [File(member, member, _facts(member)) for member in members]
    numbered = {file.member: model for model, file in enumerate(files)}
    tables: dict[str, SplitTable] = request.split_files(numbered)
    part_of = {model: file.facts["part"] for model, file in enumerate(files) if "part" in file.facts}
    if part_of:
        how = "the folders of training and test images; the publication draws its validation part without a seed"
        tables["folders"] = splits.of_parts(part_of, how=how)
    notes = ("inputs are coordinates (x, y) in [-1, 1]; 0.5 is added to the output", "sin(30 x) in every hidden layer")
    return read_files(archive, request, files, format="dwsnets", shift=0.5, splits=tables, notes=notes)


def _facts(member: str) -> dict[str, Any]:
    """Return label, number and part as the folders say them."""
    facts: dict[str, Any] = {}
    parts = PurePosixPath(member).parts
    for part in parts[:-1]:
        if match := _FOLDER.fullmatch(part):
            facts |= {"label": int(match[2]), "number": int(match[3])}
    is_train = any("train" in part for part in parts)
    if is_train or any("test" in part for part in parts):
        facts["part"] = "train" if is_train else "test"
    return facts
