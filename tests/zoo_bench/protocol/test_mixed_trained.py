"""A mixed zoo that was trained here, by the shipped recipe cut down, under the standard protocol."""

import re
from pathlib import Path

import numpy as np
import pytest

import zoo_bench
from zoo_bench.evaluation import run
from zoo_bench.protocol import protocols
from zoo_bench.protocol.parts import models_of
from zoo_bench.protocol.standard import standard_benchmark
from zoo_bench.protocol.targets import targets
from zoo_bench.protocol.views import TrainingView
from zoo_gen import engine, open_zoo, open_zoos, split
from zoo_gen.manifest import find_manifest
from zoo_gen.zoo import Zoo

CUTS = {
    'source = "idx"': 'source = "synthetic"',
    'folder = "mnist-10k"\nnormalize = "symmetric"': "image_shape = [1, 12, 12]",
    "train_size = 1_000": "train_size = 60",
    "test_size = 500": "test_size = 40",
    "count = 8": "count = 3",
    "channels = .*": "channels = [2, 3]",
    "parameters = .*": "parameters = [80, 2_000]",
    "epochs = 10\n": "epochs = 2\n",
    "batch_size = 32": "batch_size = 10",
    r"epochs = \[.*\]": "epochs = [0, 1, 2]",
    "train_images = 500\n": "",
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    """36 models of three architectures."""
    text = find_manifest("mini_mnist_mixed_cnn").read_text()
    for pattern, instead in CUTS.items():
        text, count = re.subn(pattern, instead, text, count=1)
        assert count == 1, pattern
    folder = tmp_path_factory.mktemp("mixed") / "zoo"
    folder.with_suffix(".toml").write_text(text)
    engine.run(folder.with_suffix(".toml"), folder, workers=1, progress=False)
    return open_zoo(folder)


def test_the_standard_protocol_asks_for_everything_but_the_architecture(zoo):
    benchmark = standard_benchmark(zoo)
    assert {"test_accuracy", "learning_rate", "dropout", "optimizer"} < set(benchmark.targets)
    assert "architecture" not in benchmark.targets
    every = benchmark.model_copy(update={"targets": ("hyperparameters",)})
    assert "architecture" not in {target.name for target in targets(every, zoo)}


def test_encoders_get_a_view_of_each_architecture_that_computes_its_models(zoo):
    import torch

    (cell,) = protocols.cells(standard_benchmark(zoo), [zoo])
    names = zoo.models["architecture"].to_pylist()
    inputs = torch.rand(5, 1, 12, 12)
    for views in (cell.train, cell.validation, cell.tests[0].views):
        assert len(views) == 3
        for view in views:
            assert len({names[model] for model in view.models.tolist()}) == 1
            shown = TrainingView.of(view)
            outputs = shown.forward(inputs)
            assert len(outputs) == len(view.models) * 3
            module = zoo.module(int(view.models[0]), epoch=2)
            torch.testing.assert_close(outputs[2], module(inputs), rtol=1e-4, atol=1e-5)
            assert len(shown.tensors()) == len(shown.layout.layers)
    assert set(models_of(cell.train)) == set(zoo.split("train"))


def test_baselines_sne_and_floors_are_evaluated(zoo, tmp_path):
    benchmark = standard_benchmark(zoo).model_copy(update={"targets": ("test_accuracy",)})
    encoders = ["pooled_layer_statistics", "sne_small[steps=4,width=8,heads=2]"]
    results = list(run.run(benchmark, encoders, zoos=[zoo], results=tmp_path, seeds=[0]))
    assert [result.encoder for result, _ in results] == encoders
    assert [problems for _, problems in zoo_bench.validate(tmp_path, zoos=Path(zoo.path).parent)] == [[], []]
    table = zoo_bench.load_results(tmp_path).to_pandas()
    r2 = table[(table["metric"] == "r2") & table["encoder"].isin(encoders)]
    assert set(r2["encoder"]) == set(encoders)
    assert np.isfinite(r2["value"]).all()


def test_two_architectures_of_one_layout_stay_apart_in_zoos_read_as_one(tmp_path):
    """They differ in stride alone, so that only their layers tell which of them a model is."""
    text = """
name = "strides"
[data]
source = "synthetic"
image_shape = [1, 8, 8]
n_classes = 3
train_size = 20
test_size = 10
[training]
epochs = 1
batch_size = 10
activation = "relu"
optimizer = "sgd"
learning_rate = 0.1
initialization = "he_normal"
[axes]
product.seed = [1, 2, 3, 4]
[architecture]
name = "mixed"
[architecture.named]
one = { name = "layers", layers = [
  { type = "convolution", channels = 2, kernel = 3 }, { type = "activation" },
  { type = "global_average_pooling" }, { type = "linear", units = 3 } ] }
two = { name = "layers", layers = [
  { type = "convolution", channels = 2, kernel = 3, stride = 2 }, { type = "activation" },
  { type = "global_average_pooling" }, { type = "linear", units = 3 } ] }
"""
    import torch

    (tmp_path / "strides.toml").write_text(text)
    engine.run(tmp_path / "strides.toml", tmp_path / "strides", workers=1, progress=False)
    few = split(tmp_path / "strides", tmp_path / "few", where={"seed": [1, 2]}, rest=tmp_path / "others")
    joint = open_zoos([few, tmp_path / "others"])
    inputs = torch.rand(4, 1, 8, 8)
    for architecture in set(joint.models["architecture"].to_pylist()):
        (models,) = np.nonzero(np.array(joint.models["architecture"].to_pylist()) == architecture)
        outputs = TrainingView.of(joint.view(models, [1])).forward(inputs)
        assert len(models) == 4
        for row, model in enumerate(models.tolist()):
            zoo, number = joint._arrays.owner(model)
            torch.testing.assert_close(outputs[row], zoo.module(number)(inputs), rtol=1e-4, atol=1e-5)
