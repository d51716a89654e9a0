"""The leaderboard's page in a real browser, driven by a script that is added to the page itself."""

import json
import re
import shutil
import subprocess

import pytest

from zoo_bench import boards, leaderboard

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

DRIVER = """
<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
const visible = (query) => [...document.querySelectorAll(query)].filter((one) => one.checkVisibility());
const values = (column) => visible(".board tbody tr").map((row) => row.cells[column].dataset.value).map(Number);
const type = (id, text) => { by(id).value = text; by(id).dispatchEvent(new Event("input", {bubbles: true})); };
const found = {};
found.rows = visible(".board tbody tr").length;
by("every").click();
found.every = visible(".board tbody tr").length;
by("every").click();
type("filter", "test_accuracy");
found.filtered = visible(".board tbody tr").map((row) => row.cells[0].textContent);
type("filter", "");
type("encoder", "pca");
found.encoders = visible(".board thead th[data-encoder]").map((head) => head.dataset.encoder);
type("encoder", "");
const head = visible(".board thead th[data-encoder] button")[0];
head.focus();
head.click();
found.descending = values(2);
found.sorted = head.closest("th").getAttribute("aria-sort");
head.click();
found.ascending = values(2);
const score = visible(".board td.score button")[0];
found.score = score.querySelector(".value").textContent;
score.click();
found.open = by("cell").open;
found.title = by("cell-title").textContent;
found.circles = document.querySelectorAll("#scatter circle").length;
found.costs = document.querySelectorAll("#cost circle").length;
const before = getComputedStyle(document.body).backgroundColor;
by("theme").click();
found.themed = getComputedStyle(document.body).backgroundColor !== before;
found.requests = performance.getEntriesByType("resource").length;
found.errors = errors;
const out = document.createElement("pre");
out.id = "found";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>
"""


@pytest.fixture
def found(tmp_path, tiny_loaded):
    page = tmp_path / "page.html"
    text = leaderboard.html(boards.boards(tiny_loaded), tiny_loaded)
    page.write_text(text.replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=2000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    written = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert written, "the page's script failed before the end"
    return json.loads(written[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_the_page_sorts_filters_and_opens_a_score(found, tiny_loaded):
    (board,) = boards.boards(tiny_loaded)
    assert found["errors"] == []
    assert found["rows"] == sum(row.ranks for row in board.rows)
    assert found["every"] == len(board.rows)
    assert set(found["filtered"]) == {"test_accuracy"}
    assert found["encoders"] == ["pca"]
    assert found["sorted"] == "descending"
    assert found["descending"] == sorted(found["descending"], reverse=True)
    assert found["ascending"] == sorted(found["ascending"])
    assert found["open"]
    assert found["title"].startswith(f"{board.encoders[0]}: ")
    assert found["circles"] in (0, 40)  # a number has as many points as test rows, a name has none
    assert found["costs"] == len(board.encoders)
    assert found["themed"]
    assert found["requests"] == 0
