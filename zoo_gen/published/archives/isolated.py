"""Reading one untrusted pickle without running anything in it; also the child process that does so for old files.

torch's `weights_only` reader is given an inert stand-in for every name that a format is expected to hold, and refuses
all others. What it cannot parse (the format before zip, newer opcodes) is read in this file run as a script: a child
without network, home, files or further processes, which speaks lengths and bytes over its pipes. It therefore imports
nothing of this package.
"""

import base64
import io
import json
import pickle
import struct
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, BinaryIO

HEADER = struct.Struct("<QQ")  # bytes of JSON, bytes of buffers


class StandIn(list):
    """What stands for an object of a foreign class: what it was made from, never made.

    It is a list because torch's reader appends only to lists. `args` made it, `state` was given to it, `items` are
    what was put into it by key.
    """

    pickled_name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        """Keep the arguments."""
        made = super().__new__(cls)
        made.args, made.kwargs, made.state, made.items_by_key = args, kwargs, None, {}
        return made

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: Any
    items_by_key: dict[Any, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep the state, and apply nothing of it."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items_by_key[key] = value

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<stand-in for {self.pickled_name}>"


def stand_in(name: str) -> type[StandIn]:
    """Return the class that stands for one pickled name."""
    return type("StandIn", (StandIn,), {"pickled_name": name})


def empty(*args: Any) -> dict[Any, Any]:
    """Return an empty dictionary: what stands for a defaultdict, which torch's reader would not fill."""
    return {}


def stand_ins(names: Iterable[str]) -> dict[str, Any]:
    """Return what stands for each name."""
    return {name: empty if name == "collections.defaultdict" else stand_in(name) for name in names}


def load(file: "str | BinaryIO", standing: dict[str, Any], *, mapped: bool = False) -> Any:
    """Read a checkpoint with torch's reader of weights only.

    Raises:
        pickle.UnpicklingError: it holds a name that is not expected, or opcodes that the reader does not know.
    """
    import torch

    with warnings.catch_warnings(), torch.serialization.safe_globals([(it, name) for name, it in standing.items()]):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped or None)


def load_old(content: bytes, standing: dict[str, Any]) -> Any:
    """Read a checkpoint with Python's own reader, which finds nothing but tensors and stand-ins. Only in the child.

    Raises:
        pickle.UnpicklingError: it holds a name that is not expected.
    """
    import torch

    utils = torch._utils
    known = {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": utils._rebuild_tensor_v2,
        "torch._utils._rebuild_parameter": utils._rebuild_parameter,
        "torch.Size": torch.Size,
        "torch.device": torch.device,
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            whole = f"{module}.{name}"
            if whole in known:
                return known[whole]
            if module == "torch" and name.endswith("Storage"):
                return torch.serialization.StorageType(name)
            if whole in standing:
                return standing[whole]
            raise pickle.UnpicklingError(f"Unsupported global: {whole}")

    shim = types.SimpleNamespace(Unpickler=Reader, load=lambda file, **_: Reader(file).load(), __name__="inert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False, pickle_module=shim)


def encode(value: Any) -> tuple[bytes, bytes]:
    """Return what was read as JSON and the bytes of its tensors; what is shared or contains itself stays so."""
    import torch

    nodes: list[list[Any]] = []
    places: dict[int, int] = {}
    buffers = bytearray()
    alive: list[Any] = []  # so that no id is used twice

    def place(item: Any) -> int:
        if id(item) in places:
            return places[id(item)]
        number = len(nodes)
        nodes.append([])
        places[id(item)] = number
        alive.append(item)
        nodes[number] = node(item)
        return number

    def node(item: Any) -> list[Any]:
        if item is None or isinstance(item, bool | str) or type(item) is int:
            return ["v", item]
        if isinstance(item, float):
            return ["f", item.hex()]
        if isinstance(item, bytes | bytearray):
            return ["y", base64.b64encode(item).decode()]
        if isinstance(item, torch.Tensor):
            checked(item)
            tensor = item.detach().cpu()
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()
            start = len(buffers)
            buffers.extend(array.tobytes())
            return ["a", array.dtype.str, list(array.shape), start, array.nbytes]
        if isinstance(item, StandIn):
            inside = (item.args, item.kwargs, item.state, list(item), item.items_by_key)
            return ["s", item.pickled_name, *map(place, inside)]
        if isinstance(item, dict):
            return ["d", [[place(key), place(inner)] for key, inner in item.items()]]
        if isinstance(item, list | tuple | set | frozenset):
            kind = "l" if isinstance(item, list) else "t" if isinstance(item, tuple) else "e"
            return [kind, [place(inner) for inner in item]]
        return ["v", repr(item)]  # a dtype, a device, a class: named, never made

    root = place(value)
    return json.dumps([root, nodes]).encode(), bytes(buffers)


def decode(text: bytes, buffers: bytes) -> Any:
    """Return what `encode` was given, tensors as numpy arrays, stand-ins as stand-ins."""
    import numpy as np

    root, nodes = json.loads(text)
    made: dict[int, Any] = {}
    classes: dict[str, type[StandIn]] = {}

    def value(number: int) -> Any:
        if number in made:
            return made[number]
        kind, *rest = nodes[number]
        if kind == "v":
            made[number] = rest[0]
        elif kind == "f":
            made[number] = float.fromhex(rest[0])
        elif kind == "y":
            made[number] = base64.b64decode(rest[0])
        elif kind == "a":
            dtype, shape, start, size = rest
            made[number] = np.frombuffer(buffers, dtype, size // np.dtype(dtype).itemsize, start).reshape(shape)
        elif kind == "s":
            name, args, kwargs, state, items, by_key = rest
            it = made[number] = classes.setdefault(name, stand_in(name))()
            it.args, it.kwargs, it.state = value(args), value(kwargs), value(state)
            it.extend(value(items))
            it.items_by_key = value(by_key)
        elif kind == "d":
            filled = made[number] = {}
            for key, inner in rest[0]:
                filled[value(key)] = value(inner)
        elif kind == "l":
            listed = made[number] = []
            listed.extend(value(inner) for inner in rest[0])
        else:
            inside = [value(inner) for inner in rest[0]]
            made[number] = tuple(inside) if kind == "t" else set(inside)
        return made[number]

    return value(root)


def checked(tensor: Any) -> None:
    """Refuse a tensor that says it is larger than the numbers it has (strides of 0), which copying would make real.

    Raises:
        pickle.UnpicklingError: it is.
    """
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(tensor.shape)} has fewer numbers than that in the file")


_DENIED = (
    "socket.",
    "subprocess.",
    "os.",
    "shutil.",
    "ctypes.",
    "urllib.",
    "ftplib.",
    "http.",
    "smtplib.",
    "tempfile.",
    "glob.",
    "pty.",
    "signal.",
    "open",
    "exec",
    "compile",
    "import",
    "code.",
    "marshal.",
)


def _deny(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(_DENIED):
        raise PermissionError(f"{event} is not allowed while a foreign file is read")


def _without_network() -> None:
    """Leave the network where the kernel lets us; the audit hook forbids it in any case."""
    import ctypes

    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None and unshare(0x10000000 | 0x40000000):  # a user namespace may be forbidden, root needs none
        unshare(0x40000000)


def main() -> None:
    """Serve requests from stdin: two lengths, the JSON list of expected names, the file. Answer in the same form."""
    import resource

    _without_network()
    sys.path += sys.argv[1:]
    import numpy as np
    import torch

    torch.set_num_threads(1)
    given, answered = sys.stdin.buffer, sys.stdout.buffer
    warm = io.BytesIO()
    torch.save({"a": torch.zeros(2), "b": torch.nn.Parameter(torch.zeros(1))}, warm)
    old = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, old, _use_new_zipfile_serialization=False)
    for content in (warm.getvalue(), old.getvalue()):  # whatever is imported on first use is imported now
        decode(*encode(load(io.BytesIO(content), {})))
        load_old(content, {})
    np.frombuffer(b"1234", "<f4").reshape([1])
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    sys.addaudithook(_deny)
    while header := given.read(HEADER.size):
        names, content = (given.read(length) for length in HEADER.unpack(header))
        try:
            standing = stand_ins(json.loads(names))
            try:
                found = load(io.BytesIO(content), standing)
            except pickle.UnpicklingError as error:
                if "Unsupported operand" not in str(error):
                    raise
                found = load_old(content, standing)
            text, buffers = encode({"value": found})
        except Exception as error:  # whatever a hostile file makes of the reader is an answer, not an end
            text, buffers = encode({"error": f"{type(error).__name__}: {error}"})
        answered.write(HEADER.pack(len(text), len(buffers)) + text + buffers)
        answered.flush()


if __name__ == "__main__":
    main()
