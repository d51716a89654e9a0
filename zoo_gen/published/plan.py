"""Plan: what the zoo of a reading will be, settled before any weights are read.

Its manifest, its table of models and how it is cut into shards depend on nothing but what the converter found, so the
same archive and selection are the same zoo, by whose digest an interrupted conversion resumes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layers import layers_to_json
from zoo_gen.manifest import ConvertedManifest
from zoo_gen.manifest.split import PARTS
from zoo_gen.published.reading import Reading, Wiring
from zoo_gen.published.splits import SplitTable
from zoo_gen.store import Extent
from zoo_gen.store.places import POSITIONS, in_shards, row_elements
from zoo_gen.store.side_files import permutations_sha256, split_table_sha256, table_sha256, text_sha256

_SHARD_BYTES = 64 * 2**20  # two are in memory at once, each some three times over
_MOST_MODELS = 1024
_FEWEST_SHARDS = 4


@dataclass(frozen=True)
class Plan:
    """A conversion before its weights are read."""

    reading: Reading
    manifest: ConvertedManifest
    extent: Extent
    table: pa.Table  # the models as far as the archive describes them
    architectures: tuple[dict[str, Any], ...]  # as the zoo keeps them, in the order of the reading's wirings
    splits: Mapping[str, pa.Table]  # model_id and part, in the published order


def plan(reading: Reading, source_model: np.ndarray, *, name: str, description: str, facts: Mapping[str, Any]) -> Plan:
    """Return what the zoo of a reading will be.

    Args:
        reading: what the converter found, selected.
        source_model: int64 (model,), the number of each model in the whole zoo.
        name: of the zoo.
        description: one line for people.
        facts: the manifest's `format` and `origin`, without the digest of the table.
    """
    sizes = np.array([wiring.layout.size for wiring in reading.wirings], dtype=np.int64)
    of_model = sizes[reading.wiring_of_model]
    architectures = tuple(_architecture(wiring) for wiring in reading.wirings)
    counts = reading.present.sum(axis=1)
    mean_bytes = float((counts * of_model).mean()) * 4
    fitting = max(1, min(_MOST_MODELS, int(_SHARD_BYTES // max(mean_bytes, 1))))
    per_shard = min(reading.n_models, fitting, max(1, -(-reading.n_models // _FEWEST_SHARDS)))
    table = _table(reading, source_model, [each["id"] for each in architectures], of_model, per_shard)
    splits = {split: _split_table(table) for split, table in reading.splits.items()}
    manifest = ConvertedManifest.model_validate(
        {
            "kind": "converted",
            "name": name,
            "description": description,
            "format": facts["format"],
            "architecture": {"name": reading.architecture or "unnamed"},
            "models": reading.n_models,
            "parameters": int(of_model.max()),
            "architectures": len(reading.wirings),
            "permutation_sha256": permutations_sha256([w.permutation for w in reading.wirings]),
            "epochs": tuple(reading.epochs.tolist()),
            "epoch_means": reading.epoch_means,
            "metrics": (*reading.metrics, "max_abs"),
            "varying": reading.varying,
            "classes": reading.classes,
            "data": reading.data,
            "recomputable": reading.recomputable,
            "default_split": next(iter(splits), None),
            "splits": {
                split: {
                    "sha256": split_table_sha256(rows),
                    **{part: int((reading.splits[split].parts == part).sum()) for part in PARTS},
                    "how": reading.splits[split].how,
                }
                for split, rows in splits.items()
            },
            "notes": reading.notes,
            "origin": {
                **facts["origin"],
                "table_sha256": table_sha256(table),
                "metrics_sha256": _metrics_sha256(reading.metrics),
            },
        }
    )
    longest = row_elements(counts * of_model, per_shard) if manifest.ragged else None
    extent = Extent.of(manifest, models_per_shard=per_shard, row_elements=longest)
    return Plan(reading, manifest, extent, table, architectures, splits)


def _table(
    reading: Reading, source_model: np.ndarray, ids: list[str], of_model: np.ndarray, per_shard: int
) -> pa.Table:
    """Return the descriptive table: model_id, source_model, run, hyper-parameters, split, checkpoints, architecture."""
    columns: dict[str, Any] = {
        "model_id": pa.array(np.arange(reading.n_models)),
        "source_model": pa.array(source_model.astype(np.int64)),
        **{name: reading.models[name].combine_chunks() for name in reading.models.column_names},
    }
    parts: list[str | None] = [None] * reading.n_models
    for split in list(reading.splits.values())[:1]:
        for model, part in zip(split.models.tolist(), split.parts.tolist(), strict=True):
            parts[model] = part
    columns["split"] = pa.array(parts, pa.string())
    columns["checkpoints"] = pa.array([np.flatnonzero(row) for row in reading.present], POSITIONS)
    if len(reading.wirings) > 1:
        counts = reading.present.sum(axis=1) * of_model
        starts = np.concatenate([np.cumsum(row) - row for row in in_shards(counts, per_shard)])
        columns["architecture"] = pa.array([ids[wiring] for wiring in reading.wiring_of_model], pa.string())
        columns["n_parameters"] = pa.array(of_model)
        columns["weights_start"] = pa.array(starts.astype(np.int64))
    return pa.table(columns)


def _metrics_sha256(metrics: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 (hex) of what was measured: an archive whose numbers were changed makes another zoo."""
    digest = hashlib.sha256()
    for name, values in metrics.items():
        digest.update(f"{name}\0{values.shape}".encode())
        digest.update(np.ascontiguousarray(values, dtype="<f4").data)
    return digest.hexdigest()


def _split_table(split: SplitTable) -> pa.Table:
    models, parts = split.models.astype(np.int64), split.parts.tolist()
    return pa.table({"model_id": pa.array(models), "part": pa.array(parts, pa.string())})


def _architecture(wiring: Wiring) -> dict[str, Any]:
    """Return what a zoo keeps of an architecture, with a short name that depends on nothing but what it is."""
    sources = [
        {
            "name": source.name,
            "start": source.start,
            "shape": list(source.shape),
            "axes": list(source.axes),
            "parameter": source.parameter,
        }
        for source in wiring.sources
    ]
    content = {
        "layers": None if wiring.network is None else layers_to_json(wiring.network.layers),
        "input_shape": None if wiring.network is None else list(wiring.network.input_shape),
        "layout": wiring.layout.to_json(),
        "sources": sources,
    }
    return {"id": text_sha256(json.dumps(content))[:16], **content}
