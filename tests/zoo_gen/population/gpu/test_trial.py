"""Where kernels of our own cannot be compiled, torch's operations train, or one line says what to write."""

import logging

import pyarrow.compute as pc
import pytest

from tests.zoo_gen.population.gpu.test_device import small
from tests.zoo_gen.population.test_train import models
from zoo_gen.architecture.registry import MLP
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import populations
from zoo_gen.population.trial import rows_to_try, settings_that_run

triton = pytest.importorskip("triton")


def table(**more):
    return models(**{"activation": ["relu", "gelu"], "batch_size": [4]} | more)


def trial(settings: TrainingSettings, some=None) -> TrainingSettings:
    """Try the kernels of a small network on a CPU, by Triton's interpreter."""
    some = table() if some is None else some
    data = load_image_data(small((1, 4, 4), train_size=8))

    def population_of(rows):
        return next(populations(MLP(name="mlp", widths=(16, 4, 10)), data, some.take(rows), settings))[1]

    return settings_that_run(settings, rows_to_try(some), population_of=population_of)


@pytest.fixture
def interpreted():
    """The module of kernels that run on a CPU, by Triton's interpreter."""
    from zoo_gen.population.gpu import kernels

    if type(kernels.update).__name__ != "InterpretedFunction":
        pytest.skip("kernels are compiled here")
    return kernels


@pytest.fixture
def refused(interpreted, monkeypatch):
    """Let the compiler refuse the kernel that updates weights, with an error of several lines."""

    class Refused:
        def __getitem__(self, grid):
            raise triton.TritonError("at 12:4:\n  no such layout")

    monkeypatch.setattr(interpreted, "update", Refused())


def test_kernels_that_run_are_used(interpreted):
    settings = TrainingSettings(epochs=1, kernels="float32")
    assert trial(settings) is settings


def test_torch_trains_what_the_compiler_refuses_and_a_line_says_so(refused, caplog):
    with caplog.at_level(logging.WARNING):
        settings = trial(TrainingSettings(epochs=1, kernels="float32"))
    assert settings == TrainingSettings(epochs=1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "at 12:4: no such layout; torch's own operations are used" in line


def test_a_precision_that_torch_does_not_have_here_is_refused_in_a_line(refused):
    with pytest.raises(ZooError, match=r"^training\.precision 'bfloat16': .*no such layout; expected 'float32'.*$"):
        trial(TrainingSettings(epochs=1, kernels="bfloat16"))


def test_what_is_tried_has_all_that_the_models_of_each_batch_size_have():
    some = table(
        dropout=[0.0, 0.0, 0.0, 0.2, 0.1], crop_padding=[0, 0, 0, 0, 2], flip=[0.0, 0.5], batch_size=[4, 8, 8],
        seed=list(range(30)),
    )  # fmt: skip
    tried = rows_to_try(some)
    assert [set(some.take(rows)["batch_size"].to_pylist()) for rows in tried] == [{4}, {8}]
    for rows in tried:
        taken = some.take(rows)
        assert len(rows) <= 5
        alike = some.filter(pc.equal(some["batch_size"], taken["batch_size"][0]))
        assert set(taken["activation"].to_pylist()) == set(alike["activation"].to_pylist()) == {"relu", "gelu"}
        for name in ("dropout", "crop_padding", "flip"):
            assert max(taken[name].to_pylist()) == max(alike[name].to_pylist()) > 0
