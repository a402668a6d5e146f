"""The vocabulary inside a GGUF file: `tokenizer.ggml.*` of its header.

Format: docs/gguf.md of ggml-org/ggml. Two families: `gpt2` (byte-level BPE: pieces, merges, and the name of the
expressions that cut text) is run by Hugging Face tokenizers; `llama` (SentencePiece BPE) and `t5` (SentencePiece
Unigram) are put back into a SentencePiece model and run by that library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError
from haina.tokenizer.vocabularies.gguf_header import read_header
from haina.tokenizer.vocabularies.sentencepiece_model import SPACE, from_model
from haina.tokenizer.vocabularies.split_patterns import expressions, ignores_merges, pattern_names
from haina.tokenizer.vocabularies.tokenizer_json import from_tokenizer
from haina.tokenizer.vocabularies.vocabulary import Vocabulary, library

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # gguf.TokenType


def _fields(path: Path) -> dict[str, Any]:
    """The `tokenizer.ggml.*` fields as Python values."""
    prefix = "tokenizer.ggml."
    fields = read_header(path, lambda key: key.startswith(prefix))
    found = {key.removeprefix(prefix): value for key, value in fields.items()}
    if not found.get("tokens"):
        raise HainaError(
            f"{path}: a GGUF file without a vocabulary", "name one that holds tokenizer.ggml.tokens"
        )
    types = found.setdefault("token_type", [NORMAL] * len(found["tokens"]))
    if len(types) != len(found["tokens"]):
        raise HainaError(
            f"{path}: {len(found['tokens']):,} tokens but {len(types):,} token types", "restore the file"
        )
    return found


def _byte_level(fields: dict[str, Any], path: Path, name: str) -> Vocabulary:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    cut = str(fields.get("pre", "default"))
    patterns = expressions(cut)
    if patterns is None:
        raise HainaError(
            f"{path}: its pre-tokenizer {cut!r} is not known",
            f"known are {', '.join(pattern_names())}; compare the model's tokenizer.json instead",
        )
    tokens, types = fields["tokens"], fields["token_type"]
    added = {
        number: AddedToken(tokens[number], special=types[number] != USER_DEFINED, normalized=False)
        for number in range(len(tokens))
        if types[number] != NORMAL
    }
    merges = []
    for number, line in enumerate(fields.get("merges") or []):
        left, _, right = line.partition(" ")
        if not left or not right:
            raise HainaError(f"{path}: merge {number:,} ({line!r}) is not two pieces", "restore the file")
        merges.append((left, right))
    vocabulary: dict[str, int] = {}
    for number, token in enumerate(tokens):
        vocabulary.setdefault(token, number)
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=ignores_merges(cut))
    except Exception as error:  # tokenizers raises bare Exception: a merge of pieces that are not there
        raise HainaError(f"{path}: merges and tokens do not fit ({error})", "restore the file") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([added[number] for number in sorted(added)])
    return from_tokenizer(tokenizer, name, path, f"GGUF, BPE ({cut})")


def _sentencepiece(fields: dict[str, Any], path: Path, name: str, unigram: bool) -> Vocabulary:
    sentencepiece_model_pb2 = library("sentencepiece.sentencepiece_model_pb2", path)
    model = sentencepiece_model_pb2.ModelProto()
    types = sentencepiece_model_pb2.ModelProto.SentencePiece
    kinds = {
        NORMAL: types.NORMAL,
        UNKNOWN: types.UNKNOWN,
        CONTROL: types.CONTROL,
        USER_DEFINED: types.USER_DEFINED,
        UNUSED: types.UNUSED,
        BYTE: types.BYTE,
    }
    tokens = fields["tokens"]
    scores = fields.get("scores") or [0.0] * len(tokens)
    if len(scores) != len(tokens):
        raise HainaError(f"{path}: {len(tokens):,} tokens but {len(scores):,} scores", "restore the file")
    seen: set[str] = set()
    unknown = fields.get("unknown_token_id")
    if unknown is None and UNKNOWN in fields["token_type"]:
        unknown = fields["token_type"].index(UNKNOWN)
    if unknown is None or not 0 <= unknown < len(tokens):
        raise HainaError(f"{path}: no unknown token", "compare the model's tokenizer.model instead")
    for number, (token, score, kind) in enumerate(zip(tokens, scores, fields["token_type"], strict=True)):
        if kind not in kinds:
            raise HainaError(f"{path}: token {number:,} has the unknown type {kind}", "restore the file")
        # Padding rows repeat a name or have none; SentencePiece wants each once, and one unknown token.
        fresh = token if token and token not in seen else f"<{number}>"
        seen.add(fresh)
        stands = kind if fresh == token and kind != UNKNOWN else UNUSED
        stands = UNKNOWN if number == unknown else stands
        model.pieces.add(piece=fresh.replace(" ", SPACE), score=score, type=kinds[stands])
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = trainer.UNIGRAM if unigram else trainer.BPE
    trainer.byte_fallback = BYTE in fields["token_type"]
    trainer.vocab_size = len(tokens)
    trainer.unk_id, trainer.unk_piece = unknown, model.pieces[unknown].piece
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = bool(fields.get("add_space_prefix", True))
    normalizer.remove_extra_whitespaces = bool(fields.get("remove_extra_whitespaces", False))
    normalizer.escape_whitespaces = True
    charsmap = fields.get("precompiled_charsmap")
    if charsmap:
        normalizer.precompiled_charsmap = bytes(charsmap)
    kind = "Unigram" if unigram else "BPE"
    return from_model(model.SerializeToString(), name, path, f"GGUF, SentencePiece {kind}")


def open_gguf(path: Path, name: str) -> Vocabulary:
    """Open the vocabulary of a GGUF file.

    Raises:
        HainaError: the file is damaged, has no vocabulary, or one of a family or pre-tokenizer not known here.
    """
    fields = _fields(path)
    family = str(fields.get("model"))
    if family == "gpt2":
        return _byte_level(fields, path, name)
    if family in {"llama", "t5"}:
        return _sentencepiece(fields, path, name, unigram=family == "t5")
    raise HainaError(
        f"{path}: vocabularies of the family {family!r} are not read",
        "known are gpt2 (byte-level BPE), llama and t5 (SentencePiece); compare the model's tokenizer.json instead",
    )
