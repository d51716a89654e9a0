"""Classes without a training example, whose outputs of the networks nothing trains: as of labels 0, 5 and 10.

Sources that look up their classes number the labels that there are. The others believe what their manifest says.
"""

from collections.abc import Sequence

import numpy as np

from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.load import Data, Source

_SHOWN = 8  # classes in a line


def unused_classes(source: Source, data: Data) -> str:
    """Return a line for a person about classes without a training example; empty where there are none."""
    if not isinstance(data, ImageData) or data.n_classes is None:
        return ""
    used = np.unique(data.train_labels)
    unused = np.setdiff1d(np.arange(data.n_classes), used)
    if not len(unused):
        return ""
    names: Sequence[object] | None = getattr(source, "classes", None)
    listed = _listed([names[number] if names else number for number in unused.tolist()])
    expected = "fewer classes"
    if not names:
        expected = f"0 to {len(used) - 1} as labels in place of {_listed(used.tolist())}, with n_classes = {len(used)}"
    return (
        f"no training example is of class {listed}; nothing trains these outputs; expected such examples, or {expected}"
    )


def _listed(values: Sequence[object]) -> str:
    more = f" and {len(values) - _SHOWN:,} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more
