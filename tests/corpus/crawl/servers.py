"""Several hosts on loopback addresses, each with its own pages and manners, and a log of who asked for what and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]
Site = Callable[[str, "Host"], Answer | None]


@dataclass
class Host:
    """One server; `log` holds (time, path) of every request."""

    address: str
    site: Site
    log: list[tuple[float, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def times(self, path: str = "") -> list[float]:
        return [when for when, what in self.log if not path or what == path]

    def paths(self) -> list[str]:
        return [path for _, path in self.log]


def html(body: str, status: int = 200) -> Answer:
    return status, {"Content-Type": "text/html; charset=utf-8"}, f"<html><body>{body}</body></html>".encode()


def text(body: str, status: int = 200) -> Answer:
    return status, {"Content-Type": "text/plain"}, body.encode()


def _handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host.log.append((time.monotonic(), self.path))
            answer = host.site(self.path, host)
            if answer is None:
                self.drip()
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def drip(self) -> None:
            """An endless body: fast for `/endless`, a byte a while for anything else."""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Connection", "close")
            self.end_headers()
            fast = self.path.startswith("/endless")
            try:
                for _ in range(100_000 if fast else 300):
                    self.wfile.write(b"x" * (8192 if fast else 1))
                    self.wfile.flush()
                    if not fast:
                        time.sleep(0.1)
            except OSError:
                pass
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextmanager
def serving(*hosts: Host) -> Iterator[None]:
    """The hosts answer inside the block."""
    servers = []
    try:
        for host in hosts:
            server = ThreadingHTTPServer((host.address, 0), _handler(host))
            server.daemon_threads = True
            host.port = server.server_port
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            servers.append(server)
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
