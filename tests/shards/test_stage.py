"""The stage: every token traced to its document, clusters on one side, bytes from the input alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.runtime.documents import document_parts, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, write_json
from haina.runtime.held_out import held_out_clusters, split_position
from haina.runtime.languages import group_of, han_shares
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import ShardSet, stage, verify
from haina.shards.config import ShardsConfig
from haina.shards.encode import RECOVERY, Encoding, encode_blocks, framed

# Several blocks a part and several shards a split.
CONFIG = ShardsConfig(validation_fraction=0.1, block_bytes=1500, shard_bytes=1500)
SPLITS = ("train", "validation-en", "validation-zh")


def make_shards(
    work: Path, corpus: Path, tokenizer: Path, config: ShardsConfig = CONFIG, workers: int = 1
) -> Path:
    context = StageContext(work, {"corpus": corpus, "tokenizer": tokenizer}, workers=workers)
    stage.run(config, context)
    return context.out("shards")


def from_files(
    work: Path, files: list[Path], tokenizer: Path, config: ShardsConfig = CONFIG
) -> tuple[Path, StageResult]:
    context = StageContext(work, {"tokenizer": tokenizer}, sources=tuple(files))
    return context.out("shards"), stage.run(config, context)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer_folder: Path) -> Path:
    return make_shards(tmp_path_factory.mktemp("work"), corpus, tokenizer_folder)


def test_every_document_is_there_once_and_reads_back(
    shards: Path, corpus: Path, tokenizer_folder: Path
) -> None:
    tokenizer = TokenizerFile(tokenizer_folder)
    columns = ["id", "text", "lang", "source", "url", "cluster_id"]
    documents = {
        row["id"]: row for batch in read_batches(document_parts(corpus), columns) for row in batch.to_pylist()
    }
    table = pq.read_table(shards / "documents.parquet").to_pylist()
    assert sorted(row["id"] for row in table) == sorted(documents)
    opened = {name: ShardSet.open(shards, name) for name in SPLITS}
    for row in table:
        document = documents[row["id"]]
        tokens = opened[row["shard"]][row["index"]]
        assert tokens[0] == tokenizer.bos_id
        assert tokens[-1] == tokenizer.eos_id
        assert tokenizer.decode(tokens[1:-1].tolist(), skip_special_tokens=False) == document["text"]
        assert row["tokens"] == len(tokens)
        assert row["bytes"] == len(document["text"].encode())
        assert {name: row[name] for name in columns if name != "text"} == {
            name: value for name, value in document.items() if name != "text"
        }
    assert sum(len(dataset) for dataset in opened.values()) == len(documents)


def test_the_table_lies_in_the_order_of_the_documents(shards: Path, corpus: Path) -> None:
    table = pq.read_table(shards / "documents.parquet")
    for name in SPLITS:
        rows = table.filter(pa.compute.equal(table["shard"], name))
        assert rows["index"].to_pylist() == list(range(rows.num_rows))
        assert rows["tokens"].to_pylist() == ShardSet.open(shards, name).lengths.tolist()
    assert list(dict.fromkeys(table["shard"].to_pylist())) == list(SPLITS)
    order = [row["id"] for batch in read_batches(document_parts(corpus), ["id"]) for row in batch.to_pylist()]
    train = table.filter(pa.compute.equal(table["shard"], "train"))["id"].to_pylist()
    assert train == [name for name in order if name in set(train)]


def test_readable_after_megatrons_description_alone(shards: Path) -> None:
    """A reader of a few lines, from the layout in Megatron-LM's indexed_dataset.py and nothing of ours."""
    paths = sorted(shards.glob("train-*.idx"))
    assert len(paths) > 3
    found = []
    for path in paths:
        index, tokens = path.read_bytes(), path.with_suffix(".bin").read_bytes()
        magic, version, code, sequences, documents = struct.unpack_from("<9sQBQQ", index)
        assert (magic, version, code, documents) == (b"MMIDIDX\x00\x00", 1, 8, sequences + 1)
        lengths = struct.unpack_from(f"<{sequences}i", index, 34)
        pointers = struct.unpack_from(f"<{sequences}q", index, 34 + 4 * sequences)
        borders = struct.unpack_from(f"<{documents}q", index, 34 + 12 * sequences)
        assert borders == tuple(range(documents))
        assert len(index) == 34 + 12 * sequences + 8 * documents
        assert pointers[-1] + 2 * lengths[-1] == len(tokens)
        found += [struct.unpack_from(f"<{n}H", tokens, at) for n, at in zip(lengths, pointers, strict=True)]
    opened = ShardSet.open(shards)
    assert found == [tuple(opened[number].tolist()) for number in range(len(opened))]


def test_validation_shares_no_cluster_with_train(shards: Path) -> None:
    table = pq.read_table(shards / "documents.parquet").to_pylist()
    sides: dict[bool, set[str]] = {True: set(), False: set()}
    for row in table:
        sides[row["shard"] == "train"].add(row["cluster_id"])
        if row["shard"] != "train":
            assert row["shard"] == ("validation-en" if row["lang"] == "en" else "validation-zh")
    assert sides[True]
    assert sides[False]
    assert not sides[True] & sides[False]


@pytest.mark.parametrize("fraction", [0.0, 0.003, 0.1])
def test_the_same_clusters_are_held_out_as_from_the_tokenizer(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, fraction: float
) -> None:
    config = ShardsConfig(validation_fraction=fraction)
    table = pq.read_table(make_shards(tmp_path, corpus, tokenizer_folder, config) / "documents.parquet")
    rows = table.to_pylist()
    expected = held_out_clusters(((row["cluster_id"], row["lang"]) for row in rows), fraction)
    assert {row["cluster_id"] for row in rows if row["shard"] != "train"} == expected
    assert expected


def test_description(shards: Path, tokenizer_folder: Path) -> None:
    description = verify(shards, tokenizer_folder)
    tokenizer = TokenizerFile(tokenizer_folder)
    assert description["version"] == 2
    assert description["tokenizer"] == {
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": 512,
        "bos_id": 0,
        "eos_id": 1,
    }
    table = pq.read_table(shards / description["documents"]).to_pylist()
    for name, split in description["splits"].items():
        rows = [row for row in table if row["shard"] == name]
        assert split["documents"] == len(rows)
        assert split["tokens"] == sum(row["tokens"] for row in rows)
        assert split["bytes"] == sum(row["bytes"] for row in rows)
        assert split["dtype"] == "uint16"
        for what, column in (("language", "lang"), ("source", "source")):
            counted = split["tokens_by"][what]
            assert counted == {
                value: sum(row["tokens"] for row in rows if row[column] == value)
                for value in sorted({row[column] for row in rows})
            }
        for number, entry in enumerate(split["files"]):
            assert entry["name"] == f"{name}-{number:05d}"
            for suffix in ("bin", "idx"):
                data = (shards / f"{entry['name']}.{suffix}").read_bytes()
                assert entry["sha256"][suffix] == hashlib.sha256(data).hexdigest()
                assert entry["bytes"][suffix] == len(data)
            assert entry["tokens"] * 2 == entry["bytes"]["bin"] <= CONFIG.shard_bytes
    assert list(description["splits"]) == list(SPLITS)
    train = [row for row in table if row["shard"] == "train"]
    for lang, weight in description["mixture_weights"].items():
        share = sum(row["tokens"] for row in train if row["lang"] == lang) / sum(
            row["tokens"] for row in train
        )
        assert weight == pytest.approx(share, abs=1e-5)
    assert sum(description["mixture_weights"].values()) == pytest.approx(1, abs=1e-5)
    assert description["dropped"] == {"file": "dropped.parquet", "documents": {}}


def test_workers_do_not_change_a_byte(
    shards: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    again = make_shards(tmp_path, corpus, tokenizer_folder, workers=2)
    assert fingerprint_tree(again) == fingerprint_tree(shards)


@pytest.mark.parametrize("block_bytes", [1024, 1 << 20])
def test_the_size_of_blocks_does_not_change_a_token(
    shards: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path, block_bytes: int
) -> None:
    config = CONFIG.model_copy(update={"block_bytes": block_bytes})
    again = make_shards(tmp_path, corpus, tokenizer_folder, config)
    assert fingerprint_tree(again) == fingerprint_tree(shards)


def test_finished_pieces_are_kept(shards: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path, corpus, tokenizer_folder)
    pieces = sorted((tmp_path / "scratch" / "pieces").glob("*.arrow"))
    assert len(pieces) > 8
    pieces[2].unlink()
    pieces[3].write_bytes(pieces[3].read_bytes()[:-8])
    before = {path: path.stat().st_mtime_ns for path in pieces if path not in pieces[2:4]}
    (tmp_path / "out" / "shards" / "train-00000.bin").unlink()
    (tmp_path / "out" / "shards" / "train-00001.idx").write_bytes(b"half")
    again = make_shards(tmp_path, corpus, tokenizer_folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert fingerprint_tree(again) == fingerprint_tree(shards)


RUN = """
import sys
from pathlib import Path
from haina.runtime.stage import StageContext
from haina.shards import stage
from haina.shards.config import ShardsConfig
if __name__ == "__main__":
    work, corpus, tokenizer = map(Path, sys.argv[1:4])
    inputs = {"corpus": corpus, "tokenizer": tokenizer}
    config = ShardsConfig(validation_fraction=0.1, block_bytes=12000, shard_bytes=30000)
    print("started", flush=True)
    stage.run(config, StageContext(work, inputs, workers=int(sys.argv[4])))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment(
    make_corpus: Callable[..., Path], tokenizer_folder: Path, tmp_path: Path, workers: int
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 900, 3)
    config = ShardsConfig(validation_fraction=0.1, block_bytes=12000, shard_bytes=30000)
    whole = fingerprint_tree(make_shards(tmp_path / "whole", corpus, tokenizer_folder, config))
    rng = random.Random(2)
    killed = 0
    for trial in range(3 if workers == 1 else 1):
        work = tmp_path / f"trial-{trial}"
        command = [sys.executable, "-c", RUN, str(work), str(corpus), str(tokenizer_folder), str(workers)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "RAYON_NUM_THREADS": "1"}
        )
        assert process.stdout is not None
        process.stdout.readline()
        if workers == 1:
            time.sleep(rng.uniform(0.0, 0.5))
        else:  # once a worker has delivered something
            while process.poll() is None and not list(
                work.glob(f"scratch/pieces/{rng.randrange(9):07d}.arrow")
            ):
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert fingerprint_tree(make_shards(work, corpus, tokenizer_folder, config)) == whole
    assert killed


def test_special_tokens_in_text_stay_text(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = ["</s><s>海纳</s>", "", "<|im_start|>hi", "a\x00b", "河", "sea", None]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [f"d{number}" for number in range(7)], "text": texts}), path)
    shards, result = from_files(tmp_path / "work", [path], tokenizer_folder)
    tokenizer = TokenizerFile(tokenizer_folder)
    found = []
    for name in json.loads((shards / "shards.json").read_text())["splits"]:
        dataset = ShardSet.open(shards, name)
        for index in range(len(dataset)):
            assert (dataset[index][1:-1] > 4).all()
            assert dataset[index][[0, -1]].tolist() == [0, 1]
            found.append(tokenizer.decode(dataset[index].tolist()[1:-1], skip_special_tokens=False))
    assert sorted(found) == sorted(text for text in texts if text)
    assert (result.records_in, result.records_out, result.records_dropped) == (7, 5, 2)
    assert pq.read_table(shards / "dropped.parquet").to_pylist() == [
        {"id": "a.parquet#6", "stage": "shards", "reason": "missing-text", "evidence": "null"},
        {"id": "d1", "stage": "shards", "reason": "empty", "evidence": "a text of 0 bytes"},
    ]
    verify(shards)


def test_languages_whatever_wrote_them(tmp_path: Path, tokenizer_folder: Path) -> None:
    rows = [
        {"lang": "zh", "text": "海纳百川"},
        {"lang": "zh_TW", "text": "歷史資料"},
        {"lang": "en-US", "text": "rivers"},
        {"lang": None, "text": "语言模型 by name"},
        {"lang": "", "text": "language of the sea 海"},
        {"lang": "fr", "text": "la mer"},
        {"lang": "../x", "text": "no tag"},
    ] * 40
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    shards, _ = from_files(tmp_path / "work", [path], tokenizer_folder)
    description = verify(shards)
    assert list(description["splits"]) == [
        "train", "validation-en", "validation-fr", "validation-other", "validation-zh",
    ]  # fmt: skip
    table = pq.read_table(shards / "documents.parquet").to_pylist()
    assert {row["lang"] for row in table if row["shard"] == "validation-zh"} <= {"zh", "zh_TW"}
    assert {row["lang"] for row in table} == {"zh", "zh_TW", "en-US", "en", "fr", "../x"}
    assert all(row["cluster_id"] == row["id"] and row["id"].startswith("a.jsonl#") for row in table)


def test_language_groups() -> None:
    names = (
        "zh-Hans",
        "zh-Hant",
        "yue",
        "mixed",
        "zh",
        "ZH-cn",
        "zho",
        "en",
        "en_GB",
        "ja",
        "pt-BR",
        "",
        "a/b",
    )
    assert [group_of(name) for name in names] == [*["zh"] * 7, "en", "en", "ja", "pt", "other", "other"]


@pytest.mark.parametrize("text", ["", "abc", "海", "海a", "𠀀𠀁x", "あいう海", "，。", "é한海𝄞"])
def test_han_share_is_that_of_the_characters(text: str) -> None:
    def is_han(character: str) -> bool:
        return 0x3400 <= ord(character) <= 0x9FFF or 0x20000 <= ord(character) <= 0x3FFFF

    expected = sum(map(is_han, text)) / max(1, len(text))
    found = han_shares(pa.array(["海海", text, "x", text], pa.large_string()).slice(1))
    assert found.tolist() == pytest.approx([expected, 0.0, expected])


def test_framed_is_what_a_loop_makes() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 7):
        lengths = rng.integers(0, 4, count)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = rng.integers(5, 99, int(offsets[-1])).astype(np.int32)
        tokens, ends = framed(ids, offsets, 0, 1, np.dtype("<u2"))
        expected = [[0, *ids[offsets[n] : offsets[n + 1]], 1] for n in range(count)]
        assert [tokens[ends[n] : ends[n + 1]].tolist() for n in range(count)] == expected
        assert ends[-1] == len(tokens)


def test_a_block_in_halves_is_the_block(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """What the executor does when a worker dies of a block, down to single documents."""
    from haina.runtime.text_files import plan_blocks

    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"第{number}条河"}) for number in range(9)))
    for files in ([document_parts(corpus)[0]], [path], [document_parts(corpus)[1], path]):
        blocks = tuple(plan_blocks(files, 1 << 20))
        task = Encoding(blocks, tokenizer_folder, TokenizerFile(tokenizer_folder).fingerprint)

        def made(task: Encoding, name: str, depth: int) -> Path:
            output = tmp_path / f"{name}.arrow"
            parts = RECOVERY.split(task)
            if depth and len(parts) > 1:
                pieces = [made(part, f"{name}-{number}", depth - 1) for number, part in enumerate(parts)]
                RECOVERY.merge(pieces, output)
            else:
                encode_blocks(task, output)
            return output

        whole, again = made(task, "whole", 0), made(task, "again", 9)
        assert pa.ipc.open_file(whole).read_all().equals(pa.ipc.open_file(again).read_all())
        RECOVERY.quarantine(task, "killed", tmp_path / "q.arrow")
        assert pa.ipc.open_file(tmp_path / "q.arrow").read_all()["reason"].to_pylist() == ["worker-lost"]


def test_small_corpora(tmp_path: Path, tokenizer_folder: Path, make_corpus: Callable[..., Path]) -> None:
    one = make_shards(tmp_path / "a", make_corpus(tmp_path / "one", 3, 1, cluster_size=3), tokenizer_folder)
    assert list(json.loads((one / "shards.json").read_text())["splits"]) == ["train"]
    two = make_corpus(tmp_path / "two", 2, 1, cluster_size=1, langs=("en",))
    splits = json.loads((make_shards(tmp_path / "b", two, tokenizer_folder) / "shards.json").read_text())[
        "splits"
    ]
    assert {name: split["documents"] for name, split in splits.items()} == {"train": 1, "validation-en": 1}


def test_nothing_left_to_train_on(
    tmp_path: Path, tokenizer_folder: Path, make_corpus: Callable[..., Path]
) -> None:
    unlucky = next(
        seed
        for seed in range(300)
        if max(split_position(f"cluster-{seed}-{number}") for number in (0, 1)) < 0.5
    )
    corpus = make_corpus(tmp_path / "corpus", 2, 1, cluster_size=1, langs=("zh-Hans",), seed=unlucky)
    with pytest.raises(HainaError, match="no documents are left to train on"):
        make_shards(tmp_path / "work", corpus, tokenizer_folder, ShardsConfig(validation_fraction=0.5))


def test_unusable_inputs(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    write_json(bare / "tokenizer_config.json", {"bos_token": "<s>"})
    with pytest.raises(HainaError, match="no bos_token or no eos_token"):
        make_shards(tmp_path / "a", corpus, bare)
    with pytest.raises(HainaError, match="the corpus output is missing"):
        make_shards(tmp_path / "c", tmp_path / "nowhere", tokenizer_folder)
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"no": "text"}\n')
    with pytest.raises(HainaError, match=r"empty\.jsonl: no documents \(dropped: 1 missing-text\)"):
        from_files(tmp_path / "d", [empty], tokenizer_folder)
    empty.write_text("")
    with pytest.raises(HainaError, match=r"empty\.jsonl: no documents"):
        from_files(tmp_path / "e", [empty], tokenizer_folder)
