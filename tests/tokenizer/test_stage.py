"""The stage: four files, the documents it learns from, and what others make of its output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from haina.runtime.documents import document_parts, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer import compression, stage
from haina.tokenizer.config import TokenizerConfig
from haina.tokenizer.measure import is_fragment, piece_bytes, readable


def test_files_and_summary(folder: Path, tokenizer: TokenizerFile) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["chat_template.jinja", "summary.json", "tokenizer.json", "tokenizer_config.json"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["vocab_size"] == 600
    assert summary["fingerprint"] == tokenizer.fingerprint
    for lang in ("zh-Hans", "zh-Hant", "en"):
        assert summary["trained_on"][lang]["documents"] > 20
        rates = summary["compression"][lang]
        assert rates["held_out"] is True
        assert rates["bytes_per_token"] == pytest.approx(rates["bytes"] / rates["tokens"], abs=1e-3)
        assert rates["tokens_per_character"] == pytest.approx(rates["tokens"] / rates["characters"], abs=1e-3)
        assert 0 <= summary["byte_tokens_share"][lang] < 1
    assert any("图书馆" in piece for piece in summary["longest_pieces"]["zh"])
    assert all(piece.isascii() and len(piece) >= 6 for piece in summary["longest_pieces"]["en"])
    assert {example["lang"] for example in summary["examples"]} == {"zh-Hans", "zh-Hant", "en"}
    for example in summary["examples"]:
        whole = [piece for piece in example["pieces"] if not piece.startswith("<")]
        assert all(piece in example["text"] for piece in whole)


def test_held_out_documents_are_not_learnt_from(folder: Path, corpus: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    parts = document_parts(corpus)
    plan = stage.make_plan(parts, TokenizerConfig(vocab_size=600))
    rows = [row for batch in read_batches(parts, ["lang", "cluster_id"]) for row in batch.to_pylist()]
    held = [row for row in rows if row["cluster_id"] in plan.held_out]
    assert held
    learnt = sum(counts["documents"] for counts in summary["trained_on"].values())
    assert learnt == len(rows) - len(held)


def test_again_is_byte_identical(folder: Path, corpus: Path, tmp_path: Path) -> None:
    context = StageContext(tmp_path / "again", {"corpus": corpus}, workers=2)
    result = stage.run(TokenizerConfig(vocab_size=600), context)
    assert fingerprint_tree(context.out("tokenizer")) == fingerprint_tree(folder)
    assert (result.records_in, result.records_out, result.records_dropped) == (90, 90, 0)


def test_sample_is_capped_and_the_smaller_language_is_levelled(
    make_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 90, 2, ("zh-Hans", "zh-Hans", "en"))
    parts = document_parts(corpus)
    whole = stage.make_plan(parts, TokenizerConfig(max_repeats=4))
    assert whole.repeats["zh"] == 1
    assert whole.repeats["en"] in (2, 3)
    assert stage.make_plan(parts, TokenizerConfig(max_repeats=1)).repeats == {"zh": 1, "en": 1}
    capped = stage.make_plan(parts, TokenizerConfig(sample_bytes=3000))
    assert capped.documents == 90
    sizes = {"zh-Hans": 0, "en": 0}
    for lang, text in stage._learnt_from(parts, capped):
        sizes[lang] += len(text.encode())
    assert 2000 < sizes["zh-Hans"] <= 3000
    assert 2000 < sizes["en"] <= 3000


def test_one_language_alone_works(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    for lang in ("zh-Hant", "en"):
        corpus = make_corpus(tmp_path / lang, 150, 1, (lang,))
        context = StageContext(tmp_path / f"work-{lang}", {"corpus": corpus})
        stage.run(TokenizerConfig(vocab_size=512, min_frequency=1), context)
        assert TokenizerFile(context.out("tokenizer")).vocab_size == 512


def test_empty_and_missing_corpora(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    empty = make_corpus(tmp_path / "empty", 3, 1)
    import pyarrow.parquet as pq

    part = empty / "documents" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 0), part)
    with pytest.raises(HainaError, match="no documents"):
        stage.run(TokenizerConfig(), StageContext(tmp_path / "a", {"corpus": empty}))
    (tmp_path / "none" / "documents").mkdir(parents=True)
    with pytest.raises(HainaError, match=r"no part-\*\.parquet"):
        stage.run(TokenizerConfig(), StageContext(tmp_path / "b", {"corpus": tmp_path / "none"}))
    part.write_bytes(b"PAR1 cut")
    with pytest.raises(HainaError, match=r"part-00000\.parquet: not a readable Parquet file"):
        stage.run(TokenizerConfig(), StageContext(tmp_path / "c", {"corpus": empty}))


def test_transformers_opens_the_folder_with_the_same_ids(folder: Path, tokenizer: TokenizerFile) -> None:
    transformers = pytest.importorskip("transformers")
    other = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "海纳百川，有容乃大。 1234\n\n",
        "don't open  the <s> document</s>",
        "繁體中文<|im_start|>user",
        "",
        "\x00 é",
    ]
    for text in texts:
        assert other(text)["input_ids"] == tokenizer.encode(text, add_special_tokens=True)
        assert other(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
        assert other.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text
    assert (other.bos_token_id, other.eos_token_id, other.pad_token_id, len(other)) == (0, 1, 2, 600)
    messages = [{"role": "user", "content": "从前有一座山，"}, {"role": "assistant", "content": "Once"}]
    assert other.apply_chat_template(messages, tokenize=False) == "<s>从前有一座山，\nOnce"


def test_compression_counts_bytes_and_characters(tokenizer: TokenizerFile) -> None:
    rates = compression(tokenizer, ["龘", "ab"])  # a character that the vocabulary has no piece for
    assert (rates["bytes"], rates["characters"]) == (5, 3)
    assert rates["tokens"] == len(tokenizer.encode("龘")) + len(tokenizer.encode("ab"))
    assert rates["byte_tokens_share"] > 0.4
    assert compression(tokenizer, [])["bytes_per_token"] == 0


def test_pieces_in_words(tokenizer: TokenizerFile) -> None:
    ids = tokenizer.encode("图书馆 the 龘")
    pieces = [tokenizer.backend.id_to_token(token_id) for token_id in ids]
    assert b"".join(map(piece_bytes, pieces)).decode() == "图书馆 the 龘"
    assert sorted(piece_bytes(p) for p in tokenizer.backend.get_vocab() if len(p) == 1) == [
        bytes([n]) for n in range(256)
    ]
    assert readable("Ġthe") == " the"
    assert readable("ä") == "<E4>"
    assert is_fragment("ä")
    assert not is_fragment("Ġthe")
