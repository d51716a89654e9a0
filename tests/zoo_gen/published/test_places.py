"""Where people work: locales, folders of a group, file systems that cannot flush, and what killed conversions leave."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from tests import waiting
from tests.zoo_gen.published import packed, ray
from zoo_gen import ZooError, convert, open_zoo
from zoo_gen.files import atomic
from zoo_gen.published.archives import scratch
from zoo_gen.zoo.verify import verify

# Each line of the input is a command; all share one interpreter, which starts as `python -m zoo_gen` does.
COMMANDS = """
import os, runpy, sys
from contextlib import suppress
for line in os.fdopen(0, "rb").read().splitlines():
    sys.argv[1:] = map(os.fsdecode, line.split(b" "))
    try:
        runpy.run_module("zoo_gen", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        sys.stderr.flush()
        sys.stdout.flush()
        os.write(1, b"\\nexit code %d\\n" % (end.code or 0))
"""


def commands(*lines, cwd, **environment):
    """Run zoo-gen several times in a process of its own, in an environment that says only this."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input="\n".join(lines).encode(),
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        check=False,
    )


LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1 output": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1:strict"},
}


@pytest.mark.parametrize("locale", ["C", pytest.param("latin-1 output", marks=pytest.mark.thorough)])
def test_names_and_texts_are_utf_8_in_any_locale(tmp_path, locale):
    contents = {
        name.replace("c", "č", 1): content for name, content in packed.files("").items() if "models" not in name
    }
    table = "file,run,test_accuracy,note\nč0.pt,ä,0.5,日本\nč1.pt,ß,0.75,ü\n"
    ray.folder(tmp_path / "zoö", {**contents, "models.csv": table.encode()})
    lines = ("convert zoö --format folder --out öut", "verify öut", "convert zoö --format folder --out zoö")
    completed = commands(*lines, cwd=tmp_path, **LOCALES[locale])
    assert re.findall(rb"^exit code (.)$", completed.stdout, re.MULTILINE) == [b"0", b"0", b"2"], completed
    zoo = open_zoo(tmp_path / "öut")
    packed.is_right(zoo)
    assert zoo.models["run"].to_pylist() == ["ä", "ß"]
    assert completed.stderr.startswith(b"error: ")  # of the last one; the others say nothing there
    assert completed.stderr.count(b"\n") == 1


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_what_is_made_has_the_rights_that_the_umask_gives_and_the_group_of_its_folder(tmp_path, umask):
    group = next((g for g in os.getgroups() if g != os.getgid()), 100 if os.getuid() == 0 else os.getgid())
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, group)
    shared.chmod(0o2775)
    archive = packed.tarred(tmp_path / "zoo.tar.gz", packed.files(), mode="w:gz")
    before = os.umask(umask)
    try:
        zoo = convert(archive, shared / "zoos" / "zoo", format="folder")
        (shared / "by_hand").mkdir()
        (shared / "by_hand" / "file").touch()
    finally:
        os.umask(before)
    rights = {kind: (shared / "by_hand" / kind).stat() for kind in ("", "file")}
    for path in (zoo.path.parent, zoo.path, *zoo.path.rglob("*")):
        expected, status = rights["" if path.is_dir() else "file"], path.stat()
        assert stat.filemode(status.st_mode) == stat.filemode(expected.st_mode), path
        assert status.st_gid == expected.st_gid, path


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("refuses", ["folders", "files"])
def test_a_file_system_that_cannot_flush_keeps_a_zoo_as_well_as_it_can(tmp_path, monkeypatch, number, refuses):
    flushed, plain = [], os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode) == (refuses == "folders"):
            raise OSError(number, os.strerror(number))
        flushed.append(file)
        plain(file)

    monkeypatch.setattr(os, "fsync", fsync)
    packed.is_right(convert(ray.folder(tmp_path / "in", packed.files("")), tmp_path / "out", format="folder"))
    assert flushed


def test_a_disk_that_fails_is_named(tmp_path, monkeypatch):
    def fsync(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="error") as error:
        atomic.replace(tmp_path / "file", b"content")
    assert str(tmp_path) in error.value.filename
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_where_an_archive_is_expanded(tmp_path, monkeypatch):
    archive = packed.tarred(tmp_path / "zoo.tar.gz", packed.files(), mode="w:gz")
    if not Path("/dev/full").exists():
        pytest.skip("this system has no full disk to play with")
    plain = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **o: plain(Path("/dev/full") if "expanded" in path.name else path, mode, **o),
    )
    with pytest.raises(OSError, match="No space left") as error:
        convert(archive, tmp_path / "out", format="folder")
    assert str(tmp_path) in error.value.filename
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.tar.gz"]


def test_what_a_killed_expansion_left_goes_with_the_next_one_and_a_living_one_stays(tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    script = (
        "import sys, time; from pathlib import Path; from zoo_gen.published.archives.scratch import scratch_beside\n"
        f"with scratch_beside(Path({str(tmp_path / 'out')!r})) as folder:\n"
        "    (folder / 'expanded.tar').write_bytes(bytes(1000))\n"
        f"    Path({str(ready)!r}).write_text(str(folder)); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        waiting.until(lambda: ready.exists() and ready.read_text())
        held = Path(ready.read_text())
        with scratch.scratch_beside(tmp_path / "out"):
            assert held.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (held / "expanded.tar").exists()
    with scratch.scratch_beside(tmp_path / "out") as mine:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [mine]
    begun = tmp_path / ".out.expanding.begun"
    begun.mkdir()  # by a process that has no lock in it yet
    with scratch.scratch_beside(tmp_path / "out"):
        assert begun.exists()
    os.utime(begun, (time.time() - 1000, time.time() - 1000))
    with scratch.scratch_beside(tmp_path / "out"):
        assert not begun.exists()


def test_folders_that_a_refused_conversion_made_go_and_others_stay(tmp_path):
    (tmp_path / "zoos").mkdir()
    archive = packed.tarred(tmp_path / "z.tar", {"nothing.txt": b""})
    for out in (tmp_path / "zoos" / "a" / "b" / "out", tmp_path / "zoos" / "out"):
        with pytest.raises(ZooError):
            convert(archive, out, format="folder")
        assert list((tmp_path / "zoos").iterdir()) == []


@pytest.mark.parametrize("existed", [True, False])
def test_of_an_archive_that_is_refused_on_the_way_no_shard_stays(tmp_path, existed):
    """The last state of the last run is another network, which is seen when the shards before it are written."""
    rows, contents = ["file,run,epoch"], {}
    for run in range(12):
        for epoch in (1, 2):
            odd = (run, epoch) == (11, 2)
            contents[f"{run}_{epoch}.pt"] = ray.saved({"weight": torch.ones(4)} if odd else packed.state(run))
            rows.append(f"{run}_{epoch}.pt,r{run},{epoch}")
    contents["models.csv"] = "\n".join(rows).encode()
    folder, out = ray.folder(tmp_path / "in", contents), tmp_path / "out"
    if existed:
        out.mkdir()
    with pytest.raises(ZooError, match=r"11_2\.pt"):
        convert(folder, out, format="folder")
    assert out.exists() == existed
    assert not existed or list(out.iterdir()) == []


def test_an_interrupted_conversion_keeps_its_shards(tmp_path, monkeypatch):
    from zoo_gen.store import Store

    contents = {f"{run}.pt": ray.saved(packed.state(run)) for run in range(12)}
    contents["models.csv"] = ("file\n" + "".join(f"{run}.pt\n" for run in range(12))).encode()
    folder, plain = ray.folder(tmp_path / "in", contents), Store.write_shard

    def write(store, shard, *arguments, **options):
        if shard == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(store.folder))
        plain(store, shard, *arguments, **options)

    monkeypatch.setattr(Store, "write_shard", write)
    with pytest.raises(OSError, match="No space left"):
        convert(folder, tmp_path / "out", format="folder")
    assert open_zoo(tmp_path / "out").complete_shards
    monkeypatch.setattr(Store, "write_shard", plain)
    zoo = convert(folder, tmp_path / "out", format="folder")
    assert len(zoo.models) == 12
    assert verify(zoo).findings == ()


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); " + (
        "from zoo_gen.cli.main import main; main(['list'], prog_name='zoo-gen')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "error: the current folder is not there any more; expected the command in a folder that is (cd)\n"
    )


def test_a_read_only_archive_of_many_small_files_is_read_once(tmp_path):
    """Each member of a tar is found by its place, however many there are."""
    count = 3000
    with tarfile.open(tmp_path / "many.tar", "w") as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"logs/{number}.txt"))
        for name, content in packed.files().items():
            import io

            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    (tmp_path / "many.tar").chmod(0o444)
    zoo = convert(tmp_path / "many.tar", tmp_path / "out", format="folder")
    packed.is_right(zoo)
    assert zoo.manifest.origin.members == count + 3
