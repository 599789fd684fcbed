"""Makes a damaged CSV file readable, so that one bad line costs one line.

A stray quote swallows every line up to the next quote; mixed line ends, blank lines and Windows characters in a till
file stop a strict reader or shift its line numbers. This module writes a plain UTF-8 copy in which each physical line
that cannot be part of a record is replaced by a mark, and everything else stands as it was. It is only used for files
that the fast reader has complained about.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

# One field, so that the reader refuses it as a row with too few columns; never part of an export.
BROKEN_LINE_MARK = b"\x1abroken\x1a"
# A quoted value that runs over more lines than this is taken for a stray quote.
LONGEST_RECORD_LINES = 100
_CHUNK_BYTES = 1 << 20


@dataclass
class Repair:
    """What was found on the way: the text of each line that was replaced, in order, and how the file ended."""

    broken_lines: list[str] = field(default_factory=list)
    is_cut_off: bool = False
    last_piece: bytes = b""


def _decompressed(source: BinaryIO, repair: Repair, most_bytes: int) -> Iterator[bytes]:
    reader = gzip.GzipFile(fileobj=source)
    seen = 0
    while True:
        try:
            chunk = reader.read1(_CHUNK_BYTES)
        except (EOFError, OSError, zlib.error):
            repair.is_cut_off = True
            return
        if not chunk:
            return
        seen += len(chunk)
        if seen > most_bytes:
            raise ValueError(f"it unpacks to more than {most_bytes // 2**20} MiB")
        yield chunk


def _chunks(path: Path, repair: Repair, most_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        if path.suffix == ".gz":
            yield from _decompressed(source, repair, most_bytes)
        else:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk


def _lines(chunks: Iterator[bytes], repair: Repair) -> Iterator[bytes]:
    """Physical lines without their line end, whichever of the three it is; the piece before a cut goes to the repair."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        if rest.endswith(b"\r"):
            continue
        *whole, rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        yield from whole
    if repair.is_cut_off:
        repair.last_piece = rest
    else:
        yield from rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")


def _is_one_record(lines: list[bytes], delimiter: str, column_count: int) -> bool:
    text = b"\n".join(lines).decode("utf-8", "replace")
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == column_count


def _as_utf8(line: bytes) -> bytes:
    # Windows tills write cp1252, which is latin-1 but for 27 characters (€, œ, ’); the five bytes that it leaves open
    # are read as latin-1.
    try:
        return line.decode("cp1252").encode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()


def write_readable_copy(
    path: Path, target: Path, *, delimiter: str, is_latin: bool, column_count: int, most_bytes: int
) -> Repair:
    """Write a UTF-8 copy of the CSV (or gzipped CSV) at ``path`` to ``target``, its broken lines replaced by a mark.

    The first line is the header and is kept. Blank lines between records go. Memory is bounded by the longest record;
    time grows with the bytes. Raises ValueError if a gz unpacks to more than ``most_bytes``.
    """
    repair = Repair()
    with target.open("wb") as out:

        def give_up(line: bytes) -> None:
            repair.broken_lines.append(line.decode("utf-8", "replace"))
            out.write(BROKEN_LINE_MARK + b"\n")

        waiting: list[bytes] = []  # the lines since one that opened a quote and did not close it
        todo: list[bytes] = []
        source = _lines(_chunks(path, repair, most_bytes), repair)
        while True:
            if todo:
                line = todo.pop()
            else:
                read = next(source, None)
                if read is None:
                    if not waiting:
                        break
                    give_up(waiting[0])
                    todo.extend(reversed(waiting[1:]))
                    waiting = []
                    continue
                line = _as_utf8(read) if is_latin else read
            has_open_quote = line.count(b'"') % 2 == 1
            if not waiting:
                if has_open_quote:
                    waiting = [line]
                elif line.strip():
                    out.write(line + b"\n")
                continue
            waiting.append(line)
            if has_open_quote and _is_one_record(waiting, delimiter, column_count):
                out.write(b"\n".join(waiting) + b"\n")
                waiting = []
            elif has_open_quote or len(waiting) > LONGEST_RECORD_LINES:
                give_up(waiting[0])
                todo.extend(reversed(waiting[1:]))
                waiting = []
        if repair.last_piece:
            give_up(repair.last_piece)
    return repair
