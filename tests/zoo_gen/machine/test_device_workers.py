import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tests import waiting
from zoo_gen.errors import ZooError
from zoo_gen.machine.device_workers import train_on_devices

BLOCKS = [[number] for number in range(8)]


def note(folder: Path, device: str, shards: list[int], event: str) -> None:
    (folder / f"{device} {shards[0]} {event} {os.getpid()} {time.monotonic_ns()}").touch()


def record(shards: list[int], *, device: str, folder: Path) -> list[int]:
    note(folder, device, shards, "trained")
    time.sleep(0.02)
    return shards


def die_on_b(shards: list[int], *, device: str, folder: Path) -> list[int]:
    if device == "b":
        note(folder, device, shards, "died")
        os._exit(1)
    waiting.until(lambda: len(list(folder.glob("b * died *"))) == 2)  # else a fast one leaves the other no work
    return record(shards, device=device, folder=folder)


def fail_once(shards: list[int], *, device: str, folder: Path) -> list[int]:
    """Fail as CUDA does, at the third shard's first attempt."""
    if shards == [3] and not list(folder.glob("* 3 failed *")):
        note(folder, device, shards, "failed")
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return record(shards, device=device, folder=folder)


def die_at_3(shards: list[int], *, device: str, folder: Path) -> list[int]:
    if shards == [3]:
        note(folder, device, shards, "died")
        os._exit(1)
    return record(shards, device=device, folder=folder)


def events(folder: Path) -> list[tuple[str, int, str, int]]:
    """Return what happened, in order: device, shard, event and process."""
    rows = sorted((path.name.split() for path in folder.iterdir()), key=lambda row: int(row[4]))
    return [(device, int(shard), event, int(process)) for device, shard, event, process, _ in rows]


def test_each_device_has_one_process_of_its_own(tmp_path):
    trained = list(train_on_devices(partial(record, folder=tmp_path), BLOCKS, [], devices=["a", "b", "c"]))
    assert sorted(trained) == BLOCKS
    processes = {(device, process) for device, _, _, process in events(tmp_path)}
    assert sorted(device for device, _ in processes) == ["a", "b", "c"]
    assert len({process for _, process in processes} | {os.getpid()}) == 4


def test_a_device_that_fails_loses_only_what_it_was_at(tmp_path, caplog):
    lost: list[list[int]] = []
    trained = list(train_on_devices(partial(die_on_b, folder=tmp_path), BLOCKS, lost, devices=["a", "b"]))
    assert (sorted(trained), lost) == (BLOCKS, [])
    happened = events(tmp_path)
    assert len({process for device, _, _, process in happened if device == "a"}) == 1  # whose work never ended
    assert [event for device, _, event, _ in happened if device == "b"] == ["died", "died"]
    assert sorted(shard for _, shard, event, _ in happened if event == "trained") == list(range(8))
    assert "b: failed at shard 1 (its process died), which is tried again" in caplog.text
    assert caplog.text.count("it gets no more work") == 1


def test_an_error_of_cuda_costs_a_process_and_not_the_run(tmp_path, caplog):
    lost: list[list[int]] = []
    devices = ["cuda:0", "cuda:1"]
    trained = list(train_on_devices(partial(fail_once, folder=tmp_path), BLOCKS, lost, devices=devices))
    assert (sorted(trained), lost) == (BLOCKS, [])
    assert "failed at shard 3 (RuntimeError: CUDA error: an illegal memory access was encountered)" in caplog.text
    failed = next(process for _, _, event, process in events(tmp_path) if event == "failed")
    after = events(tmp_path)
    place = next(n for n, row in enumerate(after) if row[2] == "failed")
    assert failed not in {process for _, _, _, process in after[place + 1 :]}


def test_a_shard_that_ends_each_process_is_given_up_and_the_rest_is_trained(tmp_path):
    lost: list[list[int]] = []
    trained = list(train_on_devices(partial(die_at_3, folder=tmp_path), BLOCKS, lost, devices=["a", "b"]))
    assert (sorted(trained), lost) == ([block for block in BLOCKS if block != [3]], [[3]])
    assert [event for _, shard, event, _ in events(tmp_path) if shard == 3] == ["died"] * 3


def test_one_device_is_used_by_this_process_whose_failure_is_one_line(tmp_path):
    trained = train_on_devices(partial(fail_once, folder=tmp_path), BLOCKS, [], devices=["cuda:1"])
    assert [next(trained) for _ in range(3)] == BLOCKS[:3]
    with pytest.raises(ZooError, match=r"'cuda:1': failed at shard 3 .*illegal memory.*same command tries again"):
        next(trained)
    assert {process for _, _, _, process in events(tmp_path)} == {os.getpid()}


def test_the_memory_of_one_device_is_given_back_also_when_it_fails(tmp_path, monkeypatch):
    given_back = []

    def empty_cache() -> None:
        given_back.append(len(list(tmp_path.iterdir())))
        if len(given_back) == 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    list(train_on_devices(partial(record, folder=tmp_path), BLOCKS, [], devices=["cuda:0"]))
    assert given_back == [len(BLOCKS)]  # after all of them
    with pytest.raises(ZooError, match="failed at shard 3"):
        list(train_on_devices(partial(fail_once, folder=tmp_path), BLOCKS, [], devices=["cuda:0"]))
    assert len(given_back) == 2
