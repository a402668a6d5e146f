"""Where every byte of a source went.

Comes in: a reader's word on each stretch of its file, in order. Goes out: bytes in = bytes read + bytes lost, with
every lost range named. A reader that passes over bytes without a word leaves `balanced` false, which tests check
for every format, sound and damaged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from haina.corpus.records import Ignored, Page, Quarantined, Record

# Records of these reasons were read whole; what they say is not wanted. All others name bytes that gave nothing.
_READ_WHOLE = frozenset({"http-status", "missing-text", "empty"})


@dataclass(frozen=True)
class Lost:
    """A range of bytes that gave no record.

    Attributes:
        start, end: half-open; bytes of the file, or unpacked bytes of the part that `inside` names.
        reason: the reason of the quarantined record that stands for it.
        inside: file offset of the compressed member that holds the range; None for bytes of the file itself. Such a
            range is part of a member that was read, so it does not count in `bytes_lost`.
    """

    start: int
    end: int
    reason: str
    inside: int | None = None


@dataclass
class Account:
    """What a reader did with one source.

    Attributes:
        bytes_total: size of the source, as stored.
        bytes_read: bytes that were read soundly, line ends and indexes of containers included.
        bytes_lost: bytes of damaged, truncated, oversized or encrypted parts: the sum of `lost` outside members.
        lost: each lost range, in order.
        pages, quarantined, ignored: records that came out.
    """

    bytes_total: int = 0
    bytes_read: int = 0
    bytes_lost: int = 0
    lost: list[Lost] = field(default_factory=list)
    pages: int = 0
    quarantined: int = 0
    ignored: int = 0

    @property
    def cursor(self) -> int:
        """Offset of the first byte that nothing was said about."""
        return self.bytes_read + self.bytes_lost

    @property
    def balanced(self) -> bool:
        """Whether something was said about every byte."""
        return self.cursor == self.bytes_total

    def take(self, end: int) -> None:
        """Everything from the cursor to `end` was read."""
        self.bytes_read += max(0, end - self.cursor)

    def lose(self, end: int, reason: str) -> None:
        """Everything from the cursor to `end` gave nothing."""
        start = self.cursor
        if end > start:
            self.bytes_lost += end - start
            self.lost.append(Lost(start, end, reason))

    def settle(self, end: int, record: Record) -> None:
        """Everything from the cursor to `end` became `record`."""
        if isinstance(record, Quarantined) and record.reason not in _READ_WHOLE:
            self.lose(end, record.reason)
        else:
            self.take(end)

    def settle_inside(self, record: Record) -> None:
        """Note a record's range within a member; the member's own bytes are settled by its reader."""
        span = record.span
        if isinstance(record, Quarantined) and record.reason not in _READ_WHOLE and span is not None:
            self.lost.append(Lost(span.start, span.end, record.reason, span.inside))

    def count(self, record: Record) -> None:
        """One more record of its kind."""
        if isinstance(record, Page):
            self.pages += 1
        elif isinstance(record, Ignored):
            self.ignored += 1
        else:
            self.quarantined += 1
