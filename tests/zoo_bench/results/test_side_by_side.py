import itertools
import threading
from pathlib import Path

from zoo_bench.results import side_by_side as side_by_side_module
from zoo_bench.results.side_by_side import side_by_side


def seed_of(path: Path) -> int:
    return int(path.stem.removeprefix("seed-"))


PATHS = [Path(encoder) / f"seed-{seed}.json" for encoder in ("a", "b", "c") for seed in (0, 1)]


def test_answers_come_in_the_order_of_the_results_whatever_ends_first(monkeypatch):
    monkeypatch.setattr(side_by_side_module, "usable_cores", lambda: len(PATHS))
    ended = {path: threading.Event() for path in PATHS}

    def answer(path: Path) -> str:
        after = dict(itertools.pairwise(PATHS)).get(path)
        assert after is None or ended[after].wait(60)  # the last one ends first
        ended[path].set()
        return f"{path.parent} {path.stem}"

    assert list(side_by_side(answer, PATHS, seed=seed_of)) == [
        "a seed-0",
        "a seed-1",
        "b seed-0",
        "b seed-1",
        "c seed-0",
        "c seed-1",
    ]


def test_first_seeds_of_all_encoders_come_first(monkeypatch):
    monkeypatch.setattr(side_by_side_module, "usable_cores", lambda: 1)
    asked: list[Path] = []
    list(side_by_side(asked.append, PATHS, seed=seed_of))
    assert [path.name for path in asked] == ["seed-0.json"] * 3 + ["seed-1.json"] * 3
