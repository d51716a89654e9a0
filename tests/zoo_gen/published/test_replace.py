"""Pushing onto a repository that holds a zoo already: the same one, another one, a smaller one."""

import shutil

import pytest
from click.testing import CliRunner

from tests.conftest import TINY, files_of
from tests.hub_server import Fault
from zoo_gen import engine, open_zoo, pull, push
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.files import hub_push
from zoo_gen.files.hub_push import Change
from zoo_gen.zoo.verify import verify


@pytest.fixture(scope="module")
def zoos(tiny_zoo, tmp_path_factory):
    """A of four shards; B, another zoo of five; and a smaller A of two, by their letters."""
    folder = tmp_path_factory.mktemp("zoos")
    shutil.copytree(tiny_zoo, folder / "A")
    for name, size, models in (("B", "[5, 9]", 8), ("smaller", "[1, 2]", 12)):
        text = TINY.replace("seed = { range = [1, 5] }", f"seed = {{ range = {size} }}")
        text = text.replace("models_per_shard = 12", f"models_per_shard = {models}")
        text = text.replace('name = "tiny"', 'name = "other"') if name == "B" else text
        (folder / f"{name}.toml").write_text(text)
        engine.run(folder / f"{name}.toml", folder / name, workers=1, progress=False)
    return folder


def on_main(hub):
    _, files = hub.repositories["dataset", "org/zoo"].files("main")
    return {path: content for path, content in files.items() if not path.startswith(".")}


def every_state_is_a_zoo(hub, tmp_path, *, since=2):
    """Pull each commit from a number on, and verify it."""
    for number, (commit, _) in enumerate(hub.repositories["dataset", "org/zoo"].commits[since - 1 :]):
        back = tmp_path / f"back{number}"
        assert verify(pull(f"hf://org/zoo@{commit}", back).path, sample=0).findings == ()
        shutil.rmtree(back)


def test_a_then_b_then_a_smaller_a(hub, zoos, tmp_path):
    first = push(zoos / "A", "org/zoo", tag="v1")
    for letter, tag in (("B", "v2"), ("smaller", "v3")):
        before = on_main(hub)
        published, ours = open_zoo("hf://org/zoo").digest[:12], open_zoo(zoos / letter).digest[:12]
        with pytest.raises(
            ZooError, match=rf"holds the zoo .* \(digest {published}, expected {ours}\); .*replace=True"
        ):
            push(zoos / letter, "org/zoo", tag=tag)
        assert on_main(hub) == before
        pushed = push(zoos / letter, "org/zoo", tag=tag, replace=True)
        assert pushed.changed
        assert on_main(hub) == files_of(zoos / letter)
        assert len(hub.repositories["dataset", "org/zoo"].commits) == {"v2": 3, "v3": 4}[tag]
    every_state_is_a_zoo(hub, tmp_path)
    assert open_zoo("hf://org/zoo@v1").digest == open_zoo(zoos / "A").digest
    assert hub.repositories["dataset", "org/zoo"].tags["v1"] == first.commit


def test_the_command_says_how_another_zoo_is_replaced(hub, zoos):
    push(zoos / "A", "org/zoo")
    arguments = ["push", str(zoos / "smaller"), "org/zoo"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "replace it whole with --replace" in refused.stderr
    replaced = CliRunner().invoke(main, [*arguments, "--replace"])
    assert replaced.exit_code == 0, replaced.output
    assert "pushed" in replaced.stdout
    again = CliRunner().invoke(main, [*arguments, "--replace"])
    assert "was there already" in again.stdout


def test_a_replacement_that_breaks_off_leaves_the_old_zoo_and_resumes(hub, zoos, tmp_path):
    push(zoos / "A", "org/zoo")
    hub.faults.append(Fault("/commit/main", "POST", status=500, times=1))
    with pytest.raises(ZooError, match="the same command resumes"):
        push(zoos / "B", "org/zoo", replace=True)
    assert on_main(hub) == files_of(zoos / "A")
    sent = [request.path for request in hub.log if request.method == "PUT"]
    push(zoos / "B", "org/zoo", replace=True)
    assert [request.path for request in hub.log if request.method == "PUT"] == sent  # no large file twice
    every_state_is_a_zoo(hub, tmp_path)


def test_what_an_earlier_push_of_the_same_zoo_left_goes_and_what_its_owner_put_there_stays(hub, zoos):
    push(zoos / "A", "org/zoo")
    files = on_main(hub)
    hub.add("org/zoo", files | {"models/part-00009.parquet": b"stale", "LICENSE": b"mit", ".gitattributes": b""})
    push(zoos / "A", "org/zoo", tag="again")
    assert on_main(hub) == files_of(zoos / "A") | {"LICENSE": b"mit"}


def test_a_first_push_that_broke_off_gives_way_to_another_zoo(hub, zoos, tmp_path):
    """Nothing readable was there yet: what had come of it goes with the last commit."""
    chunk = "weights.zarr/weights/c/9/0/0"
    hub.add("org/zoo", {chunk: b"of another zoo", "notes.txt": b"mine", ".gitattributes": b""})
    push(zoos / "smaller", "org/zoo")
    assert on_main(hub) == files_of(zoos / "smaller") | {"notes.txt": b"mine"}


def test_a_tag_that_is_taken_is_said_before_anything_is_sent(hub, zoos):
    push(zoos / "A", "org/zoo", tag="v1")
    before = on_main(hub)
    with pytest.raises(ZooError, match=r"has the tag 'v1' at another commit, .*; expected a new tag"):
        push(zoos / "B", "org/zoo", tag="v1", replace=True)
    assert on_main(hub) == before


@pytest.mark.parametrize("change", [Change(), Change(at_once=True)])
def test_the_client_says_nothing_of_its_own(hub, zoos, capfd, caplog, change):
    hub_push.push_folder(zoos / "A", "org/zoo", tag="v1")
    again = hub_push.push_folder(zoos / "A", "org/zoo", tag="v2", change=lambda present: change)
    assert again.changed is False
    assert hub.repositories["dataset", "org/zoo"].tags.keys() == {"v1", "v2"}
    assert "No files have been modified" not in "".join((*capfd.readouterr(), caplog.text))


def test_what_the_hub_does_not_have_is_not_asked_for_again(hub, zoos):
    hub.faults.append(Fault("/preupload/main", "POST", status=404, times=9))
    with pytest.raises(ZooError, match=r"404") as error:
        push(zoos / "A", "org/zoo")
    assert "the same command resumes" not in str(error.value)
    assert "\n" not in str(error.value)
