"""The vocabulary of a tokenizer folder as GGUF fields, so that llama.cpp gives the ids that we give.

In: a folder with a byte-level BPE in `tokenizer.json`. Out: the `tokenizer.ggml.*` fields, put into any GGUF file,
or alone into a file of a few MB that llama.cpp opens with `vocab_only`.

llama.cpp does not read the regular expression that cuts text; it has a list of names, each with expressions of its
own. `superbpe` cuts around runs of numbers only, `tokenizer.json` around every number and every run of line ends,
and the two hold tables of different Unicode versions. Where one cuts and the other does not, no merge may cross:
`piece_across` finds the piece that would, and a vocabulary with such a piece is refused.

Fields: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.runtime.bpe.rules import PATTERN
from haina.runtime.byte_pieces import byte_characters
from haina.runtime.errors import HainaError
from haina.runtime.files import atomic_path
from haina.runtime.tokenizer_file import TokenizerFile

if TYPE_CHECKING:
    from gguf import GGUFWriter

PRE_TOKENIZER = "superbpe"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # llama.h: enum llama_token_type

# Numbers that came with Unicode 15, 16 and 17: \p{N} holds them in one engine and not in another. (llama.cpp of
# November 2026 has 15, Hugging Face tokenizers 0.23 has 16.)
NEW_NUMBERS = (
    *((0x10D40, 0x10D49), (0x116D0, 0x116E3), (0x11BF0, 0x11BF9), (0x11DE0, 0x11DE9), (0x11F50, 0x11F59)),
    *((0x1246F, 0x1246F), (0x12475, 0x1247F), (0x12550, 0x12686), (0x16130, 0x16139), (0x16D70, 0x16D79)),
    *((0x16FF4, 0x16FF6), (0x1CCF0, 0x1CCF9), (0x1D2C0, 0x1D2D3), (0x1E4F0, 0x1E4F9), (0x1E5F1, 0x1E5FA)),
)


class Characters:
    """A set of characters that a piece may begin or end with, whole or as the bytes that a piece holds of one."""

    def __init__(self, characters: Iterable[str]) -> None:
        encoded = [character.encode() for character in characters]
        self.beginnings = {data[:size] for data in encoded for size in range(1, len(data) + 1)}
        self.endings = {data[-size:] for data in encoded for size in range(1, len(data) + 1)}


@lru_cache(maxsize=1)
def _classes() -> tuple[Characters, Characters]:
    """Numbers in any version of Unicode, and those characters at which one engine cuts and the other may not."""
    new = {chr(code) for first, last in NEW_NUMBERS for code in range(first, last + 1)}
    known = {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "N"}
    return Characters(known | new), Characters(new | {"\r", "\n"})


def is_across(data: bytes) -> bool:
    """Whether the piece of these bytes would join text over a border where not all engines cut.

    Such a border is beside a line end or a new number, or between two numbers.
    """
    numbers, disputed = _classes()
    starts = [
        place for place, byte in enumerate(data) if byte & 0xC0 != 0x80
    ]  # UTF-8: where characters begin
    for place in starts:
        if place == 0:
            continue
        before = data[max((start for start in starts if start < place), default=0) : place]
        after = data[place : min((start for start in starts if start > place), default=len(data))]
        if before in disputed.endings or after in disputed.beginnings:
            # Two of the same line end are one run for all.
            if before not in (b"\r", b"\n") or after not in (b"\r", b"\n"):
                return True
        elif before in numbers.endings and after in numbers.beginnings:
            return True
    return False


@dataclass(frozen=True)
class GgufVocabulary:
    """The fields of a vocabulary; `tokens`, `types` and `merges` as in `tokenizer.json`, by id and by rank."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    special_ids: dict[str, int]  # of "bos", "eos", "pad", those that the folder names
    add_bos: bool
    add_eos: bool
    chat_template: str | None

    @classmethod
    def open(cls, folder: Path) -> GgufVocabulary:
        """Read a tokenizer folder.

        Raises:
            HainaError: the folder is no tokenizer, or llama.cpp could not give the same ids.
        """
        tokenizer = TokenizerFile(folder)
        path = folder / "tokenizer.json"
        document = json.loads(tokenizer.backend.to_str())
        _check_form(document, path)
        vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
        tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
        if sorted(vocabulary.values()) != list(range(len(tokens))):
            raise HainaError(
                f"{path}: its {len(tokens):,} ids are not 0 to {len(tokens) - 1:,}",
                "GGUF has no room for gaps: train the tokenizer again",
            )
        added = tokenizer.backend.get_added_tokens_decoder()
        types = [NORMAL] * len(tokens)
        for token_id, mark in added.items():
            types[token_id] = CONTROL if mark.special else USER_DEFINED
        byte_of = byte_characters()
        for token_id, token in enumerate(tokens):
            if types[token_id] != NORMAL:
                continue
            if not byte_of.keys() >= set(token) or is_across(
                bytes(byte_of[character] for character in token)
            ):
                raise HainaError(
                    f"{path}: token {token_id} {token!r} joins text that llama.cpp cuts elsewhere",
                    "train with haina's pre-tokens: numbers and line ends apart, no piece of half characters",
                )
        frame = tokenizer.encode("", add_special_tokens=True)
        named = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
        special_ids = {name: token_id for name, token_id in named.items() if token_id is not None}
        return cls(
            tokens=tokens,
            types=types,
            merges=[
                merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]
            ],
            special_ids=special_ids,
            add_bos=bool(frame) and frame[0] == tokenizer.bos_id,
            add_eos=bool(frame) and frame[-1] == tokenizer.eos_id,
            chat_template=_chat_template(tokenizer),
        )

    def add_to(self, writer: GGUFWriter) -> None:
        """Put the fields into a GGUF file that is being written."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE_TOKENIZER)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, token_id in self.special_ids.items():
            writer.add_uint32(f"tokenizer.ggml.{_FIELD[name]}_token_id", token_id)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)


_FIELD = {"bos": "bos", "eos": "eos", "pad": "padding"}


def _check_form(document: dict[str, Any], path: Path) -> None:
    """Refuse what llama.cpp's `gpt2` model with this pre-tokenizer does not do."""
    model = document["model"]
    expected = [
        {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]
    steps = (document["pre_tokenizer"] or {}).get("pretokenizers", [])
    if model["type"] != "BPE" or document["normalizer"] is not None:
        raise HainaError(
            f"{path}: not byte-level BPE without a normalizer",
            "convert this model with llama.cpp's own convert_hf_to_gguf.py",
        )
    if [
        {**step, "trim_offsets": True} if step["type"] == "ByteLevel" else step for step in steps
    ] != expected:
        raise HainaError(
            f"{path}: cuts text by other rules than a tokenizer of haina",
            "convert this model with llama.cpp's own convert_hf_to_gguf.py",
        )
    if model.get("ignore_merges") or model.get("byte_fallback") or model.get("unk_token") is not None:
        raise HainaError(
            f"{path}: its model has ignore_merges, byte_fallback or an unknown token",
            "train the tokenizer with `haina tokenizer train`",
        )


def _chat_template(tokenizer: TokenizerFile) -> str | None:
    path = tokenizer.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    template = tokenizer.config.get("chat_template")
    return template if isinstance(template, str) else None


def write_vocabulary(folder: Path, out: Path) -> GgufVocabulary:
    """Write the vocabulary of a tokenizer folder as a GGUF file without weights.

    Raises:
        HainaError: as `GgufVocabulary.open`, or the file cannot be written.
    """
    from gguf import GGUFWriter

    vocabulary = GgufVocabulary.open(folder)
    with atomic_path(out) as temporary:
        writer = GGUFWriter(temporary, "llama")
        vocabulary.add_to(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    return vocabulary
