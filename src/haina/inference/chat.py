"""Chat messages to token ids through the folder's own Jinja template, so that no message can forge a turn
border.

A template writes special tokens (`<|im_start|>`) as text, and so could a user. Before rendering, the first
character of every special token spelled out in a message is replaced by a Unicode noncharacter; after
rendering, the special tokens still found are the template's own and become ids, and the noncharacters are
turned back into the text they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2

from haina.runtime.chat_template import compile_template
from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import TokenizerFile

ROLES = ("system", "developer", "user", "assistant", "tool")
# Unicode 16.0, section 23.7: code points that no text interchange may contain.
NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)] + [
    chr((plane << 16) | end) for plane in range(17) for end in (0xFFFE, 0xFFFF)
]

Message = Mapping[str, str]


def _read_template(tokenizer: TokenizerFile) -> tuple[str, str]:
    """The template and where it was found; the file wins over `tokenizer_config.json`, as in transformers."""
    path = tokenizer.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8"), str(path)
    config_path = str(tokenizer.folder / "tokenizer_config.json")
    template = tokenizer.config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise HainaError(
            f"{tokenizer.folder}: no chat template", "use plain completion, or add chat_template.jinja"
        )
    return template, config_path


def guard(content: str, specials: Sequence[str], stand_in: Mapping[str, str]) -> str:
    """`content` in which no special token can be found, nor be completed by text put directly before or after
    it.

    Args:
        content: of one message.
        specials: spellings of the special tokens.
        stand_in: for each first and last character of `specials`, a character that no message contains.
    """
    core = content.strip()
    lead, trail = content[: len(content) - len(content.lstrip())], content[len(content.rstrip()) :]
    if not core:
        return content
    for special in specials:
        while special in core:
            core = core.replace(special, stand_in[special[0]] + special[1:])
        # Templates strip messages, so the borders that matter are those of the stripped text.
        for size in range(min(len(special) - 1, len(core)), 0, -1):
            if core.endswith(special[:size]):
                core = core[:-size] + stand_in[special[0]] + core[len(core) - size + 1 :]
            if core.startswith(special[-size:]):
                core = core[: size - 1] + stand_in[special[-1]] + core[size:]
    return lead + core + trail


class ChatTemplate:
    """The chat template of a model folder.

    Args:
        tokenizer: of that folder.

    Raises:
        HainaError: there is no template, or it is not valid Jinja.
    """

    def __init__(self, tokenizer: TokenizerFile) -> None:
        self.tokenizer = tokenizer
        source, self.origin = _read_template(tokenizer)
        self.template = compile_template(source, self.origin)

    @cached_property
    def specials(self) -> dict[str, int]:
        """Spelling and id of the tokenizer's special tokens, longest spelling first."""
        added = self.tokenizer.backend.get_added_tokens_decoder()
        found = {token.content: token_id for token_id, token in added.items() if token.special}
        return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text that the model is to continue, for reading; `encode` gives what it is to be fed.

        Args:
            messages: each with `role` and `content`.
            add_generation_prompt: end with the opening of the assistant's turn.

        Raises:
            HainaError: a message is malformed, or the template refuses the conversation.
        """
        rendered, back = self._render_guarded(messages, add_generation_prompt)
        return rendered.translate(back)

    def encode(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of the rendered conversation: special tokens of the template as ids, those in messages as
        text. A template that writes no special token, as that of a base model, gives a text like any other,
        with the tokenizer's own frame, usually BOS.

        Arguments and errors as in `render`.
        """
        rendered, back = self._render_guarded(messages, add_generation_prompt)
        if not any(special in rendered for special in self.specials):
            return self.tokenizer.encode(rendered.translate(back), add_special_tokens=True)
        border = re.compile("(" + "|".join(re.escape(special) for special in self.specials) + ")")
        ids: list[int] = []
        # split() with one group gives text, special, text, special, ..., text.
        for place, piece in enumerate(border.split(rendered)):
            ids += [self.specials[piece]] if place % 2 else self.tokenizer.encode(piece.translate(back))
        return ids

    def _render_guarded(
        self, messages: Sequence[Message], add_generation_prompt: bool
    ) -> tuple[str, dict[int, str]]:
        """The conversation in which only the template's own special tokens can be found, and the table for
        `str.translate` that turns the stand-ins back."""
        self._check(messages)
        edges = sorted({special[place] for special in self.specials for place in (0, -1)})
        said = {character for message in messages for character in message["content"]}
        free = [character for character in NONCHARACTERS if character not in said]
        if len(free) < len(edges):
            raise HainaError(
                "messages: too many Unicode noncharacters", "remove U+FDD0 to U+FDEF from the text"
            )
        stand_in = dict(zip(edges, free, strict=False))
        guarded = [
            {**message, "content": guard(message["content"], tuple(self.specials), stand_in)}
            for message in messages
        ]
        back = str.maketrans({stand: character for character, stand in stand_in.items()})
        return self._render(guarded, add_generation_prompt), back

    def _check(self, messages: Sequence[Message]) -> None:
        if not messages:
            raise HainaError("messages: empty", "give at least one message")
        for number, message in enumerate(messages):
            role, content = message.get("role"), message.get("content")
            # A template may write '<|' + role + '|>'.
            if role not in ROLES:
                raise HainaError(
                    f"messages[{number}].role: {role!r} is unknown", f"use one of {', '.join(ROLES)}"
                )
            if not isinstance(content, str):
                raise HainaError(f"messages[{number}].content: must be a string", "send text only")

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        named = {
            name: token.get("content") if isinstance(token, dict) else token
            for name, token in self.tokenizer.config.items()
            if name in {"bos_token", "eos_token", "pad_token", "unk_token"}
        }
        try:
            return self.template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **named
            )
        except jinja2.TemplateError as error:
            raise HainaError(
                f"{self.origin}: {error}", "change the messages to what this model's template allows"
            ) from error
