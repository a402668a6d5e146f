"""The Megatron layout, byte by byte, and what a damaged shard says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.shards import IndexedDataset, write_indexed
from haina.shards.indexed import HEADER, token_dtype

UINT16, INT32 = token_dtype(8192), token_dtype(125_696)


def arrays(sequences: list[list[int]]) -> list[np.ndarray]:
    return [np.array(sequence, np.int64) for sequence in sequences]


def test_layout_is_megatrons(tmp_path: Path) -> None:
    """The bytes written out by hand from the layout's description."""
    write_indexed(tmp_path / "a.b", arrays([[0, 7, 1], [], [0, 65535]]), UINT16)
    assert (tmp_path / "a.b.bin").read_bytes() == struct.pack("<5H", 0, 7, 1, 0, 65535)
    assert (tmp_path / "a.b.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QB", 1, 8)
        + struct.pack("<QQ", 3, 4)
        + struct.pack("<3i", 3, 0, 2)
        + struct.pack("<3q", 0, 6, 6)
        + struct.pack("<4q", 0, 1, 2, 3)
    )


def test_type_follows_the_vocabulary() -> None:
    assert [token_dtype(size).name for size in (512, 65535, 65536, 125_696)] == [
        "uint16",
        "uint16",
        "int32",
        "int32",
    ]


@settings(max_examples=60, deadline=None)
@given(sequences=st.lists(st.lists(st.integers(0, 65535), max_size=40), max_size=12), wide=st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, sequences: list[list[int]], wide: bool) -> None:
    prefix = tmp_path_factory.mktemp("round") / "train"
    write_indexed(prefix, arrays(sequences), INT32 if wide else UINT16)
    dataset = IndexedDataset(prefix)
    assert len(dataset) == len(sequences)
    assert [dataset[index].tolist() for index in range(len(dataset))] == sequences
    assert dataset.sequence_lengths.tolist() == [len(sequence) for sequence in sequences]
    assert dataset.tokens.tolist() == [token for sequence in sequences for token in sequence]
    assert dataset.dtype.name == ("int32" if wide else "uint16")
    assert dataset.document_indices.tolist() == list(range(len(sequences) + 1))
    if sequences:
        assert dataset[-1].tolist() == sequences[-1]
    with pytest.raises(IndexError):
        dataset[len(sequences)]


@pytest.mark.parametrize("token", [65536, -1])
def test_a_token_that_does_not_fit_is_refused(tmp_path: Path, token: int) -> None:
    with pytest.raises(HainaError, match="does not fit uint16"):
        write_indexed(tmp_path / "train", arrays([[1, token]]), UINT16)
    assert not (tmp_path / "train.idx").exists()


def test_reads_the_other_integer_types(tmp_path: Path) -> None:
    """Shards made elsewhere may use int64, with several sequences a document."""
    tokens = np.array([5, 6, 7], "<i8")
    (tmp_path / "x.bin").write_bytes(tokens.tobytes())
    header = HEADER.pack(b"MMIDIDX\x00\x00", 1, 5, 2, 2)
    (tmp_path / "x.idx").write_bytes(header + struct.pack("<2i2q2q", 1, 2, 0, 8, 0, 2))
    dataset = IndexedDataset(tmp_path / "x")
    assert dataset[1].tolist() == [6, 7]
    assert dataset.document_indices.tolist() == [0, 2]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    write_indexed(tmp_path / "train", arrays([[0, 5, 1], [0, 6, 7, 1]]), UINT16)
    return tmp_path / "train"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_truncation_names_file_and_offset(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    prefix = tmp_path_factory.mktemp("cut") / "train"
    write_indexed(prefix, arrays([[0, 5, 1], [0, 6, 7, 1]]), UINT16)
    path = prefix.with_name(data.draw(st.sampled_from(["train.bin", "train.idx"])))
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:kept])
    with pytest.raises(HainaError, match=rf"{path.name}: at byte \d+: "):
        IndexedDataset(prefix)


def flipped(path: Path, offset: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(data)] = data
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"X", "at byte 0: not an indexed dataset"),
        (9, struct.pack("<Q", 2), "at byte 9: version 2"),
        (17, b"\x63", "at byte 17: token type 99"),
        (18, struct.pack("<Q", 3), "its header promises"),
        (34, struct.pack("<i", 2), r"at byte 50: sequence 1 begins at 6, the lengths before it say 4"),
        (38, struct.pack("<i", -4), "at byte 38: a negative sequence length"),
        (50, struct.pack("<q", 8), "at byte 50: sequence 1 begins at 8"),
        (58, struct.pack("<q", 1), "at byte 58: the document borders"),
    ],
)
def test_index_that_disagrees(prefix: Path, offset: int, data: bytes, message: str) -> None:
    flipped(prefix.with_name("train.idx"), offset, data)
    with pytest.raises(HainaError, match=message):
        IndexedDataset(prefix)


def test_bin_that_is_too_long_or_missing(prefix: Path) -> None:
    path = prefix.with_name("train.bin")
    path.write_bytes(path.read_bytes() + b"\x00\x00")
    with pytest.raises(HainaError, match=r"train\.bin: at byte 14: 16 bytes, train\.idx promises 14"):
        IndexedDataset(prefix)
    path.unlink()
    with pytest.raises(HainaError, match=r"train\.bin: no such file"):
        IndexedDataset(prefix)
    with pytest.raises(HainaError, match=r"other\.idx: no such file"):
        IndexedDataset(prefix.with_name("other"))
