"""WARC, ARC and WET files, record by record, with nothing lost between records.

Comes in: an open file. Goes out: pages (responses, resources and conversions that hold HTML or text), quarantined
records with their byte range, ignored ones. How damage is met:

1. A record counts as whole only if its length is borne out: the blank lines or the next record follow, or its digest
   or its HTTP length fits. Nothing is skipped on the word of a length alone.
2. Otherwise its bytes, up to the next place that looks like the start of a record, are quarantined - also when
   that place lies inside what the length claimed - and reading goes on there.
3. A digest that is there is checked where the container has no checksum of its own (plain files, zstd, and gzip members
   that hold several records).
4. In compressed files each member is judged by its checksum before its last record is given out.

The framing is ours: FastWARC 2.0 gives a record with lower-case header names as an empty one of unknown type, and
skips over damage without a word.
Formats: WARC 1.1 (ISO 28500:2017) and the drafts back to 0.17; ARC 1.0 and 2.0 (Internet Archive, 1996).
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal, Protocol

from haina.corpus.accounts import Account
from haina.corpus.digests import matches
from haina.corpus.http_message import fields_of, read_response, split_head
from haina.corpus.members import Gap, Packed, find_codec
from haina.corpus.records import Ignored, Page, Quarantined, Record, Span, looks_like_html
from haina.corpus.tape import Tape

MAX_HEADER_BYTES = 64 << 10
_TEXT_TYPES = ("text/plain", "text/markdown")
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_NO_PAGE = ("request", "warcinfo", "metadata", "revisit", "continuation")

_WARC_LINE = re.compile(rb"WARC/\d{1,2}\.\d{1,3}[ \t]*\r?\n", re.IGNORECASE)
# What a search takes for the start of a record: the version line and the name of a first field.
_WARC_START = re.compile(rb"WARC/[01]\.\d{1,3}\r?\n[A-Za-z][A-Za-z0-9-]{0,60}[ \t]*:", re.IGNORECASE)
_HEADER_END = re.compile(rb"\n[ \t]*\r?\n")
_ARC_START = re.compile(
    rb"(?:https?|ftps?|dns|whois|filedesc|gopher|nntp|news|mailto|file|urn|rtsp|mms|data|metadata):\S",
    re.IGNORECASE,
)
# A field line: a token as its name, no control characters (RFC 9110, 5.1 and 5.5); a folded line starts with a blank.
_FIELD = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:[^\x00-\x08\x0a-\x1f\x7f]*|[ \t][^\x00-\x08\x0a-\x1f\x7f]*"
)
_FIELD_TAIL = 12
# How far before the place where decoding breaks down the damage may lie: a block of DEFLATE, or of zstd.
_DOUBTFUL_BYTES = 256 << 10


@dataclass(frozen=True)
class Head:
    """The header of a record: where its block begins, how long it says it is, and what it says of it.

    A header with a line that is no field `is_suspect`: only a digest can still vouch for its record.
    """

    block: int
    length: int
    kind: str = ""
    url: str = ""
    media_type: str = ""
    block_digest: str = ""
    payload_digest: str = ""
    is_suspect: bool = False


@dataclass(frozen=True)
class Fault:
    """Why a header is none."""

    reason: str
    evidence: str
    url: str = ""


class Framing(Protocol):
    """How an archive format marks its records."""

    def head(self, tape: Tape, start: int) -> Head | Fault:
        """The header at `start`."""

    def is_ended(self, tape: Tape, end: int) -> bool:
        """Whether what stands at `end` follows a block and nothing else."""

    def find(self, tape: Tape, start: int, stop: int | None = None) -> int | None:
        """The next place from `start` on that looks like the start of a record."""


class WarcFraming:
    """A version line, named fields, a blank line, the block, two blank lines."""

    def head(self, tape: Tape, start: int) -> Head | Fault:
        data = tape.at(start, 4096)
        if not _WARC_LINE.match(data):
            return Fault("not-a-record", "no WARC record begins here")
        end = _HEADER_END.search(data)
        if end is None and len(data) == 4096:
            data = tape.at(start, MAX_HEADER_BYTES)
            end = _HEADER_END.search(data)
        if end is None:
            return Fault("truncated-record", "its header does not end")
        fields = fields_of(data[: end.start()])
        url = fields.get("warc-target-uri", "").strip().removeprefix("<").removesuffix(">")
        length = fields.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            return Fault("malformed-record", f"Content-Length {length or 'missing':.40}", url)
        whole = "warc-truncated" not in fields
        lines = data[: end.start() + 1].replace(b"\r\n", b"\n").split(b"\n")[1:-1]
        return Head(
            start + end.end(),
            int(length),
            fields.get("warc-type", "").lower(),
            url,
            fields.get("content-type", "").lower(),
            fields.get("warc-block-digest", ""),
            fields.get("warc-payload-digest", "") if whole else "",
            not all(_FIELD.fullmatch(line) for line in lines),
        )

    def is_ended(self, tape: Tape, end: int) -> bool:
        tail = tape.at(end, _FIELD_TAIL)
        if not tail.strip(b"\r\n"):
            return True
        # Some writers leave the blank lines out; one flipped byte among them proves nothing against the block.
        bare = tail.lstrip(b"\r\n")
        return (
            sum(left == right for left, right in zip(tail, b"\r\n\r\n", strict=False)) >= 3
            or (bare[:5].upper() == b"WARC/" and len(tail) - len(bare) <= 4)
            or tail[4:9] == b"WARC/"
        )

    def find(self, tape: Tape, start: int, stop: int | None = None) -> int | None:
        return tape.find(_WARC_START, start, stop)


class ArcFraming:
    """A line of address, IP, date, type and length; the block; a line feed."""

    def head(self, tape: Tape, start: int) -> Head | Fault:
        line = tape.at(start, 8192).split(b"\n", 1)
        parsed = _arc_line(line[0]) if len(line) == 2 else None
        if parsed is None:
            return Fault("not-a-record", "no ARC record begins here")
        url, media_type, length = parsed
        kind = "warcinfo" if url.startswith("filedesc:") else "response"
        return Head(start + len(line[0]) + 1, length, kind, url, media_type)

    def is_ended(self, tape: Tape, end: int) -> bool:
        tail = tape.at(end, 8192)
        bare = tail.lstrip(b"\r\n")
        return not bare or tail[:1] in (b"\n", b"\r") or _arc_line(bare.split(b"\n", 1)[0]) is not None

    def find(self, tape: Tape, start: int, stop: int | None = None) -> int | None:
        while (start_of_url := tape.find(_ARC_START, start, stop)) is not None:
            line = tape.at(start_of_url, 8192).split(b"\n", 1)
            if len(line) == 2 and _arc_line(line[0]) is not None:
                return start_of_url
            # Addresses further on in the same line belong to it.
            start = start_of_url + len(line[0])
        return None


def _arc_line(line: bytes) -> tuple[str, str, int] | None:
    """(address, media type, length) of an ARC header line; an address may hold spaces."""
    parts = line.rstrip(b"\r").split(b" ")
    for index in range(2, len(parts) - 2):
        date, length = parts[index], parts[-1]
        if (
            len(date) == 14
            and date.isdigit()
            and length.isdigit()
            and len(length) < 19
            and _ARC_START.match(line)
        ):
            url = b" ".join(parts[: index - 1]).decode("utf-8", "replace")
            return url, parts[index + 1].decode("latin-1").lower(), int(length)
    return None


def begins_archive(data: bytes) -> bool:
    """Whether a stream starts with a WARC or an ARC record."""
    return bool(_WARC_LINE.match(data)) or _arc_line(data[:4096].split(b"\n", 1)[0]) is not None


def _media_type(head: Head) -> str:
    return head.media_type.partition(";")[0].strip()


def _page(position: str, span: Span, head: Head, body: bytes, limit: int) -> Record:  # noqa: PLR0911 - one a kind
    """The page in one record's block, or why there is none."""
    url = head.url
    if head.kind in _NO_PAGE:
        return Ignored(head.kind, span)
    if head.kind not in ("response", "resource", "conversion"):
        return Quarantined(
            position, "unknown-record-type", f"{span}: {head.kind or 'no WARC-Type'}", url, span
        )
    if not body:
        return Quarantined(position, "empty", "no payload", url, span)
    media_type, charset = _media_type(head), None
    if media_type == "application/http" or (head.kind == "response" and body.startswith(b"HTTP/")):
        message = read_response(body, limit)
        media_type, charset, body = message.media_type, message.charset, message.payload
        if message.status is not None and not 200 <= message.status < 300:
            return Quarantined(position, "http-status", str(message.status), url, span)
    elif "charset=" in head.media_type:
        charset = head.media_type.partition("charset=")[2].partition(";")[0].strip("\"' ")
    if head.kind == "response" and url.startswith(("dns:", "whois:")):
        return Ignored(media_type or "dns", span)
    is_html = media_type in _HTML_TYPES or (not media_type and looks_like_html(body))
    if not is_html and media_type not in _TEXT_TYPES:
        return Ignored(media_type or "unknown media type", span)
    if len(body) > limit:
        return Quarantined(position, "too-large", f"{span}: more than {limit} bytes when decoded", url, span)
    if not body.strip():
        return Quarantined(position, "empty", "no payload", url, span)
    return Page(position, body, is_html, url, charset, span=span)


def _digest_fits(head: Head, body: bytes) -> bool | None:
    """Whether a record's digests fit its block; None when it has none that can be checked."""
    if head.block_digest and (fits := matches(head.block_digest, body)) is not None:
        return fits
    if not head.payload_digest or head.kind == "revisit":
        return None
    if not (head.media_type.startswith("application/http") or body.startswith(b"HTTP/")):
        return matches(head.payload_digest, body)
    fits = matches(head.payload_digest, split_head(body)[1])
    if fits is False:
        # Some crawlers take the digest after the transfer and content codings.
        return matches(head.payload_digest, read_response(body, len(body) * 8 + 4096).payload)
    return fits


def _http_length_fits(head: Head, body: bytes) -> bool:
    """Whether an HTTP message says that it is exactly as long as its record."""
    if not body.startswith(b"HTTP/"):
        return False
    http_head, payload = split_head(body)
    fields = fields_of(http_head)
    return "transfer-encoding" not in fields and fields.get("content-length") == str(len(payload))


@dataclass(frozen=True)
class Found:
    """A record with its range on the tape.

    Attributes:
        record: what it is.
        start, end: half-open range, the blank lines after it included.
        is_lost: whether the range was quarantined because of damage or size.
        fits: checks its digests, when asked: True, False, or None without any.
    """

    record: Record
    start: int
    end: int
    is_lost: bool = False
    fits: Callable[[], bool | None] = field(default=lambda: None)


class Parser:
    """Records of a tape.

    Args:
        tape: the bytes.
        place: position of a record from its offset on the tape.
        limit: bytes a block may have.
        check: whether every digest is checked; otherwise it is left to `Found.fits`.
        prefer_arc: the format when the beginning is too damaged to tell.
        inside: file offset of the member that the tape unpacks, None for the file itself.
        extend: asked when the tape ends within a record; draws on from the next member and says whether it could.
    """

    def __init__(
        self,
        tape: Tape,
        place: Callable[[int], str],
        limit: int,
        *,
        check: bool,
        prefer_arc: bool = False,
        inside: int | None = None,
        extend: Callable[[], bool] = lambda: False,
    ) -> None:
        self.tape = tape
        self.place = place
        self.limit = limit
        self.check = check
        self.inside = inside
        self.extend = extend
        first = tape.at(0, 8192)
        self.framing: Framing = WarcFraming()
        if not _WARC_LINE.match(first):
            arc = ArcFraming()
            # A damaged beginning: the format is that of whichever start comes first.
            arc_start = arc.find(Tape(io.BytesIO(first)), 0)
            warc_start = _WARC_START.search(first)
            if isinstance(arc.head(tape, 0), Head) or (
                warc_start is None and (prefer_arc or arc_start is not None)
            ):
                self.framing = arc
        # Verifying a digest where nothing else bears out a length reads the block; a hostile file must not make that
        # quadratic.
        self._proof_bytes = 64 << 20

    def records(self) -> Iterator[Found]:
        """Every record and every lost range, in order, without a gap but for blank lines."""
        start = 0
        while True:
            self.tape.forget(start)
            blank = self.tape.at(start, 4096)
            if not blank:
                return
            bare = len(blank) - len(blank.lstrip(b"\r\n"))
            if bare:
                start += bare
                continue
            head = self.framing.head(self.tape, start)
            if isinstance(head, Fault):
                if head.reason == "truncated-record" and self._may_go_on(start, MAX_HEADER_BYTES):
                    continue
                found = self._lost(start, start + 1, head.reason, head.evidence, head.url)
            else:
                judged = self._record(start, head)
                if judged is None:
                    continue
                found = judged
            start = found.end
            yield found

    def _may_go_on(self, start: int, count: int) -> bool:
        """Whether the tape was cut short of `start + count` and could be drawn on."""
        return len(self.tape.at(start, count)) < count and self.extend()

    def _record(self, start: int, head: Head) -> Found | None:  # noqa: PLR0911 - one return a verdict
        """The record of a header, or its loss; None when the tape has been extended and it has to be read again."""
        end = head.block + head.length
        if head.length > self.limit:
            return self._oversized(start, head)
        body = self.tape.at(head.block, head.length) if not self.tape.seekable else None
        if body is not None:
            complete = len(body) == head.length
        else:
            complete = not head.length or len(self.tape.at(end - 1, 1)) == 1
        if not complete:
            if self.extend():
                return None
            return self._lost(
                start, start + 1, "truncated-record", f"its block of {head.length} bytes is cut", head.url
            )
        ended = self.framing.is_ended(self.tape, end)
        if not ended and not self._is_proven(head):
            return self._lost(
                start,
                start + 1,
                "malformed-record",
                f"block is not the {head.length} bytes it promises",
                head.url,
            )
        if body is None:
            body = self.tape.at(head.block, head.length)
        holds_start = b"WARC/" in body and _WARC_START.search(body) is not None
        fits = _digest_fits(head, body) if self.check or head.is_suspect or holds_start else None
        if head.is_suspect and not fits:
            return self._lost(start, start + 1, "malformed-record", "its header is damaged", head.url)
        if fits is False and (self.check or holds_start):
            return self._lost(start, head.block, "digest-mismatch", "its digest does not fit", head.url, end)
        if holds_start and fits is None and not self._begins_record(end):
            # An archive within an archive, or a length that has swallowed records: only the next one can tell.
            evidence = "holds the start of another record, and none follows"
            return self._lost(start, start + 1, "malformed-record", evidence, head.url)
        tail = self.tape.at(end, 4)
        after = end + len(tail) - len(tail.lstrip(b"\r\n"))
        if ended and tail != b"\r\n\r\n" and self.tape.at(end + 4, 5).upper() == b"WARC/":
            after = end + 4
        span = Span(start, after, self.inside)
        record = _page(self.place(start), span, head, body, self.limit)
        return Found(record, start, after, fits=lambda: _digest_fits(head, body))

    def _begins_record(self, end: int) -> bool:
        """Whether the next record, or nothing, follows the blank lines at `end`."""
        following = self.tape.at(end, 4 + MAX_HEADER_BYTES // 64).lstrip(b"\r\n")
        return not following or _WARC_LINE.match(following) is not None

    def _is_proven(self, head: Head) -> bool:
        """Whether a digest or an HTTP length bears out a block that is followed by garbage."""
        self._proof_bytes -= head.length
        if self._proof_bytes < 0:
            return False
        body = self.tape.at(head.block, head.length)
        if (fits := _digest_fits(head, body)) is not None:
            return fits
        # Both lengths agree also where something was cut out of the block and the next record moved in.
        return _http_length_fits(head, body) and _WARC_START.search(body) is None

    def _oversized(self, start: int, head: Head) -> Found:
        """A record above the limit: passed over without being held."""
        end = head.block + head.length
        evidence = f"block of {head.length} bytes is above the limit of {self.limit}"
        if self.tape.seekable:
            if len(self.tape.at(end - 1, 1)) == 1 and self.framing.is_ended(self.tape, end):
                return self._lost(start, start, "too-large", evidence, head.url, end, sound=True)
            return self._lost(
                start, start + 1, "malformed-record", f"{evidence}, and does not end there", head.url
            )
        # What is drawn is gone: a record that starts on the way is taken for the next one.
        following = self.framing.find(self.tape, start + 1, end)
        if following is not None:
            return self._quarantine(start, following, "malformed-record", evidence, head.url)
        reached = self.tape.skip_to(end)
        while reached < end and self.extend():
            reached = self.tape.skip_to(end)
        reason = "too-large" if reached == end else "truncated-record"
        return self._quarantine(start, reached, reason, evidence, head.url)

    def _lost(
        self,
        start: int,
        search: int,
        reason: str,
        evidence: str,
        url: str,
        stop: int | None = None,
        *,
        sound: bool = False,
    ) -> Found:
        """Quarantine from `start` to the next record start at or after `search`; to `stop` if none comes before."""
        following = None if sound else self.framing.find(self.tape, search, stop)
        if following is None:
            following = self.tape.skip_to(stop if stop is not None else 1 << 62)
        return self._quarantine(start, following, reason, evidence, url)

    def _quarantine(self, start: int, end: int, reason: str, evidence: str, url: str) -> Found:
        span = Span(start, end, self.inside)
        record = Quarantined(self.place(start), reason, f"{span}: {evidence}", url, span)
        return Found(record, start, end, is_lost=True)


def _plain_records(
    file: BinaryIO, size: int, limit: int, account: Account, prefer_arc: bool
) -> Iterator[Record]:
    for found in Parser(Tape(file), str, limit, check=True, prefer_arc=prefer_arc).records():
        account.take(found.start)
        account.settle(found.end, found.record)
        yield found.record
    account.take(size)


def _packed_records(
    file: BinaryIO, size: int, codec: Literal["gzip", "zstd"], limit: int, account: Account
) -> Iterator[Record]:
    """Records of a file of members; a member may hold one record, many, or a piece of one."""
    packed = Packed(file, size, codec, begins_archive, 2 * limit + (1 << 20))
    account.take(packed.first)
    offset = packed.first
    while offset < size:
        if not packed.is_member(offset):
            following = packed.find(offset)
            yield _gap(Gap(offset, following), size, account)
            offset = following
            continue
        unit = Unit(packed, offset, limit, account, check=codec == "zstd")
        yield from unit.records()
        offset = unit.following


def _gap(gap: Gap, size: int, account: Account) -> Quarantined:
    account.lose(gap.end, "not-a-member")
    span = Span(gap.start, gap.end)
    return Quarantined(
        str(gap.start), "not-a-member", f"{span} of {size} are no member of the archive", "", span
    )


class Unit:
    """One member, or several that share a record because the stream was cut into members elsewhere.

    Attributes:
        following: where reading goes on, once the records are drawn.
    """

    def __init__(self, packed: Packed, offset: int, limit: int, account: Account, *, check: bool) -> None:
        self.packed = packed
        self.offset = offset
        self.limit = limit
        self.account = account
        self.check = check
        self.member = packed.member_at(offset)
        self.following = offset

    def _extend(self) -> bool:
        self.member.drain()
        following = self.member.end
        if self.member.error or following >= self.packed.size or not self.packed.is_member(following):
            return False
        first = self.packed.first_bytes(following)
        if not first or begins_archive(first):
            return False
        self.account.take(following)
        self.member = self.packed.member_at(following)
        return True

    def _place(self, inner: int) -> str:
        return f"{self.offset}+{inner}" if inner else str(self.offset)

    def records(self) -> Iterator[Record]:
        """Records of the member; the last of them, and as many before it as one record may have bytes, wait until its
        checksum is known.
        """
        parser = Parser(
            Tape(draw=lambda: self.member.read_chunk()),  # noqa: PLW0108 - the member changes
            self._place,
            self.limit,
            check=self.check,
            inside=self.offset,
            extend=self._extend,
        )
        waiting: deque[Found] = deque()
        held_bytes = 0
        several = False
        for found in parser.records():
            several = several or bool(waiting)
            waiting.append(found)
            held_bytes += found.end - found.start
            while held_bytes > self.limit and len(waiting) > 1:
                held_bytes -= waiting[0].end - waiting[0].start
                yield self._released(waiting.popleft())
        self.member.drain()
        self.following = self.packed.after(self.member)
        if not self.member.error:
            if several:
                for found in waiting:
                    self.account.settle_inside(found.record)
                    yield found.record
            elif waiting:
                # The only record of its member has the member's bytes for its own.
                record = _moved(waiting[0].record, Span(self.offset, self.following))
                self.account.settle(self.following, record)
                yield record
            self.account.take(self.following)
            return
        held = waiting.pop() if waiting else None
        last = held.record if held is not None else None
        is_garbage = isinstance(last, Quarantined) and last.reason != "truncated-record"
        is_cut_only = not is_garbage and not any(found.is_lost for found in waiting)
        broke_off_at = max((found.end for found in waiting), default=0) if held is None else held.end
        for found in waiting:
            if found.is_lost or self._is_believable(found, broke_off_at, is_cut_only):
                yield self._released(found)
        start = self.account.cursor
        name = f"{start}-{self.following}" if several else str(start)
        if held is not None and several and held.fits():
            # The checksum of the stream fails, and still this record is what its writer took a digest of.
            yield held.record
            held, name = None, f"{start}-{self.following}"
        self.account.lose(self.following, self.member.error)
        span = Span(start, self.following)
        url = held.record.url if held is not None and isinstance(held.record, (Page, Quarantined)) else ""
        name = self._place(held.start) if held is not None else name
        evidence = f"{span} of {self.packed.size}: member at byte {start}"
        yield Quarantined(name, self.member.error, evidence, url, span)

    def _is_believable(self, found: Found, broke_off_at: int, is_cut_only: bool) -> bool:
        """Whether a record of a member that went wrong later is given out: its digest decides.

        Without one, all that a member holds is sound that is truncated and otherwise in order; of a corrupt one,
        what lies well before the place where decoding broke down - unless only the checksum at the end failed,
        which says nothing of where.
        """
        fits = found.fits()
        if fits is not None:
            return fits
        if is_cut_only and self.member.error.startswith("truncated"):
            return True
        return self.member.broke_off and broke_off_at - found.end > _DOUBTFUL_BYTES

    def _released(self, found: Found) -> Record:
        """A record given out without a checksum that vouches for it: its digest has to, if it has one."""
        record = found.record
        if not found.is_lost and found.fits() is False:
            span = Span(found.start, found.end, self.offset)
            url = record.url if isinstance(record, (Page, Quarantined)) else ""
            place = self._place(found.start)
            record = Quarantined(place, "digest-mismatch", f"{span}: its digest does not fit", url, span)
        self.account.settle_inside(record)
        return record


def _moved(record: Record, span: Span) -> Record:
    """A record with another range, also where its evidence names it."""
    if isinstance(record, Quarantined):
        return replace(record, span=span, evidence=record.evidence.replace(str(record.span), str(span), 1))
    return replace(record, span=span)


def read_archive(
    file: BinaryIO, size: int, limit: int, account: Account | None = None, *, name: str = ""
) -> Iterator[Record]:
    """Records of one WARC, ARC or WET file, compressed with gzip or zstd by member or as a whole, or not at all.

    Args:
        file: open for reading, able to seek.
        size: its bytes.
        limit: bytes a record may have, raw and decoded; larger ones are quarantined without being held.
        account: where each byte is accounted for.
        name: of the file; tells format and compression when its beginning is too damaged to.
    """
    account = Account(size) if account is None else account
    file.seek(0)
    prefer_arc = ".arc" in name.lower()
    codec = find_codec(file, size, name, begins_archive)
    file.seek(0)
    if codec:
        yield from _packed_records(file, size, codec, limit, account)
    else:
        yield from _plain_records(file, size, limit, account, prefer_arc)
