"""The Small CNN Zoo: every weight in its place, every number of the table, the papers' splits, whatever the archive."""

import random
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from tests.zoo_gen.published import small_cnn
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify


def converted(tmp_path, archive, **options):
    return open_zoo(convert(archive, tmp_path / "zoo", format="small_cnn_zoo", **options))


def rows_by_run(published):
    """Return the runs in order of first appearance, as the publication numbers nothing."""
    return list(dict.fromkeys(row["modeldir"] for row in published.rows))


def assert_equal(zoo, published, steps=small_cnn.STEPS):
    """Every checkpoint computes what the network that was published computes, and has its metrics."""
    runs = rows_by_run(published)
    inputs = small_cnn.noise()["test"][0]
    assert zoo.models["run"].to_pylist() == runs
    assert zoo.epochs.tolist() == sorted(steps)
    for model, run in enumerate(runs):
        for step in steps:
            network = small_cnn.Network(published.activations[run])
            network.load_state_dict(published.states[run, step])
            state = zoo.state_dict(model, step)
            for number in range(3):
                torch.testing.assert_close(
                    state[f"convolution{number + 1}.weight"],
                    network.convolutions[number].weight.detach(),
                    rtol=0,
                    atol=0,
                )
                assert torch.equal(state[f"convolution{number + 1}.bias"], network.convolutions[number].bias)
            assert torch.equal(state["linear1.weight"], network.dense.weight)
            assert torch.equal(state["linear1.bias"], network.dense.bias)
            torch.testing.assert_close(zoo.module(model, step)(inputs), network(inputs))
    metrics = {name: zoo.metric(name)[:] for name in ("test_accuracy", "test_loss", "train_accuracy", "train_loss")}
    for row in published.rows:
        model, checkpoint = runs.index(row["modeldir"]), sorted(steps).index(int(row["step"]))
        for name, values in metrics.items():
            assert values[model, checkpoint] == np.float32(row[name])


def assert_holds_the_same(zoo, expected):
    """A zoo has the models, checkpoints, weights and metrics of another."""
    assert zoo.models["run"].to_pylist() == expected.models["run"].to_pylist()
    assert zoo.epochs.tolist() == expected.epochs.tolist()
    for name in ("weights", "test_accuracy", "test_loss", "train_accuracy", "train_loss"):
        np.testing.assert_array_equal(zoo.array(name)[:], expected.array(name)[:], err_msg=name)


@pytest.fixture(scope="module")
def compared_zoo(tmp_path_factory, small_cnn_zoo):
    """The zoo of the published folder, every number of which has been compared; tests only read it."""
    place = tmp_path_factory.mktemp("compared")
    zoo = converted(place, small_cnn.folder(place, small_cnn.files(small_cnn_zoo)))
    assert_equal(zoo, small_cnn_zoo)
    return zoo


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "tar.xz", "zip deflated", "zip stored"])
def test_every_weight_and_metric_is_in_its_place_whatever_holds_the_files(tmp_path, small_cnn_zoo, compared_zoo, kind):
    files = small_cnn.files(small_cnn_zoo)
    if kind == "folder":
        archive = small_cnn.folder(tmp_path, files)
    elif kind.startswith("tar"):
        mode = "w:" + kind.removeprefix("tar").removeprefix(".")
        archive = small_cnn.tar(tmp_path / f"fashion_mnist.{kind}", files, mode=mode)
    else:
        how = zipfile.ZIP_STORED if kind.endswith("stored") else zipfile.ZIP_DEFLATED
        archive = small_cnn.zipped(tmp_path / "fashion_mnist.zip", files, compression=how)
    zoo = converted(tmp_path, archive)
    assert_holds_the_same(zoo, compared_zoo)
    assert verify(zoo.path, sample=0).findings == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {archive.name, "zoo", *_parent(archive, tmp_path)}
    )


def _parent(archive, tmp_path):
    return {archive.relative_to(tmp_path).parts[0]}


def test_a_simulated_archive_has_all_checkpoints_of_every_run(tmp_path):
    small_cnn.simulate(tmp_path, 3 * len(small_cnn.STEPS))
    zoo = converted(tmp_path / "converted", tmp_path)
    assert zoo.models["run"].to_pylist() == ["/cns/zoo/000000", "/cns/zoo/000001", "/cns/zoo/000002"]
    assert zoo.epochs.tolist() == list(small_cnn.STEPS)
    assert zoo.models["status"].to_pylist() == ["complete"] * 3


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_columns_may_come_in_any_order_with_others_between(tmp_path, small_cnn_zoo, compared_zoo, order, packed):
    columns = ["note", *small_cnn.COLUMNS][::-1]
    if order == "shuffled":
        random.Random(3).shuffle(columns)
    files = small_cnn.files(small_cnn_zoo, columns=columns, index=True, packed=packed)
    assert_holds_the_same(converted(tmp_path, small_cnn.folder(tmp_path, files)), compared_zoo)


def test_rows_may_come_in_any_order(tmp_path, small_cnn_zoo):
    order = np.random.RandomState(1).permutation(len(small_cnn_zoo.rows))
    mixed = small_cnn.Published(
        small_cnn_zoo.weights[order],
        [small_cnn_zoo.rows[row] for row in order],
        small_cnn_zoo.states,
        small_cnn_zoo.activations,
    )
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(mixed)))
    assert_equal(zoo, mixed)
    states = zoo.states.to_pandas()
    assert states["source_row"].tolist() == list(range(len(order)))
    assert states["source.step"].tolist() == [int(row["step"]) for row in mixed.rows]
    for row in (0, 7, 30):  # a published index finds its weights
        place = states.iloc[row]
        stored = np.asarray(zoo.weights[place["model_id"], zoo.checkpoint(place["epoch"])])
        assert np.array_equal(np.sort(stored), np.sort(mixed.weights[row]))


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
def test_weights_of_another_type_become_float32(tmp_path, small_cnn_zoo, dtype):
    files = small_cnn.files(small_cnn_zoo, weights=small_cnn_zoo.weights.astype(dtype))
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, files))
    first = zoo.state_dict(0, 86)["convolution1.bias"].numpy()
    run = rows_by_run(small_cnn_zoo)[0]
    expected = small_cnn_zoo.states[run, 86]["convolutions.0.bias"].numpy()
    assert np.array_equal(first, expected.astype(dtype).astype(np.float32))


def test_layout_without_prefix_and_suffix_is_read_too(tmp_path, small_cnn_zoo, compared_zoo):
    layout = small_cnn.LAYOUT.replace("sequential/", "").replace(":0,", ",")
    files = small_cnn.files(small_cnn_zoo, layout=layout)
    assert_holds_the_same(converted(tmp_path, small_cnn.folder(tmp_path, files)), compared_zoo)


def test_the_stored_permutation_gives_the_source_rows_back(small_cnn_zoo, compared_zoo):
    zoo = compared_zoo
    index = np.asarray(zoo.array("permutation")[:])
    back = np.empty(4970, np.float32)
    back[index] = zoo.weights[2, zoo.checkpoint(40)]
    row = next(
        number
        for number, row in enumerate(small_cnn_zoo.rows)
        if (row["modeldir"], row["step"]) == (rows_by_run(small_cnn_zoo)[2], "40")
    )
    assert np.array_equal(back, small_cnn_zoo.weights[row])


def test_missing_steps_and_numbers_that_are_none_keep_their_rows(tmp_path, small_cnn_zoo):
    runs = rows_by_run(small_cnn_zoo)
    stays = [r for r, row in enumerate(small_cnn_zoo.rows) if (row["modeldir"], row["step"]) != (runs[1], "60")]
    weights, rows = small_cnn_zoo.weights[stays].copy(), [dict(small_cnn_zoo.rows[r]) for r in stays]
    broken = next(n for n, row in enumerate(rows) if (row["modeldir"], row["step"]) == (runs[2], "80"))
    weights[broken, 100] = np.nan
    rows[broken] |= {"test_loss": "nan", "train_loss": ""}
    holed = small_cnn.Published(weights, rows, {}, {})
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(holed)))
    status = zoo.models["status"].to_pylist()
    assert status == ["complete", "partial", "diverged", "complete", "complete", "complete"]
    assert np.isnan(zoo.weights[1, zoo.checkpoint(60)]).all()
    assert np.isnan(zoo.test_loss[2, zoo.checkpoint(80)])
    assert np.isnan(zoo.metric("max_abs")[2, zoo.checkpoint(80)])
    assert np.isfinite(zoo.weights[2, zoo.checkpoint(86)]).all()
    with pytest.raises(ZooError, match="partial"):
        zoo.module(1, 60)
    assert len(zoo.states) == len(rows)
    assert verify(zoo.path, sample=0).findings == ()


def test_some_models_and_epochs_are_a_zoo_of_their_own(tmp_path, small_cnn_zoo):
    archive = small_cnn.folder(tmp_path, small_cnn.files(small_cnn_zoo))
    split = small_cnn.permutation_file(tmp_path / "p.csv", len(small_cnn_zoo.rows))
    whole = converted(tmp_path, archive, splits={"nfn": split})
    part = open_zoo(
        convert(
            archive,
            tmp_path / "part",
            format="small_cnn_zoo",
            epochs=[86, 0],
            models=[4, 1, 5],
            splits={"nfn": split},
        )
    )
    assert part.epochs.tolist() == [0, 86]
    assert part.models["source_model"].to_pylist() == [1, 4, 5]
    assert np.array_equal(part.weights[:], whole.view([1, 4, 5], [0, 86]).weights)
    for name in ("train", "validation", "test"):
        numbers = [part.models["source_model"].to_pylist()[model] for model in part.split(name, table="nfn")]
        assert numbers == [model for model in whole.split(name, table="nfn") if model in (1, 4, 5)]
    assert part.digest != whole.digest
    assert len(part.states) == 6
    assert verify(part.path, sample=0).findings == ()


# The splits, by code of their own: pandas as the public loaders use it.


def nfn_by_pandas(permutation, metrics):
    order = pd.read_csv(permutation, header=None).values.flatten()
    final = metrics.iloc[order]
    final = final[final["step"] == 86]
    half = int(0.5 * len(final))
    first = list(range(half))
    random.Random(0).shuffle(first)
    cut = int(0.8 * half)
    runs = final["modeldir"].tolist()
    return {
        "train": [runs[place] for place in first[:cut]],
        "validation": [runs[place] for place in first[cut:]],
        "test": runs[half:],
    }


@pytest.fixture(scope="module")
def split_zoo(tmp_path_factory):
    """Forty runs of two steps, with the split file of a paper."""
    root = tmp_path_factory.mktemp("splits")
    published = small_cnn.train(40, steps=(0, 86))
    permutation = small_cnn.permutation_file(root / "fashion_mnist_split.csv", len(published.rows), seed=5)
    archive = small_cnn.folder(root, small_cnn.files(published))
    zoo = open_zoo(convert(archive, root / "zoo", format="small_cnn_zoo", splits={"nfn": permutation}))
    return zoo, published, permutation, pd.read_csv(archive / "metrics.csv.gz", compression="gzip")


def test_the_split_of_nfn_is_the_published_procedure_with_its_stray_header(split_zoo):
    zoo, _, permutation, metrics = split_zoo
    runs = zoo.models["run"].to_pylist()
    for part, expected in nfn_by_pandas(permutation, metrics).items():
        assert [runs[model] for model in zoo.split(part, table="nfn")] == expected
        assert sorted(runs[model] for model in zoo.split(part)) == sorted(expected)  # also the split of the models


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_split_of_scalegmn_filters_after_the_cut(split_zoo, activation):
    zoo, published, permutation, metrics = split_zoo
    runs = zoo.models["run"].to_pylist()
    for part, expected in nfn_by_pandas(permutation, metrics).items():
        of_activation = [run for run in expected if published.activations[run] == activation]
        assert [runs[model] for model in zoo.split(part, table=f"scalegmn_{activation}")] == of_activation


def test_the_run_wise_split_shuffles_unique_runs_with_seed_42(split_zoo):
    zoo, _, _, metrics = split_zoo
    paths = metrics.modeldir.unique()
    order = list(range(len(paths)))
    random.seed(42)
    random.shuffle(order)
    first, second = int(0.7 * len(order)), int(0.7 * len(order)) + int(0.15 * len(order))
    parts = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    for part, expected in parts.items():
        in_table = zoo.models["run"].take(zoo.split(part, table="hyper_representations")).to_pylist()
        assert in_table == [paths[place] for place in expected]


def test_a_split_file_that_is_no_permutation_is_refused(tmp_path, small_cnn_zoo):
    archive = small_cnn.folder(tmp_path, small_cnn.files(small_cnn_zoo))
    short = small_cnn.permutation_file(tmp_path / "short.csv", len(small_cnn_zoo.rows) - 1)
    with pytest.raises(ZooError, match=r"short\.csv: holds 54 numbers; expected a permutation of the 54 rows"):
        converted(tmp_path, archive, splits={"nfn": short})


def test_a_changed_split_table_is_found(tmp_path, small_cnn_zoo):
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(small_cnn_zoo)))
    table = pd.read_parquet(zoo.path / "splits" / "hyper_representations.parquet")
    table.loc[0, "part"] = "test"
    table.to_parquet(zoo.path / "splits" / "hyper_representations.parquet", index=False)
    with pytest.raises(ZooError, match="is not the split"):
        open_zoo(zoo.path).split("train", table="hyper_representations")
    assert verify(zoo.path, sample=0).findings


def test_an_interrupted_conversion_goes_on_where_it_was(tmp_path, small_cnn_zoo, compared_zoo):
    archive = small_cnn.folder(tmp_path, small_cnn.files(small_cnn_zoo))

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted(tmp_path, archive, progress=interrupt)
    begun = open_zoo(tmp_path / "zoo")
    assert 0 < len(begun.complete_shards) < begun.extent.n_shards
    times = {path: path.stat().st_mtime_ns for path in (begun.path / "models").iterdir()}
    zoo = converted(tmp_path, archive)
    assert zoo.complete
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert_holds_the_same(zoo, compared_zoo)


def test_another_archive_does_not_go_into_the_same_zoo(tmp_path, small_cnn_zoo):
    converted(tmp_path, small_cnn.folder(tmp_path / "one", small_cnn.files(small_cnn_zoo)))
    other = small_cnn.files(small_cnn_zoo, columns=small_cnn.COLUMNS[:10] + small_cnn.COLUMNS[12:])
    with pytest.raises(ZooError, match="holds the zoo 'fashion_mnist' of another archive"):
        converted(tmp_path, small_cnn.folder(tmp_path / "two", other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights.npy": None}, r"expected one weights\.npy, found none"),
        ({"metrics.csv.gz": None}, r"expected one metrics\.csv\.gz, found none"),
        (
            {"layout.csv": b"varname,start_idx,end_idx,shape\na/bias,0,16,(16)\n"},
            "describes other than the 4,970 columns",
        ),
        ({"layout.csv": b"varname,shape\na,(16)\n"}, "has no column 'start_idx'"),
        ({"metrics.csv.gz": b"\x1f\x8bnot gzip"}, "is damaged"),
        ({"metrics.csv.gz": b"step,modeldir\n0,a\n0,a\n"}, "expected 2 rows"),
    ],
)
def test_what_is_not_as_published_is_said_in_one_line(tmp_path, small_cnn_zoo, change, message):
    files = small_cnn.files(small_cnn_zoo) | change
    archive = small_cnn.folder(tmp_path, {name: data for name, data in files.items() if data is not None})
    with pytest.raises(ZooError, match=message) as error:
        converted(tmp_path, archive)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "zoo").exists()


# The functional proof, on the real images.


@pytest.fixture(scope="module")
def proven(tmp_path_factory, fashion):
    """Four runs really trained on Fashion-MNIST in [-1, 1], converted."""
    images = {part: (2 * pixels - 1, labels) for part, (pixels, labels) in fashion.items()}
    published = small_cnn.train(4, images=images, steps=(0, 1, 2, 86))
    root = tmp_path_factory.mktemp("proof")
    return published, root


def test_accuracies_are_computed_again_from_the_weights(proven, tmp_path, images_root):
    published, _ = proven
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(published)))
    report = verify(zoo.path, sample=16, data_root=images_root)
    assert report.findings == ()
    assert report.notes == ()
    assert report.evaluated_checkpoints == 16
    assert max(float(row["test_accuracy"]) for row in published.rows) > 0.6  # they have learned something


@pytest.mark.parametrize("scramble", ["kernel axes", pytest.param("channels", marks=pytest.mark.thorough)])
def test_a_kernel_in_the_wrong_order_is_caught(proven, tmp_path, images_root, scramble):
    published, _ = proven
    weights = published.weights.copy()
    kernels = weights[:, 176:2480].reshape(-1, 3, 3, 16, 16)
    wrong = kernels.transpose(0, 1, 2, 4, 3) if scramble == "kernel axes" else kernels[..., ::-1, :]
    weights[:, 176:2480] = wrong.reshape(len(weights), -1)
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(published, weights=weights)))
    report = verify(zoo.path, sample=16, data_root=images_root)
    assert sum("its weights give test_accuracy" in line for line in report.findings) >= 8


def test_fewer_images_than_were_measured_on_prove_nothing_and_it_is_said(proven, tmp_path, images_root):
    published, _ = proven
    rows = [row | {"test_accuracy": repr(0.30007 + number / 10_000)} for number, row in enumerate(published.rows)]
    other = small_cnn.Published(published.weights, rows, {}, {})
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(other)))
    report = verify(zoo.path, sample=8, data_root=images_root)
    assert report.findings == ()
    assert "2,000 test images are there" in report.notes[0]


def test_images_scaled_in_another_usual_way_are_found_out(proven, fashion, tmp_path, images_root):
    images = {part: (pixels, labels) for part, (pixels, labels) in fashion.items()}  # in [0, 1]
    published = small_cnn.train(2, images=images, steps=(0, 1, 86))
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(published)))
    report = verify(zoo.path, sample=6, data_root=images_root)
    assert report.findings == ()
    assert report.notes == ("the accuracies are those of images scaled as mean 0.0, deviation 1.0, not as documented",)


def test_without_the_images_bytes_alone_are_checked_and_it_is_said(proven, tmp_path):
    published, _ = proven
    zoo = converted(tmp_path, small_cnn.folder(tmp_path, small_cnn.files(published)))
    with pytest.raises(ZooError, match=r"no images of FashionMNIST in .*; expected them there, or sample=0"):
        verify(zoo.path, data_root=tmp_path)
