"""A Hub on loopback that serves one data set at one commit, for reading only, and can be told to break off."""

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serve(repository: str, revision: str, files: dict[str, bytes], *, break_off: str = "") -> Iterator[str]:
    """Serve files (path -> content) as a data set repository; of a file that ends so, only the first half is sent."""
    api, plain = f"/api/datasets/{repository}", f"/datasets/{repository}"
    about = {
        "id": repository,
        "author": repository.split("/", maxsplit=1)[0],
        "sha": revision,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in files],
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
    }

    def entry(path: str) -> dict[str, object]:
        if path in files:
            return {"type": "file", "path": path, "size": len(files[path]), "oid": digest(files[path])[:40]}
        return {"type": "directory", "path": path, "size": 0, "oid": digest(path.encode())[:40]}

    def tree(folder: str, *, recursive: bool) -> list[dict[str, object]]:
        inside = f"{folder}/" if folder else ""
        parts = [path.removeprefix(inside).split("/") for path in files if path.startswith(inside)]
        depths = [range(1, len(names) + 1 if recursive else 2) for names in parts]
        paths = {inside + "/".join(names[:n]) for names, depth in zip(parts, depths, strict=True) for n in depth}
        return [entry(path) for path in sorted(paths)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if break_off and self.path.endswith(break_off):
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def missing(self, code: str) -> None:
            self.answer(404, b'{"error": "not found"}', X_Error_Code=code, X_Error_Message="not found")

        def reply(self, content: object) -> None:
            self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
            if path in (api, f"{api}/revision/{revision}"):
                self.reply(about)
            elif path.startswith(f"{api}/revision/"):
                self.missing("RevisionNotFound")
            elif path.startswith(f"{api}/tree/{revision}"):
                folder = path.removeprefix(f"{api}/tree/{revision}").strip("/")
                listed = tree(folder, recursive=query.get("recursive", ["false"])[0].lower() == "true")
                self.reply(listed) if listed else self.missing("EntryNotFound")
            elif path.startswith(f"{plain}/resolve/{revision}/"):
                self.send_file(path.removeprefix(f"{plain}/resolve/{revision}/"))
            elif path.startswith((api, plain)):
                self.missing("RevisionNotFound")
            else:
                self.missing("RepoNotFound")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path != f"{api}/paths-info/{revision}":
                self.missing("RepoNotFound")
                return
            if "json" in self.headers.get("Content-Type", ""):
                paths = json.loads(body)["paths"]
            else:
                paths = urllib.parse.parse_qs(body.decode()).get("paths", [])
            folders = {str(found["path"]) for found in tree("", recursive=True)}
            self.reply([entry(path) for path in paths if path in folders])

        def send_file(self, path: str) -> None:
            headers = {"X_Repo_Commit": revision}
            if path not in files:
                self.answer(404, b"", X_Error_Code="EntryNotFound", X_Error_Message="not found", **headers)
                return
            content, status = files[path], 200
            headers |= {"ETag": f'"{digest(content)}"', "Accept_Ranges": "bytes"}
            if wanted := self.headers.get("Range", ""):
                first, last = wanted.removeprefix("bytes=").split("-")
                start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
                headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
                content, status = content[start:stop], 206
            self.answer(status, content, **headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def digest(content: bytes) -> str:
    """Return the SHA-256 (hex)."""
    return hashlib.sha256(content).hexdigest()
