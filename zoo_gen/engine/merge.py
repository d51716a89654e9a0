"""merge and split: several zoos as one on the disk, and some models of a zoo as a zoo of their own. Nothing is trained.

A model's bytes follow from its own row, so that both copy models and write the zoo that a run of the new manifest
would have written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.engine.reuse import Copies, find_copies
from zoo_gen.errors import ZooError, check_list, check_number, resumes, shown, unknown_name
from zoo_gen.files.location import Folder, locate
from zoo_gen.manifest import Split, ZooManifest
from zoo_gen.manifest.difference import differences, listed
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, Value, checked, known
from zoo_gen.manifest.rows import keys_of, with_models
from zoo_gen.manifest.split import parts, split_sha256
from zoo_gen.store import EmptyZoo, Extent, Store
from zoo_gen.store.create import described, own_side_files
from zoo_gen.store.shards import Arrays
from zoo_gen.zoo import Zoo, card, open_zoo

# What merged zoos may differ in: what varies in them, and what is said of the whole zoo, which the first one says.
_MAY_DIFFER = ("name", "description", "axes", "storage")
_SHOWN = 8  # values of a hyper-parameter, in an error


@resumes()
def merge(zoos: Sequence[str | Folder | Zoo], out: str | Folder, *, name: str | None = None) -> Zoo:
    """Write the models of several zoos as one zoo, and open it. The same call after an interruption resumes.

    Where the grids of the zoos are parts of one grid, it has the bytes of the zoo of that grid made at once. Other sets
    of models are listed in its manifest, in the order of the zoos. A hyper-parameter that is a constant of each zoo
    and differs between them becomes an axis, and so a column. A model that several zoos hold is there once. The split
    is drawn again over all models, as for a zoo made at once; `open_zoos` keeps the part that each model has.

    Args:
        zoos: two or more complete zoos that were trained here, or their folders or URLs.
        out: the folder of the new zoo, or its URL.
        name: of the new zoo; that of its folder, if not given.

    Raises:
        ZooError: a zoo is not complete or was converted; or they differ in what every model of a zoo shares (data,
            architecture, epochs, checkpoints, split, device, torch). The line names the first keys.

    >>> import zoo_gen
    >>> zoo_gen.split("zoos/tiny", "zoos/adam", where={"optimizer": "adam"}, rest="zoos/sgd")
    <Zoo adam at zoos/adam: 20 x 5 x 100 (model, checkpoint, parameter)>
    >>> zoo_gen.merge(["zoos/adam", "zoos/sgd"], "zoos/both").models["optimizer"].unique().to_pylist()
    ['adam', 'sgd']
    """
    check_list("merge", zoos, of="zoos")
    if len(zoos) < 2:
        raise ZooError(f"merge: got {len(zoos)} zoos; expected two or more")
    stores = [_complete(zoo) for zoo in zoos]
    first, *others = stores
    for other in others:
        _check_alike(first, other)
    manifests = [_generated(store) for store in stores]
    rows = pa.concat_tables(manifest.rows(slice(0, manifest.n_models)) for manifest in manifests)
    places = {key: place for place, key in reversed(list(enumerate(keys_of(rows))))}  # each model where it comes first
    _write([_planned(stores, rows.take(sorted(places.values())), out, name=name)])
    return open_zoo(out)


@resumes()
def split(
    zoo: str | Folder | Zoo,
    out: str | Folder,
    *,
    where: Mapping[str, Any] | None = None,
    share: float | None = None,
    seed: int = 0,
    rest: str | Folder | None = None,
) -> Zoo:
    """Write some models of a zoo as a zoo of their own, and open it. The same call after an interruption resumes.

    The models are chosen by the values of hyper-parameters or as a share, which keeps together what the zoo's own split
    does (`group_by`). The split of the new zoo is drawn again over its models.

    Args:
        zoo: a complete zoo that was trained here, or its folder or URL.
        out: the folder of the new zoo, whose name it gets, or its URL.
        where: hyper-parameter -> its value, or a list of values; a model must have all of them.
        share: in place of `where`: the share of the models, above 0 and below 1, drawn by `seed`.
        seed: of the draw.
        rest: the folder or URL of a zoo of all other models, which is written too.

    Raises:
        ZooError: the zoo is not complete or was converted, a hyper-parameter or value is not valid, or no model is
            left for one of the two zoos.

    >>> import zoo_gen
    >>> zoo_gen.split("zoos/tiny", "zoos/half", share=0.5).extent.n_models
    20
    """
    store = _complete(zoo)
    manifest = _generated(store)
    rows = manifest.rows(slice(0, manifest.n_models))
    if where is not None and not isinstance(where, Mapping):
        raise ZooError(f"where is {shown(where)}; expected a dictionary of hyper-parameters and their values")
    if (where is None) == (share is None):
        raise ZooError(f"split {store.folder}: expected either `where` or `share`")
    chosen = _where(rows, where) if where is not None else _share(manifest, rows, share or 0.0, seed=seed)
    if not chosen.any() or (rest is not None and chosen.all()):
        raise ZooError(
            f"split {store.folder}: takes {chosen.sum():,} of {len(rows):,} models; expected some on both sides"
        )
    planned = [_planned([store], rows.filter(pa.array(chosen)), out, name=None)]
    if rest is not None:
        planned.append(_planned([store], rows.filter(pa.array(~chosen)), rest, name=None))
        if planned[0].folder == planned[1].folder:
            raise ZooError(f"split {store.folder}: got {out} for both zoos; expected two folders")
    _write(planned)
    return open_zoo(out)


def _complete(zoo: str | Folder | Zoo) -> Store:
    """Open a zoo whose models are all there."""
    store = zoo.store if isinstance(zoo, Zoo) else Store.open(locate(zoo))
    missing = store.extent.n_shards - len(store.complete_shards())
    if missing:
        raise ZooError(
            f"{store.folder}: {missing} of {store.extent.n_shards} shards are not complete; finish it with zoo-gen run"
        )
    return store


def _generated(store: Store) -> ZooManifest:
    manifest = store.manifest.generated
    if manifest is None:
        raise ZooError(
            f"{store.folder}: was converted, so that its models are known to its archive alone; expected a zoo of "
            "zoo-gen run, or zoo_gen.open_zoos, which reads several zoos as one"
        )
    return manifest


def _check_alike(first: Store, other: Store) -> None:
    """Refuse zoos that differ in what all models of one zoo share."""
    different = [
        each
        for each in differences(_generated(first), _generated(other))
        if each.key.partition(".")[0] not in _MAY_DIFFER
        and each.key not in [f"training.{name}" for name in HYPERPARAMETERS]
    ]
    if different:
        raise ZooError(
            f"{other.folder}: cannot be merged with {first.folder}: {listed(different)}; expected zoos that differ in "
            "hyper-parameters, or zoo_gen.open_zoos, which reads several zoos as one"
        )


def _where(rows: pa.Table, where: Mapping[str, Any]) -> np.ndarray:
    """Return which models have certain values, bool (model,)."""
    chosen = np.ones(len(rows), dtype=bool)
    for name, choice in where.items():
        if name not in HYPERPARAMETERS or name not in rows.column_names:
            raise ZooError(
                unknown_name("hyper-parameter", name, [n for n in rows.column_names if n in HYPERPARAMETERS])
            )
        try:
            values = [checked(name, value, where=name) for value in (choice if _is_list(choice) else [choice])]
        except ValueError as error:
            raise ZooError(str(error)) from None
        column = rows[name].to_pylist()
        for value in values:
            if value not in column:
                existing = list(dict.fromkeys(column))
                more = f" and {len(existing) - _SHOWN:,} more" if len(existing) > _SHOWN else ""
                raise ZooError(
                    f"{name}: no model has {value!r}; expected some of {', '.join(map(str, existing[:_SHOWN]))}{more}"
                )
        chosen &= np.array([value in values for value in column])
    return chosen


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _share(manifest: ZooManifest, rows: pa.Table, share: float, *, seed: int) -> np.ndarray:
    """Return which models a share holds, bool (model,)."""
    check_number("share", share, least=0, whole=False)
    check_number("seed", seed, least=0)
    if not 0 < share < 1:
        raise ZooError(f"share {share:g}: expected a number above 0 and below 1")
    drawn = Split(train=share, validation=0.0, test=1 - share, seed=int(seed), group_by=manifest.split.group_by)
    columns = {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names if name in HYPERPARAMETERS}
    return parts(drawn, columns, len(rows)).to_numpy(zero_copy_only=False) == "train"


@dataclass(frozen=True)
class _Planned:
    """A zoo that is to be written: where, what it consists of before its first shard, and what it copies."""

    folder: Folder
    empty: EmptyZoo
    copies: Copies


def _planned(stores: Sequence[Store], rows: pa.Table, out: str | Folder, *, name: str | None) -> _Planned:
    """Return the zoo of the models of some rows, copied from other zoos."""
    folder = locate(out)
    folder = folder.absolute() if isinstance(folder, Path) else folder
    manifest = with_models([_generated(store) for store in stores], rows, name=name or folder.name)
    extent = Extent.of(manifest)
    # What trained the models is what the zoos say, and not what is installed here.
    attributes = {
        **stores[0].attributes,
        **described(manifest, extent, manifest.layout),
        "split_sha256": split_sha256(manifest.rows(slice(0, manifest.n_models))),
    }
    copies = find_copies([store.folder for store in stores], manifest, attributes)
    return _Planned(folder, EmptyZoo(manifest, extent, attributes, own_side_files(manifest)), copies)


def _write(planned: Sequence[_Planned]) -> None:
    """Write zoos, none of them where one cannot be: its folder is taken, or what it copies is damaged."""
    for zoo in planned:
        if Store.begun(zoo.folder, zoo.empty) is None:
            zoo.copies.check(range(zoo.empty.extent.n_models))
    for zoo in planned:
        store, attributes = Store.create(zoo.folder, zoo.empty), zoo.empty.attributes
        for shard in range(store.extent.n_shards):
            if not store.is_complete(shard):
                rows = zoo.copies.manifest.rows(store.extent.models(shard))
                arrays = zoo.copies.complete(rows, _train_nothing)
                store.write_shard(shard, arrays, device=attributes["device"], torch=attributes["versions"]["torch"])
        card.write(store)


def _train_nothing(rows: pa.Table) -> Arrays:
    raise ZooError(
        f"model {rows['model_id'][0]}: is in none of the zoos any more; expected zoos that nobody changes meanwhile"
    )


def parsed_where(conditions: Sequence[str]) -> dict[str, list[Value]]:
    """Return conditions such as "optimizer=adam,sgd" as `split` takes them.

    Raises:
        ZooError: one is no condition, its hyper-parameter is unknown, or its values are of another kind.
    """
    where: dict[str, list[Value]] = {}
    for condition in conditions:
        name, equals, text = condition.partition("=")
        if not equals:
            raise ZooError(f"{condition!r}: expected KEY=VALUE or KEY=VALUE,VALUE")
        try:
            kind = {"name": str, "whole": int, "number": float}[known(name).kind]
            where.setdefault(name, []).extend(kind(value) for value in text.split(","))
        except ValueError as error:
            raise ZooError(f"{condition}: {error}") from None
    return where
