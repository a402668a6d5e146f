"""The ASGI application: OpenAI's model, completion and chat routes, a health check and the chat page.

In: an engine. Out: a FastAPI application. The event loop only parses, validates and forwards; encoding runs
on a pool thread and generation on its own thread, one request at a time. A client that hangs up ends its
generation.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sse_starlette import EventSourceResponse

from haina.serve.card import model_card
from haina.serve.errors import ApiError, body_of, install_error_handlers
from haina.serve.generation import Generator, Job
from haina.serve.page import chat_page
from haina.serve.protocol import ChatRequest, CompletionRequest, GenerationRequest
from haina.serve.shapes import CHAT, COMPLETION, Shape

if TYPE_CHECKING:
    from haina.inference import Engine

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default; a chat answer may fill the window
DISCONNECT_POLL_SECONDS = 0.2
CLIENT_CLOSED_REQUEST = 499
PING_SECONDS = 15


def create_app(engine: Engine, *, name: str | None = None) -> FastAPI:
    """The application over `engine`; `name` replaces the engine's own name in `/v1/models`."""
    generator = Generator(engine)
    model = name or engine.name
    card = model_card(engine, model, int(time.time()))
    page, page_headers = chat_page()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        generator.close()

    # FastAPI's own documentation pages load scripts from a CDN.
    app = FastAPI(title="Haina", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.name = model
    app.state.generator = generator
    install_error_handlers(app)

    def check_model(wanted: str) -> None:
        if wanted != model:
            raise ApiError(f"the model {wanted!r} does not exist; this server has {model!r}",
                           status=404, param="model", code="model_not_found")  # fmt: skip

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{wanted:path}")
    async def one_model(wanted: str) -> dict[str, Any]:
        check_model(wanted)
        return card

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        check_model(body.model)
        prompts = await asyncio.to_thread(_encode_prompts, engine, body.prompts)
        return await answer(COMPLETION, body, request, prompts, body.max_tokens or DEFAULT_COMPLETION_TOKENS)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        check_model(body.model)
        prompt = await asyncio.to_thread(engine.encode_chat, [message.plain() for message in body.messages])
        return await answer(CHAT, body, request, [prompt], body.token_limit)

    async def answer(
        shape: Shape,
        body: GenerationRequest,
        request: Request,
        prompts: Sequence[list[int]],
        limit: int | None,
    ) -> Response:
        jobs = _jobs(engine, body, prompts, limit)
        head = {"id": shape.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": model}
        prompt_tokens = sum(len(prompt) for prompt in prompts)
        if body.stream:
            events = _events(shape, head, generator, jobs, prompt_tokens if body.include_usage else None)
            return EventSourceResponse(
                events, ping=PING_SECONDS, sep="\n", headers={"X-Accel-Buffering": "no"}
            )
        whole = asyncio.ensure_future(_collect(generator, jobs))
        while not whole.done():
            await asyncio.wait({whole}, timeout=DISCONNECT_POLL_SECONDS)
            if not whole.done() and await request.is_disconnected():
                whole.cancel()
                await asyncio.wait({whole})
                return Response(status_code=CLIENT_CLOSED_REQUEST)
        texts, reasons, completion_tokens = whole.result()
        choices = [shape.choice(index, texts[index], reasons[index]) for index in range(len(jobs))]
        return JSONResponse(
            {
                **head,
                "object": shape.object,
                "choices": choices,
                "usage": _usage(prompt_tokens, completion_tokens),
            }
        )

    return app


def _encode_prompts(engine: Engine, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    encoded = []
    for prompt in prompts:
        ids = engine.encode_prompt(prompt) if isinstance(prompt, str) else prompt
        if not ids:
            raise ApiError(
                "prompt: empty, and this tokenizer has no start token to begin from", param="prompt"
            )
        unknown = next((token for token in ids if not 0 <= token < engine.tokenizer.vocab_size), None)
        if unknown is not None:
            raise ApiError(
                f"prompt: token id {unknown} is outside the vocabulary of {engine.tokenizer.vocab_size}",
                param="prompt",
            )
        encoded.append(ids)
    return encoded


def _jobs(
    engine: Engine, body: GenerationRequest, prompts: Sequence[list[int]], limit: int | None
) -> list[Job]:
    """One job for each prompt and choice. `limit` is an upper bound: the context window may end sooner."""
    jobs: list[Job] = []
    for prompt in prompts:
        room = engine.context_length - len(prompt)
        if room < 1:
            raise ApiError(
                f"the prompt's {len(prompt)} tokens leave no room in the context of {engine.context_length}",
                param="messages" if isinstance(body, ChatRequest) else "prompt",
                code="context_length_exceeded",
            )
        tokens = room if limit is None else min(limit, room)
        jobs += [Job(len(jobs) + choice, prompt, body.parameters(tokens, choice)) for choice in range(body.n)]
    return jobs


async def _collect(generator: Generator, jobs: Sequence[Job]) -> tuple[list[str], list[str | None], int]:
    texts = [""] * len(jobs)
    reasons: list[str | None] = [None] * len(jobs)
    tokens = 0
    async with aclosing(generator.stream(jobs)) as deltas:
        async for index, delta in deltas:
            texts[index] += delta.text
            tokens += len(delta.token_ids)
            reasons[index] = delta.finish_reason
    return texts, reasons, tokens


async def _events(
    shape: Shape,
    head: dict[str, Any],
    generator: Generator,
    jobs: Sequence[Job],
    usage_of: int | None,
) -> AsyncGenerator[dict[str, str], None]:
    """The server-sent events of a streamed answer, `[DONE]` last; an error becomes an event of its own.

    usage_of: number of prompt tokens where the usage is asked for, else None.
    """
    extra: dict[str, Any] = {} if usage_of is None else {"usage": None}

    def event(choices: list[dict[str, Any]], **fields: Any) -> dict[str, str]:
        chunk = {**head, "object": shape.chunk_object, "choices": choices, **extra, **fields}
        return {"data": json.dumps(chunk, ensure_ascii=False)}

    tokens = 0
    begun: set[int] = set()
    try:
        async with aclosing(generator.stream(jobs)) as deltas:
            async for index, delta in deltas:
                tokens += len(delta.token_ids)
                if index not in begun and shape.opening is not None:
                    yield event([shape.opening(index)])
                begun.add(index)
                if delta.text or delta.finish_reason:
                    for choice in shape.chunk_choices(index, delta.text, delta.finish_reason):
                        yield event([choice])
    except Exception as error:
        yield {"data": json.dumps(body_of(error), ensure_ascii=False)}
    else:
        if usage_of is not None:
            yield event([], usage=_usage(usage_of, tokens))
    yield {"data": "[DONE]"}


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
