"""The main language of a text: evidence of its pieces, weighed and added up.

Comes in: text. Goes out: a language and a confidence. Each piece is given a probability for every language from what
stands in it, with the whole document as the prior: a line without any telling character is in the language of the
others. Scripts, kana, script variants and Cantonese words decide among CJK, English function words say English, and
lid.176 is asked only about the Latin, Cyrillic, Arabic, ... text that is left. Code is told by `shapes`.

A Han character, kana or Hangul syllable counts as two letters. A text is `mixed` when a second language has at least a
quarter of what the two largest have; code beside prose does not make a text mixed, and it is `code` only when it is
six tenths or more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import code_points
from haina.corpus.language import pieces as P
from haina.corpus.language.model import languages_of
from haina.corpus.language.shapes import code_weights, score
from haina.corpus.language.tables import STRONG, TABLE_SIZE, Tables, latin_languages, tables, variant_table

LANGUAGES = ("zh-Hans", "zh-Hant", "yue", "ja", "ko", "code", "en", "other")
HANS, HANT, YUE, JA, KO, CODE, EN, OTHER = range(len(LANGUAGES))
DENSE_WEIGHT = 2
# Letters of names and terms that one dense character outweighs within a piece.
LETTERS_A_DENSE = 6
MIXED_SHARE = 0.25
CODE_SHARE = 0.6
CLEAR_SHARE = 0.85
CLEAR_LETTERS = 16
# Text without letters: below this share of its visible characters it is a table or a drawing.
LETTER_SHARE = 0.15
# Code is judged over so many pieces before and after: a comment inside it is part of it.
CODE_WINDOW = 4
# So many features of nothing stand beside those of the text: a title of six words is no proof of code.
CODE_DOUBT = 12.0
# Function words of running English, and the log-odds of code that they take away.
ENGLISH_SHARE = 0.3
ENGLISH_PRICE = 1.2
# lid.176 is asked about groups of so many characters, so many of them spread over a document.
GROUP = 240
GROUPS = 4
# A text no longer than that is looked at piece by piece.
SHORT = 400


@dataclass(frozen=True)
class Identified:
    """A language.

    Attributes:
        language: `zh-Hans`, `zh-Hant`, `yue`, `en`, `ja`, `ko`, `code`, `mixed` or `other`.
        confidence: 0 to 1, about the share of such answers that are right.
        detail: ISO 639 code of `other` where lid.176 knows it, the two languages of `mixed` (`en+zh-Hans`), else "".
    """

    language: str
    confidence: float
    detail: str = ""


@dataclass
class Evidence:
    """What is known of the pieces of a text.

    Attributes:
        starts: int64 [pieces + 1], in characters.
        rows: int32 [pieces, COLUMNS], counts.
        shares: float64 [pieces, languages], probabilities; zeros where nothing is known.
        weights: float64 [pieces], letters, dense ones twice.
        details: ISO codes of the pieces that are `other`.
    """

    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    details: dict[int, str]


@nb.njit(cache=True, nogil=True)
def _measure(
    codes: npt.NDArray[np.uint32], tables: Tables, weights: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    starts = np.empty(len(codes) + 1, dtype=np.int64)
    count = P.cut(codes, tables.classes, starts)
    starts = starts[: count + 1].copy()
    rows = np.zeros((count, P.COLUMNS), dtype=np.int32)
    P.count(codes, starts, tables, rows)
    sums = np.zeros(count, dtype=np.float32)
    tokens = np.zeros(count, dtype=np.int32)
    score(codes, tables.classes, weights, starts, sums, tokens)
    return starts, rows, sums, tokens


def _sigmoid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -30, 30)))


def _windowed(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Sums over `width` entries before and after each."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    return total[np.minimum(places + width + 1, len(values))] - total[np.maximum(places - width, 0)]


def _code_shares(
    rows: npt.NDArray[np.int32], sums: npt.NDArray[np.float32], tokens: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Probability of each piece to be code, judged with its neighbours."""
    _, bias = code_weights()
    over = _windowed(tokens.astype(np.float64), CODE_WINDOW)
    # A sentence about programs has their marks, and more function words than they do; a long text needs no such help.
    words = _windowed(rows[:, P.WORDS].astype(np.float64), CODE_WINDOW)
    english = _windowed(rows[:, P.ENGLISH].astype(np.float64), CODE_WINDOW)
    running = np.clip(english / np.maximum(words, 8) / ENGLISH_SHARE, 0, 1) * np.clip(
        (300 - over) / 200, 0, 1
    )
    odds = _windowed(sums.astype(np.float64), CODE_WINDOW) / (over + CODE_DOUBT) + bias
    return _sigmoid(odds - ENGLISH_PRICE * running)


def _dense_shares(rows: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> None:
    """Fill in what Han, kana and Hangul tell: `rows` are those of dense pieces, float64 [pieces, COLUMNS]."""
    total = rows.sum(axis=0)
    han, kana, hangul = (
        rows[:, P.HANS],
        rows[:, P.HIRAGANA] + rows[:, P.KATAKANA],
        rows[:, P.HANGULS],
    )
    dense = np.maximum(han + kana + hangul, 1)
    korean = _sigmoid(20 * (hangul / dense - 0.35))

    # Japanese has about half kana; Chinese that quotes some, a few percent.
    # Characters that Japanese does not use count against it several times: a reading in brackets is no Japanese text.
    kanas = total[P.HIRAGANA] + total[P.KATAKANA]
    against = 5 * total[P.NOT_JAPANESE] + 3 * total[P.MANDARIN]
    kana_share = kanas / max(1.0, total[P.HANS] + kanas + against)
    # 東 with 学: the forms of Japan are partly those of the one script and partly those of the other.
    both_scripts = (rows[:, P.SCRIPT_MARKS] - np.abs(rows[:, P.SCRIPT])) / (2 * STRONG)
    prior = float(np.clip(25 * (kana_share - 0.12), -3, 4))
    # Beside Japanese sentences a longer one without kana is Chinese.
    without_kana = np.where((kana == 0) & (prior > 0), np.clip(0.5 * (han - 4), 0, 4), 0.0)
    japanese = _sigmoid(
        np.minimum(1.2 * rows[:, P.HIRAGANA] + 0.5 * rows[:, P.KATAKANA], 5.0)
        + 1.5 * rows[:, P.JAPANESE]
        + 2.0 * np.where(rows[:, P.NOT_JAPANESE] > 0, 0.0, both_scripts)
        - 3.0 * rows[:, P.NOT_JAPANESE]
        - 1.5 * rows[:, P.MANDARIN]
        - 0.5
        + prior
        - without_kana
    )

    cantonese, mandarin = total[P.CANTONESE], total[P.MANDARIN]
    if cantonese >= max(2.0, 0.02 * total[P.HANS]):
        prior = float(np.clip(3 * np.log((cantonese + 0.5) / (0.6 * mandarin + 0.5)), -5, 1.5))
    else:
        prior = -8.0
    yue = _sigmoid(1.5 * rows[:, P.CANTONESE] - 2.0 * rows[:, P.MANDARIN] + prior)

    prior = float(np.clip(0.5 * total[P.SCRIPT], -5, 5)) if total[P.SCRIPT] else -0.1
    traditional = _sigmoid(rows[:, P.SCRIPT] + prior)

    left = 1 - korean
    shares[:, KO] = korean
    shares[:, JA] = left * japanese
    left = left * (1 - japanese)
    shares[:, YUE] = left * yue
    left = left * (1 - yue)
    shares[:, HANT] = left * traditional
    shares[:, HANS] = left * (1 - traditional)


def _ask(text: str, counts: npt.NDArray[np.int64], prior: float) -> tuple[str, float]:
    """(ISO code of the likeliest language but English, log-odds of English) of a piece of sparse text.

    `counts` [COLUMNS] are those of the piece, `prior` is added to the log-odds.
    """
    answers = languages_of(text, 8)
    if 2 * counts[P.LETTERS] > counts[P.LATINS]:
        return next((code for code, _ in answers if code not in latin_languages()), ""), -8.0
    answers = [answer for answer in answers if answer[0] in latin_languages()]
    of_english = next((value for code, value in answers if code == "en"), 0.0)
    of_others = sum(value for code, value in answers if code != "en")
    # Names and terms pull the model away from English; function words pull it back.
    core, english, words = (int(counts[column]) for column in (P.ENGLISH_CORE, P.ENGLISH, P.WORDS))
    hint = float(np.clip(1.5 * core + 0.5 * (english - core) - 0.1 * words, -1.0, 4.0))
    odds = float(np.log((of_english + 0.02) / (of_others + 0.02))) + hint + prior
    return next((code for code, _ in answers if code != "en"), ""), odds


def _groups(
    evidence: Evidence, places: npt.NDArray[np.int64], every_piece: bool
) -> list[tuple[list[int], list[int]]]:
    """(pieces to ask about, pieces that the answer is for): all one by one, or a few spread over the text."""
    if every_piece:
        return [([piece], [piece]) for piece in places.tolist()]
    groups: list[list[int]] = []
    length = GROUP
    for piece in places.tolist():
        size = int(evidence.starts[piece + 1] - evidence.starts[piece])
        if length + size > GROUP:
            groups.append([])
            length = 0
        groups[-1].append(piece)
        length += size
    if len(groups) <= GROUPS:
        return [(group, group) for group in groups]
    bounds = [round(len(groups) * number / GROUPS) for number in range(GROUPS + 1)]
    return [
        (groups[(low + high) // 2], [piece for group in groups[low:high] for piece in group])
        for low, high in pairwise(bounds)
    ]


def _sparse_shares(text: str, evidence: Evidence, sparse: npt.NDArray[np.int64], every_piece: bool) -> None:
    """Fill in what words tell: `sparse` are the pieces that are neither dense nor code."""
    rows, weights, shares, starts = evidence.rows, evidence.weights, evidence.shares, evidence.starts
    sure = (
        (2 * rows[sparse, P.LETTERS] <= rows[sparse, P.LATINS])
        & (rows[sparse, P.ENGLISH_CORE] >= 1)
        & (rows[sparse, P.ENGLISH] >= np.maximum(2, 0.25 * rows[sparse, P.WORDS]))
    )
    # What is in doubt in an English text is English more often than not.
    of_english = float(weights[sparse[sure]].sum() / max(1.0, weights.sum()))
    unsure = sparse[~sure]
    answered_english = sparse[sure]
    if not every_piece and weights[unsure].sum() < MIXED_SHARE * of_english * weights[sparse].sum():
        answered_english = sparse
        unsure = unsure[:0]
    shares[answered_english, EN] = 0.98
    shares[answered_english, OTHER] = 0.02
    for asked, answered in _groups(evidence, unsure, every_piece):
        joined = " ".join(
            text[starts[piece] : min(starts[piece + 1], starts[piece] + 2 * GROUP)] for piece in asked
        )
        code, odds = _ask(joined, rows[asked].sum(axis=0), 4 * of_english)
        english = float(_sigmoid(np.array(odds)))
        shares[answered, EN] = english
        shares[answered, OTHER] = 1 - english
        evidence.details.update(dict.fromkeys(answered, code))


def weigh(text: str, every_piece: bool) -> Evidence:
    """Probabilities of all pieces of a text.

    With `every_piece` lid.176 answers for each piece in doubt, otherwise for a few groups of them.
    """
    weights, _ = code_weights()
    starts, rows, sums, tokens = _measure(code_points(text), tables(), weights)
    dense = rows[:, P.HANS] + rows[:, P.HIRAGANA] + rows[:, P.KATAKANA] + rows[:, P.HANGULS]
    letters = rows[:, P.LATINS] + rows[:, P.LETTERS]
    is_dense = (dense > 0) & (LETTERS_A_DENSE * dense >= letters)
    evidence = Evidence(
        starts,
        rows,
        np.zeros((len(rows), len(LANGUAGES))),
        np.where(is_dense, DENSE_WEIGHT * dense, letters).astype(np.float64),
        {},
    )
    code = _code_shares(rows, sums, tokens)
    # Programs are written in Latin letters, whatever their comments are in.
    around = _windowed(rows[:, P.LATINS].astype(np.float64), CODE_WINDOW)
    code[around <= _windowed((dense + 2 * rows[:, P.LETTERS]).astype(np.float64), CODE_WINDOW)] = 0.0
    places = np.flatnonzero(is_dense)
    if len(places):
        found = np.zeros((len(places), len(LANGUAGES)))
        _dense_shares(rows[places].astype(np.float64), found)
        evidence.shares[places] = found
    places = np.flatnonzero(~is_dense & (letters > 0) & (code < 0.5))
    if len(places):
        _sparse_shares(text, evidence, places, every_piece)
    evidence.shares *= (1 - code)[:, None]
    evidence.shares[:, CODE] = code
    return evidence


def _decide(evidence: Evidence) -> Identified:
    rows, weights, shares = evidence.rows, evidence.weights, evidence.shares
    visible = rows[:, P.VISIBLE] + weights / 2
    is_code = shares[:, CODE] > 0.5
    of_code = float(visible[is_code].sum() / max(1.0, visible.sum()))
    certain = float((visible * shares[:, CODE]).sum() / max(1.0, visible.sum()))
    letters = float(weights.sum())
    if min(of_code, certain) > CODE_SHARE and letters > 0:
        return Identified("code", certain)
    if letters < LETTER_SHARE * float(rows[:, P.VISIBLE].sum()) or letters == 0:
        return Identified("other", 0.9 if letters == 0 else 0.6)
    prose = shares.copy()
    prose[:, CODE] = 0
    known = prose.sum(axis=1)
    prose[known > 0] /= known[known > 0, None]
    weights = np.where(is_code | (known == 0), 0.0, weights)
    if not weights.any():
        return Identified("code", max(0.5, certain))
    masses: dict[tuple[int, str], float] = defaultdict(float)
    best = prose.argmax(axis=1)
    for piece in np.flatnonzero(weights).tolist():
        language = int(best[piece])
        masses[language, evidence.details.get(piece, "") if language == OTHER else ""] += float(
            weights[piece]
        )
    by_language: dict[int, float] = defaultdict(float)
    for (language, _), mass in masses.items():
        by_language[language] += mass
    ranked = sorted(by_language.items(), key=lambda item: (-item[1], item[0]))
    first, mass = ranked[0]
    total = float(weights.sum())
    # A name or a title in doubt makes no second language.
    sparse = (best == EN) | (best == OTHER)
    vague = sparse & ((prose.max(axis=1) < CLEAR_SHARE) | (weights < CLEAR_LETTERS))
    second = max(
        (float(weights[(best == language) & ~vague].sum()) for language, _ in ranked[1:]), default=0.0
    )
    if second >= MIXED_SHARE * (mass + second):
        names = sorted((LANGUAGES[first], LANGUAGES[ranked[1][0]]))
        return Identified("mixed", min(1.0, 0.5 + 2 * (second / total - MIXED_SHARE)), "+".join(names))
    detail = ""
    if first == OTHER:
        detail = max((item for item in masses.items() if item[0][0] == OTHER), key=lambda item: item[1])[0][1]
    confidence = float((weights * prose[:, first]).sum() / total)
    return Identified(LANGUAGES[first], min(1.0, confidence), detail)


def identify_language(text: str) -> Identified:
    """The main language of a text, however short."""
    if not text:
        return Identified("other", 0.0)
    return _decide(weigh(text, every_piece=len(text) <= SHORT))


def identify_batch(texts: Sequence[str]) -> list[Identified]:
    """The main language of each text."""
    return [identify_language(text) for text in texts]


def chinese_variant(codes: npt.NDArray[np.uint32]) -> Identified:
    """zh-Hans or zh-Hant by the characters only one of them uses; a text without any is zh-Hans at 0.5."""
    marks = variant_table()[np.minimum(codes, TABLE_SIZE - 1)]
    traditional, simplified = int((marks > 0).sum()), int((marks < 0).sum())
    if traditional > simplified:
        return Identified("zh-Hant", traditional / (traditional + simplified))
    if simplified > 0:
        return Identified("zh-Hans", simplified / (traditional + simplified))
    return Identified("zh-Hans", 0.5)
