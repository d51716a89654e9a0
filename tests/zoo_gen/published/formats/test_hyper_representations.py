"""The .pt dumps of pickled data sets, written by classes that are gone before they are read."""

import sys
import types
from pathlib import PosixPath

import numpy as np
import pytest
import torch

from tests.zoo_gen.published import ray, small_cnn
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify


def pickled(path, module, name, instances):
    """Write a dump whose parts are instances of a class in a module that exists only while it is written."""
    whole = f"checkpoints_to_datasets.{module}"
    package, of_dataset = types.ModuleType("checkpoints_to_datasets"), types.ModuleType(whole)
    kind = type(name, (), {"__module__": whole, "__qualname__": name})
    setattr(of_dataset, name, kind)
    sys.modules |= {"checkpoints_to_datasets": package, whole: of_dataset}
    try:
        dump = {}
        for part, fields in instances.items():
            dump[part] = kind()
            vars(dump[part]).update(fields)
        torch.save(dump, path)
    finally:
        for each in ("checkpoints_to_datasets", whole):
            del sys.modules[each]
    return path


@pytest.fixture(scope="module")
def runs():
    return ray.zoo(small_cnn.noise(), n_runs=5, epochs=2)


def parts_of(runs, *, vectorised):
    """Rows as the public code gathers them: by run, then by epoch."""
    names = sorted({run for run, _ in runs.networks})
    chosen = {"trainset": [names[3], names[0], names[2]], "valset": [names[4]], "testset": [names[1]]}
    dump = {}
    for part, chosen_runs in chosen.items():
        rows = [(run, epoch) for run in chosen_runs for epoch in (0, 1, 2)]
        states = [runs.networks[row].state_dict() for row in rows]
        vectors = [torch.cat([value.reshape(-1) for value in state.values()]) for state in states]
        results = [runs.results[row] for row in rows]
        absolute = "/netscratch2/somebody"
        dump[part] = {
            "layer_lst": [(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")],
            "mode": "vector" if vectorised else "checkpoint",
            "data_in": torch.stack(vectors) if vectorised == "stacked" else vectors if vectorised else states,
            "data_out": vectors if vectorised else states,
            "labels_in": [f"{absolute}/{run}#_#epoch_{epoch}#_#layer_lst" for run, epoch in rows],
            "paths": [PosixPath(f"{absolute}/{run}") for run, _ in rows],
            "epochs": [epoch for _, epoch in rows],
            "weight_threshold": float("inf"),
            "properties": {
                "test_acc": [result["test_acc"] for result in results],
                "training_iteration": [epoch for _, epoch in rows],
                "ggap": [result["train_acc"] - result["test_acc"] for result in results],
                "model::nlin": [result["config"]["model::nlin"] for result in results],
                "seed": [result["config"]["seed"] for result in results],
            },
        }
    return chosen, dump


@pytest.mark.parametrize("vectorised", [False, True, "stacked"], ids=["state_dicts", "vectors", "stacked"])
@pytest.mark.parametrize(
    ("format_", "module", "name"),
    [
        ("hyper_representations", "dataset_simclr", "SimCLRDataset"),
        ("model_zoos", "dataset_base", "ModelDatasetBase"),
        ("hyper_representations", "dataset_of_another_paper", "AnotherDataset"),
    ],
)
def test_weights_labels_and_the_split_come_out_of_foreign_classes(tmp_path, runs, vectorised, format_, module, name):
    chosen, fields = parts_of(runs, vectorised=vectorised)
    dump = pickled(tmp_path / "dataset_31_f-mnist_seed.pt", module, name, fields)
    zoo = open_zoo(convert(dump, tmp_path / "zoo", format=format_))
    names = zoo.models["run"].to_pylist()
    assert sorted(names) == sorted(run.rpartition("/")[2] for run in {run for run, _ in runs.networks})
    for (run, epoch), network in runs.networks.items():
        model = names.index(run.rpartition("/")[2])
        assert all(map(torch.equal, zoo.state_dict(model, epoch).values(), network.state_dict().values()))
        stored = zoo.test_accuracy[model, zoo.checkpoint(epoch)]
        assert stored == np.float32(runs.results[run, epoch]["test_acc"])
    for part, theirs in (("train", "trainset"), ("validation", "valset"), ("test", "testset")):
        in_table = [names[model] for model in zoo.split(part, table="published")]
        assert in_table == [run.rpartition("/")[2] for run in chosen[theirs]]
    inputs = small_cnn.noise()["test"][0]
    run = chosen["testset"][0]
    module_ = zoo.module(names.index(run.rpartition("/")[2]), 2)
    torch.testing.assert_close(module_(inputs), runs.networks[run, 2](inputs))
    assert "netscratch" not in str(zoo.models.to_pydict())
    assert verify(zoo.path, sample=0).findings == ()


def test_the_repackaged_small_cnn_zoo_keeps_its_kernels_in_tensorflow_order(tmp_path, small_cnn_zoo):
    """Blocks are weight before bias there, but kernels are still (height, width, in, out)."""
    import pandas as pd

    runs = list(dict.fromkeys(row["modeldir"] for row in small_cnn_zoo.rows))
    fields = {}
    for part, chosen_runs in (("trainset", runs[:4]), ("valset", runs[4:5]), ("testset", runs[5:])):
        rows = [number for number, row in enumerate(small_cnn_zoo.rows) if row["modeldir"] in chosen_runs]
        w = small_cnn_zoo.weights[rows]
        blocks = [w[:, 16:160], w[:, :16], w[:, 176:2480], w[:, 160:176], w[:, 2496:4800], w[:, 2480:2496]]
        moved = np.concatenate([*blocks, w[:, 4810:], w[:, 4800:4810]], axis=1)
        steps = [int(small_cnn_zoo.rows[row]["step"]) for row in rows]
        dirs = [small_cnn_zoo.rows[row]["modeldir"] for row in rows]
        pairs = list(zip(dirs, steps, strict=True))
        fields[part] = {
            "data": torch.tensor(moved),
            "labels": [f"model_id-{chosen_runs.index(run)}_step-{step}_path-{run}" for run, step in pairs],
            "path_list": np.array(chosen_runs, dtype=object),
            "metrics": pd.DataFrame({"step": steps, "modeldir": dirs}),
            "properties": {
                "acc": [float(small_cnn_zoo.rows[row]["test_accuracy"]) for row in rows],
                "epochs": steps,
                "activation": pd.Series([small_cnn_zoo.activations[run] for run in dirs]),
            },
        }
    dump = pickled(tmp_path / "dataset_42_f-mnist_hyp.pt", "dataset_google_simclr", "GoogleDatasetSimCLR", fields)
    zoo = open_zoo(convert(dump, tmp_path / "zoo", format="hyper_representations"))
    assert zoo.models["run"].to_pylist() == runs
    for model, run in enumerate(runs):
        state = zoo.state_dict(model, 40)
        theirs = small_cnn_zoo.states[run, 40]
        assert torch.equal(state["convolution2.weight"], theirs["convolutions.1.weight"])
        assert torch.equal(state["convolution2.bias"], theirs["convolutions.1.bias"])
        assert torch.equal(state["linear1.weight"], theirs["dense.weight"])
    assert len(zoo.split("train", table="published")) == 4


def test_a_run_in_two_parts_is_refused(tmp_path, runs):
    _, fields = parts_of(runs, vectorised=True)
    both = fields["trainset"] | {"epochs": [7] * 9, "paths": [PosixPath(f"/x/{n}") for n in range(9)]}
    dump = pickled(tmp_path / "d.pt", "dataset_base", "ModelDatasetBase", {"trainset": both, "testset": both})
    with pytest.raises(ZooError, match=r"holds epoch 7 of 0 twice"):
        convert(dump, tmp_path / "zoo", format="hyper_representations")


@pytest.mark.parametrize("named_by", ["labels", "path_list"])
def test_the_networks_on_tetris_have_100_weights_and_no_bias(tmp_path, named_by):
    torch.manual_seed(4)
    fields, vectors = {}, {}
    for part, names in (("trainset", ["a", "b", "c"]), ("valset", ["d"]), ("testset", ["e"])):
        rows = [(name, epoch) for name in names for epoch in (0, 75)]
        for row in rows:
            vectors[row] = torch.randn(100)
        fields[part] = {
            "data": torch.stack([vectors[row] for row in rows]),
            "path_list": [PosixPath(f"/home/someone/zoo/{name}") for name in names],
            "properties": {"training_iteration": [epoch for _, epoch in rows], "acc": [0.25] * len(rows)},
        }
        if named_by == "labels":
            fields[part]["labels"] = [f"/home/someone/zoo/{name}#_#epoch_{epoch}#_#layer_x" for name, epoch in rows]
            fields[part]["path_list"] = fields[part]["path_list"][::-1]  # labels say more
    dump = pickled(tmp_path / "dataset_11_tetris_seed.pt", "dataset_simclr", "SimCLRDataset", fields)
    zoo = open_zoo(convert(dump, tmp_path / "zoo", format="hyper_representations"))
    assert zoo.manifest.architecture.name == "mlp"
    names = zoo.models["run"].to_pylist()
    for (name, epoch), vector in vectors.items():
        state = zoo.state_dict(names.index(name), epoch)
        assert torch.equal(state["linear1.weight"], vector[:80].reshape(5, 16))
        assert torch.equal(state["linear2.weight"], vector[80:].reshape(4, 5))
    with pytest.raises(ZooError, match="names no activation of this model"):
        zoo.module(0)


def test_dumps_of_colour_networks_and_other_lengths_are_read(tmp_path):
    fields = {
        "data": torch.arange(2 * 37.0).reshape(2, 37),
        "paths": [PosixPath("/x/a"), PosixPath("/x/b")],
        "epochs": [3, 3],
    }
    dump = pickled(tmp_path / "dataset_x.pt", "dataset_base", "ModelDatasetBase", {"trainset": fields})
    (tmp_path / "index_dict.json").write_text("{}")
    zoo = open_zoo(convert(dump, tmp_path / "zoo", format="hyper_representations"))
    assert zoo.state_dict(1)["vector.weight"].tolist() == list(range(37, 74))
