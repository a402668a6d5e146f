"""What the kernels of scan, shingles and minhash compute, a character and a Python integer at a time."""

from __future__ import annotations

from haina.corpus.dedup.folding import CONTINUE, HAN, LETTER, MARK, NOTHING, folded_form
from haina.corpus.dedup.minhash import EMPTY, MULTIPLY_32, MULTIPLY_32_2
from haina.corpus.dedup.runs import HAN_SEED, MOST_MARKS, MULTIPLY_1, SEED
from haina.corpus.dedup.scan import MULTIPLY_2
from haina.corpus.dedup.shingles import BYTES_SEEDS, KEY_MULTIPLY, KEY_STEP, SHINGLE_BASE

MASK = (1 << 64) - 1
MASK_32 = (1 << 32) - 1
Token = tuple[int, int, int]


def characters(raw: bytes) -> list[tuple[str | None, int, int]]:
    """(character, start, end) of UTF-8 bytes; None for a byte that belongs to none."""
    out: list[tuple[str | None, int, int]] = []
    place = 0
    while place < len(raw):
        for size in (1, 2, 3, 4):
            try:
                character = raw[place : place + size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            out.append((character, place, place + len(character.encode("utf-8"))))
            break
        else:
            out.append((None, place, place + 1))
        place = out[-1][2]
    return out


def canonical(run: list[tuple[int, str]]) -> str:
    """Characters with their combining classes, marks in canonical order, MOST_MARKS at a time."""
    out = ""
    marks: list[tuple[int, str]] = []
    for combining, character in [*run, (0, "")]:
        if combining == 0 or len(marks) == MOST_MARKS:
            out += "".join(mark for _, mark in sorted(marks, key=lambda mark: mark[0]))
            marks = []
        if combining:
            marks.append((combining, character))
        else:
            out += character
    return out


def hash_word(word: int) -> int:
    """Hash of the last word of a token."""
    state = word * MULTIPLY_1 & MASK
    state = (state ^ state >> 32) * MULTIPLY_2 & MASK
    return state ^ state >> 29


def hash_run(text: str) -> int:
    """Hash of the folded form of a run, never empty."""
    raw = text.encode("utf-8")
    words = [int.from_bytes(raw[start : start + 8], "little") for start in range(0, len(raw), 8)]
    state = SEED
    for word in words[:-1]:
        state = (state ^ word) * MULTIPLY_1 & MASK
        state ^= state >> 32
    return hash_word(state ^ words[-1])


def tokens_plain(raw: bytes) -> list[Token]:
    """(hash, start, end) of the tokens of one text."""
    tokens: list[Token] = []
    run: list[tuple[int, str]] = []
    start = end = 0

    def close() -> None:
        if run:
            tokens.append((hash_run(canonical(run)), start, end))
            run.clear()

    for character, place, following in characters(raw):
        for kind, combining, folded in [(NOTHING, 0, "")] if character is None else folded_form(character):
            if kind == LETTER or (kind in (MARK, CONTINUE) and run):
                if not run:
                    start = place
                run.append((combining, folded))
                end = following
            elif kind in (NOTHING, HAN):
                close()
                if kind == HAN:
                    tokens.append((hash_word(HAN_SEED ^ ord(folded)), place, following))
    close()
    return tokens


def mix_plain(value: int) -> int:
    """`minhash.mix`."""
    value = (value ^ value >> 32) * MULTIPLY_1 & MASK
    value = (value ^ value >> 29) * MULTIPLY_2 & MASK
    return value ^ value >> 32


def shingles_plain(tokens: list[int], width: int) -> list[int]:
    """Hashes of all runs of `width` tokens, repeats and all."""
    if not tokens:
        return []
    out = []
    for start in range(max(1, len(tokens) - width + 1)):
        state = 0
        for token in tokens[start : start + width]:
            state = (state * SHINGLE_BASE + token) & MASK
        out.append(mix_plain(state))
    return out


def signature_plain(shingles: list[int], permutations: int) -> list[int]:
    """Signature of a set of shingle hashes."""
    empty = int(EMPTY)
    values = [empty] * permutations
    lows = [min(hashed & MASK_32, empty - 1) for hashed in shingles]
    for hashed, low in zip(shingles, lows, strict=True):
        place = (hashed >> 32) * permutations >> 32
        values[place] = min(values[place], low)
    for place in range(permutations if shingles else 0):
        if values[place] == empty:
            seed = mix_plain(place + 1)
            shift, factor = seed >> 32, seed & MASK_32 | 1
            values[place] = min([empty - 1, *((low ^ shift) * factor & MASK_32 for low in lows)])
    return values


def key_plain(tokens: list[int], raw: bytes) -> bytes:
    """16 bytes for a sequence of tokens, or for the bytes of a text that has none."""
    words, sums = (tokens, [0, 0]) if tokens else (list(raw), list(BYTES_SEEDS))
    zeros = [0] * (-len(tokens) % 32)
    for place, word in enumerate(words + zeros):
        state = (word + place * KEY_STEP) & MASK
        state = (state ^ state >> 32) * KEY_MULTIPLY[0] & MASK
        sums[0] = (sums[0] + (state ^ state >> 29)) & MASK
        state = (state ^ state >> 31) * KEY_MULTIPLY[1] & MASK
        sums[1] = (sums[1] + (state ^ state >> 32)) & MASK
    out = b""
    for total in sums:
        state = total ^ (len(words) * MULTIPLY_2 & MASK)
        state = (state ^ state >> 32) * MULTIPLY_1 & MASK
        out += (state ^ state >> 29).to_bytes(8, "little")
    return out


def truncate_plain(value: int) -> int:
    """`truncate8` of one value."""
    value = (value ^ value >> 16) * MULTIPLY_32 & MASK_32
    return ((value ^ value >> 13) * MULTIPLY_32_2 & MASK_32) >> 24


def sketch_plain(values: list[int]) -> int:
    """`sketch64` of one signature."""
    chosen = [values[bit * len(values) // 64] for bit in range(64)]
    bits = [mix_plain((value + bit * MULTIPLY_1) & MASK) >> 63 for bit, value in enumerate(chosen)]
    return sum(value << bit for bit, value in enumerate(bits))
