"""The zoos of a benchmark: opened by name in a folder, and made or pulled on demand.

A zoo can take days, so a missing one is an error that names the command, unless the caller asks to have it made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zoo_bench.protocol.manifest import BenchmarkManifest, read_benchmark
from zoo_bench.protocol.origins import PUBLISHED, by_population, published_name
from zoo_gen.errors import ZooError, argument, either, unknown_name
from zoo_gen.files import location
from zoo_gen.files.location import Folder, locate
from zoo_gen.manifest import shipped_manifests
from zoo_gen.zoo import JOIN, AnyZoo, JointZoo, Zoo, open_zoo, open_zoos


@dataclass(frozen=True)
class ZooAddress:
    """What a worker process needs to open exactly the zoo that its driver has opened."""

    paths: tuple[str, ...]  # of one zoo, or of several that are read as one
    revision: str
    split_sha256: str

    @classmethod
    def of(cls, zoo: AnyZoo) -> Self:
        """Return the address of an opened zoo."""
        zoos = zoo.zoos if isinstance(zoo, JointZoo) else (zoo,)
        paths = (each.path.absolute() if isinstance(each.path, Path) else each.path for each in zoos)
        return cls(tuple(map(str, paths)), zoo.revision, zoo.split_sha256)


def is_there(folder: Folder, name: str) -> bool:
    """Say whether a zoo is in a folder by its name; of names with a + between them, all zoos."""
    return all((folder / each).is_dir() for each in name.split(JOIN))


def find_zoo(folder: Folder, name: str) -> AnyZoo:
    """Open a zoo by its name below a folder, or several by their names with a + between them as one.

    Raises:
        ZooError: one is not there, or a folder holds another zoo.
    """
    if JOIN in name:
        return open_zoos([_find_one(folder, each) for each in name.split(JOIN)])
    return _find_one(folder, name)


def _find_one(folder: Folder, name: str) -> Zoo:
    if not (folder / name).is_dir():
        raise ZooError(f"{folder / name}: no such zoo; {_remedy(name, folder / name)}")
    zoo = open_zoo(folder / name)
    if zoo.name != name:
        raise ZooError(
            f"{folder / name}: holds the zoo {zoo.name!r}; expected {name!r}, which zoo-gen convert and pull call it "
            f"with --name {name}"
        )
    return zoo


def find_zoos(benchmark: BenchmarkManifest, zoos: str | Folder | Sequence[AnyZoo]) -> list[AnyZoo]:
    """Return the zoos of a benchmark, in its order and under its split if it has one.

    Args:
        benchmark: whose zoos.
        zoos: the folder that holds them by name, or the opened zoos.

    Raises:
        ZooError: one is not there.
    """
    if isinstance(zoos, str | Folder):
        opened = [find_zoo(locate(zoos), name) for name in benchmark.zoos]
    else:
        by_name = {zoo.name: zoo for zoo in zoos}
        for name in benchmark.zoos:
            if name not in by_name:
                raise ZooError(f"{benchmark.name}: {unknown_name('zoo', name, by_name)}; expected {benchmark.zoos}")
        opened = [by_name[name] for name in benchmark.zoos]
    split = benchmark.split
    return opened if split is None else [zoo.with_split(split) for zoo in opened]


def open_again(benchmark: BenchmarkManifest, address: ZooAddress) -> AnyZoo:
    """Open a zoo of a benchmark in another process.

    Raises:
        ZooError: it is not there, or has changed since, or is split in a way that nothing on the disk says.
    """
    zoo: AnyZoo = open_zoo(address.paths[0]) if len(address.paths) == 1 else open_zoos(address.paths)
    zoo = zoo if benchmark.split is None else zoo.with_split(benchmark.split)
    if ZooAddress.of(zoo) != address:
        raise ZooError(f"{zoo.path}: has another revision or split than the opened zoo; expected workers=1")
    return zoo


def make_missing_zoos(
    benchmark: str | Path | BenchmarkManifest,
    folder: str | Folder = "zoos",
    *,
    data_root: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
) -> list[str]:
    """Train what the zoos of a benchmark lack, by the shipped manifests, and return the names of those it trained.

    Args:
        benchmark: whose zoos: a name, the path of a TOML file, or a BenchmarkManifest.
        folder: that holds zoos by name.
        data_root: where image data is looked for, as in `zoo-gen run`.
        workers: processes; all cores if not given.
        device: where, as in `zoo_gen.run`: "cpu", "cuda" for all GPUs of the machine, "cuda:N" or "cuda:N,M".

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

    missing = _missing(benchmark, locate(folder))
    for name in missing:
        if name.endswith(PUBLISHED):
            raise ZooError(f"{name}: is published and not trained here; expected {_ways('pull')}")
        out = locate(folder) / name
        engine.run(find_manifest(name), out, workers=workers, device=device, data_root=data_root)
    return missing


def pull_missing_zoos(
    benchmark: str | Path | BenchmarkManifest, folder: str | Folder = "zoos", *, owner: str | None = None
) -> list[str]:
    """Pull the published zoos of a benchmark that are not there, and return their names.

    Args:
        benchmark: whose zoos: a name, the path of a TOML file, or a BenchmarkManifest.
        folder: that holds zoos by name.
        owner: of the zoos on the Hub, where they are data sets called OWNER/ZOO; without one, zoos are pulled from
            where their papers published them, so that the benchmark must be on published zoos (`zoos_from`).

    Raises:
        ZooError: a zoo cannot be pulled; or, when the others are there, it is neither there nor published.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"]
    ... )
    >>> zoo_bench.pull_missing_zoos(benchmark)  # it is there
    []
    """
    from zoo_gen.published import pull

    missing = _missing(benchmark, locate(folder))
    known = {published_name(population): zoo.name for population, zoo in by_population().items()}
    pulled = [name for name in missing if owner is not None or name in known]
    for name in pulled:
        out = locate(folder) / name
        if owner is not None:
            pull.pull(f"hf://{owner}/{name}", out)
            continue
        try:
            pull.pull(known[name], out, zoo_name=name)
        except ZooError as error:
            raise ZooError(f"{error}; the command for this zoo alone is: {_pulling(name, out)}") from None
    for name in missing:
        if name not in pulled and name not in shipped_manifests():
            raise ZooError(f"{locate(folder) / name}: no such zoo; {_remedy(name, locate(folder) / name)}")
        if name not in pulled:
            instead = (
                f", or {argument('zoos_from', 'published')} for what its paper published"
                if name in by_population()
                else ""
            )
            raise ZooError(f"{name}: is trained here and not published; expected {_ways('make')}{instead}")
    return pulled


def _ways(verb: str, program: str = "") -> str:
    """Return how missing zoos are made or pulled."""
    return either(command=f"{program}--missing-zoos {verb}", python=f"zoo_bench.{verb}_missing_zoos")


def _remedy(name: str, out: Folder) -> str:
    """Return what to do about a zoo that is not there."""
    known = by_population()
    if name.removesuffix(PUBLISHED) in known and name.endswith(PUBLISHED):
        return f"pull it with: {_pulling(name, out)}, or with {_ways('pull', 'zoo-bench run ')}"
    if name not in shipped_manifests():
        listed = location.names(out.parent) if out.parent.is_dir() else []
        folders = [each for each in listed if (out.parent / each).is_dir()]
        return f"{unknown_name('zoo', name, folders)}; expected one that zoo-gen run or convert wrote"
    published = f"; or, as its paper published it, with {argument('zoos_from', 'published')}" if name in known else ""
    return f"make it with: zoo-gen run {name} --out {out}, or with {_ways('make', 'zoo-bench run ')}{published}"


def _pulling(name: str, out: Folder) -> str:
    """Return the command that pulls a published zoo under the name that benchmarks know it by."""
    zoo = by_population()[name.removesuffix(PUBLISHED)]
    archive = " --file ARCHIVE" if len(zoo.part.regenerated) > 1 else ""
    return f"zoo-gen pull {zoo.name} --name {name} --out {out}{archive}"


def _missing(benchmark: str | Path | BenchmarkManifest, folder: Folder) -> list[str]:
    """Return the names of the zoos of a benchmark that are not there, or not complete."""
    names = dict.fromkeys(each for name in read_benchmark(benchmark).zoos for each in name.split(JOIN))
    return [name for name in names if not (folder / name).is_dir() or not open_zoo(folder / name).complete]
