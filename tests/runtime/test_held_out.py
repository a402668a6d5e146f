"""The held-out split: by cluster, nested, and never without anything to measure on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haina.runtime.held_out import held_out_clusters, split_position

clusters = st.text("甲乙丙丁abcdef0123456789", min_size=1, max_size=6)
documents = st.lists(st.tuples(clusters, st.sampled_from(["zh-Hans", "zh-Hant", "en"])), max_size=40)


@given(documents=documents, fraction=st.floats(0, 0.5))
def test_order_does_not_matter_and_larger_fractions_hold_out_more(
    documents: list[tuple[str, str]], fraction: float
) -> None:
    held = held_out_clusters(documents, fraction)
    assert held_out_clusters(documents[::-1], fraction) == held
    assert held <= held_out_clusters(documents, 0.9)
    assert {name for name, _ in documents if split_position(name) < fraction} <= held


@given(documents=documents)
def test_each_language_with_two_clusters_has_one_held_out(documents: list[tuple[str, str]]) -> None:
    held = held_out_clusters(documents, 0.0)
    for langs in (("zh-Hans", "zh-Hant"), ("en",)):
        names = {name for name, lang in documents if lang in langs}
        if len(names) >= 2:
            assert names & held
    assert len(held) <= 2


def test_share_of_clusters() -> None:
    held = held_out_clusters([(f"簇-{number}", "zh-Hans") for number in range(20_000)], 0.05)
    assert 900 < len(held) < 1100
