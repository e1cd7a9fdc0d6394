"""A Hugging Face Hub on loopback: resolve, metadata and commit routes, and the ways in which networks fail."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Repository:
    """Files of one repository; all revisions are the same commit."""

    files: dict[str, bytes] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", COMMIT)
    token: str | None = None
    gated: bool = False
    private: bool = False


class HubServer(ThreadingHTTPServer):
    """Serves ``repositories``; what it was asked for is in ``requests`` as (method, path, Range header).

    Attributes:
        cut: number of downloads that break off after half of the bytes.
        corrupt: serve other bytes than those whose hash is told.
        headers: of answers about files, in place of what is right; None leaves one out.
        listing: what the metadata route answers in place of JSON.
        flood: a file comes without a length, and without end.
        listing_flood: so does the list of files.
        drip: seconds between the bytes of files and of the heads of answers about them.
        error: status of every answer, whose body has no end.
        sent: bytes of bodies without end, so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.uploads: dict[str, bytes] = {}
        self.cut = 0
        self.corrupt = False
        self.headers: dict[str, str | None] = {}
        self.listing: bytes | None = None
        self.flood = self.listing_flood = False
        self.drip = 0.0
        self.error = 0
        self.sent = 0
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is part of the tests


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def _get(self, body: bool) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        path = self.path.partition("?")[0]
        resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
        found = resolve or info
        repository = self.server.repositories.get(found[1]) if found else None
        if self.server.error:
            self._endless(self.server.error, b'{"error": "' if body else None)
        elif info and self.server.listing_flood:
            self._endless(200, b'{"siblings": [' + b'{"rfilename": "a"}, ' * 1000 if body else None)
        elif info and self.server.listing is not None:
            self._raw(self.server.listing)
        elif found is None or repository is None:
            self._fail(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        elif repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self._fail(401, "RepoNotFound")
        elif repository.gated:
            self._fail(403, "GatedRepo")
        elif (found[2] or "main") not in repository.revisions:
            self._fail(404, "RevisionNotFound")
        elif info:
            siblings = [{"rfilename": name} for name in repository.files]
            self._json({"id": found[1], "sha": COMMIT, "siblings": siblings, "private": repository.private, "tags": []})
        elif found[3] not in repository.files:
            self._fail(404, "EntryNotFound")
        else:
            self._file(repository.files[found[3]], body)

    def _file(self, data: bytes, body: bool) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if self.server.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            start = int(asked[1])
        if body and self.server.flood:
            self._endless(200, data)
            return
        headers: dict[str, str | None] = {
            "Content-Length": str(len(data) - start),
            "Accept-Ranges": "bytes",
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest}"',
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
        }
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if asked else 200)
        for key, value in (headers | self.server.headers).items():
            if value is not None:
                self.send_header(key, value)
        if self.server.drip and not body:
            self._drip(b"X-Slow: " + b"x" * 10_000)
        self.end_headers()
        if not body:
            return
        if self.server.drip:
            self._drip(data)
        if self.server.cut > 0:
            self.server.cut -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data[start:])

    def do_POST(self) -> None:
        self.server.requests.append(("POST", self.path, None))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer hf_writer":
            self._fail(401, "Unauthorized")
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.repositories.setdefault(name, Repository(private=_is_private(asked)))
            self._json({"url": f"{self.server.url}/{name}", "name": name})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in files]
            self._json({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._upload_action(item) for item in objects]})
        elif "/commit/" in self.path:
            self._commit(re.match(r"/api/models/([^/]+/[^/]+)/commit/", self.path)[1], body)  # type: ignore[index]
        else:
            self._json({})

    def _upload_action(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "actions": {"upload": {"href": f"{self.server.url}/upload/{item['oid']}"}}}

    def _commit(self, name: str, body: bytes) -> None:
        files = self.server.repositories[name].files
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{COMMIT}"
        self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_PUT(self) -> None:
        self.server.requests.append(("PUT", self.path, None))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.uploads[self.path.rpartition("/")[2]] = body
        self._json({})

    def _endless(self, status: int, block: bytes | None) -> None:
        """A body without length or end; None leaves it away."""
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.close_connection = True
        self.end_headers()
        while block is not None and self.server.sent < 1 << 28:
            self.wfile.write(block)
            self.server.sent += len(block)
            block = b"?" * (1 << 16)

    def _drip(self, data: bytes) -> None:
        self.flush_headers()
        for byte in data:
            self.wfile.write(bytes([byte]))
            time.sleep(self.server.drip)

    def _json(self, value: Any) -> None:
        self._raw(json.dumps(value).encode())

    def _raw(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _is_private(asked: dict[str, Any]) -> bool:
    """What a client asks for a new repository, in the words of older and of newer ones."""
    return bool(asked.get("private")) or asked.get("visibility") == "private"


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


def run(server: HubServer, home: Path, *arguments: object, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run gdq as a user would, with nothing configured but the Hub's address and a fresh cache: (stdout, stderr)."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "GDQ_"))}
    environment = {**kept, "HF_ENDPOINT": server.url, "HF_HOME": str(home), **environment}
    program = () if arguments[0] == "-c" else ("-m", "gdq_cli")
    command = [sys.executable, *program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def error_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    return lines[0]
