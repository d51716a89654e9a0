"""tune: a search over the settings of an encoder on the validation models of a benchmark.

Test models are not looked at. A trial is a result on validation models like any other, so that a search that was
interrupted resumes; a random or full search needs no library for that. What was tried is kept beside the
results, and every later result of a trial's encoder says how large the search was that chose it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from zoo_bench.encoders import declared_ranges_of, encoder_settings, make_encoder
from zoo_bench.encoders.ranges import drawn, grid, parsed_range
from zoo_bench.encoders.settings import split_name, with_settings
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.evaluate import evaluate, whole_numbers
from zoo_bench.evaluation.run import check_is_folder
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.origins import ZoosFrom
from zoo_bench.protocol.standard import benchmark_or_zoo
from zoo_bench.results import Trial, Tuning, read_tunings, tunings_path, write_tunings
from zoo_bench.standings.collection import Results
from zoo_gen.errors import ZooError, check_list, check_number, shown, unknown_name
from zoo_gen.files.location import Folder, on_disk
from zoo_gen.zoo import AnyZoo

Search = Literal["random", "grid"]


@dataclass(frozen=True)
class Tuned:
    """A tuning, and the results on validation models of all trials that did not fail.

    >>> import zoo_bench
    >>> tuned = zoo_bench.tune("pca", "zoos/tiny", trials=2, ranges={"dimension": "2,5"}, progress=False)
    >>> tuned.best in [trial.encoder for trial in tuned.tuning.trials]
    True
    """

    tuning: Tuning
    results: Results

    @property
    def best(self) -> str:
        """The name of the encoder with the best settings, as `evaluate` and `zoo-bench run` take it."""
        return self.tuning.best


def tune(
    encoder: str,
    benchmark: str | Path | BenchmarkManifest | AnyZoo,
    *,
    trials: int,
    ranges: Mapping[str, str | Sequence[object]] | None = None,
    search: Search = "random",
    seed: int = 0,
    seeds: Sequence[int] = (0,),
    zoos: str | Folder | Sequence[AnyZoo] = "zoos",
    zoos_from: ZoosFrom | None = None,
    results: str | Path = "results",
    device: str | Runtime = "auto",
    workers: int = 1,
    progress: bool = True,
) -> Tuned:
    """Search for the settings of an encoder with the best mean rank among all trials on the validation models.

    The first trial has the settings as they are. Ranks are those of a leaderboard, over targets and cells.

    Args:
        encoder: a name, `package.module:Class`, or one with some settings in brackets, which then stay.
        benchmark: as `evaluate` takes it.
        trials: how many there are at most, the first included.
        ranges: setting -> its values ("16,32,64", or a list) or two ends ("1e-4..1e-2", "1e-4..1e-2 log"); if none are
            given, those that the encoder declares.
        search: "random" draws settings, "grid" tries every combination of lists.
        seed: of the draws.
        seeds: with which each trial is fitted.
        zoos: as `evaluate` takes them; so are `zoos_from`, `device`, `workers` and `progress`.
        results: the folder of results, in which trials and the tuning are kept.

    Raises:
        ZooError: a range is of no setting or no value fits, the encoder declares none and none are given, or all
            trials fail.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"]
    ... )
    >>> tuned = zoo_bench.tune("pca", benchmark, trials=3, ranges={"dimension": "2,5,10"}, progress=False)
    >>> [trial.encoder for trial in tuned.tuning.trials]
    ['pca', 'pca[dimension=2]', 'pca[dimension=5]']
    >>> result = zoo_bench.evaluate(tuned.best, benchmark, results="results", progress=False)[0]  # on test models
    >>> result.tunings[0] == tuned.tuning
    True
    """
    check_number("trials", trials, least=1)
    check_number("workers", workers, least=1)
    check_is_folder(on_disk(results))
    if not isinstance(encoder, str):
        raise ZooError(
            f"encoder is a {type(encoder).__name__}; expected a name or package.module:Class, to set settings"
        )
    if search not in get_args(Search):
        raise ZooError(unknown_name("search", search, get_args(Search)))
    numbers = whole_numbers(seeds)
    base = split_name(encoder)[0]
    if ranges is not None and not isinstance(ranges, Mapping):
        raise ZooError(f"ranges are {shown(ranges)}; expected a dictionary of settings and their values")
    for name, values in (ranges or {}).items():
        if not isinstance(values, str):
            check_list(f"ranges of {name}", values, of="values, or text such as '1e-4..1e-2'")
    texts = {name: text if isinstance(text, str) else ",".join(map(str, text)) for name, text in (ranges or {}).items()}
    written = texts or declared_ranges_of(base)
    names = _names(encoder, written, trials, search=search, seed=seed)
    manifest, places = benchmark_or_zoo(benchmark, zoos)
    manifest = manifest.with_zoos_from(zoos_from) if zoos_from is not None else manifest
    finished: list[Results] = []
    messages: dict[str, str] = {}
    for name in names:
        try:
            finished.append(
                evaluate(
                    name,
                    manifest,
                    zoos=places,
                    seeds=numbers,
                    device=device,
                    results=results,
                    workers=workers,
                    on="validation",
                    progress=progress,
                )
            )
        except ZooError as error:
            messages[name] = str(error)
    if not finished:
        raise ZooError(f"all {len(names)} trials failed: {messages[names[0]]}")
    together = Results(tuple(one for each in finished for one in each.loaded))
    ranks = {row.encoder: row.rank for row in together.standings.rows}
    tuning = Tuning(
        encoder=encoder,
        benchmark=manifest.name,
        benchmark_digest=manifest.digest,
        search=search,
        seed=seed,
        seeds=numbers,
        ranges=written,
        trials=tuple(_trial(name, together, ranks.get(name), messages.get(name, "")) for name in names),
        best=together.best,
    )
    path = tunings_path(Path(results), benchmark=manifest.name, encoder=base)
    earlier = [each for each in read_tunings(path) if each != tuning]
    write_tunings([*earlier, tuning], path)
    return Tuned(tuning, together)


def _names(encoder: str, written: Mapping[str, str], trials: int, *, search: Search, seed: int) -> list[str]:
    """Return the names of the trials' encoders, the one as it is first; each is made once, to see that it can be."""
    known = encoder_settings(encoder)
    if not written:
        takes = ", ".join(known) or "none"
        raise ZooError(f"encoder {encoder!r}: declares no ranges; expected some of its settings ({takes})")
    for name in written:
        if name not in known:
            raise ZooError(f"encoder {encoder!r}: {unknown_name('setting', name, known)}")
    ranges = {name: parsed_range(name, text) for name, text in written.items()}
    choices = grid(ranges, trials) if search == "grid" else drawn(ranges, trials, seed=seed)
    first = [] if search == "grid" else [encoder]
    names = list(dict.fromkeys([*first, *(with_settings(encoder, choice) for choice in choices)]))[:trials]
    for name in names:
        make_encoder(name)
    return names


def _trial(name: str, results: Results, rank: float | None, message: str) -> Trial:
    """Return what a trial reached."""
    of_encoder = [result for result in results if result.encoder == name]
    scores = [score.value for result in of_encoder for cell in result.cells for score in cell.scores if score.ranks]
    values = [value for value in scores if value is not None]
    failures = [failure.message for result in of_encoder for failure in result.failures]
    return Trial(
        encoder=name,
        mean_rank=rank,
        value=float(np.mean(values)) if values else None,
        seconds=sum(result.seconds for result in of_encoder),
        message=message or next(iter(failures), ""),
    )
