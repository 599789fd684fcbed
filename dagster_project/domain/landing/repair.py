"""Makes a damaged CSV file readable, so that one bad line costs one line.

A stray quote swallows every line up to the next quote, or silently drops all that follow; mixed line ends, blank lines
and Windows characters in a till file stop a strict reader or shift its line numbers. This module writes a plain UTF-8
copy in which each physical line that cannot be part of a record is replaced by a mark, and everything else stands as it
was. It is only used for files that the fast reader has complained about. Lines without a quote are copied in blocks;
only those with one are looked at singly.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dagster_project.domain.landing.content import LONGEST_LINE_BYTES, Ending, unpacked

# A field of its own has to be longer than what Python takes for reasonable.
csv.field_size_limit(LONGEST_LINE_BYTES)
# A quoted value that runs over more lines than this is taken for a stray quote.
LONGEST_RECORD_LINES = 100
# Of a line that is too long, so much goes into the copy: enough for the reader to refuse it for that.
_KEPT_OF_LONG_LINE = LONGEST_LINE_BYTES + (1 << 20)


@dataclass
class Repair:
    """What was found on the way: each line that was replaced, in order, as text and error.

    ``record_count`` counts the records written, the header and the marks among them; ``last_piece`` is what stood
    between the last line end and the end of an archive that was cut off.
    """

    record_count: int = 0
    broken_lines: list[tuple[str, str]] = field(default_factory=list)
    last_piece: bytes = b""


def _as_utf8(text: bytes) -> bytes:
    # Windows tills write cp1252, which is latin-1 but for 27 characters (€, œ, ’); the five bytes that it leaves open
    # are read as latin-1.
    try:
        return text.decode("cp1252").encode()
    except UnicodeDecodeError:
        return "".join(_WINDOWS.get(letter, letter) for letter in text.decode("latin-1")).encode()


_WINDOWS = {bytes([code]).decode("latin-1"): bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_WINDOWS = {letter: meant for letter, meant in _WINDOWS.items() if meant}


def _blocks(chunks: Iterator[bytes], repair: Repair, ending: Ending, is_latin: bool) -> Iterator[bytes]:
    """The text as blocks of whole lines, each line ended by a line feed; the piece before a cut goes to the repair."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        if rest.endswith(b"\r"):
            continue
        rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = rest.rfind(b"\n") + 1
        if end:
            yield _as_utf8(rest[:end]) if is_latin else rest[:end]
            rest = rest[end:]
        elif len(rest) > _KEPT_OF_LONG_LINE:
            rest = rest[:_KEPT_OF_LONG_LINE]
    rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\x1a")
    if ending.is_cut_off:
        repair.last_piece = _as_utf8(rest) if is_latin else rest
    elif rest:
        rest = rest if rest.endswith(b"\n") else rest + b"\n"
        yield _as_utf8(rest) if is_latin else rest


def _width_of_record(lines: list[bytes], delimiter: str) -> int | None:
    """How many values the lines hold if they are one well-quoted record, else None."""
    text = b"\n".join(lines).decode("utf-8", "replace")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return len(rows[0]) if len(rows) == 1 else None


class _Copy:
    """The copy while it is written: what has been kept, and the lines since one that left a quote open.

    ``mark`` stands for a broken line. It has another number of fields than the file, so that the reader refuses it.
    """

    def __init__(self, out: BinaryIO, repair: Repair, delimiter: str, column_count: int, mark: str) -> None:
        self._out, self._repair = out, repair
        self._delimiter, self._column_count = delimiter, column_count
        self._mark = (mark + delimiter + mark if column_count == 1 else mark).encode()
        self.waiting: list[bytes] = []

    def keep_lines(self, block: bytes) -> None:
        """Lines without any quote: each is a record, but for the blank ones."""
        if b"\n\n" in block or block.startswith(b"\n"):
            block = re.sub(rb"\n+", b"\n", block).removeprefix(b"\n")
        self._repair.record_count += block.count(b"\n")
        self._out.write(block)

    def _keep_record(self, lines: list[bytes]) -> None:
        self._repair.record_count += 1
        self._out.write(b"\n".join(lines) + b"\n")

    def give_up(self, line: bytes, error: str = "UNQUOTED VALUE") -> None:
        self._repair.broken_lines.append((line.decode("utf-8", "replace"), error))
        self._keep_record([self._mark])

    def look_at(self, line: bytes) -> None:
        """A line with a quote or a NUL byte, or one after a line that left a quote open."""
        todo = deque([line])
        while todo:
            line = todo.popleft()
            if b"\0" in line:
                if self.waiting:
                    todo.appendleft(line)
                    todo.extendleft(reversed(self._give_up_first()))
                else:
                    self.give_up(line, "NUL BYTE")
                continue
            opens = line.count(b'"') % 2 == 1
            if not self.waiting:
                if opens:
                    self.waiting = [line]
                elif b'"' in line and _width_of_record([line], self._delimiter) is None:
                    self.give_up(line)
                elif line:
                    self._keep_record([line])
                continue
            self.waiting.append(line)
            if opens and self._is_one_record(self.waiting):
                self._keep_record(self.waiting)
                self.waiting = []
            elif opens or len(self.waiting) > LONGEST_RECORD_LINES:
                todo.extendleft(reversed(self._give_up_first()))

    def _is_one_record(self, lines: list[bytes]) -> bool:
        """Whether the lines are one row with line ends in a quoted value, and not several rows between stray quotes:
        then a line between the first and the last, or each of them, would hold as many separators as a row has.
        """
        if _width_of_record(lines, self._delimiter) != self._column_count:
            return False
        are_rows = [line.count(self._delimiter.encode()) >= self._column_count - 1 for line in lines]
        return self._column_count < 3 or not (any(are_rows[1:-1]) or all(are_rows))

    def _give_up_first(self) -> list[bytes]:
        first, *others = self.waiting
        self.waiting = []
        self.give_up(first)
        return others

    def finish(self) -> None:
        """Whatever still waits for its closing quote at the end will never see it."""
        while self.waiting:
            for line in self._give_up_first():
                self.look_at(line)
        if self._repair.last_piece:
            self.give_up(self._repair.last_piece, "CUT OFF")


_REMARKABLE = re.compile(rb'["\0]')


def write_readable_copy(
    path: Path, target: Path, *, delimiter: str, is_latin: bool, column_count: int, most_bytes: int, mark: str
) -> Repair:
    """Write a UTF-8 copy of the CSV (or gzipped CSV) at ``path`` to ``target``, its broken lines replaced by ``mark``,
    which must not be part of the file.

    The first line is the header and is kept. Blank lines between records go. Memory is bounded by the longest record
    that DuckDB takes; time grows with the bytes. Raises Unreadable as ``unpacked`` does.
    """
    repair, ending = Repair(), Ending()
    with target.open("wb") as out:
        copy = _Copy(out, repair, delimiter, column_count, mark)
        for block in _blocks(unpacked(path, ending, most_bytes), repair, ending, is_latin):
            position = 0
            while position < len(block):
                if copy.waiting:
                    end = block.index(b"\n", position)
                    copy.look_at(block[position:end])
                else:
                    found = _REMARKABLE.search(block, position)
                    if found is None:
                        copy.keep_lines(block[position:])
                        break
                    start = block.rfind(b"\n", position, found.start()) + 1 or position
                    copy.keep_lines(block[position:start])
                    end = block.index(b"\n", found.start())
                    copy.look_at(block[start:end])
                position = end + 1
        copy.finish()
    return repair
