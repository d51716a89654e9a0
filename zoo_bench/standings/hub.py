"""Results in the Hub's format of evaluation results, for the repository of a trained encoder.

The Hub reads `.eval_results/*.yaml` in a model's repository and shows each entry beside the model and on the page of
the data set that it names. Our JSON stays the source: an entry is what it says, with a note of where it comes from.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from zoo_bench.standings.boards import Board, shown
from zoo_bench.standings.text import METRIC_NAMES
from zoo_gen.errors import ZooError, argument, unknown_name
from zoo_gen.files import atomic
from zoo_gen.zoo import JOIN

FOLDER = ".eval_results"
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+")


def export(
    boards: Sequence[Board], encoder: str, folder: Path, *, owner: str, source_url: str | None = None
) -> list[Path]:
    """Write one file a benchmark with the scores of an encoder that its leaderboards show; return their paths.

    Args:
        boards: of results.
        encoder: whose scores.
        folder: of the trained encoder, as `zoo-bench encode --save` writes it.
        owner: of the zoos on the Hub: a data set is called OWNER/ZOO.
        source_url: where a reader finds the evaluation.

    Raises:
        ZooError: there are no results of the encoder, or the owner is no name of the Hub.
    """
    known = sorted({name for board in boards for name in board.encoders})
    if encoder not in known:
        raise ZooError(f"{unknown_name('encoder', encoder, known)}; expected one with results")
    if not _REPOSITORY.fullmatch(owner):
        raise ZooError(f"{argument('owner', owner)}: expected the name of a user or an organisation, such as my-lab")
    joint = next(
        (board.about.test.zoo for board in boards if encoder in board.encoders and JOIN in board.about.test.zoo), None
    )
    if joint is not None:
        raise ZooError(
            f"{joint}: are several zoos read as one, which are no data set of the Hub; expected other results"
        )
    entries: dict[str, list[str]] = {}
    for board in boards:
        if encoder in board.encoders:
            entries.setdefault(board.benchmark, []).extend(_entries(board, encoder, owner, source_url))
    paths = []
    for benchmark, texts in entries.items():
        path = folder / FOLDER / f"{benchmark}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(path, "".join(texts).encode())
        paths.append(path)
    return paths


def _entries(board: Board, encoder: str, owner: str, source_url: str | None) -> list[str]:
    """Return an entry of YAML a score; strings are written as JSON does, which YAML reads."""
    column = board.encoders.index(encoder)
    about = board.about
    texts = []
    for row in shown(board):
        cell = row.cells[column]
        if cell.value is None or row.by == "own":  # whoever predicted has a row as well
            continue
        by = "a linear probe of the embeddings" if row.by == "probe" else "the encoder itself"
        trained = "" if about.source.zoo == about.test.zoo else f" trained on {about.source.zoo},"
        condition = f" {about.condition}," if about.condition else ""
        notes = (
            f"{METRIC_NAMES[row.metric]} of {row.target}, predicted by {by},{trained}{condition} "
            f"95 % interval [{cell.low:.4f}, {cell.high:.4f}] over models and "
            f"{len(board.seeds[column])} seed{'s' * (len(board.seeds[column]) > 1)}; "
            f"zoo revision {about.test.revision}, split {about.test.split_sha256}"
        )
        lines = [
            "- dataset:",
            f"    id: {json.dumps(f'{owner}/{about.test.zoo}')}",
            f"    task_id: {json.dumps(_task(board, row.target, row.metric, row.by))}",
            f"  value: {cell.value!r}",
        ]
        if source_url:
            lines += ["  source:", f"    url: {json.dumps(source_url)}", '    name: "zoo_bench"']
        texts.append("\n".join([*lines, f"  notes: {json.dumps(notes, ensure_ascii=False)}"]) + "\n")
    return texts


def _task(board: Board, target: str, metric: str, by: str) -> str:
    """Return what names a score within its data set: the same words for every encoder."""
    about = board.about
    parts = [board.benchmark, *([] if about.source.zoo == about.test.zoo else [f"from_{about.source.zoo}"])]
    parts += [*([about.condition] if about.condition else []), target, metric, *(["own"] if by == "encoder" else [])]
    return re.sub(r"[^A-Za-z0-9]+", "_", "__".join(parts)).strip("_").lower()
