"""Whatever a command can do, a public function does: each option is an argument, or has its own way in Python."""

import inspect

import click
import pytest

import zoo_bench
import zoo_gen
from zoo_bench.cli import main as bench
from zoo_bench.encoders.training.supervised import SupervisedEncoder
from zoo_gen.cli.main import main as gen

# command -> the public functions that do what it does
FUNCTIONS = {
    "zoo-gen convert": [zoo_gen.convert],
    "zoo-gen diff": [zoo_gen.diff],
    "zoo-gen export": [zoo_gen.export],
    "zoo-gen info": [zoo_gen.open_zoo, zoo_gen.write_plots],
    "zoo-gen list": [zoo_gen.list_zoos, zoo_gen.list_published_zoos],
    "zoo-gen merge": [zoo_gen.merge],
    "zoo-gen plan": [zoo_gen.plan],
    "zoo-gen pull": [zoo_gen.pull, zoo_gen.plan_pull, zoo_gen.download],
    "zoo-gen push": [zoo_gen.push, zoo_gen.plan_push],
    "zoo-gen run": [zoo_gen.run],
    "zoo-gen split": [zoo_gen.split],
    "zoo-gen verify": [zoo_gen.verify],
    "zoo-bench encode": [zoo_bench.fit, zoo_bench.encode, zoo_bench.load_encoder, zoo_bench.push_encoder],
    "zoo-bench export": [zoo_bench.leaderboard, zoo_bench.Leaderboard.export],
    "zoo-bench leaderboard": [zoo_bench.load_results, zoo_bench.Results.only],
    "zoo-bench list": [zoo_bench.list_benchmarks, zoo_bench.list_encoders],
    "zoo-bench run": [
        *(zoo_bench.evaluate, zoo_bench.make_missing_zoos, zoo_bench.pull_missing_zoos, zoo_bench.Runtime),
        zoo_bench.mock,
    ],
    "zoo-bench tune": [zoo_bench.tune],
    "zoo-bench validate": [zoo_bench.validate],
}
# An option that is no argument of the same name -> the argument or public name that stands for it.
STANDS_FOR = {
    "as_json": zoo_gen.Zoo.described,  # of zoos; Leaderboard.json, and model_dump of manifests and benchmarks
    "dry_run": zoo_gen.plan_pull,
    "download_only": zoo_gen.download,
    "engine": "scheduler",  # given or not
    "format_": "format",
    "html": zoo_bench.Leaderboard.html,
    "load": zoo_bench.load_encoder,
    "markdown": zoo_bench.Leaderboard.markdown,
    "missing_zoos": zoo_bench.make_missing_zoos,
    "mock": zoo_bench.mock,
    "parquet": zoo_bench.Leaderboard.write_parquet,
    "plot": zoo_bench.plot_embeddings,
    "plots": zoo_gen.write_plots,
    "published": zoo_gen.list_published_zoos,
    "push": zoo_bench.push_encoder,
    "save": SupervisedEncoder.save,  # as every encoder has that can be saved
    "settings": zoo_bench.make_encoder,  # as in pca[dimension=20]
    "verbose": zoo_bench.Finding,  # and errors have `traceback`
}
OF_OTHERS = {  # the same option of another command
    ("zoo-gen export", "out"): "folder",
    ("zoo-gen info", "zoo"): "path",
    ("zoo-bench encode", "out"): zoo_bench.Embeddings.save,
    ("zoo-bench export", "out"): "folder",
    ("zoo-bench export", "results"): "results",
    ("zoo-bench run", "benchmarks"): "benchmark",  # a call each
    ("zoo-bench run", "encoders"): "encoder",
    ("zoo-bench validate", "results"): "folder",
}
OPTIONS = [
    (f"{program} {name}", option.name)
    for program, group in (("zoo-gen", gen), ("zoo-bench", bench))
    for name, command in group.commands.items()
    for option in command.params
    if isinstance(option, click.Option | click.Argument)
]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_of_a_command_is_an_argument_of_its_functions_in_python(command, option):
    arguments = {name for function in FUNCTIONS[command] for name in inspect.signature(function).parameters}
    stand_in = OF_OTHERS.get((command, option), STANDS_FOR.get(option, option))
    assert callable(stand_in) or stand_in in arguments, f"expected one of {sorted(arguments)}"


def test_every_command_has_public_functions():
    assert {command for command, _ in OPTIONS} <= set(FUNCTIONS)
    for functions in FUNCTIONS.values():
        for function in functions:
            package = zoo_gen if function.__module__.startswith("zoo_gen") else zoo_bench
            assert function.__qualname__.partition(".")[0] in package.__all__
