"""The stage: every token traced to its document, clusters on one side, bytes from the input alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from haina.runtime.documents import document_parts, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, write_json
from haina.runtime.held_out import split_position
from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import IndexedDataset, stage, verify
from haina.shards.config import ShardsConfig

CONFIG = ShardsConfig(validation_fraction=0.1)


def make_shards(
    work: Path, corpus: Path, tokenizer: Path, config: ShardsConfig = CONFIG, workers: int = 1
) -> Path:
    context = StageContext(work, {"corpus": corpus, "tokenizer": tokenizer}, workers=workers)
    stage.run(config, context)
    return context.out("shards")


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
    opened = {name: IndexedDataset(shards / name) for name in ("train", "validation-zh", "validation-en")}
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


def test_description(shards: Path, tokenizer_folder: Path) -> None:
    description = verify(shards)
    tokenizer = TokenizerFile(tokenizer_folder)
    assert description["version"] == 1
    assert description["tokenizer"] == {
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": 512,
        "bos_id": 0,
        "eos_id": 1,
    }
    table = pq.read_table(shards / description["documents"]).to_pylist()
    for name, split in description["splits"].items():
        rows = [row for row in table if row["shard"] == name]
        assert (split["documents"], split["dtype"]) == (len(rows), "uint16")
        assert split["tokens"] == sum(row["tokens"] for row in rows)
        assert split["bytes"] == sum(row["bytes"] for row in rows)
        assert split["sha256"] == hashlib.sha256((shards / f"{name}.bin").read_bytes()).hexdigest()
    assert list(description["splits"]) == ["train", "validation-zh", "validation-en"]
    train = [row for row in table if row["shard"] == "train"]
    for lang, weight in description["mixture_weights"].items():
        share = sum(row["tokens"] for row in train if row["lang"] == lang) / sum(
            row["tokens"] for row in train
        )
        assert weight == pytest.approx(share, abs=1e-5)
    assert sum(description["mixture_weights"].values()) == pytest.approx(1, abs=1e-5)


def test_workers_do_not_change_a_byte(
    shards: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert fingerprint_tree(make_shards(tmp_path, corpus, tokenizer_folder, workers=3)) == fingerprint_tree(
        shards
    )


def test_finished_pieces_are_kept(shards: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path, corpus, tokenizer_folder)
    pieces = sorted((tmp_path / "scratch" / "pieces").glob("*.arrow"))
    assert len(pieces) == 4
    pieces[2].unlink()
    before = {piece: piece.stat().st_mtime_ns for piece in pieces if piece.exists()}
    (tmp_path / "out" / "shards" / "train.bin").unlink()
    (tmp_path / "out" / "shards" / "train.idx.partial").write_bytes(b"half")
    again = make_shards(tmp_path, corpus, tokenizer_folder)
    assert {piece: piece.stat().st_mtime_ns for piece in before} == before
    assert fingerprint_tree(again) == fingerprint_tree(shards)


RUN = """
import sys
from pathlib import Path
from haina.runtime.stage import StageContext
from haina.shards import stage
from haina.shards.config import ShardsConfig
if __name__ == "__main__":
    work, corpus, tokenizer = map(Path, sys.argv[1:])
    inputs = {"corpus": corpus, "tokenizer": tokenizer}
    print("started", flush=True)
    stage.run(ShardsConfig(validation_fraction=0.1), StageContext(work, inputs, workers=1))
"""


def test_killed_at_any_moment(
    make_corpus: Callable[..., Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 2400, 12)
    whole = fingerprint_tree(make_shards(tmp_path / "whole", corpus, tokenizer_folder))
    rng = random.Random(2)
    killed = 0
    for trial in range(3):
        work = tmp_path / f"trial-{trial}"
        command = [sys.executable, "-c", RUN, str(work), str(corpus), str(tokenizer_folder)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "RAYON_NUM_THREADS": "1"}
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.35))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert fingerprint_tree(make_shards(work, corpus, tokenizer_folder)) == whole
    assert killed


def test_special_tokens_in_text_stay_text(
    tmp_path: Path, tokenizer_folder: Path, make_corpus: Callable[..., Path]
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 6, 1)
    path = corpus / "documents" / "part-00000.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("text")
    pq.write_table(
        table.set_column(column, "text", [["</s><s>海纳</s>", "", "<|im_start|>hi", "a\x00b", "河", "sea"]]),
        path,
    )
    shards = make_shards(tmp_path / "work", corpus, tokenizer_folder)
    for prefix in shards.glob("*.idx"):
        dataset = IndexedDataset(prefix.with_suffix(""))
        for index in range(len(dataset)):
            assert (dataset[index][1:-1] > 4).all()
            assert dataset[index].tolist()[-1] == 1


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


def test_unusable_inputs(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, make_corpus: Callable[..., Path]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    write_json(bare / "tokenizer_config.json", {"bos_token": "<s>"})
    with pytest.raises(HainaError, match="no bos_token or no eos_token"):
        make_shards(tmp_path / "a", corpus, bare)
    french = make_corpus(tmp_path / "french", 4, 1, langs=("fr",))
    with pytest.raises(HainaError, match="document language 'fr'"):
        make_shards(tmp_path / "b", french, tokenizer_folder)
    with pytest.raises(HainaError, match="the corpus output is missing"):
        make_shards(tmp_path / "c", tmp_path / "nowhere", tokenizer_folder)


def test_verify_finds_a_changed_bit(tmp_path: Path, corpus: Path, tokenizer_folder: Path) -> None:
    shards = make_shards(tmp_path, corpus, tokenizer_folder)
    data = bytearray((shards / "validation-zh.bin").read_bytes())
    data[11] ^= 1
    (shards / "validation-zh.bin").write_bytes(bytes(data))
    with pytest.raises(HainaError, match=r"validation-zh\.bin: sha256 is"):
        verify(shards)
    description = json.loads((shards / "shards.json").read_text())
    description["splits"]["train"]["documents"] += 1
    write_json(shards / "shards.json", description)
    with pytest.raises(HainaError, match=r"train\.bin: documents is"):
        verify(shards)
