"""A trained tokenizer becomes a folder that transformers, vLLM and our own parts open with the same ids.

In: a `tokenizers.Tokenizer` and a chat template. Out: `tokenizer.json`, `tokenizer_config.json` and
`chat_template.jinja`.

An engine turns a string into ids without knowing who wrote it, so it either reads the spelling of a special token
as the token or as text, for prompts and chats alike. The template decides which the folder asks for: one that
writes no special token belongs to a base model, whose strings are text and nothing else; one that does needs its
marks read, and then must not let a message write any (docs/decisions/0024-special-tokens.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer, models

from haina.runtime.chat_template import compile_template
from haina.runtime.errors import HainaError
from haina.runtime.files import write_json, write_text
from haina.tokenizer.special_tokens import BOS, EOS, PAD

BASE_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
PROBE_ROLES = ("system", "user", "assistant", "user")


def write_folder(folder: Path, backend: Tokenizer, template: str | None = None) -> None:
    """Write the tokenizer's files into `folder`.

    Args:
        folder: made where there is none.
        backend: trained, with `<s>`, `</s>` and `<pad>` among its special tokens.
        template: the chat template of a fine-tuned model; without one, that of a base model.

    Raises:
        HainaError: a special token is missing, or text or a message could write one.
    """
    added = sorted(backend.get_added_tokens_decoder().items())
    specials = [token.content for _, token in added if token.special]
    for name in (BOS, EOS, PAD):
        if name not in specials:
            raise HainaError(
                f"{folder}: the tokenizer has no special token {name}", "train it with `special_tokens()`"
            )
    _check_pieces(folder, backend, specials)
    if template is None:
        template = BASE_TEMPLATE.read_text("utf-8")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [name for name in specials if name not in (BOS, EOS, PAD)],
        "clean_up_tokenization_spaces": False,
        # transformers and vLLM then read a special token spelled in a string as text.
        "split_special_tokens": not writes_marks(template, specials, str(folder / "chat_template.jinja")),
    }
    write_text(folder / "tokenizer.json", backend.to_str(pretty=True) + "\n")
    write_json(folder / "tokenizer_config.json", config)
    write_text(folder / "chat_template.jinja", template)


def _check_pieces(folder: Path, backend: Tokenizer, specials: list[str]) -> None:
    """A merge may not end in the spelling of a special token: plain text would then give its id."""
    model = json.loads(backend.to_str())["model"]
    for merge in model.get("merges", []):
        piece = merge.replace(" ", "") if isinstance(merge, str) else "".join(merge)
        if piece in specials:
            raise HainaError(
                f"{folder}: a merge of the tokenizer gives {piece}, so text could write that special token",
                "train without the merges that spell special tokens",
            )


def writes_marks(template: str, specials: list[str], origin: str) -> bool:
    """Whether the template writes special tokens of its own.

    Raises:
        HainaError: the template is not valid, or messages can write a special token through it, alone or by
            joining what two of them say.
    """
    compiled = compile_template(template, origin)
    reader = Tokenizer(
        models.BPE()
    )  # knows no text, so it gives the special tokens of a text and nothing else
    reader.add_special_tokens(specials)

    def written(contents: list[str]) -> list[int]:
        """The special tokens in the conversation of these contents."""
        messages = [
            {"role": role, "content": content} for role, content in zip(PROBE_ROLES, contents, strict=True)
        ]
        try:
            text = compiled.render(
                messages=messages, add_generation_prompt=True, bos_token=BOS, eos_token=EOS, pad_token=PAD
            )
        except jinja2.TemplateError as error:
            raise HainaError(
                f"{origin}: {error}",
                "the template must render system, user, assistant and user messages in this order",
            ) from error
        return list(reader.encode(text, add_special_tokens=False).ids)

    plain = written(["海纳百川", "sea", "river", "有容乃大"])
    for special in specials:
        probes = [[special] * 4, [f"a{special}{special}b"] * 4]
        for cut in range(1, len(special)):
            probes += [[special[:cut], special[cut:]] * 2, [special[cut:], special[:cut]] * 2]
        for contents in probes:
            if written(contents) != plain:
                raise HainaError(
                    f"{origin}: a message can write {special} through this template",
                    "put the filters of haina.tokenizer.special_tokens.BREAKING_FILTERS behind each content",
                )
    return bool(plain)
