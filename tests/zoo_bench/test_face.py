"""zoo_bench from Python: evaluate, results, leaderboards, and the examples of every public name."""

import doctest
import inspect
import logging
import re
import shutil
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import zoo_bench
from tests.zoo_bench.remembers import Remembers
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.run import run
from zoo_gen import ZooError, open_zoo
from zoo_gen.machine import workers

ROOT = Path(__file__).parents[2]
REMEMBERS = f"{Remembers.__module__}:Remembers"
# Examples are on the methods, or the class has nothing to call: it is what another function's example returns.
WITHOUT_EXAMPLE = {"Embeddings", "Encoder", "Finding", "Leaderboard", "Result", "Runtime"}


@pytest.fixture(scope="module")
def benchmark():
    """One cell with one target."""
    return zoo_bench.BenchmarkManifest(name="mine", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))


@pytest.fixture(scope="module")
def two_cells():
    return zoo_bench.BenchmarkManifest(
        name="two", protocol="data_efficiency", zoos=("tiny",), targets=("test_accuracy",), shares=(0.5, 1.0)
    )


@pytest.fixture
def working_folder(tmp_path, monkeypatch, tiny_zoo, tiny_results):
    """A working folder as the examples expect it: a zoo below zoos/, two results below results/."""
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "tiny").symlink_to(tiny_zoo)
    for name in ("pca", "weight_statistics"):
        shutil.copytree(tiny_results[0] / "tiny_standard" / name, tmp_path / "results" / "tiny_standard" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", zoo_bench.__all__)
def test_every_example_gives_what_it_shows(name, working_folder, request):
    if name == "push_encoder":
        request.getfixturevalue("hub")
    public = getattr(zoo_bench, name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(public, name) if test.examples]
    if name in WITHOUT_EXAMPLE:
        return
    assert examples
    for test in examples:
        outcome = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test)
        assert outcome.failed == 0


def test_all_public_names_are_documented_typed_and_listed():
    assert set(zoo_bench.__all__) <= set(dir(zoo_bench))
    for name in zoo_bench.__all__:
        public = getattr(zoo_bench, name)
        assert public.__doc__
        if inspect.isfunction(public):
            signature = inspect.signature(public)
            assert signature.return_annotation is not inspect.Signature.empty
            assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())


def test_reading_results_imports_no_library_for_training(tiny_results):
    code = (
        "import sys; import zoo_bench; results = zoo_bench.load_results(sys.argv[1]);"
        "results.to_pandas(), results.predictions(), results.best, results._repr_html_();"
        "str(zoo_bench.leaderboard(results)), zoo_bench.leaderboard(results).markdown();"
        "assert not {'torch', 'sklearn', 'joblib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_results[0])], check=True, cwd=ROOT)


def test_a_damaged_result_is_refused_or_left_out_with_a_warning(working_folder, caplog):
    damaged = working_folder / "results" / "tiny_standard" / "pca" / "seed-0.json"
    damaged.write_bytes(b"{")
    with pytest.raises(ZooError, match=r"pca/seed-0\.json"):
        zoo_bench.load_results("results")
    results = zoo_bench.load_results("results", skip_damaged=True)
    assert {result.encoder for result in results} == {"weight_statistics"}
    assert [record.getMessage().count("pca/seed-0.json") for record in caplog.records] == [1]


def test_an_object_is_fitted_fresh_for_every_cell_and_seed(working_folder, two_cells):
    encoder = Remembers()
    results = zoo_bench.evaluate(encoder, two_cells, seeds=(0, 5), progress=False)
    assert encoder.fits == []
    assert [(result.encoder, result.seed) for result in results] == [
        (REMEMBERS, 0),
        (REMEMBERS, 5),
    ]
    assert [len(result.cells) for result in results] == [2, 2]


def test_an_object_a_class_and_a_name_give_one_result(working_folder, benchmark):
    name = REMEMBERS
    results = [zoo_bench.evaluate(encoder, benchmark, progress=False)[0] for encoder in (Remembers(), Remembers, name)]
    assert len({(r.encoder, r.encoder_digest, r.predictions_sha256) for r in results}) == 1
    other = zoo_bench.evaluate({"larger": Remembers(9)}, benchmark, progress=False)[0]
    assert other.encoder == "larger"
    assert other.encoder_config == {"count": 9}
    assert other.encoder_digest != results[0].encoder_digest


def test_two_objects_of_one_class_need_names(working_folder, benchmark):
    with pytest.raises(ZooError, match=r"two encoders are called .*:Remembers'; expected a dictionary"):
        zoo_bench.evaluate([Remembers(1), Remembers(2)], benchmark, progress=False)


def test_tasks_of_workers_take_objects_and_names_and_give_the_same(working_folder, benchmark, monkeypatch):
    """With workers that are this process, to which tasks come as they go to others: as bytes."""

    def here(task, numbers, lost, **options):
        for of_one in numbers:
            yield cloudpickle.loads(cloudpickle.dumps(task))(of_one)

    monkeypatch.setattr(workers, "train_all", here)
    one, two = (zoo_bench.evaluate([Remembers(), "pca"], benchmark, workers=n, progress=False) for n in (1, 2))
    assert [result.encoder for result in two] == [REMEMBERS, "pca"]
    for first, second in zip(one, two, strict=True):
        assert first.predictions_sha256 == second.predictions_sha256


@pytest.mark.thorough
def test_processes_take_objects_and_names_and_give_the_same(working_folder, benchmark):
    one, two = (zoo_bench.evaluate([Remembers(), "pca"], benchmark, workers=n, progress=False) for n in (1, 2))
    assert [result.encoder for result in two] == [REMEMBERS, "pca"]
    for serial, parallel in zip(one, two, strict=True):
        assert [(cell.name, cell.scores) for cell in serial.cells] == [
            (cell.name, cell.scores) for cell in parallel.cells
        ]


def test_opened_zoos_give_the_same_as_their_folder(working_folder, benchmark):
    zoo = open_zoo("zoos/tiny")
    expected = zoo_bench.evaluate("pca", benchmark, progress=False)[0]
    result = zoo_bench.evaluate("pca", benchmark, zoos=[zoo], progress=False)[0]
    assert result.predictions_sha256 == expected.predictions_sha256
    with pytest.raises(ZooError, match="mine: unknown zoo 'tiny'"):
        zoo_bench.evaluate("pca", benchmark, zoos=[], progress=False)


@pytest.mark.thorough
def test_processes_take_opened_zoos(working_folder, benchmark):
    zoo = open_zoo("zoos/tiny")
    one, two = (zoo_bench.evaluate("pca", benchmark, zoos=[zoo], workers=n, progress=False)[0] for n in (1, 2))
    assert one.predictions_sha256 == two.predictions_sha256


def test_a_folder_of_results_is_shared_with_the_command_and_computed_once(working_folder, benchmark):
    first = zoo_bench.evaluate("pca", benchmark, results="mine", progress=False)
    finished = run(benchmark, ["pca"], zoos="zoos", results=Path("mine"), seeds=[0])
    assert [is_new for _, is_new in finished] == [False]
    again = zoo_bench.evaluate("pca", benchmark, results="mine", progress=False)
    assert list(again) == list(first) == list(zoo_bench.load_results("mine"))


def test_without_a_folder_nothing_stays_on_the_disk(working_folder, benchmark):
    before = sorted(working_folder.rglob("*"))
    zoo_bench.evaluate("pca", benchmark, progress=False)
    assert sorted(working_folder.rglob("*")) == before


def test_scores_and_predictions_become_data_frames(tiny_results):
    results = zoo_bench.load_results(tiny_results[0])
    scores, predictions = results.to_pandas(), results.predictions()
    assert len(scores) == sum(len(cell.scores) for result in tiny_results[1] for cell in result.cells)
    expected = scores.query("encoder == 'pca' and target == 'test_accuracy' and metric == 'mae'").iloc[0]
    rows = predictions.query("encoder == 'pca' and target == 'test_accuracy' and by == 'probe'")
    assert expected.value == pytest.approx((rows.truth - rows.predicted).abs().mean())
    assert expected.low < expected.value < expected.high
    assert len(rows) == 8 * 5  # test models x checkpoints
    names = predictions.query("target == 'optimizer'")
    assert set(names.true_name) == {"adam", "sgd"}


def test_the_best_is_the_first_of_the_leaderboard(tiny_results):
    results = zoo_bench.load_results(tiny_results[0])
    ranks = zoo_bench.leaderboard(results).to_pandas().query("ranks").groupby("encoder")["rank"].mean()
    assert ranks[results.best] == ranks.min() < ranks.max()


class Table(HTMLParser):
    """The texts of all cells, row by row, and every colour that a style names."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.styles = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.styles += [value for name, value in attributes if name == "style"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_notebook_shows_every_ranking_score_with_its_interval(tiny_results):
    results = zoo_bench.load_results(tiny_results[0])
    table = Table(results._repr_html_())
    encoders = table.rows[0][3:]
    shown = results.to_pandas().query("ranks and value == value")
    texts = {
        (row[1], encoder): text for row in table.rows[1:-1] for encoder, text in zip(encoders, row[3:], strict=True)
    }
    for score in shown.itertuples():
        text = texts[score.target, score.encoder].replace("\N{MINUS SIGN}", "-")
        assert float(text.split()[0]) == float(f"{score.value:.3g}")
        low, high = text[text.index("[") + 1 : -1].split(", ")
        assert (float(low), float(high)) == (float(f"{score.low:.2g}"), float(f"{score.high:.2g}"))
    # Light and dark: nothing but the notebook's own colours, and greys that are seen on both.
    assert not any("#" in style or "white" in style.replace("white-space", "") for style in table.styles)


def test_an_encoder_that_fails_everywhere_is_one_line(working_folder, benchmark):
    class Fails(Remembers):
        def fit(self, train, validation, *, seed):
            raise ValueError("no convergence")

    with pytest.raises(
        ZooError, match=r"^encoder '.*Fails': fit: ValueError: no convergence \(test_face.py, line \d+\)$"
    ):
        zoo_bench.evaluate(Fails(), benchmark, progress=False)


def test_an_object_that_cannot_be_copied_is_one_line(working_folder, benchmark):
    encoder = Remembers()
    encoder.lines = (line for line in ())
    with pytest.raises(ZooError, match="cannot be made: TypeError: cannot pickle 'generator' object"):
        zoo_bench.evaluate(encoder, benchmark, progress=False)


NOTEBOOK = """
COUNT = 3

def first(view):
    return view.weights[:, 0, :COUNT]

class Mine:
    config = {}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return first(view)
"""


def notebook(monkeypatch, text, *, keep=True):
    """A class as a notebook defines it: in __main__, its text in linecache at most."""
    import linecache

    main = types.ModuleType("__main__")
    name = f"<cell {abs(hash(text))}>"
    if keep:
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(text, name, "exec"), vars(main))
    return main.Mine


def test_a_class_of_a_notebook_has_a_digest_that_changes_with_all_that_it_uses(monkeypatch):
    digests = [
        candidate(notebook(monkeypatch, text)()).digest
        for text in (
            NOTEBOOK,
            NOTEBOOK.replace("class Mine", "# a comment\n\nclass Mine"),
            NOTEBOOK.replace("COUNT = 3", "COUNT = 4"),
            NOTEBOOK.replace("[:, 0, :COUNT]", "[:, 0, 1:COUNT]"),
            NOTEBOOK.replace("return first(view)", "return first(view) + 1"),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_class_of_a_notebook_is_evaluated_in_processes(monkeypatch, working_folder, benchmark, workers):
    """Even one worker hands encoders to a process, which fits them."""
    results = zoo_bench.evaluate(notebook(monkeypatch, NOTEBOOK)(), benchmark, workers=workers, progress=False)
    assert [result.encoder for result in results] == ["Mine"]


def test_a_class_whose_source_is_not_kept_works_and_says_what_is_not_recorded(monkeypatch, caplog):
    kind = notebook(monkeypatch, NOTEBOOK, keep=False)
    with caplog.at_level(logging.WARNING):
        first, second = (candidate(kind()).digest for _ in range(2))
    assert first != second
    assert "encoder 'Mine': its source cannot be found" in caplog.messages[0]


def test_mock_reports_an_encoder_that_fails_anywhere():
    class CannotBeMade(Remembers):
        def __init__(self):
            raise RuntimeError("no licence")

    class CannotEncode(Remembers):
        def encode(self, view):
            raise RuntimeError("no weights")

    for kind, message in ((CannotBeMade, "RuntimeError: no licence"), (CannotEncode, "RuntimeError: no weights")):
        findings = zoo_bench.mock(kind)
        assert findings[-1].state == "FAILED"
        assert message in str(findings[-1])
    with pytest.raises(ZooError, match="unknown encoder 'pac'; did you mean 'pca'"):
        zoo_bench.mock("pac")


def test_what_is_encoded_is_what_the_fitted_object_encodes(working_folder):
    zoo = open_zoo("zoos/tiny")
    fitted = zoo_bench.fit(Remembers(), zoo, seed=2)
    embeddings = zoo_bench.encode(fitted, zoo)
    expected = zoo.weights[:].reshape(-1, zoo.layout.size)[:, :3] + 2
    np.testing.assert_array_equal(embeddings.embedding, expected)
    embeddings.save("found.npz")
    with np.load("found.npz") as arrays:
        np.testing.assert_array_equal(arrays["embedding"], expected)


DOCS = "\n".join((ROOT / "docs" / name).read_text() for name in ("benchmarks.md", "submissions.md"))


def test_the_documentation_names_only_what_is_public():
    named = set(re.findall(r"zoo_bench\.(\w+)\(", DOCS))
    assert {"evaluate", "leaderboard", "mock", "fit", "encode", "validate"} <= named <= set(zoo_bench.__all__)


def test_the_python_of_the_documentation_runs(working_folder, benchmark):
    (block,) = (
        code for code in re.findall(r"^```python\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE) if "MyEncoder()" in code
    )
    names = {"zoo_bench": zoo_bench, "MyEncoder": Remembers, "BENCHMARK": benchmark}
    exec(block.replace('"standard_small"', "BENCHMARK, progress=False"), names)
    assert names["results"].best == REMEMBERS
