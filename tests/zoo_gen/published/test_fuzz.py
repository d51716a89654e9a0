"""Thousands of odd inputs: each becomes a zoo that holds what its files hold, or one line, and nothing else is left.

The short form runs with all tests; the long one, of 10,000 inputs, in the slow suite.
"""

import argparse
import gzip
import itertools
import json
import os
import shutil
import struct
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.zoo_gen.published import packed, ray
from zoo_gen import ZooError, convert
from zoo_gen.files import atomic

FILES = packed.files("")
STATES = [{name: tensor.numpy() for name, tensor in packed.state(seed).items()} for seed in (0, 1)]
_COUNTER = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Nothing here is about a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "flush", lambda path: None)
        yield


@pytest.fixture(scope="module")
def room():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def converted(room, put):
    """Convert what `put` writes; return the zoo or the error, after looking at what the conversion has left."""
    place = room / str(next(_COUNTER))
    place.mkdir()
    try:
        source = put(place)
        before = sorted(path.relative_to(place) for path in place.rglob("*"))
        try:
            zoo = convert(source, place / "zoos" / "out", format="folder")
        except ZooError as error:
            text = str(error)
            assert text
            assert "\n" not in text
            text.encode()
            assert sorted(path.relative_to(place) for path in place.rglob("*")) == before
            yield text
        else:
            assert {path.name for path in (place / "zoos").iterdir()} == {"out"}
            assert len(list(place.iterdir())) == len({path.parts[0] for path in before}) + 1
            yield zoo
    finally:
        shutil.rmtree(place)


def one(room, put):
    """Yield the one result of `converted` to a caller that looks at it before the folder goes."""
    return converted(room, put)


# Bytes that were changed.


@st.composite
def changed(draw, content):
    """Change some bytes of a file: flip, cut, double, insert."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        at = draw(st.integers(0, 10**6 - 1)) * len(content) // 10**6  # the length of a pickle depends on addresses
        match draw(st.sampled_from(["flip", "set", "cut", "remove", "repeat", "insert"])):
            case "flip":
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                content[at] = draw(st.sampled_from([0, 1, 0x2E, 0x2F, 0x5C, 0x7F, 0x80, 0xFF]))
            case "cut":
                del content[at:]
            case "remove":
                del content[at : at + draw(st.integers(1, 64))]
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 600))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(content)


def _archives():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = packed.tarred(folder / "a", FILES).read_bytes()
        stored = packed.zipped(folder / "b", FILES, compression=zipfile.ZIP_STORED).read_bytes()
        return {"z.tar": tar, "z.tar.gz": gzip.compress(tar, mtime=0), "z.zip": stored}


ARCHIVES = _archives()


@st.composite
def archives(draw):
    name = draw(st.sampled_from(sorted(ARCHIVES)))
    return draw(st.sampled_from([name, "z.bin", "z"])), draw(changed(ARCHIVES[name]))


def check_archive(room, given_archive):
    name, content = given_archive

    def put(place):
        (place / name).write_bytes(content)
        return place / name

    for result in converted(room, put):
        if not isinstance(result, str):
            for model in range(len(result.models)):
                assert is_one_of(result.state_dict(model), STATES)  # check sums find what was changed in weights


def is_one_of(state, expected):
    return any(
        state.keys() == each.keys() and all(np.array_equal(state[name].numpy(), each[name]) for name in each)
        for each in expected
    )


# Tables.

CELLS = ["c0.pt", "c1.pt", "./c0.pt", "c0", "/home/me/c1.pt", "", "nan", "1", "0.5", "-3", "1e400", "true", "ä", "a b"]
CELLS += ["2020-01-01", "1,5", '"', "'", "#", "\x00", "\u2028", "=1+1", "0x10", "12345678901234567890", "50%", "None"]
TITLES = [
    "file",
    "path",
    "run",
    "epoch",
    "step",
    "test_accuracy",
    "train_loss",
    "lr",
    "seed",
    "split",
    "model_id",
    "name",
]
TITLES += ["sha256", "status", "weights", "", " file", "File", "Unnamed: 0", "ä", "a,b", "file"]


@st.composite
def tables(draw):
    titles = draw(st.lists(st.sampled_from(TITLES), min_size=1, max_size=6))
    if draw(st.booleans()):
        titles[0] = "file"
    cells = st.sampled_from(CELLS) | st.text(max_size=6)
    files = st.sampled_from(CELLS[:4])
    rows = draw(st.lists(st.tuples(files, *[cells for _ in titles[1:]]), max_size=5))
    comma, quote = draw(st.sampled_from([",", ";", "\t", "|"])), draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))

    def line(cells):
        return comma.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if quote else cell for cell in cells)

    text = end.join(map(line, [titles, *rows])) + draw(st.sampled_from(["", end]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    content = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return draw(changed(content)) if draw(st.integers(0, 3)) == 0 and content else content


def check_table(room, content):
    def put(place):
        return ray.folder(place / "in", {**FILES, "models.csv": content})

    for result in converted(room, put):
        if not isinstance(result, str):
            for model in range(len(result.models)):
                for checkpoint in result.models["checkpoints"][model].as_py():
                    assert is_one_of(result.state_dict(model, int(result.epochs[checkpoint])), STATES)
            assert len(result.states) == sum(len(each) for each in result.models["checkpoints"].to_pylist())


# Headers of safetensors.

NAMES = ["weight", "bias", "fc.weight", "fc.bias", "0.weight", "a/b", "ä", "x" * 300, "10.weight", "2.weight"]


@st.composite
def safetensors(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    header, data, start = {}, b"", 0
    for name in names:
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = 4 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, start + size]}
        data += draw(st.binary(min_size=size, max_size=size))
        start += size
    if draw(st.booleans()):
        header["__metadata__"] = {"format": "pt"}
    if draw(st.integers(0, 2)) == 0:
        victim = header[draw(st.sampled_from(names))]
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "none"]))
        odd = [None, -1, 2**70, "F32", "F8_E5M2", "C64", "", [], [1], [0, 0], [-1, 4], [4, 0], [2**60, 2**60], {}, 1.5]
        victim[key] = draw(st.sampled_from(odd))
    text = json.dumps(header).encode()
    length = draw(st.sampled_from([len(text)] * 8 + [0, 2**63, len(text) + 1, 7]))
    content = struct.pack("<Q", length) + text + data
    return draw(changed(content)) if draw(st.integers(0, 4)) == 0 else content


def check_safetensors(room, content):
    def put(place):
        return ray.folder(place / "in", {"c.safetensors": content, "models.csv": b"file,run\nc.safetensors,a\n"})

    for result in converted(room, put):
        if not isinstance(result, str):
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            header.pop("__metadata__", None)
            expected = {}
            for name, facts in header.items():
                first, last = facts["data_offsets"]
                if facts["dtype"] == "F32":
                    numbers = np.frombuffer(content[8 + length + first : 8 + length + last], "<f4")
                    expected[name] = numbers.reshape(facts["shape"])
            stored = weights_of(result)
            for name, numbers in expected.items():
                assert np.array_equal(stored[name], numbers, equal_nan=True)


def weights_of(zoo):
    """Return the parameters of the only model by name, also where some are not numbers, which state_dict refuses."""
    vector = np.asarray(zoo.view([0]).weights)[0, -1]
    return zoo.layout.split(vector)


# Checkpoints.

KEYS = [
    "state_dict",
    "model",
    "net",
    "model_state_dict",
    "ema",
    "optimizer",
    "epoch",
    "args",
    "weights",
    "my_net",
    "module",
]


def _state(draw):
    prefix = draw(st.sampled_from(["", "module.", "_orig_mod.", "model.", "module._orig_mod."]))
    names = draw(st.lists(st.sampled_from(["weight", "bias", "fc.weight", "module.x"]), min_size=1, unique=True))
    return {prefix + name: torch.full((2,), float(draw(st.integers(0, 9)))) for name in names}


@st.composite
def trees(draw, depth=2):
    kind = draw(st.sampled_from(["state", "dict", "plain", "state"] if depth else ["state", "plain"]))
    if kind == "state":
        state = _state(draw)
        if draw(st.booleans()):
            state["n_averaged"] = torch.tensor(3)
        return state
    if kind == "dict":
        keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
        return {key: draw(trees(depth=depth - 1)) for key in keys}
    values = [1, 0.5, "text", None, True, [1, 2], np.float64(0.9), argparse.Namespace(lr=1), Path("/data"), {"a": 1}]
    values += [[torch.ones(2)], Counter("aab"), np.ones(3), {1: torch.ones(2)}, torch.tensor(2.5), (1, {"b": None})]
    return draw(st.sampled_from(values))


@st.composite
def checkpoints(draw):
    tree = draw(trees())
    if not isinstance(tree, dict):
        tree = {draw(st.sampled_from(KEYS)): tree}
    content = ray.saved(tree, _use_new_zipfile_serialization=draw(st.booleans()))
    return (None, draw(changed(content))) if draw(st.integers(0, 2)) == 0 else (tree, content)


def tensors_in(tree, path=()):
    """Yield the path and the tensor of each tensor with axes in nested dictionaries and lists."""
    if isinstance(tree, torch.Tensor):
        if tree.ndim:
            yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from tensors_in(value, (*path, str(key)))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from tensors_in(value, (*path, str(number)))


def check_checkpoint(room, given_checkpoint):
    tree, content = given_checkpoint

    def put(place):
        return ray.folder(place / "in", {"c.pt": content, "models.csv": b"file,run\nc.pt,a\n"})

    for result in converted(room, put):
        if isinstance(result, str) or tree is None:
            continue
        notes = " ".join(result.conversion.notes)
        stored = {name: numbers.copy() for name, numbers in weights_of(result).items()}
        for path, tensor in tensors_in(tree):
            ends = [name for name in stored if path[-1].endswith(name)]
            is_stored = any(np.array_equal(stored[name], tensor.numpy()) for name in ends)
            assert is_stored or any(f"{key}" in notes for key in path), (path, notes)


INPUTS = {
    "archives": (archives, check_archive),
    "tables": (tables, check_table),
    "safetensors": (safetensors, check_safetensors),
    "checkpoints": (checkpoints, check_checkpoint),
}


def run(room, kind, examples):
    strategy, check = INPUTS[kind]

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy())
    def look(value):
        check(room, value)

    look()


@pytest.mark.parametrize("kind", INPUTS)
def test_odd_inputs_become_zoos_or_one_line(room, kind):
    run(room, kind, 25)


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_ten_thousand_odd_inputs_become_zoos_or_one_line(room, kind):
    run(room, kind, int(os.environ.get("ZOO_FUZZ_INPUTS", "2500")))
