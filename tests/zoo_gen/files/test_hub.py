"""Folders to and from a Hub on loopback, through the official client."""

import itertools
import os
import re
import socket
import subprocess
import sys

import pytest

from tests import waiting
from tests.conftest import files_of
from tests.hub_server import Fault, digest
from zoo_gen.errors import ZooError
from zoo_gen.files import hub as our_hub
from zoo_gen.files import hub_limits, hub_push, reachable, retry


@pytest.fixture
def folder(tmp_path):
    """Return a folder of 130 small files, a large one, and a README."""
    place = tmp_path / "folder"
    for number in range(130):
        path = place / "weights" / "c" / str(number) / "0"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number)
    (place / "large.safetensors").write_bytes(os.urandom(200_000))
    (place / "README.md").write_text("# A folder\n")
    (place / ".README.md.7.tmp").write_text("left by a killed writer")
    return place


def uploads(hub):
    return [request for request in hub.log if request.method == "PUT"]


def commits(hub):
    return [request for request in hub.log if "/commit/" in request.path and request.status == 200]


@pytest.mark.parametrize(("lfs", "xet"), [(True, False), (False, False), (False, True)])
def test_a_folder_comes_back_as_it_was_pushed(hub, folder, tmp_path, monkeypatch, lfs, xet):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", not xet)
    hub.lfs = lfs
    pushed = hub_push.push_folder(folder, "org/folder", tag="v1", last=["README.md"])
    expected = {path: content for path, content in files_of(folder).items() if not path.startswith(".")}
    repository = hub.repositories["dataset", "org/folder"]
    assert {**repository.commits[-1][1]} == {**expected, ".gitattributes": repository.commits[0][1][".gitattributes"]}
    assert repository.tags == {"v1": pushed.commit}
    assert pushed.url == f"{hub.endpoint}/datasets/org/folder"
    commit = our_hub.pull_folder("org/folder", tmp_path / "back", revision="v1")
    assert commit == pushed.commit
    pulled = files_of(tmp_path / "back")
    assert {path: content for path, content in pulled.items() if path != ".gitattributes"} == expected
    assert bool(uploads(hub)) == lfs


def test_files_go_by_the_hundred_and_the_card_last(hub, folder):
    hub_push.push_folder(folder, "org/folder", last=["README.md"])
    assert len(commits(hub)) == 3
    history = [set(files) for _, files in hub.repositories["dataset", "org/folder"].commits]
    assert [len(new - old) for old, new in itertools.pairwise(history)] == [100, 31, 1]
    assert history[-1] - history[-2] == {"README.md"}


def test_a_push_that_was_cut_off_resumes(hub, folder):
    hub.faults.append(Fault("/commit/main", "POST", status=500, times=1))
    with pytest.raises(ZooError, match=r"^hf://org/folder: .*the same command resumes$"):
        hub_push.push_folder(folder, "org/folder", tag="v1")
    assert len(uploads(hub)) == 1
    hub_push.push_folder(folder, "org/folder", tag="v1")
    assert len(uploads(hub)) == 1  # the large file was there already
    assert len(commits(hub)) == 2
    again = hub_push.push_folder(folder, "org/folder", tag="v1")
    assert not again.changed
    assert len(commits(hub)) == 2


def test_a_tag_is_never_moved(hub, folder):
    first = hub_push.push_folder(folder, "org/folder", tag="v1")
    (folder / "README.md").write_text("# Another\n")
    with pytest.raises(ZooError, match=rf"has the tag 'v1' at another commit, {first.commit[:8]}; expected a new tag"):
        hub_push.push_folder(folder, "org/folder", tag="v1")
    assert hub.repositories["dataset", "org/folder"].tags == {"v1": first.commit}


def test_a_download_that_breaks_off_goes_on_from_there(hub, tmp_path):
    content = os.urandom(24 * 2**20)  # the client writes, and so keeps, pieces of 10 MiB
    hub.add("org/zoo", {"large.zip": content})
    hub.faults.append(Fault("large.zip"))
    our_hub.pull_folder("org/zoo", tmp_path / "zoo")
    assert files_of(tmp_path / "zoo") == {"large.zip": content}
    assert [request.range for request in hub.log if "/lfs/" in request.path][-1].startswith(f"bytes={10 * 2**20}-")
    assert hub.sent(f"/lfs/{digest(content)}") == len(content) + 2 * 2**20


def test_a_pull_that_was_cut_off_leaves_no_folder_and_goes_on(hub, tmp_path):
    one, other = os.urandom(50_000), os.urandom(50_000)
    hub.add("org/zoo", {"one.zip": one, "other.zip": other})
    hub.faults.append(Fault("other.zip", "HEAD", status=404, times=1000))
    with pytest.raises(ZooError, match=r"^hf://org/zoo: "):
        our_hub.pull_folder("org/zoo", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
    hub.faults.clear()
    our_hub.pull_folder("org/zoo", tmp_path / "zoo")
    assert files_of(tmp_path / "zoo") == {"one.zip": one, "other.zip": other}
    assert hub.sent(digest(one)) == len(one)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_what_is_left_of_another_revision_does_not_come_along(hub, tmp_path):
    first = hub.add("org/zoo", {"a": b"1", "b": b"1", "c.zip": b"1"})
    hub.faults.append(Fault("c.zip", "HEAD", status=404, times=1000))
    with pytest.raises(ZooError):
        our_hub.pull_folder("org/zoo", tmp_path / "zoo", revision=first)
    hub.faults.clear()
    hub.add("org/zoo", {"a": b"2", "c.zip": b"2"})
    our_hub.pull_folder("org/zoo", tmp_path / "zoo")
    assert files_of(tmp_path / "zoo") == {"a": b"2", "c.zip": b"2"}


def test_some_files_of_a_revision_are_pulled(hub, tmp_path):
    commit = hub.add("org/zoo", {f"models/part-{n:05d}.parquet": b"old" for n in range(50)} | {"README.md": b"old"})
    hub.add("org/zoo", {"README.md": b"new"})
    our_hub.pull_folder("org/zoo", tmp_path / "zoo", revision=commit, patterns=["models/part-0000*"])
    assert set(files_of(tmp_path / "zoo")) == {f"models/part-{n:05d}.parquet" for n in range(10)}


def test_too_many_requests_are_waited_for(hub, folder, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(retry, "sleep", waits.append)
    hub.faults.append(Fault("/api/repos/create", "POST", status=429, retry_after=1))
    hub.faults.append(Fault("/tag/", "POST", status=429, retry_after=1))
    hub_push.push_folder(folder, "org/folder", tag="main-1")
    hub.faults.append(Fault("large.safetensors", "HEAD", status=429, retry_after=1))
    our_hub.pull_folder("org/folder", tmp_path / "back")
    assert waits[:2] == [1, 1]
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize(
    ("repository", "revision", "token", "message"),
    [
        ("org/zou", "main", None, "there is no such dataset, or it is private and needs a valid token (HF_TOKEN"),
        ("org/zou", "main", "", "there is no such dataset, or it is private and needs a valid token (HF_TOKEN"),
        ("org/zoo", "main", "hf_wrong", "there is no such dataset, or it is private and needs a valid token (HF_TOKEN"),
        ("org/zoo", "v9", None, "there is no revision 'v9'; expected a branch, a tag or a commit of it"),
    ],
)
def test_what_is_not_there_is_named(hub, tmp_path, monkeypatch, repository, revision, token, message):
    hub.add("org/zoo", {"a": b"1"})
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ZooError) as caught:
        our_hub.pull_folder(repository, tmp_path / "zoo", revision=revision)
    address = f"hf://{repository}" + ("" if revision == "main" else f"@{revision}")
    assert str(caught.value).startswith(f"{address}: {message}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_writing_without_a_token_is_refused(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(ZooError, match="the Hub accepts no upload without a valid token"):
        hub_push.push_folder(folder, "org/folder")
    assert not hub.repositories


def test_a_name_that_lies_outside_is_refused(hub, tmp_path):
    hub.add("org/zoo", {"../outside": b"1", "a": b"1"})
    with pytest.raises(ZooError, match=r"names the file '../outside', which lies outside of it"):
        our_hub.pull_folder("org/zoo", tmp_path / "zoo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["zoo", "org/zoo/more", "/zoo", "org/", "org/a..b", "org/a--b", "org/zoo.git", "o rg/zoo", "../zoo"]
)
def test_a_repository_is_org_and_name(name, folder):
    with pytest.raises(ZooError, match="expected org/name"):
        hub_push.push_folder(folder, name)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("hf://org/zoo", our_hub.Address("org/zoo")),
        ("hf://org/my.zoo-1@v1.0", our_hub.Address("org/my.zoo-1", "v1.0")),
        ("hf://datasets/org/zoo@0123abc/", our_hub.Address("org/zoo", "0123abc")),
        ("hf://datasets/zoo", our_hub.Address("datasets/zoo")),
        ("hf://org/zoo@feature/x", our_hub.Address("org/zoo", "feature/x")),
        ("hf://org/zoo@feature%2Fx/", our_hub.Address("org/zoo", "feature/x")),
        ("hf://datasets/org/zoo@refs/pr/1", our_hub.Address("org/zoo", "refs/pr/1")),
    ],
)
def test_an_address_is_a_repository_and_a_revision(address, place):
    assert our_hub.parse(address) == place


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://zoo",
        "hf://org/zoo/folder",
        "hf://org/zoo@",
        "hf://../zoo",
        "hf://org/zoo@a b",
        "hf://org/zoo@a//b",
        "hf://org/zoo@../main",
        "hf://org/zoo@/main",
        "hf://org/zoo@a%00",
    ],
)
def test_another_address_is_refused(address):
    with pytest.raises(ZooError, match=re.escape(f"{address}: is no address of a zoo on the Hub")):
        our_hub.parse(address)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"{n % 20}/{n}": 1 for n in range(100_001)}, "zoo: has 100,001 files; the Hub allows 100,000 a repository"),
        ({f"w/c/{n}/0": 1 for n in range(10_001)}, "zoo/w/c: has 10,001 entries; the Hub allows 10,000 a folder"),
        ({"w/0": 201 * 10**9, "a": 1}, "zoo/w/0: has 201 GB; the Hub allows 200 GB a file"),
    ],
)
def test_the_limits_of_the_hub_are_known(files, message):
    with pytest.raises(ZooError, match=f"^{message}$"):
        hub_limits.check_limits(files, where="zoo")


@pytest.fixture
def silent():
    """Return the address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_no_network_is_said_in_one_line(address, tmp_path):
    environment = os.environ | {"HF_ENDPOINT": address, "HF_TOKEN": "hf_x"}
    program = "import sys; from zoo_gen.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "pull", "hf://org/zoo", "--out", str(tmp_path / "zoo")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=waiting.LIMIT,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: pull hf://org/zoo: \S+ cannot be reached \(.+\); expected a network\n", done.stderr)


def test_a_server_that_never_answers_is_given_up(silent):
    with pytest.raises(ZooError, match=r"cannot be reached \(.*timed out.*\); expected a network"):
        reachable.require([silent], needed_for="pull", seconds=1)


def test_one_mirror_that_answers_is_enough(hub, silent):
    reachable.require([silent, "http://127.0.0.1:9", hub.endpoint], needed_for="pull", seconds=waiting.LIMIT)


def test_any_answer_is_a_network(hub):
    reachable.require([f"{hub.endpoint}/nothing/here"], needed_for="pull", seconds=waiting.LIMIT)
