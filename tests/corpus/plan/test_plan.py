"""Plans: amounts, yields, and that cost follows from them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.config import CorpusConfig
from haina.corpus.plan.amounts import parse_amount
from haina.corpus.plan.predict import Plan, predict
from haina.corpus.plan.rates import Rates, made_up_texts, measure_rates, read_rates
from haina.corpus.plan.sources import read_yield, source_names
from haina.runtime.errors import HainaError

RATES = Rates(4e-8, 1e-6, 5e-9, 2e-8, 2e-5, 1e-8, 4e8)


def plan(tokens: float = 1e9, cores: int = 16, disks: float = 1.0, source: str = "commoncrawl") -> Plan:
    return predict(tokens, 4.3, read_yield(source), RATES, cores, disks, CorpusConfig())


@pytest.mark.parametrize(
    ("text", "value"), [("500M", 5e8), ("1.2T", 1.2e12), ("3b", 3e9), ("1_000", 1e3), ("2e9", 2e9)]
)
def test_amounts(text: str, value: float) -> None:
    assert parse_amount(text) == value


@pytest.mark.parametrize("text", ["", "0", "-3M", "1.2X", "T", "1 2", "nan", "1e999"])
def test_what_is_no_amount_is_said(text: str) -> None:
    with pytest.raises(HainaError, match="not an amount"):
        parse_amount(text)


@given(st.floats(1e6, 1e13), st.integers(1, 100_000), st.floats(0.1, 1e4))
def test_cost_is_linear_and_cores_help_what_waits_for_them(tokens: float, cores: int, disks: float) -> None:
    one, ten = plan(tokens, cores, disks), plan(10 * tokens, cores, disks)
    assert ten.core_hours == pytest.approx(10 * one.core_hours)
    assert ten.hours == pytest.approx(10 * one.hours)
    assert ten.peak_bytes == pytest.approx(10 * one.peak_bytes)
    more = plan(tokens, 2 * cores, disks)
    assert more.core_hours == pytest.approx(one.core_hours)
    assert more.hours <= one.hours
    assert one.slowest.hours == max(step.hours for step in one.steps)
    if one.slowest.bound == "processors":
        assert more.hours < one.hours


def test_documents_follow_from_the_yield() -> None:
    for name in source_names():
        found, made = read_yield(name), plan(source=name)
        assert made.documents * found.text_bytes_per_page == pytest.approx(made.tokens * 4.3)
        assert made.pages * found.share_kept == pytest.approx(made.documents)
        assert 0 < found.share_kept < 1
        assert json.loads(json.dumps(made.as_dict()))["bounded_by"]["step"] == made.slowest.name


def test_a_sample_of_ones_own(tmp_path: Path) -> None:
    steps = [("pages", 1000), ("read", 990), ("extract", 980), ("language", 500), ("edit", 490), ("signals", 450),
             ("quality", 400), ("exact_duplicate", 300), ("near_duplicate", 250)]  # fmt: skip
    summary = {
        "funnel": [{"step": step, "remaining": count} for step, count in steps],
        "documents": 250,
        "text_bytes": 500_000,
        "bytes_read": 9_000_000,
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = read_yield(str(tmp_path))
    assert (found.share_in_languages, found.share_after_filters, found.share_after_duplicates) == (
        0.5,
        0.8,
        0.625,
    )
    assert (found.text_bytes_per_page, found.compressed_bytes_per_page) == (2000, 9000)
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "documents": 0}))
    with pytest.raises(HainaError, match="no documents"):
        read_yield(str(tmp_path))
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(HainaError, match="not the summary"):
        read_yield(str(tmp_path))
    with pytest.raises(HainaError, match="no such source"):
        read_yield("nowhere")


def test_rates_of_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"rates": asdict(RATES)}))
    assert read_rates(path) == RATES
    for bad in ({"rates": {}}, {"rates": {**asdict(RATES), "disk_bytes_per_s": 0}}, {"rates": 3}, []):
        path.write_text(json.dumps(bad))
        with pytest.raises(HainaError, match="rates"):
            read_rates(path)


def test_made_up_texts_are_of_the_size_and_in_both_languages() -> None:
    texts = made_up_texts(20, 2000, 5)
    assert texts == made_up_texts(20, 2000, 5)
    assert sum("的" in text for text in texts) == sum("the" in text.lower() for text in texts) == 10
    assert all(1400 < len(text.encode()) < 2600 for text in texts)


@pytest.mark.slow
def test_this_machine_can_be_measured() -> None:
    rates = measure_rates(60_000, 3_000)
    assert all(value > 0 for value in asdict(rates).values())
    # Without markup nothing is spent on it.
    assert replace(rates, html_s_per_byte=0.0).html_s_per_byte == measure_rates(0, 3_000).html_s_per_byte
