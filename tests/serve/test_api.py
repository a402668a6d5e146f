from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from haina.inference import Engine, SamplingParameters
from haina.runtime.errors import HainaError

Scripted = Callable[..., Any]
PROMPTS = ["海纳百川，", "All rivers "]


def test_models_are_listed(client: OpenAI, engine: Engine) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == [engine.name]
    one = client.models.retrieve(engine.name)
    assert one == listed[0]
    assert one.object == "model"
    assert one.to_dict()["kind"] == "base"
    assert one.to_dict()["context_length"] == 256
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_completion_is_what_the_engine_says(client: OpenAI, engine: Engine, prompt: str) -> None:
    given = client.completions.create(
        model=engine.name,
        prompt=prompt,
        max_tokens=24,
        temperature=0.7,
        top_p=0.9,
        seed=5,
        extra_body={"top_k": 40, "repetition_penalty": 1.2},
    )
    parameters = SamplingParameters(24, 0.7, top_k=40, top_p=0.9, repetition_penalty=1.2, seed=5)
    expected = engine.complete(prompt, parameters)
    assert given.choices[0].text == expected.text
    assert given.choices[0].finish_reason == expected.finish_reason
    assert given.usage is not None
    assert given.usage.prompt_tokens == 1 + len(prompt.encode())
    assert given.usage.completion_tokens == expected.completion_tokens
    assert given.usage.total_tokens == given.usage.prompt_tokens + expected.completion_tokens
    by_ids = client.completions.create(
        model=engine.name,
        prompt=engine.encode_prompt(prompt),
        max_tokens=24,
        temperature=0.7,
        top_p=0.9,
        seed=5,
        extra_body={"top_k": 40, "repetition_penalty": 1.2},
    )
    assert by_ids.choices[0].text == expected.text


def test_several_prompts_and_choices(client: OpenAI, engine: Engine) -> None:
    given = client.completions.create(model=engine.name, prompt=PROMPTS, n=2, max_tokens=6, seed=3)
    assert [choice.index for choice in given.choices] == [0, 1, 2, 3]
    expected = [
        engine.complete(prompt, SamplingParameters(6, seed=3 + choice)).text
        for prompt in PROMPTS
        for choice in range(2)
    ]
    assert [choice.text for choice in given.choices] == expected
    assert expected[0] != expected[1]
    assert given.usage is not None
    assert given.usage.prompt_tokens == sum(len(engine.encode_prompt(prompt)) for prompt in PROMPTS)


def test_chat_goes_through_the_template(client: OpenAI, engine: Engine) -> None:
    messages: Any = [
        {"role": "system", "content": "简短。"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "你好"}, {"type": "text", "text": "<|im_end|>"}],
        },
    ]
    given = client.chat.completions.create(
        model=engine.name, messages=messages, temperature=0, max_completion_tokens=9
    )
    plain = [{"role": "system", "content": "简短。"}, {"role": "user", "content": "你好<|im_end|>"}]
    ids = engine.encode_chat(plain)
    assert ids.count(4) == 2  # what a user types is text
    expected = engine.complete(ids, SamplingParameters(9, temperature=0))
    assert given.choices[0].message.role == "assistant"
    assert given.choices[0].message.content == expected.text
    assert given.usage is not None
    assert given.usage.prompt_tokens == len(ids)
    # The answer can be sent back as it came.
    again: Any = [*messages, given.choices[0].message.model_dump(), {"role": "user", "content": "?"}]
    assert client.chat.completions.create(model=engine.name, messages=again, max_tokens=1).choices


def test_streams_give_the_same_text_piece_by_piece(client: OpenAI, engine: Engine) -> None:
    for prompt in PROMPTS:
        whole = client.completions.create(model=engine.name, prompt=prompt, max_tokens=40, seed=1)
        pieces = list(
            client.completions.create(model=engine.name, prompt=prompt, max_tokens=40, seed=1, stream=True)
        )
        assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
        assert [piece.choices[0].finish_reason for piece in pieces][-1] == whole.choices[0].finish_reason
        assert len({piece.id for piece in pieces}) == 1

        messages: Any = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(model=engine.name, messages=messages, max_tokens=20, seed=2)
        stream = client.chat.completions.create(
            model=engine.name,
            messages=messages,
            max_tokens=20,
            seed=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, last = list(stream)
        assert chunks[0].choices[0].delta.role == "assistant"
        assert all(chunk.usage is None for chunk in chunks)
        assert last.choices == []
        assert last.usage == answer.usage
        assert (
            "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            == answer.choices[0].message.content
        )
        assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason


def test_stream_on_the_wire(url: str, engine: Engine) -> None:
    body = {"model": engine.name, "prompt": "海", "max_tokens": 3, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    assert [json.loads(event[6:])["object"] for event in events[:-1]] == ["text_completion"] * (
        len(events) - 1
    )


def test_stop_strings(scripted: Scripted) -> None:
    engine, _, client = scripted("海纳百川")
    client.completions.create(model="scripted", prompt="x", stop="川")
    client.completions.create(model="scripted", prompt="x", stop=["\n\n", "问："])
    assert [parameters.stop for _, parameters in engine.asked] == [("川",), ("\n\n", "问：")]


def test_defaults_and_the_end_of_the_window(scripted: Scripted) -> None:
    engine, _, client = scripted("a" * 2000)
    client.completions.create(model="scripted", prompt="x" * 10)
    answer = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "四个字呢"}]
    )
    client.completions.create(model="scripted", prompt="x" * 990, max_tokens=500)
    assert [parameters.max_tokens for _, parameters in engine.asked] == [16, 1000 - len("user: 四个字呢"), 10]
    assert {(p.temperature, p.top_p, p.top_k, p.seed) for _, p in engine.asked} == {(1.0, 1.0, 0, None)}
    assert answer.choices[0].finish_reason == "length"


BAD_COMPLETIONS = [
    ({"model": "other"}, 404, "model", "model_not_found"),
    ({"prompt": None}, 400, "prompt", "missing_parameter"),
    ({"prompt": []}, 400, "prompt", "invalid_value"),
    ({"prompt": 7}, 400, "prompt", "invalid_value"),
    ({"prompt": ["a", 7]}, 400, "prompt", "invalid_value"),
    ({"prompt": [3, 261]}, 400, "prompt", None),
    ({"prompt": [-1]}, 400, "prompt", None),
    ({"prompt": "长" * 100}, 400, "prompt", "context_length_exceeded"),
    ({"temperature": 2.1}, 400, "temperature", "invalid_value"),
    ({"temperature": "hot"}, 400, "temperature", "invalid_value"),
    ({"temperature": True}, 400, "temperature", "invalid_value"),
    ({"top_p": 0}, 400, "top_p", "invalid_value"),
    ({"top_k": -1}, 400, "top_k", "invalid_value"),
    ({"repetition_penalty": 0}, 400, "repetition_penalty", "invalid_value"),
    ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ({"max_tokens": 1.5}, 400, "max_tokens", "invalid_value"),
    ({"n": 0}, 400, "n", "invalid_value"),
    ({"n": 99}, 400, "n", "invalid_value"),
    ({"seed": 2**63}, 400, "seed", "invalid_value"),
    ({"stop": [""]}, 400, "stop", None),
    ({"stop": 3}, 400, "stop", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", None),
    ({"echo": True}, 400, "echo", "unsupported_parameter"),
    ({"logprobs": 0}, 400, "logprobs", "unsupported_parameter"),
    ({"best_of": 3}, 400, "best_of", "unsupported_parameter"),
    ({"suffix": "!"}, 400, "suffix", "unsupported_parameter"),
    ({"presence_penalty": 0.5}, 400, "presence_penalty", "unsupported_parameter"),
    ({"logit_bias": {"50": -100}}, 400, "logit_bias", "unsupported_parameter"),
    ({"min_p": 0.1}, 400, "min_p", "unknown_parameter"),
]
BAD_CHATS = [
    ({"messages": []}, 400, "messages", "invalid_value"),
    ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "missing_parameter"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, None, None),
    ({"messages": [{"role": "user", "content": "很长" * 50}]}, 400, "messages", "context_length_exceeded"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "unsupported_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        400,
        "response_format",
        "unsupported_parameter",
    ),
    ({"logprobs": True}, 400, "logprobs", "unsupported_parameter"),
    ({"max_completion_tokens": -1}, 400, "max_completion_tokens", "invalid_value"),
    ({"prompt": "x"}, 400, "prompt", "unknown_parameter"),
]


@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_say_what_is_wrong(url: str, engine: Engine, stream: bool) -> None:
    completion = {"model": engine.name, "prompt": "x", "stream": stream}
    chat = {"model": engine.name, "messages": [{"role": "user", "content": "你好"}], "stream": stream}
    cases = [("completions", {**completion, **change}, *rest) for change, *rest in BAD_COMPLETIONS]
    cases += [("chat/completions", {**chat, **change}, *rest) for change, *rest in BAD_CHATS]
    http = httpx.Client(base_url=f"{url}/v1")
    for path, body, status, param, code in cases:
        if stream and body.get("stream_options"):
            continue
        response = http.post(f"/{path}", json=body)
        error = response.json()["error"]
        assert (response.status_code, set(error)) == (status, {"message", "type", "param", "code"}), body
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        if param is not None:
            assert (error["param"], error["code"]) == (param, code), (body, error)
        assert "\n" not in error["message"]


def test_bodies_that_are_not_requests(url: str) -> None:
    json_type = "application/json"
    for content, kind in [
        (b"{", json_type),
        (b"[]", json_type),
        (b"", json_type),
        (b'{"a": 1}', "text/plain"),
    ]:
        response = httpx.post(f"{url}/v1/completions", content=content, headers={"content-type": kind})
        assert response.status_code == 400, content
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{url}/v1/nothing").json()["error"]["message"] == "GET /v1/nothing: Not Found"
    wrong = httpx.get(f"{url}/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_fields_that_change_nothing_are_accepted(client: OpenAI, engine: Engine) -> None:
    given = client.completions.create(
        model=engine.name,
        prompt="x",
        max_tokens=2,
        user="me",
        frequency_penalty=0,
        presence_penalty=0.0,
        best_of=1,
        echo=False,
        logit_bias={},
        logprobs=None,
        suffix=None,
        temperature=0,
    )
    plain = client.completions.create(model=engine.name, prompt="x", max_tokens=2, temperature=0)
    assert given.choices == plain.choices
    assert client.chat.completions.create(
        model=engine.name,
        messages=[{"role": "developer", "content": "x"}],
        max_tokens=2,
        logprobs=False,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        metadata={"a": "b"},
        store=False,
        modalities=["text"],
    ).choices


def test_requests_queue_and_the_server_stays_awake(scripted: Scripted) -> None:
    engine, url, client = scripted("海纳百川" * 5, pause=0.03)
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        if number % 2:
            stream = client.completions.create(
                model="scripted", prompt=str(number), max_tokens=20, stream=True
            )
            answers[number] = "".join(piece.choices[0].text for piece in stream)
        else:
            answers[number] = (
                client.completions.create(model="scripted", prompt=str(number), max_tokens=20).choices[0].text
            )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    answered = 0
    with httpx.Client(base_url=url) as other:
        while any(thread.is_alive() for thread in threads):
            assert other.get("/health").json() == {"status": "ok"}
            answered += 1
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), "海纳百川" * 5)
    assert engine.most_running == 1
    assert threading.get_ident() not in engine.threads
    assert len(engine.threads) == 1
    # The generations take 2.4 s; a loop that is blocked by them would answer four times or so.
    assert answered > 10


def test_a_client_that_leaves_ends_its_generation(scripted: Scripted) -> None:
    engine, url, client = scripted("x" * 900, pause=0.02)
    stream = client.completions.create(model="scripted", prompt="a", max_tokens=900, stream=True)
    next(iter(stream))
    stream.close()
    assert engine.closed.wait(5)
    given = engine.given
    assert given < 250
    engine.closed.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{url}/v1/completions", json={"model": "scripted", "prompt": "b", "max_tokens": 900}, timeout=0.3
        )
    assert engine.closed.wait(5)
    assert engine.given < given + 250
    # One that leaves while it waits in the queue never runs.
    busy = client.completions.create(model="scripted", prompt="c", max_tokens=900, stream=True)
    next(iter(busy))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json={"model": "scripted", "prompt": "d"}, timeout=0.3)
    time.sleep(0.5)
    busy.close()
    assert client.completions.create(model="scripted", prompt="e", max_tokens=1).choices[0].text == "x"
    assert [chr(prompt[0]) for prompt, _ in engine.asked] == ["a", "b", "c", "e"]


def test_faults_during_an_answer(scripted: Scripted) -> None:
    _, _, client = scripted("海", fault=HainaError("the cache is full", "ask for less"))
    with pytest.raises(openai.BadRequestError, match="the cache is full"):
        client.completions.create(model="scripted", prompt="x")
    with pytest.raises(openai.APIError, match="the cache is full"):
        list(client.completions.create(model="scripted", prompt="x", stream=True))
    _, _, client = scripted("海", fault=RuntimeError("secret path /root"))
    with pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="scripted", prompt="x")
    assert "secret" not in str(caught.value)
    with pytest.raises(openai.APIError) as streamed:
        list(client.completions.create(model="scripted", prompt="x", stream=True))
    assert "secret" not in str(streamed.value)


def test_a_stopping_server_says_so(scripted: Scripted) -> None:
    engine, url, client = scripted("x" * 900, pause=0.02)
    outcomes: dict[str, Any] = {}

    def ask(name: str) -> None:
        try:
            client.completions.create(model="scripted", prompt=name, max_tokens=900)
        except openai.APIStatusError as error:
            outcomes[name] = (error.status_code, error.code)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("running", "waiting")]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    engine.stop()
    for thread in threads:
        thread.join(10)
    assert outcomes == dict.fromkeys(("running", "waiting"), (503, "server_stopping"))
    assert len(engine.asked) == 1
    assert (
        httpx.post(f"{url}/v1/completions", json={"model": "scripted", "prompt": "late"}).status_code == 503
    )
