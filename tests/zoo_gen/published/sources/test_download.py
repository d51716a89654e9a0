"""Downloads from a server on loopback that breaks off, changes, is busy, or does not do ranges."""

import hashlib
import json
import multiprocessing
import os
import socket

import pytest

from tests.files_server import serve
from tests.hub_server import Fault
from zoo_gen.errors import ZooError
from zoo_gen.files import reachable, retry
from zoo_gen.published.sources import download
from zoo_gen.published.sources.download import RemoteFile, fetch

SIZE = 5 * 2**20 + 17


@pytest.fixture
def content():
    return os.urandom(SIZE)


@pytest.fixture
def server(server, content):
    """Return a server that has zoo.zip."""
    (server.folder / "zoo.zip").write_bytes(content)
    return server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def remote(server, **facts):
    return RemoteFile("zoo.zip", (f"{server.url}zoo.zip",), **facts)


def test_a_file_comes_whole_and_is_then_in_the_cache(server, cache, content):
    shown = []
    path, digest = fetch(remote(server), cache, progress=lambda done, total: shown.append((done, total)))
    assert path.read_bytes() == content
    assert digest == sha256(content)
    assert shown[-1] == (SIZE, SIZE)
    assert len(shown) > 3
    server.log.clear()
    assert fetch(remote(server), cache) == (path, digest)
    assert server.log == []
    assert {p.name for p in cache.iterdir()} == {"zoo.zip", "zoo.zip.json", ".zoo.zip.lock"}


@pytest.mark.parametrize("tags", ["strong", "weak", "none"])
def test_what_breaks_off_goes_on_only_with_the_same_version(server, cache, content, tags):
    server.tags = tags
    server.faults.append(Fault("zoo.zip", times=2))
    path, _ = fetch(remote(server), cache)
    assert path.read_bytes() == content
    half, quarter = SIZE // 2, (SIZE - SIZE // 2) // 2
    if tags == "strong":
        assert [r.range for r in server.gets("zoo.zip")] == ["", f"bytes={half}-", f"bytes={half + quarter}-"]
        assert server.sent("zoo.zip") == SIZE
    else:  # nothing vouches for its being the same file
        assert [r.range for r in server.gets("zoo.zip")] == ["", "", ""]


def test_a_known_digest_vouches_for_the_halves(server, cache, content):
    server.tags = "none"
    server.faults.append(Fault("zoo.zip"))
    path, _ = fetch(remote(server, sha256=sha256(content)), cache)
    assert path.read_bytes() == content
    assert server.sent("zoo.zip") == SIZE


def test_a_command_that_was_killed_goes_on_where_it_was(server, cache, content):
    server.faults.append(Fault("zoo.zip", times=1))
    server.faults.append(Fault("zoo.zip", status=404, times=1))
    with pytest.raises(
        ZooError, match=r"^zoo.zip: cannot be downloaded \(\S+zoo.zip: answers 404 Not Found\); the same"
    ):
        fetch(remote(server), cache)
    assert not (cache / "zoo.zip").exists()
    server.log.clear()
    path, _ = fetch(remote(server), cache)
    assert path.read_bytes() == content
    assert [r.range for r in server.gets("zoo.zip")] == [f"bytes={SIZE // 2}-"]


def test_halves_of_two_versions_are_never_joined(server, cache):
    server.faults += [Fault("zoo.zip"), Fault("zoo.zip", status=404)]
    with pytest.raises(ZooError):
        fetch(remote(server), cache)
    other = os.urandom(SIZE)
    (server.folder / "zoo.zip").write_bytes(other)
    path, _ = fetch(remote(server), cache)
    assert path.read_bytes() == other


@pytest.mark.parametrize("way", ["no ranges", "pieces"])
def test_servers_of_other_manners_are_understood(server, cache, content, way):
    server.ranges, server.pieces = way != "no ranges", way == "pieces"
    server.faults.append(Fault("zoo.zip"))
    path, _ = fetch(remote(server), cache)
    assert path.read_bytes() == content


def test_a_download_that_only_lacks_its_name_needs_no_byte(server, cache, content):
    server.faults += [Fault("zoo.zip", times=1), Fault("zoo.zip", status=404)]
    with pytest.raises(ZooError):
        fetch(remote(server), cache)
    (cache / ".zoo.zip.part").write_bytes(content)
    server.log.clear()
    fetch(remote(server), cache)
    assert [(r.status, r.sent) for r in server.gets("zoo.zip")] == [(416, 0)]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sha256": "0" * 64}, "has SHA-256 [0-9a-f]{16}...; expected 0000000000000000..."),
        ({"md5": "0" * 32}, "has MD5 [0-9a-f]{32}; expected 0{32}"),
        ({"bytes": 5}, "has 5,242,897 bytes; expected 5"),
    ],
)
def test_what_is_not_what_was_expected_is_not_kept(server, cache, facts, message):
    with pytest.raises(ZooError, match=message):
        fetch(remote(server, **facts), cache)
    assert not (cache / "zoo.zip").exists()
    assert not (cache / ".zoo.zip.part").exists() or not (cache / ".zoo.zip.part").stat().st_size


def test_the_digest_of_the_first_download_is_held_against_later_ones(server, cache):
    fetch(remote(server), cache)
    (cache / "zoo.zip").unlink()
    (server.folder / "zoo.zip").write_bytes(b"another")
    with pytest.raises(ZooError, match=r"and the first download had .*; if its publisher changed it, remove .*json"):
        fetch(remote(server), cache)
    (cache / "zoo.zip.json").unlink()
    assert fetch(remote(server), cache)[0].read_bytes() == b"another"


def test_a_kept_file_that_was_changed_comes_anew(server, cache, content):
    path, _ = fetch(remote(server), cache)
    path.write_bytes(content[:-1] + b"x")
    assert fetch(remote(server), cache)[0].read_bytes() == content
    os.utime(path, (1, 1))  # touched, and its bytes are the same
    server.log.clear()
    fetch(remote(server), cache)
    assert not server.gets("zoo.zip")


def test_mirrors_are_tried_in_turn(server, cache, content, tmp_path):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "zoo.zip").write_bytes(b"wrong")
    with serve(tmp_path / "wrong") as wrong:
        urls = ("http://127.0.0.1:9/zoo.zip", f"{server.url}missing.zip", f"{wrong.url}zoo.zip", f"{server.url}zoo.zip")
        path, _ = fetch(RemoteFile("zoo.zip", urls, sha256=sha256(content)), cache)
    assert path.read_bytes() == content
    assert json.loads((cache / "zoo.zip.json").read_text())["url"] == urls[-1]


def test_a_half_from_one_mirror_goes_on_from_the_next(server, cache, content, tmp_path):
    with serve(server.folder) as first:
        first.faults += [Fault("zoo.zip"), Fault("zoo.zip", status=410)]
        urls = (f"{first.url}zoo.zip", f"{server.url}zoo.zip")
        path, _ = fetch(RemoteFile("zoo.zip", urls, sha256=sha256(content)), cache)
    assert path.read_bytes() == content
    assert [r.range for r in server.gets("zoo.zip")] == [f"bytes={SIZE // 2}-"]


def test_a_busy_server_is_waited_for(server, cache, content, monkeypatch):
    waits = []
    monkeypatch.setattr(retry, "sleep", waits.append)
    server.faults.append(Fault("zoo.zip", status=429, retry_after=1))
    assert fetch(remote(server), cache)[0].read_bytes() == content
    assert waits == [1]


def test_a_server_that_asks_for_too_long_a_wait_is_named(server, cache):
    server.faults.append(Fault("zoo.zip", status=429, retry_after=3600))
    with pytest.raises(ZooError, match=r"is too busy \(HTTP 429\), and asks to wait 3600 s"):
        fetch(remote(server), cache)


def test_a_server_that_always_breaks_off_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    server.ranges = False
    server.faults.append(Fault("zoo.zip", times=100))
    with pytest.raises(ZooError, match="the connection breaks"):
        fetch(remote(server), cache)


def test_a_disk_without_room_is_said_before_anything_comes(server, cache, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(ZooError, match=r"the disk has no room; 5.2 MB are to come, 0.0 are free"):
        fetch(remote(server), cache)


def test_a_server_that_takes_no_connection_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(reachable, "SECONDS", 2.0)  # of 5
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        # The queue of connections is full, and a further one is neither taken nor refused, as without a route.
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        with pytest.raises(ZooError, match=r"^download zoo.zip: 127.0.0.1:\d+ cannot be reached"):
            fetch(RemoteFile("zoo.zip", (f"http://127.0.0.1:{silent.getsockname()[1]}/zoo.zip",)), cache)
        for each in waiting:
            each.close()


def _fetch(url, cache):
    fetch(RemoteFile("zoo.zip", (url,)), cache)


def test_two_processes_share_one_download(server, cache, content):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fetch, args=(f"{server.url}zoo.zip", cache)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (cache / "zoo.zip").read_bytes() == content
    assert server.sent("zoo.zip") == SIZE
