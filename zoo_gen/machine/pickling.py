"""Objects as bytes for another process of ours: by value where that process could not import their class.

cloudpickle, which joblib's workers use too, knows classes of notebooks, lambdas and closures. Whoever reads an object
runs its code, so only a process that does so anyway reads one.
"""

import io
import pickle
from collections import ChainMap
from collections.abc import Sequence
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

_reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]


def _reduce_with_file(code: CodeType) -> tuple[Any, ...]:
    """Reduce code so that errors name the file it came from, which cloudpickle leaves out."""
    make, arguments = _reduce_code(code)
    return make, tuple(code.co_filename if value == "<dynamic-code>" else value for value in arguments)


class _Pickler(cloudpickle.Pickler):
    dispatch_table: ClassVar = ChainMap({CodeType: _reduce_with_file}, cloudpickle.Pickler.dispatch_table)


def pickled(value: object) -> list[bytes | memoryview]:
    """Return an object as bytes, and the memory of its arrays uncopied.

    Raises:
        Exception: whatever an object raises that cannot be pickled.
    """
    arrays: list[pickle.PickleBuffer] = []
    content = io.BytesIO()
    _Pickler(content, protocol=5, buffer_callback=arrays.append).dump(value)
    return [content.getvalue(), *(array.raw() for array in arrays)]


def unpickled(parts: Sequence[bytes | memoryview]) -> Any:
    """Return the object; its arrays are views of the parts, read-only where these are."""
    content, *arrays = parts
    return pickle.loads(content, buffers=arrays)
