"""Small Transformer Zoo: archives of networks that are written here in plain torch, with the published names."""

import csv
import io
import math
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tests.zoo_gen.published.ray import convert
from zoo_bench.evaluation import run as evaluation
from zoo_bench.protocol.zoos import read_benchmark
from zoo_gen import ZooError, open_zoo
from zoo_gen.cli.main import main

WIDTH, HEADS = 8, 2


class Products(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.keys, self.values, self.out_projection = (
            nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4)
        )

    def forward(self, tokens):
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)) for layer in (self.queries, self.keys, self.values)
        )
        scores = torch.einsum("iqhu,ikhu->ihqk", query, key) / math.sqrt(WIDTH // HEADS)
        return self.out_projection(torch.einsum("ihqk,ikhu->iqhu", scores.softmax(3), value).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.fc1, self.fc2 = Products(), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, tokens):
        normed = nn.functional.layer_norm(self.attention(nn.functional.layer_norm(tokens, (WIDTH,))), (WIDTH,))
        return self.fc2(torch.relu(self.fc1(normed)))


class Network(nn.Module):
    """The vision transformer, or the one of texts, which is saved without its embedding."""

    def __init__(self, *, classes=10, images=True):
        super().__init__()
        if images:
            self.embedding = nn.Module()
            self.embedding.pos_embedding = nn.Parameter(self.codes(49), requires_grad=False)
            self.embedding.conv1 = nn.Conv2d(1, WIDTH, 4, stride=4)
        self.encoder = nn.ModuleList([Block(), Block()])
        self.classifier = nn.Module()
        self.classifier.fc1, self.classifier.fc2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, classes)

    @staticmethod
    def codes(steps):
        rates = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10_000.0) / WIDTH))
        angles = torch.arange(steps).unsqueeze(1) * rates
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    def forward(self, images):
        tokens = self.embedding.conv1(images).flatten(2).transpose(1, 2) + self.embedding.pos_embedding
        for block in self.encoder:
            tokens = block(tokens)
        pooled = nn.functional.layer_norm(tokens, (WIDTH,)).mean(dim=1)
        return self.classifier.fc2(torch.relu(self.classifier.fc1(pooled)))


def published(folder, *, images=True, states=(("aa", 1), ("aa", 50), ("bb", 1), ("bb", 75)), more=1):
    """Write states as the public code does; return them by run and epoch."""
    data, nets = "mnist" if images else "ag_news", {}
    (folder / data).mkdir(parents=True)
    rows = []
    for number, (run, epoch) in enumerate(states):
        torch.manual_seed(number)
        net = nets[run, epoch] = Network(images=images, classes=10 if images else 4).eval()
        accuracy = 1000 + more * number
        name = f"{data}/{run}_{epoch}_{accuracy}.pt"
        torch.save(net.state_dict(), folder / name)
        rows.append(
            {"ckpt_epoch": epoch, "ckpt_file": name, "optimizer": "sgd_momentum" if run == "aa" else "adam",
             "lr": 0.01, "w_init_std": 0.2, "l2_regularize": 1e-6, "train_fraction": 0.9, "dropout": 0.1,
             "n_attention_heads": HEADS, "test_top1_accuracy": accuracy / 10_000}
        )  # fmt: skip
    torch.save(net.state_dict(), folder / data / f"bb_best{1 if images else ''}_4321.pt")
    (folder / "metadata").mkdir()
    with (folder / "metadata" / f"{data}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return nets


def test_converted_transformers_compute_what_the_published_ones_compute(tmp_path):
    nets = published(tmp_path / "archive")
    convert(tmp_path / "archive", tmp_path / "zoo", format="small_transformer_zoo")
    zoo = open_zoo(tmp_path / "zoo")
    images = torch.randn(5, 1, 28, 28)
    table = zoo.models.to_pylist()
    assert [row["run"] for row in table] == ["aa", "bb"]
    assert zoo.epochs.tolist() == [1, 50, 75]
    for (run, epoch), net in nets.items():
        model = next(row["model_id"] for row in table if row["run"] == run)
        with torch.no_grad():
            torch.testing.assert_close(zoo.module(model, epoch)(images), net(images), rtol=1e-5, atol=1e-6)
    accuracies = [row["best_accuracy"] for row in table]
    assert accuracies == [None, pytest.approx(0.4321)]
    assert [row["optimizer"] for row in table] == ["momentum", "adam"]
    assert {row["learning_rate"] for row in table} == {0.01}
    assert {row["weight_decay"] for row in table} == {1e-6}
    assert {row["initialization_deviation"] for row in table} == {0.2}
    np.testing.assert_allclose(zoo.view([0], [1, 50]).metric("test_accuracy"), [[0.1, 0.1001]])
    np.testing.assert_allclose(zoo.view([1], [1, 75]).metric("test_accuracy"), [[0.1002, 0.1003]])


def test_texts_lack_their_embedding_and_keep_their_reorderings(tmp_path):
    nets = published(tmp_path / "archive", images=False)
    torch.save({"embedding.weight": torch.zeros(3, WIDTH)}, tmp_path / "archive" / "ag_news" / "embedding.pt")
    convert(tmp_path / "archive", tmp_path / "zoo", format="small_transformer_zoo")
    zoo = open_zoo(tmp_path / "zoo")
    state = nets["aa", 50].state_dict()
    expected = np.concatenate([tensor.numpy().ravel() for tensor in state.values()])
    np.testing.assert_array_equal(zoo.view([0], [50]).weights[0, 0], expected)
    names = {symmetry.layer for symmetry in zoo.layout.symmetries}
    assert {"attention1.heads", "attention2.value[4:8]", "linear1"} <= names


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda state: state | {"encoder.0.norm1.weight": torch.ones(WIDTH)}, "other names or shapes"),
        (lambda state: state | {"embedding.pos_embedding": torch.zeros(49, WIDTH)}, "no sines; expected fixed codes"),
        (lambda state: {"fc.weight": torch.ones(2, 2)}, "expected a transformer as published"),
    ],
)
def test_what_is_no_such_transformer_is_refused(tmp_path, broken, message):
    folder = tmp_path / "archive"
    folder.mkdir()
    torch.save(broken(Network().state_dict()), folder / "aa_1_1000.pt")
    with pytest.raises(ZooError, match=message):
        convert(folder, tmp_path / "zoo", format="small_transformer_zoo")


def test_a_name_without_run_and_epoch_is_refused(tmp_path):
    torch.save(Network().state_dict(), tmp_path / "model.pt")
    with pytest.raises(ZooError, match="expected a name such as"):
        convert(tmp_path, tmp_path / "zoo", format="small_transformer_zoo")


def test_the_published_archive_is_pulled_with_its_table_and_evaluated_by_accuracy(hub, tmp_path):
    """A zip and the CSV beside it, as the repository has them; epoch 75 alone, as the authors evaluate."""
    states = [("run00", 1), *((f"run{number:02d}", 75) for number in range(60))]
    nets = published(tmp_path / "archive", states=states, more=140)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted((tmp_path / "archive" / "mnist").iterdir()):
            file.write(path, f"MNIST-Transformers/mnist/{path.name}")
    table = (tmp_path / "archive" / "metadata" / "mnist.csv").read_bytes()
    others = {"AG-News-Transformers.zip": b"", "ag_news.csv": b"", "README.md": b""}
    hub.add(
        "anonymized-acamedia/Small-Transformer-Zoo",
        {"MNIST-Transformers.zip": packed.getvalue(), "mnist.csv": table, **others},
    )
    out = tmp_path / "zoos" / "small_transformer_zoo_mnist_published"
    pulled = ["pull", "small_transformer_zoo/mnist", "--epochs", "75", "--cache", str(tmp_path / "cache")]
    for command in ([*pulled, "--out", str(out)], ["verify", str(out), "--sample", "0"]):
        answer = CliRunner().invoke(main, command)
        assert answer.exit_code == 0, answer.output
    zoo = open_zoo(out)
    assert (len(zoo.models), zoo.epochs.tolist()) == (60, [75])
    assert set(zoo.models.column("optimizer").to_pylist()) == {"adam"}  # which the table beside the zip says
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(zoo.module(7, 75)(images), nets["run07", 75](images), rtol=1e-5, atol=1e-6)
    benchmark = read_benchmark("transformers_epoch_75")
    folders = {"zoos": tmp_path / "zoos", "results": tmp_path / "results"}
    ((result, _),) = evaluation.run(benchmark, ["weight_statistics"], **folders, seeds=[0])
    accuracies = np.array([1000 + 140 * number for number, (_, epoch) in enumerate(states) if epoch == 75]) / 10_000
    counts = [cell.train_models + cell.validation_models + cell.test_models for cell in result.cells]
    assert counts == [np.count_nonzero(accuracies >= least) for least in (0, 0.2, 0.4, 0.6, 0.8)]
