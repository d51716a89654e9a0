"""The report of a conversion: what was read and left out, what columns were taken as, and where it is kept."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.zoo_gen.published import own, ray
from zoo_gen import ZooError, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.published import convert, foreign
from zoo_gen.zoo.verify import verify

TABLE = "file,run,epoch,lr,seed,label,split,val_acc,empty\nc0.pt,a,0,0.1,1,3,train,0.5,\nc1.pt,b,0,0.2,2,4,test,0.25,\n"


def test_the_command_ends_with_what_python_gives(tmp_path):
    files = {"notes.txt": b"x", ".DS_Store": b"x"}
    path = own.folder(tmp_path / "mine", TABLE, files=files)
    result = CliRunner().invoke(main, ["convert", str(path), "--format", "folder", "--out", str(tmp_path / "zoo")])
    assert result.exit_code == 0, result.output
    report = open_zoo(tmp_path / "zoo").conversion
    assert result.output.startswith(f"{report}\n")
    assert str(report).splitlines() == [
        "read         c0.pt, c1.pt, models.csv",
        "ignored      .DS_Store (a hidden file)",
        "ignored      c2.pt (not named in models.csv)",
        "ignored      notes.txt (the format folder does not use it)",
        "column       file: file",
        "column       run: run",
        "column       epoch: epoch",
        "column       split: split",
        "column       empty: dropped (it is empty)",
        "column       lr: hyper-parameter learning_rate",
        "column       seed: seed",
        "column       label: label",
        "column       val_acc: metric validation_accuracy",
    ]


def test_the_report_is_a_file_of_the_zoo(tmp_path):
    zoo = own.zoo_of(own.folder(tmp_path / "mine", TABLE))
    assert verify(zoo.path, sample=0).findings == ()
    path = zoo.path / "conversion.json"
    assert str(tmp_path) not in path.read_text()  # no paths of this machine are published
    path.write_text(path.read_text().replace("learning_rate", "another_name1"))
    assert any("conversion.json" in finding for finding in verify(zoo.path, sample=0).findings)
    path.write_text("{")
    with pytest.raises(ZooError, match=r"conversion\.json: cannot be read as the report"):
        _ = open_zoo(zoo.path).conversion


def test_a_conversion_that_is_repeated_keeps_its_report(tmp_path):
    path = own.folder(tmp_path / "mine", TABLE)
    first = own.zoo_of(path).conversion
    assert own.zoo_of(path).conversion == first


def run_of_ray(root, name, results, *, states=(0, 1), log="result.json", **parameters):
    """Write a run as Ray keeps it, with the text of its log."""
    folder = root / name
    for epoch in states:
        (folder / f"checkpoint_{epoch:06d}").mkdir(parents=True)
        content = ray.saved(own.state(epoch))
        (folder / f"checkpoint_{epoch:06d}" / "checkpoints").write_bytes(content)
    (folder / "params.json").write_text(json.dumps({"optim::lr": 0.1, **parameters}))
    if results is not None:
        (folder / log).write_text(results)


def lines(*accuracies):
    rows = [{"training_iteration": epoch, "test_acc": accuracy} for epoch, accuracy in enumerate(accuracies)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        lines(0.25, 0.5),
        lines(0.25, 0.5) + '{"training_iteration": 2, "test_a',
        lines(0.25, 0.5) + '{"training_iteration": 2, "config": {"a": 1',
        lines(0.25) + '{"training_iteration": 1, "test_a' + lines(0.25, 0.5).splitlines()[1] + "\n",  # resumed there
        lines(0.25, 0.125) + lines(0.25, 0.5),  # resumed from the beginning
        lines(0.25, 0.5) + "\0" * 512,  # the power went
        lines(0.25, 0.5).replace("\n", "\r\n"),
        "\n" + lines(0.25, 0.5) + "\n",
    ],
)
def test_a_log_that_was_cut_off_gives_its_whole_lines(tmp_path, text):
    run_of_ray(tmp_path / "zoo", "a", text)
    run_of_ray(tmp_path / "zoo", "b", lines(0.5, 0.75))
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    assert np.asarray(zoo.test_accuracy[:]).tolist() == [[0.25, 0.5], [0.5, 0.75]]
    is_cut = '"test_a' in text.replace('"test_acc"', "") or '"config"' in text
    assert any("cut off" in note for note in zoo.conversion.notes) == is_cut


@pytest.mark.parametrize("text", [lines(0.25) + "oops\n" + lines(0.5), "[1]\n" + lines(0.5), '{"a": 1}\n'])
def test_a_line_that_is_no_result_is_refused(tmp_path, text):
    run_of_ray(tmp_path / "zoo", "a", text)
    with pytest.raises(ZooError, match=r"a/result\.json: line [12] is no result with a training_iteration"):
        convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")


def test_a_run_without_results_and_one_with_a_progress_csv(tmp_path):
    run_of_ray(tmp_path / "zoo", "a", None)
    run_of_ray(tmp_path / "zoo", "b", "training_iteration,test_acc\n0,0.25\n1,0.5\n2,0.", log="progress.csv")
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    assert np.asarray(zoo.test_accuracy[1]).tolist() == [0.25, 0.5]
    assert np.isnan(np.asarray(zoo.test_accuracy[0])).all()
    assert "a: has no result.json, so that none of its states has metrics" in zoo.conversion.notes
    assert "test_accuracy is not measured, and so NaN, in 2 of 4 states" in zoo.conversion.notes


def test_parameters_with_names_of_the_zoos_own_get_others(tmp_path):
    run_of_ray(tmp_path / "zoo", "a", lines(0.25, 0.5), status="queued", model_id="m7", test_accuracy="last")
    run_of_ray(tmp_path / "zoo", "b", lines(0.5, 0.75), status="done", model_id="m8", test_accuracy="best")
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    assert verify(zoo.path, sample=0).findings == ()
    assert zoo.models["source.status"].to_pylist() == ["queued", "done"]
    assert zoo.models["source.model_id"].to_pylist() == ["m7", "m8"]
    assert zoo.models["source.test_accuracy"].to_pylist() == ["last", "best"]
    assert zoo.models["test_accuracy"].to_pylist() == [0.5, 0.75]


def test_accuracies_of_any_format_are_asked_about_above_1(tmp_path):
    run_of_ray(tmp_path / "zoo", "a", lines(25, 50))
    with pytest.raises(ZooError, match=r"test_accuracy of a at epoch 0 is 25; .*accuracies='percent'"):
        convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos", accuracies="percent")
    assert np.asarray(zoo.test_accuracy[:]).tolist() == [[0.25, 0.5]]


def test_runs_of_ray_kept_at_steps_of_their_own_take_one_place_a_state(tmp_path):
    for number in range(20):
        name, epoch = f"run_{number:02d}", 3 * number
        run_of_ray(tmp_path / "zoo", name, lines(*[0.01 * step for step in range(epoch + 1)]), states=(epoch,))
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    assert zoo.weights.shape == (20, 1, 8)
    assert zoo.test_accuracy[:, 0].tolist() == np.float32([0.03 * number for number in range(20)]).tolist()
    for number in (0, 7, 19):
        (bias,) = (tensor for tensor in zoo.state_dict(number).values() if tensor.ndim == 1)
        assert torch.equal(bias, own.state(3 * number)["fc.bias"])


def test_copies_of_runs_with_the_same_bytes_are_left_out_and_others_are_named(tmp_path):
    for name in ("a", "a - Copy", "b", "b (1)"):
        run_of_ray(tmp_path / "zoo", name, lines(0.25, 0.5), **({"optim::lr": 0.5} if name == "b (1)" else {}))
    zoo = convert(tmp_path / "zoo", tmp_path / "out", format="model_zoos")
    assert zoo.models["run"].to_pylist() == ["a", "b", "b (1)"]
    assert zoo.conversion.ignored["a - Copy/params.json"] == "a copy of a/params.json"
    assert (
        "b (1)/params.json looks like a copy of b/params.json, but differs from it; it was kept" in zoo.conversion.notes
    )


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("m (1).csv", "m.csv"),
        ("m(2).tar.gz", "m.tar.gz"),
        ("m - Kopie.csv", "m.csv"),
        ("m copy 2.csv", "m.csv"),
        ("m.sync-conflict-20260101-101010-ABC.csv", "m.csv"),
        ("m (Ada's conflicted copy 2026-01-01).csv", "m.csv"),
        ("m_conflict-20260101.csv", "m.csv"),
    ],
)
def test_copies_are_known_by_the_names_that_systems_give_them(name, original):
    assert foreign.copies([name, original]) == {name: original}
    assert foreign.copies([name]) == {}
