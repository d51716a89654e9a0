"""Files that are no part of an archive: what systems, editors, notebooks and clients of sync services leave in folders.

They are taken out of the listing before a format looks at it, since a stale copy looks like the file that it is of.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from zoo_gen.published.archives.archive import Archive

_BLOCK = 2**20  # bytes compared at once

_FOLDERS = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "#recycle", "system volume information", "lost+found"}
_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_ENDS = ("~", ".swp", ".swo", ".bak", ".orig", ".tmp", ".temp", ".part", ".crdownload", ".partial", ".lock", ".icloud")
# How browsers, systems and clients of sync services call the copy of a file that is there already.
_COPY = re.compile(
    r"(?P<before>.+?)(?: ?\(\d+\)| - (?:copy|kopie|copie|copia|cópia)(?: ?\(\d+\))?| copy(?: \d+)?"
    r"| \([^()]*(?:conflict|konflikt|conflit)[^()]*\)|\.sync-conflict-[\w-]+|[ _-]conflict(?:ed)?[ _-][\w -]+"
    r"| \[conflict[^\]]*\])(?P<after>(?:\.\w+)*)",
    re.IGNORECASE,
)


def reason(name: str) -> str:
    """Return why a member of an archive is no part of it; nothing if it is one.

    >>> reason("run_1/.ipynb_checkpoints/models-checkpoint.csv")
    'in a hidden folder'
    >>> reason("run_1/model.pt")
    ''
    """
    *folders, last = name.split("/")
    for folder in folders:
        if folder.startswith("."):
            return "in a hidden folder"
        if folder.lower() in _FOLDERS:
            return f"in a folder {folder} of another program"
    if last.startswith("."):
        return "a hidden file"
    is_foreign = last.lower() in _NAMES or last.lower().endswith(_ENDS) or last.startswith("~$")
    return "left by another program" if is_foreign or (last.startswith("#") and last.endswith("#")) else ""


def copies(names: Iterable[str]) -> dict[str, str]:
    """Return the names that say that they are a copy of another one that is there too: copy -> what it is a copy of.

    >>> copies(["a.pt", "a (1).pt", "b (1).pt", "run - Copy/a.pt", "run/a.pt"])
    {'a (1).pt': 'a.pt', 'run - Copy/a.pt': 'run/a.pt'}
    """
    paths = set(names)
    originals = {}
    for name in sorted(paths):
        matches = [_COPY.fullmatch(part) for part in name.split("/")]
        if any(matches):
            parts = zip(name.split("/"), matches, strict=True)
            original = "/".join(match["before"] + match["after"] if match else part for part, match in parts)
            if original in paths:
                originals[name] = original
    return originals


def split_off(archive: Archive, *, with_copies: bool) -> tuple[Archive, dict[str, str], list[str]]:
    """Return an archive without what is no part of it, what was taken out with the reason, and what stays in doubt.

    Args:
        archive: the whole.
        with_copies: whether copies of files are taken out too, as far as they hold the same bytes. A format whose table
            names every file knows better.
    """
    ignored = {name: why for name in archive.members if (why := reason(name))}
    doubts = []
    if with_copies:
        for name, original in copies(name for name in archive.members if name not in ignored).items():
            if _same_bytes(archive, name, original):
                ignored[name] = f"a copy of {original}"
            else:
                doubts.append(f"{name} looks like a copy of {original}, but differs from it; it was kept")
    if not ignored:
        return archive, ignored, doubts
    members = {name: member for name, member in archive.members.items() if name not in ignored}
    return replace(archive, members=members), ignored, doubts


def _same_bytes(archive: Archive, name: str, original: str) -> bool:
    members = archive.members
    if original not in members or members[name].size != members[original].size:
        return False
    with archive.open(name) as one, archive.open(original) as other:
        while block := one.read(_BLOCK):
            if block != other.read(len(block)):
                return False
    return True
