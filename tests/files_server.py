"""A folder served over HTTP on loopback, with ranges as published archives are served, failing where it is told to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Literal

from tests.hub_server import Fault, Request, listening


@dataclass
class Files:
    """The state of the server, which tests read and set."""

    folder: Path
    url: str = ""  # ends with a slash
    log: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tags: Literal["strong", "weak", "none"] = "strong"
    ranges: bool = True
    pieces: bool = False  # send in pieces, without saying the length first

    def gets(self, name: str = "") -> list[Request]:
        """Return the requests for a file."""
        return [request for request in self.log if request.method == "GET" and request.path.endswith(f"/{name}")]

    def sent(self, name: str = "") -> int:
        """Return the bytes that were sent of a file."""
        return sum(request.sent for request in self.gets(name))


@contextmanager
def serve(folder: Path, *, break_off: str = "") -> Iterator[Files]:
    """Serve the files of a folder; of the one named, only the first half is ever sent.

    `/api/records/N` describes the folder N as Zenodo describes a record, and `/records/N/FILE` has its files.
    """
    files = Files(folder)
    if break_off:
        files.faults.append(Fault(break_off, times=1000))
        files.ranges = False
    with listening(type("Handler", (_Handler,), {"files": files})) as url:
        files.url = f"{url}/"
        yield files


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def _answer(self) -> None:
        path = self.path.removeprefix("/")
        fault = next((f for f in self.files.faults if f.times and f.method == self.command and f.path in path), None)
        if fault:
            fault.times -= 1
        if fault and fault.status:
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(fault.status, b"", wait, fault=None)
        elif path.startswith("api/records/"):
            self._record(path.removeprefix("api/records/"))
        elif (self.files.folder / path).is_file():
            self._file(self.files.folder / path, fault)
        else:
            self._send(404, b"", {}, fault=None)

    def _record(self, number: str) -> None:
        folder = self.files.folder / "records" / number
        if not folder.is_dir():
            self._send(404, b'{"status": 404}', {}, fault=None)
            return
        entries = [
            {
                "key": path.name,
                "size": path.stat().st_size,
                "checksum": f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}",
                "links": {"self": f"{self.files.url}records/{number}/{path.name}"},
            }
            for path in sorted(folder.iterdir())
        ]
        self._send(200, json.dumps({"id": int(number), "files": entries}).encode(), {}, fault=None)

    def _file(self, path: Path, fault: Fault | None) -> None:
        content, stat = path.read_bytes(), path.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        tag = tag if self.files.tags == "strong" else f"W/{tag}"
        headers = {} if self.files.tags == "none" else {"ETag": tag}
        status = 200
        asked_range, condition = self.headers.get("Range", ""), self.headers.get("If-Range")
        if asked_range and self.files.ranges and condition in (None, tag):
            first, _, last = asked_range.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"}, fault=None)
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content, status = content[start:stop], 206
        self._send(status, content, headers, fault=fault)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, fault: Fault | None) -> None:
        breaks = fault is not None
        sent = 0 if self.command == "HEAD" else len(body) // 2 if breaks else len(body)
        range_ = self.headers.get("Range", "")
        self.files.log.append(Request(self.command, self.path, status, sent, 0, range_))
        self.send_response(status)
        pieces = self.files.pieces and self.command == "GET"
        self.send_header(*(("Transfer-Encoding", "chunked") if pieces else ("Content-Length", str(len(body)))))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (sent, body[:sent]) if sent else b"")
            self.wfile.write(b"" if breaks else b"0\r\n\r\n")
        else:
            self.wfile.write(body[:sent])
        self.close_connection = self.close_connection or breaks
