"""Removal over a corpus: nothing is lost silently, the first occurrence stays whole, and the folder tells the truth."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.edits import Edit, apply
from haina.corpus.repeats.apply import merged
from haina.corpus.repeats.config import LEVELS, Level, RepeatsConfig
from haina.corpus.repeats.run import run_repeats
from haina.corpus.repeats.units import units
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor

from .plain import Documents, tokens_plain, write_parts

spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=8
)


@settings(max_examples=200)
@given(spans)
def test_merged_spans_are_the_same_places(given_spans: list[tuple[int, int]]) -> None:
    out = merged(given_spans)
    assert {place for start, end in out for place in range(start, end)} == {
        place for start, end in given_spans for place in range(start, end)
    }
    assert all(first[1] < second[0] for first, second in itertools.pairwise(out))


def corpus(seed: int, count: int = 30) -> Documents:
    """Documents of sentences in lines and paragraphs, many of them said by others too; two say nothing of their own."""
    choose = random.Random(seed)

    def sentence() -> str:
        if choose.random() < 0.5:
            return (
                "".join(chr(0x4E00 + choose.randrange(2000)) for _ in range(choose.randrange(12, 30))) + "。"
            )
        return (
            " ".join("".join(choose.choices("abcdefgh", k=5)) for _ in range(choose.randrange(12, 20))) + ". "
        )

    common = [sentence() for _ in range(8)]
    documents = []
    for number in range(count):
        own = [choose.choice(common) if choose.random() < 0.4 else sentence() for _ in range(12)]
        documents.append(
            (f"文{number}", "".join(part + choose.choice(["", "\n", "\n\n"]) for part in own).strip())
        )
    return [*documents, ("copy", "\n\n".join(common)), ("again", "\n\n".join(common)), ("空", "")]


def run(folder: Path, paths: list[Path], config: RepeatsConfig, removal: bool = True) -> dict[str, Any]:
    with LocalExecutor() as executor:
        return run_repeats(executor, paths, config, folder / "out", removal=removal)


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((folder / "out" / name).glob("part-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("keep", ["first", "none"])
@pytest.mark.parametrize("level", LEVELS)
def test_what_goes_in_comes_out_or_is_told(level: Level, keep: Any, tmp_path: Path) -> None:
    documents = corpus(1)
    paths = write_parts(tmp_path, documents, 3, score=[float(i) for i in range(len(documents))])
    config = RepeatsConfig(level=level, min_documents=2, min_tokens=10, keep=keep)
    summary = run(tmp_path, paths, config)
    kept, dropped, edits = (table(tmp_path, name) for name in ("documents", "dropped", "edits"))
    assert summary["documents"] == len(documents) == len(kept) + len(dropped)
    assert (summary["documents_out"], summary["dropped"], summary["edits"]) == (
        len(kept),
        len(dropped),
        len(edits),
    )
    before = dict(documents)
    assert {row["id"] for row in kept} | {row["id"] for row in dropped} == set(before)
    assert [row["id"] for row in kept] == [
        name for name, _ in documents if name in {row["id"] for row in kept}
    ]
    assert {row["score"]: row["id"] for row in kept}.items() <= {
        float(i): n for i, (n, _) in enumerate(documents)
    }.items()
    by_id: dict[str, list[Edit]] = {}
    for row in edits:
        by_id.setdefault(row.pop("id"), []).append(Edit(**row))
    assert by_id
    for row in kept:
        assert apply(before[row["id"]], by_id.get(row["id"], [])) == row["text"]
    assert {row["id"] for row in dropped} & {"copy", "again"}
    assert all(
        (row["stage"], row["reason"]) == ("repeats", "nothing-left") and row["evidence"] for row in dropped
    )
    assert (
        summary["removed_bytes"] == sum(edit.end - edit.start for own in by_id.values() for edit in own) > 0
    )

    if level == "substring":
        return
    # A unit that has to go stands in one place now, or nowhere.
    counts: dict[tuple[int, ...], set[str]] = {}
    for name, text in documents:
        raw = text.encode()
        for start, end in units(text, level):
            counts.setdefault(tuple(tokens_plain(raw[start:end].decode())[0]), set()).add(name)
    boilerplate = {key for key, names in counts.items() if len(names) >= 2 and len(key) >= 10}
    assert boilerplate
    left: list[tuple[int, ...]] = []
    for row in kept:
        raw = row["text"].encode()
        left += [tuple(tokens_plain(raw[start:end].decode())[0]) for start, end in units(row["text"], level)]
    if level != "paragraph":  # what is left of one may be lines now
        assert all(left.count(key) == (keep == "first") for key in boilerplate)
    assert {key for key in left if key not in boilerplate} <= {
        key for key in counts if key not in boilerplate
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_removed_token_stays_where_its_evidence_leads(seed: int, tmp_path: Path) -> None:
    choose = random.Random(seed)
    documents = [
        (
            f"d{number}",
            "".join(choose.choices("甲乙丙", weights=(9, 3, 1), k=choose.randrange(90)))
            + "，" * (number % 2),
        )
        for number in range(25)
    ]
    documents.append(("period", "甲乙丙丁戊" * 30))
    run(tmp_path, write_parts(tmp_path, documents, 2), RepeatsConfig(level="substring", min_tokens=8))
    raw = {name: text.encode() for name, text in documents}
    kept = {name: bytearray(b"\1") * len(text) for name, text in raw.items()}
    for row in table(tmp_path, "edits"):
        kept[row["id"]][row["start"] : row["end"]] = bytes(row["end"] - row["start"])
    for row in table(tmp_path, "dropped"):
        kept[row["id"]][:] = bytes(len(kept[row["id"]]))
    rows = [row for row in table(tmp_path, "repeats") if not row["is_first"]]
    over: dict[tuple[str, int], tuple[str, int]] = {}
    for row in rows:
        for place in range(row["start"], row["end"], 3):  # Han characters of three bytes, no marks inside
            over[row["id"], place] = row["first_id"], row["first_start"] + place - row["start"]
    removed = [
        (name, place) for name in raw for place in range(0, len(raw[name]), 3) if not kept[name][place]
    ]
    removed = [(name, place) for name, place in removed if raw[name][place : place + 3].decode() != "，"]
    assert len(removed) > 500
    for name, place in removed:
        place_now = (name, place)
        while place_now in over:
            place_now = over[place_now]
        assert kept[place_now[0]][place_now[1]]
        assert raw[place_now[0]][place_now[1] : place_now[1] + 3] == raw[name][place : place + 3]


@pytest.mark.parametrize("seed", range(3))
def test_no_copied_passage_is_left_twice(seed: int, tmp_path: Path) -> None:
    choose = random.Random(seed)

    def own(count: int) -> str:
        return "".join(chr(0x4E00 + choose.randrange(20_000)) for _ in range(count))

    passages = [own(70) for _ in range(5)]
    documents = []
    for number in range(30):
        # Edges that agree by chance, as "The" behind a copied paragraph does.
        text = own(40) + choose.choice("甲乙") + choose.choice(passages) + choose.choice("丙丁") + own(40)
        documents.append((f"d{number}", text))
    run(tmp_path, write_parts(tmp_path, documents, 3), RepeatsConfig(level="substring"))
    after = "\n".join(row["text"] for row in table(tmp_path, "documents"))
    for passage in passages:
        assert after.count(passage) == 1
        assert sum(after.count(passage[start : start + 20]) for start in (0, 25, 50)) == 3


def test_short_units_are_counted_and_stay(tmp_path: Path) -> None:
    documents = [(f"d{number}", f"目录\n{'甲乙丙丁' * 4}\n第{number}章。独一无二。") for number in range(6)]
    summary = run(tmp_path, write_parts(tmp_path, documents, 1), RepeatsConfig(level="line"))
    found = {row["text"]: (row["documents"], row["tokens"]) for row in table(tmp_path, "units")}
    assert found == {"目录": (6, 2), "甲乙丙丁" * 4: (6, 16)}
    assert summary["to_remove"] == 5
    assert sum("目录" in row["text"] for row in table(tmp_path, "documents")) == 6
    assert sum("甲乙" in row["text"] for row in table(tmp_path, "documents")) == 1


def test_boilerplate_goes_from_all_but_the_best(tmp_path: Path) -> None:
    line = "转载请注明出处，版权归本站所有，违者必究。"
    documents = [(f"d{number}", f"{line}\n这是第{number}篇文章。") for number in range(5)]
    paths = write_parts(tmp_path, documents, 2, quality=[0.1, 0.9, 0.3, 0.2, 0.8])
    run(tmp_path, paths, RepeatsConfig(level="line", min_documents=5, priority="quality"))
    assert [row["id"] for row in table(tmp_path, "documents") if line in row["text"]] == ["d1"]
    run(tmp_path, paths, RepeatsConfig(level="line", min_documents=6, priority="quality"))
    assert all(line in row["text"] for row in table(tmp_path, "documents"))


@pytest.mark.parametrize("level", ["line", "substring"])
def test_the_order_of_the_input_does_not_matter(level: Level, tmp_path: Path) -> None:
    documents = list(corpus(2))
    results = []
    for seed, parts in ((0, 1), (1, 4)):
        random.Random(seed).shuffle(documents)
        folder = tmp_path / str(seed)
        run(
            folder,
            write_parts(folder, documents, parts),
            RepeatsConfig(level=level, min_documents=2, min_tokens=10),
        )
        results.append({row["id"]: row["text"] for row in table(folder, "documents")})
    assert results[0] == results[1]


def test_count_only_writes_no_documents_and_replaces_what_stood_there(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, corpus(3), 3)
    config = RepeatsConfig(level="line", min_documents=2)
    run(tmp_path, paths, config)
    assert (tmp_path / "out" / "documents").is_dir()
    summary = run(tmp_path, paths[:1], config, removal=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["repeats", "summary.json", "units"]
    assert len(list((tmp_path / "out" / "repeats").glob("part-*"))) == 1
    assert "documents_out" not in summary
    assert summary["top"]
    assert summary["top"][0]["documents"] > 1
    inside = tmp_path / "out" / "units" / "part-00000.parquet"
    with pytest.raises(HainaError, match="lies in the output folder"):
        run(tmp_path, [inside], config)


def test_kinds_of_columns_stay(tmp_path: Path) -> None:
    text = "这一行在每一篇文章里都有，所以要删掉它。"
    source = pa.table(
        {
            "id": pa.array(["a", "b"]),
            "text": pa.array([text + "\n甲", text + "\n乙"], pa.large_string()),
            "tags": pa.array([["x"], []], pa.list_(pa.string())),
        }
    )
    pq.write_table(source, tmp_path / "in.parquet")
    run(tmp_path, [tmp_path / "in.parquet"], RepeatsConfig(level="line", min_documents=2))
    found = pq.read_table(tmp_path / "out" / "documents" / "part-00000.parquet")
    assert found.schema.equals(source.schema)
    assert sorted(len(value) for value in found.column("text").to_pylist()) == [1, len(text) + 2]
    assert found.column("tags").to_pylist() == [["x"], []]


def test_the_command_prints_what_it_did(tmp_path: Path) -> None:
    import json

    import typer
    from typer.testing import CliRunner

    from haina.cli.repeats import repeats

    app = typer.Typer()
    app.command()(repeats)
    paths = [str(path) for path in write_parts(tmp_path, corpus(4), 2)]
    out = [
        "--out",
        str(tmp_path / "out"),
        "--level",
        "sentence",
        "--min-documents",
        "2",
        "--min-tokens",
        "10",
    ]
    result = CliRunner().invoke(app, [*paths, *out])
    assert result.exit_code == 0, result.output
    assert "documents dropped, nothing left" in result.output
    assert "most repeated tokens" in result.output
    result = CliRunner().invoke(app, [*paths, *out, "--count-only", "--json"])
    found = json.loads(result.stdout)
    assert (found["level"], found["documents"], "documents_out" in found) == ("sentence", 33, False)
    result = CliRunner().invoke(app, [*paths, "--out", str(tmp_path / "out"), "--level", "word"])
    assert isinstance(result.exception, HainaError)
    assert "level" in str(result.exception)
