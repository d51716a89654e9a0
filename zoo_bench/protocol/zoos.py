"""The zoos of a benchmark: found by name in a folder, and made or pulled where that is asked for.

Nothing is made behind anybody's back: a zoo can take days, so without being asked a missing one is an error that names
the command.
"""

from pathlib import Path
from typing import Literal

from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import Zoo, open_zoo

Missing = Literal["refuse", "make", "pull"]


def find_zoo(folder: Path, name: str) -> Zoo:
    """Open a zoo by its name below a folder.

    Raises:
        ZooError: it is not there, or another zoo is.
    """
    if not (folder / name).is_dir():
        raise ZooError(
            f"{folder / name}: no such zoo; make it with: zoo-gen run {name} --out {folder / name}, "
            "or with zoo-bench run --missing-zoos make (or pull, if it is published)"
        )
    zoo = open_zoo(folder / name)
    if zoo.name != name:
        raise ZooError(f"{folder / name}: holds the zoo {zoo.name!r}; expected {name!r}")
    return zoo


def find_zoos(benchmark: BenchmarkManifest, folder: Path) -> list[Zoo]:
    """Open the zoos of a benchmark, under its split if it has one.

    Raises:
        ZooError: one is not there.
    """
    opened = [find_zoo(folder, name) for name in benchmark.zoos]
    split = benchmark.split
    return opened if split is None else [zoo.with_split(split) for zoo in opened]


def make_missing(
    benchmark: BenchmarkManifest, folder: Path, *, data_root: Path | None = None, workers: int | None = None
) -> list[str]:
    """Train what the zoos of a benchmark lack, by the shipped manifests, and return the names of those it trained.

    Args:
        benchmark: whose zoos.
        folder: that holds zoos by name.
        data_root: where image data is looked for, as in `zoo-gen run`.
        workers: processes; all cores if not given.

    Raises:
        ZooError: a zoo is neither there nor ships with the package, or cannot be trained.
    """
    from zoo_gen import engine
    from zoo_gen.manifest import find_manifest

    made = []
    for name in benchmark.zoos:
        place = folder / name
        if not (place.is_dir() and open_zoo(place).complete):
            engine.run(find_manifest(name), place, workers=workers, data_root=data_root)
            made.append(name)
    return made


def pull_missing(benchmark: BenchmarkManifest, folder: Path, *, owner: str | None = None) -> list[str]:
    """Pull the zoos of a benchmark that are not there, and return their names.

    Args:
        benchmark: whose zoos.
        folder: that holds zoos by name.
        owner: of the zoos on the Hub, where they are data sets called OWNER/ZOO; without one, zoos are pulled from
            where their papers published them, by the names of the registry with an underscore for the slash.

    Raises:
        ZooError: a zoo is neither there nor published, or cannot be had.
    """
    from zoo_gen.published import pull
    from zoo_gen.published.sources.registry import published_zoos

    missing = [name for name in benchmark.zoos if not (folder / name).is_dir() or not open_zoo(folder / name).complete]
    addresses = {zoo.plain_name: name for name, zoo in published_zoos().items()}
    if owner is not None:
        addresses = {name: f"hf://{owner}/{name}" for name in missing}
    for name in missing:
        if name not in addresses:
            raise ZooError(
                f"{unknown_name('published zoo', name, addresses)}; expected --missing-zoos make, or --owner"
            )
        pull.pull(addresses[name], folder / name)
    return missing
