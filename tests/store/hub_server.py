"""A stand-in for the Hugging Face Hub on a free local port, with every fault a network can have.

Big files are sent from another host name (`localhost` instead of `127.0.0.1`), as the real Hub does.
"""

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

GOOD_TOKEN = "hf_good"
BAD_TOKEN = "hf_bad"
_CHUNK = 2**16


@dataclass
class Repo:
    """A repository with the one branch `main`."""

    files: dict[str, bytes]
    access: str = "public"  # or gated, private
    revisions: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        text = json.dumps([(path, git_sha1(data)) for path, data in sorted(self.files.items())])
        return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD /path" matches `pattern`.

    mode: reset (no reply), mute (none for long), status (arg the number), cut and stall (arg bytes are sent before),
    slow (arg bytes a second), corrupt, extra (more than announced), no_range, body (arg the bytes of the reply),
    redirect (arg the URL).
    """

    pattern: str
    mode: str
    arg: Any = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request as it came in; `sent` grows while its body goes out."""

    method: str
    path: str
    host: str
    range: str
    authorization: str
    sent: int = 0


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".gguf"))


def digest_of(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if is_lfs(path) else git_sha1(data)


class StandInHub:
    """Use as a context manager; `endpoint` is what to configure."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.page_size = 1000
        self.stopping = threading.Event()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "StandInHub":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, pattern: str, mode: str, arg: Any = None, times: int = 1, **headers: str) -> None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.faults.append(Fault(pattern, mode, arg, times, named))

    def take_fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return None

    def sent(self, pattern: str = "/_cdn/") -> int:
        """Bytes of the bodies that went out for matching requests."""
        return sum(seen.sent for seen in self.seen if re.search(pattern, seen.path))

    def requests(self, pattern: str) -> list[Seen]:
        return [seen for seen in self.seen if re.search(pattern, f"{seen.method} {seen.path}")]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: StandInHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_HEAD(self) -> None:
        self.serve()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path)
        header = self.headers.get
        self.record = Seen(
            self.command, self.path, header("Host", ""), header("Range", ""), header("Authorization", "")
        )
        self.hub.seen.append(self.record)
        self.fault = self.hub.take_fault(f"{self.command} {self.path}")
        if self.fault and self.fault.mode in ("reset", "mute"):
            self.hub.stopping.wait(60 if self.fault.mode == "mute" else 0)
            return self.hang_up()
        if self.fault and self.fault.mode == "status":
            return self.reply(self.fault.arg, b"boom", self.fault.headers)
        if self.fault and self.fault.mode == "body":
            return self.reply(200, self.fault.arg, self.fault.headers)
        if self.fault and self.fault.mode == "redirect":
            return self.reply(302, b"", {"Location": self.fault.arg})
        if match := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            return self.info(match[1], match[2])
        if match := re.fullmatch(r"/api/models/(.+?)/tree/([^/]+)", path):
            return self.tree(match[1], match[2], urllib.parse.parse_qs(parts.query))
        if match := re.fullmatch(r"/(_cdn/)?(.+?)/resolve/([^/]+)/(.+)", path):
            return self.file(match[2], match[3], match[4], is_cdn=bool(match[1]))
        return self.refuse(404, "", "no such page")

    def find(self, name: str) -> Repo | None:
        return next((repo for id, repo in self.hub.repos.items() if id.lower() == name.lower()), None)

    def repo(self, name: str) -> Repo | None:
        """The repository, or None after a refusal was sent."""
        found = self.find(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == BAD_TOKEN:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif not found or (found.access == "private" and token != GOOD_TOKEN):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif found.access == "gated" and token != GOOD_TOKEN:
            self.refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted")
        else:
            return found
        return None

    def info(self, name: str, revision: str) -> None:
        if not (repo := self.repo(name)):
            return None
        if revision not in (*repo.revisions, repo.commit):
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        stored = next(id for id in self.hub.repos if id.lower() == name.lower())
        files = [{"rfilename": path} for path in sorted(repo.files)]
        return self.json({"_id": "0", "id": stored, "sha": repo.commit, "private": False, "siblings": files})

    def tree(self, name: str, revision: str, query: dict[str, list[str]]) -> None:
        if not (repo := self.repo(name)):
            return None
        entries = []
        for path, data in sorted(repo.files.items()):
            entry: dict[str, Any] = {"type": "file", "oid": git_sha1(data), "size": len(data), "path": path}
            if is_lfs(path):
                entry["lfs"] = {"oid": digest_of(path, data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        start, end = int(query.get("cursor", ["0"])[0]), self.hub.page_size
        page = entries[start : start + end]
        headers = {}
        if start + end < len(entries):
            url = f"{self.hub.endpoint}/api/models/{name}/tree/{revision}?recursive=true&cursor={start + end}"
            headers["Link"] = f'<{url}>; rel="next"'
        return self.json(page, headers)

    def file(self, name: str, revision: str, path: str, *, is_cdn: bool) -> None:
        repo = self.find(name) if is_cdn else self.repo(name)
        if not repo:
            return None
        if path not in repo.files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        data = repo.files[path]
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{digest_of(path, data)}"'}
        if is_lfs(path) and not is_cdn:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
            url = f"http://localhost:{self.hub.port}/_cdn/{name}/resolve/{revision}/{urllib.parse.quote(path)}"
            return self.reply(302, b"", {**headers, "Location": url})
        return self.content(data, headers)

    def content(self, data: bytes, headers: dict[str, str]) -> None:
        start, status = 0, 200
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and not (self.fault and self.fault.mode == "no_range"):
            start, status = int(match[1]), 206
            if start >= len(data):
                return self.reply(416, b"")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.reply(status, data[start:], {"Accept-Ranges": "bytes", **headers})

    def json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        mode = self.fault.mode if self.fault else ""
        if mode == "extra":
            body += b"x" * _CHUNK
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body, mode)

    def send_body(self, body: bytes, mode: str) -> None:
        arg: Any = self.fault.arg if self.fault else None
        for start in range(0, len(body), _CHUNK):
            chunk = body[start : start + _CHUNK]
            if mode == "corrupt":
                chunk = bytes([chunk[0] ^ 255]) + chunk[1:]
            if mode in ("cut", "stall") and self.record.sent + len(chunk) > arg:
                if mode == "stall":
                    self.hub.stopping.wait(60)
                return self.hang_up()
            if mode == "slow":
                time.sleep(len(chunk) / arg)
            self.record.sent += len(chunk)
            self.wfile.write(chunk)

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
