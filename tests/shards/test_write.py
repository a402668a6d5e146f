"""`haina shards write` and `verify`: from files of every kind to a folder, and what stands in the way."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from typer.testing import CliRunner

from haina.cli.shards import app
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree, read_json, write_json
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards import ShardSet
from haina.shards import assemble as assemble_module

SMALL = ["--set", "block_bytes=1024", "--set", "shard_bytes=1024"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same thirty documents three times: as Parquet, as packed JSON lines, as text."""
    folder = tmp_path_factory.mktemp("inputs")
    texts = [
        f"第{number}条河流进大海。\nRiver {number} runs to the sea." * (1 + number % 4)
        for number in range(30)
    ]
    pq.write_table(
        pa.table({"id": [f"p{number}" for number in range(30)], "text": texts, "source": ["rivers"] * 30}),
        folder / "a.parquet",
        row_group_size=12,
    )
    lines = "\n".join(json.dumps({"id": f"j{number}", "text": text}) for number, text in enumerate(texts))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "texts").mkdir()
    for number, text in enumerate(texts):
        (folder / "texts" / f"{number:02d}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, inputs: Path, tokenizer_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("out") / "shards"
    run("write", inputs, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 1, *SMALL)
    return out


def test_documents_of_all_kinds_of_files(shards: Path, tokenizer_folder: Path) -> None:
    tokenizer = TokenizerFile(tokenizer_folder)
    found: dict[str, list[str]] = {}
    for row in pq.read_table(shards / "documents.parquet").to_pylist():
        tokens = ShardSet.open(shards, row["shard"])[row["index"]]
        found.setdefault(row["id"][0].strip("0123456789"), []).append(tokenizer.decode(tokens.tolist()))
    assert [len(texts) for texts in found.values()] == [30, 30, 30]
    assert len({tuple(sorted(texts)) for texts in found.values()}) == 1
    assert read_json(shards / "shards.json")["splits"]["train"]["tokens_by"]["source"].keys() == {"rivers"}


def test_what_is_printed(shards: Path, inputs: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    description = read_json(shards / "shards.json")
    assert json.loads(run("verify", shards, "--tokenizer", tokenizer_folder, "--json")) == description
    text = run("verify", shards)
    assert "nothing wrong" in text
    assert f"{description['splits']['train']['tokens']:,}" in text
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "海"}\n{"text": "river"}\n{"text": "河"}\n{oh\n')
    text = run("write", bad, "--tokenizer", tokenizer_folder, "--out", tmp_path / "s", "--workers", 1)
    assert "invalid-json" in text


def test_two_workers_write_the_same_bytes(
    shards: Path, inputs: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    run("write", inputs, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 2, *SMALL)
    assert fingerprint_tree(out) == fingerprint_tree(shards)
    with pytest.raises(HainaError, match="shards: already there; remove it or choose another --out"):
        run("write", inputs, "--tokenizer", tokenizer_folder, "--out", out, *SMALL)


@pytest.mark.slow
def test_ray_writes_the_same_bytes(
    shards: Path, inputs: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "shards"
    ray = ["--executor", "ray", "--shared", tmp_path / "shared"]
    run("write", inputs, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 2, *SMALL, *ray)
    assert fingerprint_tree(out) == fingerprint_tree(shards)


def test_unusable_inputs(inputs: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "s", "--workers", 1)
    given = ("--tokenizer", tokenizer_folder, *out)
    (tmp_path / "cut.parquet").write_bytes((inputs / "a.parquet").read_bytes()[:900])
    (tmp_path / "cut.jsonl.gz").write_bytes((inputs / "b.jsonl.gz").read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("cut.parquet", r"cut\.parquet: not readable as Parquet"),
        ("cut.jsonl.gz", r"cut\.jsonl\.gz: near byte 200 of 200: Truncated compressed stream"),
        ("empty", "empty: no documents below it"),
        ("none", "none: no such file or folder"),
    ):
        with pytest.raises(HainaError, match=message):
            run("write", tmp_path / name, *given)
    with pytest.raises(HainaError, match=r"no tokenizer\.json"):
        run("write", inputs, "--tokenizer", tmp_path / "empty", *out)
    with pytest.raises(HainaError, match="validation_fraction"):
        run("write", inputs, *given, "--validation-fraction", "0.9")


def test_a_full_disk_says_so_and_keeps_what_is_done(
    shards: Path, inputs: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = assemble_module._write_tokens, []

    def full(shard: assemble_module.Shard, output: Path) -> None:
        calls.append(shard)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        original(shard, output)

    monkeypatch.setattr(assemble_module, "_write_tokens", full)
    out = tmp_path / "shards"
    arguments = ("write", inputs, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 1, *SMALL)
    with pytest.raises(
        HainaError, match=r"train-00002\.bin: no space left on the disk; free some space and run"
    ):
        run(*arguments)
    assert not out.exists()
    run(*arguments)
    assert fingerprint_tree(out) == fingerprint_tree(shards)
    assert len(calls) == 3 + len(list(out.glob("*.bin"))) - 2


PEAK = """
import resource
try:
    app()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_long_line_without_a_space_keeps_memory_bounded(tokenizer_folder: Path, tmp_path: Path) -> None:
    """A hundred megabytes in one line of text: cut into documents, every byte there."""
    path, out = tmp_path / "long.txt", tmp_path / "s"
    path.write_bytes("海ab".encode() * 20_000_000)
    arguments = ["write", path, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 1]
    program = "from haina.cli.shards import app" + PEAK
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    splits = read_json(out / "shards.json")["splits"]
    assert sum(split["bytes"] for split in splits.values()) == path.stat().st_size
    assert sum(split["documents"] for split in splits.values()) == 6
    assert int(result.stdout.split()[-1]) < 1 << 20  # KiB


COMMAND = "import sys; from haina.cli.shards import app; app()"


def test_interrupted_and_run_again(
    inputs: Path, shards: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL of the whole command, with both workers; the next run ends with the same bytes."""
    out = tmp_path / "shards"
    arguments = ["write", inputs, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 2, *SMALL]
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pieces = tmp_path / "shards.work" / "scratch" / "pieces"
    while process.poll() is None and not list(pieces.glob("*.arrow")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    run(*arguments)
    assert fingerprint_tree(out) == fingerprint_tree(shards)
    assert not (tmp_path / "shards.work").exists()


def test_a_wide_vocabulary_is_written_as_int32(inputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "</s>", *(f"filler {number}" for number in range(69_000)), *alphabet]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    out = tmp_path / "s"
    run("write", inputs / "a.parquet", "--tokenizer", folder, "--out", out, "--workers", 1)
    shards = ShardSet.open(out)
    assert shards.dtype == np.dtype("<i4")
    assert (out / "train-00000.idx").read_bytes()[17] == 4
    assert int(shards[0].max()) > 69_000
    assert TokenizerFile(folder).decode(shards[0].tolist()).startswith("第")
