"""Every type that torch and safetensors write comes back with its values, or is refused by file, tensor and type."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.zoo_gen.published import own, ray
from zoo_gen import ZooError
from zoo_gen.published.rounding import as_float32

EXACT = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.uint8, torch.int8]
EXACT += [torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.int16, torch.uint16, torch.int32, torch.uint32]
EXACT += [torch.int64, torch.uint64, torch.float64]


def folder_of(path, tensor, form):
    """Write a folder of one state with that tensor and a float32 one."""
    state = {"layer.weight": tensor, "layer.bias": torch.ones(2)}
    content = save(state) if form == "safetensors" else ray.saved(state)
    name = f"c0.{form}"
    return own.folder(path, f"file,test_accuracy\n{name},0.5\n", n_files=0, files={name: content})


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", EXACT, ids=str)
def test_values_that_float32_holds_are_kept_exactly_and_said(tmp_path, dtype, form):
    numbers = [0, 1, 1, 0] if dtype == torch.bool else [0, 1, 4, 96]
    zoo = own.zoo_of(folder_of(tmp_path / "mine", torch.tensor(numbers).reshape(2, 2).to(dtype), form))
    stored = zoo.state_dict(0)
    assert stored["layer.weight"].tolist() == np.array(numbers, dtype=float).reshape(2, 2).tolist()
    assert stored["layer.bias"].tolist() == [1, 1]
    name = str(dtype).removeprefix("torch.")
    (note,) = zoo.conversion.notes
    assert note.startswith(f"tensors of type {name} are ")
    assert note.endswith(": layer.weight")


def test_float64_is_rounded_and_said_so(tmp_path):
    zoo = own.zoo_of(folder_of(tmp_path / "mine", torch.tensor([[0.1, 0.2]], dtype=torch.float64), "pt"))
    assert zoo.state_dict(0)["layer.weight"].tolist() == [[np.float32(0.1), np.float32(0.2)]]
    assert zoo.conversion.notes == ("tensors of type float64 are rounded to float32: layer.weight",)


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.complex(torch.ones(2), torch.ones(2)), r"is complex \(complex64\)"),
        (torch.tensor([2**24 + 1]), "holds 16777217 of type int64, which float32 cannot hold exactly"),
        (torch.tensor([2**53 + 1]), "holds 9007199254740993 of type int64"),
        (torch.tensor([2**64 - 1], dtype=torch.uint64), "holds 18446744073709551615 of type uint64"),
        (torch.tensor([-(2**31) + 1], dtype=torch.int32), "holds -2147483647 of type int32"),
        (torch.tensor([1e300], dtype=torch.float64), r"holds 1e\+300 of type float64, beyond float32's range"),
    ],
)
def test_values_that_float32_does_not_hold_are_refused_by_name(tmp_path, tensor, message, form):
    with pytest.raises(ZooError, match=rf"c0\.{form}: layer\.weight: {message}"):
        own.zoo_of(folder_of(tmp_path / "mine", tensor, form))
    assert not (tmp_path / "mine_zoo").exists()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.complex(torch.ones(2), torch.ones(2)).to(torch.complex128), r"is complex \(complex128\)"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), r"is quantised \(qint8\)"),
        (lambda: torch.eye(2).to_sparse(), "is stored as sparse_coo"),
        (lambda: torch.eye(2).to_sparse_csr(), "is stored as sparse_csr"),
        (lambda: torch.empty(2, device="meta"), "has a shape and no numbers"),
        (lambda: torch.empty(2, dtype=torch.bits8), "is of type bits8"),
    ],
)
def test_forms_that_are_no_plain_numbers_are_refused_by_name(tmp_path, make, message):
    with pytest.raises(ZooError, match=rf"c0\.pt: layer\.weight: {message}"):
        own.zoo_of(folder_of(tmp_path / "mine", make(), "pt"))


def test_a_type_that_the_reader_of_safetensors_lacks_is_named(tmp_path):
    header = json.dumps({"a.weight": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    content = len(header).to_bytes(8, "little") + header + b"\0\0"
    path = own.folder(tmp_path / "mine", "file\nc0.safetensors\n", n_files=0, files={"c0.safetensors": content})
    with pytest.raises(ZooError, match=r"c0\.safetensors: a\.weight: is of type F4"):
        own.zoo_of(path)


def test_whole_numbers_are_kept_or_refused_as_python_says():
    random = np.random.RandomState(0)
    for dtype in (np.int32, np.int64, np.uint32, np.uint64):
        for shift in random.randint(0, 8 * np.dtype(dtype).itemsize - 1, 40):
            number = int(random.randint(1, 2**26)) << int(shift)
            if number > np.iinfo(dtype).max:
                continue
            values = np.array([number], dtype=dtype)
            if int(np.float32(number)) == number:
                assert int(as_float32(values, where="x")[0][0]) == number
            else:
                with pytest.raises(ZooError, match=str(number)):
                    as_float32(values, where="x")
