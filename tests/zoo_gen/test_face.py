"""What `import zoo_gen` gives: zoos made, planned, verified and shown from Python as by the commands."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import zoo_gen
from tests.conftest import TINY, files_of
from zoo_gen.cli.main import main


def test_a_path_a_name_and_an_object_give_the_bytes_of_the_command(tmp_path, tiny_zoo, tiny_manifest, monkeypatch):
    by_path = zoo_gen.run(tiny_manifest, tmp_path / "path", workers=1, progress=False)
    by_object = zoo_gen.run(zoo_gen.read_manifest(tiny_manifest), str(tmp_path / "object"), workers=1, progress=False)
    monkeypatch.chdir(tmp_path)
    by_text = zoo_gen.run(str(tiny_manifest), workers=1, progress=False)
    assert by_text.path == Path("zoos/tiny")
    for zoo in (by_path, by_object, by_text):
        assert files_of(zoo.path) == files_of(tiny_zoo)


def test_a_run_shows_no_bar_where_none_is_asked_for(tmp_path, tiny_manifest, capsys):
    zoo_gen.run(tiny_manifest, tmp_path / "zoo", workers=1, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_part_of_a_zoo_is_opened_as_far_as_it_is(tmp_path, tiny_manifest):
    zoo = zoo_gen.run(tiny_manifest, tmp_path / "zoo", workers=1, part=(2, 4), progress=False)
    assert zoo.complete_shards == [1]
    assert "12 of 40 (1 of 4 shards)" in zoo.facts()["models"]


def test_a_plan_says_what_the_command_says(tiny_manifest):
    planned = zoo_gen.plan(tiny_manifest)
    assert (planned.cost.models, planned.cost.shards, planned.cost.models_per_shard) == (40, 4, 12)
    command = CliRunner().invoke(main, ["plan", str(tiny_manifest)])
    lines = [line for line in str(planned).splitlines() if not line.startswith("seconds")]
    assert [line for line in command.output.splitlines() if not line.startswith("seconds")] == lines
    ElementTree.fromstring(f"<div>{planned._repr_html_()}</div>")


def test_a_zoo_verifies_by_itself_and_by_its_path(tiny_zoo):
    reports = [zoo_gen.verify(zoo, sample=3) for zoo in (zoo_gen.open_zoo(tiny_zoo), tiny_zoo, str(tiny_zoo))]
    assert all(report.sound for report in reports)
    assert {str(report) for report in reports} == {"40 models hashed, 3 checkpoints evaluated: sound"}


def test_facts_are_the_lines_of_info(tiny_zoo):
    output = CliRunner().invoke(main, ["info", str(tiny_zoo)]).output
    for title, text in zoo_gen.open_zoo(tiny_zoo).facts().items():
        assert f"  {title:15} {text}" in output.splitlines()


def test_a_notebook_shows_a_zoo_with_a_histogram_of_every_model(tiny_zoo):
    zoo = zoo_gen.open_zoo(tiny_zoo)
    html = ElementTree.fromstring(zoo._repr_html_())
    assert html.find("strong").text == "tiny"
    counts = [int(bar.text.rpartition(": ")[2]) for bar in html.findall(".//rect/title")]
    assert sum(counts) == len(zoo.models)
    shown = {row.find("th").text: row.find("td").text for row in html.findall(".//tr")}
    assert shown == zoo.facts()


def test_html_escapes_what_a_manifest_says(tmp_path, tiny_manifest):
    tiny_manifest.write_text(TINY.replace("a zoo for tests", "<b>bold</b> & more"))
    zoo = zoo_gen.run(tiny_manifest, tmp_path / "zoo", workers=1, progress=False)
    assert ElementTree.fromstring(zoo._repr_html_()).find("div").text == "<b>bold</b> & more"


def test_a_wrong_manifest_from_python_is_one_line():
    with pytest.raises(
        zoo_gen.ZooError, match=r"^data.source: unknown source 'tetrs'; did you mean 'tetris'\?"
    ) as error:
        zoo_gen.ZooManifest(name="x", data={"source": "tetrs"}, architecture={"name": "mlp"}, training={}, axes={})
    assert "\n" not in str(error.value)


def test_every_public_name_is_there_and_shown_to_completion():
    assert set(zoo_gen.__all__) <= set(dir(zoo_gen))
    for name in zoo_gen.__all__:
        public = getattr(zoo_gen, name)
        assert public.__doc__
        assert isinstance(public, type) or ">>> " in public.__doc__  # which tests/test_examples.py runs
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        zoo_gen.train  # noqa: B018


def test_listing_planning_and_reading_names_import_no_torch():
    code = "import sys, zoo_gen; zoo_gen.list_zoos(); zoo_gen.list_published_zoos(); zoo_gen.plan('tetris_seed').cost"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tiny: zoo_gen.run(tiny, workers=0), "workers is 0; expected a whole number, at least 1"),
        (lambda tiny: zoo_gen.run(tiny, workers="2"), "workers is '2'; expected a whole number"),
        (lambda tiny: zoo_gen.run(tiny, save_seconds=-1), "save_seconds is -1; expected a number, at least 0"),
        (lambda tiny: zoo_gen.run(tiny, part=(0, 4)), r"part is \(0, 4\); expected \(i, n\) with i from 1 to n"),
        (lambda tiny: zoo_gen.plan(tiny, workers=0), "workers is 0; expected a whole number, at least 1"),
        (lambda tiny: zoo_gen.verify(tiny, sample=-1), "sample is -1; expected a whole number, at least 0"),
        (lambda tiny: zoo_gen.run(None), "manifest is None; expected a ZooManifest, plain data, the path"),
        (lambda tiny: zoo_gen.plan(5), "manifest is 5; expected a ZooManifest"),
        (lambda tiny: zoo_gen.diff(tiny, None), "manifest is None; expected a ZooManifest"),
        (lambda tiny: zoo_gen.open_zoo(None), "got None in place of a folder or file; expected its path or URL"),
        (lambda tiny: zoo_gen.verify(None), "got None in place of a folder or file"),
        (lambda tiny: zoo_gen.convert(None, format="folder"), "archive is None; expected the path of a folder or file"),
    ],
)
def test_an_argument_that_the_commands_refuse_is_one_line(tiny_manifest, tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(zoo_gen.ZooError, match=message):
        call(tiny_manifest)
    assert files_of(tmp_path) == before
