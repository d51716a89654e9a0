"""Messages between the process that evaluates and the one that an encoder runs in.

A request is a pickled object, because the encoder's process runs its code anyway. An answer is JSON and the bytes of at
most one array: nothing that an encoder says is run by the process that keeps the scores.
"""

import json
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from zoo_gen.machine.pickling import pickled, unpickled

Request = list[bytes | memoryview]


def request(method: str, *arguments: Any) -> Request:
    """Return what asks for a method with arguments.

    Raises:
        Exception: an argument cannot be pickled.
    """
    return pickled((method, arguments))


def send_request(connection: Connection, asked: Request) -> None:
    """Send a request.

    Raises:
        OSError: the other process has ended.
    """
    connection.send_bytes(len(asked).to_bytes(8, "little"))
    for part in asked:
        connection.send_bytes(part)


def receive_request(connection: Connection) -> tuple[str, tuple[Any, ...]]:
    """Return the next method and its arguments; arrays are read-only.

    Raises:
        EOFError: nobody will ask any more.
    """
    count = int.from_bytes(connection.recv_bytes(), "little")
    method, arguments = unpickled([connection.recv_bytes() for _ in range(count)])
    return method, arguments


def send_answer(connection: Connection, facts: dict[str, Any], array: np.ndarray | None = None) -> None:
    """Send plain data and an array, if there is one."""
    described = None if array is None else {"shape": array.shape, "type": array.dtype.str}
    connection.send_bytes(json.dumps({"facts": facts, "array": described}).encode())
    if array is not None:
        connection.send_bytes(np.ascontiguousarray(array).tobytes())


def receive_answer(connection: Connection) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return plain data and the array that came with it.

    Raises:
        EOFError: the other process has ended.
        ValueError: what it sent is no answer.
    """
    answer = json.loads(connection.recv_bytes())
    if not isinstance(answer, dict) or not isinstance(answer.get("facts"), dict):
        raise ValueError("an answer without facts")
    if answer["array"] is None:
        return answer["facts"], None
    content = connection.recv_bytes()
    kind, shape = np.dtype(answer["array"]["type"]), tuple(answer["array"]["shape"])
    return answer["facts"], np.frombuffer(content, kind).reshape(shape)
