"""The table of a folder of one's own: the one CSV whose rows name its files, and the column in which they do.

Two tables that name files are not chosen between: the older copy of a table looks like the table.
"""

from dataclasses import dataclass

from zoo_gen.errors import ZooError, argument
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.formats import cell_paths, tables
from zoo_gen.published.formats.cell_paths import Files
from zoo_gen.published.formats.tables import Sheet
from zoo_gen.published.reading import Request

_WEIGHTS = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin")
_TABLES = ("*.csv", "*.csv.gz", "*.tsv", "*.tsv.gz")
_NO_TABLES = ("*.xlsx", "*.xls", "*.ods", "*.parquet", "*.feather")
_FILE_COLUMNS = ("file", "filename", "path", "checkpoint", "checkpoint_path", "ckpt_file", "ckpt", "name")
_LOOKED_AT = 1000  # cells that tell whether a column names files


@dataclass(frozen=True)
class Table:
    """The table, the column that names files, and the file of each row."""

    sheet: Sheet
    column: str
    members: list[str]


def find(archive: Archive, request: Request) -> Table:
    """Return the table of a folder, and note which files it names."""
    weights = archive.named(*_WEIGHTS)
    names = archive.named(*_TABLES)
    if request.table is not None:
        path = cell_paths.plain(request.table)
        names = [name for name in names if name == path or name.endswith(f"/{path}")]
        unasked = set(archive.named(*_TABLES)).difference(names)
        request.account.ignored |= dict.fromkeys(unasked, "another table was asked for")
        if len(names) != 1:
            raise ZooError(f"{archive.path}: holds {len(names)} tables {request.table!r}; expected one, a CSV")
    folders = [name.rpartition("/") for name in weights]  # which cells may name, where accelerate saved the weights
    known = {_last(name) for name in weights}
    known |= {_last(f"{folder}.pt") for folder, _, leaf in folders if leaf in cell_paths.WEIGHTS_OF_FOLDERS}
    candidates: dict[str, tuple[Sheet, list[str]]] = {}
    broken: dict[str, ZooError] = {}
    for name in names:
        try:
            sheet = tables.read_sheet(archive, name)
        except ZooError as error:
            broken[name] = error
            continue
        columns = [column for column in sheet.names if _may_name(sheet, column, known)]
        if columns:
            candidates[name] = sheet, columns
        else:
            request.account.ignored[name] = "a table that names no file of weights"
    if not candidates and broken:
        raise next(iter(broken.values()))
    request.account.ignored |= {name: f"no table that can be read: {error}" for name, error in broken.items()}
    _leave_out_equal(archive, request, candidates)
    if len(candidates) > 1:
        first, second = list(candidates)[:2]
        raise ZooError(
            f"{archive.path}: its tables {first} and {second} both name files of weights; expected one, or "
            f"{argument('table', first)}"
        )
    if not candidates:
        others = archive.named(*_NO_TABLES)
        rest = f"; {others[0]} is no CSV" if others else ""
        raise ZooError(f"{archive.path}: holds no CSV with a column that names its {len(weights)} files{rest}")
    ((name, (sheet, columns)),) = candidates.items()
    table = _table(sheet, columns, Files(weights, name))
    request.account.used.update([name, *table.members])
    for note in sheet.notes:
        request.account.note(note)
    named = set(table.members)
    request.account.ignored |= {each: f"not named in {name}" for each in weights if each not in named}
    return table


def _last(path: str) -> str:
    """Return the last part of a path without its ending, as it is compared."""
    last = cell_paths.plain(path).rpartition("/")[2].casefold()
    return last.rpartition(".")[0] or last


def _may_name(sheet: Sheet, column: str, known: set[str]) -> bool:
    """Return whether a cell of a column ends as a file does."""
    cells = sheet.texts[column].slice(0, _LOOKED_AT).drop_null().to_pylist()
    # A name without its ending may have a dot in it.
    return any(_last(cell) in known or _last(f"{cell}.pt") in known for cell in cells)


def _leave_out_equal(archive: Archive, request: Request, candidates: dict[str, tuple[Sheet, list[str]]]) -> None:
    """Take out tables with the same bytes as another one, the one with the shorter name staying."""
    contents: dict[bytes, str] = {}
    for name in sorted(candidates, key=lambda name: (len(name), name)):
        first = contents.setdefault(archive.read(name), name)
        if first != name:
            request.account.ignored[name] = f"a copy of {first}"
            del candidates[name]


def _table(sheet: Sheet, columns: list[str], files: Files) -> Table:
    """Return the column that names files in every row, by its name or by how many it names."""
    named = {column: files.named([cell or "" for cell in sheet.texts[column].to_pylist()]) for column in columns}
    counts = {column: sum(member is not None for member in members) for column, members in named.items()}
    most = max(counts.values())
    best = [column for column in columns if counts[column] == most]
    preferred = [column for column in best if column.lower().replace(" ", "_") in _FILE_COLUMNS] or best
    if len(preferred) > 1:
        preferred.sort(
            key=lambda c: _FILE_COLUMNS.index(c.lower()) if c.lower() in _FILE_COLUMNS else len(_FILE_COLUMNS)
        )
        if named[preferred[0]] != named[preferred[1]]:
            raise ZooError(
                f"{sheet.where}: columns {preferred[0]} and {preferred[1]} name different files; expected one of them"
            )
    column = preferred[0]
    line_of: dict[str, int] = {}
    members = []
    for row, (member, cell) in enumerate(zip(named[column], sheet.texts[column].to_pylist(), strict=True)):
        if member is None:
            what = f"names {cell}, which is not there or could be several" if cell else f"names nothing in {column}"
            raise ZooError(f"{sheet.where}: line {row + 2} {what}; expected a file of the folder")
        if line_of.setdefault(member, row + 2) != row + 2:
            raise ZooError(
                f"{sheet.where}: lines {line_of[member]} and {row + 2} both name {member}; expected a file a row"
            )
        members.append(member)
    if not members:
        raise ZooError(f"{sheet.where}: has no rows; expected one a file")
    return Table(sheet, column, members)
