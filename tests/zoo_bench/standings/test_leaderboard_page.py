"""The leaderboard's page in a real browser, driven by a script that is added to the page itself.

Keys are pressed as a keyboard presses them as far as a script can: focus, then the click that Enter on a button is.
"""

import json
import re
import shutil
import subprocess

import pytest

from tests import waiting
from zoo_bench.evaluation import run
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.standings import boards, page
from zoo_bench.standings.boards import load
from zoo_gen import engine as zoo_engine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

DRIVER = """
<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
const visible = (query) => [...document.querySelectorAll(query)].filter((one) => one.checkVisibility());
const type = (id, text) => { by(id).value = text; by(id).dispatchEvent(new Event("input", {bubbles: true})); };
const press = (element) => { element.focus(); if (document.activeElement === element) element.click(); };
const heads = () => visible(".board thead th[data-target]").map((head) => head.dataset.target);
const rows = () => visible(".board tbody tr[data-encoder]").map((row) => row.dataset.encoder);
const scored = () => visible(".board tbody tr[data-encoder]");
const column = (head) => scored().map((row) => Number(row.cells[head.cellIndex].dataset.value));
const found = {};
found.heads = heads();
found.rows = rows();
const texts = (row) => [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent);
found.floors = visible(".board tbody.unranked tr").map(texts);
found.marked = visible("td.score .floor").length;
const PARTS = ".rank, .value, .by, .floor";
const parts = (td) => [...td.querySelectorAll(PARTS)].map((part) => part.getBoundingClientRect());
const beside = (one, other) => one.right <= other.left || other.right <= one.left;
const apart = (one, other) => beside(one, other) || one.bottom <= other.top || other.bottom <= one.top;
const clear = (boxes) => boxes.every((one, place) => boxes.slice(0, place).every((other) => apart(one, other)));
found.overlapping = visible("td.score").filter((td) => !clear(parts(td))).length;
press(by("numbers"));
found.intervals = visible(".interval").length;
found.scores = visible("td.score .value").length;
press(by("numbers"));
found.without = visible(".interval").length;
type("metric", "mae");
found.mae = [...new Set(visible(".board thead th[data-target]").map((head) => head.dataset.metric))];
type("metric", "");
type("target", "test_accuracy");
found.filtered = heads();
type("target", "");
type("encoder", "pca");
found.encoders = rows();
found.said = by("count").textContent;
type("encoder", "");
type("benchmark", "cross");
found.parts = visible(".benchmark").map((part) => part.dataset.benchmark);
type("benchmark", "tiny_standard");
const head = visible(".board thead th[data-target]")[0];
press(head.querySelector("button"));
found.descending = column(head);
found.sorted = head.getAttribute("aria-sort");
press(head.querySelector("button"));
found.ascending = column(head);
found.again = head.getAttribute("aria-sort");
const look = (target) => {
  const its = visible(".board td.score button").find((one) => {
    const td = one.closest("td");
    return td.closest("table").tHead.rows[0].cells[td.cellIndex].dataset.target === target;
  });
  press(its);
  const told = {open: by("cell").open, title: by("cell-title").textContent, facts: by("cell-facts").textContent,
    circles: by("scatter").querySelectorAll("circle").length, boxes: by("scatter").querySelectorAll("rect").length,
    inside: by("cell").contains(document.activeElement)};
  by("cell").close();
  return {...told, back: document.activeElement === its};
};
found.number = look("test_accuracy");
found.name = look("optimizer");
type("benchmark", "cross");
press(visible(".heat td button")[0]);
found.heat = {open: by("cell").open, title: by("cell-title").textContent, facts: by("cell-facts").textContent};
by("cell").close();
type("benchmark", "");
found.costs = document.querySelectorAll("#cost circle").length;
document.querySelector("[name=cost][value=memory]").click();
found.memory = document.querySelectorAll("#cost circle").length;
const named = (one) => one.textContent.trim() || one.ariaLabel || one.labels?.length;
found.unnamed = visible("button, input, select").filter((one) => !named(one)).length;
const tables = [...document.querySelectorAll("table")];
found.uncaptioned = tables.filter((table) => !table.caption?.textContent.trim()).length;
found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const before = getComputedStyle(document.body).backgroundColor;
press(by("theme"));
found.csv = download();
type("encoder", "pca");
type("metric", "mae");
found.hash = location.hash;
type("encoder", "");
type("metric", "");
location.hash = "#encoder=weights";
restore();
filter();
found.restored = rows();
type("encoder", "");
found.cleared = location.hash;
found.hints = visible(".more").length;
found.wideTables = document.querySelectorAll(".scroll.wide").length;
found.themed = getComputedStyle(document.body).backgroundColor !== before;
found.requests = performance.getEntriesByType("resource").length;
found.errors = errors;
const out = document.createElement("pre");
out.id = "found";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, tiny_loaded, tiny_zoo):
    """The results on the tiny zoo, and those across it and another one."""
    folder = tmp_path_factory.mktemp("crossed")
    shutil.copytree(tiny_zoo, folder / "tiny")
    text = (tiny_zoo / "manifest.toml").read_text().replace('"tiny"', '"other"').replace("noise = 0.1", "noise = 0.3")
    (folder / "other.toml").write_text(text)
    zoo_engine.run(folder / "other.toml", folder / "other", workers=1)
    manifest = BenchmarkManifest(
        name="cross", protocol="cross_dataset", zoos=("tiny", "other"), targets=("test_accuracy",), checkpoints="last"
    )
    list(run.run(manifest, ["weights", "pca"], zoos=folder, results=folder / "results", seeds=[0]))
    return [*tiny_loaded, *load(folder / "results")]


@pytest.fixture(scope="module")
def in_browser(tmp_path_factory, loaded):
    folder = tmp_path_factory.mktemp("page")
    file = folder / "page.html"
    file.write_text(page.html(boards.boards(loaded), loaded).replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
            *("--window-size=420,900", "--virtual-time-budget=2000", "--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=waiting.LIMIT,
        check=True,
    )
    written = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert written, "the page's script failed before the end"
    return json.loads(written[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_a_table_has_a_row_an_encoder_and_a_column_a_target_that_ranks(in_browser, tiny_loaded):
    (board,) = boards.boards(tiny_loaded)
    assert in_browser["errors"] == []
    assert in_browser["heads"] == [row.target for row in board.rows if row.ranks]
    assert in_browser["rows"] == list(board.encoders)


def test_floors_are_rows_below_the_encoders(in_browser, tiny_loaded):
    cell = tiny_loaded[0].result.cells[0]
    ranking = dict.fromkeys((score.target, score.metric) for score in cell.scores if score.ranks)
    values = {(score.target, score.metric, score.by): score.value for score in cell.scores}
    texts = {
        by: [page.render.in_digits(values[target, metric, by]) for target, metric in ranking]
        for by in ("recipe", "mean")
    }
    assert [row[2:] for row in in_browser["floors"]] == [texts["recipe"], texts["mean"]]
    assert [row[0].startswith(name) for row, name in zip(in_browser["floors"], ("hyper", "the mean"), strict=True)]


def test_what_stands_in_a_cell_does_not_overlap(in_browser):
    assert in_browser["marked"] > 0
    assert in_browser["overlapping"] == 0


def test_intervals_are_written_into_cells_and_taken_away(in_browser):
    assert in_browser["intervals"] == in_browser["scores"] > 0
    assert in_browser["without"] == 0


def test_columns_and_rows_are_filtered(in_browser):
    assert in_browser["mae"] == ["mae"]
    assert set(in_browser["filtered"]) == {"test_accuracy"}
    assert set(in_browser["encoders"]) == {"pca"}
    assert in_browser["said"] == "1 encoder"
    assert in_browser["parts"] == ["cross"]


def test_a_head_sorts_both_ways_and_says_so(in_browser):
    assert in_browser["sorted"] == "descending"
    assert in_browser["descending"] == sorted(in_browser["descending"], reverse=True)
    assert in_browser["again"] == "ascending"
    assert in_browser["ascending"] == sorted(in_browser["ascending"])
    assert len(set(in_browser["ascending"])) > 1


def test_a_score_opens_its_predictions_and_gives_the_focus_back(in_browser, tiny_loaded):
    number, name = in_browser["number"], in_browser["name"]
    assert number["open"]
    assert number["title"].endswith(": test_accuracy")
    assert "95 % interval[" in number["facts"]
    assert number["circles"] == 40 + 5  # a point a test row, and one an epoch in the key
    assert name["boxes"] == 4  # adam and sgd, each taken for each
    assert number["inside"]
    assert number["back"]


def test_a_cell_of_a_heat_map_opens_its_score(in_browser):
    assert in_browser["heat"]["open"]
    assert "cell" in in_browser["heat"]["facts"]
    assert in_browser["heat"]["title"].endswith(": test_accuracy")


def test_costs_are_drawn(in_browser, tiny_loaded):
    assert in_browser["costs"] == len({each.result.encoder for each in tiny_loaded})
    assert in_browser["memory"] == in_browser["costs"]  # those that take no memory too


def test_the_address_keeps_the_filters_and_gives_them_back(in_browser):
    assert in_browser["hash"] == "#metric=mae&encoder=pca"
    assert {name for name in in_browser["restored"] if "weights" not in name} == set()
    assert in_browser["restored"]
    assert in_browser["cleared"] == ""


def test_every_score_of_the_page_can_be_downloaded(in_browser, loaded):
    every = [cell for board in boards.boards(loaded) for row in board.rows for cell in row.cells]
    assert in_browser["csv"] == sum(cell.value is not None for cell in every)


def test_a_table_that_goes_on_says_so(in_browser):
    assert in_browser["wideTables"] > 0
    assert in_browser["hints"] > 0


def test_everything_has_a_name_and_a_narrow_window_does_not_scroll_sideways(in_browser):
    assert in_browser["unnamed"] == 0
    assert in_browser["uncaptioned"] == 0
    assert in_browser["wide"] == 0
    assert in_browser["themed"]
    assert in_browser["requests"] == 0
