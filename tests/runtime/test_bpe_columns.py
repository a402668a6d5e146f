"""Texts in bulk: Arrow columns, batches, threads, long lines, and `TokenizerFile` over the fast encoder."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from haina.runtime.bpe.encoder import FastEncoder
from haina.runtime.bpe.rules import PATTERN
from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import StreamDecoder, TokenizerFile

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
CHINESE = [
    "海纳百川，有容乃大。",
    "第12条 本法自公布之日起施行。",
    "電腦與網路的發展，但是還有一些問題。",
    "大大大大大哈哈哈哈",
]
ENGLISH = [
    "The sea takes in a hundred rivers, and the sea is wide.",
    "In 1999 the rivers of the land ran dry.\n\n",
]
ODD = ["", "\x00", "\r\n\r\n", "²①Ⅷ 😀🏽 e\u0301", "<s>海</s><|im_end|>", "aaaaaaaaaaaaaaaa", " \t ", "12３٤"]
TEXTS = [*CHINESE, *ENGLISH, *ODD]
SPECIAL = ["<s>", "</s>", "<pad>"]


def train(
    folder: Path, texts: Sequence[str] = (*CHINESE, *ENGLISH), size: int = 800, *, use_regex: bool = False
) -> TokenizerFile:
    """Pieces of `texts`; some hold several words."""
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=alphabet,
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return TokenizerFile(folder)


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    return train(tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    return train(tmp_path_factory.mktemp("slow"), use_regex=True)


@pytest.fixture
def encoder(fast: TokenizerFile) -> FastEncoder:
    assert fast.fast is not None
    return fast.fast


def ids_of_tokenizers(tokenizer: TokenizerFile, texts: list[str]) -> list[list[int]]:
    return [tokenizer.backend.encode(text, add_special_tokens=False).ids for text in texts]


def lists(ids: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
    return [ids[start:end].tolist() for start, end in pairwise(offsets)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_columns_get_the_ids_of_tokenizers(
    fast: TokenizerFile, slow: TokenizerFile, kind: pa.DataType
) -> None:
    column = pa.array(["cut off", *TEXTS, "cut off"], kind)[1:-1]
    for tokenizer in (fast, slow):
        expected = ids_of_tokenizers(tokenizer, TEXTS)
        assert lists(*tokenizer.encode_column(column)) == expected
        assert lists(*tokenizer.encode_batch_arrays(TEXTS)) == expected
    for empty in (column[:0], pa.array([], kind)):
        assert lists(*fast.encode_column(empty)) == []
    assert lists(*fast.encode_column(pa.array(["", ""], kind))) == [[], []]


def test_only_the_form_that_is_exact_is_fast(fast: TokenizerFile, slow: TokenizerFile) -> None:
    assert fast.fast is not None
    assert slow.fast is None


def test_groups_of_documents_are_encoded_as_one(
    encoder: FastEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = TEXTS * 3
    expected = lists(*encoder.encode_batch(texts))
    monkeypatch.setattr(
        "haina.runtime.bpe.encoder._GROUP_BYTES", 40
    )  # less than some texts, more than others
    assert lists(*encoder.encode_batch(texts)) == expected
    assert lists(*encoder.encode_column(pa.array(texts))) == expected


def test_a_column_may_hold_bytes_that_are_no_utf8(encoder: FastEncoder) -> None:
    values = ["海纳".encode()[:-1], b"\xff\x00the sea", b"\xed\xa0\x80", "百川".encode()]
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    column = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(values)))
    ids, ends = encoder.encode_column(column)
    assert lists(ids, ends) == [encoder.encode(value).tolist() for value in values]
    assert [encoder.decode_bytes(part) for part in lists(ids, ends)] == values


def test_a_null_and_a_column_of_numbers_are_named(fast: TokenizerFile, slow: TokenizerFile) -> None:
    for tokenizer in (fast, slow):
        with pytest.raises(HainaError, match="row 1 of the column"):
            tokenizer.encode_column(pa.array(["a", None]))
        with pytest.raises(HainaError, match="type int64 holds no text"):
            tokenizer.encode_column(pa.array([1]))


def test_a_column_that_is_no_utf8_has_a_clear_error_without_the_fast_encoder(slow: TokenizerFile) -> None:
    column = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
    with pytest.raises(HainaError, match="no UTF-8"):
        slow.encode_column(column)


def test_threads_share_an_encoder(encoder: FastEncoder) -> None:
    batches = [TEXTS[place:] * 200 for place in range(len(TEXTS))]
    expected = [encoder.encode_batch(batch)[0].tolist() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = [ids.tolist() for ids, _ in pool.map(encoder.encode_batch, batches)]
    assert found == expected


def test_lists_are_those_of_tokenizers_whichever_way_they_are_made(
    fast: TokenizerFile, tmp_path: Path
) -> None:
    cold = train(tmp_path)
    expected = ids_of_tokenizers(fast, TEXTS)
    long = "".join(TEXTS) * 2500
    assert cold.encode_batch(TEXTS) == expected
    assert "fast" not in cold.__dict__  # not worth loading yet
    assert cold.encode_batch([long, *TEXTS])[1:] == expected
    assert "fast" in cold.__dict__
    for text, ids in zip(TEXTS, expected, strict=True):
        assert cold.encode(text) == ids
        assert cold.encode(text, add_special_tokens=True) == [0, *ids]
        assert cold.decode(ids) == text
        assert cold.decode_bytes([0, *ids, 1]) == text.encode()
        decoder = StreamDecoder(cold)
        assert "".join([*map(decoder.push, ids), decoder.flush()]) == text
    for call in (cold.encode, lambda text: cold.encode_batch_arrays([text])):
        with pytest.raises(HainaError, match=r"U\+DFFF at character 2"):
            call("海a\udfff")


def test_bytes_of_half_a_character(fast: TokenizerFile, slow: TokenizerFile) -> None:
    for tokenizer in (fast, slow):
        ids = tokenizer.encode("𠀀")
        assert len(ids) == 4
        assert tokenizer.decode_bytes(ids[:3]) == "𠀀".encode()[:3]


@pytest.mark.parametrize("unit", ["a", "大", "the sea is wide ", "\n", "7", "ab大", "\x00"])
def test_a_long_line_is_encoded_in_parts_that_fit_together(encoder: FastEncoder, unit: str) -> None:
    """The ids of a line without a break repeat themselves, whatever its length."""
    text = unit * (2_000_000 // len(unit.encode()))
    ids = encoder.encode(text)
    assert encoder.decode_bytes(ids) == text.encode()
    start = encoder.encode(unit * 100)
    assert (ids[: len(start) - 20] == start[: len(start) - 20]).all()


@pytest.mark.needs_data
def test_real_text_gets_the_ids_of_tokenizers(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    texts: list[str] = []
    for name in ("zh_wikipedia", "zh_laws", "zh_tang_poems", "en_wikipedia"):
        with pq.ParquetFile(DATA / f"{name}.parquet") as file:
            column = next(file.iter_batches(60, columns=["text"])).column("text")
        texts += [text[:6000] for text in column.to_pylist() if text]
    tokenizer = train(tmp_path, texts[::2], 4000)
    assert lists(*tokenizer.encode_column(pa.array(texts))) == ids_of_tokenizers(tokenizer, texts)


@pytest.mark.slow
def test_100_mb_without_a_space_take_linear_time_and_bounded_memory(fast: TokenizerFile) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = "大海与河流" * (100_000_000 // 15)
    seconds = []
    for part in (text[: len(text) // 10], text):
        start = time.process_time()
        ids = fast.encode_batch_arrays([part])[0]
        seconds.append(time.process_time() - start)
    assert seconds[1] < 30 * seconds[0]  # 10 if linear, 100 if quadratic
    assert fast.decode_bytes(ids[:1000]) == text.encode()[: len(fast.decode_bytes(ids[:1000]))]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # kB
