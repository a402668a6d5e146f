"""Ends a stream of text before a stop string, wherever token borders fall.

Pieces of text in, pieces that are safe to show out: what might still turn out to be the beginning of a stop
string is held back until the next piece decides.
"""

from __future__ import annotations

from collections.abc import Sequence


def held_back(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that is a beginning of one of `stops`."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        end = text[-length:]
        if any(stop.startswith(end) for stop in stops):
            return length
    return 0


class StopMatcher:
    """Watches one stream.

    Args:
        stops: strings that end the stream; none of them, and nothing after the first, is ever given out.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.pending = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What `text` makes safe to show. Sets `stopped` when a stop string is complete."""
        self.pending += text
        found = [place for stop in self.stops if (place := self.pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self.pending = self.pending[: min(found)], ""
            return shown
        keep = held_back(self.pending, self.stops)
        shown, self.pending = (
            self.pending[: len(self.pending) - keep],
            self.pending[len(self.pending) - keep :],
        )
        return shown

    def flush(self) -> str:
        """What was held back, when the stream ends without a stop string."""
        shown, self.pending = self.pending, ""
        return shown
