import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from zoo_bench.scores import metrics
from zoo_bench.standings import boards as boards_of
from zoo_bench.standings import page
from zoo_bench.standings import text as leaderboard
from zoo_bench.standings.boards import Loaded
from zoo_gen.errors import ZooError


class Page(HTMLParser):
    """The text of every table cell, and every address that the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "line", "rect", "br", "link", "img", "input", "wbr", "path", "circle"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] = f"{self.cells[-1]} {data.strip()}".strip()


@pytest.fixture
def boards(tiny_loaded):
    return boards_of.boards(tiny_loaded)


def changed(loaded: Loaded, **values) -> Loaded:
    cells = tuple(cell.model_copy(update=values) for cell in loaded.result.cells)
    return replace(loaded, result=loaded.result.model_copy(update={"cells": cells}))


def test_every_score_stands_on_the_board(tiny_loaded, boards):
    (board,) = boards
    for result in (loaded.result for loaded in tiny_loaded):
        column = board.encoders.index(result.encoder)
        scores = [score for score in result.cells[0].scores if score.by == "probe"]  # floors stand beside them
        for score, row in zip(scores, board.rows, strict=True):
            assert (row.target, row.metric) == (score.target, score.metric)
            assert row.cells[column].value == score.value
            assert (row.cells[column].low, row.cells[column].high) == (score.low, score.high)


def test_the_mean_rank_is_the_mean_of_the_ranks_that_are_shown(tiny_loaded, boards):
    (board,) = boards
    by_encoder = {loaded.result.encoder: loaded for loaded in tiny_loaded}
    totals = dict.fromkeys(board.encoders, 0)
    ranking = [row for row in board.rows if row.ranks]
    for row in ranking:
        sign = -1 if row.metric in metrics.LOWER_IS_BETTER else 1
        key = (board.cell, row.target, row.metric, "probe")
        for name, cell in zip(board.encoders, row.cells, strict=True):
            lows = [
                sign * (by_encoder[other].resamples[key] - by_encoder[name].resamples[key]) for other in board.encoders
            ]
            rank = 1 + sum(np.nanquantile(low, 0.025) > 0 for low in lows)
            assert cell.rank == rank
            totals[name] += rank
    assert board.mean_ranks == pytest.approx([totals[name] / len(ranking) for name in board.encoders])
    assert list(board.mean_ranks) == sorted(board.mean_ranks)


def test_scores_that_cannot_be_told_apart_share_a_mean_rank(tiny_loaded):
    one = tiny_loaded[0]
    nearly = {"r2": -1e-6, "kendall_tau": -1e-6, "accuracy": -1e-6}
    scores = tuple(
        s.model_copy(update={"value": s.value and s.value + nearly.get(s.metric, 0.0)})
        for s in one.result.cells[0].scores
    )
    twin = changed(one, scores=scores)
    noise = np.random.RandomState(0).standard_normal(metrics.RESAMPLES) * 1e-3
    twin = Loaded(
        twin.result.model_copy(update={"encoder": "twin"}),
        {key: values + noise for key, values in one.resamples.items()},
        one.predictions,
    )
    (board,) = boards_of.boards([one, twin])
    assert board.mean_ranks == (1.0, 1.0)


def test_the_best_of_a_row_is_marked_and_who_is_no_worse(tiny_loaded, boards):
    (board,) = boards
    by_encoder = {loaded.result.encoder: loaded for loaded in tiny_loaded}
    for row in board.rows:
        sign = -1 if row.metric in metrics.LOWER_IS_BETTER else 1
        scored = [cell for cell in row.cells if cell.value is not None]
        if not scored:
            continue
        best = max(scored, key=lambda cell: sign * cell.value)
        best_name = board.encoders[row.cells.index(best)]
        key = (board.cell, row.target, row.metric, row.by)
        for name, cell in zip(board.encoders, row.cells, strict=True):
            assert cell.is_best == (cell.value == best.value)
            if cell.value is None:
                assert not cell.ties_with_best
                continue
            paired = sign * (by_encoder[best_name].resamples[key] - by_encoder[name].resamples[key])
            paired = paired[np.isfinite(paired)]
            assert cell.ties_with_best == (not cell.is_best and np.quantile(paired, 0.025) <= 0)
        assert any(cell.rank == 1 for cell in row.cells)


def test_classes_count_once_for_the_rank(boards):
    ranking = [row.target for row in boards[0].rows if row.ranks]
    assert [target for target in ranking if "class" in target] == ["test_class_f1"]
    rows = {row.target: row for row in boards[0].rows if row.metric == "r2"}
    for column, cell in enumerate(rows["test_class_f1"].cells):
        values = [rows[f"test_class_f1_{number}"].cells[column].value for number in range(4)]
        assert cell.value == pytest.approx(np.mean(values))


def test_the_page_is_whole_and_needs_nothing_else(tiny_loaded, boards):
    text = page.html(boards, tiny_loaded)
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.addresses == []
    assert "@import" not in text
    assert "url(" not in text
    score = tiny_loaded[0].result.cells[0].scores[0]
    cells = re.findall(r'data-value="(\S+)" data-low="(\S+)" data-high="(\S+)"', text)
    of_score = (score.value, score.low, score.high)
    assert any(tuple(map(float, cell)) == pytest.approx(of_score, rel=1e-5) for cell in cells)
    assert any(leaderboard.digits(score.value).replace("-", "\N{MINUS SIGN}") in cell for cell in parsed.cells)
    assert tiny_loaded[0].result.cells[0].test.revision in text


def test_the_page_does_not_depend_on_the_day(tiny_loaded, boards):
    now = datetime.now(tz=UTC)
    for day in (now.strftime("%B %Y"), now.strftime("%Y-%m-%d")):
        assert day not in page.html(boards, tiny_loaded)


def test_names_cannot_smuggle_markup_into_the_page(tiny_loaded):
    loaded = tiny_loaded[0]
    evil = replace(loaded, result=loaded.result.model_copy(update={"encoder": "<script>alert(1)</script>"}))
    text = page.html(boards_of.boards([evil]), [evil])
    assert "<script>alert" not in text


def test_the_terminal_table_shows_value_and_interval(tiny_loaded, boards):
    text = leaderboard.text(boards, tiny_loaded)
    cell = boards[0].rows[0].cells[0]
    low, high = (leaderboard.digits(bound, 2) for bound in (cell.low, cell.high))
    assert f"{leaderboard.digits(cell.value)} [{low}, {high}]" in text
    assert "24 models train, 8 select, 8 test" in text


def test_seeds_are_averaged_and_their_resamples_pooled(tiny_loaded):
    first = tiny_loaded[0]
    (cell,) = first.result.cells
    shifted = changed(
        first, scores=tuple(s.model_copy(update={"value": s.value and s.value + 0.1}) for s in cell.scores)
    )
    second = Loaded(
        shifted.result.model_copy(update={"seed": 1}),
        {key: resampled + 0.1 for key, resampled in first.resamples.items()},
        first.predictions,
    )
    (board,) = boards_of.boards([first, second])
    assert board.seeds == ((0, 1),)
    row, score = board.rows[0], cell.scores[0]
    assert row.cells[0].value == pytest.approx(score.value + 0.05)
    resampled = first.resamples[board.cell, row.target, row.metric, row.by]
    expected = np.quantile(np.concatenate([resampled, resampled + 0.1]), [0.025, 0.975])
    assert (row.cells[0].low, row.cells[0].high) == pytest.approx(tuple(expected))
    # Means of bounds would hide that seeds differ.
    assert row.cells[0].high - row.cells[0].low > score.high - score.low


def test_an_undefined_score_is_shown_as_such_and_ranks_last(tiny_loaded):
    first, second = tiny_loaded[:2]
    undefined = {"value": None, "low": None, "high": None}
    scores = tuple(score.model_copy(update=undefined) for score in first.result.cells[0].scores)
    results = [changed(first, scores=scores), second]
    (board,) = boards_of.boards(results)
    assert board.encoders == (second.result.encoder, first.result.encoder)
    assert "undefined" in leaderboard.text([board], results)
    assert "undefined" in page.html([board], results)


@pytest.mark.parametrize(
    ("field", "what"), [("revision", "another revision of tiny"), ("split_sha256", "another split")]
)
def test_results_of_different_zoos_are_not_mixed(tiny_loaded, field, what):
    first, second = tiny_loaded[:2]
    other = second.result.cells[0].test.model_copy(update={field: "0" * 64})
    with pytest.raises(ZooError, match=what):
        boards_of.boards([first, changed(second, test=other)])


def test_seeds_of_two_versions_of_an_encoder_are_not_averaged(tiny_loaded):
    first = tiny_loaded[0]
    other = first.result.model_copy(update={"seed": 1, "encoder_digest": "0" * 64})
    with pytest.raises(ZooError, match="seed-1: another version of the encoder"):
        boards_of.boards([first, replace(first, result=other)])


def test_what_an_encoder_costs_stands_on_the_page(tiny_loaded):
    with_costs = changed(tiny_loaded[0], parameters=1_234_567, memory_bytes=89_000_000, fit_seconds=700.0)
    parsed = Page(page.html(boards_of.boards([with_costs]), [with_costs]))
    assert {"1.2 M", "89 MB", "12 min"} <= set(parsed.cells)


def test_the_page_shows_how_well_accuracy_is_ranked_at_each_epoch(tiny_loaded):
    from scipy.stats import kendalltau

    from zoo_bench.standings.page.epochs import by_epoch

    (prediction,) = [p for p in tiny_loaded[0].predictions if (p.target, p.by) == ("test_accuracy", "probe")]
    errors = by_epoch([prediction, replace(prediction, predicted=-prediction.predicted)])
    assert [point.epoch for point in errors] == [0, 1, 2, 3, 4]
    for point in errors:
        tau = kendalltau(
            prediction.truth[prediction.epochs == point.epoch], prediction.predicted[prediction.epochs == point.epoch]
        ).statistic
        assert (point.low, point.high) == (-abs(tau), abs(tau))
        assert point.value == pytest.approx(0)


def test_an_epoch_at_which_all_models_are_alike_has_no_point(tiny_loaded):
    from zoo_bench.standings.page.epochs import by_epoch

    (prediction,) = [p for p in tiny_loaded[0].predictions if (p.target, p.by) == ("test_accuracy", "probe")]
    alike = replace(prediction, truth=np.where(prediction.epochs == 0, 0.25, prediction.truth))
    assert [point.epoch for point in by_epoch([alike])] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.98765, "0.988"), (0.003127, "0.00313"), (1, "1.00"), (-0.0, "0.00"), (-12.345, "-12.3"), (123456, "1.23e+05")],
)
def test_scores_have_three_significant_digits(value, expected):
    assert leaderboard.digits(value) == expected
