"""Objects as bytes for another process of ours: by value where that process could not import their class.

cloudpickle, which joblib's workers use too, knows classes of notebooks, lambdas and closures. Whoever reads an object
runs its code, so only a process that does so anyway reads one.
"""

import pickle
from collections.abc import Sequence
from typing import Any

import cloudpickle


def pickled(value: object) -> list[bytes | memoryview]:
    """Return an object as bytes, and the memory of its arrays uncopied.

    Raises:
        Exception: whatever an object raises that cannot be pickled.
    """
    arrays: list[pickle.PickleBuffer] = []
    content = cloudpickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    return [content, *(array.raw() for array in arrays)]


def unpickled(parts: Sequence[bytes | memoryview]) -> Any:
    """Return the object; its arrays are views of the parts, read-only where these are."""
    content, *arrays = parts
    return pickle.loads(content, buffers=arrays)
