import pytest

from zoo_bench.protocol.published_scores import PublishedScores, list_published_scores
from zoo_bench.scores.metrics import METRICS

ROW = {"method": "M", "test": "sne_sine_inr_published", "target": "frequency", "metric": "mse", "value": 0.1}


def test_every_published_score_is_of_a_benchmark_and_says_where_it_is_from():
    collection = list_published_scores()
    assert set(collection) == {
        "nfn_final_checkpoint_published",
        "scalegmn_relu",
        "scalegmn_tanh",
        "sne_cross_dataset_published",
        "cnn_wild_park",
        "sne_inr_published",
        "hyper_representations_2021_published",
    }
    every = [(name, scores) for name, sources in collection.items() for scores in sources]
    assert len({(name, scores.source) for name, scores in every}) == len(every)
    for name, scores in every:
        assert scores.benchmark == name == scores.manifest.name
        assert scores.manifest.zoos_from == "published"
        keys = [(row.method, row.source, row.test, row.target, row.metric) for row in scores.rows]
        assert len(set(keys)) == len(keys)
        for row in scores.rows:
            assert row.metric in METRICS
            assert row.metric == "mse" or -1 <= row.value <= 1
            standing = {"hyperparameters", row.target} & set(scores.manifest.targets)
            assert standing  # the benchmark asks for it


def test_the_table_of_the_2021_paper_says_what_its_text_says():
    """Bold in the paper: E_cD is best everywhere but in initialisation and optimiser, where the raw weights are."""
    rows = list_published_scores()["hyper_representations_2021_published"][0].rows
    assert len(rows) == 10 * 4 * 3
    for target in {row.target for row in rows}:
        for test in {row.test for row in rows}:
            values = {row.method: row.value for row in rows if (row.target, row.test) == (target, test)}
            best = "W" if target in ("initialization", "optimizer") else "E_cD"
            assert max(values, key=values.get) == best


def test_what_others_copied_is_called_secondary_and_what_was_only_remembered_is_not_there():
    sources = [scores for of_benchmark in list_published_scores().values() for scores in of_benchmark]
    copied = ("somebody else copied", "summary by others", "wizwand.com lists")
    for scores in sources:
        assert (scores.status == "secondary") == any(words in scores.source for words in copied), scores.source
    # Known from memory alone: SNE's tables, ScaleGMN's own rows, ProbeGen.
    methods = {row.method for scores in sources for row in scores.rows if scores.status != "run by others"}
    assert not {"ProbeGen", "ScaleGMN", "ScaleGMN-B"} & methods
    assert {row.metric for scores in sources for row in scores.rows if row.method == "SNE"} == {"mse"}


def test_sources_of_a_benchmark_stand_in_the_order_of_their_dates():
    for sources in list_published_scores().values():
        dates = [scores.date for scores in sources]
        assert dates == sorted(dates)


def test_a_score_of_another_zoo_is_refused():
    fields = {"benchmark": "sne_inr_published", "source": "someone", "date": "2024", "status": "as published"}
    assert PublishedScores(**fields, rows=(ROW,)).rows[0].deviation is None
    with pytest.raises(ValueError, match="M: unknown zoo 'tiny'; valid: sne_sine_inr_published"):
        PublishedScores(**fields, rows=(ROW | {"test": "tiny"},))
