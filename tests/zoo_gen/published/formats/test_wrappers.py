"""What training code wraps around weights: each wrapper gives the same zoo, and nothing is left out without a line."""

import argparse
import datetime
import pathlib
import types
from collections import OrderedDict, defaultdict

import numpy as np
import omegaconf
import pytest
import torch
from safetensors.torch import save

from tests.zoo_gen.published import packed, ray
from zoo_gen import ZooError, convert
from zoo_gen.published.formats import wrappers

TABLE = b"file,run,test_accuracy\nc.pt,a,0.5\n"


def zoo_of(tmp_path, tree, *, name="c.pt", **options):
    content = save(tree) if name.endswith("safetensors") else ray.saved(tree, **options)
    table = TABLE.replace(b"c.pt", name.encode())
    return convert(ray.folder(tmp_path / "in", {name: content, "models.csv": table}), tmp_path / "out", format="folder")


def is_plain(zoo, seed=0):
    stored = zoo.state_dict(0)
    assert set(stored) == {"weight", "bias"}
    assert all(torch.equal(stored[name], tensor) for name, tensor in packed.state(seed).items())


def with_prefix(prefix, seed=0):
    return OrderedDict((prefix + name, tensor) for name, tensor in packed.state(seed).items())


def averaged():
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(packed.state(0))
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


def trained():
    """A checkpoint with an optimiser that has taken a step."""
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(packed.state(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return {"optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict()}


CHECKPOINTS = {
    "a state_dict": lambda: packed.state(0),
    "DataParallel": lambda: with_prefix("module."),
    "torch.compile": lambda: with_prefix("_orig_mod."),
    "compiled, then distributed": lambda: with_prefix("module._orig_mod."),
    "distributed, then compiled": lambda: with_prefix("_orig_mod.module."),
    "FSDP": lambda: with_prefix("_fsdp_wrapped_module."),
    "activation checkpointing": lambda: with_prefix("_checkpoint_wrapped_module."),
    "Opacus": lambda: with_prefix("_module."),
    "AveragedModel": averaged,
    "AveragedModel of a compiled one": lambda: {f"_orig_mod.{name}": tensor for name, tensor in averaged().items()},
    "a module around it": lambda: with_prefix("model."),
    "another one": lambda: with_prefix("net."),
    "a student": lambda: with_prefix("student."),
    "an average": lambda: with_prefix("ema_model."),
    "Lightning": lambda: {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": with_prefix("model."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"EarlyStopping{'monitor': 'loss'}": {"best_score": torch.tensor(0.5), "wait_count": 1}},
        "optimizer_states": [trained()["optimizer"]],
        "lr_schedulers": [trained()["lr_scheduler"]],
        "hparams_name": "config",
        "hyper_parameters": {"lr": 0.1, "root": pathlib.PurePosixPath("/data"), "options": argparse.Namespace(a=1)},
    },
    "Lightning with fabric's strategy": lambda: {"state_dict": with_prefix("_forward_module.model.")},
    "timm": lambda: {
        "epoch": 5,
        "arch": "net",
        "state_dict": packed.state(0),
        "state_dict_ema": packed.state(1),
        "version": 2,
        "args": argparse.Namespace(model="net", lr=0.1, data_dir=pathlib.PurePosixPath("/data")),
        "metric": 71.5,
        **trained(),
    },
    "detectron": lambda: {"model": packed.state(0), "iteration": 10, **trained()},
    "plain torch": lambda: {"model_state_dict": packed.state(0), "epoch": 3, "loss": torch.tensor(0.3), **trained()},
    "DeepSpeed": lambda: {"module": packed.state(0), "ds_version": "0.1", "global_steps": 1},
    "a tutorial": lambda: {"net": packed.state(0), "acc": 90.1, "epoch": 3},
    "a name of its own": lambda: {"my_network": packed.state(0), "best": 0.4, **trained()},
    "a dictionary in a dictionary": lambda: {"checkpoint": {"model": packed.state(0), "epoch": 1}},
    "parameters": lambda: OrderedDict((k, torch.nn.Parameter(v)) for k, v in packed.state(0).items()),
    "beside numbers": lambda: {**packed.state(0), "epoch": 3, "note": "text", "options": {"lr": 0.1}},
    "beside a tensor": lambda: {"model": packed.state(0), "rng_state": torch.zeros(16, dtype=torch.uint8)},
    "numpy": lambda: {
        "state_dict": packed.state(0),
        "best": np.float64(0.9),
        "step": np.int64(3),
        "ok": np.bool_(True),
    },
    "objects": lambda: {
        "state_dict": packed.state(0),
        "a": types.SimpleNamespace(x=1),
        "b": datetime.datetime(2026, 1, 1),
        "c": defaultdict(list, {"loss": [0.1]}),
        "d": {1, 2},
        "e": pathlib.PurePosixPath("x"),
        "f": torch.float16,
        "g": torch.Size([1]),
        "h": (1, None, b"bytes", 2**40, 1.5j),
        "i": slice(1, 2),
        "j": np.array([1.0, 2.0]),
        "k": np.dtype("float32"),
    },
    "OmegaConf": lambda: {
        "state_dict": packed.state(0),
        "cfg": omegaconf.OmegaConf.create({"lr": 0.1, "sizes": [1, 2]}),
    },
}


OLD = ("a state_dict", "AveragedModel", "Lightning", "timm", "objects", "OmegaConf")


@pytest.mark.parametrize(
    ("wrapper", "zipped"), [*((name, True) for name in CHECKPOINTS), *((name, False) for name in OLD)]
)
def test_the_weights_come_back_whatever_was_put_around_them(tmp_path, wrapper, zipped):
    is_plain(zoo_of(tmp_path, CHECKPOINTS[wrapper](), _use_new_zipfile_serialization=zipped))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_prefixes_go_in_safetensors_too(tmp_path, prefix):
    is_plain(zoo_of(tmp_path, dict(with_prefix(prefix)), name="model.safetensors"))


def test_a_folder_of_accelerate_is_read_by_the_files_that_its_table_names(tmp_path):
    contents = {}
    for seed, name in ((0, "run0/model.safetensors"), (1, "run1/pytorch_model.bin")):
        contents[name] = save(packed.state(0)) if seed == 0 else ray.saved(packed.state(1))
        folder = name.partition("/")[0]
        contents[f"{folder}/optimizer.bin"] = ray.saved(trained()["optimizer"])
        contents[f"{folder}/random_states_0.pkl"] = b"\x80\x04not read"
    contents["models.csv"] = b"file,test_accuracy\nrun0/model.safetensors,0.5\nrun1/pytorch_model.bin,0.75\n"
    packed.is_right(convert(ray.folder(tmp_path / "in", contents), tmp_path / "out", format="folder"))


def test_a_cell_may_name_a_folder_of_accelerate(tmp_path):
    contents = {"run0/model.safetensors": save(packed.state(0)), "run1/pytorch_model.bin": ray.saved(packed.state(1))}
    contents["models.csv"] = b"path,test_accuracy\nrun0,0.5\nrun1/,0.75\n"
    packed.is_right(convert(ray.folder(tmp_path / "in", contents), tmp_path / "out", format="folder"))


def test_runs_under_all_wrappers_are_one_architecture(tmp_path):
    prefixes = ["", "module.", "_orig_mod.", "model.", "net.module.", "ema_model.module._orig_mod."]
    files = {f"c{i}.pt": ray.saved(with_prefix(prefix, seed=i)) for i, prefix in enumerate(prefixes)}
    files["models.csv"] = "".join(["file,run\n", *(f"c{i}.pt,r{i}\n" for i in range(len(prefixes)))]).encode()
    zoo = convert(ray.folder(tmp_path / "in", files), tmp_path / "out", format="folder")
    assert len(zoo.architectures) == 1
    for model in range(len(prefixes)):
        assert all(torch.equal(zoo.state_dict(model)[name], value) for name, value in packed.state(model).items())
    assert any("c1.pt: the prefix module. of its keys is taken off" in note for note in zoo.conversion.notes)


@pytest.mark.parametrize("part", wrappers.PREFIXES)
def test_a_part_of_a_network_may_have_the_name_of_a_wrapper(tmp_path, part):
    """Only the names that no network has are taken off a part of the keys."""
    tree = {"head": torch.ones(2), **with_prefix(f"{part}.")}
    stored = zoo_of(tmp_path, tree).state_dict(0)
    inner = "" if part in wrappers._MARKS else f"{part}."
    assert set(stored) == {"head", f"{inner}weight", f"{inner}bias"}
    assert torch.equal(stored[f"{inner}weight"], packed.state(0)["weight"])


def test_marks_inside_of_names_go_unless_two_tensors_would_share_a_name():
    inside = ["0._orig_mod.weight", "1._fsdp_wrapped_module._checkpoint_wrapped_module.bias", "head"]
    assert wrappers.without_prefixes(inside)[0] == ["0.weight", "1.bias", "head"]
    assert wrappers.without_prefixes(["_orig_mod.x", "x"]) == (["_orig_mod.x", "x"], "")
    assert wrappers.without_prefixes(["model", "model.x"]) == (["model", "model.x"], "")


def test_tensors_without_axes_are_kept_where_they_are_numbers_and_counters_said(tmp_path):
    tree = {**packed.state(0), "logit_scale": torch.tensor(2.5), "bn.num_batches_tracked": torch.tensor(7)}
    zoo = zoo_of(tmp_path, tree)
    stored = zoo.state_dict(0)
    assert set(stored) == {"weight", "bias", "logit_scale"}
    assert torch.equal(stored["logit_scale"], torch.tensor(2.5))
    assert "c.pt: its num_batches_tracked, a counter, is left out" in zoo.conversion.notes


def test_what_is_not_read_is_named(tmp_path):
    zoo = zoo_of(tmp_path, CHECKPOINTS["timm"]())
    (line,) = [note for note in zoo.conversion.notes if "only its state_dict is read" in note]
    assert all(key in line for key in ("state_dict_ema", "optimizer", "args", "metric"))


class Network(torch.nn.Linear):
    pass


class Options:
    pass


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (lambda: {"a": packed.state(0), "b": packed.state(1)}, r"holds several state_dicts \(a, b\)"),
        (lambda: Network(3, 2), r"refers to .*Network.*; expected weights alone: torch.save\(model.state_dict\(\), F"),
        (lambda: {"state_dict": packed.state(0), "x": Options()}, r"refers to .*Options"),
        (lambda: [torch.ones(2)], "holds list; expected a state_dict"),
        (lambda: {"weight": np.ones(3)}, "weight is numpy.*; expected a tensor"),
        (lambda: {"weight": [1.0, 2.0]}, "weight is list; expected a tensor"),
        (lambda: {**packed.state(0), "_extra_state": {"scale": torch.ones(1)}}, "_extra_state is dict; expected a t"),
        (lambda: {"epoch": 3}, "holds no tensor"),
        (lambda: {"weight": torch.ones(0, 3)}, "holds tensors without a number"),
    ],
)
def test_what_holds_no_weights_or_too_many_is_said(tmp_path, tree, message):
    with pytest.raises(ZooError, match=rf"c\.pt: {message}") as error:
        zoo_of(tmp_path, tree())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_record_of_a_checkpoint_that_is_damaged_is_found(tmp_path):
    """torch itself does not look at its check sums."""
    content = bytearray(ray.saved({"weight": torch.arange(3000.0)}))
    content[6000] ^= 1
    torch.load(__import__("io").BytesIO(bytes(content)), weights_only=True)
    folder = ray.folder(tmp_path / "in", {"c.pt": bytes(content), "models.csv": TABLE})
    with pytest.raises(ZooError, match=r"c\.pt: is damaged \(.*CRC"):
        convert(folder, tmp_path / "out", format="folder")


def test_a_checkpoint_without_check_sums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        is_plain(zoo_of(tmp_path, packed.state(0)))
    finally:
        torch.serialization.set_crc32_options(True)
