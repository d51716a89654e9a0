"""A small folder of one's own, which tests pack, link, rename and damage."""

import tarfile
import zipfile

import torch

from tests.zoo_gen.published import ray

TABLE = "file,run,test_accuracy\nc0.pt,a,0.5\nc1.pt,b,0.75\n"


def state(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2).state_dict()


def files(top="zoo/", **more):
    """Two state_dicts and their table, name -> bytes."""
    members = {f"{top}c{seed}.pt": ray.saved(state(seed)) for seed in (0, 1)}
    return members | {f"{top}models.csv": TABLE.encode(), **more}


def is_right(zoo):
    """Assert that a zoo is the one of `files`, number by number."""
    assert [round(value, 4) for value in zoo.models["test_accuracy"].to_pylist()] == [0.5, 0.75]
    for seed in (0, 1):
        stored = zoo.state_dict(seed)
        assert set(stored) == {"weight", "bias"}
        assert all(torch.equal(stored[name], tensor) for name, tensor in state(seed).items())


def zipped(path, contents, *, compression=zipfile.ZIP_DEFLATED, **options):
    with zipfile.ZipFile(path, "w", compression, **options) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def tarred(path, contents, *, mode="w", format=tarfile.DEFAULT_FORMAT):
    import io

    with tarfile.open(path, mode, format=format) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
