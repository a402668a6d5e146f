"""The stage: four files, the documents it learns from, and what others make of its output."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from haina.runtime.documents import document_parts
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.runtime.progress import SilentProgress
from haina.runtime.stage import StageContext
from haina.runtime.tokenizer_file import TokenizerFile
from haina.tokenizer import compression, stage
from haina.tokenizer.choice import choose, read_documents, script_factors, simplified
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
    choice = choose(parts, TokenizerConfig(vocab_size=600))
    rows = list(read_documents(parts))
    held = [row for row in rows if choice.is_held_out(row)]
    assert held
    learnt = sum(
        counts["documents"] for lang, counts in summary["trained_on"].items() if "converted" not in lang
    )
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
    whole = choose(parts, TokenizerConfig(max_repeats=4, chinese_share=0.5))
    assert whole.weights["zh"] == 1
    assert 1.5 < whole.weights["en"] < 3
    flat = choose(parts, TokenizerConfig(max_repeats=1, chinese_share=0.5))
    assert set(flat.weights.values()) == {1.0}
    capped = choose(parts, TokenizerConfig(sample_bytes=3000))
    assert capped.documents == 90
    sizes = {"zh": 0, "en": 0}
    for document in read_documents(parts):
        if capped.is_learnt_from(document):
            sizes[document.group] += len(document.text.encode())
    assert 2000 < sizes["zh"] <= 3000
    assert 2000 < sizes["en"] <= 3000


def test_traditional_text_counts_as_simplified_too(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 90, 2, ("zh-Hans", "zh-Hant", "en"))
    parts = document_parts(corpus)
    assert "zh/simplified" not in choose(parts, TokenizerConfig(traditional_share=1.0)).weights
    assert choose(parts, TokenizerConfig(traditional_share=0.9)).weights["zh/simplified"] == 0
    choice = choose(parts, TokenizerConfig(traditional_share=0.4, chinese_share=0.5))
    plain = {name: weight / choice.weights["zh"] for name, weight in choice.weights.items()}
    # Half of the Chinese is traditional; half of it once more makes that 0.4.
    assert plain["zh/simplified"] == pytest.approx(0.5, abs=0.1)
    assert plain["zh/traditional"] == 1
    learning = stage._Learning(parts, choice)
    texts = {text for group, text in learning if group == "zh/simplified"}
    assert texts
    assert not any("們" in text or "圖" in text for text in texts)
    assert learning.learnt["zh-Hant, converted to simplified"]["documents"] == len(texts)


@pytest.mark.parametrize(("other", "traditional"), [(90, 10), (60, 40), (10, 90), (0, 7), (5, 0)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_factors_of_the_scripts(other: float, traditional: float, share: float) -> None:
    factors = script_factors(other, traditional, share)
    original, converted = factors["traditional"] * traditional, factors["simplified"] * traditional
    assert 0 <= factors["traditional"] <= 1
    assert 0 <= factors["simplified"] <= 1
    assert original <= share * (other + original + converted) + 1e-9
    if traditional <= share * (other + traditional):
        assert (original, converted) == (traditional, 0)
    else:
        assert original == pytest.approx(share * (other + original + converted))


def test_conversion_of_many_texts_is_that_of_each() -> None:
    texts = ["圖書館\x00\x01\x00裡", "", "歷史", "plain", "後\x00來"]
    assert simplified(texts) == ["图书馆\x00\x01\x00里", "", "历史", "plain", "后\x00来"]
    assert simplified([]) == []


def test_weights_by_language_and_source(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    corpus = make_corpus(tmp_path / "corpus", 60, 1, ("zh-Hans", "en"))
    part = document_parts(corpus)[0]
    table = pq.read_table(part)
    sources = pa.array(
        [
            "law" if number % 4 == 0 else f"law{number}/x" if number % 4 == 1 else "wiki"
            for number in range(60)
        ]
    )
    pq.write_table(table.set_column(table.schema.get_field_index("source"), "source", sources), part)
    choice = choose([part], TokenizerConfig(weights={"law": 0.25, "en": 0}))
    assert choice.weights["zh/law"] == 0.25 * choice.weights["zh"]
    groups = {group for group, _ in stage._Learning([part], choice)}
    assert groups == {"zh/law", "zh"}
    with pytest.raises(
        HainaError, match=r"tokenizer\.weights: no document has the language or source 'laws'"
    ):
        choose([part], TokenizerConfig(weights={"laws": 2}))
    with pytest.raises(HainaError, match="have weight 0"):
        choose([part], TokenizerConfig(weights={"zh": 0, "en": 0}))


class Listening(SilentProgress):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def say(self, message: str) -> None:
        self.said.append(message)


def test_documents_of_any_file_and_rows_that_are_none(
    tmp_path: Path, write_line: Callable[[str, random.Random], str]
) -> None:
    rng = random.Random(5)
    lines = [json.dumps({"text": write_line("en", rng)}) for _ in range(90)] + ['{"no": "text"}', "{"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "b.txt").write_text("".join(write_line("zh-Hans", rng) for _ in range(90)), "utf-8")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe broken")
    said: list[str] = []
    context = StageContext(tmp_path / "work", sources=(tmp_path,), reporter=Listening(said))
    result = stage.run(TokenizerConfig(vocab_size=560), context)
    summary = json.loads((context.out("tokenizer") / "summary.json").read_text(encoding="utf-8"))
    assert result.records_in == 91
    assert summary["rejected"] == {"invalid-json": 1, "missing-text": 1, "not-utf8": 1}
    assert any("3 rows are no documents, the first a.jsonl#" in line for line in said)


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
    with pytest.raises(HainaError, match="no documents below it"):
        stage.run(TokenizerConfig(), StageContext(tmp_path / "b", {"corpus": tmp_path / "none"}))
    part.write_bytes(b"PAR1 cut")
    with pytest.raises(HainaError, match=r"part-00000\.parquet: not readable as Parquet"):
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
    assert other.apply_chat_template(messages, tokenize=False) == "从前有一座山，\nOnce"


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
