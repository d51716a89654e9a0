"""Zoos pushed to a Hub on loopback, and read, pulled and shown from there."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from tests import waiting
from tests.conftest import TINY, files_of
from tests.hub_server import TOKEN, Fault
from zoo_gen import engine, open_zoo, pull, push
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.manifest.converted import ConvertedManifest
from zoo_gen.published import push as release
from zoo_gen.zoo.verify import verify


@pytest.fixture
def zoo(tiny_zoo, tmp_path):
    """Return a complete zoo of 40 models that a test may change."""
    return shutil.copytree(tiny_zoo, tmp_path / "mine")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_zoo_comes_back_as_it_was_pushed(hub, zoo, tmp_path):
    pushed = invoke("push", zoo, "org/tiny", "--tag", "v1.0")
    assert pushed.exit_code == 0, pushed.output
    commit = hub.repositories["dataset", "org/tiny"].tags["v1.0"]
    assert pushed.stdout == (
        f"{zoo}: pushed; hf://org/tiny@v1.0 is {hub.endpoint}/datasets/org/tiny at {commit[:12]}\n"
    )
    back = invoke("pull", "hf://org/tiny@v1.0", "--out", tmp_path / "back")
    assert back.stdout == f"tiny: 40 models, 5 checkpoints; complete in {tmp_path}/back\n"
    pulled = files_of(tmp_path / "back")
    del pulled[".gitattributes"]
    assert pulled == files_of(zoo)
    assert verify(tmp_path / "back").findings == ()


def test_a_push_in_python_is_the_same_as_in_the_shell(hub, zoo, tmp_path):
    pushed = push(zoo, "org/tiny")
    assert pushed.tag == f"revision-{open_zoo(zoo).revision[:12]}"
    assert pushed.changed
    pull(f"hf://org/tiny@{pushed.tag}", tmp_path / "back")
    assert open_zoo(tmp_path / "back").models.equals(open_zoo(zoo).models)


@pytest.mark.parametrize("tells_oids", [True, False])
def test_a_push_repeated_sends_nothing(hub, zoo, tells_oids):
    hub.tells_oids = tells_oids
    push(zoo, "org/tiny")
    commits = len(hub.repositories["dataset", "org/tiny"].commits)
    assert commits == 2  # the empty repository, and all files in one
    again = invoke("push", zoo, "org/tiny")
    assert "was there already" in again.stdout
    assert len(hub.repositories["dataset", "org/tiny"].commits) == commits


def test_a_push_that_broke_off_goes_on(hub, zoo):
    hub.faults.append(Fault("/lfs/", "PUT", status=400, times=1))
    with pytest.raises(ZooError, match=r"^hf://org/tiny: .*the same command resumes$"):
        push(zoo, "org/tiny")
    sent = {request.path for request in hub.log if request.method == "PUT" and request.status == 200}
    push(zoo, "org/tiny")
    all_sent = [request.path for request in hub.log if request.method == "PUT" and request.status == 200]
    assert sent
    assert len(all_sent) == len(set(all_sent))  # no file twice


def test_the_card_says_what_the_hub_and_people_want_to_know(hub, zoo):
    from matplotlib import pyplot

    push(zoo, "org/tiny", licence="cc0-1.0", tag="v1")
    _, front, body = (zoo / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["license"] == "cc0-1.0"
    assert header["size_categories"] == ["n<1K"]
    assert {"model-zoo", "weight-space-learning", "zarr"} <= set(header["tags"])
    (config,) = header["configs"]
    assert sum(pq.read_metadata(part).num_rows for part in zoo.glob(config["data_files"])) == 40
    assert config["default"] is True
    assert 'open_zoo("hf://org/tiny@v1")' in body
    assert "![test accuracy of all models after the last epoch](histogram.png)" in body
    first, *_ = open_zoo(zoo).layout.parameters
    assert f"| 0 to 79 | `{first.name}` | 5 x 16 |" in body
    assert "Please cite" in body
    assert open_zoo(zoo).revision in body
    assert pyplot.imread(zoo / "histogram.png")[..., :3].std() > 0.05
    assert verify(zoo, sample=0).findings == ()


def test_a_dry_run_sends_and_writes_nothing(hub, zoo, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # and needs no network
    before = files_of(zoo)
    result = invoke("push", zoo, "org/tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"to           hf://org/tiny@revision-{open_zoo(zoo).revision[:12]}\n" in result.stdout
    assert f"files        {len(before) + 1}, the largest " in result.stdout
    assert f"bytes        {sum(map(len, before.values())):,}\n" in result.stdout
    assert "commits      1\n" in result.stdout
    assert "licence      cc-by-4.0\n" in result.stdout
    assert files_of(zoo) == before
    assert hub.log == []


def test_what_says_that_the_others_are_there_is_sent_last(zoo):
    ready = release.plan_push(zoo, "org/tiny")
    assert ready.last[-2:] == ["README.md", "SHA256SUMS"]
    assert all(path.startswith("models/") for path in ready.last[:-4])
    assert not any(path.startswith("weights.zarr") for path in ready.last)


def test_a_zoo_that_is_not_complete_is_refused(zoo):
    (zoo / "models" / "part-00002.parquet").unlink()
    with pytest.raises(ZooError, match=r"mine: has 3 of 4 shards; expected a complete zoo"):
        push(zoo, "org/tiny")


def test_a_damaged_zoo_is_refused(zoo):
    chunk = next(path for path in (zoo / "weights.zarr" / "weights" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(
        ZooError, match=r"mine: is damaged: shard \d: .*; expected a zoo that zoo-gen verify finds sound$"
    ):
        push(zoo, "org/tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--licence", "cc-by-4"], "--licence: unknown licence 'cc-by-4'; did you mean 'cc-by-4.0'?"),
        (["--tag", "v 1"], "tag 'v 1': expected letters, digits"),
        (["--tag", "main"], "tag 'main': expected letters, digits, '.', '-' and '_', and not main"),
    ],
)
def test_a_wrong_option_is_one_line(hub, zoo, options, message):
    result = invoke("push", zoo, "org/tiny", *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert hub.log == []


@pytest.mark.parametrize(
    ("provenance", "licence", "message"),
    [
        (
            {"licence": "unknown"},
            None,
            "was converted from an archive with the licence 'unknown', which does not allow",
        ),
        ({}, "cc-by-4.0", "was converted from an archive with no known licence, which does not allow passing it on"),
        ({"licence": "cc-by-sa-4.0"}, "mit", "the zoo's publisher chose 'cc-by-sa-4.0'; expected that or nothing"),
        ({"licence": "cc-by-sa-4.0"}, None, None),
    ],
)
def test_what_others_published_keeps_its_licence(provenance, licence, message):
    class Zoo:
        path = "zoos/theirs"
        manifest = ConvertedManifest.model_construct(origin=type("Origin", (), {"provenance": provenance}))

    if message is None:
        assert release.licence_of(Zoo, licence) == provenance["licence"]
        return
    with pytest.raises(ZooError, match=message):
        release.licence_of(Zoo, licence)


@pytest.mark.parametrize(
    ("files", "missing"),
    [({"data.csv": b"1"}, "manifest.toml"), ({"manifest.toml": b"", "models.csv": b""}, "models")],
)
def test_a_repository_that_is_no_zoo_is_named_and_not_downloaded(hub, tmp_path, files, missing):
    hub.add("org/data", files)
    with pytest.raises(ZooError, match=f"hf://org/data: is not a zoo; it has no {missing}$"):
        pull("hf://org/data", tmp_path / "new" / "back")
    assert list(tmp_path.iterdir()) == []


def test_a_pull_repeated_brings_nothing_and_spoils_nothing(hub, zoo, tmp_path):
    push(zoo, "org/tiny", tag="v1")
    pull("hf://org/tiny@v1", tmp_path / "back")
    hub.log.clear()
    assert pull("hf://org/tiny@v1", tmp_path / "back").path == tmp_path / "back"
    assert hub.sent("/resolve/") + hub.sent("/lfs/") < 2_000  # the sums alone
    hub.add("org/tiny", {**hub.repositories["dataset", "org/tiny"].commits[-1][1], "SHA256SUMS": b""})
    before = files_of(tmp_path / "back")
    with pytest.raises(ZooError, match="back: exists already; expected a new or empty folder"):
        pull("hf://org/tiny", tmp_path / "back")
    assert files_of(tmp_path / "back") == before


def test_a_zoo_of_the_hub_is_pulled_whole(hub):
    result = invoke("pull", "hf://org/tiny", "--models", "0-9")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --models: hf://org/tiny is pulled whole; expected open_zoo, which reads what is asked for\n",
    )


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """Return a zoo of two shards of 16 MB each: 600 models of 5,376 parameters."""
    folder = tmp_path_factory.mktemp("large")
    text = TINY.replace("[1, 5]", "[1, 75]").replace("models_per_shard = 12", "models_per_shard = 300")
    text = text.replace("[16, 5, 4]", "[16, 64, 64, 4]").replace("epochs = 4", "epochs = 2")
    (folder / "large.toml").write_text(text)
    engine.run(folder / "large.toml", folder / "zoo", workers=1)
    return folder / "zoo"


def test_one_model_is_read_without_its_neighbours(hub, large):
    local = open_zoo(large)
    hub.add("org/large", files_of(large))
    remote = open_zoo("hf://org/large")
    module = remote.module(421)
    assert hub.sent() < 300_000
    assert sum(map(len, files_of(large).values())) > 25_000_000
    expected = local.state_dict(421)
    assert all((value.numpy() == expected[name].numpy()).all() for name, value in module.state_dict().items())


def test_a_zoo_of_the_hub_reads_as_the_one_on_disk(hub, tiny_zoo):
    commit = hub.add("org/tiny", files_of(tiny_zoo))
    local, remote = open_zoo(tiny_zoo), open_zoo("hf://org/tiny@main")
    assert str(remote.path) == f"hf://datasets/org/tiny@{commit}"
    hub.add("org/tiny", {"README.md": b"emptied"})  # what was opened stays as it was
    assert remote.models.equals(local.models)
    assert remote.revision == local.revision
    ids = [3, 14, 39]
    np.testing.assert_array_equal(remote.view(ids).weights, local.view(ids).weights)
    np.testing.assert_array_equal(remote.view(ids).metric("test_accuracy"), local.view(ids).metric("test_accuracy"))
    result = invoke("info", f"hf://org/tiny@{commit}")
    assert "40 of 40 (4 of 4 shards)" in result.output, result.output


@pytest.mark.parametrize("revision", ["feature/x", "refs/pr/1"])
def test_a_revision_with_a_slash_is_opened_described_and_pulled(hub, tiny_zoo, tmp_path, revision):
    commit = hub.add("org/tiny", files_of(tiny_zoo))
    hub.add("org/tiny", {"README.md": b"main has moved on"})
    repository = hub.repositories["dataset", "org/tiny"]
    (repository.tags if revision == "feature/x" else repository.unlisted)[revision] = commit
    for written in (revision, revision.replace("/", "%2F")):
        assert open_zoo(f"hf://org/tiny@{written}").digest == open_zoo(tiny_zoo).digest
        assert "40 of 40" in invoke("info", f"hf://org/tiny@{written}").stdout
    pulled = pull(f"hf://org/tiny@{revision}", tmp_path / "back")
    assert files_of(pulled.path) == files_of(tiny_zoo)
    dry = invoke("pull", f"hf://org/tiny@{revision}", "--dry-run")
    assert dry.exit_code == 0, dry.output


def test_reading_goes_on_when_the_connection_breaks(hub, tiny_zoo):
    hub.add("org/tiny", files_of(tiny_zoo))
    remote = open_zoo("hf://org/tiny")
    hub.faults += [Fault("weights/c/1"), Fault("part-00001", status=429, retry_after=1)]
    np.testing.assert_array_equal(remote.view([13]).weights, open_zoo(tiny_zoo).view([13]).weights)
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://org/none", "hf://org/none: there is no such dataset, or it is private and needs a valid token"),
        ("hf://org/tiny@v9", "hf://org/tiny@v9: there is no revision 'v9'"),
        ("hf://org/data", "hf://datasets/org/data@[0-9a-f]{40}: is not a zoo; it has no manifest.toml"),
        ("hf://tiny", "hf://tiny: is no address of a zoo on the Hub"),
    ],
)
def test_what_cannot_be_opened_is_named(hub, tiny_zoo, address, message):
    hub.add("org/tiny", files_of(tiny_zoo))
    hub.add("org/data", {"data.csv": b"1"})
    with pytest.raises(ZooError, match=f"^{message}"):
        open_zoo(address)


def test_no_zoo_is_made_on_the_hub(hub, tiny_manifest):
    hub.add("org/tiny", {"README.md": b""})
    result = invoke("run", tiny_manifest, "--out", "hf://org/tiny", "--workers", 1)
    assert result.exit_code == 2
    assert "zoos cannot be written on the Hub file by file; expected a local folder, then zoo-gen push" in result.stderr
    assert len(hub.repositories["dataset", "org/tiny"].commits) == 1


DATASETS = """
import datasets
found = datasets.load_dataset("org/tiny", revision="v1")
print(list(found), found["train"].num_rows, sorted(found["train"].column_names)[:3])
"""


def test_the_table_loads_with_datasets(hub, zoo, tmp_path):
    pytest.importorskip("datasets")
    push(zoo, "org/tiny", tag="v1")
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", DATASETS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=waiting.LIMIT,
    )
    columns = sorted(open_zoo(zoo).models.column_names)[:3]
    assert done.stdout == f"['train'] 40 {columns}\n", done.stderr[-600:]
