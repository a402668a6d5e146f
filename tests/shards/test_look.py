"""Looking at shards: every token leads to its text, document and page; a drawn batch is the batch that is trained on."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from haina.cli import main
from haina.corpus.documents import document_id
from haina.corpus.read import read_source
from haina.corpus.sources import list_sources
from haina.recipe.describe import describe
from haina.recipe.find_page import find_page
from haina.runtime.errors import HainaError
from haina.runtime.files import write_json, write_text
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.loader import open_loader
from haina.shards.loader_settings import LoaderSettings
from haina.shards.look import around, document_of, find_token
from haina.shards.look_batch import batch_rows, look_at_batch
from haina.shards.look_page import payload, render
from haina.shards.shard_set import ShardSet, write_arrays

PATTERN = r"\p{N}|[\r\n]+|[^\p{N}\r\n]+"
CHINESE = [
    "海纳百川，有容乃大。\n壁立千仞，无欲则刚。",
    "圖書館裡有關於天氣與歷史的資料，共 128 本。",
    "机器𠮷😀学习：把标记分散到字符的字节上。",
]
ENGLISH = [
    "Rivers flow into the sea, and the sea takes them all.",
    "It's 2026; the naïve café kept <s> and </s> as plain text.",
    "</script><b>not markup</b> & never executed",
]


@dataclass(frozen=True)
class Folder:
    """Shards of known texts: of document i the text, and the page that it came from."""

    shards: Path
    tokenizer: Path
    pages: Path
    corpus: Path
    texts: list[str]


def texts_of(count: int) -> list[str]:
    """Short and long texts, Chinese and English in turn; one is empty."""
    found = []
    for number in range(count):
        lines = CHINESE if number % 2 else ENGLISH
        times = (1, 1, 2, 1, 9, 3)[number % 6]
        found.append(
            "\n".join([f"{number}. {lines[number % 3]}", *itertools.islice(itertools.cycle(lines), times)])
        )
    return [*found, ""]


def train(texts: list[str]) -> Tokenizer:
    """Pieces so few that most Chinese characters are split over several."""
    tokenizer = Tokenizer(models.BPE())
    spans = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [spans, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(text) for text in texts] + texts[:4], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    base = tmp_path_factory.mktemp("look")
    texts = texts_of(24)
    made = Folder(base / "shards", base / "tokenizer", base / "pages", base / "elsewhere", texts)
    write_text(made.tokenizer / "tokenizer.json", train(texts).to_str())
    write_json(made.tokenizer / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer = TokenizerFile(made.tokenizer)
    made.pages.mkdir()
    lines = [
        json.dumps({"text": text, "url": f"https://例.org/{n}"}, ensure_ascii=False)
        for n, text in enumerate(texts)
    ]
    (made.pages / "爬取.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    (source,) = list_sources([made.pages]).sources
    positions = [record.position for record in read_source(source, 1 << 20)]
    rows = [
        {
            "id": document_id("爬取.jsonl.gz", positions[number]),
            "source": "爬取.jsonl.gz",
            "url": f"https://例.org/{number}",
            "lang": "zh-Hans" if number % 2 else "en",
        }
        for number in range(len(texts))
    ]
    documents = [np.array([0, *ids, 1], np.int32) for ids in tokenizer.encode_batch(texts)]
    facts = {
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "bos_id": 0,
        "eos_id": 1,
    }
    held_out = documents[:5]
    content = write_arrays(
        made.shards,
        {"train": documents, "validation-zh": held_out},
        facts,
        np.dtype("<u2"),
        documents_a_shard=7,
    )
    for split, count in (("train", len(texts)), ("validation-zh", 5)):
        content["splits"][split]["bytes"] = sum(len(text.encode()) for text in texts[:count])
    write_json(made.shards / "shards.json", {**content, "documents": "documents.parquet"})
    # Validation documents first, as an order that is not that of the numbers.
    table = [
        {
            "shard": split,
            "index": number,
            **rows[number],
            "bytes": len(texts[number].encode()),
            "tokens": len(documents[number]),
        }
        for split, count in (("validation-zh", 5), ("train", len(texts)))
        for number in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(table), made.shards / "documents.parquet", row_group_size=6)
    (made.corpus / "documents").mkdir(parents=True)
    corpus = [{**row, "text": text} for row, text in zip(rows, texts, strict=True)]
    pq.write_table(pa.Table.from_pylist(corpus), made.corpus / "documents" / "part-00000.parquet")
    return made


def test_every_token_leads_to_its_text(folder: Folder) -> None:
    tokenizer, shards = TokenizerFile(folder.tokenizer), ShardSet.open(folder.shards, "train")
    token = split_characters = 0
    for number, text in enumerate(folder.texts):
        data, reached = text.encode(), 0
        for offset in range(int(shards.lengths[number])):
            if number in (1, 2, 24):
                place = find_token(folder.shards, "train", token, tokenizer)
                assert (place.document, place.offset) == (number, offset)
                assert place.row["url"] == f"https://例.org/{number}"
                assert place.special == (offset in (0, int(shards.lengths[number]) - 1))
                assert place.byte_start == reached
                assert place.piece == data[reached : place.byte_end]
                assert data[:reached].endswith(place.before)
                assert data[place.byte_end :].startswith(place.after)
                found = place.as_dict()
                assert "\ufffd" not in found["before"] + found["characters"] + found["after"]
                split_characters += found["text"] is None
                reached = place.byte_end
            token += 1
    assert token == shards.total_tokens
    assert split_characters > 50


def plain_around(text: str, start: int, end: int) -> tuple[str, str, str]:
    """`around` of a whole text, character by character."""
    parts = ["", "", ""]
    place = 0
    for character in text:
        size = len(character.encode())
        parts[0 if place + size <= start else 2 if place >= end else 1] += character
        place += size
    return parts[0], parts[1], parts[2]


@given(st.text(alphabet="aé海𠮷\n ñ國", min_size=1, max_size=12), st.data())
def test_text_around_bytes(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    assert around(raw[:start], raw[start:end], raw[end:]) == plain_around(text, start, end)
    # Far ends that fall inside a character lose it and nothing else.
    low, high = data.draw(st.integers(0, start)), data.draw(st.integers(end, len(raw)))
    before, touched, after = around(raw[low:start], raw[start:end], raw[end:high])
    whole = plain_around(text, start, end)
    assert whole[0].endswith(before)
    assert whole[2].startswith(after)
    assert touched == whole[1] or low > 0 or high < len(raw)


def test_documents_without_tokens_own_none(tmp_path: Path) -> None:
    lengths = [0, 3, 0, 0, 2, 0]
    documents = [np.arange(length, dtype=np.int32) for length in lengths]
    tokenizer = {"fingerprint": "", "vocab_size": 9, "bos_id": None, "eos_id": None}
    write_arrays(tmp_path, {"train": documents}, tokenizer, np.dtype("<u2"), documents_a_shard=4)
    shards = ShardSet.open(tmp_path, "train")
    assert [document_of(shards, token) for token in range(5)] == [(1, 0), (1, 1), (1, 2), (4, 0), (4, 1)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"packing": "concatenate"},
        {"packing": "concatenate", "document_mask": False},
        {"context_schedule": ((0, 16),)},
    ],
)
def test_the_drawing_is_the_batch(folder: Folder, settings: dict[str, Any]) -> None:
    shards = ShardSet.open(folder.shards, "train")
    loader = open_loader(folder.shards, LoaderSettings(sequence_length=64, rows=6, seed=3, **settings))
    for step in range(4):
        batch = loader.batch(step)
        rows = batch_rows(batch, shards)
        for number, (row, mask) in enumerate(zip(rows, batch.attention_mask()[:, 0], strict=True)):
            drawn = np.zeros((64, 64), bool)
            for start, end in row.spans:
                drawn[start:end, start:end] = np.tri(end - start, dtype=bool)
            held = 64 - row.padding
            assert np.array_equal(drawn[:held, :held], mask[:held, :held])
            assert sum(block.length for block in row.blocks) == held
            counted = np.concatenate(
                [np.arange(first, first + end - start) for start, end, first in row.positions]
            )
            assert np.array_equal(counted, batch.positions[number, :held])
            assert row.predicted == (batch.targets[number] != -100).sum()
            for block in row.blocks:
                columns = slice(block.column, block.column + block.length)
                tokens = shards[block.document]
                assert np.array_equal(batch.inputs[number, columns], tokens[block.first :][: block.length])
                assert block.cut_before == (block.first > 0)
                assert block.cut_after == (len(tokens) - block.first - block.length > 1)


def test_page_holds_the_batch_and_no_markup_of_its_documents(folder: Folder) -> None:
    loader = open_loader(folder.shards, LoaderSettings(sequence_length=128, rows=4, seed=0))
    shards, tokenizer = ShardSet.open(folder.shards, "train"), TokenizerFile(folder.tokenizer)
    look = look_at_batch(loader.batch(0), shards, folder.shards, "train", tokenizer)
    page = render(look, "分片 <shards>", {"step": "0"})
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data == json.loads(json.dumps(payload(look)))
    assert {item["text"][:8] for item in data["documents"]} <= {
        " ".join(text.split())[:8] for text in folder.texts
    }
    assert "分片 &lt;shards&gt;" in page
    assert page.count("</script>") == 2
    assert 'src="' not in page


def call(*arguments: object) -> int:
    """Exit code of `haina ARGUMENTS`."""
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


def test_a_token_on_the_command_line(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    shards = ShardSet.open(folder.shards, "train")
    token = int(shards.lengths[:3].sum()) + 20
    common = ("inspect", folder.shards, "--token", token, "--corpus", folder.corpus, "--pages", folder.pages)
    assert call(*common, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    data = folder.texts[3].encode()
    assert bytes.fromhex(found["bytes"]) == data[found["byte_start"] : found["byte_end"]]
    assert found["row"]["index"] == found["document"] == 3
    assert found["corpus"]["agrees"]
    assert found["corpus"]["text_bytes"] == len(data)
    assert found["page"]["url"] == "https://例.org/3"
    assert found["page"]["beginning"].startswith("3. ")
    assert call(*common) == 0
    shown = capsys.readouterr().out
    assert f"⟦{found['characters']}⟧" in shown
    assert "爬取.jsonl.gz" in shown
    assert found["bytes"] in shown


def test_a_changed_page_is_named(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("inspect", folder.shards, "--pages", tmp_path, "--token")
    write_text(tmp_path / "另.jsonl", '{"text": "别的"}\n')
    assert call(*common, 9) == 2
    assert "no source '爬取.jsonl.gz'" in capsys.readouterr().err
    lines = gzip.decompress((folder.pages / "爬取.jsonl.gz").read_bytes()).split(b"\n")
    (tmp_path / "爬取.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[:9]), mtime=0))
    assert call(*common, 9) == 0
    last = ShardSet.open(folder.shards, "train").total_tokens - 1
    assert call(*common, last) == 2
    assert "no record with the id" in capsys.readouterr().err


def test_a_page_of_an_old_encoding_is_readable(tmp_path: Path) -> None:
    html = '<html><head><meta charset="gb2312"><title>海纳百川</title></head><body>有容乃大。</body></html>'
    (tmp_path / "旧.html").write_bytes(html.encode("gb18030"))
    found = find_page([tmp_path], {"id": document_id("旧.html", "0"), "source": "旧.html"})
    assert found.markup
    assert found.beginning == html
    with pytest.raises(HainaError, match="the shards know no source of it"):
        find_page([tmp_path], {"id": document_id("旧.html", "0"), "source": None})


def test_a_batch_on_the_command_line(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("inspect", folder.shards, "--batch", 1, "--sequence-length", 96, "--batch-size", 3, "--seed", 5)
    assert call(*common, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    batch = open_loader(folder.shards, LoaderSettings(sequence_length=96, rows=3, seed=5)).batch(1)
    met = [block["document"] for row in found["rows"] for block in row["blocks"]]
    assert met == batch.pieces["document"].tolist()
    assert call(*common) == 0
    shown = capsys.readouterr().out
    assert f"{len(set(met))} documents" in shown
    for item in found["documents"]:
        assert item["id"] in shown
    assert call(*common, "--html", tmp_path / "批次.html") == 0
    assert "海纳" in (tmp_path / "批次.html").read_text(encoding="utf-8")


def test_counts_of_a_folder(folder: Folder) -> None:
    found = describe(folder.shards, 2)
    assert found.kind == "token shards"
    tables = {table.title: table for table in found.tables}
    languages = {row[:2]: row for row in tables["by language"].rows}
    english = [text for number, text in enumerate(folder.texts) if number % 2 == 0]
    assert languages["train", "en"][2] == str(len(english))
    assert languages["train", "en"][5] == f"{sum(len(text.encode()) for text in english):,}"
    tokens = sum(int(row[3].replace(",", "")) for key, row in languages.items() if key[0] == "train")
    assert tokens == ShardSet.open(folder.shards, "train").total_tokens
    (source,) = [row for row in tables["by source"].rows if row[0] == "train"]
    assert source[1] == "爬取.jsonl.gz"
    files = next(table for title, table in tables.items() if title.startswith("files"))
    assert {row[3] for row in files.rows} == {"size right; not verified"}
    assert len(files.rows) == 2 * (4 + 1)


def test_damage_is_named(folder: Folder, tmp_path: Path) -> None:
    tokenizer = TokenizerFile(folder.tokenizer)
    total = ShardSet.open(folder.shards, "train").total_tokens
    with pytest.raises(HainaError, match=rf"no token {total:,} in split train"):
        find_token(folder.shards, "train", total, tokenizer)
    with pytest.raises(HainaError, match="no split 'test'"):
        find_token(folder.shards, "test", 0, tokenizer)
    write_text(tmp_path / "other" / "tokenizer.json", train(CHINESE).to_str())
    with pytest.raises(HainaError, match="another tokenizer"):
        find_token(folder.shards, "train", 0, TokenizerFile(tmp_path / "other"))

    copy = tmp_path / "shards"
    copy.mkdir()
    for path in folder.shards.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(copy / "documents.parquet")
    pq.write_table(table.slice(0, table.num_rows - 2), copy / "documents.parquet")
    with pytest.raises(HainaError, match=r"documents\.parquet: no row for document 24 of split train"):
        find_token(copy, "train", total - 1, tokenizer)
    (copy / "documents.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(HainaError, match="not the table of documents"):
        find_token(copy, "train", 0, tokenizer)
    with pytest.raises(HainaError, match="not the table of documents"):
        describe(copy)
    (copy / "train-00001.bin").write_bytes(b"\0")
    (copy / "train-00002.idx").unlink()
    write_json(copy / "shards.json", {**json.loads((copy / "shards.json").read_text()), "documents": None})
    states = [
        row[3] for table in describe(copy).tables if table.title.startswith("files") for row in table.rows
    ]
    assert sorted(state for state in states if "right" not in state) == ["1 bytes: damaged", "missing"]
