"""`haina tokenizer compare` from files to table, JSON and page."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from typer.testing import CliRunner

from haina.cli.tokenizer_compare import compare as command
from haina.runtime.errors import HainaError
from haina.runtime.progress import SilentProgress
from haina.tokenizer.compare import compare, compress_rate
from haina.tokenizer.compare_report import figures, render
from haina.tokenizer.measure import Counts
from haina.tokenizer.samples import LONGEST_BYTES, order_of, read_samples
from haina.tokenizer.vocabularies import open_vocabulary

CHINESE = ["海纳百川，有容乃大。", "我们读书，也写程序。", "繁體中文與簡體中文", "今天天气很好，我们去公园。"]
ENGLISH = ["the sea takes in all rivers", "we read books and write programs", "today is a fine day"]


def rows(count: int, lang: str, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    words = CHINESE if lang.startswith("zh") else ENGLISH
    return [
        {
            "id": f"{lang}-{number}",
            "lang": lang,
            "text": " ".join(rng.choices(words, k=rng.randrange(1, 9))) + f" {number}",
        }
        for number in range(count)
    ]


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: Any) -> list[Path]:
    """A byte-level tokenizer learnt from the texts, and one of bytes alone."""
    folders = []
    for name, size in (("learnt", 340), ("bytes", 256)):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(CHINESE + ENGLISH, trainer)
        folder = tmp_path_factory.mktemp("vocabularies") / name
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        folders.append(folder)
    return folders


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    zh = rows(40, "zh-Hans") + rows(10, "zh-Hant", 1)
    return [write(tmp_path / "zh.parquet", zh), write(tmp_path / "en.parquet", rows(40, "en"))]


@pytest.fixture
def run() -> Callable[..., tuple[int, str]]:
    app = typer.Typer()
    app.command()(command)

    def invoke(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    return invoke


def test_json_adds_up(
    texts: list[Path], vocabularies: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    _, output = run(*texts, "--with", vocabularies[0], "--with", f"plain={vocabularies[1]}", "--json")
    found = json.loads(output)
    assert [row["name"] for row in found["vocabularies"]] == ["learnt", "plain"]
    assert [(row["name"], row["documents"]) for row in found["texts"]] == [("zh", 50), ("en", 40)]
    by_key = {(row["text"], row["language"], row["vocabulary"]): row for row in found["results"]}
    # zh, en, all files: each with its languages and their sum, for both vocabularies
    assert {key[:2] for key in by_key} == {
        *(("zh", language) for language in ("zh", "all")),
        *(("en", language) for language in ("en", "all")),
        *(("all", language) for language in ("zh", "en", "all")),
    }
    for name in ("learnt", "plain"):
        total = by_key["all", "all", name]
        parts = [by_key["all", language, name] for language in ("zh", "en")]
        for key in ("documents", "bytes", "characters", "tokens", "differing_documents"):
            assert total[key] == sum(part[key] for part in parts)
        assert total["bytes_per_token"] == round(total["bytes"] / total["tokens"], 4)
        assert total["differing_documents"] == 0
        assert total["megabytes_per_second"] > 0
    assert by_key["all", "all", "plain"]["bytes_per_token"] == 1.0
    zh = by_key["zh", "zh", "plain"]
    assert zh["bytes"] == sum(len(row["text"].encode()) for row in rows(40, "zh") + rows(10, "zh", 1))
    assert by_key["en", "en", "learnt"]["bytes_per_token"] > 2
    scripts = {row["script"]: row for row in found["vocabularies"][1]["by_script"]}
    assert scripts["Latin"]["pieces"] == 52
    assert scripts["bytes and parts of characters"]["pieces"] == 128
    assert sum(row["token_share"] for row in scripts.values()) == pytest.approx(1, abs=1e-3)
    assert found["vocabularies"][1]["used"] == sum(row["used"] for row in scripts.values())
    assert found["vocabularies"][0]["compress_rate"] < found["vocabularies"][1]["compress_rate"]


def test_everything_but_the_speed_is_the_same_each_time(texts: list[Path], vocabularies: list[Path]) -> None:
    def once() -> dict[str, Any]:
        samples = read_samples(texts, 2000, SilentProgress())
        found = compare(samples, [open_vocabulary(vocabularies[0])], SilentProgress()).as_dict()
        for row in found["results"]:
            del row["megabytes_per_second"]
        return found

    assert once() == once()


def test_table_for_people(
    texts: list[Path], vocabularies: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    code, output = run(texts[0], "--with", vocabularies[0], "--sample", 1)
    assert code == 0
    assert re.search(r"zh, zh", output)
    assert re.search(r"learnt +\d\.\d{3} +\d\.\d{3} +0\.000% ", output)
    assert "0 of 50" in output
    assert "zh: 50 of 50 documents" in output


def test_page(
    texts: list[Path], vocabularies: list[Path], tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    page = tmp_path / "page.html"
    run(*texts, "--with", f"<b>&={vocabularies[0]}", "--with", vocabularies[1], "--html", page)
    source = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;" in source
    assert "<td><b>" not in source
    assert not re.search(r'(?:src|href)\s*=\s*"https?:', source.split("<script>")[0])
    (embedded,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', source, re.S)
    assert not set("<>&") & set(embedded)
    found = json.loads(embedded)
    assert set(found) == {"rate-0", "rate-1", "speed-0", "speed-1", "scripts"}
    assert all(f'id="{name}"' in source for name in found)
    (bars,) = found["rate-0"]["data"]
    assert bars["y"] == ["<b>&", "bytes"]
    assert bars["x"][1] == 1.0
    assert "zh · zh" in source


def test_languages_in_several_files_get_a_panel_of_their_own(
    texts: list[Path], vocabularies: list[Path], tmp_path: Path
) -> None:
    more = write(tmp_path / "more.parquet", rows(5, "en", 3))
    samples = read_samples([*texts, more], 10**6, SilentProgress())
    found = compare(samples, [open_vocabulary(vocabularies[0])], SilentProgress()).as_dict()
    titles = [title for title, _ in figures(found).values()]
    assert titles.count("all files · en") == 2  # compression, speed
    assert titles.count("all files · zh") == 1  # speed
    assert "more · en" in titles
    assert render(found).count("more.parquet") == 1


# samples


def test_sample_is_the_smallest_hashes_whatever_the_order(tmp_path: Path) -> None:
    table = rows(200, "en")
    chosen = []
    for seed in range(3):
        random.Random(seed).shuffle(table)
        (sample,) = read_samples([write(tmp_path / f"x{seed}.parquet", table)], 3000, SilentProgress())
        chosen.append(sorted(sample.documents))
        assert sample.read == 200
        assert 2000 < sample.bytes <= 3000
        assert sample.read_bytes == sum(len(row["text"].encode()) for row in table)
    assert chosen[0] == chosen[1] == chosen[2]
    ranked = sorted(table, key=lambda row: order_of(row["id"]))
    expected, size = [], 0
    for row in ranked:
        size += len(row["text"].encode())
        if size > 3000:
            break
        expected.append(("en", row["text"]))
    assert chosen[0] == sorted(expected)


def test_sample_of_one_byte_is_one_document(tmp_path: Path) -> None:
    (sample,) = read_samples([write(tmp_path / "x.parquet", rows(20, "zh"))], 1, SilentProgress())
    assert len(sample.documents) == 1


def test_a_very_long_document_is_shortened_at_a_character(tmp_path: Path) -> None:
    long = "海纳百川" * (LONGEST_BYTES // 12 + 5)
    table = [{"id": "1", "lang": "zh", "text": long}]
    (sample,) = read_samples([write(tmp_path / "x.parquet", table)], 10, SilentProgress())
    ((_, text),) = sample.documents
    assert long.startswith(text)
    assert LONGEST_BYTES - 3 < len(text.encode()) <= LONGEST_BYTES
    assert sample.shortened == 1


def test_bad_rows_are_counted_with_their_reason(
    tmp_path: Path, vocabularies: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    path = tmp_path / "x.jsonl"
    lines = [b'{"text": "good \xe6\xb5\xb7"}', b"{broken", b'{"text": "\xff"}', b'{"no": 1}', b'{"text": ""}']
    path.write_bytes(b"\n".join(lines))
    _, output = run(path, "--with", vocabularies[0], "--json")
    (text,) = json.loads(output)["texts"]
    assert (text["documents"], text["measured_documents"]) == (1, 1)
    assert text["bad_rows"] == {"empty": 1, "invalid-json": 1, "missing-text": 1, "not-utf8": 1}
    _, output = run(path, "--with", vocabularies[0], "--language", "zh")
    assert "4 rows are no documents (1 empty, 1 invalid-json, 1 missing-text, 1 not-utf8)" in output
    assert "x, zh" in output


def test_languages_come_from_the_column_or_from_the_option(tmp_path: Path) -> None:
    table = [*rows(2, "en"), *rows(2, "zh-Hant"), {"id": "n", "lang": None, "text": "?"}, *rows(1, "fr")]
    path = write(tmp_path / "x.parquet", table)
    (sample,) = read_samples([path], 10**6, SilentProgress())
    assert {language: len(texts) for language, texts in sample.by_language().items()} == {
        "en": 2,
        "zh": 2,
        "fr": 1,
        "unlabelled": 1,
    }
    (sample,) = read_samples([path], 10**6, SilentProgress(), "en")
    assert list(sample.by_language()) == ["en"]


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "x.parquet", rows(2, "en")))
    first, second = read_samples(paths, 1000, SilentProgress())
    assert (first.name, second.name) == ("a/x.parquet", "b/x.parquet")


def test_errors(
    tmp_path: Path, vocabularies: list[Path], texts: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    with pytest.raises(HainaError, match="no such file"):
        run(tmp_path / "absent.parquet", "--with", vocabularies[0])
    with pytest.raises(HainaError, match="no such file"):
        run(texts[0], "--with", tmp_path / "absent.model")
    with pytest.raises(HainaError, match="not of the form NAME=PATTERN"):
        run(texts[0], "--with", vocabularies[0], "--pattern", "lonely")
    with pytest.raises(HainaError, match=r"empty\.parquet: no text in it"):
        run(write(tmp_path / "empty.parquet", [{"id": "1", "text": ""}]), "--with", vocabularies[0])
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(texts[0].read_bytes()[:-20])
    with pytest.raises(HainaError, match=r"cut\.parquet"):
        run(cut, "--with", vocabularies[0])
    with pytest.raises(HainaError, match="no vocabulary"):
        compare(read_samples(texts, 100, SilentProgress()), [], SilentProgress())
    assert run(texts[0])[0] == 2  # --with is needed


def test_compress_rate_weighs_nine_to_one_by_bytes() -> None:
    chinese = Counts(bytes=300, characters=100, tokens=60)
    english = Counts(bytes=500, characters=500, tokens=100)
    # In 1,000 bytes: 900 Chinese, 300 characters and 180 tokens; 100 English, 100 characters and 20 tokens.
    assert compress_rate(chinese, english) == round(200 / 400, 4)
    assert compress_rate(chinese, Counts()) is None
