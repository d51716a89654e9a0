"""What commands print as JSON: the numbers of the zoo itself, and nothing that JSON does not have."""

import json

import numpy as np
from click.testing import CliRunner

import zoo_bench
import zoo_gen
from tests.conftest import TINY
from zoo_bench.cli import main as bench
from zoo_gen.cli.main import main


def printed(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(result.stdout, parse_constant=refuse)


def test_info_gives_the_numbers_of_the_zoo(tiny_zoo):
    zoo, content = zoo_gen.open_zoo(tiny_zoo), printed(main, "info", tiny_zoo, "--json")
    final = np.array(zoo.test_accuracy[:, -1])
    assert content["outcome"] == {
        "metric": "test_accuracy",
        "lowest": float(final.min()),
        "median": float(np.median(final)),
        "highest": float(final.max()),
    }
    assert content["split"] == {part: len(zoo.split(part)) for part in ("train", "validation", "test")}
    assert content["bytes"] == sum(path.stat().st_size for path in tiny_zoo.rglob("*") if path.is_file())
    assert (content["models"], content["epochs"], content["revision"]) == (40, [0, 1, 2, 3, 4], zoo.revision)
    assert content["varying"]["learning_rate"] == [0.01, 0.03]


def test_a_zoo_of_models_that_all_diverged_is_json_too(tmp_path):
    text = TINY.replace("[1e-2, 3e-2]", "[1e30]").replace('["adam", "sgd"]', '["sgd"]').replace("[1, 5]", "[1, 1]")
    (tmp_path / "wild.toml").write_text(text.replace('["relu", "tanh"]', '["relu"]'))
    zoo = zoo_gen.run(tmp_path / "wild.toml", tmp_path / "wild", workers=1, progress=False)
    content = printed(main, "info", zoo.path, "--json")
    assert (content["diverged"], content["outcome"]["median"]) == (1, None)


def test_list_gives_every_zoo_benchmark_and_encoder():
    zoos = printed(main, "list", "--json")
    assert {row["zoo"] for row in zoos} == set(zoo_gen.list_zoos())
    assert next(row for row in zoos if row["zoo"] == "tetris_seed")["varies"] == ["seed"]
    assert {row["zoo"] for row in printed(main, "list", "--published", "--json")} == set(zoo_gen.list_published_zoos())
    content = printed(bench, "list", "--json")
    assert set(content["benchmarks"]) == set(zoo_bench.list_benchmarks())
    assert content["encoders"]["pca"] == ["default", "small"]
