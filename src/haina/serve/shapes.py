"""How a piece of generated text looks in each of the two APIs, whole and streamed.

In: a choice's index, text and finish reason. Out: the JSON objects of OpenAI's `text_completion`,
`chat.completion` and `chat.completion.chunk`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Choice = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """One API's form of an answer.

    Attributes:
        prefix: of the answer's id.
        object, chunk_object: the `object` field of a whole answer and of a streamed piece.
        choice: (index, text, finish_reason) -> an entry of `choices` in a whole answer.
        opening: index -> the entry that opens a streamed choice, where there is one.
        chunk_choices: (index, text, finish_reason) -> the streamed entries, one for each event.
    """

    prefix: str
    object: str
    chunk_object: str
    choice: Callable[[int, str, str | None], Choice]
    opening: Callable[[int], Choice] | None
    chunk_choices: Callable[[int, str, str | None], list[Choice]]


def _completion_choice(index: int, text: str, reason: str | None) -> Choice:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _chat_choice(index: int, text: str, reason: str | None) -> Choice:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _chat_delta(index: int, delta: dict[str, str], reason: str | None = None) -> Choice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _chat_chunks(index: int, text: str, reason: str | None) -> list[Choice]:
    # The finish reason comes in a piece of its own, after the last text.
    chunks = [_chat_delta(index, {"content": text})] if text else []
    return [*chunks, _chat_delta(index, {}, reason)] if reason else chunks


COMPLETION = Shape(
    prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    choice=_completion_choice,
    opening=None,
    chunk_choices=lambda index, text, reason: [_completion_choice(index, text, reason)],
)
CHAT = Shape(
    prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    choice=_chat_choice,
    opening=lambda index: _chat_delta(index, {"role": "assistant", "content": ""}),
    chunk_choices=_chat_chunks,
)
