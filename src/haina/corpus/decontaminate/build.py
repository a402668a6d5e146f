"""From items to an index.

Comes in: items. Goes out: the index. Each question, option and passage is tokenized once; texts with the same
tokens are one part, items with the same parts one group. A token's bits are its evidence, less inside
quotations and in phrases of examiners; its weight, in what share of the item it makes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.decontaminate.grams import Int64, fold_tokens, token_units
from haina.corpus.decontaminate.index import OPTION, PASSAGE, QUESTION, Arrays, Index
from haina.corpus.decontaminate.items import Item
from haina.corpus.decontaminate.marks import ask_start, blank_place, frame_tokens, habit_tokens, quoted
from haina.corpus.decontaminate.seeds import (
    BRIEF,
    SAMPLED,
    WHOLE,
    choose_seeds,
    filter_of,
    reach_of,
    table_of,
)
from haina.corpus.decontaminate.surprise import surprise
from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.utf8 import pack

QUOTED_WEIGHT = 0.25
HABIT_BITS = 1.0
LEAST_WEIGHT, MOST_WEIGHT = 2.0, 12.0


def _ragged(lists: Sequence[Sequence[int]]) -> tuple[Int64, npt.NDArray[np.int32]]:
    starts = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in lists], out=starts[1:])
    return starts, np.array([value for one in lists for value in one], dtype=np.int32)


class _Parts:
    """Texts to numbers of parts: texts with the same tokens share one."""

    def __init__(self, texts: Sequence[str]) -> None:
        data, offsets = pack(texts)
        found = tokenize_batch(data, offsets)
        units = token_units(data, offsets, found.starts, found.ends, found.documents)
        self.numbers: list[int] = []
        self.first: list[int] = []
        known: dict[bytes, int] = {}
        for text in range(len(texts)):
            key = found.hashes[found.documents[text] : found.documents[text + 1]].tobytes()
            if key not in known:
                known[key] = len(self.first)
                self.first.append(text)
            self.numbers.append(known[key])
        lengths = np.diff(found.documents)[self.first] if texts else np.zeros(0, dtype=np.int64)
        self.starts = np.zeros(len(self.first) + 1, dtype=np.int64)
        np.cumsum(lengths, out=self.starts[1:])
        places = (
            np.concatenate(
                [np.arange(found.documents[text], found.documents[text + 1]) for text in self.first]
            )
            if texts
            else np.zeros(0, dtype=np.int64)
        )
        self.hashes, self.units = found.hashes[places], units[places]
        self.byte_starts, self.byte_ends = found.starts[places], found.ends[places]

    def spans(self, part: int) -> tuple[Int64, Int64]:
        """Byte spans of a part's tokens in the text that it was first seen in."""
        span = slice(self.starts[part], self.starts[part + 1])
        return self.byte_starts[span], self.byte_ends[span]


class _Groups(NamedTuple):
    """Items with the same parts.

    Attributes:
        keys: (question, options, passage) of each group, as parts.
        items: those of each group.
        texts: of each group's first question, as it was given.
    """

    keys: list[tuple[int, tuple[int, ...], int]]
    items: list[list[int]]
    texts: list[int]


def _group(layout: Sequence[tuple[int, int]], parts: _Parts) -> _Groups:
    """layout: number of the question's text and of the passage's behind it; options lie between."""
    size = np.diff(parts.starts)
    known: dict[tuple[int, tuple[int, ...], int], int] = {}
    out = _Groups([], [], [])
    for item, (question, passage) in enumerate(layout):
        options = sorted({parts.numbers[text] for text in range(question + 1, passage)})
        key = (
            parts.numbers[question],
            tuple(part for part in options if size[part]),
            parts.numbers[passage],
        )
        if key not in known:
            known[key] = len(out.keys)
            out.keys.append(key)
            out.items.append([])
            out.texts.append(question)
        out.items[known[key]].append(item)
    return out


def _members(groups: _Groups, size: Int64) -> tuple[list[list[int]], list[list[int]]]:
    """Groups that each part belongs to, and its role in them."""
    members: list[list[int]] = [[] for _ in size]
    roles: list[list[int]] = [[] for _ in size]
    for group, (question, options, passage) in enumerate(groups.keys):
        of_options = ((part, OPTION) for part in options)
        for part, role in ((question, QUESTION), *of_options, (passage, PASSAGE)):
            if size[part]:
                members[part].append(group)
                roles[part].append(role)
    return members, roles


def build_index(items: Sequence[Item]) -> Index:
    """Index the items. Items whose key forms are the same are searched for once and all reported."""
    texts: list[str] = []
    layout: list[tuple[int, int]] = []
    for item in items:
        layout.append((len(texts), len(texts) + 1 + len(item.options)))
        texts += [item.question, *item.options, item.passage]
    parts = _Parts(texts)
    groups = _group(layout, parts)
    size = np.diff(parts.starts)
    members, roles = _members(groups, size)

    bits = surprise(parts.hashes, parts.starts)
    bits = np.where(habit_tokens(parts.hashes), np.minimum(bits, HABIT_BITS), bits)
    tokens = fold_tokens(parts.hashes)
    seeds = choose_seeds(tokens, parts.units, parts.starts, bits, members, roles)
    seeded = np.zeros(len(parts.first), dtype=np.bool_)
    seeded[seeds.parts] = True
    searched = np.zeros(len(groups.keys), dtype=np.bool_)
    for part in np.flatnonzero(seeded).tolist():
        searched[members[part]] = True

    # What is quoted starts a search as well as anything else does, and is weak evidence.
    asks, blanks, marked = _marks(texts, groups, parts)
    weights = np.clip(bits, LEAST_WEIGHT, MOST_WEIGHT)
    weights[marked] *= QUOTED_WEIGHT
    bits[marked] *= QUOTED_WEIGHT

    questions = np.array([key[0] if size[key[0]] else -1 for key in groups.keys], dtype=np.int32)
    passages = np.array([key[2] if size[key[2]] else -1 for key in groups.keys], dtype=np.int32)
    option_starts, options = _ragged([key[1] for key in groups.keys])
    member_starts, member_groups = _ragged(members)
    item_starts, item_numbers = _ragged(groups.items)
    files = list(dict.fromkeys(item.file for item in items))
    numbers = {name: number for number, name in enumerate(files)}
    arrays = Arrays(
        sampled=filter_of(seeds.hashes[seeds.kinds & SAMPLED != 0]),
        whole=filter_of(seeds.hashes[seeds.kinds & WHOLE != 0]),
        brief=filter_of(seeds.hashes[seeds.kinds & BRIEF != 0]),
        table=table_of(seeds.hashes),
        seeds=seeds.hashes,
        seed_starts=seeds.starts,
        seed_parts=seeds.parts,
        seed_places=seeds.places,
        reach=reach_of(seeds, parts.units, parts.starts),
        tokens=tokens,
        units=parts.units,
        bits=bits.astype(np.float32),
        weights=weights.astype(np.float32),
        frames=frame_tokens(parts.hashes),
        starts=parts.starts,
        member_starts=member_starts,
        members=member_groups,
        roles=_ragged(roles)[1].astype(np.uint8),
        questions=questions,
        passages=passages,
        option_starts=option_starts,
        options=options,
        asks=np.array(asks, dtype=np.int32),
        blanks=np.array(blanks, dtype=np.int32),
        alone=(questions < 0) | ~seeded[questions] if len(questions) else np.zeros(0, dtype=np.bool_),
        item_starts=item_starts,
        items=item_numbers,
    )
    # As they are when they are mapped: kernels are compiled once for both.
    for array in arrays:
        array.setflags(write=False)
    return Index(
        arrays,
        tuple(files),
        tuple(numbers[item.file] for item in items),
        tuple(item.item for item in items),
        tuple(item.field for item in items),
        tuple(sorted(item for group in np.flatnonzero(~searched) for item in groups.items[group])),
    )


def _marks(texts: Sequence[str], groups: _Groups, parts: _Parts) -> tuple[list[int], list[int], Int64]:
    """(first token of the last sentence, token after the blank) of each group's question, and quoted tokens."""
    asks: list[int] = []
    blanks: list[int] = []
    marked: list[Int64] = [np.zeros(0, dtype=np.int64)]
    for (part, _, _), number in zip(groups.keys, groups.texts, strict=True):
        text = texts[number]
        first = parts.first[part] == number
        starts, ends = parts.spans(part)
        if not first:
            again = tokenize_batch(*pack([text]))
            starts, ends = again.starts, again.ends
        asks.append(ask_start(text, starts, parts.units[parts.starts[part] : parts.starts[part + 1]]))
        blanks.append(blank_place(text, starts, ends))
        if first:
            marked.append(quoted(text, starts) + parts.starts[part])
    return asks, blanks, np.unique(np.concatenate(marked))
