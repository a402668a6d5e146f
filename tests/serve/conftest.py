"""Engines and running servers for the tests of the HTTP API.

`engine` is the real one over a tiny random model of bytes. `ScriptedEngine` says what it is told, at a given
pace: for what cannot be seen with a random model - cancelling, queueing, faults in the middle of an answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from openai import OpenAI

from haina.inference import Delta, Engine, SamplingParameters
from haina.runtime.files import write_json, write_text
from haina.serve import create_app
from haina.serve.server import address_of, open_socket

TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, write_byte_model: Callable[..., Path]) -> Path:
    """A random model whose every token is a byte, with a chat template, marked as a base model."""
    folder = write_byte_model(tmp_path_factory.mktemp("served") / "model", 1, 256)
    write_json(folder / "generation_config.json", {"eos_token_id": [1, 4], "haina_kind": "base"})
    write_text(folder / "chat_template.jinja", TEMPLATE)
    return folder


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine.load(model_folder, device="cpu")


class ScriptedEngine:
    """Streams the characters of `text`, waiting `pause` seconds before each; records what was asked and
    ended."""

    name, context_length, description = "scripted", 1000, "no model"

    def __init__(self, folder: Path, text: str, pause: float = 0.0, fault: Exception | None = None) -> None:
        self.tokenizer = SimpleNamespace(folder=folder, vocab_size=0x110000)
        self.text, self.pause, self.fault = text, pause, fault
        self.asked: list[tuple[list[int], SamplingParameters]] = []
        self.given, self.running, self.most_running = 0, 0, 0
        self.threads: set[int] = set()
        self.closed = threading.Event()

    def encode_prompt(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        return self.encode_prompt(
            "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        )

    def stream(self, prompt: list[int], parameters: SamplingParameters) -> Iterator[Delta]:
        self.asked.append((prompt, parameters))
        self.threads.add(threading.get_ident())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for character in self.text[: parameters.max_tokens]:
                time.sleep(self.pause)
                self.given += 1
                yield Delta(character, (ord(character),), None)
            if self.fault is not None:
                raise self.fault
            yield Delta("", (), "stop" if parameters.max_tokens > len(self.text) else "length")
        finally:
            self.running -= 1
            self.closed.set()


@contextmanager
def running(engine: Any) -> Iterator[str]:
    """A server over `engine` on a free port; yields its URL."""
    listener = open_socket("127.0.0.1", 0)
    app = create_app(engine)
    engine.stop = app.state.generator.close
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def url(engine: Engine) -> Iterator[str]:
    with running(engine) as address:
        yield address


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def scripted(model_folder: Path) -> Iterator[Callable[..., tuple[ScriptedEngine, str, OpenAI]]]:
    """`scripted(text, pause, fault)` serves such an engine: (engine, URL, client)."""
    open_servers = []

    def start(*arguments: Any, **named: Any) -> tuple[ScriptedEngine, str, OpenAI]:
        engine = ScriptedEngine(model_folder, *arguments, **named)
        server = running(engine)
        address = server.__enter__()
        open_servers.append(server)
        return engine, address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)

    yield start
    for server in open_servers:
        server.__exit__(None, None, None)
