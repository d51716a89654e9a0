"""The files of a tar, and what refuses it before anything of it is read.

Python's reader takes a header that it cannot read for the end of the archive, so that what follows would be lost
without a word: here a tar ends with the blocks of zeros that its standard asks for, and with nothing behind them.
"""

import tarfile
from pathlib import Path

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.members import Member, MemberList, printable

_BLOCK = tarfile.BLOCKSIZE


def begins(start: bytes) -> bool:
    """Return whether a file's first bytes are a header of a tar, by its check sum, since old tars have no mark."""
    try:
        tarfile.TarInfo.frombuf(start[:_BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError):
        return False
    return True


def list_tar(path: Path, plain: Path) -> MemberList:
    """Return the files of a plain tar `plain`, which messages call `path`.

    Raises:
        ZooError: it is not safe to read, or is cut off.
    """
    listing = MemberList(path)
    whole = plain.stat().st_size
    end = 0
    with tarfile.open(plain, "r:", encoding="utf-8", errors="surrogateescape") as opened:
        for entry in opened:
            if entry.size < 0 or entry.offset_data + (entry.size if entry.isreg() else 0) > whole:
                raise ZooError(f"{path}: {printable(entry.name)} is cut off; expected the whole archive")
            end = opened.offset
            if entry.isdir():
                listing.check(entry.name)
            elif entry.issym() or entry.islnk():
                listing.add_link(entry.name, entry.linkname, from_root=entry.islnk())
            elif entry.isreg() and not entry.issparse():
                listing.add(entry.name, Member(entry.size, entry.offset_data, at=entry.name))
            else:
                kind = "has holes (a sparse file)" if entry.issparse() else "is a link or a device"
                raise ZooError(f"{path}: {printable(entry.name)} {kind}; expected plain files")
    _check_end(path, plain, end)
    return listing.resolve()


def _check_end(path: Path, plain: Path, end: int) -> None:
    """Refuse a tar that is cut off, or goes on where its reader stops."""
    with plain.open("rb") as file:
        file.seek(end)
        first = file.read(_BLOCK)
        if len(first) < _BLOCK:
            raise ZooError(f"{path}: is cut off after {end:,} bytes; expected a tar with its end")
        while block := (first or file.read(2**20)):
            if block.strip(b"\0"):
                raise ZooError(
                    f"{path}: goes on after {file.tell() - len(block):,} bytes with what is no member; expected one "
                    "undamaged tar"
                )
            first = b""
