"""The zoos of a benchmark: opened by name in a folder, and made or pulled on demand.

A zoo can take days, so a missing one is an error that names the command, unless the caller asks to have it made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zoo_bench.protocol.manifest import BenchmarkManifest, read_benchmark
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import Zoo, open_zoo


@dataclass(frozen=True)
class ZooAddress:
    """What a worker process needs to open exactly the zoo that its driver has opened."""

    path: str
    revision: str
    split_sha256: str

    @classmethod
    def of(cls, zoo: Zoo) -> Self:
        """Return the address of an opened zoo."""
        path = zoo.path.absolute() if isinstance(zoo.path, Path) else zoo.path
        return cls(str(path), zoo.revision, zoo.split_sha256)


def find_zoo(folder: Path, name: str) -> Zoo:
    """Open a zoo by its name below a folder.

    Raises:
        ZooError: it is not there, or the folder holds another zoo.
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


def find_zoos(benchmark: BenchmarkManifest, zoos: str | Path | Sequence[Zoo]) -> list[Zoo]:
    """Return the zoos of a benchmark, in its order and under its split if it has one.

    Args:
        benchmark: whose zoos.
        zoos: the folder that holds them by name, or the opened zoos.

    Raises:
        ZooError: one is not there.
    """
    if isinstance(zoos, str | Path):
        opened = [find_zoo(Path(zoos), name) for name in benchmark.zoos]
    else:
        given = {zoo.name: zoo for zoo in zoos}
        for name in benchmark.zoos:
            if name not in given:
                raise ZooError(f"{benchmark.name}: {unknown_name('zoo', name, given)}; expected {benchmark.zoos}")
        opened = [given[name] for name in benchmark.zoos]
    split = benchmark.split
    return opened if split is None else [zoo.with_split(split) for zoo in opened]


def open_again(benchmark: BenchmarkManifest, address: ZooAddress) -> Zoo:
    """Open a zoo of a benchmark in another process.

    Raises:
        ZooError: it is not there, or has changed since, or is split in a way that nothing on the disk says.
    """
    zoo = open_zoo(address.path)
    zoo = zoo if benchmark.split is None else zoo.with_split(benchmark.split)
    if ZooAddress.of(zoo) != address:
        raise ZooError(f"{address.path}: has another revision or split than the opened zoo; expected workers=1")
    return zoo


def make_missing_zoos(
    benchmark: str | Path | BenchmarkManifest,
    folder: str | Path = "zoos",
    *,
    data_root: Path | None = None,
    workers: int | None = None,
) -> list[str]:
    """Train what the zoos of a benchmark lack, by the shipped manifests, and return the names of those it trained.

    Args:
        benchmark: whose zoos: a name, the path of a TOML file, or a BenchmarkManifest.
        folder: that holds zoos by name.
        data_root: where image data is looked for, as in `zoo-gen run`.
        workers: processes; all cores if not given.

    Raises:
        ZooError: a zoo is neither there nor ships with the package, or cannot be trained.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"]
    ... )
    >>> zoo_bench.make_missing_zoos(benchmark)  # it is there
    []
    """
    from zoo_gen import engine
    from zoo_gen.manifest import find_manifest

    missing = _missing(benchmark, Path(folder))
    for name in missing:
        engine.run(find_manifest(name), Path(folder) / name, workers=workers, data_root=data_root)
    return missing


def pull_missing_zoos(
    benchmark: str | Path | BenchmarkManifest, folder: str | Path = "zoos", *, owner: str | None = None
) -> list[str]:
    """Pull the zoos of a benchmark that are not there, and return their names.

    Args:
        benchmark: whose zoos: a name, the path of a TOML file, or a BenchmarkManifest.
        folder: that holds zoos by name.
        owner: of the zoos on the Hub, where they are data sets called OWNER/ZOO; without one, zoos are pulled from
            where their papers published them, by the names of the registry with an underscore for the slash.

    Raises:
        ZooError: a zoo is neither there nor published, or cannot be pulled.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"]
    ... )
    >>> zoo_bench.pull_missing_zoos(benchmark)  # it is there
    []
    """
    from zoo_gen.published import pull
    from zoo_gen.published.sources.registry import published_zoos

    missing = _missing(benchmark, Path(folder))
    addresses = {zoo.plain_name: name for name, zoo in published_zoos().items()}
    if owner is not None:
        addresses = {name: f"hf://{owner}/{name}" for name in missing}
    for name in missing:
        if name not in addresses:
            raise ZooError(
                f"{unknown_name('published zoo', name, addresses)}; expected --missing-zoos make, or --owner"
            )
        pull.pull(addresses[name], Path(folder) / name)
    return missing


def _missing(benchmark: str | Path | BenchmarkManifest, folder: Path) -> list[str]:
    """Return the names of the zoos of a benchmark that are not there, or not complete."""
    names = read_benchmark(benchmark).zoos
    return [name for name in names if not (folder / name).is_dir() or not open_zoo(folder / name).complete]
