"""The stage from files to files: budget, evidence, independence of order and workers, hostile input."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from tests.corpus.selection.pools import chosen, dropped, make_rows, select_from, write_rows
from typer.testing import CliRunner

from haina.cli.select import select
from haina.runtime.errors import HainaError

NUMBERS = ("quality", "diversity", "frequency", "weight", "probability", "draw", "tokens")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("one")
    source = write_rows(make_rows(2000), folder / "in.parquet")
    return select_from([source], folder / "work", tokens=100_000)


def test_every_document_is_taken_or_dropped_once(one: dict[str, Any]) -> None:
    taken, left = chosen(one), dropped(one)
    assert set(taken) | set(left) == {f"document-{number}" for number in range(2000)}
    assert not set(taken) & set(left)
    assert one["documents_in"] == 2000 == len(taken) + len(left)
    assert (one["documents_out"], one["dropped"]) == (len(taken), len(left))


def test_columns_explain_every_choice(one: dict[str, Any]) -> None:
    scales = {language: row["scale"] for language, row in one["by_language"].items()}
    for taken, rows in ((True, chosen(one)), (False, dropped(one))):
        for row in rows.values():
            values = {name: row[f"select.{name}"] for name in NUMBERS}
            weight = values["quality"] * values["diversity"] * values["frequency"]
            assert values["weight"] == pytest.approx(weight, rel=1e-12)
            scale = scales["en" if row["lang"] == "en" else "zh"]
            assert values["probability"] == pytest.approx(min(1.0, scale * values["weight"]), rel=1e-12)
            assert 0.0 <= values["probability"] <= 1.0
            assert 0.0 < values["draw"] < 1.0
            assert (values["draw"] < values["probability"]) is taken
            if not taken:
                assert (row["stage"], row["reason"]) == ("select", "not-drawn")
                assert f"{values['draw']:.6g} >= probability {values['probability']:.6g}" in row["evidence"]


def test_the_budget_is_met_within_one_document_a_language(one: dict[str, Any]) -> None:
    rows = [*chosen(one).values(), *dropped(one).values()]
    for language, found in one["by_language"].items():
        largest = max(row["select.tokens"] for row in rows if row["lang"][:2] == language)
        assert 0 <= found["budget"] - found["tokens_out"] < largest
    assert sum(row["budget"] for row in one["by_language"].values()) == 100_000
    assert one["tokens_out"] == sum(row["select.tokens"] for row in chosen(one).values())


def test_better_and_rarer_documents_are_preferred(one: dict[str, Any]) -> None:
    for row in one["by_language"].values():
        assert row["quality_out"] > row["quality_in"] + 0.05
        assert row["copied_out"] / row["documents_out"] < row["copied_in"] / row["documents_in"]
        assert 0 < row["effective_documents"] < row["documents_in"]


def test_all_columns_stay(one: dict[str, Any], tmp_path: Path) -> None:
    originals = {row["id"]: row for row in make_rows(2000)}
    for identity, row in chosen(one).items():
        assert {name: row[name] for name in originals[identity]} == originals[identity]


def test_selecting_again_replaces_the_columns(one: dict[str, Any], tmp_path: Path) -> None:
    again = select_from([one["folder"] / "documents"], tmp_path / "work", tokens=20_000)
    assert len(chosen(again)) < one["documents_out"]
    names = pq.read_schema(next((again["folder"] / "documents").glob("*.parquet"))).names
    assert len(names) == len(set(names))


def test_a_larger_budget_adds_documents(one: dict[str, Any], tmp_path: Path) -> None:
    source = write_rows(make_rows(2000), tmp_path / "in.parquet")
    more = select_from([source], tmp_path / "work", tokens=200_000)
    assert set(chosen(one)) < set(chosen(more))


def test_another_seed_draws_other_documents(one: dict[str, Any], tmp_path: Path) -> None:
    source = write_rows(make_rows(2000), tmp_path / "in.parquet")
    other = select_from([source], tmp_path / "work", tokens=100_000, seed=1)
    assert set(chosen(one)) != set(chosen(other))
    assert other["tokens_out"] == pytest.approx(one["tokens_out"], rel=0.1)


def test_order_and_files_of_the_input_change_nothing(one: dict[str, Any], tmp_path: Path) -> None:
    rows = make_rows(2000)
    random.Random(3).shuffle(rows)
    parts = [write_rows(rows[start::3], tmp_path / "in" / f"{start}.parquet") for start in range(3)]
    found = select_from(parts[::-1], tmp_path / "work", tokens=100_000, block_bytes=4096)
    assert chosen(found) == chosen(one)
    assert dropped(found) == dropped(one)
    for name in ("by_language", "by_source", "tokens_out"):
        assert found[name] == one[name]


def test_workers_change_no_byte(tmp_path: Path) -> None:
    source = write_rows(make_rows(600), tmp_path / "in.parquet")
    folders = [
        select_from([source], tmp_path / str(workers), workers=workers, tokens=30_000, block_bytes=4096)[
            "folder"
        ]
        for workers in (1, 2)
    ]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1]
    assert len(files[0]) > 4
    for name in files[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_chinese_and_english_are_treated_alike(tmp_path: Path) -> None:
    rows = make_rows(3000, languages=("en",))
    for row in rows:
        # 7 tokens of English, 20 of Chinese: nothing is rounded.
        row["signal.characters"] = 28 * (1 + row["signal.characters"] // 28)
    twins = [{**row, "id": f"twin-{row['id']}", "lang": "zh-Hant"} for row in rows]
    for row in twins:
        row["cluster_id"] = row["cluster_id"] and f"twin-{row['cluster_id']}"
    source = write_rows([*rows, *twins], tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=400_000, shares={"zh": 0.5})
    every = {**chosen(found), **dropped(found)}
    for row in rows:
        one, other = every[row["id"]], every[f"twin-{row['id']}"]
        for name in ("quality", "frequency"):
            assert one[f"select.{name}"] == other[f"select.{name}"]
        assert one["select.diversity"] == pytest.approx(other["select.diversity"], rel=1e-9)
    by_language = found["by_language"]
    for name in by_language:
        assert by_language[name]["tokens_out"] == pytest.approx(200_000, rel=0.02)
    assert by_language["zh"]["quality_out"] == pytest.approx(by_language["en"]["quality_out"], abs=0.03)


def test_shares_follow_the_request_and_the_rest_goes_by_weight(tmp_path: Path) -> None:
    source = write_rows(make_rows(3000, languages=("zh", "en", "fr")), tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=300_000, shares={"zh": 0.6})["by_language"]
    assert found["zh"]["budget"] == 180_000
    assert found["en"]["budget"] + found["fr"]["budget"] == 120_000
    assert found["en"]["scale"] == pytest.approx(found["fr"]["scale"], rel=0.3)


def test_a_share_beyond_the_corpus_goes_to_the_others_with_a_note(tmp_path: Path) -> None:
    rows = make_rows(400)
    source = write_rows([row for row in rows if row["lang"] == "en"] + rows[:1], tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=20_000, shares={"zh": 0.9})
    assert found["by_language"]["zh"]["scale"] is None
    assert "all are taken" in found["notes"][0]
    assert 19_000 < found["tokens_out"] <= 20_000


def test_a_budget_beyond_the_corpus_takes_everything_with_a_note(tmp_path: Path) -> None:
    rows = make_rows(50)
    rows[3]["score.quality"] = 0.0
    source = write_rows(rows, tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=10**12)
    assert len(chosen(found)) == 50
    assert not dropped(found)
    assert "everything is taken" in found["notes"][0]


def test_what_is_not_there_takes_no_part_and_is_named(tmp_path: Path) -> None:
    kept = ("id", "text", "lang", "signal.characters", "signal.compression_ratio", "signal.unique_word_share",
            "signal.digit_share", "signal.stop_word_share", "score.quality")  # fmt: skip
    rows = [{name: row[name] for name in kept} for row in make_rows(300)]
    found = select_from([write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", tokens=9_000)
    named = " ".join(found["absent"])
    assert all(name in named for name in ("cluster_id", "duplicate_count", "--clusters"))
    assert found["measured_now"] == []
    assert {row["select.frequency"] for row in chosen(found).values()} == {1.0}


def test_unknown_quality_counts_as_the_median(tmp_path: Path) -> None:
    rows = make_rows(400, languages=("en",))
    for number, row in enumerate(rows):
        row["score.quality"] = (0.2, 0.5, 0.8, None, math.nan)[number % 5]
    found = select_from([write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", tokens=9_000)
    every = {**chosen(found), **dropped(found)}
    by_quality = Counter(round(math.sqrt(row["select.quality"]), 2) for row in every.values())
    assert by_quality == {0.2: 80, 0.5: 240, 0.8: 80}


@pytest.mark.parametrize(
    "name", ["score.quality", "cluster_id", "duplicate_count", "source", "signal.digit_share"]
)
def test_null_columns_are_like_none(name: str, tmp_path: Path) -> None:
    rows = [{**row, name: None} for row in make_rows(200)]
    table = pa.Table.from_pylist(rows)
    assert pa.types.is_null(table.schema.field(name).type)
    found = select_from([write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", tokens=9_000)
    assert 7_000 < found["tokens_out"] <= 9_000


def test_documents_without_text_are_dropped_for_it(tmp_path: Path) -> None:
    rows = make_rows(100)
    rows[7] |= {"text": "", "signal.characters": 0}
    found = select_from([write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", tokens=10**9)
    assert {identity: row["reason"] for identity, row in dropped(found).items()} == {"document-7": "no-text"}


def refused(rows: list[dict[str, Any]], tmp_path: Path, **settings: Any) -> str:
    with pytest.raises(HainaError) as caught:
        select_from(
            [write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", **{"tokens": 1000, **settings}
        )
    return str(caught.value)


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    rows = make_rows(30)
    rows[20]["id"] = rows[4]["id"]
    assert "'document-4' stands twice" in refused(rows, tmp_path)


def test_an_id_in_two_files_names_both(tmp_path: Path) -> None:
    parts = [write_rows(make_rows(5), tmp_path / f"{name}.parquet") for name in "ab"]
    with pytest.raises(HainaError, match=r"a\.parquet and in .*b\.parquet"):
        select_from(parts, tmp_path / "work", tokens=1000)


def test_a_document_without_id_is_refused(tmp_path: Path) -> None:
    rows = make_rows(30)
    rows[2]["id"] = None
    assert "has no `id`" in refused(rows, tmp_path)


def test_quality_on_another_scale_is_refused(tmp_path: Path) -> None:
    rows = make_rows(30)
    rows[2]["score.quality"] = 4.2
    assert "holds 4.2, not 0 to 1" in refused(rows, tmp_path)


def test_a_column_of_another_kind_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "score.quality": "good"} for row in make_rows(30)]
    assert "`score.quality` holds string" in refused(rows, tmp_path)


def test_tables_without_rows_or_text_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(make_rows(3))
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(HainaError, match="no documents"):
        select_from([tmp_path / "empty.parquet"], tmp_path / "work", tokens=1000)
    silent = [{**row, "text": "", "signal.characters": 0} for row in make_rows(3)]
    assert "no document holds text" in refused(silent, tmp_path)


def test_a_share_for_a_language_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "--share de: no document" in refused(make_rows(30), tmp_path, shares={"de": 0.5})
    assert "no other language" in refused(make_rows(30), tmp_path / "2", shares={"zh": 0.2, "en": 0.2})


def write_clusters(rows: list[dict[str, Any]], folder: Path) -> Path:
    """Tables as `haina cluster` writes them, in two parts and another order than the documents."""
    table = [
        {
            "id": row["id"],
            "topic": number % 4,
            "cluster": number % 9,
            "duplicate_of": "document-1" if number % 10 == 2 else None,
            "similarity": 0.97 if number % 10 == 2 else None,
        }
        for number, row in enumerate(rows)
    ][::-1]
    schema = pa.schema(
        [("id", pa.string()), ("topic", pa.int32()), ("cluster", pa.int32()), ("duplicate_of", pa.string()),
         ("similarity", pa.float32())]
    )  # fmt: skip
    (folder / "clusters").mkdir(parents=True)
    for part in range(2):
        path = folder / "clusters" / f"part-{part:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(table[part::2], schema), path)
    return folder


def test_topics_are_joined_and_near_duplicates_by_meaning_dropped(tmp_path: Path) -> None:
    rows = make_rows(2000)
    clusters = write_clusters(rows[:1900], tmp_path / "topics")
    source = write_rows(rows, tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=10**9, clusters=clusters, block_bytes=4096)
    reasons = {identity: (row["reason"], row["evidence"]) for identity, row in dropped(found).items()}
    assert reasons == {
        f"document-{number}": ("similar-meaning", "document-1 0.9700") for number in range(2, 1900, 10)
    }
    assert found["topics_out"] == 4
    assert found["without_topic"] == 100
    assert sum(row["documents_in"] for row in found["by_topic"].values()) == 1900
    assert any("100 of 2,000 documents are not in the tables" in line for line in found["absent"])


def test_folders_without_tables_are_refused(tmp_path: Path) -> None:
    source = write_rows(make_rows(10), tmp_path / "in.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HainaError, match="haina cluster"):
        select_from([source], tmp_path / "work", tokens=1000, clusters=tmp_path / "empty")
    write_rows(make_rows(3), tmp_path / "other" / "part-00000.parquet")
    with pytest.raises(HainaError, match="no columns `id` and `topic`"):
        select_from([source], tmp_path / "work2", tokens=1000, clusters=tmp_path / "other")


def test_a_tokenizer_counts_the_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    (tmp_path / "bytes").mkdir()
    tokenizer.save(str(tmp_path / "bytes" / "tokenizer.json"))
    source = write_rows(make_rows(40), tmp_path / "in.parquet")
    found = select_from([source], tmp_path / "work", tokens=10**6, tokenizer=tmp_path / "bytes")
    assert found["tokens_counted_by"] == "tokenizer"
    for row in chosen(found).values():
        assert row["select.tokens"] == len(row["text"].encode())


@pytest.mark.slow
def test_what_has_no_column_is_measured_from_the_text(tmp_path: Path) -> None:
    good = (
        "The library opens at nine, and readers may borrow up to five books for a month. 图书馆早上九点开门。"
    )
    rows = [{"id": f"good-{number}", "text": f"{good} {number} times a year." * 2} for number in range(60)]
    rows += [
        {"id": f"bad-{number}", "text": "click here | buy now!!! " * 9 + str(number)} for number in range(60)
    ]
    found = select_from([write_rows(rows, tmp_path / "in.parquet")], tmp_path / "work", tokens=1500)
    assert {"lang", "score.quality", "signal.characters"} <= set(found["measured_now"])
    taken = Counter(identity.split("-")[0] for identity in chosen(found))
    assert taken["good"] > 4 * taken["bad"]


def test_the_command_prints_what_was_taken(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(select)
    source = write_rows(make_rows(300), tmp_path / "in.parquet")
    arguments = [str(source), "--out", str(tmp_path / "out"), "--tokens", "9k", "--share", "zh=0.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "mean quality" in result.output
    assert "note: duplicate" not in result.output
    assert (tmp_path / "out" / "summary.json").exists()
    nothing = CliRunner().invoke(app, [str(source), "--out", str(tmp_path / "none"), "--tokens", "0"])
    assert isinstance(nothing.exception, HainaError)
    assert "must be 1 to 1000T" in str(nothing.exception)
