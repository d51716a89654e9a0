"""The long form of a zoo's tables: a row a model and checkpoint, with hyper-parameters and what was measured there."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from zoo_gen.errors import needing
from zoo_gen.zoo.view import ZooView

if TYPE_CHECKING:
    import pandas

_OF_THE_FILES = ("checkpoints", "sha256", "weights_start")  # say where weights lie, and nothing of the model


def long_table(view: ZooView) -> pa.Table:
    """Return the table of a view: the columns of the models' table, `epoch`, and every metric at that epoch.

    A metric of each class has a column a class. Checkpoints that a published model does not have are left out.
    """
    zoo = view.zoo
    shape = (len(view.models), len(view.checkpoints))
    metrics: dict[str, np.ndarray] = {}
    for name in (*zoo.metrics, *["generalization_gap"] * ({"train_accuracy", "test_accuracy"} <= set(zoo.metrics))):
        values = view.metric(name)
        if values.ndim == 2:
            metrics[name] = values
        else:
            metrics |= {f"{name}_{number}": values[..., number] for number in range(values.shape[2])}
    table = zoo.models.take(view.rows)
    table = table.drop_columns([name for name in table.column_names if name in (*zoo.metrics, *metrics)])
    present = _present(table, view.checkpoints)
    table = table.drop_columns([name for name in _OF_THE_FILES if name in table.column_names])
    table = table.take(np.repeat(np.arange(shape[0]), shape[1]))
    table = table.append_column("epoch", pa.array(np.tile(view.epochs, shape[0])))
    for name, values in metrics.items():
        table = table.append_column(name, pa.array(values.reshape(-1)))
    return table if present is None else table.filter(pa.array(present.reshape(-1)))


def data_frame(table: pa.Table) -> "pandas.DataFrame":
    """Return a table as a data frame.

    Raises:
        ZooError: pandas is not installed.
    """
    with needing("data frames", extra="bench"):
        return table.to_pandas()


def _present(table: pa.Table, checkpoints: np.ndarray) -> np.ndarray | None:
    """Return which checkpoints each model has, bool (model, checkpoint); None where each has all."""
    if "checkpoints" not in table.column_names:
        return None
    return np.array([np.isin(checkpoints, positions) for positions in table["checkpoints"].to_pylist()])
