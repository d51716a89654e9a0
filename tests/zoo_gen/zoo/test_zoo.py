import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import begin, files_of
from zoo_gen import engine, load_image_data, open_zoo, open_zoos
from zoo_gen.errors import ZooError


def test_every_checkpoint_as_a_plain_module_has_exactly_its_stored_accuracy(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    data = load_image_data(zoo.manifest.data)
    for part, stored in (("train", zoo.train_accuracy[:]), ("test", zoo.test_accuracy[:])):
        images, labels = data.tensors(part)
        for model in range(40):
            for checkpoint, epoch in enumerate(zoo.epochs.tolist()):
                with torch.no_grad():
                    right = zoo.module(model, epoch)(images).argmax(dim=1) == labels
                assert right.float().mean().item() == stored[model, checkpoint]


def test_stored_losses_are_those_of_the_plain_module(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    images, labels = load_image_data(zoo.manifest.data).tensors("test")
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(zoo.module(7)(images), labels)
    np.testing.assert_allclose(zoo.test_loss[7, -1], loss, rtol=1e-5)


def test_the_table_is_one_row_a_model_and_becomes_a_data_frame(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    frame = zoo.models.to_pandas()
    assert frame["model_id"].tolist() == list(range(40))
    gap = frame["train_accuracy"] - frame["test_accuracy"]
    np.testing.assert_allclose(frame["generalization_gap"], gap, atol=1e-7)
    assert {name: len(zoo.split(name)) for name in ("train", "validation", "test")} == {
        "train": 24,
        "validation": 8,
        "test": 8,
    }


def test_a_column_is_that_of_the_table_whether_it_was_read_or_not(tiny_zoo):
    zoo, read = open_zoo(tiny_zoo), open_zoo(tiny_zoo)
    for name in read.models.column_names:
        assert zoo.column(name).equals(read.models[name])
        assert read.column(name).equals(read.models[name])
    assert "whole" not in zoo._table.__dict__
    with pytest.raises(ZooError, match="its table of models has no column 'rate'"):
        zoo.column("rate")


def test_weights_are_lazy_and_agree_with_the_state_dict(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    assert not isinstance(zoo.weights, np.ndarray)
    flat = torch.cat([tensor.flatten() for tensor in zoo.state_dict(3, 2).values()])
    np.testing.assert_array_equal(flat, zoo.weights[3, 2])
    assert list(zoo.state_dict(3)) == ["linear1.weight", "linear2.weight"]


def test_a_view_picks_models_and_epochs_in_the_order_asked(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    models, epochs = [39, 0, 13, 12], [4, 1]
    view = zoo.view(models, epochs)
    np.testing.assert_array_equal(view.weights, zoo.weights[:][np.ix_(models, epochs)])
    np.testing.assert_array_equal(view.metric("test_class_f1"), zoo.test_class_f1[:][np.ix_(models, epochs)])
    gap = (zoo.train_accuracy[:] - zoo.test_accuracy[:])[np.ix_(models, epochs)]
    np.testing.assert_array_equal(view.metric("generalization_gap"), gap)
    assert view.hyperparameter("seed").tolist() == [5, 1, 4, 3]
    assert view.epochs.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda zoo: zoo.split("tset"), "unknown part of the split 'tset'; did you mean 'test'?"),
        (lambda zoo: zoo.state_dict(0, 9), "no checkpoint of epoch 9; kept are 0, 1, 2, 3, 4, last 4"),
        (lambda zoo: zoo.module(40), "model 40 does not exist; the zoo has 0 to 39"),
        (lambda zoo: zoo.module(-1), "model -1 does not exist"),
        (lambda zoo: zoo.view([1]).metric("loss"), "unknown metric 'loss'"),
        (lambda zoo: zoo.view([1]).hyperparameter("rate"), "unknown column 'rate'"),
    ],
)
def test_what_is_not_there_is_named(tiny_zoo, ask, message):
    with pytest.raises(ZooError) as error:
        ask(open_zoo(tiny_zoo))
    assert message in str(error.value)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ZooError, match="no such folder; expected a zoo"):
        open_zoo(tmp_path / "none")


def test_a_zoo_in_the_making_shows_what_is_complete(tmp_path, tiny_manifest):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    assert len(open_zoo(folder).models) == 0
    assert open_zoo(folder).revision == ""
    engine.train_shards(folder, [1])
    zoo = open_zoo(folder)
    assert not zoo.complete
    assert zoo.models["model_id"].to_pylist() == list(range(12, 24))
    assert np.isfinite(zoo.view([13]).weights).all()
    with pytest.raises(ZooError, match="model 0 is not complete yet"):
        zoo.module(0)


def test_a_diverged_model_keeps_its_row_and_says_so(tmp_path, tiny_manifest):
    text = tiny_manifest.read_text().replace("[1e-2, 3e-2]", "[1e-2, 1e20]").replace('["adam", "sgd"]', '["sgd"]')
    tiny_manifest.write_text(text)
    engine.run(tiny_manifest, tmp_path / "zoo", workers=1)
    zoo = open_zoo(tmp_path / "zoo")
    frame = zoo.models.to_pandas()
    diverged = frame["status"] == "diverged"
    assert len(frame) == 20
    assert diverged.any()
    assert not diverged[frame["learning_rate"] < 1].any()
    assert frame["test_accuracy"].isna().equals(diverged)
    model = int(frame["model_id"][diverged].iloc[0])
    zoo.module(model, 0)
    with pytest.raises(ZooError, match=f"model {model} has no weights at epoch 4; it diverged"):
        zoo.module(model)


def test_the_revision_follows_the_content(tmp_path, tiny_zoo, tiny_manifest):
    engine.run(tiny_manifest, tmp_path / "same", workers=1)
    assert open_zoo(tmp_path / "same").revision == open_zoo(tiny_zoo).revision
    tiny_manifest.write_text(tiny_manifest.read_text().replace("batch_size = 32", "batch_size = 31"))
    engine.run(tiny_manifest, tmp_path / "other", workers=1)
    assert open_zoo(tmp_path / "other").revision != open_zoo(tiny_zoo).revision


def test_reading_does_not_import_torch(tiny_zoo):
    code = f"""
import sys
from zoo_gen import open_zoo
zoo = open_zoo({str(tiny_zoo)!r})
zoo.models.to_pandas(), zoo.weights[0], zoo.test_accuracy[:], zoo.split("train"), zoo.view([1]).weights
assert "torch" not in sys.modules and "joblib" not in sys.modules and "sklearn" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, r"weights/c/1: is damaged .* delete models/part-00001\.parquet, and the command that made"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), r"weights/c/1: is damaged"),
        (lambda path: path.write_bytes(b""), r"weights/c/1: is .* delete models/part-00001"),
        (lambda path: path.unlink(), r"weights/c/1/0/0: is missing; delete models/part-00001\.parquet"),
    ],
)
def test_damaged_weights_are_named_and_can_be_made_anew(tmp_path, tiny_zoo, tiny_manifest, damage, message):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    damage(folder / "weights.zarr" / "weights" / "c" / "1" / "0" / "0")
    zoo = open_zoo(folder)
    assert np.isfinite(zoo.view(range(12)).weights).all()  # the other shards are well
    with pytest.raises(ZooError, match=message):
        zoo.view(range(40)).weights  # noqa: B018
    with pytest.raises(ZooError, match=message):
        zoo.module(12)
    (folder / "models" / "part-00001.parquet").unlink()
    engine.run(tiny_manifest, folder, workers=1)
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_part_with_the_models_of_another_shard_is_refused_and_one_beyond_the_last_is_none(tmp_path, tiny_zoo):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    parts = folder / "models"
    shutil.copyfile(parts / "part-00002.parquet", parts / "part-00001.parquet")
    with pytest.raises(ZooError, match=r"part-00001\.parquet: does not hold the models of shard 1"):
        open_zoo(folder).models  # noqa: B018
    (parts / "part-00001.parquet").rename(parts / "part-00009.parquet")
    zoo = open_zoo(folder)
    assert not zoo.complete  # four parts, but not the four shards
    assert zoo.models["model_id"].to_pylist() == [*range(12), *range(24, 40)]


def test_an_array_that_cannot_be_read_is_named(tmp_path, tiny_zoo):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    (folder / "weights.zarr" / "test_loss" / "zarr.json").write_text("{")
    with pytest.raises(ZooError, match=r"weights\.zarr/test_loss: cannot be read as a Zarr array"):
        open_zoo(folder).test_loss  # noqa: B018


def test_a_part_with_other_columns_is_named(tmp_path, tiny_zoo):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    part = folder / "models" / "part-00002.parquet"
    pq.write_table(pq.read_table(part).drop_columns("sha256"), part)
    with pytest.raises(ZooError, match=r"part-00002\.parquet: has other columns than the first part"):
        open_zoo(folder).models  # noqa: B018


@pytest.mark.parametrize("name", ["weights", "test_accuracy"])
def test_what_a_view_gives_cannot_be_written_to(tiny_zoo, name):
    view = open_zoo(tiny_zoo).view([0, 20])
    values = view.weights if name == "weights" else view.metric(name)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


@pytest.mark.parametrize("models", [np.arange(40) < 3, [1.5], 3, slice(0, 3)], ids=["mask", "float", "number", "slice"])
def test_models_that_are_no_list_of_numbers_are_refused(tiny_zoo, models):
    """A mask would otherwise be read as the numbers 0 and 1, and a fraction would be cut off."""
    for zoo in (open_zoo(tiny_zoo), open_zoos([tiny_zoo])):
        with pytest.raises(ZooError, match=r"got models as .*; expected a list of their numbers"):
            zoo.view(models)
        assert zoo.view([]).weights.shape[0] == 0


def test_an_unknown_array_is_answered_with_the_known_ones(tiny_zoo):
    with pytest.raises(ZooError, match=r"unknown array 'test_f1'; .*valid: .*test_class_f1"):
        open_zoo(tiny_zoo).array("test_f1")


def test_each_valid_name_stands_once(tiny_zoo):
    with pytest.raises(ZooError, match="unknown target 'foo'") as refusal:
        open_zoo(tiny_zoo).torch_dataset("train", target="foo")
    names = str(refusal.value).partition("valid: ")[2].split(", ")
    assert len(names) == len(set(names))


def test_a_text_is_no_list_of_zoos(tiny_zoo):
    with pytest.raises(ZooError, match=r"open_zoos: got .*; expected a list of zoos"):
        open_zoos(str(tiny_zoo))


@pytest.fixture(params=[pytest.param(True, id="lists folders"), pytest.param(False, id="lists none")])
def web_address(tiny_zoo, request) -> Iterator[str]:
    """The address of a zoo on Python's web server, which answers ranges with whole files."""

    class Handler(SimpleHTTPRequestHandler):
        def list_directory(self, path: object) -> object:
            if request.param:
                return super().list_directory(path)
            return self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tiny_zoo)) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{started.server_port}"
        started.shutdown()


def test_a_web_server_that_answers_ranges_with_whole_files_serves_a_zoo(tiny_zoo, web_address):
    zoo, local = open_zoo(web_address), open_zoo(tiny_zoo)
    assert np.array_equal(zoo.weights[3], local.weights[3])
    assert np.array_equal(zoo.view([3], epochs=[0]).weights, local.view([3], epochs=[0]).weights)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_of_a_loader_read_a_zoo_on_a_web_server(web_address):
    zoo = open_zoo(web_address)
    assert zoo.weights[0].size  # the client of this process is in use
    samples = zoo.torch_dataset("train", memory=0)
    loader = torch.utils.data.DataLoader(samples, batch_size=64, num_workers=1, multiprocessing_context="fork")
    assert sum(len(weights) for weights in loader) == len(samples)


def test_a_zoo_that_was_opened_by_a_relative_path_is_read_from_another_folder(tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_zoo.parent)
    zoo, in_two, untouched = open_zoo("tiny"), open_zoos(["tiny"]), open_zoo("tiny")
    weights = zoo.weights
    assert str(zoo.path) == "tiny"
    assert repr(zoo).startswith("<Zoo tiny at tiny:")
    with pytest.raises(ZooError, match=r"^tiny: unknown array"):
        zoo.array("wieghts")
    monkeypatch.chdir(tmp_path)
    expected = open_zoo(tiny_zoo)
    for array in (weights, zoo.weights, untouched.weights):
        np.testing.assert_array_equal(array[:], expected.weights[:])
    assert untouched.models.equals(expected.models)
    assert untouched.facts() == expected.facts()
    assert untouched.complete
    np.testing.assert_array_equal(in_two.view([0]).weights, expected.view([0]).weights)
    assert untouched.path == tiny_zoo
