"""A web hook: keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Answers with `status`; `got` are the bodies of what it took."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        self.got: list[dict[str, Any]] = []
        self.port = 0
        self.more = threading.Condition()

    @property
    def url(self) -> str:
        """Its Apprise URL, with a secret in it."""
        return f"json://user:s3cret-word@127.0.0.1:{self.port}/hook"

    def take(self, body: bytes) -> int:
        """What is posted; the status of the answer."""
        with self.more:
            self.asked += 1
            if self.status == 200:
                self.got.append(json.loads(body))
            self.more.notify_all()
            return self.status


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
