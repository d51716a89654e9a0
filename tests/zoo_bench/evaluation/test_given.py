import math
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from click.testing import CliRunner

import zoo_bench
from zoo_bench.cli import main
from zoo_bench.evaluation.candidates import candidate, candidates
from zoo_bench.evaluation.interactive import interactive_digest
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError


class FirstWeights:
    config = {}  # noqa: RUF012 forgets what it was given

    def __init__(self, count):
        self.count = count

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return view.weights[:, 0, : self.count]


class Named(FirstWeights):
    def __init__(self):
        super().__init__(3)


class NeedsNoSeed(Named):
    def fit(self, train, validation):
        return self


SCALE = np.zeros(5000)


class Scaled(FirstWeights):
    def encode(self, view):
        return view.weights[:, 0, :5] * SCALE[:5]


@dataclass
class Settings:
    widths: list = field(default_factory=lambda: [8])


@pytest.fixture
def benchmark():
    return BenchmarkManifest(name="mine", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))


@pytest.fixture
def evaluate(benchmark, tiny_zoo):
    def evaluate(encoder, **options):
        return zoo_bench.evaluate(encoder, benchmark, **{"zoos": tiny_zoo.parent, "progress": False, **options})

    return evaluate


def test_an_object_with_another_setting_that_its_config_forgets_is_evaluated_again(evaluate, tmp_path):
    dimensions = [evaluate(FirstWeights(count), results=tmp_path)[0].cells[0].dimension for count in (2, 9, 9)]
    assert dimensions == [2, 9, 9]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2, 9),
        ([1, [2]], [1, [3]]),
        ({"a": (1, 2)}, {"a": (1, 3)}),
        ({1, 2}, {1, 3}),
        (np.arange(5000), np.where(np.arange(5000) == 2500, 0, np.arange(5000))),
        (Settings(), Settings([9])),
    ],
)
def test_digests_tell_what_objects_were_given(one, other):
    digests = [candidate(FirstWeights(count)).digest for count in (one, other)]
    assert digests[0] != digests[1]
    assert candidate(FirstWeights(one)).digest == digests[0]


def test_an_object_and_its_class_by_name_are_one_encoder():
    by_name = candidate("tests.zoo_bench.evaluation.test_given:Named")
    assert candidate(Named()).digest == candidate(Named).digest == by_name.digest


def test_the_digest_of_an_encoder_of_a_notebook_covers_its_arrays(monkeypatch):
    before = interactive_digest("scaled", {}, Scaled)
    monkeypatch.setitem(globals(), "SCALE", np.where(np.arange(5000) == 2500, 1, SCALE))
    assert interactive_digest("scaled", {}, Scaled) != before


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ([], "no encoder is given"),
        ({}, "no encoder is given"),
        ({"": Named}, "an encoder is called ''; expected a name"),
        ({"..": Named}, "an encoder is called '..'; expected a name"),
        ({"a\nb": Named}, r"an encoder is called 'a\\nb'; expected a name"),
        ({5: Named}, "an encoder is called 5; expected a name"),
        ({"x" * 300: Named}, "an encoder's name has 300 letters; expected 200 at most"),
        ({"a/b": Named, "a:b": Named}, "the encoders 'a/b' and 'a:b' would share the folder a__b; rename one"),
    ],
)
def test_encoders_that_no_folder_could_hold_are_one_line(encoders, message):
    with pytest.raises(ZooError, match=message):
        candidates(encoders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 3}, "seeds are 3; expected a list of whole numbers"),
        ({"seeds": "0,1"}, "seeds are '0,1'; expected"),
        ({"seeds": (0.5,)}, r"seeds are \(0.5,\); expected"),
        ({"seeds": ()}, r"seeds are \(\); expected"),
        ({"rerun": "allways"}, "rerun: unknown word 'allways'; did you mean 'always'"),
        ({"on": "train"}, "on: unknown word 'train'; valid: test, validation"),
        ({"workers": 0}, "workers is 0; expected a whole number, at least 1"),
        ({"results": __file__}, "test_given.py: is a file; expected a folder of results"),
    ],
)
def test_an_argument_that_cannot_be_is_one_line(evaluate, options, message):
    with pytest.raises(ZooError, match=message):
        evaluate("pca", **options)


def test_seeds_may_be_numbers_of_numpy(evaluate):
    assert [result.seed for result in evaluate(Named, seeds=np.arange(2))] == [0, 1]


def test_an_opened_zoo_stands_for_its_folder(tiny_zoo):
    results = zoo_bench.evaluate(Named, open_zoo(tiny_zoo), progress=False)
    by_folder = zoo_bench.evaluate(Named, tiny_zoo, progress=False)
    assert results.to_pandas().equals(by_folder.to_pandas())


def test_a_folder_that_is_not_there_is_no_unknown_benchmark(tmp_path):
    with pytest.raises(ZooError, match="zoos/typo: no such folder; expected a zoo"):
        zoo_bench.evaluate(Named, f"{tmp_path}/zoos/typo")


def test_a_group_without_an_encoder_for_the_benchmark_is_an_error(tiny_zoo, tmp_path):
    path = tmp_path / "across.toml"
    path.write_text('name = "across"\nprotocol = "cross_architecture"\nzoos = ["tiny", "other"]\ntargets = ["epoch"]\n')
    message = "no encoder of default suits the protocol cross_architecture"
    with pytest.raises(ZooError, match=message):
        zoo_bench.evaluate("default", path, zoos=tiny_zoo.parent)
    result = CliRunner().invoke(main, ["run", str(path), "--zoos", str(tiny_zoo.parent), "--results", str(tmp_path)])
    assert (result.exit_code, message in result.output) == (2, True)


def test_a_message_names_no_line_but_the_encoders_own(evaluate):
    for encoder in (FirstWeights, NeedsNoSeed):
        with pytest.raises(ZooError, match="argument") as error:
            evaluate(encoder)
        assert not re.search(r", line \d", str(error.value))


def test_hidden_values_of_a_masked_array_are_missing(evaluate):
    class Masked(Named):
        def encode(self, view):
            return np.ma.masked_less(view.weights[:, 0, :3], 0)

    assert math.isfinite(evaluate(Named)[0].cells[0].scores[0].value)
    with pytest.raises(ZooError, match="encode returned numbers that are not finite"):
        evaluate(Masked())


DRAWS = {
    "random": "[random.gauss(0, 1) for _ in range(4)]",
    "np": "np.random.normal(size=4)",
    "torch": "torch.randn(4)",
}


@pytest.mark.parametrize("module", DRAWS)
def test_what_fit_draws_from_a_global_generator_follows_from_the_seed(evaluate, module, tmp_path):
    import random

    import torch

    class Draws(Named):
        config = {"target": "test_accuracy"}  # noqa: RUF012 as in the docs

        def fit(self, train, validation, *, seed):
            self.numbers = np.asarray(eval(DRAWS[module], {"random": random, "np": np, "torch": torch}))
            return self

        def predict(self, view):
            return view.weights[:, 0, :4] @ self.numbers

    once, again = (evaluate(Draws(), seeds=[0, 1]).to_pandas().query("by == 'encoder'") for _ in range(2))
    assert once.equals(again)
    values = once.query("metric == 'mse'").value
    assert values.nunique() == len(values) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": Named}, "encoder is a type; expected a name or package.module:Class"),
        ({"search": "bayes"}, "unknown search 'bayes'; valid: grid, random"),
        ({"seeds": 0}, "seeds are 0; expected a list of whole numbers"),
    ],
)
def test_an_argument_of_a_search_that_cannot_be_is_one_line(benchmark, options, message, tmp_path):
    arguments = {"encoder": "pca", "trials": 2, "ranges": {"dimension": "2,3"}, **options}
    with pytest.raises(ZooError, match=message):
        zoo_bench.tune(benchmark=benchmark, results=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_values_to_search_may_be_a_list(benchmark, tiny_zoo, tmp_path):
    options = {"trials": 2, "search": "grid", "zoos": tiny_zoo.parent, "results": tmp_path, "progress": False}
    tunings = [zoo_bench.tune("pca", benchmark, ranges={"dimension": r}, **options).tuning for r in ("2,3", [2, 3])]
    assert tunings[0].ranges == tunings[1].ranges == {"dimension": "2,3"}
    assert [trial.encoder for trial in tunings[1].trials] == ["pca[dimension=2]", "pca[dimension=3]"]


@pytest.mark.parametrize("encoder", ["pca", Named])
def test_what_is_not_fitted_cannot_encode(encoder, tiny_zoo):
    with pytest.raises(ZooError, match=r"is not fitted; expected what zoo_bench.fit or load_encoder returned"):
        zoo_bench.encode(encoder, tiny_zoo)


class SaysNotWhatItPredicts(Named):
    def predict(self, view):
        return np.zeros(len(view.weights))


def test_predictions_of_nobody_knows_what_are_one_line(evaluate, tiny_zoo):
    message = (
        r"has predict, and nothing says what it predicts; expected a fit that takes `problem`, or .*config\['target'"
    )
    with pytest.raises(ZooError, match=message):
        evaluate(SaysNotWhatItPredicts)
    with pytest.raises(ZooError, match=message):
        zoo_bench.fit(SaysNotWhatItPredicts, tiny_zoo)
    wrong = [finding for finding in zoo_bench.mock(SaysNotWhatItPredicts()) if finding.state == "FAILED"]
    assert re.search(message, wrong[0].detail)


def test_a_file_in_place_of_the_folder_of_results_is_one_line_for_the_command_too(tiny_zoo, tmp_path):
    (tmp_path / "file").touch()
    arguments = ["run", str(tiny_zoo), "--encoder", "pca", "--results", str(tmp_path / "file")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path}/file: is a file; expected a folder of results\n",
    )


@pytest.mark.parametrize("options", [{}, {"rerun": "always"}, {"seeds": [1]}, {"on": "validation"}])
def test_a_name_that_gives_the_folder_of_another_encoder_is_refused(evaluate, tmp_path, options):
    first = evaluate({"a/b": Named}, results=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(ZooError, match="is a result of the encoder 'a/b'; expected another name than 'a:b'"):
        evaluate({"a:b": Named}, results=tmp_path, **options)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert evaluate({"a/b": Named}, results=tmp_path)[0] == first[0]


class DrawsEverywhere(Named):
    def fit(self, train, validation, *, seed):
        import random

        import torch

        self.drawn = [random.random(), np.random.rand(), torch.rand(()).item()]
        torch.manual_seed(5)
        return self

    def encode(self, view):
        return super().encode(view) + 0 * np.random.rand()


def test_a_fit_in_this_process_follows_from_its_seed_and_leaves_the_global_generators_alone(tiny_zoo):
    import random

    import torch

    def draw():
        return [random.random(), np.random.rand(), torch.rand(()).item()]

    def seed_all(seed):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)

    seed_all(3)
    expected = draw()
    seed_all(3)
    fitted = [zoo_bench.fit(DrawsEverywhere, tiny_zoo, seed=seed) for seed in (0, 0, 1)]
    zoo_bench.encode(fitted[0], tiny_zoo)
    assert draw() == expected
    seed_all(0)
    assert fitted[0].drawn == fitted[1].drawn == draw()
    assert fitted[2].drawn != fitted[0].drawn
    with pytest.raises(ZooError, match="seed -1: expected a whole number from 0 to"):
        zoo_bench.fit(DrawsEverywhere, tiny_zoo, seed=-1)
