"""Servers that speak S3: moto's, and one that only lists, at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 1000  # keys, as S3 has it
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests"}


@contextmanager
def moto_server(requests: list[str]) -> Iterator[str]:
    """Moto's threaded server; yields its address and notes each request as ``GET /bucket/key``."""
    import logging

    from moto.server import ThreadedMotoServer

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.search("(GET|HEAD|PUT|POST|DELETE) [^ ]+", record.getMessage())  # it may be coloured
            if found is not None:
                requests.append(found[0])

    log, notes = logging.getLogger("werkzeug"), Notes()
    log.handlers = [notes]
    log.setLevel(logging.INFO)
    log.propagate = False
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    log.handlers = []


@contextmanager
def listing_server(keys: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A server whose one bucket holds keys of tiny objects: it lists them, page by page, and has nothing to read.

    Moto takes a second for a page. Yields its address and the requests so far.
    """
    keys = sorted(keys)
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(f"GET {self.path}")
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            below = [key for key in keys if key.startswith(query.get("prefix", ""))]
            start = int(query.get("continuation-token", 0))
            end = start + min(PAGE, int(query.get("max-keys", PAGE)))
            more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(below) else ""
            body = (
                f"<ListBucketResult><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
                + "".join(
                    f"<Contents><Key>{key}</Key><LastModified>2026-11-27T00:00:00.000Z</LastModified>"
                    f'<ETag>"00000000000000000000000000000000"</ETag><Size>1</Size></Contents>'
                    for key in below[start:end]
                )
                + "</ListBucketResult>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            requests.append(f"HEAD {self.path}")
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def s3_environment(address: str) -> dict[str, str]:
    """What s3fs, on any machine, needs to know of a server."""
    return {**KEYS, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address}
