"""Who is compared with whom: missing cells come last, and no order goes over benchmarks that not all encoders ran."""

from dataclasses import replace

import numpy as np
import pytest

from zoo_bench.results import Failure
from zoo_bench.scores import metrics
from zoo_bench.standings import text
from zoo_bench.standings.boards import Loaded, boards
from zoo_bench.standings.collection import Results
from zoo_bench.standings.order import standings
from zoo_gen.errors import ZooError


def cell_of(template, zoo: str, scores: dict[str, float], by_encoder: dict[str, float]):
    """A cell with R2 of some targets, as probes and as the encoder itself predict them."""
    rows = [("probe", target, value) for target, value in scores.items()]
    rows += [("encoder", target, value) for target, value in by_encoder.items()]
    return template.model_copy(
        update={
            "source": template.source.model_copy(update={"zoo": zoo}),
            "test": template.test.model_copy(update={"zoo": zoo}),
            "scores": tuple(
                template.scores[0].model_copy(
                    update={
                        "target": target,
                        "metric": "r2",
                        "by": by,
                        "ranks": by == ("encoder" if target in by_encoder else "probe"),
                        "value": value,
                        "low": value - 0.01,
                        "high": value + 0.01,
                    }
                )
                for by, target, value in rows
            ),
        }
    )


@pytest.fixture
def make(tiny_loaded):
    """Returns results with exact scores, whose resamples all have the score's value."""
    template = tiny_loaded[0].result

    def result(encoder, cells, *, benchmark="first", seed=0, failures=(), reading="probe"):
        new_cells = [cell_of(template.cells[0], zoo, *(*scores, {})[:2]) for zoo, scores in cells.items()]
        return Loaded(
            template.model_copy(
                update={
                    "encoder": encoder,
                    "benchmark": benchmark,
                    "seed": seed,
                    "cells": tuple(new_cells),
                    "failures": tuple(failures),
                    "reading": reading,
                }
            ),
            {
                (cell.name, s.target, s.metric, s.by): np.full(metrics.RESAMPLES, s.value)
                for cell in new_cells
                for s in cell.scores
            },
            [],
        )

    return result


def ranks(loaded, benchmark="first"):
    return dict(standings(boards(loaded), loaded).of(benchmark))


def test_a_cell_that_failed_counts_as_last(make):
    failure = Failure(source="hard", test="hard", message="no memory")
    loaded = [
        make("brave", {"easy": [{"epoch": 0.5}], "hard": [{"epoch": 0.1}]}),
        make("timid", {"easy": [{"epoch": 0.5}], "hard": [{"epoch": 0.0}]}),
        make("absent", {"easy": [{"epoch": 0.9}]}, failures=[failure]),
    ]
    # easy: absent 1, the others 2; hard: brave 1, timid 2, and absent after both.
    assert ranks(loaded) == {"brave": 1.5, "absent": 2.0, "timid": 2.0}
    assert "failed" in text.text(boards(loaded), loaded)


def test_a_target_that_is_missing_counts_as_last(make):
    loaded = [
        make("whole", {"easy": [{"epoch": 0.5, "test_accuracy": 0.1}]}),
        make("half", {"easy": [{"epoch": 0.6}]}),
    ]
    assert ranks(loaded) == {"half": 1.5, "whole": 1.5}


def test_a_seed_without_a_cell_leaves_the_encoder_without_it(make):
    loaded = [
        make("steady", {"easy": [{"epoch": 0.5}], "hard": [{"epoch": 0.1}]}),
        make("lucky", {"easy": [{"epoch": 0.5}], "hard": [{"epoch": 0.9}]}),
        make("lucky", {"easy": [{"epoch": 0.5}]}, seed=1),
    ]
    assert ranks(loaded) == {"steady": 1.0, "lucky": 1.5}


def test_an_encoder_evaluated_alone_heads_no_order(make):
    loaded = [
        make("one", {"easy": [{"epoch": 0.5}]}),
        make("other", {"easy": [{"epoch": 0.4}]}),
        make("alone", {"easy": [{"epoch": -3.0}]}, benchmark="second"),
    ]
    order = standings(boards(loaded), loaded)
    assert order.common == ()
    assert [row.rank for row in order.rows] == [None] * 3
    assert order.of("first") == [("one", 1.0), ("other", 2.0)]
    assert "there is no order over all" in text.text(boards(loaded), loaded)
    with pytest.raises(ZooError, match="no benchmark was run with all of these encoders"):
        _ = Results(tuple(loaded)).best


def test_only_benchmarks_that_all_encoders_ran_count(make):
    loaded = [
        make("one", {"easy": [{"epoch": 0.5}]}),
        make("other", {"easy": [{"epoch": 0.4}]}),
        make("other", {"easy": [{"epoch": 0.4}]}, benchmark="second"),
    ]
    order = standings(boards(loaded), loaded)
    assert order.common == ("first",)
    assert [(row.encoder, row.rank, row.ranks) for row in order.rows] == [
        ("one", 1.0, (1.0, None)),
        ("other", 2.0, (2.0, 1.0)),
    ]
    assert "over the benchmarks that all of them ran: first" in text.markdown(boards(loaded), loaded)


def test_seeds_are_those_of_each_encoder(make):
    loaded = [make("one", {"easy": [{"epoch": 0.5}]}, seed=seed) for seed in (0, 1, 2)]
    loaded.append(make("lucky", {"easy": [{"epoch": 0.6}]}, seed=7))
    (board,) = boards(loaded)
    assert dict(zip(board.encoders, board.seeds, strict=True)) == {"one": (0, 1, 2), "lucky": (7,)}
    assert dict(zip(board.encoders, board.rows[0].cells, strict=True))["lucky"].rank == 1


def test_in_the_own_reading_the_encoders_own_prediction_ranks_and_both_are_shown(make):
    loaded = [
        make("learner", {"easy": [{"test_accuracy": 0.2, "epoch": 0.5}, {"test_accuracy": 0.9}]}, reading="own"),
        make("embedder", {"easy": [{"test_accuracy": 0.6, "epoch": 0.6}]}, reading="own"),
    ]
    (board,) = boards(loaded)
    rows = {(row.target, row.by): row for row in board.rows}
    values = {
        key: {name: cell.value for name, cell in zip(board.encoders, row.cells, strict=True)}
        for key, row in rows.items()
    }
    assert values == {
        ("test_accuracy", "own"): {"learner": 0.9, "embedder": 0.6},
        ("test_accuracy", "probe"): {"learner": 0.2, "embedder": 0.6},
        ("test_accuracy", "encoder"): {"learner": 0.9, "embedder": None},
        ("epoch", "probe"): {"learner": 0.5, "embedder": 0.6},
    }
    assert {key for key, row in rows.items() if row.ranks} == {("test_accuracy", "own"), ("epoch", "probe")}
    assert ranks(loaded) == {"embedder": 1.5, "learner": 1.5}
    shown = text.text([board], loaded)
    assert "0.600 [0.60, 0.60] p" in shown
    assert "test_accuracy, by probes" in shown
    assert "test_accuracy, by encoders" in shown


def test_rows_that_were_left_out_are_said(make):
    one = make("one", {"easy": [{"epoch": 0.5}]})
    (cell,) = one.result.cells
    cell = cell.model_copy(update={"scores": (cell.scores[0].model_copy(update={"left_out": 3}),)})
    loaded = [replace(one, result=one.result.model_copy(update={"cells": (cell,)}))]
    assert "3 test rows without epoch are left out" in text.text(boards(loaded), loaded)
