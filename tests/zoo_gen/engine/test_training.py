"""Zoos with all that [training] can say: the same bytes in any shards and by any workers; they grow; refusals exit."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import TINY, files_of
from zoo_gen import engine, open_zoo, verify
from zoo_gen.cli.main import main

FUNCTIONS = """
import torch
from torch.nn import functional


def focal(outputs, targets):
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


class Descent:
    def init(self, parameters):
        return {}

    def update(self, gradients, state, parameters, hyperparameters, step):
        rate = hyperparameters["learning_rate"]
        return {name: parameters[name] - rate * gradient for name, gradient in gradients.items()}, state


def slower(epoch, n_epochs):
    return 1 - epoch / n_epochs


def an_image(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")
"""
AXES = """
optimizer = ["nesterov", "adam", "my_functions:Descent"]
schedule = ["cosine", "step", "my_functions:slower"]
crop_padding = [0, 1]
label_smoothing = [0.0, 0.2]
learning_rate = [1e-2]
"""
TRAINING = """
decay_every = 1
warm_up_epochs = 1
clip_norm = 0.5
flip = 0.5
activation = "relu"
"""
START, STOP = TINY.index("optimizer ="), TINY.index("seed =")
EVERYTHING = (TINY[:START] + AXES.lstrip() + TINY[STOP:]).replace("epochs = 4\n", f"epochs = 3{TRAINING}")
EVERYTHING = EVERYTHING.replace("range = [1, 5]", "range = [1, 2]").replace(
    "models_per_shard = 12", "models_per_shard = 9"
)
FEWER = EVERYTHING.replace("range = [1, 2]", "range = [1, 1]")
GROWN = FEWER.replace('"my_functions:Descent"]', '"my_functions:Descent"]\nloss = ["standard", "my_functions:focal"]')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_functions", raising=False)
    (tmp_path / "my_functions.py").write_text(FUNCTIONS)
    return tmp_path


def make(folder, text, **options):
    manifest = folder.parent / f"{folder.name}.toml"
    manifest.write_text(text)
    engine.run(manifest, folder, progress=False, **{"workers": 1} | options)
    return open_zoo(folder)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_models_have_the_same_bytes_in_other_shards_and_by_more_workers(folder, workers):
    zoo = make(folder / "zoo", EVERYTHING)
    assert zoo.weights.shape[0] == 72
    assert verify(zoo).sound
    other = make(folder / "other", EVERYTHING.replace("models_per_shard = 9", "models_per_shard = 31"), workers=workers)
    assert zoo.weights[:].tobytes() == other.weights[:].tobytes()
    for name in zoo.metrics:
        assert zoo.metric(name)[:].tobytes() == other.metric(name)[:].tobytes()
    assert np.isfinite(zoo.weights[:]).all()


def test_a_zoo_grows_by_models_with_functions_that_it_did_not_have(folder):
    make(folder / "at_once", GROWN)
    make(folder / "zoo", FEWER)
    plain = TINY.replace("epochs = 4", "epochs = 3")
    runner = CliRunner()
    (folder / "zoo.toml").write_text(GROWN)
    result = runner.invoke(main, ["run", "zoo.toml", "--out", "zoo", "--workers", "1", "--grow"])
    assert result.exit_code == 0, result.output
    assert files_of(folder / "zoo") == files_of(folder / "at_once")
    assert verify(open_zoo(folder / "zoo")).sound
    # Of a zoo without any of it, what has the defaults is kept.
    make(folder / "plain", plain)
    axes = 'flip = [0.0, 0.5]\nclip_norm = [0.0, 1.0]\nloss = ["standard", "my_functions:focal"]\n'
    more = plain.replace("seed = {", f'schedule = ["constant", "step"]\n{axes}seed = {{')
    (folder / "more.toml").write_text(more.replace("epochs = 3", "epochs = 3\ndecay_every = 2\ndecay_factor = 0.3"))
    result = runner.invoke(main, ["plan", "more.toml", "--reuse", "plain"])
    assert "40 of 640 models are copied, 600 trained" in result.output, result.output


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ('loss = "my_functions:an_image"', "loss 'my_functions:an_image': gives a tensor of shape [5]; expected one"),
        ('loss = "my_functions:missing"', "'my_functions:missing': cannot be imported"),
        ('schedule = "my_functions:focal"', "schedule 'my_functions:focal': fails at epoch 0 of 4"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_function_that_does_not_fit_is_one_line_and_exit_code_2(folder, command, training, message):
    (folder / "bad.toml").write_text(TINY.replace("[training]", f"[training]\n{training}"))
    result = CliRunner().invoke(main, [command, "bad.toml"])
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (folder / "zoos").exists()
