"""Folders of one's own: safetensors or state_dicts, and a CSV with a row a file."""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.zoo_gen.published import ray
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify


def network(kind, dtype=torch.float32):
    if kind == "deep":
        module = nn.Sequential(*[nn.Linear(3, 3) for _ in range(12)])  # layer 10 sorts before layer 2 as text
    elif kind == "normalised":
        module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    else:
        module = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2))
    return module.to(dtype)


def written(folder, kind, ending, *, epochs=(1, 5), runs=3, dtype=torch.float32, **columns):
    """Write networks and the CSV; return them by (run, epoch)."""
    torch.manual_seed(0)
    folder.mkdir()
    networks, rows = {}, []
    for run in range(runs):
        for epoch in epochs:
            module = networks[f"run{run}", epoch] = network(kind, dtype)
            name = f"weights/run{run}_epoch{epoch}.{ending}"
            (folder / "weights").mkdir(exist_ok=True)
            if ending == "safetensors":
                save_file(module.state_dict(), folder / name)
            else:
                (folder / name).write_bytes(ray.saved(module.state_dict()))
            row = {
                "file": name,
                "run": f"run{run}",
                "epoch": epoch,
                "lr": 0.1 * (run + 1),
                "test_accuracy": (run + epoch) / 10,
            }
            rows.append(row | {name: values[run % len(values)] for name, values in columns.items()})
    with (folder / "models.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return networks


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("kind", ["deep", "normalised", "plain"])
def test_every_parameter_keeps_its_name_its_shape_and_its_numbers(tmp_path, kind, ending):
    networks = written(tmp_path / "mine", kind, ending, split=["train", "val", "test"])
    zoo = open_zoo(convert(tmp_path / "mine", tmp_path / "zoo", format="folder"))
    for (run, epoch), module in networks.items():
        model = zoo.models["run"].to_pylist().index(run)
        stored = zoo.state_dict(model, epoch)
        expected = {key: value for key, value in module.state_dict().items() if "num_batches" not in key}
        assert set(stored) == set(expected)
        assert all(torch.equal(stored[key], expected[key]) for key in expected)
        network(kind).load_state_dict(stored)
        assert zoo.test_accuracy[model, zoo.checkpoint(epoch)] == np.float32((int(run[-1]) + epoch) / 10)
    assert zoo.varying == ("learning_rate",)
    assert [zoo.split(part, table="published").tolist() for part in ("train", "validation", "test")] == [[0], [1], [2]]
    if kind == "deep":
        assert zoo.layout.layers == tuple(map(str, range(12)))
    with pytest.raises(ZooError, match="how its models compute is not known; state_dict gives their parameters"):
        zoo.module(0)
    assert verify(zoo.path).findings == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_other_types_become_float32(tmp_path, dtype, ending):
    networks = written(tmp_path / "mine", "plain", ending, dtype=dtype, epochs=(1,), runs=1)
    zoo = open_zoo(convert(tmp_path / "mine", tmp_path / "zoo", format="folder"))
    for stored, value in zip(zoo.state_dict(0).values(), networks["run0", 1].state_dict().values(), strict=True):
        assert torch.equal(stored, value.float())


@pytest.mark.parametrize("kinds", [["plain"], ["plain", "deep"]], ids=["one architecture", "ragged"])
def test_weights_that_are_all_undefined_are_no_damage(tmp_path, kinds):
    """Whatever the sign of NaN: processors make it negative, and Zarr keeps no chunk that holds NaN alone."""
    written(tmp_path / "mine", "plain", "pt", epochs=(1,), runs=2)
    for run, kind in zip((1, 0), kinds, strict=False):
        state = {key: torch.full_like(value, -torch.nan) for key, value in network(kind).state_dict().items()}
        (tmp_path / "mine" / "weights" / f"run{run}_epoch1.pt").write_bytes(ray.saved(state))
    zoo = open_zoo(convert(tmp_path / "mine", tmp_path / "zoo", format="folder"))
    assert zoo.models["status"].to_pylist()[1] == "diverged"
    assert verify(zoo.path).findings == ()


def test_a_csv_without_run_and_epoch_is_a_state_a_model(tmp_path):
    written(tmp_path / "mine", "plain", "pt", epochs=(1,))
    path = tmp_path / "mine" / "models.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([line[0], *line[3:]]) for line in lines))
    zoo = open_zoo(convert(tmp_path / "mine", tmp_path / "zoo", format="folder"))
    assert zoo.weights.shape == (3, 1, 32)
    assert zoo.models["run"].to_pylist() == [f"weights/run{run}_epoch1.pt" for run in range(3)]


def test_networks_of_several_architectures_make_a_ragged_zoo(tmp_path):
    networks = written(tmp_path / "mine", "plain", "pt", runs=2)
    for epoch in (1, 5):
        module = networks["run1", epoch] = network("deep")
        (tmp_path / "mine" / "weights" / f"run1_epoch{epoch}.pt").write_bytes(ray.saved(module.state_dict()))
    zoo = open_zoo(convert(tmp_path / "mine", tmp_path / "zoo", format="folder"))
    assert len(zoo.architectures) == 2
    for (run, epoch), module in networks.items():
        stored = zoo.state_dict(zoo.models["run"].to_pylist().index(run), epoch)
        assert all(torch.equal(stored[key], value) for key, value in module.state_dict().items())
    assert verify(zoo.path).findings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "models.csv").unlink(), "holds no CSV with a column that names its 6 files"),
        (
            lambda folder: (folder / "weights" / "run2_epoch5.pt").unlink(),
            r"names weights/run2_epoch5\.pt, which is not",
        ),
        (lambda folder: (folder / "weights" / "run0_epoch1.pt").write_bytes(b"?"), "cannot be read as a checkpoint"),
    ],
)
def test_what_is_missing_or_broken_is_named(tmp_path, change, message):
    written(tmp_path / "mine", "plain", "pt")
    change(tmp_path / "mine")
    with pytest.raises(ZooError, match=message):
        convert(tmp_path / "mine", tmp_path / "zoo", format="folder")
