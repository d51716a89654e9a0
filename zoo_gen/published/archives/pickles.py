"""Checkpoints of others read without running anything in them: tensors, plain data, and stand-ins for foreign classes.

torch's reader of weights (`weights_only`) is given an inert stand-in for each name that a format is known to hold; any
other name, and any opcode that the reader does not know, refuses the file. docs/converting.md says which published
zoos need what.
"""

import io
import pickletools
import re
import threading
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import git_lfs
from zoo_gen.published.archives.archive import Archive

_MAPPED = 64 * 2**20  # bytes from which a file is memory-mapped instead of read
_TORCH_LOCK = threading.Lock()  # the names that torch's reader allows are one set for the whole process
_OLDEST_TORCH = (2, 10)  # before it, a crafted file could corrupt the reader's memory (CVE-2026-24747)
# What torch's own reader knows.
_PLAIN = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "torch.Tensor"}
_PLAIN |= {"_codecs.encode", "builtins.bytearray", "builtins.set", "builtins.complex", "torch.nn.parameter.Parameter"}


class StandIn(list):
    """What stands for an object of a foreign class: the arguments, state and items it was pickled with, never made.

    It is a list because torch's reader appends only to lists.
    """

    pickled_name = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        """Keep the arguments."""
        created = super().__new__(cls)
        created.args, created.state = args, None
        return created

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep the state, and apply nothing of it."""
        self.state = state

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<stand-in for {self.pickled_name}>"


class _EmptyDict:
    """What stands for a class that is a dictionary, whose items torch's reader would not set: a plain one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return an empty dictionary, whatever the class was made with."""
        return {}


# What training code puts beside weights, and what can hold none: numbers of numpy, options, paths, times.
HARMLESS = ("collections.defaultdict", "collections.deque", "argparse.Namespace", "types.SimpleNamespace")
HARMLESS_FAMILY = re.compile(
    r"numpy\.(dtype|ndarray|bool_?|u?int\d+|float\d+)|numpy\.dtypes\.\w+|numpy\._?core\.multiarray\.(scalar|_reconstruct)"
    r"|pathlib\.(_local\.)?\w+|datetime\.\w+|decimal\.Decimal|fractions\.Fraction|uuid\.UUID|typing\.\w+"
    r"|builtins\.(frozenset|slice|range|int|float|str|bool|bytes|list|dict|tuple|object)"
    r"|omegaconf\.[\w.]+|(pytorch_lightning|lightning|lightning_fabric)\.[\w.]*AttributeDict|easydict\.EasyDict"
    r"|yacs\.config\.CfgNode|ml_collections\.[\w.]+|addict\.[\w.]+"
)
_DICTIONARIES = re.compile(r".*\.(defaultdict|AttributeDict|EasyDict|CfgNode|Dict)")


def _stand_ins(names: Iterable[str]) -> dict[str, Any]:
    """Return what stands for each pickled name."""
    return {
        name: _EmptyDict if _DICTIONARIES.fullmatch(name) else type("StandIn", (StandIn,), {"pickled_name": name})
        for name in names
    }


class Reader:
    """Reads checkpoints that may hold the expected names and no others.

    Args:
        expected: the names that files may hold.
        family: names of the authors' own classes, which differ from file to file; they too only get stand-ins.
        scratch: a folder for what must be expanded.
        format: named in messages.
    """

    def __init__(
        self, expected: Collection[str] = (), *, family: re.Pattern[str] | None = None, scratch: Path, format: str
    ) -> None:
        _check_torch()
        self.family = family
        self.format = format
        self.scratch = scratch
        self._stand_ins = _stand_ins(sorted(expected))

    def member(self, archive: Archive, name: str) -> Any:
        """Return what a member of an archive holds.

        Raises:
            ZooError: it holds a name that is not expected, or is damaged.
        """
        member, where = archive.members[name], archive.where(name)
        if member.size < _MAPPED:
            return self.content(archive.read(name), where=where)
        return self._load(archive.on_disk(name, self.scratch), where)

    def content(self, content: bytes, *, where: str) -> Any:
        """Return what the bytes of a file hold; errors as `member`."""
        git_lfs.check(content, where=where)
        return self._load(io.BytesIO(content), where)

    def _load(self, file: Path | io.BytesIO, where: str) -> Any:
        import torch

        while True:
            try:
                is_zip = zipfile.is_zipfile(file)
                if is_zip:
                    _check_records(file, where)
                if isinstance(file, io.BytesIO):
                    file.seek(0)
                allowed: list[Any] = [(stand_in, name) for name, stand_in in self._stand_ins.items()]
                with _TORCH_LOCK, warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
                    warnings.simplefilter("ignore")
                    mapped = True if is_zip and isinstance(file, Path) else None
                    return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
            except ZooError:
                raise
            except Exception as error:
                names = names_in(file)
                family = [name for name in names if self.family and self.family.fullmatch(name)]
                if set(family) <= set(self._stand_ins):
                    raise self._refusal(names, error, where) from None
                new = sorted(set(family).difference(self._stand_ins))
                self._stand_ins = self._stand_ins | _stand_ins(new)  # other threads may be reading the old one

    def _refusal(self, names: set[str], error: Exception, where: str) -> ZooError:
        """Return what to say of a file that was not read: the unexpected names or the opcode in it, if that is why."""
        unexpected = sorted(name for name in names if not self._is_known(name))
        if unexpected:
            return ZooError(
                f"{where}: refers to {', '.join(unexpected[:5])}, which no file of the format {self.format} should; it "
                "was not read, and nothing in it was run; expected weights alone: torch.save(model.state_dict(), FILE)"
            )
        refused = re.search(r"Unsupported operand (\d+)", str(error))
        opcode = next((each for each in pickletools.opcodes if refused and each.code == chr(int(refused[1]))), None)
        if opcode is not None:
            return ZooError(
                f"{where}: uses the pickle opcode {opcode.name} of protocol {opcode.proto}, which torch's reader of "
                "weights refuses; expected a file of torch.save with its default protocol, 2"
            )
        return ZooError(f"{where}: cannot be read as a checkpoint ({one_line(error)[:200]})")

    def _is_known(self, name: str) -> bool:
        is_torch = name in _PLAIN or name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))
        is_torch |= name.startswith("torch.") and name.endswith("Storage")
        return is_torch or name in self._stand_ins


def _check_torch() -> None:
    """Refuse a torch whose reader of weights is known to be unsafe."""
    import torch

    installed = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if installed < _OLDEST_TORCH:
        raise ZooError(
            f"torch {torch.__version__} reads checkpoints of others unsafely (CVE-2026-24747); expected torch 2.10 or "
            "newer: pip install 'zoo-gen[convert]'"
        )


def array_of(value: Any, *, where: str) -> np.ndarray:
    """Return a tensor that was read as a numpy array (bfloat16 as float32).

    Raises:
        ZooError: it is no tensor, or says it is larger than the numbers it has.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise ZooError(f"{where}: holds {type(value).__name__}; expected a tensor")
    try:
        n_bytes = value.untyped_storage().nbytes()
    except RuntimeError as error:  # a sparse tensor has none
        raise ZooError(f"{where}: {one_line(error)}") from None
    if value.numel() * value.element_size() > n_bytes:  # strides of 0, which copying would make real
        raise ZooError(f"{where}: a tensor of shape {tuple(value.shape)} has fewer numbers than that in the file")
    tensor = value.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def is_tensor(value: Any) -> bool:
    """Return whether a value that was read is a tensor."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numel")


_DEEPEST = 100


def plain(value: Any, _open: frozenset[int] = frozenset()) -> Any:
    """Return what stand-ins stand for as plain data, as far as it is data: OmegaConf nodes, paths, named tuples.

    What contains itself (nodes know their parents) is cut there, and so is what lies deeper than data does.
    """
    if id(value) in _open or len(_open) > _DEEPEST:
        return None
    inside = _open | {id(value)}
    if isinstance(value, StandIn):
        name = value.pickled_name
        if name.startswith("pathlib"):
            return "/".join(str(part) for part in value.args).replace("//", "/")
        state = value.state
        if isinstance(state, dict) and "_content" in state:
            return plain(state["_content"], inside)
        if isinstance(state, dict) and "_val" in state:
            return plain(state["_val"], inside)
        if isinstance(state, dict):
            return {key: plain(inner, inside) for key, inner in state.items() if isinstance(key, str)}
        return [plain(inner, inside) for inner in value] or [plain(inner, inside) for inner in value.args]
    if isinstance(value, dict):
        return {key if isinstance(key, str | int) else str(key): plain(inner, inside) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner, inside) for inner in value]
    return value


def names_in(file: Path | io.BytesIO) -> set[str]:
    """Return the names that the pickles in a file refer to, without reading them."""
    names: set[str] = set()
    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as opened:
                pickles = [opened.read(name) for name in opened.namelist() if name.endswith(".pkl")]
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
            return names
    else:
        pickles = [file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()]
    for content in pickles:
        stream = io.BytesIO(content)
        while stream.tell() < len(content):  # files from before torch 1.6 are several pickles, then numbers
            try:
                names |= _names(stream)
            except Exception:  # it is no pickle any more
                break
    return names


def _names(stream: IO[bytes]) -> set[str]:
    names, texts = set(), ["", ""]
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            names.add(_python3_name(*str(argument).split(" ", 1)))
        elif opcode.name == "STACK_GLOBAL":
            names.add(f"{texts[-2]}.{texts[-1]}")
        elif isinstance(argument, str):
            texts.append(argument)
    return names


def _python3_name(module: str, name: str) -> str:
    """Return a name as Python 3 calls it, since protocol 2 writes those of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _check_records(file: Path | io.BytesIO, where: str) -> None:
    """Refuse a checkpoint whose records are compressed, as torch never writes and a bomb would need, or are damaged.

    torch itself does not look at the check sums that it writes; where it was told to write none, they are 0.
    """
    size = file.stat().st_size if isinstance(file, Path) else len(file.getbuffer())
    with zipfile.ZipFile(file) as opened:
        entries = opened.infolist()
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            raise ZooError(
                f"{where}: its records unpack to more than the file holds; torch.save writes them as they are"
            )
        for entry in entries:
            if entry.CRC:
                _check_sum(opened, entry, where)


def _check_sum(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> None:
    try:
        with opened.open(entry) as record:
            while record.read(2**22):
                pass
    except (zipfile.BadZipFile, EOFError) as error:
        raise ZooError(f"{where}: is damaged ({one_line(error)})") from None
