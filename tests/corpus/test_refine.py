"""What the corpus stage does inside documents: cuts, private data, quality, bilingual pages, and the account of bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from haina.corpus import CorpusConfig, read_documents, run
from haina.corpus.documents import EDITS_SCHEMA
from haina.corpus.edits import Edit, restore
from haina.corpus.look import collect, find_document, meanings
from haina.runtime.stage import StageContext

ZH = (
    "长江发源于青藏高原，流经十一个省区，最后在上海附近注入东海。它的上游落差很大，水流湍急，两岸多是高山峡谷；"
    "到了中游，河道变得宽阔而弯曲，湖泊众多，是重要的粮食产区。\n\n"
    "历史上，人们很早就在江边定居，靠捕鱼和种稻生活。后来商船往来不断，沿岸的城镇慢慢成了贸易中心。"
    "每年夏天雨水集中，下游常有洪水，所以历代都修筑堤坝，也留下了许多治水的记载。\n\n"
    "今天，这条河仍然承担着运输、灌溉和发电的任务。保护水质、恢复湿地，成了沿江各地共同关心的事情。"
)
EN = (
    "The Yangtze rises on the Tibetan plateau and crosses eleven provinces before it reaches the sea near Shanghai. "
    "Its upper course falls steeply through gorges, while the middle course is wide and winding, with many lakes around it.\n\n"
    "People settled on its banks early, living on fish and rice. Later, merchants went up and down the river, and small "
    "towns grew into centres of trade. Heavy rain falls in summer, so every dynasty built dikes and left records of floods.\n\n"
    "Today the river still carries ships, waters fields and drives turbines. Clean water and healthy wetlands have become "
    "a concern that all the regions along it share."
)
AD_ZH, AD_EN = (
    "点击这里关注我们的微信公众号，领取优惠券！",
    "Click here to subscribe to our newsletter and get 20% off!",
)
MAIL_ZH = "水文学家王丽（wang.li@example.com.cn）在论文中第一次算出了这条河每年带走多少泥沙。"
MAIL_EN = "The hydrologist Anna Bell (anna.bell@example.org) first computed how much sand the river carries away each year."
SALAD = "东 的 买 高 。，跑 鱼 了了 电 绿 九 呢 吗 黄 山 木 啊 走 天 币 " * 12


def write(folder: Path, pages: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def curate(work: Path, source: Path, **changes: Any) -> dict[str, list[dict[str, Any]]]:
    context = StageContext(work=work, sources=(source,))
    run(CorpusConfig.model_validate({"partitions": 2, **changes}), context)
    corpus = work / "out" / "corpus"
    return {
        table: [row for batch in read_documents(corpus / table) for row in batch.to_pylist()]
        for table in ("documents", "dropped", "edits")
    }


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    zh = ZH.replace("\n\n", f"\n\n{AD_ZH}\n\n", 1) + MAIL_ZH
    en = EN.replace("\n\n", f"\n\n{AD_EN}\n\n", 1) + " " + MAIL_EN
    return write(tmp_path / "pages", {"zh.txt": zh, "en.txt": en, "both.txt": ZH[:200] + "\n\n" + EN[:560]})


def edits_of(tables: dict[str, list[dict[str, Any]]], identity: str) -> list[Edit]:
    rows = [row for row in tables["edits"] if row["id"] == identity]
    return [Edit(**{name: row[name] for name in EDITS_SCHEMA.names[1:]}) for row in rows]


def test_bad_sentences_and_private_data_go_and_are_recorded(pages: Path, tmp_path: Path) -> None:
    tables = curate(tmp_path / "work", pages)
    assert tables["dropped"] == []
    by_source = {row["source"]: row for row in tables["documents"]}
    for name, clean, ad, mail in (("zh.txt", ZH, AD_ZH, MAIL_ZH), ("en.txt", EN, AD_EN, MAIL_EN)):
        row = by_source[name]
        assert ad not in row["text"]
        assert "example" not in row["text"]
        assert "<EMAIL>" in row["text"]
        assert row["text"].startswith(clean)
        edits = edits_of(tables, row["id"])
        assert [edit.reason for edit in edits][-1] == "email"
        assert edits[-1].removed == ""
        assert any(ad in edit.removed for edit in edits)
        whole = "".join(piece for piece, _ in restore(row["text"], edits))
        address = "wang.li@example.com.cn" if "wang" in mail else "anna.bell@example.org"
        assert whole == (pages / name).read_text(encoding="utf-8").replace(address, "<EMAIL>")
        assert row["signal.characters"] == len(row["text"])


def test_cuts_can_be_switched_off(pages: Path, tmp_path: Path) -> None:
    tables = curate(tmp_path / "work", pages, edit_sentences=False, replace_private=False)
    assert tables["edits"] == []
    assert {row["text"] for row in tables["documents"]} == {path.read_text() for path in pages.iterdir()}


def test_a_bilingual_page_stays_if_both_languages_do(pages: Path, tmp_path: Path) -> None:
    tables = curate(tmp_path / "a", pages)
    assert {row["source"]: row["lang"] for row in tables["documents"]}["both.txt"] == "mixed"
    tables = curate(tmp_path / "b", pages, languages=["zh-Hans", "mixed"])
    assert {row["source"] for row in tables["documents"]} == {"zh.txt"}
    assert {row["reason"] for row in tables["dropped"]} == {"other-language"}


def test_word_salad_goes_with_its_text_and_measures(tmp_path: Path) -> None:
    source = write(tmp_path / "pages", {"good.txt": ZH, "bad.txt": SALAD})
    tables = curate(tmp_path / "work", source, edit_sentences=False)
    assert [row["source"] for row in tables["documents"]] == ["good.txt"]
    (dropped,) = tables["dropped"]
    assert dropped["stage"] in ("signals", "quality")
    assert dropped["text"] == SALAD.strip()
    assert dropped["score.quality"] < 0.5 < tables["documents"][0]["score.quality"]
    assert dropped["signal.link_share"] is None


def test_bounds_and_meanings_reach_whoever_looks(pages: Path, tmp_path: Path) -> None:
    curate(tmp_path / "work", pages, min_quality=0.01)
    corpus = tmp_path / "work" / "out" / "corpus"
    summary = json.loads((corpus / "summary.json").read_text())
    assert summary["bounds"]["zh"]["quality"] == {"min": 0.01, "max": None}
    assert sum(item["count"] for item in summary["edits"]) >= 4
    look = collect(corpus, {})
    measures = {spread.name for spread in look.spreads["zh"]}
    assert measures <= set(meanings())
    assert {"characters", "quality"} <= measures
    assert {reason for reason, _ in look.cuts} >= {"email"}
    sample = find_document(corpus, look.cut_samples[0].id)
    assert any(reason for _, reason in sample.pieces)


def test_lost_bytes_are_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "pages", {"good.txt": ZH})
    whole = gzip.compress(json.dumps({"text": EN}).encode())
    (source / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    curate(tmp_path / "work", source)
    summary = json.loads((tmp_path / "work" / "out" / "corpus" / "summary.json").read_text())
    assert sum(summary["bytes_lost"].values()) == len(whole) // 2
    assert summary["bytes_read"] == len(whole) // 2 + len(ZH.encode())
