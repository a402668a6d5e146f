"""The special tokens of our tokenizers: names in, ids by position out.

They stand first in the vocabulary, so an id below their number is a mark and no text: the ids do not move when
the vocabulary grows. Reserved tokens are names for marks that a later fine-tuning may need; adding one then needs
no new row in the embedding. Nothing but a template or a trainer that writes ids may produce any of them
(docs/decisions/0024-special-tokens.md).
"""

from __future__ import annotations

BOS, EOS, PAD, TURN_START, TURN_END = NAMED_TOKENS = ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")

RESERVED_PREFIX = "<|reserved_"

# U+2060 WORD JOINER: no width and no place for a line to break, so text reads as it did. A chat template puts it
# behind the first character of a special token that a message spells out.
BREAK = "\u2060"


def special_tokens(reserved: int = 0) -> tuple[str, ...]:
    """All special tokens in the order of their ids, the last `reserved` of them without a meaning yet."""
    return (*NAMED_TOKENS, *(f"{RESERVED_PREFIX}{number}|>" for number in range(reserved)))


def _breaking_filters() -> str:
    filters = []
    for spelling in (*NAMED_TOKENS, RESERVED_PREFIX):
        # Written in two halves: llama.cpp takes any template that holds `<|im_start|>` in one piece for ChatML.
        half = len(spelling) // 2
        found = f"'{spelling[:half]}' ~ '{spelling[half:]}'"
        filters.append(f"replace({found}, '{spelling[0]}{BREAK}{spelling[1:]}')")
    return " | ".join(filters)


# What a chat template puts behind a message's content: `{{ message['content'] | ... }}`. Plain `replace`, one
# after the other, because llama.cpp's own template engine has to run it too.
BREAKING_FILTERS = _breaking_filters()
