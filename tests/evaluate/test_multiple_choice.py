from __future__ import annotations

import csv
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from haina.evaluate import run_suite
from haina.evaluate.multiple_choice import (
    Prediction,
    build_prompt,
    choose,
    ending_logprobs,
    fit,
    split_answers,
    standard_error,
    summarise,
)
from haina.evaluate.suite import LETTERS, Question, SubjectQuestions, load_suite, read_suite
from haina.inference import Engine
from haina.runtime.errors import HainaError

# The data folder stands beside the checkout.
BENCHMARKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
RIVER = Question("长江有多长？", ("1000公里", "6300公里", "{letter}", "不知道"), "B")
SEA = Question("Which is the largest sea?", ("Red Sea", "Black Sea", "{question}", "Philippine Sea"), "D")


def write_suite(folder: Path, name: str, questions: int) -> Path:
    """Files of suite `name` as its authors lay them out, with made-up questions."""
    rules = load_suite(name)
    for subject in rules.subjects:
        for pattern, count in ((rules.shots_file, 5), (rules.questions_file, questions)):
            path = folder / pattern.format(subject=subject)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if rules.header:
                    writer.writerow(sorted(map(str, rules.columns.values()), reverse=True))
                for number in range(count):
                    row = dict(zip("ABCD", ("甲", "b, c", "丙", "d"), strict=True))
                    row |= {"question": f"题{subject} {number}\n{{answer}}", "answer": LETTERS[number % 4]}
                    order = sorted(
                        rules.columns, key=lambda field: str(rules.columns[field]), reverse=rules.header
                    )
                    writer.writerow([row[field] for field in order])
    return folder


def test_official_prompts_character_by_character() -> None:
    assert build_prompt(load_suite("cmmlu"), "high_school_geography", [RIVER], SEA) == (
        "以下是关于高中地理的单项选择题，请直接给出正确答案的选项。\n\n"
        "题目：长江有多长？\nA. 1000公里\nB. 6300公里\nC. {letter}\nD. 不知道\n答案是：B\n\n"
        "题目：Which is the largest sea?\n"
        "A. Red Sea\nB. Black Sea\nC. {question}\nD. Philippine Sea\n答案是："
    )
    assert build_prompt(load_suite("ceval"), "high_school_geography", [RIVER], SEA) == (
        "以下是中国关于高中地理考试的单项选择题，请选出其中的正确答案。\n\n"
        "长江有多长？\nA. 1000公里\nB. 6300公里\nC. {letter}\nD. 不知道\n答案：B\n\n"
        "Which is the largest sea?\nA. Red Sea\nB. Black Sea\nC. {question}\nD. Philippine Sea\n答案："
    )
    # The two spaces before the subject are the authors' own.
    assert build_prompt(load_suite("mmlu"), "high_school_geography", [RIVER], SEA) == (
        "The following are multiple choice questions (with answers) about  high school geography.\n\n"
        "长江有多长？\nA. 1000公里\nB. 6300公里\nC. {letter}\nD. 不知道\nAnswer: B\n\n"
        "Which is the largest sea?\nA. Red Sea\nB. Black Sea\nC. {question}\nD. Philippine Sea\nAnswer:"
    )


def test_subjects_and_groups_have_their_official_sizes() -> None:
    def sizes(name: str) -> dict[str, int]:
        subjects = load_suite(name).subjects.values()
        names = sorted({group for subject in subjects for group in subject.groups})
        return {"all": len(subjects), **{name: sum(name in s.groups for s in subjects) for name in names}}

    assert sizes("ceval") == {
        "all": 52,
        "Hard": 8,
        "Humanities": 11,
        "Other": 11,
        "STEM": 20,
        "Social Science": 10,
    }
    assert sizes("cmmlu") == {
        "all": 67,
        "China specific": 15,
        "Humanities": 13,
        "Other": 15,
        "STEM": 17,
        "Social Science": 22,
    }
    assert sizes("mmlu") == {"all": 57, "Humanities": 13, "Other": 14, "STEM": 18, "Social Science": 12}
    with pytest.raises(HainaError, match="ceval, cmmlu, mmlu"):
        load_suite("agieval")


def test_letters_that_merge_with_what_stands_before_stay_distinct() -> None:
    # "：A" is one token, "：" + "B" are two: the id of "A" alone would never be produced after this prompt.
    vocabulary = {token: number for number, token in enumerate(["：", "A", "B", "C", "D", "：A", "题"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("：", "A")]))
    encoded = [tokenizer.encode("题：" + letter).ids for letter in LETTERS]
    shared, endings = split_answers(encoded)
    assert shared == [vocabulary["题"]]
    assert endings == [[5], [0, 2], [0, 3], [0, 4]]


def test_letters_that_share_an_id_are_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel(vocab={"[UNK]": 0, "Answer": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(HainaError, match="distinct"):
        split_answers([tokenizer.encode(f"Answer {letter}").ids for letter in LETTERS])
    with pytest.raises(HainaError, match="distinct"):
        split_answers([[1, 2], [1, 2, 3], [1, 4], [1, 5]])


def test_one_pass_gives_what_scoring_each_letter_gives(engine: Engine) -> None:
    for name, question in (("cmmlu", RIVER), ("mmlu", SEA)):
        suite = load_suite(name)
        fitted = fit(engine, suite, "marketing", [], question)
        assert fitted is not None
        _, sequences, shared = fitted
        assert len({tuple(sequence[:shared]) for sequence in sequences}) == 1
        assert engine.tokenizer.decode([sequence[-1] for sequence in sequences]) == "ABCD"
        one_by_one = [float(scores[-1]) for scores in engine.score(sequences)]
        assert ending_logprobs(engine, sequences, shared) == pytest.approx(one_by_one, abs=1e-5)
    # Endings of several tokens: the sum over the ending.
    sequences = [[0, 70, 80], [0, 70, 81, 90], [0, 70, 82], [0, 70, 83]]
    reference = [math.fsum(map(float, scores[1:])) for scores in engine.score(sequences)]
    assert ending_logprobs(engine, sequences, 2) == pytest.approx(reference)


def test_long_prompts_lose_whole_examples_from_the_far_end(engine: Engine) -> None:
    suite = load_suite("ceval")
    shots = [Question(f"{n}" * 60, ("a", "b", "c", "d"), "A") for n in range(5)]
    fitted = fit(engine, suite, "law", shots, RIVER)
    assert fitted is not None
    kept, sequences, shared = fitted
    assert 0 < kept < 5
    assert engine.tokenizer.decode(sequences[0][:shared]) == build_prompt(
        suite, "law", shots[5 - kept :], RIVER
    )
    assert len(sequences[0]) <= engine.context_length
    longer = build_prompt(suite, "law", shots[4 - kept :], RIVER)
    assert len(engine.tokenizer.encode(longer)) + 2 > engine.context_length
    assert fit(engine, suite, "law", shots, Question("长" * 200, ("a", "b", "c", "d"), "A")) is None


def predictions(*pairs: str) -> list[Prediction]:
    return [Prediction(pair[0], pair[1] if pair[1] != "-" else None, 5, ()) for pair in pairs]


def test_macro_and_micro_averages_and_baselines() -> None:
    answered = {"law": predictions("AA", "AB"), "logic": predictions("BB", "BB", "BB", "BA", "C-", "AA")}
    by_subject = summarise(load_suite("ceval"), 5, answered)
    assert by_subject["accuracy"] == pytest.approx((1 / 2 + 4 / 6) / 2, abs=1e-6)
    assert by_subject["constant_answer"] == pytest.approx(
        {"A": (1 + 1 / 6) / 2, "B": (0 + 4 / 6) / 2, "C": 1 / 12, "D": 0}, abs=1e-6
    )
    assert by_subject["answer_histogram"] == {"A": 3, "B": 4, "C": 0, "D": 0}
    assert (by_subject["skipped"], by_subject["questions"]) == (1, 8)
    assert by_subject["groups"] == {"Humanities": by_subject["accuracy"]}
    micro = summarise(load_suite("mmlu"), 5, {"marketing": answered["law"], "philosophy": answered["logic"]})
    assert micro["accuracy"] == 5 / 8
    assert micro["standard_error"] == pytest.approx(math.sqrt(5 / 8 * 3 / 8 / 7), abs=1e-6)
    assert summarise(load_suite("ceval"), 5, {"law": predictions("AA")})["standard_error"] is None


def test_standard_error_of_the_macro_average_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(3)
    suite = load_suite("cmmlu")
    draws = []
    errors = []
    for _ in range(400):
        right = {"law": list(rng.random(40) < 0.3), "arts": list(rng.random(200) < 0.7)}
        draws.append((np.mean(right["law"]) + np.mean(right["arts"])) / 2)
        errors.append(standard_error(suite, right))
    assert np.mean(errors) == pytest.approx(np.std(draws), rel=0.1)


def test_limit_is_spread_over_the_subjects() -> None:
    asked = {name: SubjectQuestions((), (RIVER,) * count) for name, count in (("a", 5), ("b", 1), ("c", 3))}
    assert {name: len(chosen) for name, chosen in choose(asked, 6).items()} == {"a": 3, "b": 1, "c": 2}
    assert {name: len(chosen) for name, chosen in choose(asked, 2).items()} == {"a": 1, "b": 1}
    assert sum(map(len, choose(asked, None).values())) == 9 == sum(map(len, choose(asked, 100).values()))


@pytest.mark.parametrize("name", ["ceval", "cmmlu", "mmlu"])
def test_folder_and_zip_give_the_same_answers_twice(engine: Engine, tmp_path: Path, name: str) -> None:
    folder = write_suite(tmp_path / "data", name, questions=1)
    archive = tmp_path / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.csv")):
            file.write(path, f"some/root/{path.relative_to(folder)}")
    first = run_suite(engine, name, folder, 1, 12)
    assert first == run_suite(engine, name, archive, 1, 12)
    summary, answered = first
    assert summary["questions"] == 12
    assert sum(summary["answer_histogram"].values()) == 12
    assert {item.answer for items in answered.values() for item in items} == {"A"}
    assert summary["constant_answer"]["A"] == 1.0
    right = [item.predicted == "A" for items in answered.values() for item in items]
    assert summary["accuracy"] == pytest.approx(sum(right) / 12, abs=1e-6)


def test_a_killed_run_goes_on_from_its_pieces(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_suite(tmp_path / "data", "ceval", questions=1)
    whole = run_suite(engine, "ceval", data, 0, 12, pieces=tmp_path / "whole")
    asked = []
    import haina.evaluate.multiple_choice as module

    def dying(*arguments: object) -> tuple[float, ...]:
        asked.append(arguments)
        if len(asked) == 8:
            raise KeyboardInterrupt
        return ending_logprobs(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "ending_logprobs", dying)
    with pytest.raises(KeyboardInterrupt):
        run_suite(engine, "ceval", data, 0, 12, pieces=tmp_path / "killed")
    asked.clear()
    assert run_suite(engine, "ceval", data, 0, 12, pieces=tmp_path / "killed") == whole
    assert len(asked) == 12 - 7


def test_bad_files_are_named(engine: Engine, tmp_path: Path) -> None:
    data = write_suite(tmp_path / "data", "ceval", questions=1)
    law = data / "val" / "law_val.csv"
    good = law.read_text(encoding="utf-8")
    for content, words in [
        (good.replace("question", "frage"), "no column 'question'"),
        (good.rsplit(",", 2)[0] + "\n", "row 2"),
        (good.replace(",B,A\n", ",B,X\n", 1), "no column 'A'"),
        ("", "no column"),
    ]:
        law.write_text(content, encoding="utf-8")
        with pytest.raises(HainaError, match=words) as caught:
            run_suite(engine, "ceval", data, 0)
        assert "law_val.csv" in str(caught.value)
    law.unlink()
    with pytest.raises(HainaError, match=r"no val/law_val\.csv"):
        run_suite(engine, "ceval", data, 0)
    (tmp_path / "not.zip").write_bytes(b"PK")
    with pytest.raises(HainaError, match="neither a folder nor"):
        run_suite(engine, "ceval", tmp_path / "not.zip")
    with pytest.raises(HainaError, match="no such file"):
        run_suite(engine, "ceval", tmp_path / "absent")


@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "expected"), [("ceval", 1346), ("cmmlu", 11582), ("mmlu", 14042)])
def test_published_files_parse_completely(name: str, expected: int) -> None:
    path = BENCHMARKS / f"{name}.zip"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    questions = read_suite(load_suite(name), path)
    assert sum(len(subject.questions) for subject in questions.values()) == expected
    assert {len(subject.shots) for subject in questions.values()} == {5}
    assert all(question.text for subject in questions.values() for question in subject.questions)
