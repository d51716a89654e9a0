"""The one reader of untrusted pickles: what is not expected aborts with its name, and nothing is ever run.

A format lists the names that its files hold. Most files hold none and are read here by torch's reader of weights only;
files from before torch 1.6, or with opcodes that it does not know, go to a child process (`isolated.py`).
"""

import io
import json
import pickle
import pickletools
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo_gen.errors import ZooError, one_line
from zoo_gen.published.archives import isolated
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.isolated import HEADER, StandIn

_MAPPED = 64 * 2**20  # from this size on, a file is mapped and not read
_TORCH_LOCK = threading.Lock()  # the names that torch's reader allows are one set for the whole process
# What torch's own reader knows.
_PLAIN = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "torch.Tensor"}
_PLAIN |= {"_codecs.encode", "builtins.bytearray", "builtins.set", "builtins.complex", "torch.nn.parameter.Parameter"}


class Reader:
    """Reads files that may hold the expected names and no others; what it opened is closed with `reading`."""

    def __init__(
        self, expected: Collection[str], *, family: re.Pattern[str] | None = None, scratch: Path, format: str
    ) -> None:
        self.expected = sorted(expected)
        self.family = family
        self.format = format
        self.scratch = scratch
        self._standing = isolated.stand_ins(self.expected)
        self._child: subprocess.Popen[bytes] | None = None
        self._home: str | None = None
        self._lock = threading.Lock()

    def member(self, archive: Archive, name: str) -> Any:
        """Return what a member of an archive holds; tensors may be torch's or numpy's, see `array_of`.

        Raises:
            ZooError: it holds a name that is not expected, or is damaged.
        """
        member, where = archive.members[name], archive.where(name)
        if member.size < _MAPPED:
            return self.content(archive.read(name), where=where)
        path = archive.path / name if archive.kind == "folder" else archive.path
        if archive.kind not in ("folder", "file"):
            path = self.scratch / f"{abs(hash(name)):x}.pt"
            if not path.exists():
                with archive.open(name) as file, path.open("wb") as out:
                    shutil.copyfileobj(file, out, 2**22)
        if not zipfile.is_zipfile(path):
            return self.content(path.read_bytes(), where=where)
        with zipfile.ZipFile(path) as opened:
            _plain(opened, path.stat().st_size, where)
        try:
            with _TORCH_LOCK:
                return isolated.load(str(path), self._standing, mapped=True)
        except Exception as error:
            if self._learned(path):
                return self.member(archive, name)
            raise self._refused(path, error, where) from None

    def content(self, content: bytes, *, where: str) -> Any:
        """Return what the bytes of a file hold.

        Raises:
            ZooError: as `member`.
        """
        file = io.BytesIO(content)
        if not zipfile.is_zipfile(file):
            return self._in_child(content, where)
        try:
            with zipfile.ZipFile(file) as opened:
                _plain(opened, len(content), where)
            file.seek(0)
            with _TORCH_LOCK:
                return isolated.load(file, self._standing)
        except ZooError:
            raise
        except Exception as error:
            if "Unsupported operand" in str(error):
                return self._in_child(content, where)
            if self._learned(content):
                return self.content(content, where=where)
            raise self._refused(content, error, where) from None

    def _in_child(self, content: bytes, where: str) -> Any:
        with self._lock:
            try:
                given, answered = self._pipes()
                names = json.dumps(self.expected).encode()
                given.write(HEADER.pack(len(names), len(content)) + names)
                given.write(content)
                given.flush()
                header = answered.read(HEADER.size)
                if len(header) < HEADER.size:
                    raise OSError("the process that reads it ended")
                text, buffers = (answered.read(length) for length in HEADER.unpack(header))
            except OSError as error:
                self.close()
                raise ZooError(f"{where}: cannot be read ({error}); it may be damaged or hostile") from None
        found = isolated.decode(text, buffers)
        if "error" in found:
            if self._learned(content):
                return self._in_child(content, where)
            raise self._refused(content, found["error"], where)
        return found["value"]

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the pipes of the child, started in an empty home without anything of our environment."""
        if self._child is None or self._child.poll() is not None:
            import torch

            self._home = tempfile.mkdtemp(prefix="zoo-gen-reader-")
            self._child = subprocess.Popen(
                [sys.executable, "-I", isolated.__file__, str(Path(torch.__file__).parent.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._home,
                env={"HOME": self._home, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert self._child.stdin is not None  # both were asked for as pipes
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout

    def _learned(self, content: bytes | Path) -> bool:
        """Take the names of the authors' own classes in a file into what is expected; return whether there were any."""
        known = {name for name in names_in(content) if self.family and self.family.fullmatch(name)}
        new = sorted(known.difference(self.expected))
        self.expected = sorted({*self.expected, *new})
        self._standing |= isolated.stand_ins(new)
        return bool(new)

    def _refused(self, content: bytes | Path, error: object, where: str) -> ZooError:
        """Return what to say of a file that was not read: the unexpected names in it, if that is why."""
        unexpected = sorted(name for name in names_in(content) if not self._is_known(name))
        if unexpected:
            return ZooError(
                f"{where}: refers to {', '.join(unexpected[:5])}, which no file of the format {self.format} should; it "
                "was not read, and nothing in it was run"
            )
        said = one_line(error) if isinstance(error, BaseException) else str(error)
        return ZooError(f"{where}: cannot be read as a checkpoint ({said[:200]})")

    def _is_known(self, name: str) -> bool:
        is_torch = name in _PLAIN or name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))
        is_torch |= name.startswith("torch.") and name.endswith("Storage")
        return is_torch or name in self.expected

    def close(self) -> None:
        """End the child and take its home away."""
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # it had ended
                        pipe.close()
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


@contextmanager
def reading(
    expected: Collection[str], *, family: re.Pattern[str] | None = None, scratch: Path, format: str
) -> Iterator[Reader]:
    """Open a reader for the time of a conversion.

    Args:
        expected: the names that files may hold.
        family: names of the authors' own classes, which differ from file to file; they too only get stand-ins.
        scratch: a folder for what must be expanded.
        format: named in messages.
    """
    reader = Reader(expected, family=family, scratch=scratch, format=format)
    try:
        yield reader
    finally:
        reader.close()


def array_of(value: Any, *, where: str) -> np.ndarray:
    """Return a tensor that was read as a numpy array (bfloat16 as float32).

    Raises:
        ZooError: it is no tensor, or says it is larger than the numbers it has.
    """
    if isinstance(value, np.ndarray):
        return value
    import torch

    if not isinstance(value, torch.Tensor):
        raise ZooError(f"{where}: holds {type(value).__name__}; expected a tensor")
    try:
        isolated.checked(value)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ZooError(f"{where}: {error}") from None
    found = value.detach()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()


def is_tensor(value: Any) -> bool:
    """Return whether a value that was read is a tensor."""
    return isinstance(value, np.ndarray) or (
        type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numel")
    )


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


def names_in(content: bytes | Path) -> set[str]:
    """Return the names that the pickles in a file refer to, without reading them."""
    found: set[str] = set()
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as opened:
                pickles = [opened.read(name) for name in opened.namelist() if name.endswith(".pkl")]
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
            return found
    else:
        pickles = [content if isinstance(content, bytes) else content.read_bytes()]
    for one in pickles:
        stream = io.BytesIO(one)
        while stream.tell() < len(one):  # old files are several pickles, then numbers
            try:
                found |= _names(stream)
            except Exception:  # it is no pickle any more
                break
    return found


def _names(file: IO[bytes]) -> set[str]:
    found, texts = set(), ["", ""]
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(_today(*str(argument).split(" ", 1)))
        elif opcode.name == "STACK_GLOBAL":
            found.add(f"{texts[-2]}.{texts[-1]}")
        elif isinstance(argument, str):
            texts.append(argument)
    return found


def _today(module: str, name: str) -> str:
    """Return a name as Python 3 calls it, since protocol 2 writes those of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _plain(opened: zipfile.ZipFile, size: int, where: str) -> None:
    """Refuse a checkpoint whose records are compressed, which torch never writes and a bomb would need."""
    entries = opened.infolist()
    if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
        raise ZooError(f"{where}: its records unpack to more than the file holds; torch.save writes them as they are")
