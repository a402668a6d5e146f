"""Accuracy on a multiple-choice suite, by the rules of its authors.

In: a model and a suite's files. Out: accuracy as the suite averages it, with what is needed to believe it:
the standard error, what answering one constant letter would give, how often each letter was answered, and
every prediction.

The model is shown the suite's few-shot prompt and answers with the letter it finds likeliest to follow. The
tokens of a letter are those that really follow the prompt: prompt + letter is tokenized whole for each of the
four, and what differs behind their common beginning is compared. (Looking up the id of "A" alone, as many
harnesses do, finds a token that the prompt never leads to in tokenizers that mark word beginnings.) A prompt
too long for the window loses whole examples from its far end, which is counted; a question that does not fit
by itself is unanswered and counts as wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.evaluate.suite import LETTERS, Question, SubjectQuestions, Suite, load_suite, read_suite
from haina.runtime.errors import HainaError
from haina.runtime.files import read_json, write_json
from haina.runtime.progress import Reporter, SilentProgress

if TYPE_CHECKING:
    from haina.inference import Engine


@dataclass(frozen=True)
class Prediction:
    """What the model answered.

    Attributes:
        answer, predicted: letters; `predicted` is None when the question does not fit into the window.
        shots: examples that the prompt held.
        logprobs: nats of A, B, C, D.
    """

    answer: str
    predicted: str | None
    shots: int
    logprobs: tuple[float, ...]


def build_prompt(suite: Suite, subject: str, shots: Sequence[Question], question: Question) -> str:
    """The prompt that ends where the answer's letter comes."""
    head = suite.prompt.head.replace("{subject}", suite.subjects[subject].name)
    solved = "".join(_ask(suite, shot) + _letter(suite, shot.answer) + suite.prompt.after for shot in shots)
    return head + solved + _ask(suite, question)


def _ask(suite: Suite, question: Question) -> str:
    options = "".join(
        suite.prompt.option.replace("{letter}", letter).replace("{text}", text)
        for letter, text in zip(LETTERS, question.options, strict=True)
    )
    return suite.prompt.question.replace("{question}", question.text) + options + suite.prompt.answer


def _letter(suite: Suite, letter: str) -> str:
    return suite.prompt.letter.replace("{letter}", letter)


def split_answers(encoded: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Common beginning and the four endings of prompt + letter, each tokenized whole.

    Raises:
        HainaError: two letters have the same ids, or one letter's ids continue another's: they cannot be
            compared.
    """
    shared = 0
    while all(shared < len(ids) and ids[shared] == encoded[0][shared] for ids in encoded):
        shared += 1
    endings = [list(ids[shared:]) for ids in encoded]
    if any(other[: len(one)] == one for one, other in permutations(endings, 2)):
        raise HainaError("the option letters do not have distinct token ids after this prompt",
                         "this tokenizer cannot be scored on multiple choice")  # fmt: skip
    return list(encoded[0][:shared]), endings


def fit(
    engine: Engine, suite: Suite, subject: str, shots: Sequence[Question], question: Question
) -> tuple[int, list[list[int]], int] | None:
    """The longest prompt that fits, examples dropped whole from the far end.

    Returns:
        Examples kept, the four sequences (start token first) and the length of their common beginning; None
        when not even the bare question fits.
    """
    tokenizer = engine.tokenizer
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for first in range(len(shots) + 1):
        prompt = build_prompt(suite, subject, shots[first:], question)
        encoded = tokenizer.encode_batch([prompt + _letter(suite, letter) for letter in LETTERS])
        if max(map(len, encoded)) + len(start) <= engine.context_length:
            shared, endings = split_answers(encoded)
            return (
                len(shots) - first,
                [[*start, *shared, *ending] for ending in endings],
                len(start) + len(shared),
            )
    return None


def ending_logprobs(engine: Engine, sequences: Sequence[Sequence[int]], shared: int) -> tuple[float, ...]:
    """Nats of each sequence's tokens from position `shared` on, where `sequences` agree before it.

    Where every ending is one token, which is the rule, one pass over the common beginning answers for all of
    them; `engine.score` on the whole sequences, the reference for it, would read the beginning once for each
    letter.
    """
    if shared > 0 and all(len(sequence) == shared + 1 for sequence in sequences):
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([sequences[0][:shared]], dtype=torch.int64, device=engine.device)
            logits = engine.model.lm_head(engine.model.hidden_states(tokens)[0, -1]).float()
            values = (logits - logits.logsumexp(-1))[[sequence[shared] for sequence in sequences]]
        return tuple(values.tolist())
    # score() gives the log-probability of tokens[1:]: that of token i stands at i - 1.
    scores = engine.score(sequences)
    return tuple(math.fsum(float(value) for value in values[max(shared - 1, 0) :]) for values in scores)


def predict(
    engine: Engine, suite: Suite, subject: str, shots: Sequence[Question], question: Question
) -> Prediction:
    """Ask one question. Ties go to the earlier letter."""
    fitted = fit(engine, suite, subject, shots, question)
    if fitted is None:
        return Prediction(question.answer, None, 0, ())
    kept, sequences, shared = fitted
    logprobs = ending_logprobs(engine, sequences, shared)
    best = max(range(len(LETTERS)), key=lambda index: logprobs[index])
    return Prediction(question.answer, LETTERS[best], kept, logprobs)


def choose(questions: dict[str, SubjectQuestions], limit: int | None) -> dict[str, tuple[Question, ...]]:
    """At most `limit` questions: the first of each subject, then the second of each, and so on."""
    counts = dict.fromkeys(questions, 0)
    left = sum(len(subject.questions) for subject in questions.values()) if limit is None else limit
    while left > 0:
        grown = [name for name, subject in questions.items() if counts[name] < len(subject.questions)][:left]
        if not grown:
            break
        for name in grown:
            counts[name] += 1
        left -= len(grown)
    return {name: subject.questions[: counts[name]] for name, subject in questions.items() if counts[name]}


def average(suite: Suite, right: dict[str, list[bool]]) -> float:
    """Accuracy over subjects or questions, whichever the suite's authors report."""
    if suite.average == "questions":
        return sum(map(sum, right.values())) / sum(map(len, right.values()))
    return math.fsum(sum(values) / len(values) for values in right.values()) / len(right)


def standard_error(suite: Suite, right: dict[str, list[bool]]) -> float | None:
    """Standard error of `average` over other draws of questions; None where a subject has a single one."""

    def variance_of_mean(values: Sequence[bool]) -> float:
        share = sum(values) / len(values)
        return share * (1 - share) / (len(values) - 1)

    if suite.average == "questions":
        pooled = [value for values in right.values() for value in values]
        return math.sqrt(variance_of_mean(pooled)) if len(pooled) > 1 else None
    if min(map(len, right.values())) < 2:
        return None
    return math.sqrt(math.fsum(variance_of_mean(values) for values in right.values())) / len(right)


def summarise(suite: Suite, shots: int, predictions: dict[str, list[Prediction]]) -> dict[str, Any]:
    """What the report shows of a suite. predictions: by subject, none of them empty."""
    flat = [item for items in predictions.values() for item in items]
    right = {
        subject: [item.predicted == item.answer for item in items] for subject, items in predictions.items()
    }
    groups = {group: None for subject in suite.subjects.values() for group in subject.groups}
    in_group = {
        group: {name: right[name] for name in right if group in suite.subjects[name].groups}
        for group in groups
    }
    error = standard_error(suite, right)
    answers = {subject: [item.answer for item in items] for subject, items in predictions.items()}
    return {
        "suite": suite.name,
        "title": suite.title,
        "language": suite.language,
        "shots": shots,
        "average_over": suite.average,
        "accuracy": round(average(suite, right), 6),
        "standard_error": None if error is None else round(error, 6),
        "questions": len(flat),
        "constant_answer": {
            letter: round(
                average(
                    suite, {name: [answer == letter for answer in given] for name, given in answers.items()}
                ),
                6,
            )
            for letter in LETTERS
        },
        "answer_histogram": {letter: sum(item.predicted == letter for item in flat) for letter in LETTERS},
        "skipped": sum(item.predicted is None for item in flat),
        "shots_dropped": sum(shots - item.shots for item in flat if item.predicted is not None),
        "mean_shots": round(sum(item.shots for item in flat) / len(flat), 3),
        "groups": {group: round(average(suite, values), 6) for group, values in in_group.items() if values},
        "subjects": {
            name: {"accuracy": round(sum(values) / len(values), 6), "questions": len(values)}
            for name, values in right.items()
        },
    }


def run_suite(
    engine: Engine,
    suite: str,
    data: Path,
    shots: int = 5,
    limit: int | None = None,
    *,
    pieces: Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """Measure a model on a suite.

    Args:
        engine: the model.
        suite: `ceval`, `cmmlu` or `mmlu`.
        data: folder or .zip of the suite's CSV files.
        shots: solved examples before each question, the first ones of the dev split.
        limit: at most this many questions, taken evenly over the subjects.
        pieces: a folder that keeps each finished subject, so that a killed run goes on from there.
        reporter: progress.

    Returns:
        The summary, and every prediction by subject in file order.

    Raises:
        HainaError: the suite is unknown, its files cannot be read, or a dev split has fewer than `shots`
            examples.
    """
    rules = load_suite(suite)
    questions = read_suite(rules, data)
    short = next((name for name, subject in questions.items() if len(subject.shots) < shots), None)
    if short is not None:
        raise HainaError(
            f"{rules.title}: {short} has {len(questions[short].shots)} solved examples, not {shots}",
            "ask for fewer shots",
        )
    chosen = choose(questions, limit)
    predictions: dict[str, list[Prediction]] = {}
    total = sum(map(len, chosen.values()))
    with (reporter or SilentProgress()).task(f"{rules.title}, {shots}-shot", total, "questions") as task:
        for subject, asked in chosen.items():
            piece = None if pieces is None else pieces / f"{subject}.json"
            if piece is not None and piece.exists():
                predictions[subject] = [
                    Prediction(a, p, s, tuple(values)) for a, p, s, values in read_json(piece)
                ]
            else:
                examples = questions[subject].shots[:shots]
                predictions[subject] = [
                    predict(engine, rules, subject, examples, question) for question in asked
                ]
                if piece is not None:
                    write_json(
                        piece,
                        [
                            [item.answer, item.predicted, item.shots, list(item.logprobs)]
                            for item in predictions[subject]
                        ],
                    )
            flat = [item for items in predictions.values() for item in items]
            task.advance(
                len(asked), f"accuracy {sum(item.predicted == item.answer for item in flat) / len(flat):.1%}"
            )
    return summarise(rules, shots, predictions), predictions
