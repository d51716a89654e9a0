"""zoo-bench: the commands list, run, tune, encode, leaderboard, export and validate, over zoo_bench's functions."""

import click

from zoo_bench.cli.embeddings import encode
from zoo_bench.cli.evaluation import run, tune
from zoo_bench.cli.standings import export, leaderboard, validate
from zoo_gen.cli.command import JSON, Commands, as_text, table


@click.group(cls=Commands, extra="bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zoo-gen")
def main() -> None:
    """Evaluate encoders of neural-network weights on zoos, and rank them."""


@main.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List the benchmarks and encoders that come with the package."""
    import zoo_bench

    if as_json:
        benchmarks = {name: each.model_dump(mode="json") for name, each in zoo_bench.list_benchmarks().items()}
        click.echo(as_text({"benchmarks": benchmarks, "encoders": zoo_bench.list_encoders()}))
        return
    rows: list[dict[str, object]] = [
        {
            "benchmark": name,
            "protocol": benchmark.protocol,
            "zoos": ", ".join(benchmark.zoos) if len(benchmark.zoos) <= 3 else f"{len(benchmark.zoos)} zoos",
            "targets": ", ".join(benchmark.targets),
        }
        for name, benchmark in zoo_bench.list_benchmarks().items()
    ]
    click.echo(table(rows))
    click.echo()
    encoders = zoo_bench.list_encoders()
    click.echo(table([{"encoder": name, "groups": ", ".join(groups)} for name, groups in encoders.items()]))


for command in (run, tune, encode, leaderboard, export, validate):
    main.add_command(command)
