import pytest

from tests import waiting
from zoo_gen.machine import progress
from zoo_gen.machine.progress import Lines, Watch, progress_bar, reporter


def test_a_log_gets_a_line_a_minute_and_none_in_a_shorter_run(capsys, monkeypatch):
    with progress_bar(label="zoo", unit="model", total=10) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)  # a minute that is soon over
    with progress_bar(label="zoo", unit="model", total=10) as bar:
        bar.update(3)
        waiting.until(lambda: "zoo: 3 of 10 models after " in capsys.readouterr().err)


def test_a_line_says_how_much_is_done_and_how_long_the_rest_takes():
    lines = Lines(label="zoo", unit="model", total=1000, done=200)
    assert lines.line(60) == "zoo: 200 of 1,000 models after 1 min"
    lines.update(100)
    lines.set_postfix({"loss": "0.5"})
    assert lines.line(3600) == "zoo: 300 of 1,000 models after 1 h 0 min, 7 h 0 min left, loss 0.5"


def test_nothing_is_written_where_nobody_asks_or_bytes_are_counted(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.001)
    for options in ({"unit": "B"}, {"unit": "model", "shown": False}):
        with progress_bar(label="zoo", total=10, **options) as bar:
            assert not isinstance(bar, Lines)
            bar.update(5)
        assert capsys.readouterr().err == ""


def test_a_bar_moves_inside_of_what_workers_are_at(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.001)
    bar = Lines(label="zoo", unit="model", total=100, done=10)
    (tmp_path / "7").write_text("")  # as while it is being written
    with Watch(bar, tmp_path) as watch:
        # What is done only grows here: a look between two writes must not see more than comes afterwards.
        for shard, models in ((4, 12.5), (9, 3.75)):
            reporter(tmp_path, shard)(models)
        waiting.until(lambda: bar.n == 26)
        reporter(tmp_path, 4)(20.0)
        waiting.until(lambda: bar.n == 33)
        watch.complete(25, 4)
        waiting.until(lambda: bar.n == 38)
    assert bar.n == 38
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "9"]


def test_what_a_worker_says_to_a_run_that_ended_is_lost(tmp_path):
    reporter(tmp_path / "removed", 0)(1.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "60 min"), (7_260, "2 h 1 min"), (172_800, "2.0 days")],
)
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words
