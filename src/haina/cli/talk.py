"""`haina generate`, `haina chat`, `haina serve`: use a model."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haina.cli.common import JsonOption, console, print_json

if TYPE_CHECKING:
    from haina.inference import Engine, SamplingParameters

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, bf16 or INT4.")]
TokensOption = Annotated[int, typer.Option("--max-tokens", help="Most new tokens.")]
TemperatureOption = Annotated[float, typer.Option(help="0 is greedy.")]
TopKOption = Annotated[int, typer.Option(help="Sample among the k likeliest; 0 for all.")]
TopPOption = Annotated[float, typer.Option(help="Sample among the likeliest that hold this share.")]
PenaltyOption = Annotated[
    float, typer.Option("--repetition-penalty", help="Above 1 discourages what was said.")
]
SeedOption = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
StopOption = Annotated[
    list[str] | None, typer.Option("--stop", help="Stop before this text. May be given again.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def _parameters(**values: Any) -> SamplingParameters:
    from haina.inference import SamplingParameters

    return SamplingParameters(**values)


def generate(
    model: ModelArgument,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to go on from; - reads standard input.")
    ],
    max_tokens: TokensOption = 128,
    temperature: TemperatureOption = 0.7,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.9,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Above 1 discourages what was said; 1.1, or 1 with --greedy.", show_default=False),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest token: temperature 0.")
    ] = False,
    stop: StopOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    json_output: JsonOption = False,
) -> None:
    """Go on from a prompt, streaming the text.

    Example: haina generate runs/quickstart/model "要插入一个表格，" --max-tokens 60
    """
    from haina.inference import Engine

    if repetition_penalty is None:
        repetition_penalty = 1.0 if greedy else 1.1
    parameters = _parameters(
        max_tokens=max_tokens,
        temperature=0.0 if greedy else temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        stop=tuple(stop or ()),
        seed=seed,
    )
    engine = Engine.load(model, device=device)
    text = sys.stdin.read() if prompt == "-" else prompt
    if json_output:
        done = engine.complete(text, parameters)
        print_json(
            {
                "prompt": text,
                "text": done.text,
                "finish_reason": done.finish_reason,
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": done.completion_tokens,
            }
        )
        return
    sys.stdout.write(text)
    _write_stream(delta.text for delta in engine.stream(text, parameters))


def _write_stream(pieces: Iterable[str]) -> str:
    whole = ""
    for piece in pieces:
        whole += piece
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return whole


def chat(
    model: ModelArgument,
    system: Annotated[str, typer.Option(help="Opening instruction.")] = "",
    max_tokens: TokensOption = 256,
    temperature: TemperatureOption = 0.7,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.9,
    repetition_penalty: PenaltyOption = 1.1,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Talk with a model in the terminal. /reset forgets, /exit or Ctrl-D leaves, Ctrl-C stops an answer.

    Example: haina chat runs/quickstart/model
    """
    from haina.inference import Engine

    engine = Engine.load(model, device=device)
    parameters = _parameters(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    out = console()
    out.print(f"{engine.name}: {engine.description}", markup=False, style="dim")
    out.print(
        "/reset forgets, /exit leaves, Ctrl-C stops an answer. 输入 /reset 清空，/exit 退出，Ctrl-C 停止回答。",
        style="dim",
    )
    opening = [{"role": "system", "content": system}] if system else []
    _converse(engine, parameters, opening, lambda: input("> "))


def _converse(
    engine: Engine, parameters: SamplingParameters, opening: list[dict[str, str]], ask: Callable[[], str]
) -> None:
    from haina.runtime.errors import HainaError

    messages = list(opening)
    while True:
        try:
            line = ask().strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if line == "/exit":
            return
        if line == "/reset":
            messages = list(opening)
            continue
        if not line:
            continue
        messages.append({"role": "user", "content": line})
        pieces: list[str] = []
        try:
            for delta in engine.stream(engine.encode_chat(messages), parameters):
                pieces.append(delta.text)
                sys.stdout.write(delta.text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            sys.stdout.write(" …")
        except HainaError as error:
            # A conversation that has outgrown the window is no reason to lose the terminal session.
            sys.stdout.write(f"haina: {error}; /reset starts afresh\n")
            messages.pop()
            continue
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": "".join(pieces)})


def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    device: DeviceOption = "auto",
) -> None:
    """Serve a model: OpenAI-compatible API under /v1 and a chat page at /.

    Example: haina serve runs/quickstart/model --port 8000
    """
    from haina.runtime.progress import default_reporter
    from haina.serve import serve as serve_model

    # Ctrl-C is how a server is meant to end.
    with contextlib.suppress(KeyboardInterrupt):
        serve_model(model, host=host, port=port, device=device, reporter=default_reporter())
