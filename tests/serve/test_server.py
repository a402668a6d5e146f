from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from haina.runtime.errors import HainaError
from haina.serve import serve
from haina.serve.server import address_of, open_socket


def test_an_occupied_port_is_named_before_the_model_is_opened(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # There is no model in this folder: the port is what is found first.
        with pytest.raises(
            HainaError, match=f"port {port} on 127.0.0.1 is occupied; choose another with --port"
        ):
            serve(tmp_path, "127.0.0.1", port)


def test_a_second_server_cannot_take_a_port_while_the_first_loads() -> None:
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(HainaError, match="occupied"):
            open_socket("127.0.0.1", port)


def test_addresses() -> None:
    with open_socket("0.0.0.0", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    for host, port, words in [("127.0.0.1", 70000, "out of range"), ("no such host", 80, "not an address"),
                              ("203.0.113.7", 0, "203.0.113.7")]:  # fmt: skip
        with pytest.raises(HainaError, match=words):
            open_socket(host, port)


def test_an_unknown_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=str(tmp_path)):
        serve(tmp_path / "nothing", port=0)


def test_serve_answers_and_stops_at_an_interrupt(model_folder: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from haina.runtime.progress import PlainProgress\n"
        "from haina.serve import serve\n"
        "try: serve(pathlib.Path(sys.argv[1]), port=0, device='cpu', reporter=PlainProgress(sys.stdout))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(model_folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        description, address = process.stdout.readline(), process.stdout.readline()
        assert "parameters" in description
        url = address.split()[2]
        assert httpx.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"] == description.split(":")[0]
        # An answer that still runs does not keep the server from stopping.
        body = {"model": description.split(":")[0], "prompt": "海", "max_tokens": 250, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as response:
            next(response.iter_lines())
            process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            process.wait(20)
        assert time.monotonic() - begun < 10
        assert process.returncode in {0, 130}
    finally:
        process.kill()
        process.wait()
