"""Implicit representations: DWSNets and NFN, alike in shape and different in what they compute; Neural Field Arena."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.zoo_gen.published import ray
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.formats import states
from zoo_gen.zoo.verify import verify


class Field(nn.Module):
    """2-32-32-out with sin(30 x), under the key names of either publication."""

    def __init__(self, prefix, outputs=1, shift=0.0):
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, outputs)])
        self.prefix, self.shift = prefix, shift

    def forward(self, x):
        for linear in self.linears[:-1]:
            x = torch.sin(30 * linear(x))
        return self.linears[-1](x) + self.shift

    def state(self):
        last = {"seq": "seq.2", "net": "net.2"}[self.prefix]
        names = {"seq": ["seq.0", "seq.1", last], "net": ["net.0.linear", "net.1.linear", last]}[self.prefix]
        state = {}
        for name, linear in zip(names, self.linears, strict=True):
            state[f"{name}.weight"], state[f"{name}.bias"] = linear.weight.detach(), linear.bias.detach()
        return state


COORDINATES = torch.rand(20, 2) * 2 - 1


def test_each_file_of_small_states_is_opened_once(tmp_path, monkeypatch):
    files = {f"a/mnist_png_training_1_{n}/model.pth": ray.saved(Field("seq").state()) for n in range(5)}
    opened = []
    read = Archive.read
    monkeypatch.setattr(
        Archive, "read", lambda self, name, **options: opened.append(name) or read(self, name, **options)
    )
    convert(ray.zipped(tmp_path / "once.zip", files), tmp_path / "once", format="dwsnets")
    assert sorted(opened) == sorted(files)
    monkeypatch.setattr(states, "_SMALL", 0)  # then every file counts as large, and is read again for its weights
    convert(ray.zipped(tmp_path / "twice.zip", files), tmp_path / "twice", format="dwsnets")
    assert sorted(opened) == sorted([*files] * 3)
    assert np.array_equal(open_zoo(tmp_path / "once").weights[:], open_zoo(tmp_path / "twice").weights[:])


@pytest.mark.parametrize("legacy", [False, True])
def test_dwsnets_labels_come_from_folders_and_half_is_added(tmp_path, legacy):
    torch.manual_seed(0)
    files, fields = {}, {}
    for part, label, number in (("training", 5, 11), ("training", 0, 2), ("testing", 7, 3), ("training", 5, 100)):
        field = Field("seq", shift=0.5)
        name = f"mnist-inrs/mnist_png_{part}_{label}_{number}/checkpoints/model_final.pth"
        options = {"_use_new_zipfile_serialization": False} if legacy else {}
        files[name], fields[name] = ray.saved(field.state(), **options), (field, label, part)
    zoo = open_zoo(convert(ray.zipped(tmp_path / "mnist-inrs.zip", files), tmp_path / "zoo", format="dwsnets"))
    assert zoo.layout.size == 1185
    for model, run in enumerate(zoo.models["run"].to_pylist()):
        field, label, part = fields[run]
        assert zoo.models["label"][model].as_py() == label
        assert all(map(torch.equal, zoo.state_dict(model).values(), field.state().values()))
        torch.testing.assert_close(zoo.module(model)(COORDINATES), field(COORDINATES))
        assert (model in zoo.split("train", table="folders")) == (part == "training")
    assert zoo.models["number"].to_pylist() == [3, 2, 11, 100]
    assert verify(zoo.path).findings == ()


def test_labels_and_curves_inside_the_state_are_taken_out_of_it(tmp_path):
    files = {}
    for number in range(3):
        state = Field("seq").state()
        state |= {"label": torch.tensor(number), "coef": torch.tensor([0.5, 2.0 + number])}
        state |= {"x": torch.zeros(100, 1), "y": torch.zeros(100, 1)}
        files[f"ssl/train/{number}/model.pth"] = ray.saved(state)
    zoo = open_zoo(convert(ray.zipped(tmp_path / "fmnist_inrs.zip", files), tmp_path / "zoo", format="dwsnets"))
    assert zoo.models["label"].to_pylist() == [0, 1, 2]
    assert zoo.models["coef_1"].to_pylist() == [2.0, 3.0, 4.0]
    assert zoo.weights.shape == (3, 1, 1185)


def test_nfn_keeps_copies_of_an_image_in_one_part(tmp_path):
    torch.manual_seed(1)
    files, fields = {}, {}
    for prefix in ("randinit_smaller", "randinit_smaller_aug0", "randinit_test"):
        for label, index in ((3, 7), (1, 45_123), (9, 59_999)):
            field = Field("net", outputs=3)
            name = f"siren_cifar_wts/{prefix}_{label}s/net{index}.pth"
            files[name], fields[f"{prefix}/net{index}"] = ray.saved(field.state()), (field, label, index)
    zoo = open_zoo(convert(ray.zipped(tmp_path / "siren_cifar_wts.zip", files), tmp_path / "zoo", format="nfn"))
    assert zoo.layout.size == 1251
    runs = zoo.models["run"].to_pylist()
    assert len(runs) == 9
    for model, run in enumerate(runs):
        field, label, index = fields[run]
        assert (zoo.models["label"][model].as_py(), zoo.models["image"][model].as_py()) == (label, index)
        torch.testing.assert_close(zoo.module(model)(COORDINATES), field(COORDINATES))  # and no 0.5
    for part, index in (("train", 7), ("validation", 45_123), ("test", 59_999)):
        assert {zoo.models["image"][model].as_py() for model in zoo.split(part, table="nfn").tolist()} == {index}


def test_neural_field_arena_is_told_by_its_list_of_keys(tmp_path):
    h5py = pytest.importorskip("h5py")
    torch.manual_seed(2)
    fields = [Field("net") for _ in range(7)]
    config = []
    for module, (inputs, outputs) in {"kernel_net_0.linear": (2, 32), "kernel_net_1.linear": (32, 32)}.items():
        config += [[f"{module}.bias", [outputs]], [f"{module}.kernel", [inputs, outputs]]]
    config += [["output_linear.bias", [1]], ["output_linear.kernel", [32, 1]]]

    def vector(field):
        parts = [part for linear in field.linears for part in (linear.bias, linear.weight.t())]
        return torch.cat([part.reshape(-1) for part in parts]).detach().numpy()

    folder = tmp_path / "MNIST"
    folder.mkdir()
    for start, stop in ((5, 7), (0, 5)):  # 10 would sort before 5 as text
        with h5py.File(folder / f"nefs_{start}-{stop}.hdf5", "w") as file:
            file["params"] = np.stack([vector(field) for field in fields[start:stop]])
            file["labels"] = np.arange(start, stop)
            file["param_config"] = [json.dumps(config)]
    (folder / "nef.json").write_text(json.dumps({"name": "SIREN", "params": {"omega_0": 30.0, "num_layers": 3}}))
    zoo = open_zoo(convert(folder, tmp_path / "zoo", format="neural_field_arena"))
    assert zoo.models["label"].to_pylist() == list(range(7))
    for model, field in enumerate(fields):
        assert torch.equal(zoo.state_dict(model)["linear2.weight"], field.linears[1].weight)
        torch.testing.assert_close(zoo.module(model)(COORDINATES), field(COORDINATES))
    part = open_zoo(convert(folder, tmp_path / "part", format="neural_field_arena", models=[6, 2]))
    assert part.models["label"].to_pylist() == [2, 6]
    assert zoo.split("train", table="fractions").tolist() == [0, 1, 2, 3]


def test_links_out_of_a_shard_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["params"] = np.zeros((3, 5))
    (tmp_path / "a").mkdir()
    with h5py.File(tmp_path / "a" / "nefs_0-3.hdf5", "w") as file:
        file["params"] = h5py.ExternalLink("../secret.h5", "/params")
    with pytest.raises(ZooError, match="has no dataset params of its own"):
        convert(tmp_path / "a", tmp_path / "zoo", format="neural_field_arena")
