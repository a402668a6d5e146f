"""How a vocabulary cuts texts, as counts that can be added up.

In: a vocabulary and texts. Out: `Counts` of tokens, characters, words and faults, from which every rate follows.
`compression` gives the rates of one tokenizer on one set of texts.

An English word is a run of Latin letters. Chinese is written without spaces, and what a word is would be for a
segmenter to say; its figure is therefore per Han character. A piece counts for English when it holds a Latin letter,
for Chinese when it holds a Han character or bytes of one. A piece of several words counts once, so that there may be
fewer pieces than words.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer.pieces import is_fragment, is_part_of_character, piece_bytes, readable
from haina.tokenizer.scripts import HAN, LATIN, classes_of
from haina.tokenizer.vocabularies.vocabulary import PieceKind, Vocabulary, flatten

__all__ = ["Counts", "Meter", "compression", "is_fragment", "piece_bytes", "readable"]

BATCH_CHARACTERS = 1 << 17
Ids = NDArray[np.int64]


@dataclass
class Counts:
    """What was counted on some texts.

    Attributes:
        documents: texts. bytes: of UTF-8. characters: code points. tokens: without special ones.
        unknown: tokens that stand for text that the vocabulary cannot write.
        byte_tokens: tokens that begin or end inside a character, and bytes that SentencePiece fell back to.
        differing: texts that do not come back from their ids.
        aligned: texts whose pieces, joined, are the text; words are counted in these alone.
        words, word_tokens: runs of Latin letters, and pieces that hold a Latin letter.
        han, han_tokens: Han characters, and pieces that hold one or a part of one.
        seconds: processor time of encoding, all threads together.
    """

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    byte_tokens: int = 0
    differing: int = 0
    aligned: int = 0
    words: int = 0
    word_tokens: int = 0
    han: int = 0
    han_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def rates(self) -> dict[str, float | int | None]:
        """The counts and the rates that follow; a rate of nothing is None."""

        def per(part: float, whole: float, digits: int = 4) -> float | None:
            return round(part / whole, digits) if whole else None

        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "characters": self.characters,
            "tokens": self.tokens,
            "bytes_per_token": per(self.bytes, self.tokens),
            "tokens_per_character": per(self.tokens, self.characters),
            "unknown_share": per(self.unknown, self.tokens, 6),
            "byte_share": per(self.byte_tokens, self.tokens, 6),
            "pieces_per_english_word": per(self.word_tokens, self.words),
            "pieces_per_han_character": per(self.han_tokens, self.han),
            "megabytes_per_second": per(self.bytes / 1e6, self.seconds, 2),
            "differing_documents": self.differing,
            "documents_not_aligned": self.documents - self.aligned,
        }


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in groups of about `BATCH_CHARACTERS` characters."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _aligned(
    vocabulary: Vocabulary, data: Sequence[bytes], ids: Ids, offsets: Ids
) -> tuple[NDArray[np.bool_], Ids]:
    """For each text whether its pieces are its bytes, and how many bytes they put before it (0, or 1 for a space)."""
    aligned = np.zeros(len(data), np.bool_)
    before = np.zeros(len(data), np.int64)
    for number, text in enumerate(data):
        row = ids[offsets[number] : offsets[number + 1]].tolist()
        joined = b"".join([vocabulary.pieces[token] for token in row])
        extra = int(len(joined) == len(text) + 1 and joined.startswith(b" "))
        aligned[number], before[number] = joined[extra:] == text, extra
    return aligned, before


class Meter:
    """Measures one vocabulary; what depends on its pieces alone is looked up once.

    Args:
        check: whether texts are decoded again and compared, and pieces laid over words.
    """

    def __init__(self, vocabulary: Vocabulary, *, check: bool = True) -> None:
        self.vocabulary = vocabulary
        self.check = check
        self.lengths = np.array([len(piece) for piece in vocabulary.pieces], np.int64)
        self.in_bytes = np.array(
            [
                kind == PieceKind.BYTE or is_part_of_character(piece)
                for piece, kind in zip(vocabulary.pieces, vocabulary.kinds.tolist(), strict=True)
            ],
            np.bool_,
        )
        self.is_unknown = vocabulary.kinds == PieceKind.UNKNOWN

    def count(self, texts: Sequence[str]) -> tuple[Counts, Ids]:
        """Counts of a batch of texts, and how often each id was used: int64 [ids]."""
        start = time.process_time()
        encoded = self.vocabulary.encode(texts)
        seconds = time.process_time() - start
        ids, offsets = flatten(encoded)
        data = [text.encode("utf-8") for text in texts]
        counts = Counts(
            documents=len(texts),
            bytes=sum(map(len, data)),
            characters=sum(map(len, texts)),
            tokens=len(ids),
            unknown=int(np.count_nonzero(self.is_unknown[ids])),
            byte_tokens=int(np.count_nonzero(self.in_bytes[ids])),
            seconds=seconds,
        )
        if self.check:
            rows = [ids[offsets[number] : offsets[number + 1]] for number in range(len(texts))]
            back = self.vocabulary.decode(rows)
            counts.differing = sum(one != other for one, other in zip(texts, back, strict=True))
            self._count_words(counts, texts, data, ids, offsets)
        return counts, np.bincount(ids, minlength=self.vocabulary.size)

    def _count_words(
        self, counts: Counts, texts: Sequence[str], data: Sequence[bytes], ids: Ids, offsets: Ids
    ) -> None:
        """Lay the pieces over the letters. All texts stand in one array, with a line end after each."""
        aligned, before = _aligned(self.vocabulary, data, ids, offsets)
        counts.aligned = int(np.count_nonzero(aligned))
        points = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le"), np.uint32)
        widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
        counted = np.repeat(aligned, [len(text) + 1 for text in texts])
        classes = classes_of(points)
        # First and last byte of every token in that array; the space put before a text belongs to nothing.
        starts = np.zeros(len(data) + 1, np.int64)
        np.cumsum([len(text) + 1 for text in data], out=starts[1:])
        ends = np.cumsum(self.lengths[ids])
        first = np.concatenate([[0], ends])[offsets[:-1]]
        per_text = np.diff(offsets)
        low, high = np.repeat(starts[:-1], per_text), np.repeat(starts[1:] - 1, per_text)
        stop = ends - np.repeat(first + before, per_text) + low
        begin = np.clip(stop - self.lengths[ids], low, high)
        stop = np.clip(stop, low, high)
        usable = np.repeat(aligned, per_text)
        for script in (LATIN, HAN):
            letters = (classes == script) & counted
            before_byte = np.zeros(int(widths.sum()) + 1, np.int64)
            np.cumsum(np.repeat(letters, widths), out=before_byte[1:])
            tokens = int(np.count_nonzero((before_byte[stop] > before_byte[begin]) & usable))
            if script == LATIN:
                counts.word_tokens = tokens
                counts.words = int(np.count_nonzero(np.diff(letters.astype(np.int8), prepend=0) == 1))
            else:
                counts.han_tokens, counts.han = tokens, int(np.count_nonzero(letters))


def compression(tokenizer: TokenizerFile, texts: Iterable[str]) -> dict[str, float | int]:
    """Rates over all texts together, special tokens not counted.

    Returns:
        `bytes_per_token` (UTF-8 bytes), `tokens_per_character` (Unicode code points), `byte_tokens_share` (0
        to 1: tokens that hold only a piece of a character), `bytes`, `characters`, `tokens`; rates are 0 for
        no text.
    """
    from haina.tokenizer.vocabularies.tokenizer_json import from_tokenizer_file

    meter = Meter(from_tokenizer_file(tokenizer, tokenizer.folder.name), check=False)
    total = Counts()
    for batch in batches(texts):
        total += meter.count(batch)[0]
    return {
        "bytes_per_token": round(total.bytes / total.tokens, 4) if total.tokens else 0.0,
        "tokens_per_character": round(total.tokens / total.characters, 4) if total.characters else 0.0,
        "byte_tokens_share": round(total.byte_tokens / total.tokens, 4) if total.tokens else 0.0,
        "bytes": total.bytes,
        "characters": total.characters,
        "tokens": total.tokens,
    }
