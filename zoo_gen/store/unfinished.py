"""How far the training of a shard is, in a file beside its Parquet part, so that an interruption loses minutes only.

The file is no part of the zoo: it is named as temporary files are, readers never look at it, and it goes when its shard
is complete. One that is damaged, or that another training wrote, counts as missing.
"""

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.files.location import Folder
from zoo_gen.store.shards import part_name

SAVE_SECONDS = 120.0  # of training between two writings of what it has reached
_SHA256_BYTES = 32
_KEY = "key"
_logger = logging.getLogger(__name__)


class Unfinished:
    """The file of one shard, or of shards that are trained together.

    Args:
        folder: of the zoo.
        shard: the first of the shards.
        training: all that determines the training, as plain data; what another one wrote is not read.
        seconds: between two writings.
        is_there: whether there may be such a file already; asking a store at a URL costs a request.
    """

    def __init__(
        self,
        folder: Folder,
        shard: int,
        *,
        training: Mapping[str, Any],
        seconds: float = SAVE_SECONDS,
        is_there: bool = True,
    ) -> None:
        self._path = folder / "models" / state_name(shard)
        self._key = hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()
        self._seconds, self._written = seconds, time.monotonic()
        self._is_there = is_there

    def read(self) -> dict[str, np.ndarray]:
        """Return what was written last, name -> array; nothing if there is none that can be used."""
        if not self._is_there:
            return {}
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            self._is_there = False
            return {}
        except OSError as error:
            _logger.warning("%s: cannot be read (%s); its shard is trained from the start", self._path, error)
            return {}
        digest, payload = content[:_SHA256_BYTES], content[_SHA256_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            _logger.warning("%s: is damaged; its shard is trained from the start", self._path)
            return {}
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        return values if values.pop(_KEY).item() == self._key else {}

    def is_due(self) -> bool:
        """Return whether it is time to write again."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Write arrays in place of the last ones. A disk without room for them loses no training: nothing is kept."""
        sink = io.BytesIO()
        named: dict[str, Any] = {_KEY: np.array(self._key), **values}
        np.savez(sink, **named)
        payload = sink.getvalue()
        try:
            atomic.replace(self._path, hashlib.sha256(payload).digest() + payload)
            self._is_there = True
        except (OSError, ZooError) as error:
            _logger.warning("%s: cannot be written (%s); an interruption loses its shard", self._path, error)
            self._seconds = math.inf
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self._is_there:
            self._path.unlink(missing_ok=True)


def state_name(shard: int) -> str:
    """Return the name of the file of a shard."""
    return f".{part_name(shard)}.training.tmp"


def begun_shards(names: list[str]) -> frozenset[int]:
    """Return the shards whose files are among the names of files, by their numbers."""
    prefix, suffix = state_name(0).split("00000")
    numbers = (name.removeprefix(prefix).removesuffix(suffix) for name in names if name.startswith(prefix))
    return frozenset(int(number) for number in numbers if number.isdecimal())
