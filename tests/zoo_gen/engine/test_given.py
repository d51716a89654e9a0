"""Data and modules that are given in Python, and manifests that are completed from what they name."""

import subprocess
import sys
import types

import cloudpickle
import numpy as np
import pytest
from torch import nn

import zoo_gen
from tests.zoo_gen.population import own_networks
from zoo_gen.architecture import own_module
from zoo_gen.errors import ZooError
from zoo_gen.machine import workers

RANDOM = np.random.RandomState(0)
X, Y = RANDOM.standard_normal((60, 1, 8, 8)), np.arange(60) % 10
DATA = (X[:40], Y[:40], X[40:], Y[40:])
TRAINING = {"epochs": 1, "batch_size": 16, "optimizer": "adam", "learning_rate": 0.01, "initialization": "module"}
PLAIN = {"name": "given", "training": TRAINING, "axes": {"product": {"seed": [1, 2]}}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path / "root"))


def run(manifest, **options):
    return zoo_gen.run(manifest, workers=1, progress=False, **options)


def test_the_same_call_resumes_and_other_data_is_another_zoo():
    first = run(PLAIN, data=DATA, module=own_networks.perceptron)
    assert run(PLAIN, data=DATA, module=own_networks.perceptron).digest == first.digest
    with pytest.raises(ZooError, match="holds the zoo 'given' of another manifest"):
        run(PLAIN, data=(X[:40] + 1, *DATA[1:]), module=own_networks.perceptron)


def test_what_is_given_takes_the_place_of_what_a_manifest_names():
    whole = zoo_gen.ZooManifest(
        **PLAIN, data={"source": "digits"}, architecture={"name": "mlp", "widths": [64, 10], "bias": False}
    )
    zoo = run(whole, data=DATA)
    assert zoo.manifest.data.source == "arrays"
    assert zoo.manifest.architecture == whole.architecture


def test_a_file_is_completed_and_its_zoo_says_everything(tmp_path):
    np.savez(tmp_path / "own.npz", x=X, y=Y)
    text = """
name = "file"  # a comment

[data]
source = "arrays"
path = "own.npz"
test_share = 0.25

[architecture]
name = "mlp"
widths = [64, 10]

[training]
epochs = 1
batch_size = 16
optimizer = "adam"
learning_rate = 0.01
initialization = "xavier_uniform"

[axes]
product.seed = [1]
"""
    (tmp_path / "file.toml").write_text(text)
    zoo = run("file.toml")
    (tmp_path / "own.npz").unlink()
    opened = zoo_gen.open_zoo("zoos/file")
    assert opened.manifest.data.classes == tuple("0123456789")
    assert opened.module(0)(zoo_gen.load_image_data(zoo.manifest.data).tensors("test")[0]).shape == (15, 10)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            own_networks.perceptron(),
            "module Sequential: expected a class, or a function that returns a torch.nn.Module",
        ),
        (lambda: nn.Linear(64, 10), "at the top level of a file; each model needs a new one"),
        (nn.Linear, r"cannot be made \(TypeError: .*in_features"),
    ],
)
def test_what_could_not_be_made_again_is_refused(module, message):
    with pytest.raises(ZooError, match=message):
        run(PLAIN, data=DATA, module=module)


def test_what_is_missing_is_named():
    with pytest.raises(ZooError, match="architecture: is missing"):
        run(PLAIN, data=DATA)
    with pytest.raises(ZooError, match="data: is missing"):
        run(PLAIN, module=own_networks.perceptron)


SCRIPT = """
import numpy as np
import zoo_gen
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, rows):
        return self.head(rows)


def doubled(outputs, targets):
    return 2 * nn.functional.cross_entropy(outputs, targets)


class Descent:
    def init(self, parameters):
        return ()

    def update(self, gradients, state, parameters, hyperparameters, step):
        rate = hyperparameters["learning_rate"]
        return {name: parameters[name] - rate * gradient for name, gradient in gradients.items()}, state


def slower(epoch, n_epochs):
    return 1 - epoch / n_epochs


if __name__ == "__main__":
    random = np.random.RandomState(0)
    data = (random.rand(40, 4), np.arange(40) % 3)
    training = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1, "initialization": "module"}
    axes = {"product": {"seed": range(16)}}
    manifest = {"name": "script", "data": {"test_share": 0.2}, "training": training, "axes": axes}
    training |= {"optimizer": Descent, "schedule": slower}
    zoo = zoo_gen.run(manifest, data=data, module=Net, loss=doubled, workers=2, progress=False)
    assert zoo.extent.n_shards == 2 and zoo_gen.verify(zoo).sound
"""


def in_a_process(tmp_path, monkeypatch):
    """Run the script as its users do."""
    subprocess.run([sys.executable, "script.py"], check=True, cwd=tmp_path)


def in_place(tmp_path, monkeypatch):
    """Run the script here; a worker's task comes out of its pickle where nothing of the script is known."""

    def parallel(task, blocks, begun, processes, **options):
        assert processes == 2
        pickled = cloudpickle.dumps(task)
        for block in list(blocks):
            begun.append(block)
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
                patch.setattr(own_module, "_factories", {})
                diverged = cloudpickle.loads(pickled)(block)
            yield diverged

    script = types.ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    monkeypatch.setattr(workers, "_parallel", parallel)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "__main__", script)
        exec(compile(SCRIPT, script.__file__, "exec"), vars(script))


@pytest.mark.parametrize("run_script", [in_place, pytest.param(in_a_process, marks=pytest.mark.thorough)])
def test_classes_and_functions_of_a_script_reach_the_workers(tmp_path, monkeypatch, run_script):
    (tmp_path / "script.py").write_text(SCRIPT)
    run_script(tmp_path, monkeypatch)
    monkeypatch.setattr(own_module, "_factories", {})  # as in a process that has not run the script
    zoo = zoo_gen.open_zoo("zoos/script")
    assert zoo.complete
    assert set(zoo.manifest.training.source_sha256) == {f"__main__:{name}" for name in ("doubled", "Descent", "slower")}
    with pytest.raises(ZooError, match=r"'__main__:Net': cannot be imported .* expected a class in a file"):
        zoo.module(0)
