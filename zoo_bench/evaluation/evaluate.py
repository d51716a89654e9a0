"""evaluate: score encoders on a benchmark from Python; `zoo-bench run` does the same from the command line."""

import operator
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation import run
from zoo_bench.evaluation.assembly import stored_path
from zoo_bench.evaluation.candidate import AnyEncoder
from zoo_bench.evaluation.candidates import candidates
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.origins import ZoosFrom
from zoo_bench.protocol.protocols import On
from zoo_bench.protocol.standard import benchmark_or_zoo
from zoo_bench.standings.boards import load_result
from zoo_bench.standings.collection import Results
from zoo_gen.errors import ZooError, check_number, resumes, shown, unknown_name
from zoo_gen.files.location import Folder, on_disk
from zoo_gen.zoo import AnyZoo


def evaluate(
    encoder: AnyEncoder | Sequence[AnyEncoder] | Mapping[str, AnyEncoder],
    benchmark: str | Path | BenchmarkManifest | AnyZoo,
    *,
    zoos: str | Folder | Sequence[AnyZoo] = "zoos",
    zoos_from: ZoosFrom | None = None,
    seeds: Sequence[int] = (0,),
    device: str | Runtime = "auto",
    results: str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    rerun: run.Rerun = "only-missing",
    on: On = "test",
    progress: bool = True,
) -> Results:
    """Fit and score encoders on every cell of a benchmark.

    An encoder is a name (see `list_encoders`), `package.module:Class`, a class, or an object with `fit`, `encode` and
    `config` (see `Encoder`), which may be defined in a notebook. An object itself stays as it is: every cell and seed
    fits a deep copy of it. Its results are stored under `package.module:Class`, the name of the class alone in a
    notebook, or the name that a dictionary gives.

    Args:
        encoder: one, a list, or a dictionary of names and encoders.
        benchmark: a name (see `list_benchmarks`), the path of a TOML file, or a BenchmarkManifest; or an opened zoo,
            its folder or its URL, on which the standard protocol is evaluated.
        zoos: the folder that holds the zoos by name, or the opened zoos.
        zoos_from: "published" takes the zoos as their papers published them, "regenerated" those that are trained
            here; what the benchmark says, if not given.
        seeds: one result each, whole numbers from 0 to 2**32 - 1.
        device: where networks train: auto (a GPU if there is one), cpu, cuda; or a `Runtime`, which says more. Without
            a folder for them, unfinished trainings wait in that of results.
        results: the folder of results. What it holds is not computed again, and an interrupted call resumes in it.
            Without one, nothing stays on the disk.
        workers: processes that evaluate cells; 1 stays in this process.
        scheduler: the address of a Dask scheduler, whose workers evaluate cells instead.
        rerun: `only-missing` computes what is not there, failed, or was made from another encoder, benchmark or zoo;
            `always` computes all; `never` computes nothing that is there, however old.
        on: "validation" scores the models that select in place of the test models, for whoever chooses settings: such
            results are stored apart and are on no leaderboard. The encoder and its probes have selected on these
            models, so that scores of test models are a little lower.
        progress: whether a bar shows how many cells are done.

    Returns:
        The results, ordered by encoder, then by seed. What failed in some cells only is in `results.failures`.

    Raises:
        ZooError: an encoder or a zoo is not there or does not fit; or an encoder failed in every cell. The results of
            the other encoders then lie in `results`.
        OSError: the disk is full, or fails; it names the file. What is complete stays in `results`.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["epoch", "test_accuracy"]
    ... )
    >>> class FirstWeights:
    ...     config = {"count": 20}
    ...     def fit(self, train, validation, *, seed):
    ...         return self
    ...     def encode(self, view):
    ...         return view.weights[:, 0, :20]
    >>> results = zoo_bench.evaluate([FirstWeights(), "weight_statistics"], benchmark, progress=False)
    >>> results.best
    'weight_statistics'
    >>> results.to_pandas().query("ranks")[["target", "metric", "low", "value", "high"]].shape
    (4, 5)
    """
    numbers = whole_numbers(seeds)
    for name, word, valid in (("rerun", rerun, get_args(run.Rerun)), ("on", on, get_args(On))):
        if word not in valid:
            raise ZooError(f"{name}: {unknown_name('word', word, valid)}")
    check_number("workers", workers, least=1)
    if results is not None:
        run.check_is_folder(on_disk(results))
    manifest, places = benchmark_or_zoo(benchmark, zoos)
    if zoos_from is not None:
        manifest = manifest.with_zoos_from(zoos_from)
    with (
        nullcontext() if results is None else resumes(),
        TemporaryDirectory(prefix="zoo-bench-") if results is None else nullcontext(results) as folder,
    ):
        runtime = device if isinstance(device, Runtime) else Runtime(device=device)
        if runtime.checkpoints is None and results is not None:
            runtime = replace(runtime, checkpoints=Path(results) / run.TRAININGS)
        finished = run.run(
            manifest,
            candidates(encoder, protocol=manifest.protocol, targets=manifest.targets),
            zoos=places,
            results=Path(folder),
            seeds=numbers,
            rerun=rerun,
            on=on,
            runtime=runtime,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
        return Results(tuple(load_result(stored_path(Path(folder), result)) for result, _ in finished))


def whole_numbers(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds as plain whole numbers, which numpy's are not.

    Raises:
        ZooError: there are none, or one is no whole number.

    >>> whole_numbers(range(3))
    (0, 1, 2)
    """
    try:
        numbers = tuple(operator.index(seed) for seed in seeds)
    except TypeError:
        numbers = ()
    if not numbers:
        raise ZooError(f"seeds are {shown(seeds)}; expected a list of whole numbers, such as [0, 1, 2]")
    return numbers
