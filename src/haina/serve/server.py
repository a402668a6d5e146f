"""Serve a model folder over HTTP until Ctrl-C.

In: a model folder, an address. Out: a running server. The address is taken before the model is loaded, so
that an occupied port is known at once, and it stays taken, so that nobody can slip in between.
"""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path
from types import FrameType

import uvicorn

from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter, SilentProgress

GRACE_SECONDS = 3


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`:`port` (port 0: any free one).

    Raises:
        HainaError: the port is occupied or not allowed, or the host is not an address of this machine.
    """
    if not 0 <= port <= 65535:
        raise HainaError(f"port {port}: out of range", "give --port a number from 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise HainaError(
            f"host {host}: not an address", "use --host 127.0.0.1, or 0.0.0.0 for every interface"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise HainaError(
                f"port {port} on {host} is occupied",
                f"choose another with --port, for example --port {port + 1}",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise HainaError(
                f"port {port} on {host} is not allowed to you", "choose one above 1023 with --port"
            ) from error
        raise HainaError(
            f"{host}:{port}: {error.strerror}", "use --host 127.0.0.1, or 0.0.0.0 for every interface"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL that reaches `listener` from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Ends the answers that are being generated when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, closing: threading.Event) -> None:
        super().__init__(config)
        self.closing = closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.closing.set()
        super().handle_exit(sig, frame)


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    device: str = "auto",
    precision: str = "auto",
    name: str | None = None,
    log_level: str = "warning",
    reporter: Reporter | None = None,
) -> None:
    """Load `folder` and serve it until Ctrl-C.

    Args:
        folder: a bf16 or INT4 model folder.
        host, port: where to listen; port 0 takes any free port.
        device, precision: as in `Engine.load`.
        name: what `/v1/models` calls the model; the engine's own name when None.
        log_level: of uvicorn; `info` writes a line for each request.
        reporter: is told the address once the model can answer.

    Raises:
        HainaError: the address cannot be had or the folder is not a model.
    """
    reporter = reporter or SilentProgress()
    listener = open_socket(host, port)
    try:
        from haina.inference import Engine
        from haina.serve.app import create_app

        engine = Engine.load(folder, device=device, precision=precision)
        app = create_app(engine, name=name)
        url = address_of(listener)
        reporter.say(f"{app.state.name}: {engine.description}")
        reporter.say(f"chat page {url}  ·  OpenAI API {url}/v1  ·  Ctrl-C stops")
        config = uvicorn.Config(
            app, log_level=log_level, timeout_graceful_shutdown=GRACE_SECONDS, server_header=False
        )
        _Server(config, app.state.generator.closing).run(sockets=[listener])
    finally:
        listener.close()
