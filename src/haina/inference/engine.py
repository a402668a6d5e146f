"""The engine: one loaded model folder that completes, chats and scores.

A prompt goes through the model in one pass that fills the cache; then each step feeds one token and draws the
next. Every request has its own cache, sampler and decoder; only the passes through the model take turns, so
threads can share an engine and an abandoned request blocks nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from haina.inference.cache import FIRST_CAPACITY, ContiguousCache
from haina.inference.chat import ChatTemplate, Message
from haina.inference.loading import load_model
from haina.inference.parameters import SamplingParameters
from haina.inference.sampler import Sampler
from haina.inference.scoring import batches_by_length, score_batch
from haina.inference.stopping import StopMatcher
from haina.model import Transformer
from haina.quantize import describe_kernels
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json
from haina.runtime.tokenizer_file import StreamDecoder, TokenizerFile

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Delta:
    """One step of a stream.

    Attributes:
        text: what can be shown now; empty while a character or a possible stop string is incomplete.
        token_ids: ids drawn in this step.
        finish_reason: None until the last step; then `stop` (end token or stop string) or `length`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Attributes:
        text: without the stop string.
        token_ids: drawn ids without the end token; with a stop string they reach to the token that completed
            it.
        finish_reason: `stop` or `length`.
        prompt_tokens, completion_tokens: counts for the bill.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


def _end_ids(folder: Path, config_eos: int | None) -> frozenset[int]:
    """Ids that end a text: `generation_config.json` if it names any, else `config.json`."""
    path = folder / "generation_config.json"
    named = read_json(path).get("eos_token_id") if path.is_file() else None
    if named is None:
        named = config_eos
    return frozenset(named if isinstance(named, list) else [] if named is None else [named])


def _folder_name(folder: Path) -> str:
    """A name for people: `runs/quickstart/model-int4` is `quickstart-int4`, `downloads/baichuan-7b` is
    `baichuan-7b`."""
    resolved = folder.resolve()
    if resolved.name == "model" or resolved.name.startswith("model-"):
        return resolved.parent.name + resolved.name.removeprefix("model")
    return resolved.name


class Engine:
    """A model ready to answer. Threads may share it.

    Attributes:
        name: of the model, for people and for the API.
        model, tokenizer: what the folder holds.
        context_length: tokens of prompt and answer together.
        end_ids: token ids that end an answer.
    """

    def __init__(
        self, model: Transformer, tokenizer: TokenizerFile, name: str, end_ids: frozenset[int]
    ) -> None:
        self.model, self.tokenizer, self.name, self.end_ids = model, tokenizer, name, end_ids
        self.context_length = model.config.max_position_embeddings
        embedding = model.model.embed_tokens.weight
        self.dtype, self.device = embedding.dtype, embedding.device
        self._turn = threading.Lock()

    @classmethod
    def load(cls, path: Path | str, device: str = "auto", precision: str = "auto") -> Engine:
        """Open a model folder, bf16 or INT4.

        Args:
            path: the folder, with its tokenizer.
            device: `auto`, `cpu`, `cuda`, `cuda:N`.
            precision: `auto` (float32 on CPU, bfloat16 on CUDA), `float32`, `bfloat16`, `float16`.

        Raises:
            HainaError: the folder is missing, not a model, damaged, or its tokenizer knows more ids than the
                model.
        """
        folder = Path(path)
        model = load_model(folder, device, precision)
        tokenizer = TokenizerFile(folder)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise HainaError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, "
                f"the model {model.config.vocab_size}",
                "put the tokenizer of this model into the folder",
            )
        return cls(model, tokenizer, _folder_name(folder), _end_ids(folder, model.config.eos_token_id))

    @cached_property
    def description(self) -> str:
        """One line: parameters, precision, device, and the kernel chosen with its reason."""
        millions = self.model.config.parameter_count / 1e6
        precision = str(self.dtype).removeprefix("torch.")
        kernels = describe_kernels(self.model)
        return f"{millions:,.1f}M parameters, {precision} on {self.device}" + (
            f"; {kernels}" if kernels else ""
        )

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The folder's chat template; a `HainaError` when it has none."""
        return ChatTemplate(self.tokenizer)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a plain prompt, with the tokenizer's own frame (usually BOS) before it."""
        return self.tokenizer.encode(text, add_special_tokens=True)

    def render_chat(self, messages: Sequence[Message]) -> str:
        """The conversation as text, as `chat_template.jinja` writes it. For generation use `encode_chat`."""
        return self.chat_template.render(messages)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation: a special token is an id where the template wrote it and text where a user
        did."""
        return self.chat_template.encode(messages)

    def stream(
        self, prompt: str | Sequence[int], parameters: SamplingParameters | None = None
    ) -> Iterator[Delta]:
        """Generate step by step; closing the iterator ends the request.

        Args:
            prompt: text, or ids such as `encode_chat` gives.
            parameters: how to choose and when to stop.

        Returns:
            one `Delta` for each token, and a last one with the finish reason. Their texts joined are the
            answer.

        Raises:
            HainaError: before the first step: the prompt is empty, has unknown ids, or leaves no room in the
                window.
        """
        ids = self.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        self._check_prompt(ids)
        return self._generate(ids, parameters or SamplingParameters())

    def complete(
        self, prompt: str | Sequence[int], parameters: SamplingParameters | None = None
    ) -> Completion:
        """Generate the whole answer; arguments and errors as in `stream`."""
        ids = self.encode_prompt(prompt) if isinstance(prompt, str) else list(prompt)
        text, reason = "", "length"
        drawn: list[int] = []
        for delta in self.stream(ids, parameters):
            text += delta.text
            drawn += delta.token_ids
            reason = delta.finish_reason or reason
        finish: FinishReason = "stop" if reason == "stop" else "length"
        return Completion(text, tuple(drawn), finish, len(ids), len(drawn))

    def score(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities of given tokens, each under the tokens before it.

        Args:
            sequences: token ids, at most `context_length` each.

        Returns:
            for each sequence float32 [length - 1], natural logarithms of the probabilities of tokens[1:];
            empty for fewer than two tokens. The last bits depend on which sequences share a batch.

        Raises:
            HainaError: a sequence is longer than the window or has unknown ids.
        """
        for number, sequence in enumerate(sequences):
            if len(sequence) > self.context_length:
                raise HainaError(
                    f"sequence {number} has {len(sequence)} tokens, the model's window {self.context_length}",
                    "cut it into windows",
                )
            self._check_ids(sequence)
        scores = [np.zeros(0, dtype=np.float32) for _ in sequences]
        long_enough = [index for index, sequence in enumerate(sequences) if len(sequence) >= 2]
        for batch in batches_by_length([len(sequences[index]) for index in long_enough]):
            members = [long_enough[place] for place in batch]
            with self._turn:
                results = score_batch(self.model, [sequences[index] for index in members], self.device)
            for index, result in zip(members, results, strict=True):
                scores[index] = result
        return scores

    def _check_prompt(self, ids: Sequence[int]) -> None:
        if not ids:
            raise HainaError(
                "the prompt is empty and this tokenizer has no beginning token", "give some text"
            )
        if len(ids) >= self.context_length:
            raise HainaError(
                f"the prompt has {len(ids)} tokens, the model's window {self.context_length}, "
                "and the answer needs at least one",
                "shorten the prompt",
            )
        self._check_ids(ids)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if len(ids) and not 0 <= min(ids) <= max(ids) < self.model.config.vocab_size:
            raise HainaError(
                f"token ids {min(ids)} to {max(ids)} do not fit "
                f"the vocabulary of {self.model.config.vocab_size}",
                "use ids of this model's tokenizer",
            )

    def _step(self, ids: Sequence[int], cache: ContiguousCache) -> Tensor:
        """Logits [vocab] after `ids`, which join the cache. inference_mode must not outlive the step: a
        generator would leave it switched on in the caller's thread between steps."""
        with self._turn, torch.inference_mode():
            tokens = torch.tensor([ids], dtype=torch.int64, device=self.device)
            hidden = self.model.hidden_states(tokens, cache)
            return self.model.lm_head(hidden[0, -1])

    def _generate(self, ids: list[int], parameters: SamplingParameters) -> Iterator[Delta]:
        allowed = min(parameters.max_tokens, self.context_length - len(ids))
        cache = ContiguousCache(
            self.model.config,
            capacity=len(ids) + min(allowed, FIRST_CAPACITY),
            dtype=self.dtype,
            device=self.device,
        )
        sampler = Sampler(parameters, ids, self.model.config.vocab_size)
        decoder, matcher = StreamDecoder(self.tokenizer), StopMatcher(parameters.stop)
        reason: FinishReason = "length"
        feed = ids
        for _ in range(allowed):
            token = sampler.next(self._step(feed, cache))
            if token in self.end_ids:
                reason = "stop"
                break
            text = matcher.push(decoder.push(token))
            if matcher.stopped:
                yield Delta(text, (token,), "stop")
                return
            yield Delta(text, (token,), None)
            feed = [token]
        text = matcher.push(decoder.flush())
        if matcher.stopped:
            reason = "stop"
        yield Delta(text + matcher.flush(), (), reason)
