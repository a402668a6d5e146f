"""Many files as one sequence of documents, and what is said of a folder that is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.files import read_json, write_json
from haina.shards import ShardSet, verify, write_arrays

TOKENIZER = {"fingerprint": "f", "vocab_size": 300, "bos_id": 0, "eos_id": 1}
UINT16 = np.dtype("<u2")


def write(folder: Path, documents: list[list[int]], a_shard: int = 3, **splits: list[list[int]]) -> Path:
    arrays = {
        name: [np.array(tokens, np.int64) for tokens in rows]
        for name, rows in {"train": documents, **splits}.items()
    }
    write_arrays(folder, arrays, TOKENIZER, UINT16, a_shard)
    return folder


@settings(max_examples=60)
@given(
    documents=st.lists(st.lists(st.integers(0, 299), max_size=6), min_size=1, max_size=12),
    a_shard=st.integers(1, 5),
    window=st.tuples(st.integers(0, 80), st.integers(0, 80)),
)
def test_documents_and_stream(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[list[int]],
    a_shard: int,
    window: tuple[int, int],
) -> None:
    folder = write(tmp_path_factory.mktemp("s") / "s", documents, a_shard)
    shards = ShardSet.open(folder)
    assert len(shards) == len(documents)
    assert [shards[number].tolist() for number in range(len(shards))] == documents
    assert shards[-1].tolist() == documents[-1]
    assert shards.lengths.tolist() == [len(tokens) for tokens in documents]
    assert shards.lengths.dtype == np.int32
    assert shards.first.tolist() == [*range(0, len(documents), a_shard), len(documents)]
    stream = [token for tokens in documents for token in tokens]
    assert shards.total_tokens == len(stream)
    start, stop = window
    assert shards.tokens(start, stop).tolist() == stream[start:stop]
    for number in (len(documents), -len(documents) - 1):
        with pytest.raises(IndexError):
            shards[number]
    verify(folder)


def test_tokens_cannot_be_written_to(tmp_path: Path) -> None:
    shards = ShardSet.open(write(tmp_path / "s", [[0, 5, 1]]))
    with pytest.raises(ValueError, match="read-only"):
        shards[0][0] = 7


def test_files_of_the_first_version_say_what_to_do(tmp_path: Path) -> None:
    write_json(tmp_path / "shards.json", {"version": 1, "splits": {"train": {"documents": 1}}})
    with pytest.raises(
        HainaError, match=r"shards\.json: shards of version 1, this program reads version 2; write the"
    ):
        ShardSet.open(tmp_path)
    (tmp_path / "shards.json").write_text("[]")
    with pytest.raises(HainaError, match="shards of version None"):
        ShardSet.open(tmp_path)
    (tmp_path / "shards.json").write_text("{")
    with pytest.raises(HainaError, match=r"shards\.json: not valid JSON"):
        ShardSet.open(tmp_path)
    with pytest.raises(HainaError, match=r"nowhere: no shards\.json; name a folder that"):
        ShardSet.open(tmp_path / "nowhere")


DOCUMENTS = [[0, 5, 1], [0, 6, 7, 1], [0, 8, 9, 9, 1], [0, 4, 1]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards: 0 of 12 tokens, 24 bytes; 1 of 3 tokens."""
    return write(tmp_path / "s", DOCUMENTS, 3, **{"validation-zh": [[0, 3, 1]]})


def test_unknown_split(folder: Path) -> None:
    with pytest.raises(HainaError, match="no split 'validation-en'"):
        ShardSet.open(folder, "validation-en")


@pytest.mark.parametrize("open_it", [ShardSet.open, verify])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "train-00000.bin",
            lambda data: data[:11],
            r"train-00000\.bin: at byte 11: 11 bytes, .* promises 24",
        ),
        ("train-00000.bin", lambda data: data + b"\0\0", r"train-00000\.bin: at byte 24: 26 bytes"),
        ("train-00001.bin", lambda data: b"", r"train-00001\.bin: at byte 0: 0 bytes, .* promises 6"),
        ("train-00001.idx", lambda data: b"", r"train-00001\.idx: at byte 0: not an indexed dataset"),
        ("train-00000.idx", lambda data: data[:50], r"train-00000\.idx: at byte 50: 50 bytes, its header"),
        (
            "train-00000.idx",
            lambda data: data + b"\0",
            r"train-00000\.idx: at byte \d+: \d+ bytes, its header",
        ),
        (
            "train-00000.idx",
            lambda data: data[:34] + b"\4" + data[35:],
            r"train-00000\.idx: at byte 54: sequence 1 begins at 6, the lengths before it say 8",
        ),
    ],
)
def test_damage_is_found_before_use(
    folder: Path, open_it: Callable[[Path], object], name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(HainaError, match=message):
        open_it(folder)


def test_swapped_shards(folder: Path) -> None:
    for suffix in ("bin", "idx"):
        one, two = (folder / f"train-0000{number}.{suffix}" for number in (0, 1))
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    with pytest.raises(HainaError, match=r"train-00000\.idx: at byte 18: 1 documents, shards\.json says 3"):
        ShardSet.open(folder)


def test_swapped_shards_of_one_size_are_found_by_verify(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", [[0, 5, 1], [0, 6, 1]], 1)
    one, two = folder / "train-00000.bin", folder / "train-00001.bin"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert ShardSet.open(folder)[0].tolist() == [0, 6, 1]
    with pytest.raises(HainaError, match=r"train-00000\.bin: at byte 0: sha256 is"):
        verify(folder)


def test_a_missing_file(folder: Path) -> None:
    (folder / "train-00001.bin").unlink()
    with pytest.raises(HainaError, match=r"train-00001\.bin: no such file"):
        ShardSet.open(folder)


def test_a_changed_bit(folder: Path) -> None:
    path = folder / "validation-zh-00000.bin"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(HainaError, match=r"validation-zh-00000\.bin: at byte 0: sha256 is"):
        verify(folder)


def test_an_id_that_the_tokenizer_does_not_have(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", [[0, 5, 1], [0, 299, 300, 1]])
    with pytest.raises(HainaError, match=r"train-00000\.bin: at byte 10: token 300, the tokenizer has 300"):
        verify(folder)


def test_a_tokenizer_that_changed(folder: Path, tokenizer_folder: Path) -> None:
    with pytest.raises(HainaError, match="encoded with another tokenizer than"):
        verify(folder, tokenizer_folder)


def test_counts_that_do_not_add_up(folder: Path) -> None:
    description = read_json(folder / "shards.json")
    description["splits"]["train"]["documents"] += 1
    write_json(folder / "shards.json", description)
    with pytest.raises(HainaError, match=r"shards\.json: documents of train is 5, its files have 4"):
        verify(folder)


def test_token_types_that_differ(folder: Path) -> None:
    write_arrays(folder / "wide", {"train": [np.array([0, 5, 1])]}, TOKENIZER, np.dtype("<i4"))
    for suffix in ("bin", "idx"):
        (folder / f"train-00001.{suffix}").write_bytes(
            (folder / "wide" / f"train-00000.{suffix}").read_bytes()
        )
    with pytest.raises(HainaError, match=r"train-00001\.idx: at byte 17: tokens of type int32"):
        ShardSet.open(folder)


def test_what_is_written_is_described(folder: Path) -> None:
    described = json.loads((folder / "shards.json").read_text())["splits"]["train"]
    assert [entry["documents"] for entry in described["files"]] == [3, 1]
    assert (described["tokens"], described["dtype"]) == (15, "uint16")
