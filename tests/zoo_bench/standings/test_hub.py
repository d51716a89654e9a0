import pytest
import yaml
from click.testing import CliRunner

from zoo_bench.cli import main
from zoo_bench.standings import boards
from zoo_bench.standings.hub import export
from zoo_gen.errors import ZooError


def test_the_hubs_own_reader_finds_every_score_that_ranks(tmp_path, tiny_loaded):
    from huggingface_hub import parse_eval_result_entries

    (board,) = boards.boards(tiny_loaded)
    (path,) = export([board], "pca", tmp_path, owner="my-lab", source_url="https://example.org/leaderboard")
    assert path == tmp_path / ".eval_results" / "tiny_standard.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    column = board.encoders.index("pca")
    ranking = {row.target: row for row in board.rows if row.ranks}
    assert [entry.value for entry in entries] == [row.cells[column].value for row in ranking.values()]
    assert {entry.dataset_id for entry in entries} == {"my-lab/tiny"}
    assert entries[0].task_id == "tiny_standard_epoch_r2"
    assert len({entry.task_id for entry in entries}) == len(entries)
    assert {entry.source_url for entry in entries} == {"https://example.org/leaderboard"}
    assert all(board.about.test.revision in entry.notes for entry in entries)


def test_an_encoder_without_results_is_named(tmp_path, tiny_loaded):
    with pytest.raises(ZooError, match="unknown encoder 'pac'; did you mean 'pca'"):
        export(boards.boards(tiny_loaded), "pac", tmp_path, owner="my-lab")


def test_the_command_writes_the_file(tmp_path, tiny_results):
    arguments = ["export", "weights", "--results", tiny_results[0], "--out", tmp_path, "--owner", "my lab"]
    wrong = CliRunner().invoke(main, [str(result) for result in arguments])
    assert wrong.exit_code == 2
    assert "error: --owner 'my lab': expected the name of a user" in wrong.stderr
    right = CliRunner().invoke(main, [str(result) for result in arguments[:-1]] + ["my-lab"])
    assert right.exit_code == 0
    assert (tmp_path / ".eval_results" / "tiny_standard.yaml").is_file()
