"""A Hub on loopback that behaves as the Hub does for the official client, and fails where it is told to.

Its endpoints: repositories (create, about, tree in pages, paths), commits (inline and through LFS), tags, and files
with ranges, those of LFS behind a redirection to another server as on the Hub.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_loopback"
PAGE = 40  # entries of a folder in one answer; the Hub has 1,000
LFS_SUFFIXES = (".parquet", ".png", ".safetensors", ".gz", ".zip")
LFS_BYTES = 4096  # above, a file of another kind is in LFS too; the Hub has 10 MB


@dataclass
class Fault:
    """What goes wrong with requests whose path has `path` in it: a status, or the answer breaks off half way.

    Of what is then asked for from there on, nothing comes either, until the fault has been met `times` times.
    """

    path: str
    method: str = "GET"
    status: int = 0  # 0: break off
    retry_after: int | None = None
    times: int = 1


@dataclass
class Request:
    """One request as it was answered."""

    method: str
    path: str
    status: int
    sent: int  # bytes of the body
    received: int  # bytes of the request's body
    range: str


@dataclass
class Repository:
    """Commits, oldest first, each with all its files, and tags."""

    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)  # revisions that only who knows them finds, as refs/pr/1
    private: bool = False

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and the files of "main", a tag, an unlisted revision or a commit."""
        revision = (self.tags | self.unlisted).get(revision, revision)
        return next((c for c in reversed(self.commits) if revision in ("main", c[0])), None)


@dataclass
class Hub:
    """The state of the server, which tests read and set."""

    endpoint: str = ""
    storage: str = ""  # where files in LFS are, another server as on the Hub
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)  # of LFS, by SHA-256
    log: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tells_oids: bool = True  # whether a client learns what is there already
    lfs: bool = True  # whether large files go through LFS; if not, all are inline
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, name: str, files: dict[str, bytes], *, kind: str = "dataset", commit: str = "") -> str:
        """Commit files (all that the commit holds) to a repository, which is made if it is not there."""
        repository = self.repositories.setdefault((kind, name), Repository())
        commit = commit or digest(f"{name} {len(repository.commits)}".encode())[:40]
        repository.commits.append((commit, files))
        return commit

    def sent(self, path: str = "") -> int:
        """Return the bytes that were sent of what has `path` in its name."""
        return sum(request.sent for request in self.log if path in request.path)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what shall go wrong with a request, which is then one time less to come."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def serve() -> Iterator[Hub]:
    """Serve an empty Hub; what it does is in its log."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with listening(handler) as hub.endpoint, listening(handler) as hub.storage:
        yield hub


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of loopback; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer_request()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer_request(self) -> None:
        self.body = self._read_body()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.fault = self.hub.fault(self.command, path)
        try:
            if self.fault and self.fault.status:
                wait = self.fault.retry_after
                headers = {} if wait is None else {"Retry-After": str(wait)}
                self.send(self.fault.status, b'{"error": "as told"}', **headers)
            elif self._authorized(path):
                with self.hub.lock:
                    self._route(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _authorized(self, path: str) -> bool:
        """Refuse a wrong token, and writing or private repositories without one."""
        authorization = self.headers.get("Authorization", "")
        if authorization not in ("", f"Bearer {TOKEN}"):
            self.send(401, b'{"error": "Invalid username or password."}')
            return False
        reads = self.command in ("GET", "HEAD") or path.partition("/paths-info/")[1] or path == "/api/validate-yaml"
        if not authorization and (not reads or path == "/api/whoami-v2") and not path.startswith("/lfs/"):
            self.send(401, b'{"error": "Invalid username or password."}')
            return False
        return True

    def _route(self, path: str) -> None:
        if path == "/":
            self.reply({})
        elif path == "/api/whoami-v2":
            self.reply({"type": "user", "name": "org", "orgs": [], "auth": {}})
        elif path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create()
        elif match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            self._blob(match[1])
        elif match := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(/.*)?", path):
            if repository := self._repository(match[1], match[2]):
                self._api(repository, match[1], match[2], match[3] or "")
        elif match := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            if self._repository(match[1] or "model", match[2]):
                self._batch()
        elif match := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if repository := self._repository(match[1] or "model", match[2]):
                self._file(repository, match[3], match[4])
        else:
            self.missing("RepoNotFound")

    def _repository(self, kind: str, name: str) -> Repository | None:
        repository = self.hub.repositories.get((kind, name))
        anonymous = not self.headers.get("Authorization")
        if repository is None or (repository.private and anonymous):
            # Who has no token is not told whether a repository is private or not there.
            if anonymous:
                self.send(401, b'{"error": "Invalid username or password."}')
            else:
                self.missing("RepoNotFound")
            return None
        return repository

    def _create(self) -> None:
        request = json.loads(self.body)
        kind, name = request.get("type") or "model", f"{request.get('organization') or 'org'}/{request['name']}"
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{name}"
        if (kind, name) in self.hub.repositories:
            message = {"error": "You already created this repo", "url": url}
            self.send(409, json.dumps(message).encode(), Content_Type="application/json")
            return
        self.hub.add(name, {".gitattributes": b"*.parquet filter=lfs\n"}, kind=kind)
        self.hub.repositories[kind, name].private = bool(
            request.get("private") or request.get("visibility") == "private"
        )
        self.reply({"url": url, "id": name, "name": name})

    def _api(self, repository: Repository, kind: str, name: str, rest: str) -> None:
        if rest == "/refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repository.commits[-1][0]}]
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repository.tags.items()]
            self.reply({"branches": branches, "tags": tags, "converts": []})
            return
        verb, _, place = rest.lstrip("/").partition("/")
        known = (name for name in (*repository.tags, *repository.unlisted) if f"{place}/".startswith(f"{name}/"))
        revision = next(known, place.partition("/")[0])  # names of revisions may have slashes
        folder = place.removeprefix(revision).lstrip("/")
        listed = repository.files(revision or "main")
        if listed is None:
            self.missing("RevisionNotFound")
            return
        commit, files = listed
        if verb in ("", "revision"):
            self.reply(_about(name, commit, files, private=repository.private))
        elif verb == "tree":
            self._tree(files, folder)
        elif verb == "paths-info":
            if "json" in self.headers.get("Content-Type", ""):
                paths = json.loads(self.body)["paths"]
            else:
                paths = urllib.parse.parse_qs(self.body.decode()).get("paths", [])
            known = {str(entry["path"]): entry for entry in self._entries(files, "", recursive=True)}
            self.reply([known[path] for path in paths if path in known])
        elif verb == "preupload":
            self.reply({"files": [self._mode(files, entry) for entry in json.loads(self.body)["files"]]})
        elif verb == "commit":
            self._commit(repository, name, files)
        elif verb == "tag":
            tag = json.loads(self.body)["tag"]
            if tag in repository.tags:
                self.send(409, b'{"error": "Tag reference exists already"}')
            else:
                repository.tags[tag] = commit
                self.reply({})
        else:
            self.missing("RepoNotFound")

    def _entries(self, files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, object]]:
        inside = f"{folder}/" if folder else ""
        parts = [path.removeprefix(inside).split("/") for path in files if path.startswith(inside)]
        depths = [range(1, len(names) + 1 if recursive else 2) for names in parts]
        paths = {inside + "/".join(names[:n]) for names, depth in zip(parts, depths, strict=True) for n in depth}
        return [self._entry(files, path) for path in sorted(paths)]

    def _entry(self, files: dict[str, bytes], path: str) -> dict[str, object]:
        if path not in files:
            return {"type": "directory", "path": path, "size": 0, "oid": digest(path.encode())[:40]}
        content = files[path]
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if self._in_lfs(path, len(content)):
            entry["lfs"] = {"oid": digest(content), "size": len(content), "pointerSize": 130}
        return entry

    def _in_lfs(self, path: str, size: int) -> bool:
        return self.hub.lfs and (path.endswith(LFS_SUFFIXES) or size > LFS_BYTES)

    def _tree(self, files: dict[str, bytes], folder: str) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        entries = self._entries(files, folder, recursive=query.get("recursive", ["false"])[0].lower() == "true")
        if not entries:
            self.missing("EntryNotFound")
            return
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            query["cursor"] = [str(start + PAGE)]
            path = f"{urllib.parse.urlsplit(self.path).path}?{urllib.parse.urlencode(query, doseq=True)}"
            headers["Link"] = f'<{self.hub.endpoint}{path}>; rel="next"'
        self.reply(entries[start : start + PAGE], **headers)

    def _mode(self, files: dict[str, bytes], entry: dict[str, object]) -> dict[str, object]:
        path = str(entry["path"])
        mode = "lfs" if self._in_lfs(path, int(str(entry["size"]))) else "regular"
        known = None
        if path in files and self.hub.tells_oids:
            known = digest(files[path]) if self._in_lfs(path, len(files[path])) else git_oid(files[path])
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known}

    def _commit(self, repository: Repository, name: str, files: dict[str, bytes]) -> None:
        files, message = dict(files), ""
        for line in self.body.splitlines():
            key, value = (json.loads(line)[part] for part in ("key", "value"))
            match key:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        commit = digest(f"{name} {len(repository.commits)} {message}".encode())[:40]
        repository.commits.append((commit, files))
        repository.messages.append(message)
        url = f"{self.hub.endpoint}/datasets/{name}/commit/{commit}"
        self.reply({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None, "success": True})

    def _batch(self) -> None:
        objects = []
        for entry in json.loads(self.body)["objects"]:
            if entry["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.storage}/lfs/{entry['oid']}"}}
            objects.append(entry)
        self.reply({"transfer": "basic", "objects": objects})

    def _blob(self, sha256: str) -> None:
        if self.command == "PUT":
            if digest(self.body) == sha256:
                self.hub.blobs[sha256] = self.body
            self.send(200 if digest(self.body) == sha256 else 400, b"")
            return
        for repository in self.hub.repositories.values():
            for path, content in (item for _, files in repository.commits for item in files.items()):
                if digest(content) == sha256:
                    self.fault = self.fault or self.hub.fault(self.command, path)
                    self._content(content, {"ETag": f'"{sha256}"'})
                    return
        self.missing("EntryNotFound")

    def _file(self, repository: Repository, revision: str, path: str) -> None:
        listed = repository.files(revision)
        if listed is None:
            self.missing("RevisionNotFound")
            return
        commit, files = listed
        if path not in files:
            self.missing("EntryNotFound", X_Repo_Commit=commit)
            return
        content = files[path]
        headers = {"X_Repo_Commit": commit}
        if not self._in_lfs(path, len(content)):
            self._content(content, headers | {"ETag": f'"{git_oid(content)}"'})
            return
        linked = {"X_Linked_ETag": f'"{digest(content)}"', "X_Linked_Size": str(len(content))}
        self.send(302, b"", **headers, **linked, Location=f"{self.hub.storage}/lfs/{digest(content)}")

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        headers, status = headers | {"Accept_Ranges": "bytes"}, 200
        if asked_range := self.headers.get("Range", ""):
            first, last = asked_range.removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content, status = content[start:stop], 206
        self.send(status, content, **headers)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        breaks = self.fault is not None and not self.fault.status
        byte_range = self.headers.get("Range", "")
        sent = len(body) if not breaks else 0 if byte_range else len(body) // 2
        sent = 0 if self.command == "HEAD" else sent
        self.hub.log.append(Request(self.command, self.path, status, sent, len(self.body), byte_range))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = self.close_connection or breaks

    def reply(self, content: object, **headers: str) -> None:
        self.send(200, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def missing(self, code: str, **headers: str) -> None:
        self.send(404, b'{"error": "not found"}', X_Error_Code=code, X_Error_Message="not found", **headers)


def _about(name: str, commit: str, files: dict[str, bytes], *, private: bool) -> dict[str, object]:
    return {
        "id": name,
        "author": name.split("/", maxsplit=1)[0],
        "sha": commit,
        "private": private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in files],
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
    }


@lru_cache(maxsize=4096)  # bytes remember their hash, so that the same file is not read again
def digest(content: bytes) -> str:
    """Return the SHA-256 (hex)."""
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=4096)
def git_oid(content: bytes) -> str:
    """Return what git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
