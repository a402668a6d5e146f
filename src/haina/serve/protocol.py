"""The request bodies of the OpenAI API that this server answers, and the sampling parameters they stand for.

In: JSON. Out: a validated request. A field that would change the answer and is not built is refused with a
message, never ignored; a field that has no bearing on the text (`user`, `metadata`, ...) is accepted; `null`
means "left out".
Specification: https://platform.openai.com/docs/api-reference/{completions,chat}/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from haina.inference import SamplingParameters

WITHOUT_BEARING = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
     "prompt_cache_retention", "parallel_tool_calls"}
)  # fmt: skip

# field -> the values that mean the same as leaving it out
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
INSTEAD = {
    "best_of": "ask for n choices and pick one",
    "frequency_penalty": "use repetition_penalty",
    "presence_penalty": "use repetition_penalty",
}
MAX_CHOICES = 16
MAX_PROMPTS = 64


def _means_left_out(value: Any, neutral: tuple[Any, ...]) -> bool:
    # False == 0 in Python: `logprobs: 0` asks for something and `logprobs: false` does not.
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in neutral)


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class GenerationRequest(BaseModel):
    """The fields that completions and chat completions share."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_built(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        kept = {}
        for name, value in body.items():
            if value is None or name in WITHOUT_BEARING:
                continue
            if name in UNSUPPORTED:
                if _means_left_out(value, UNSUPPORTED[name]):
                    continue
                advice = INSTEAD.get(name, "leave it out")
                raise PydanticCustomError(
                    "unsupported_parameter",
                    "{param} is not supported by this server: {advice}",
                    {"param": name, "advice": advice},
                )
            kept[name] = value
        return kept

    @model_validator(mode="after")
    def _check_together(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("together", "{param} needs stream: true", {"param": "stream_options"})
        if any(not text for text in self.stop_strings):
            raise PydanticCustomError("together", "{param} must not hold an empty string", {"param": "stop"})
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def parameters(self, max_tokens: int, choice: int) -> SamplingParameters:
        """Sampling parameters of choice number `choice`; with a seed, each choice has its own."""
        return SamplingParameters(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            stop=self.stop_strings,
            seed=None if self.seed is None else (self.seed + choice) % 2**63,
        )


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`. `prompt`: a text, the token ids of one prompt, or a list of either."""

    prompt: (
        str
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[str] | list[list[int]], Field(min_length=1, max_length=MAX_PROMPTS)]
    )

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [prompt for prompt in self.prompt if not isinstance(prompt, int)]


class TextPart(BaseModel):
    """One part of a message's content; only text is understood."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, body: Any) -> Any:
        # Clients send an earlier answer back whole, with refusal, tool_calls and others set to null.
        return (
            {name: value for name, value in body.items() if value is not None}
            if isinstance(body, dict)
            else body
        )

    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
