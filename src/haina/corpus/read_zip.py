"""Zip files of pages: HTML, text, JSON lines, Parquet and archives, member by member.

Comes in: an open file. Goes out: the records of each member that is of a known format, at positions that begin with
its name. A member that is encrypted, damaged, a bomb or of a compression that cannot be read is quarantined with its
bytes; the rest go on. Members are streamed; those that need to be read back and forth (archives, Parquet) go to a
temporary file first, in memory up to 8 MiB. Nothing is ever unpacked to a path that a member names.
Format: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from haina.corpus.accounts import Account
from haina.corpus.members import BOMB_RATIO
from haina.corpus.records import Ignored, Page, Quarantined, Record, Span

_CHUNK = 1 << 20
_IN_MEMORY = 8 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)

ReadMember = Callable[[BinaryIO, str, int, Account], Iterator[Record]]


class _BombError(ValueError):
    """A member unpacks to more than any page does."""


def member_name(info: zipfile.ZipInfo) -> str:
    """A member's name. Without the UTF-8 flag it is in the code page of whoever packed it: zipfile reads it as cp437,
    while Chinese Windows writes GBK and many tools write UTF-8 without saying so.
    """
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename


def read_zip(
    file: BinaryIO,
    size: int,
    limit: int,
    account: Account,
    format_of: Callable[[str], str | None],
    read_member: ReadMember,
) -> Iterator[Record]:
    """Records of all members of a zip file.

    Args:
        file: open for reading, able to seek.
        size: its bytes.
        limit: bytes a record may have.
        account: where each byte is accounted for.
        format_of: the format of a name, None for one that is no page.
        read_member: reads an unpacked member: (file, format, size, account of its unpacked bytes) -> records.
    """
    try:
        archive = zipfile.ZipFile(file)
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except _DAMAGE as error:
        account.lose(size, "corrupt-zip")
        span = Span(0, size)
        yield Quarantined("file", "corrupt-zip", f"{span}: {error}", "", span)
        return
    seen: dict[str, int] = {}
    for number, info in enumerate(infos):
        if info.filename.endswith("/"):
            continue
        following = infos[number + 1].header_offset if number + 1 < len(infos) else archive.start_dir
        # A damaged index may point anywhere.
        start = max(account.cursor, min(size, info.header_offset))
        end = max(start, min(size, following, info.header_offset + info.compress_size + _header_bytes(info)))
        name = member_name(info)
        kind = format_of(name)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}#{seen[name]}"
        account.take(start)
        span = Span(start, end)
        if kind is None or kind == "zip":
            record: Record = Ignored(f"zip member .{name.rpartition('.')[2][:20]}", span)
            account.settle(end, record)
            yield record
            continue
        yield from _member(archive, info, name, kind, span, limit, account, read_member)
    account.take(size)
    if not infos:
        yield Quarantined("file", "empty", "no member in the zip file", "", Span(0, size))


def _header_bytes(info: zipfile.ZipInfo) -> int:
    """About the bytes of a local header: the extra field may differ there, and the next member bounds it anyway."""
    return 30 + len(info.filename.encode("utf-8", "surrogateescape")) + len(info.extra) + 16


def _member(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    name: str,
    kind: str,
    span: Span,
    limit: int,
    account: Account,
    read_member: ReadMember,
) -> Iterator[Record]:
    reason, evidence = "", ""
    if info.flag_bits & 1:
        reason, evidence = "encrypted", "the member is encrypted"
    elif kind in ("html", "text") and info.file_size > limit:
        reason = "too-large"
        evidence = f"member of {info.file_size} bytes is above the limit of {limit}"
    if not reason:
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as unpacked:
                _unpack(archive, info, cast(BinaryIO, unpacked), 2 * limit + _CHUNK)
                inner = Account(unpacked.tell())
                unpacked.seek(0)
                for record in read_member(cast(BinaryIO, unpacked), kind, inner.bytes_total, inner):
                    yield _placed(record, name, span)
                account.take(span.end)
                account.lost += [
                    replace(lost, inside=span.start) for lost in inner.lost if lost.inside is None
                ]
                return
        except _BombError as error:
            reason, evidence = "zip-bomb", str(error)
        except _DAMAGE as error:
            reason, evidence = "corrupt-zip", " ".join(str(error).split())[:200] or type(error).__name__
    account.lose(span.end, reason)
    yield Quarantined(name, reason, f"{span}: {evidence}", "", span)


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: BinaryIO, bomb_bytes: int) -> None:
    """Unpack a member, its checksum verified, before any of it is read."""
    written = 0
    with archive.open(info) as source:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > bomb_bytes and written > BOMB_RATIO * max(1, info.compress_size):
                raise _BombError(f"{info.compress_size} bytes unpack to more than {written}")
            target.write(chunk)


def _placed(record: Record, name: str, span: Span) -> Record:
    """A member's record as one of the zip file's."""
    inner = record.span
    moved = span if inner is None or inner.inside is not None else Span(inner.start, inner.end, span.start)
    if isinstance(record, Ignored):
        return replace(record, span=moved)
    position = name if record.position == "0" and isinstance(record, Page) else f"{name}!{record.position}"
    return replace(record, position=position, span=moved)
