"""What docs/manifests.md and docs/zoos.md say of manifests is held against the code and run as it stands there."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

from tests.zoo_gen.image_data import published
from zoo_gen import engine, open_zoo
from zoo_gen.architecture.drawn import RandomCNNs
from zoo_gen.architecture.mixed import Mixed
from zoo_gen.architecture.registry import Architecture, Layers, network
from zoo_gen.architecture.specs import LayerSpec
from zoo_gen.cli.main import main
from zoo_gen.engine import cost
from zoo_gen.files.schema import parse_toml
from zoo_gen.manifest import (
    Checkpoints,
    Split,
    Storage,
    Training,
    ZooManifest,
    find_manifest,
    grid,
    read_manifest,
    shipped_manifests,
)
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE, ZOOS = (DOCS / "manifests.md").read_text(), (DOCS / "zoos.md").read_text()
TOML = re.findall(r"^```toml\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)
OWN, AXES, IMAGES, RESIDUAL, SEVERAL, OF_EACH_MODEL = TOML


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    return re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", REFERENCE, re.DOTALL | re.MULTILINE)[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables of a page, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def tiny(text: str) -> str:
    """Return the manifest of one's own, cut down to a moment's work; each cut must find its place."""
    cuts = {"train_size = 6000": "train_size = 40", "test_size = 2000": "test_size = 20", "[1, 10]": "[1, 1]"}
    for written, instead in cuts.items():
        assert text.count(written) == 1
        text = text.replace(written, instead)
    return text


def test_the_small_cnn_of_ones_own_runs_at_the_first_try(tmp_path, monkeypatch):
    published.write_idx(tmp_path / "data" / "fashion-mnist", sizes=(40, 20), gz=".gz")
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    Path("my_cnn.toml").write_text(tiny(OWN))
    commands = re.findall(r"^zoo-gen (\w+) (\S+)", REFERENCE, re.MULTILINE)
    assert commands == [("plan", "my_cnn.toml"), ("run", "my_cnn.toml"), ("info", "zoos/my_cnn")]
    for command in commands:
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    zoo = open_zoo("zoos/my_cnn")
    promised = int(re.search(r"# ([\d,]+) parameters", OWN)[1].replace(",", ""))
    assert zoo.weights.shape == (8, 6, promised)
    assert np.isfinite(zoo.weights[:]).all()


def test_the_small_cnn_of_ones_own_has_as_many_models_as_it_says():
    manifest = parse_toml(OWN, ZooManifest, where="docs/manifests.md")
    plan = cost.plan(manifest)
    assert (plan.models, plan.shards) == (80, 4)
    assert "2 x 2 x 2 x 10 models" in OWN
    assert manifest.description.startswith("80 CNNs")


@pytest.mark.slow
def test_the_small_cnn_of_ones_own_learns_real_images(tmp_path, data_root):
    path = tmp_path / "my_cnn.toml"
    path.write_text(OWN.replace("[1, 10]", "[1, 1]"))
    engine.run(path, tmp_path / "zoo", workers=1, data_root=data_root)
    accuracies = open_zoo(tmp_path / "zoo").metric("test_accuracy")[:]
    assert np.median(accuracies[:, -1]) > 0.6


def test_the_axes_of_the_page_are_the_models_it_says():
    head = OWN.split("[axes.product]")[0].replace('activation = ["relu", "tanh"]', "")
    head = head.replace('optimizer = "adam"', "").replace('{ type = "dropout" },', "")
    models = grid.table_of_models(parse_toml(head + AXES, ZooManifest, where="docs/manifests.md"))
    assert len(models) == 40
    pairs = set(zip(models["optimizer"].to_pylist(), models["learning_rate"].to_pylist(), strict=True))
    assert pairs == {("sgd", 0.1), ("adam", 0.001)}
    assert len(set(models["seed"].to_pylist())) > 20


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("The file", [key if key in ("name", "description") else f"[{key}]" for key in ZooManifest.model_fields]),
        ("[training]", [key for key in Training.model_fields if key not in HYPERPARAMETERS]),
        ("Hyper-parameters", list(HYPERPARAMETERS)),
        ("[checkpoints]", list(Checkpoints.model_fields)),
        ("[axes]", list(Axes.model_fields)),
        ("[split]", list(Split.model_fields)),
        ("[storage]", list(Storage.model_fields)),
        (
            "mixed: several architectures in one zoo",
            [name for schema in (Mixed, RandomCNNs) for name in schema.model_fields if name != "name"],
        ),
    ],
)
def test_the_reference_names_every_key_and_no_other(title, keys):
    assert sorted(key for row in rows(section(title)) for key in names(row[0])) == sorted(keys)


def named_values(name: str) -> set[str]:
    """Return the names that a hyper-parameter can have."""
    schema = HYPERPARAMETERS[name].values.json_schema()
    return {value for part in schema.get("anyOf", [schema]) for value in part.get("enum", [part.get("const")]) if value}


WITHOUT_DEFAULT = {
    "momentum": "0.9 for `momentum` and `nesterov`, else 0",
    "architecture": "an axis, all of them",
}


def test_the_reference_has_the_defaults_and_values_of_the_hyper_parameters():
    for row in rows(section("Hyper-parameters")):
        (name,) = names(row[0])
        default = Training.model_fields[name].default
        if default is None:
            assert row[2] == WITHOUT_DEFAULT.get(name, "required")
        else:
            assert row[2] == f"`{str(default) if type(default) is float else repr(default)}`".replace("'", '"')
        if HYPERPARAMETERS[name].kind == "name" and name != "milestones":
            references = {"module:name"} if HYPERPARAMETERS[name].may_be_own else set()
            assert set(names(row[1])) == references | named_values(name)


ARCHITECTURES: TypeAdapter[Architecture] = TypeAdapter(Architecture)
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ({"name": "cnn_small"}, GREY),
        ({"name": "cnn_small"}, (3, 28, 28)),
        ({"name": "cnn_large"}, COLOUR),
        ({"name": "small_cnn_gap"}, GREY),
        ({"name": "small_cnn_gap"}, COLOUR),
        ({"name": "cnn3_fc2"}, GREY),
        ({"name": "cnn3_fc2"}, COLOUR),
        ({"name": "cnn3_fc2", "kernel": 3}, GREY),
        ({"name": "cnn3_fc2", "kernel": 3}, COLOUR),
        ({"name": "siren"}, (1,)),
    ],
)
def test_the_architectures_have_the_parameters_that_the_reference_counts(architecture, shape):
    size = network(ARCHITECTURES.validate_python(architecture), shape, 1 if shape == (1,) else 10).layout.size
    (row,) = (row for row in rows(section("[architecture]")) if names(row[0]) == [architecture["name"]] and row[3:])
    assert re.search(rf"\b{size:,}\b", row[3])


def test_the_reference_names_every_architecture_and_every_type_of_layer():
    architectures = {
        name for kind in get_args(get_args(Architecture)[0]) for name in get_args(kind.model_fields["name"].annotation)
    }
    shown = rows(section("[architecture]"))
    assert {names(row[0])[0] for row in shown} == architectures | {"mixed"}
    specs = get_args(get_args(LayerSpec)[0])
    types = {name for spec in specs for name in get_args(spec.model_fields["type"].annotation)}
    assert {name for row in rows(section("layers: the open grammar")) for name in names(row[0])} == types


def test_the_mixed_zoos_of_the_page_have_the_models_it_says():
    head = OWN.split("[architecture]")[0] + "[training]" + OWN.split("[training]")[1].split("[axes.product]")[0]
    head += 'activation = "relu"\n'
    several = parse_toml(head + SEVERAL, ZooManifest, where="docs/manifests.md")
    assert "12 x 2 x 5 models" in SEVERAL
    assert (several.n_models, len(several.networks)) == (12 * 2 * 5, 12)
    architecture, _, _ = SEVERAL.partition("[axes.product]")
    drawn = parse_toml(head + architecture + OF_EACH_MODEL, ZooManifest, where="docs/manifests.md")
    assert drawn.n_models == 1000
    assert len(set(drawn.rows(slice(0, 1000))["architecture"].to_pylist())) == 12


def test_the_networks_fitted_to_images_are_those_the_page_says(tmp_path):
    (tmp_path / "my_inr.toml").write_text(IMAGES.replace("epochs = 50", "epochs = 1").replace("[0, 50]", "[0, 1]"))
    engine.run(tmp_path / "my_inr.toml", tmp_path / "zoo", workers=1)
    zoo = open_zoo(tmp_path / "zoo")
    assert zoo.weights.shape == (300, 2, 1185)
    assert [len(zoo.split(part)) for part in ("train", "validation", "test")] == [150, 50, 100]
    assert len(set(zoo.models["seed"].to_pylist())) == 300


def test_the_residual_block_of_the_page_is_a_network():
    block = Layers.model_validate({"name": "layers", **tomllib.loads(RESIDUAL)})
    assert network(block, (1, 28, 28), 10).n_outputs == 10


def test_the_table_of_zoos_names_exactly_the_shipped_ones_with_their_extent():
    shown = {names(row[0])[0]: row for row in rows(ZOOS)}
    assert set(shown) == set(shipped_manifests())
    assert len(rows(ZOOS)) == len(shown)
    for name, row in shown.items():
        manifest = read_manifest(find_manifest(name))
        plan = cost.plan(manifest)
        assert row[2:5] == [f"{plan.models:,}", f"{plan.checkpoints}", f"{plan.parameters:,}"], name
