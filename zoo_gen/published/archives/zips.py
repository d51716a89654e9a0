"""The files of a zip, and what refuses it before anything of it is read.

Refused are names that lead out of it, devices, encryption, members that are there twice or share their bytes, and what
is much smaller than what it says is inside. Names without the mark of UTF-8 are tried as UTF-8, as macOS writes them.
"""

import stat
import zipfile
from pathlib import Path

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.members import FREE_BYTES, Member, MemberList, check_size, printable

BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_METHODS = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflate",
    zipfile.ZIP_BZIP2: "bzip2",
    zipfile.ZIP_LZMA: "lzma",
}
_UTF8 = 0x800
_MOST_LINK = 4096  # bytes of a link's target


def list_zip(path: Path, opened: zipfile.ZipFile) -> MemberList:
    """Return the files of a zip.

    Raises:
        ZooError: it is not safe to read.
    """
    listing = MemberList(path)
    whole = path.stat().st_size
    entries = opened.infolist()
    check_size(path, sum(entry.file_size for entry in entries), whole)
    if sum(entry.compress_size for entry in entries) > whole:
        raise ZooError(f"{path}: its members overlap; an archive that unpacks to more than it holds is refused")
    for entry in entries:
        name = _name(entry)
        if name.endswith(("/", "\\")) and not entry.file_size:
            listing.check(name)
            continue
        if not 0 <= entry.header_offset < whole:
            raise ZooError(f"{path}: {printable(name)} does not lie in the archive; expected an undamaged one")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
            raise ZooError(f"{path}: {printable(name)} is a link or a device; expected plain files")
        if entry.flag_bits & 1:
            raise ZooError(f"{path}: {printable(name)} is encrypted; expected plain files")
        if entry.compress_type not in _METHODS:
            methods = ", ".join(_METHODS.values())
            raise ZooError(
                f"{path}: {printable(name)} is compressed by method {entry.compress_type}; expected {methods}"
            )
        check_size(f"{path}: {printable(name)}", entry.file_size, entry.compress_size)
        if kind == stat.S_IFLNK:
            if entry.file_size > _MOST_LINK:
                raise ZooError(f"{path}: {printable(name)} is a link or a device; expected plain files")
            listing.add_link(name, opened.read(entry).decode("utf-8", "surrogateescape"))
            continue
        offset = -1
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size:
            offset = _stored_at(path, opened, entry)
        listing.add(name, Member(entry.file_size, offset, at=entry.filename, sum=entry.CRC))
    return listing.resolve()


def is_checkpoint(opened: zipfile.ZipFile) -> bool:
    """Return whether a zip is one file of torch.save: a pickle and its numbers in one folder."""
    names = set(opened.namelist())
    top = next(iter(names), "").partition("/")[0]
    return {f"{top}/data.pkl", f"{top}/version"} <= names


def _name(entry: zipfile.ZipInfo) -> str:
    if not entry.flag_bits & _UTF8 and not entry.filename.isascii():
        try:
            return entry.orig_filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            return entry.filename
    return entry.filename


def _stored_at(path: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member begin: after its local header, whose names may be longer."""
    if entry.file_size < FREE_BYTES // 64:
        return -1  # small ones are read through zipfile, which also checks their sum
    file = opened.fp
    assert file is not None
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise ZooError(f"{path}: {printable(entry.filename)} has no header where the archive says")
    start = entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if start + entry.file_size > path.stat().st_size:
        raise ZooError(f"{path}: {printable(entry.filename)} is cut off")
    return start
