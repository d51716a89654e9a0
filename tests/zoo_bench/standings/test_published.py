"""Published rows stand beneath what was computed, and change no rank, score or table of scores."""

import re

import pytest

from zoo_bench.protocol.published_scores import PublishedScore, PublishedScores
from zoo_bench.standings import boards, page, published, text
from zoo_bench.standings.collection import Results
from zoo_bench.standings.leaderboard import Leaderboard


def scores_of(board, *rows, **fields):
    known = {"source": "Somebody et al., 2024", "date": "2024", "status": "as published", "note": "", **fields}
    return PublishedScores.model_construct(benchmark=board.benchmark, rows=rows, **known)


def score(board, method="Oracle", *, target="test_accuracy", metric="r2", value=0.9999, **fields):
    return PublishedScore(method=method, test=board.about.test.zoo, target=target, metric=metric, value=value, **fields)


@pytest.fixture
def board(tiny_loaded):
    return boards.boards(tiny_loaded)[0]


@pytest.fixture
def reported(board, monkeypatch):
    """Two sources: a method better than all in what ranks and in what does not, and one of another zoo."""
    sources = (
        scores_of(board, score(board, deviation=0.0004), score(board, metric="kendall_tau", value=0.9)),
        scores_of(
            board,
            score(board, "Copied", target="epoch", value=0.25),
            PublishedScore(method="Elsewhere", test="other", target="epoch", metric="r2", value=1.0),
            status="secondary",
            source="A table that others copied",
        ),
    )
    monkeypatch.setattr(published, "list_published_scores", lambda: {board.benchmark: sources})
    return sources


def test_published_rows_are_those_of_the_zoos_and_targets_of_a_board(board, reported):
    actual = published.published(board)
    assert [(row.method, row.source, row.status) for row in actual.rows] == [
        ("Oracle", 1, "as published"),
        ("Copied", 2, "secondary"),
    ]
    assert [source.source for source in actual.sources] == ["Somebody et al., 2024", "A table that others copied"]
    for row in actual.rows:
        for of_board, one in zip(board.rows, row.scores, strict=True):
            if one is not None:
                assert (of_board.target, of_board.metric) == (one.target, one.metric)
    ranking = [
        row.scores[number] for row in actual.rows for number in range(len(board.rows)) if board.rows[number].ranks
    ]
    assert sorted(one.value for one in ranking if one) == [0.25, 0.9999]


def test_a_board_of_another_benchmark_or_under_a_condition_has_none(board, reported):
    known = {board.benchmark: reported}
    assert published.published(board, {"another": reported}) == published.Published()
    changed = board.about.model_copy(update={"condition": "hidden units reordered"})
    assert published.published(boards.replace(board, about=changed), known) == published.Published()


def test_published_rows_enter_no_rank_and_no_table_of_scores(tiny_loaded, board, monkeypatch):
    results = Results(tuple(tiny_loaded))
    before = text.score_table(results.boards), results.standings, Leaderboard(results).json(), results.best
    better = scores_of(board, *(score(board, target=row.target, metric=row.metric) for row in board.rows if row.ranks))
    monkeypatch.setattr(published, "list_published_scores", lambda: {board.benchmark: (better,)})
    again = Results(tuple(tiny_loaded))
    assert text.score_table(again.boards).equals(before[0])
    assert (again.standings, Leaderboard(again).json(), again.best) == before[1:]
    assert "Oracle" in Leaderboard(again).html()


def test_the_page_shows_published_rows_beneath_the_ranked_ones(tiny_loaded, board, reported):
    html = page.html(boards.boards(tiny_loaded), tiny_loaded)
    (grey,) = re.findall(r'<tbody class="unranked published">(.*?)</tbody>', html, re.DOTALL)
    table = html[: html.index('<tbody class="unranked published">')].rpartition("<table")[2]
    assert all(f'<tr data-encoder="{encoder}" data-column=' in table for encoder in board.encoders)
    assert re.findall(r'<tr data-encoder="(\w+)">', grey) == ["Oracle", "Copied"]
    assert "0.9999 ± 0.0004" in grey
    assert "as published, 2024 [1]" in grey
    assert "secondary, 2024 [2]" in grey
    assert not re.search("data-value|data-rank|#1|class=.rank", grey)
    assert "[1] Somebody et al., 2024." in html
    # As many cells a row as the table has columns, so that hidden columns stay hidden in both.
    columns = table.partition("</thead>")[0].count("<th scope=")
    assert {row.count("<td") + row.count("<th") for row in grey.split("</tr>")[:-1]} == {columns}


def test_the_texts_name_them_as_not_ranked(tiny_loaded, board, reported):
    for written in (text.text([board], tiny_loaded), text.markdown([board], tiny_loaded)):
        assert "not ranked, as published [1]: Oracle: test_accuracy R² 0.9999, test_accuracy τ-b 0.900" in written
        assert "not ranked, secondary [2]: Copied: epoch R² 0.250" in written
        assert "[2] A table that others copied, 2024" in written


def test_a_page_without_published_rows_has_no_place_for_them(tiny_loaded):
    assert "Grey rows" not in page.html(boards.boards(tiny_loaded), tiny_loaded)
