"""Files that several writers replace at once."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo_gen.files import atomic

CONTENTS = [bytes([letter]) * 100_000 for letter in b"abcd"]


def replace_often(path: Path, content: bytes, times: int = 25) -> None:
    for _ in range(times):
        atomic.replace(path, content)


def test_threads_and_processes_that_replace_one_file_at_once_neither_fail_nor_tear_it(tmp_path):
    path = tmp_path / "result.json"
    atomic.replace(path, CONTENTS[0])
    processes = [
        multiprocessing.get_context("spawn").Process(target=replace_often, args=(path, content))
        for content in CONTENTS[:2]
    ]
    for process in processes:
        process.start()
    reads = []
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(replace_often, path, content) for content in CONTENTS[2:]]
        while not all(writer.done() for writer in writers) or any(process.is_alive() for process in processes):
            reads.append(path.read_bytes())
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [writer.exception() for writer in writers] == [None, None]
    assert set(reads) <= set(CONTENTS)
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]  # nothing is left beside it


def test_a_file_is_replaced_although_another_run_removes_temporary_files_meanwhile(tmp_path):
    (tmp_path / "models").mkdir()
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            atomic.tidy(tmp_path)

    with ThreadPoolExecutor() as pool:
        tidying = pool.submit(tidy)
        try:
            for number in range(50):
                atomic.replace(tmp_path / "README.md", str(number).encode())
                assert (tmp_path / "README.md").read_text() == str(number)
        finally:
            stop.set()
        tidying.result()


def test_a_file_is_not_written_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.replace(tmp_path / "absent" / "README.md", b"text")


def test_a_failed_write_leaves_the_old_content_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    atomic.replace(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("refused")))
    with pytest.raises(PermissionError):
        atomic.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
