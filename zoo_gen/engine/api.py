"""run, plan and list_zoos: how zoos are made from Python; the command line calls the same functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from zoo_gen.architecture.own_module import Factory
from zoo_gen.engine import driver
from zoo_gen.engine.cost import Cost, OnDevice, Time
from zoo_gen.engine.cost import estimate as estimated_time
from zoo_gen.engine.cost import on_device as needs_on_device
from zoo_gen.engine.cost import plan as counted_cost
from zoo_gen.engine.given import ArraysLike, ManifestLike, completed
from zoo_gen.engine.reuse import Copies, find_copies
from zoo_gen.engine.settings import check_own_functions
from zoo_gen.errors import check_list, check_number, resumes
from zoo_gen.files.location import Folder, locate, on_disk
from zoo_gen.machine.devices import check_device
from zoo_gen.machine.progress import duration
from zoo_gen.machine.workers import count_processes
from zoo_gen.manifest import ZooManifest, read_manifest, shipped_manifests
from zoo_gen.store.unfinished import SAVE_SECONDS
from zoo_gen.zoo import Zoo, open_zoo


@resumes()
def run(
    manifest: ManifestLike,
    out: str | Folder | None = None,
    *,
    data: ArraysLike | None = None,
    module: Factory | None = None,
    loss: Factory | None = None,
    optimizer: Factory | None = None,
    schedule: Factory | None = None,
    device: str = "cpu",
    workers: int | None = None,
    progress: bool = True,
    data_root: str | Path | None = None,
    repair: bool = False,
    part: tuple[int, int] = (1, 1),
    scheduler: str | None = None,
    reuse: Sequence[str | Folder] = (),
    grow: bool = False,
    save_seconds: float = SAVE_SECONDS,
) -> Zoo:
    """Train what a zoo still lacks, and open it. The same call after an interruption resumes.

    Args:
        manifest: a ZooManifest, plain dictionaries, the path or URL of a TOML file, or the name of a zoo that ships
            (see `list_zoos`).
        data: arrays in place of the manifest's data: (x_train, y_train, x_test, y_test), or (x, y) where the manifest
            says `data = {"test_share": 0.2}`; numpy arrays or torch tensors. They are kept below the data root.
        module: in place of the manifest's architecture, a class or function that returns a torch.nn.Module; the
            manifest's `architecture = {"arguments": {...}}` are its arguments.
        loss: in place of the task's, a function of one model's outputs and targets that returns a scalar tensor.
        optimizer: in place of the manifest's, a class with `init` and `update`, or a function that returns these two.
        schedule: in place of the manifest's, a function of epoch and epochs that returns the learning rate's factor.
            Plain dictionaries may hold these three as well, in `training` and in axes.
        out: the folder of the zoo, or its URL; zoos/NAME if not given.
        device: "cpu", "cuda" for all GPUs of the machine, "cuda:N" or "cuda:N,M"; bytes do not depend on their number.
        workers: processes, a core each; all cores if not given. The zoo's bytes do not depend on it.
        progress: whether a bar shows how many models are complete.
        data_root: where image data is looked for; see `load_image_data`.
        repair: look for damaged files first, and make them again.
        part: (i, n) trains the i-th of n parts of the zoo, from 1, as array jobs do.
        scheduler: the address of a Dask scheduler, whose workers train instead of processes here.
        reuse: folders or URLs of zoos; models that they hold and this zoo asks for too are copied, and not trained.
        grow: where `out` holds the zoo of another manifest (fewer seeds, say), replace it and reuse its models. It is
            removed when the new one is complete.
        save_seconds: how often what is being trained is saved; an interruption loses no more, and an epoch.

    Raises:
        ZooError: the device is not there, the manifest or the folder does not fit, the disk has no room, or a worker
            died each time; what is complete stays.
        OSError: the disk became full, or fails; it names the file. What is complete stays here too.

    >>> import zoo_gen
    >>> manifest = zoo_gen.ZooManifest(
    ...     name="ten_networks",
    ...     data={"source": "tetris"},
    ...     architecture={"name": "mlp", "widths": [16, 5, 4]},
    ...     training={
    ...         "epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.01,
    ...         "activation": "tanh", "initialization": "uniform",
    ...     },
    ...     axes={"product": {"seed": {"range": [1, 10]}}},
    ... )
    >>> zoo = zoo_gen.run(manifest, workers=1, progress=False)
    >>> zoo.weights.shape
    (10, 3, 109)
    """
    check_list("reuse", reuse, of="zoos")
    root = None if data_root is None else on_disk(data_root)
    functions = {"loss": loss, "optimizer": optimizer, "schedule": schedule}
    manifest = completed(manifest, data=data, module=module, functions=functions, data_root=root)
    folder = Path("zoos") / manifest.name if out is None else locate(out)
    driver.run(
        manifest,
        folder,
        workers=workers,
        device=device,
        data_root=root,
        repair=repair,
        part=part,
        scheduler=scheduler,
        progress=progress,
        reuse=[locate(other) for other in reuse],
        grow=grow,
        save_seconds=save_seconds,
    )
    return open_zoo(folder)


@dataclass(frozen=True)
class Plan:
    """What a zoo will cost: counted at once, timed when `time` is asked for."""

    manifest: ZooManifest
    device: str
    workers: int | None
    copies: Copies | None = None  # of models that other zoos hold, where some were named

    @cached_property
    def cost(self) -> Cost:
        """Models, shards, steps, bytes and files, by counting."""
        return counted_cost(self.manifest)

    @cached_property
    def on_device(self) -> OnDevice | None:
        """How many models a GPU trains at once; None on a CPU.

        Raises:
            ZooError: not one fits.
        """
        return None if self.device == "cpu" else needs_on_device(self.manifest, device=self.device)

    @cached_property
    def time(self) -> Time:
        """How many seconds the zoo takes and with how many workers, from timed steps; takes some seconds itself."""
        return estimated_time(self.manifest, workers=self.workers, device=self.device)

    def counts(self) -> dict[str, str]:
        """Return what is counted as lines for a person, title -> text."""
        counted = self.cost
        parameters = f"{counted.parameters:,} a model"
        if self.manifest.ragged:
            sizes = sorted(network.layout.size for network in self.manifest.networks.values())
            parameters = f"{sizes[0]:,} to {sizes[-1]:,} a model, in {counted.architectures:,} architectures"
        lines = {
            "models": f"{counted.models:,} in {counted.shards:,} shards of {counted.models_per_shard:,}",
            "checkpoints": f"{counted.checkpoints:,} a model",
            "parameters": parameters,
            "steps": f"{counted.steps:,} over all models",
            "bytes": f"{counted.bytes:,} before compression",
            "files": f"{counted.files:,}",
        }
        if self.copies is not None:
            lines["reuse"] = self.copies.sentence()
        if (needs := self.on_device) is not None:
            lines["at once"] = (
                f"{needs.models:,} models take {needs.bytes / 1e9:.1f} of {needs.total / 1e9:.1f} GB on {self.device}"
            )
        return lines

    def durations(self) -> dict[str, str]:
        """Return how long it takes, and what an interruption costs, as lines for a person, title -> text."""
        time, workers = self.time, self.time.workers
        if self.device == "cpu":
            where = f"{workers} worker{'s' if workers > 1 else ''}"
        else:
            where = self.device if workers == 1 else f"{workers} GPUs"
        each = "worker" if self.device == "cpu" else "GPU"
        lines = {
            "seconds": f"{time.seconds:,.0f} with {where} ({duration(time.seconds)})",
            "at risk": f"an interruption loses up to {duration(time.at_risk)} of a {each}, "
            f"which trains {time.models_at_risk:,} models at a time and saves them every {duration(SAVE_SECONDS)}",
        }
        models = self.cost.models
        processes = count_processes(self.workers, models) if self.device == "cpu" else workers
        if processes > workers:
            lines["idle"] = (
                f"{processes - workers:,} of {processes:,} workers, as a shard is one worker's; "
                f"expected storage.models_per_shard = {models // processes:,} to give all of them one"
            )
        return lines

    def __str__(self) -> str:
        lines = {**self.counts(), **self.durations()}
        return "\n".join(f"{title:12} {text}" for title, text in lines.items())

    def _repr_html_(self) -> str:
        lines = {**self.counts(), **self.durations()}
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(title)}</th><td style="text-align:left">{escape(text)}</td></tr>'
            for title, text in lines.items()
        )
        return f"<strong>{escape(self.manifest.name)}</strong><table>{rows}</table>"


def plan(
    manifest: ManifestLike,
    *,
    device: str = "cpu",
    workers: int | None = None,
    reuse: Sequence[str | Folder] = (),
) -> Plan:
    """Return what a zoo will cost. Nothing is written, and no data is needed. Arguments as `run`.

    Models that the zoos in `reuse` hold are counted; seconds are those of all models.

    Raises:
        ZooError: the device is not there, the manifest does not fit, or none of a zoo's models could be copied.

    >>> import zoo_gen
    >>> zoo_gen.plan("tetris_seed").cost.models
    1000
    """
    check_device(device)
    check_list("reuse", reuse, of="zoos")
    if workers is not None:
        check_number("workers", workers, least=1)
    complete = completed(manifest)
    check_own_functions(complete)
    copies = find_copies([locate(other) for other in reuse], complete) if reuse else None
    return Plan(complete, device, workers, copies)


def list_zoos() -> dict[str, ZooManifest]:
    """Return the zoos that come with the package as manifests, by name; `run` makes them.

    >>> import zoo_gen
    >>> zoo_gen.list_zoos()["tetris_seed"].training.epochs
    75
    """
    return {name: read_manifest(path) for name, path in shipped_manifests().items()}
