"""Stop strings against a search in the whole text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haina.inference.stopping import StopMatcher

TEXT = st.text(alphabet="ab百川", max_size=30)


@given(st.lists(TEXT, max_size=12), st.lists(TEXT.filter(bool), max_size=3))
def test_shows_exactly_what_stands_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = ""
    arrived = ""
    for piece in pieces:
        arrived += piece
        shown += matcher.push(piece)
        if matcher.stopped:
            break
        # Held back: never more than a stop string less one character.
        assert len(arrived) - len(shown) < max((len(stop) for stop in stops), default=1)
    else:
        shown += matcher.flush()
    places = [arrived.find(stop) for stop in stops if stop in arrived]
    assert matcher.stopped == bool(places)
    assert shown == (arrived[: min(places)] if places else arrived)


def test_holds_back_only_what_may_become_a_stop() -> None:
    matcher = StopMatcher(["海川", "。\n\n"])
    assert [matcher.push(piece) for piece in ("百", "川海", "洋。", "好\n", "海川x")] == [
        "百",
        "川",
        "海洋",
        "。好\n",
        "",
    ]
    assert matcher.stopped
