from html.parser import HTMLParser

import pytest

from zoo_bench import leaderboard
from zoo_bench.results import Result
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
        if tag not in ("meta", "line", "rect", "br", "link", "img"):
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
def boards(tiny_results):
    return leaderboard.boards(tiny_results[1])


def changed(result: Result, **values) -> Result:
    return result.model_copy(update={"zoos": tuple(zoo.model_copy(update=values) for zoo in result.zoos)})


def test_every_score_stands_on_the_board(tiny_results, boards):
    (board,) = boards
    for result in tiny_results[1]:
        column = board.encoders.index(result.encoder)
        for score, row in zip(result.zoos[0].scores, board.rows, strict=True):
            assert (row.target, row.metric) == (score.target, score.metric)
            assert row.cells[column].value == score.value
            assert (row.cells[column].low, row.cells[column].high) == (score.low, score.high)


def test_encoders_are_ordered_by_their_mean_rank(boards):
    (board,) = boards
    ranked = [row for row in board.rows if row.ranks]
    ranks = []
    for column in range(len(board.encoders)):
        own = []
        for row in ranked:
            values = [cell.value for cell in row.cells]
            better = sum(value > values[column] for value in values)
            equal = sum(value == values[column] for value in values)
            own.append(better + (equal + 1) / 2)
        ranks.append(sum(own) / len(own))
    assert board.mean_ranks == pytest.approx(ranks)
    assert ranks == sorted(ranks)


def test_the_best_of_a_row_is_marked_and_overlap_is_told(boards):
    for row in boards[0].rows:
        best = max(cell.value for cell in row.cells)
        low = max(cell.low for cell in row.cells if cell.value == best)
        for cell in row.cells:
            assert cell.is_best == (cell.value == best)
            assert cell.ties_with_best == (cell.value != best and cell.high >= low)


def test_the_page_is_whole_and_needs_nothing_else(tiny_results, boards):
    text = leaderboard.html(boards, tiny_results[1])
    page = Page(text)
    assert page.open == []
    assert page.addresses == []
    assert "@import" not in text
    assert "url(" not in text
    score = tiny_results[1][0].zoos[0].scores[0]
    assert any(cell.startswith(f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]") for cell in page.cells)
    assert tiny_results[1][0].zoos[0].revision in text


def test_names_cannot_smuggle_markup_into_the_page(tiny_results):
    evil = tiny_results[1][0].model_copy(update={"encoder": "<script>alert(1)</script>"})
    text = leaderboard.html(leaderboard.boards([evil]), [evil])
    assert "<script>" not in text


def test_the_terminal_table_shows_value_and_interval(boards):
    text = leaderboard.text(boards)
    cell = boards[0].rows[0].cells[0]
    assert f"{cell.value:.3f} [{cell.low:.2f}, {cell.high:.2f}]" in text
    assert "24 models train, 8 select, 8 test" in text


def test_seeds_are_averaged(tiny_results):
    first = tiny_results[1][0]
    scores = tuple(s.model_copy(update={"value": s.value + 0.1}) for s in first.zoos[0].scores)
    second = changed(first, scores=scores).model_copy(update={"seed": 1})
    (board,) = leaderboard.boards([first, second])
    assert board.seeds == (0, 1)
    assert board.rows[0].cells[0].value == pytest.approx(first.zoos[0].scores[0].value + 0.05)


def test_an_undefined_score_is_shown_as_such_and_ranks_last(tiny_results):
    first, second = tiny_results[1][:2]
    scores = tuple(s.model_copy(update={"value": None, "low": None, "high": None}) for s in first.zoos[0].scores)
    results = [changed(first, scores=scores), second]
    (board,) = leaderboard.boards(results)
    assert board.encoders == (second.encoder, first.encoder)
    assert "undefined" in leaderboard.text([board])
    assert "undefined" in leaderboard.html([board], results)


@pytest.mark.parametrize(
    ("field", "what"), [("revision", "another revision of the zoo"), ("split_sha256", "another split")]
)
def test_results_of_different_zoos_are_not_mixed(tiny_results, field, what):
    first, second = tiny_results[1][:2]
    with pytest.raises(ZooError, match=f"{what} of tiny"):
        leaderboard.boards([first, changed(second, **{field: "0" * 64})])
