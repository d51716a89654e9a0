"""Names of columns in a zoo: those of an archive that collide with the zoo's own, or with each other, get other ones.

A column keeps the name that is asked for where nobody else has it; else the publication's; else `source.NAME`.
"""

import re
from collections.abc import Iterable, Mapping

# Of the table of models, and of the arrays beside the weights.
OWN = (
    *("model_id", "source_model", "run", "split", "checkpoints", "architecture", "n_parameters", "weights_start"),
    *("status", "sha256", "max_abs", "generalization_gap", "weights", "epoch", "permutation"),
)


def distinct(asked: Mapping[str, str], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """Return a name for each column, published name -> name in the zoo; two that differ in capitals alone collide.

    Args:
        wanted: published name -> the name that is asked for.
        taken: more names that are not to be had.

    >>> distinct({"val_acc": "validation_accuracy", "validation_accuracy": "validation_accuracy", "status": "status"})
    {'validation_accuracy': 'validation_accuracy', 'status': 'source.status', 'val_acc': 'val_acc'}
    """
    used = {name.casefold() for name in (*OWN, *taken)}
    names: dict[str, str] = {}
    for published in sorted(asked, key=lambda name: asked[name] != name):  # who is called so already comes first
        choices = [asked[published], as_name(published), f"source.{as_name(published)}"]
        choices += [f"source.{as_name(published)}.{number}" for number in range(2, len(asked) + 2)]
        names[published] = next(name for name in choices if name.casefold() not in used)
        used.add(names[published].casefold())
    return names


def as_name(published: str) -> str:
    """Return a published name as one that an array, and so a folder, may have."""
    if re.fullmatch(r"[\w:+-][\w.:+-]*", published):
        return published
    return re.sub(r"[^\w.:+-]+", "_", published).strip("_.") or "column"
