"""A real S3 server as a process of its own, behind a proxy that counts bytes and injects faults.

The proxy speaks plain HTTP, a connection a request. A fault is drawn for each request: a refusal, an answer that never
comes, one that trickles or breaks off, and one that is lost after the server has done what was asked.
"""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests import forked, waiting

READ_TIMEOUT = 2.0  # seconds after which a client that meets faults asks again; a busy machine answers within it
# Which share of requests meets which fault.
FLAKY = {"refused": 0.06, "no answer": 0.02, "slow": 0.04, "cut off": 0.04, "answer lost": 0.04}
_BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive", "content-length"}


class ObjectStore:
    """An S3 server with one bucket, and the proxy before it."""

    def __init__(self, place: Path, read_timeout: float) -> None:
        self.read_timeout = read_timeout
        self.faults: dict[str, float] = {}
        self.chance = random.Random(0)
        self.met: Counter[str] = Counter()
        self.requests = self.received = self.sent = 0  # bytes with headers, as the server sees them
        self._lock = threading.Lock()
        with (place / "server.log").open("w") as log:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.port = self._port_in(place / "server.log")
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self._make_bucket()

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client of S3 where the store is."""
        settings = {"read_timeout": self.read_timeout, "retries": {"mode": "legacy", "max_attempts": 6}}
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._proxy.server_port}",
            "FSSPEC_S3": json.dumps({"config_kwargs": settings}),
        }

    def count(self, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.received += received
            self.sent += sent

    def draw(self) -> str | None:
        """Return the fault that the next request meets."""
        with self._lock:
            self.requests += 1
            drawn = self.chance.random()
            for fault, share in self.faults.items():
                if drawn < share:
                    self.met[fault] += 1
                    return fault
                drawn -= share
        return None

    def wait_for(self, requests: int, process: forked.Process) -> None:
        """Wait until so many more requests have come, or the process that makes them has ended."""
        enough = self.requests + requests
        waiting.until(lambda: self.requests >= enough or process.poll() is not None)

    def forget(self) -> None:
        """Count from nothing again."""
        self.requests = self.received = self.sent = 0

    def files(self, prefix: str) -> dict[str, bytes]:
        """Return the objects below a prefix with their content, read past the proxy."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        parts = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{prefix}/"):
            for entry in page.get("Contents", []):
                body = client.get_object(Bucket="bucket", Key=entry["Key"])["Body"]
                parts[entry["Key"].removeprefix(f"{prefix}/")] = body.read()
                body.close()
        client.close()
        return parts

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self.process.kill()
        self.process.wait()

    def _port_in(self, log: Path) -> int:
        """Return the port that the server has chosen and says in its log."""
        running = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
        waiting.until(lambda: running.search(log.read_text()) or self.process.poll() is not None, pause=0.05)
        answer = running.search(log.read_text())
        assert answer, log.read_text()
        return int(answer[1])

    def _make_bucket(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=waiting.LIMIT)
        connection.request("PUT", "/bucket")
        connection.getresponse().read()
        connection.close()


@contextmanager
def object_store(place: Path, *, read_timeout: float = waiting.LIMIT) -> Iterator[ObjectStore]:
    """Start a store for the time of a test; its clients ask again after `read_timeout` seconds without an answer."""
    place.mkdir(parents=True, exist_ok=True)
    store = ObjectStore(place, read_timeout)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def known(store: ObjectStore) -> Iterator[None]:
    """Let this process and those that it starts know a store."""
    from s3fs import S3FileSystem

    before = dict(os.environ)
    os.environ.update(store.environment)
    S3FileSystem.clear_instance_cache()  # fsspec keeps its clients
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        S3FileSystem.clear_instance_cache()


def _handler(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.close_connection = True
            body = _body(self)
            store.count(received=len(body) + len(self.raw_requestline) + len(str(self.headers)))
            fault = store.draw()
            if fault == "refused":
                self.reply(503, {"Content-Type": "application/xml"}, _BUSY)
                return
            if fault == "no answer":
                time.sleep(2 * READ_TIMEOUT)
                return
            status, headers, content = self.ask(body)
            if fault != "answer lost":
                self.reply(status, headers, content, fault=fault)

        def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=waiting.LIMIT)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            answered = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                answered["Content-Length"] = answer.getheader("Content-Length", "0")
            connection.close()
            return answer.status, answered, content

        def reply(self, status: int, headers: dict[str, str], content: bytes, *, fault: str | None = None) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(content)), **headers, "Connection": "close"}.items():
                self.send_header(name, value)
            store.count(sent=len(content) + sum(map(len, self._headers_buffer)))
            self.end_headers()
            pieces = [content]
            if fault == "slow":
                step = len(content) // 8 + 1
                pieces = [content[start : start + step] for start in range(0, len(content), step)]
            if fault == "cut off":
                pieces = [content[: len(content) // 2]]
            for piece in pieces:
                if fault == "slow":
                    time.sleep(READ_TIMEOUT / 8)
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client may be gone
                super().handle()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

    return Handler


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    """Read the body of a request, of a known length or in chunks."""
    if handler.headers.get("Expect", "").lower() == "100-continue":
        handler.send_response_only(100)
        handler.end_headers()
    if "chunked" in handler.headers.get("Transfer-Encoding", "").lower():
        pieces = []
        while length := int(handler.rfile.readline().split(b";")[0], 16):
            pieces.append(handler.rfile.read(length))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(pieces)
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
